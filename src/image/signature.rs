//! The signature of a root hash: PKCS#7 envelope, signature partition, check.
//!
//! What is signed are the 64 lower-case hex characters of the root hash. The
//! envelope is what `PKCS7_sign` makes with `DETACHED|NOATTR|BINARY`
//! (systemd `src/repart/repart.c`, `sign_verity_roothash`): DER, SHA-256, the
//! signer's certificate inside. It is put together here rather than by OpenSSL
//! so that the key may be anywhere: a [`Signer`] only returns a raw signature.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private};
use openssl::stack::Stack;
use openssl::x509::X509Name;
use openssl::x509::store::X509StoreBuilder;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, name_text};
use super::{der, hex};

/// Bytes of the signature partition (systemd `src/repart/repart.c`, `VERITY_SIG_SIZE`).
pub const PARTITION_SIZE: u64 = 16 * 1024;
/// Above this systemd refuses a signature partition with `EFBIG` (`src/shared/dissect-image.c`).
pub const MAX_PARTITION_SIZE: u64 = 4 * 1024 * 1024;

/// 1.2.840.113549.1.7.1, pkcs7-data
const OID_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.7.2, pkcs7-signedData
const OID_SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 2.16.840.1.101.3.4.2.1, sha256
const OID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.1.1, rsaEncryption
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256
const OID_ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// Something that holds a key and signs with it.
pub trait Signer {
    /// The certificate of the key, in DER.
    fn certificate_der(&self) -> &[u8];
    /// Signs `data` with SHA-256 and the key: RSA PKCS#1 v1.5, or ECDSA either
    /// as DER or as the two numbers one after the other.
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>>;
}

/// A private key in memory, read from PEM.
pub struct KeyFile {
    key: PKey<Private>,
    certificate: Vec<u8>,
}

impl KeyFile {
    /// Reads an unencrypted PEM key and checks that it belongs to the certificate.
    pub fn from_pem(key: &[u8], certificate: &Certificate) -> Result<KeyFile> {
        KeyFile::read(key, None, certificate)
    }

    /// Reads a key in PEM, DER (PKCS#8, PKCS#1, SEC 1) or PKCS#12 and checks that it belongs to
    /// the certificate.
    pub fn read(
        bytes: &[u8],
        passphrase: Option<&[u8]>,
        certificate: &Certificate,
    ) -> Result<KeyFile> {
        let key = if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            from_pem(bytes, passphrase)?
        } else {
            from_der(bytes, passphrase)?
        };
        check_algorithm(&key)?;
        let public = certificate.x509()?.public_key()?;
        ensure!(
            key.public_eq(&public),
            "the private key does not belong to the certificate {} (fingerprint {}); \
             give the pair that was made together",
            certificate.subject,
            certificate.fingerprint_sha256_hex,
        );
        Ok(KeyFile {
            key,
            certificate: certificate.der.clone(),
        })
    }
}

/// Whether a key can't be read without a passphrase, which may be empty.
pub fn needs_passphrase(bytes: &[u8]) -> bool {
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if holds(b"-----BEGIN ") {
        // PKCS#8 (RFC 7468, 11) and the older form of OpenSSL (RFC 1421, 4.6.1.1).
        return holds(b"-----BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED");
    }
    if PKey::private_key_from_der(bytes).is_ok() {
        return false;
    }
    match Pkcs12::from_der(bytes) {
        Ok(store) => store.parse2("").is_err(),
        Err(_) => true,
    }
}

fn from_pem(bytes: &[u8], passphrase: Option<&[u8]>) -> Result<PKey<Private>> {
    // The callback keeps OpenSSL from asking for a passphrase on the terminal.
    let mut asked = false;
    let parsed = PKey::private_key_from_pem_callback(bytes, |buffer| {
        asked = true;
        let passphrase = passphrase.unwrap_or_default();
        Ok(match buffer.get_mut(..passphrase.len()) {
            Some(place) => {
                place.copy_from_slice(passphrase);
                passphrase.len()
            }
            None => 0,
        })
    });
    // OpenSSL's own text may quote the input, so it is not passed on.
    match (parsed, asked, passphrase) {
        (Ok(key), ..) => Ok(key),
        (Err(_), true, None) => bail!(
            "reading the private key: it is encrypted; give its passphrase with \
             `verityKeyPassphrase: env:NAME` or `file:PATH`"
        ),
        (Err(_), true, Some(_)) => {
            bail!("reading the private key: the passphrase does not open it")
        }
        (Err(_), false, _) => {
            bail!("reading the private key: expected a PEM block such as `PRIVATE KEY`")
        }
    }
}

fn from_der(bytes: &[u8], passphrase: Option<&[u8]>) -> Result<PKey<Private>> {
    if let Ok(key) = PKey::private_key_from_der(bytes) {
        return Ok(key);
    }
    if let Ok(store) = Pkcs12::from_der(bytes) {
        let text = std::str::from_utf8(passphrase.unwrap_or_default());
        let text = text.map_err(|_| anyhow::anyhow!("the passphrase is not UTF-8"))?;
        let Ok(parsed) = store.parse2(text) else {
            bail!(
                "reading the private key: the passphrase does not open the PKCS#12 file; give it \
                 with `verityKeyPassphrase: env:NAME` or `file:PATH`"
            );
        };
        return parsed
            .pkey
            .context("reading the private key: the PKCS#12 file holds none");
    }
    let encrypted = PKey::private_key_from_pkcs8_passphrase(bytes, passphrase.unwrap_or_default());
    encrypted.map_err(|_| {
        anyhow::anyhow!(
            "reading the private key: expected a PEM block such as `PRIVATE KEY`, DER or PKCS#12"
        )
    })
}

/// Says nothing about the key.
impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile")
    }
}

impl Signer for KeyFile {
    fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &self.key)?;
        Ok(signer.sign_oneshot_to_vec(data)?)
    }
}

/// The algorithm identifier of a key, or the reason why it cannot be used.
fn check_algorithm<T: HasPublic>(key: &PKeyRef<T>) -> Result<Vec<u8>> {
    match key.id() {
        Id::RSA => {
            ensure!(
                key.bits() >= 2048,
                "the RSA key has {} bits, expected at least 2048; make a longer one",
                key.bits(),
            );
            Ok(der::encode(
                der::SEQUENCE,
                &[&der::encode(der::OID, &[OID_RSA]), der::NULL],
            ))
        }
        Id::EC => {
            let curve = key.ec_key()?.group().curve_name();
            ensure!(
                matches!(curve, Some(Nid::X9_62_PRIME256V1 | Nid::SECP384R1)),
                "the key uses the curve {}, which the kernel does not verify; \
                 use P-256, P-384 or RSA",
                curve
                    .and_then(|nid| nid.short_name().ok())
                    .unwrap_or("without a name"),
            );
            let oid = der::encode(der::OID, &[OID_ECDSA_SHA256]);
            Ok(der::encode(der::SEQUENCE, &[&oid]))
        }
        Id::ED25519 | Id::ED448 => bail!(
            "Ed25519 and Ed448 keys cannot sign extensions: neither OpenSSL's PKCS#7 nor the \
             kernel's dm-verity check supports them; use RSA or ECDSA (P-256, P-384)"
        ),
        Id::RSA_PSS => bail!(
            "RSA-PSS keys cannot sign extensions: OpenSSL's PKCS#7 does not support them; \
             use a plain RSA key or ECDSA (P-256, P-384)"
        ),
        other => bail!("keys of type {other:?} cannot sign extensions; use RSA or ECDSA"),
    }
}

/// Signs the root hash (lower-case hex) and returns the PKCS#7 envelope in DER.
pub fn sign_root_hash(signer: &dyn Signer, hex_root_hash: &str) -> Result<Vec<u8>> {
    let raw = signer
        .sign(hex_root_hash.as_bytes())
        .context("signing the root hash")?;
    let certificate = Certificate::from_der(signer.certificate_der())?;
    envelope(&certificate, hex_root_hash, &raw)
}

/// Puts a raw signature of the root hash (lower-case hex) into a PKCS#7 envelope in DER.
///
/// The signature is checked against the certificate first, so that a wrong key,
/// a wrong hash or a wrong padding shows here and not at boot.
pub fn envelope(certificate: &Certificate, hex_root_hash: &str, raw: &[u8]) -> Result<Vec<u8>> {
    let public = certificate.x509()?.public_key()?;
    let algorithm = check_algorithm(&public)?;
    let raw = match public.id() {
        Id::EC => ecdsa_der(raw, public.bits())?,
        _ => raw.to_vec(),
    };
    let mut verifier = openssl::sign::Verifier::new(MessageDigest::sha256(), &public)?;
    let good = verifier.verify_oneshot(&raw, hex_root_hash.as_bytes());
    ensure!(
        matches!(good, Ok(true)),
        "the signature does not verify with the certificate {}: expected SHA-256 with {} \
         over the {} characters `{hex_root_hash}` without a newline",
        certificate.subject,
        if public.id() == Id::EC {
            "ECDSA"
        } else {
            "RSA PKCS#1 v1.5"
        },
        hex_root_hash.len(),
    );

    let (issuer, serial) = issuer_and_serial(&certificate.der)
        .context("reading issuer and serial number of the certificate")?;
    let one = der::encode(der::INTEGER, &[&[1]]);
    let sha256 = der::encode(
        der::SEQUENCE,
        &[&der::encode(der::OID, &[OID_SHA256]), der::NULL],
    );
    let content = der::encode(der::SEQUENCE, &[&der::encode(der::OID, &[OID_DATA])]);
    let signer_info = der::encode(
        der::SEQUENCE,
        &[
            &one,
            &der::encode(der::SEQUENCE, &[issuer, serial]),
            &sha256,
            &algorithm,
            &der::encode(der::OCTET_STRING, &[&raw]),
        ],
    );
    let signed_data = der::encode(
        der::SEQUENCE,
        &[
            &one,
            &der::encode(der::SET, &[&sha256]),
            &content,
            &der::encode(der::CONTEXT_0, &[&certificate.der]),
            &der::encode(der::SET, &[&signer_info]),
        ],
    );
    Ok(der::encode(
        der::SEQUENCE,
        &[
            &der::encode(der::OID, &[OID_SIGNED_DATA]),
            &der::encode(der::CONTEXT_0, &[&signed_data]),
        ],
    ))
}

/// Hardware and cloud signers give r and s one after the other; PKCS#7 wants DER.
fn ecdsa_der(raw: &[u8], bits: u32) -> Result<Vec<u8>> {
    if der::only(raw, der::SEQUENCE).is_some() {
        return Ok(raw.to_vec());
    }
    let width = usize::try_from(bits.div_ceil(8))?;
    let numbers = raw
        .split_at_checked(width)
        .filter(|(_, s)| s.len() == width);
    let Some((r, s)) = numbers else {
        bail!(
            "the ECDSA signature has {} bytes, expected DER or {} bytes for a {bits} bit key",
            raw.len(),
            width * 2,
        );
    };
    let pair = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    Ok(pair.to_der()?)
}

/// The encoded issuer and serial number of a certificate (RFC 5280, 4.1).
fn issuer_and_serial(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = der::only(certificate, der::SEQUENCE)?;
    let mut body = der::Reader::new(outer.expect(der::SEQUENCE)?.content);
    body.skip_optional(der::CONTEXT_0);
    let serial = body.expect(der::INTEGER)?.whole;
    body.expect(der::SEQUENCE)?;
    let issuer = body.expect(der::SEQUENCE)?.whole;
    Some((issuer, serial))
}

/// What the signature partition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignaturePartition {
    /// The signed root hash, normally 32 bytes.
    pub root_hash: Vec<u8>,
    /// SHA-256 of the signer's certificate in hex; systemd does not look at it.
    pub certificate_fingerprint: Option<String>,
    /// The PKCS#7 envelope in DER.
    pub signature: Vec<u8>,
}

/// Field names and order of systemd `src/repart/repart.c`, `partition_format_verity_sig`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureJson {
    root_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_fingerprint: Option<String>,
    signature: String,
}

/// Why the content of a signature partition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// systemd refuses it with `EFBIG`.
    #[error("the signature partition has {0} bytes, at most {MAX_PARTITION_SIZE} are read")]
    TooBig(usize),
    /// Other bytes follow the NUL that ends the text.
    #[error("the signature partition has bytes after the NUL that ends its text")]
    AfterNul,
    /// Not the JSON that systemd expects.
    #[error("the signature partition holds no usable JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `rootHash` is not hex, or too short.
    #[error("the `rootHash` of the signature partition is not a hash in hex")]
    RootHash,
    /// `signature` is not base64.
    #[error("the `signature` of the signature partition is not base64")]
    Base64,
    /// The text does not fit into 16 KiB.
    #[error(
        "the signature text has {0} bytes, at most {max} fit into the partition; \
         use a smaller certificate",
        max = PARTITION_SIZE - 1
    )]
    DoesNotFit(usize),
}

impl SignaturePartition {
    /// The whole content of the partition: compact JSON, then NUL up to 16 KiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SignatureError> {
        let json = SignatureJson {
            root_hash: hex::encode(&self.root_hash),
            certificate_fingerprint: self.certificate_fingerprint.clone(),
            signature: openssl::base64::encode_block(&self.signature),
        };
        let mut bytes = serde_json::to_vec(&json)?;
        let size = usize::try_from(PARTITION_SIZE).unwrap_or(usize::MAX);
        if bytes.len() >= size {
            return Err(SignatureError::DoesNotFit(bytes.len()));
        }
        bytes.resize(size, 0);
        Ok(bytes)
    }

    /// Reads the content of the partition; `None` when it is all NUL, that is
    /// kept free for a later signature.
    ///
    /// The rules are those of systemd `src/shared/dissect-image.c`,
    /// `dissected_image_load_verity_sig_partition`: at most 4 MiB, one JSON
    /// object, then only NUL; unknown keys are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Option<SignaturePartition>, SignatureError> {
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_PARTITION_SIZE) {
            return Err(SignatureError::TooBig(bytes.len()));
        }
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        let (text, padding) = bytes.split_at(end);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(SignatureError::AfterNul);
        }
        if text.is_empty() {
            return Ok(None);
        }
        let json: SignatureJson = serde_json::from_slice(text)?;
        let root_hash = hex::decode(&json.root_hash)
            .filter(|hash| hash.len() >= 16)
            .ok_or(SignatureError::RootHash)?;
        let signature =
            openssl::base64::decode_block(&json.signature).map_err(|_| SignatureError::Base64)?;
        Ok(Some(SignaturePartition {
            root_hash,
            certificate_fingerprint: json.certificate_fingerprint,
            signature,
        }))
    }
}

/// Who made a signature, as the signature itself says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignerIdentity {
    /// Issuer of the signer's certificate.
    pub issuer: String,
    /// Serial number of the signer's certificate in lower-case hex.
    pub serial: String,
    /// The certificate if it travels along; never a reason to trust.
    pub certificate: Option<Certificate>,
}

/// What systemd's userspace check makes of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerVerdict {
    /// Good, by this one of the trusted certificates.
    Trusted(Certificate),
    /// The signer is not among the trusted certificates.
    UnknownSigner(Vec<SignerIdentity>),
    /// The signer is known, but this is not a signature of this root hash.
    WrongSignature(Vec<SignerIdentity>),
    /// Not a PKCS#7 signature in DER; the reason in words.
    Malformed(String),
}

/// Checks a PKCS#7 signature of a root hash (lower-case hex) as systemd's
/// userspace does (`src/shared/dissect-image.c`, `validate_signature_userspace`):
/// `PKCS7_verify` with `NOINTERN|NOVERIFY`.
///
/// The signer must be one of `trusted`, found by issuer and serial number. No
/// chain, date or key usage is looked at, and certificates in the envelope do
/// not count. Bytes after the envelope, which OpenSSL would ignore, are refused.
pub fn check(pkcs7_der: &[u8], hex_root_hash: &str, trusted: &[Certificate]) -> SignerVerdict {
    let identities = match signer_identity(pkcs7_der) {
        Ok(identities) => identities,
        Err(error) => return SignerVerdict::Malformed(format!("{error:#}")),
    };
    match verify(pkcs7_der, hex_root_hash, trusted) {
        Ok(Verification::Good(certificate)) => SignerVerdict::Trusted(certificate),
        Ok(Verification::UnknownSigner) => SignerVerdict::UnknownSigner(identities),
        Ok(Verification::Wrong) => SignerVerdict::WrongSignature(identities),
        Err(error) => SignerVerdict::Malformed(format!("{error:#}")),
    }
}

enum Verification {
    Good(Certificate),
    UnknownSigner,
    Wrong,
}

fn verify(pkcs7_der: &[u8], text: &str, trusted: &[Certificate]) -> Result<Verification> {
    let pkcs7 = Pkcs7::from_der(pkcs7_der)?;
    let flags = Pkcs7Flags::NOINTERN | Pkcs7Flags::NOVERIFY;
    let mut certificates = Stack::new()?;
    for certificate in trusted {
        certificates.push(certificate.x509()?)?;
    }
    let Ok(signers) = pkcs7.signers(&certificates, flags) else {
        return Ok(Verification::UnknownSigner);
    };
    let Some(signer) = signers.iter().next() else {
        return Ok(Verification::UnknownSigner);
    };
    let signer = Certificate::from_x509(signer)?;
    let store = X509StoreBuilder::new()?.build();
    match pkcs7.verify(&certificates, &store, Some(text.as_bytes()), None, flags) {
        Ok(()) => Ok(Verification::Good(signer)),
        Err(_) => Ok(Verification::Wrong),
    }
}

/// Names the signers of a PKCS#7 signature, for messages.
pub fn signer_identity(pkcs7_der: &[u8]) -> Result<Vec<SignerIdentity>> {
    let names = signer_names(pkcs7_der).context(
        "the signature is not a PKCS#7 SignedData in DER (definite lengths, nothing after it)",
    )?;
    ensure!(!names.is_empty(), "the PKCS#7 signature names no signer");
    let pkcs7 = Pkcs7::from_der(pkcs7_der).context("parsing the PKCS#7 signature")?;
    let mut identities = Vec::new();
    for (issuer, serial) in names {
        let embedded = pkcs7
            .signed()
            .and_then(|signed| signed.certificates())
            .and_then(|certificates| {
                certificates.iter().find(|certificate| {
                    certificate
                        .to_der()
                        .is_ok_and(|der| issuer_and_serial(&der) == Some((issuer, serial.whole)))
                })
            });
        let name = X509Name::from_der(issuer).context("parsing the issuer of the signer")?;
        let digits = hex::encode(serial.content);
        // As certificates show it: without the zero byte of a positive number.
        let digits = digits
            .strip_prefix("00")
            .filter(|rest| !rest.is_empty())
            .unwrap_or(&digits);
        identities.push(SignerIdentity {
            issuer: name_text(&name),
            serial: digits.to_owned(),
            certificate: embedded.map(Certificate::from_x509).transpose()?,
        });
    }
    Ok(identities)
}

/// Encoded issuer and serial number of every SignerInfo (RFC 2315, 9.1 and 9.2).
fn signer_names(pkcs7_der: &[u8]) -> Option<Vec<(&[u8], der::Element<'_>)>> {
    let mut outer = der::only(pkcs7_der, der::SEQUENCE)?;
    let kind = outer.expect(der::OID)?;
    let content = outer.expect(der::CONTEXT_0)?;
    if kind.content != OID_SIGNED_DATA || !outer.is_empty() {
        return None;
    }
    let mut signed = der::only(content.content, der::SEQUENCE)?;
    signed.expect(der::INTEGER)?;
    signed.expect(der::SET)?;
    signed.expect(der::SEQUENCE)?;
    signed.skip_optional(der::CONTEXT_0);
    signed.skip_optional(der::CONTEXT_1);
    let mut infos = der::Reader::new(signed.expect(der::SET)?.content);
    let mut names = Vec::new();
    while !infos.is_empty() {
        let mut info = der::Reader::new(infos.expect(der::SEQUENCE)?.content);
        info.expect(der::INTEGER)?;
        let mut name = der::Reader::new(info.expect(der::SEQUENCE)?.content);
        names.push((
            name.expect(der::SEQUENCE)?.whole,
            name.expect(der::INTEGER)?,
        ));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::certificate::testing::{certificate, ec_key, rsa_key};
    use proptest::prelude::*;

    const HASH: &str = "452addea32c48fb76d3fdb21c53d6a1d1f5bc7a13fa2d3676e2fe91a8637a71e";

    fn signer(key: &PKey<Private>, name: &str) -> (KeyFile, Certificate) {
        let certificate = Certificate::from_x509(&certificate(key, name, 0x1f0)).unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        (KeyFile::from_pem(&pem, &certificate).unwrap(), certificate)
    }

    fn by_openssl(key: &PKey<Private>, certificate: &Certificate) -> Vec<u8> {
        let flags = Pkcs7Flags::DETACHED | Pkcs7Flags::NOATTR | Pkcs7Flags::BINARY;
        let x509 = certificate.x509().unwrap();
        let none = Stack::new().unwrap();
        Pkcs7::sign(&x509, key, &none, HASH.as_bytes(), flags)
            .unwrap()
            .to_der()
            .unwrap()
    }

    #[test]
    fn rsa_is_byte_for_byte_what_openssl_makes() {
        let key = rsa_key();
        let (signer, certificate) = signer(&key, "rsa");
        let ours = sign_root_hash(&signer, HASH).unwrap();
        assert_eq!(ours, by_openssl(&key, &certificate));
        let verdict = check(&ours, HASH, std::slice::from_ref(&certificate));
        assert_eq!(verdict, SignerVerdict::Trusted(certificate));
    }

    #[test]
    fn ecdsa_differs_from_openssl_only_in_the_random_signature() {
        for curve in [Nid::X9_62_PRIME256V1, Nid::SECP384R1] {
            let key = ec_key(curve);
            let (signer, certificate) = signer(&key, "ec");
            let raw = openssl_raw(&by_openssl(&key, &certificate));
            assert_eq!(
                envelope(&certificate, HASH, &raw).unwrap(),
                by_raw(&key, &certificate, &raw)
            );
            let ours = sign_root_hash(&signer, HASH).unwrap();
            let verdict = check(&ours, HASH, std::slice::from_ref(&certificate));
            assert_eq!(verdict, SignerVerdict::Trusted(certificate.clone()));

            let pair = EcdsaSig::from_der(&raw).unwrap();
            let width = i32::try_from(key.bits().div_ceil(8)).unwrap();
            let flat = [
                pair.r().to_vec_padded(width).unwrap(),
                pair.s().to_vec_padded(width).unwrap(),
            ]
            .concat();
            let from_flat = envelope(&certificate, HASH, &flat).unwrap();
            assert_eq!(from_flat, envelope(&certificate, HASH, &raw).unwrap());
        }
    }

    /// The last element of an envelope without attributes is the signature.
    fn openssl_raw(pkcs7: &[u8]) -> Vec<u8> {
        let at = (0..pkcs7.len())
            .find(|at| {
                pkcs7[*at] == der::OCTET_STRING
                    && der::only(&pkcs7[*at..], der::OCTET_STRING).is_some()
            })
            .unwrap();
        der::Reader::new(&pkcs7[at..])
            .next()
            .unwrap()
            .content
            .to_vec()
    }

    /// OpenSSL's envelope of the same length with `raw` as its signature.
    fn by_raw(key: &PKey<Private>, certificate: &Certificate, raw: &[u8]) -> Vec<u8> {
        loop {
            let mut pkcs7 = by_openssl(key, certificate);
            if openssl_raw(&pkcs7).len() == raw.len() {
                let start = pkcs7.len() - raw.len();
                pkcs7[start..].copy_from_slice(raw);
                return pkcs7;
            }
        }
    }

    #[test]
    fn unusable_keys_are_refused_with_the_reason() {
        let ed = PKey::generate_ed25519().unwrap();
        let ed_certificate = Certificate::from_x509(&certificate(&ed, "ed", 1)).unwrap();
        let pem = ed.private_key_to_pem_pkcs8().unwrap();
        let error = KeyFile::from_pem(&pem, &ed_certificate)
            .unwrap_err()
            .to_string();
        assert!(error.contains("Ed25519"), "{error}");

        let one = ec_key(Nid::X9_62_PRIME256V1);
        let other = ec_key(Nid::X9_62_PRIME256V1);
        let of_other = Certificate::from_x509(&certificate(&other, "other", 1)).unwrap();
        let pem = one.private_key_to_pem_pkcs8().unwrap();
        let error = KeyFile::from_pem(&pem, &of_other).unwrap_err().to_string();
        assert!(error.contains("does not belong"), "{error}");

        let cipher = openssl::symm::Cipher::aes_128_cbc();
        let locked = one
            .private_key_to_pem_pkcs8_passphrase(cipher, b"secret")
            .unwrap();
        let error = KeyFile::from_pem(&locked, &of_other)
            .unwrap_err()
            .to_string();
        assert!(error.contains("encrypted"), "{error}");
        let error = KeyFile::from_pem(b"junk", &of_other)
            .unwrap_err()
            .to_string();
        assert!(error.contains("expected a PEM block"), "{error}");

        let curve = ec_key(Nid::SECP256K1);
        let of_curve = Certificate::from_x509(&certificate(&curve, "k1", 1)).unwrap();
        let pem = curve.private_key_to_pem_pkcs8().unwrap();
        let error = KeyFile::from_pem(&pem, &of_curve).unwrap_err().to_string();
        assert!(error.contains("secp256k1"), "{error}");
    }

    #[test]
    fn a_signature_of_something_else_is_not_wrapped() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let (signer, certificate) = signer(&key, "ec");
        let raw = signer.sign(format!("{HASH}\n").as_bytes()).unwrap();
        let error = envelope(&certificate, HASH, &raw).unwrap_err().to_string();
        assert!(error.contains("does not verify"), "{error}");
        assert!(envelope(&certificate, HASH, &[1; 63]).is_err());
    }

    #[test]
    fn verdicts_tell_stranger_from_forger() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let (signing, mine) = signer(&key, "mine");
        let (_, other) = signer(&ec_key(Nid::X9_62_PRIME256V1), "other");
        let signature = sign_root_hash(&signing, HASH).unwrap();

        let SignerVerdict::UnknownSigner(who) =
            check(&signature, HASH, std::slice::from_ref(&other))
        else {
            panic!("the embedded certificate must not count");
        };
        assert_eq!(who[0].issuer, "O=Test, CN=mine");
        assert_eq!(who[0].serial, "01f0");
        assert_eq!(who[0].certificate.as_ref(), Some(&mine));
        assert!(matches!(
            check(&signature, HASH, &[]),
            SignerVerdict::UnknownSigner(_)
        ));

        let both = [other, mine.clone()];
        let changed = HASH.replace('4', "5");
        assert!(matches!(
            check(&signature, &changed, &both),
            SignerVerdict::WrongSignature(_)
        ));
        assert_eq!(
            check(&signature, HASH, &both),
            SignerVerdict::Trusted(mine.clone())
        );

        // Same issuer and serial number, another key: found, but the signature is wrong.
        let (_, double) = signer(&ec_key(Nid::X9_62_PRIME256V1), "mine");
        assert!(matches!(
            check(&signature, HASH, &[double]),
            SignerVerdict::WrongSignature(_)
        ));

        let mut longer = signature.clone();
        longer.push(0);
        assert!(matches!(
            check(&longer, HASH, &[mine]),
            SignerVerdict::Malformed(_)
        ));
    }

    #[test]
    fn the_partition_goes_there_and_back() {
        let partition = SignaturePartition {
            root_hash: hex::decode(HASH).unwrap(),
            certificate_fingerprint: Some("ab".repeat(32)),
            signature: vec![1, 2, 3, 4],
        };
        let bytes = partition.to_bytes().unwrap();
        assert_eq!(bytes.len(), 16384);
        let text = format!(
            r#"{{"rootHash":"{HASH}","certificateFingerprint":"{}","signature":"AQIDBA=="}}"#,
            "ab".repeat(32)
        );
        assert!(bytes.starts_with(text.as_bytes()));
        assert_eq!(
            SignaturePartition::parse(&bytes).unwrap(),
            Some(partition.clone())
        );
        assert_eq!(
            SignaturePartition::parse(text.as_bytes()).unwrap(),
            Some(partition)
        );
    }

    #[test]
    fn the_partition_is_read_as_systemd_reads_it() {
        assert_eq!(SignaturePartition::parse(&[]).unwrap(), None);
        assert_eq!(SignaturePartition::parse(&[0; 16384]).unwrap(), None);
        let loose = br#" { "signature" : "AQ==", "rootHash" : "00112233445566778899AABBCCDDEEFF", "x": [1] } "#;
        let partition = SignaturePartition::parse(loose).unwrap().unwrap();
        assert_eq!(partition.root_hash[10], 0xaa);
        assert_eq!(partition.certificate_fingerprint, None);

        let parse = |bytes: &[u8]| SignaturePartition::parse(bytes).unwrap_err();
        let short = br#"{"signature":"AQ==","rootHash":"00"}"#;
        assert!(matches!(parse(short), SignatureError::RootHash));
        let text = br#"{"signature":"A","rootHash":"00112233445566778899AABBCCDDEEFF"}"#;
        assert!(matches!(parse(text), SignatureError::Base64));
        assert!(matches!(parse(b"{}\0\0x"), SignatureError::AfterNul));
        assert!(matches!(parse(b"{}"), SignatureError::Json(_)));
        let big = vec![b' '; 4 * 1024 * 1024 + 1];
        assert!(matches!(parse(&big), SignatureError::TooBig(_)));
        let deep = [b'['; 100_000];
        assert!(matches!(parse(&deep), SignatureError::Json(_)));
    }

    #[test]
    fn a_signature_that_does_not_fit_is_refused() {
        let partition = SignaturePartition {
            root_hash: vec![0; 32],
            certificate_fingerprint: None,
            signature: vec![0; 12_300],
        };
        assert!(matches!(
            partition.to_bytes(),
            Err(SignatureError::DoesNotFit(_))
        ));
    }

    proptest! {
        #[test]
        fn changed_envelopes_never_panic(at in any::<prop::sample::Index>(), value: u8) {
            thread_local! {
                static SIGNED: (Vec<u8>, Certificate) = {
                    let key = ec_key(Nid::X9_62_PRIME256V1);
                    let (signing, certificate) = signer(&key, "fuzz");
                    (sign_root_hash(&signing, HASH).unwrap(), certificate)
                };
            }
            SIGNED.with(|(signature, certificate)| {
                let mut changed = signature.clone();
                let at = at.index(changed.len());
                changed[at] = value;
                let _ = check(&changed, HASH, std::slice::from_ref(certificate));
            });
        }
    }
}
