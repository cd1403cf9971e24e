//! The PKCS#7 envelope around a raw signature.

use anyhow::{Context, Result, bail, ensure};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKeyRef};

use super::{OID_SIGNED_DATA, Signer, issuer_and_serial};
use crate::image::x509::{Certificate, der};

/// 1.2.840.113549.1.7.1, pkcs7-data
const OID_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 2.16.840.1.101.3.4.2.1, sha256
const OID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.1.1, rsaEncryption
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256
const OID_ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The algorithm identifier of a key, or the reason why it cannot be used.
pub(super) fn check_algorithm<T: HasPublic>(key: &PKeyRef<T>) -> Result<Vec<u8>> {
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
///
/// # Errors
/// What the signer says, a certificate that can't be read, and those of [`envelope()`].
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
///
/// # Errors
/// A key that can't sign extensions (other than RSA of 2048 bits and more, P-256, P-384), and a
/// signature that does not verify.
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

#[cfg(test)]
mod tests {
    use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
    use openssl::pkey::{PKey, Private};
    use openssl::stack::Stack;

    use super::super::testing::{HASH, signer};
    use super::super::{SignerVerdict, check};
    use super::*;
    use crate::image::x509::testing::{ec_key, rsa_key};

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
    fn a_signature_of_something_else_is_not_wrapped() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let (signer, certificate) = signer(&key, "ec");
        let raw = signer.sign(format!("{HASH}\n").as_bytes()).unwrap();
        let error = envelope(&certificate, HASH, &raw).unwrap_err().to_string();
        assert!(error.contains("does not verify"), "{error}");
        assert!(envelope(&certificate, HASH, &[1; 63]).is_err());
    }
}
