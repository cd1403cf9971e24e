//! Who signed a root hash, and whether systemd takes it.

use anyhow::{Context, Result, ensure};
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::X509Name;
use openssl::x509::store::X509StoreBuilder;
use serde::Serialize;

use super::{OID_SIGNED_DATA, issuer_and_serial};
use crate::image::x509::{Certificate, der, name_text};
use crate::io::hex;

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
///
/// # Errors
/// If it is not one PKCS#7 SignedData in DER, names no signer, or holds a certificate that can't be
/// read.
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
    use openssl::nid::Nid;
    use proptest::prelude::*;

    use super::super::sign_root_hash;
    use super::super::testing::{HASH, signer};
    use super::*;
    use crate::image::x509::testing::ec_key;

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
