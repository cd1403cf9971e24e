//! What a person would hold against a certificate. Neither systemd nor the kernel looks at it:
//! `PKCS7_verify` runs with NOVERIFY (src/shared/dissect-image.c), and the kernel checks a signature
//! against a key of its keyring, without dates or usage (crypto/asymmetric_keys/pkcs7_trust.c).

use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::x509::X509;

use super::{Certificate, der};

/// 2.5.29.15, keyUsage
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.37, extKeyUsage
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 1.3.6.1.5.5.7.3.3, id-kp-codeSigning
const OID_CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// 2.5.29.37.0, anyExtendedKeyUsage
const OID_ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// The tag of the extensions in a certificate (RFC 5280, 4.1).
const CONTEXT_3: u8 = 0xa3;
const BIT_STRING: u8 = 0x03;
const BOOLEAN: u8 = 0x01;

/// One flaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Its time is over; when that was.
    Expired(String),
    /// Its time has not come; when it will.
    NotYetValid(String),
    /// A key or digest that can be forged with effort; which.
    Weak(String),
    /// It is not meant for signing code; what it is for.
    Usage(&'static str),
}

/// All flaws at a time in Unix seconds; without one, dates are not judged.
pub(crate) fn flaws(certificate: &Certificate, now: Option<i64>) -> Vec<Flaw> {
    let Ok(x509) = certificate.x509() else {
        return Vec::new();
    };
    let mut flaws = Vec::new();
    if let Some(now) = now.and_then(|now| Asn1Time::from_unix(now).ok()) {
        if x509.not_after() < now {
            flaws.push(Flaw::Expired(certificate.not_after.clone()));
        }
        if x509.not_before() > now {
            flaws.push(Flaw::NotYetValid(certificate.not_before.clone()));
        }
    }
    flaws.extend(weakness(&x509).map(Flaw::Weak));
    flaws.extend(usage(&certificate.der).map(Flaw::Usage));
    flaws
}

fn weakness(x509: &X509) -> Option<String> {
    let key = x509.public_key().ok()?;
    if key.id() == Id::RSA && key.bits() < 2048 {
        return Some(format!("its RSA key has {} bits", key.bits()));
    }
    let algorithm = x509.signature_algorithm().object().nid();
    let old = [
        Nid::MD5WITHRSAENCRYPTION,
        Nid::SHA1WITHRSAENCRYPTION,
        Nid::ECDSA_WITH_SHA1,
    ];
    old.contains(&algorithm).then(|| {
        format!(
            "it is itself signed with {}",
            algorithm.long_name().unwrap_or("SHA-1")
        )
    })
}

/// What it is for instead of signing; nothing if it may sign.
fn usage(certificate: &[u8]) -> Option<&'static str> {
    if let Some(bits) = extension(certificate, OID_KEY_USAGE) {
        let mut value = der::Reader::new(bits);
        let bits = value.expect(BIT_STRING)?.content;
        // The first byte counts unused bits; then digitalSignature is the first bit.
        if bits.get(1).is_none_or(|byte| byte & 0x80 == 0) {
            return Some("its key usage has no digital signature");
        }
    }
    let list = extension(certificate, OID_EXTENDED_KEY_USAGE)?;
    let mut uses = der::only(list, der::SEQUENCE)?;
    while let Some(use_) = uses.next() {
        if [OID_CODE_SIGNING, OID_ANY_USAGE].contains(&use_.content) {
            return None;
        }
    }
    Some("its extended key usage has no code signing")
}

/// The value of an extension.
fn extension<'a>(certificate: &'a [u8], oid: &[u8]) -> Option<&'a [u8]> {
    let mut outer = der::only(certificate, der::SEQUENCE)?;
    let mut body = der::Reader::new(outer.expect(der::SEQUENCE)?.content);
    while let Some(element) = body.next() {
        if element.tag != CONTEXT_3 {
            continue;
        }
        let mut list = der::only(element.content, der::SEQUENCE)?;
        while let Some(one) = list.next() {
            let mut one = der::Reader::new(one.content);
            let name = one.expect(der::OID)?;
            one.skip_optional(BOOLEAN);
            if name.content == oid {
                return Some(one.expect(der::OCTET_STRING)?.content);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::x509::load;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::extension::{ExtendedKeyUsage, KeyUsage};
    use openssl::x509::{X509, X509Extension};

    const NOW: i64 = 1_700_000_000;

    fn made(bits: u32, digest: MessageDigest, extensions: Vec<X509Extension>) -> Certificate {
        let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_pubkey(&key).unwrap();
        let day = |days: i64| Asn1Time::from_unix(NOW + days * 86_400).unwrap();
        builder.set_not_before(day(-10).as_ref()).unwrap();
        builder.set_not_after(day(10).as_ref()).unwrap();
        for extension in extensions {
            builder.append_extension(extension).unwrap();
        }
        builder.sign(&key, digest).unwrap();
        load(&builder.build().to_pem().unwrap()).unwrap().remove(0)
    }

    #[test]
    fn dates_are_judged_if_the_time_is_known() {
        let certificate = made(2048, MessageDigest::sha256(), Vec::new());
        let at = |days: i64| flaws(&certificate, Some(NOW + days * 86_400));
        assert_eq!(at(0), []);
        assert!(matches!(at(11)[..], [Flaw::Expired(_)]));
        assert!(matches!(at(-11)[..], [Flaw::NotYetValid(_)]));
        assert_eq!(flaws(&certificate, None), []);
    }

    #[test]
    fn weak_keys_and_digests_are_told() {
        for (bits, digest, weak) in [
            (2048, MessageDigest::sha256(), false),
            (1024, MessageDigest::sha256(), true),
            (2048, MessageDigest::sha1(), true),
        ] {
            let found = flaws(&made(bits, digest, Vec::new()), None);
            assert_eq!(
                matches!(found[..], [Flaw::Weak(_)]),
                weak,
                "{bits}: {found:?}"
            );
        }
    }

    #[test]
    fn what_it_may_be_used_for_is_read() {
        let key = |usage: &mut KeyUsage| usage.critical().build().unwrap();
        let extended = |usage: &mut ExtendedKeyUsage| usage.build().unwrap();
        for (extension, fits) in [
            (key(KeyUsage::new().digital_signature()), true),
            (key(KeyUsage::new().key_cert_sign()), false),
            (extended(ExtendedKeyUsage::new().code_signing()), true),
            (extended(ExtendedKeyUsage::new().server_auth()), false),
        ] {
            let found = flaws(&made(2048, MessageDigest::sha256(), vec![extension]), None);
            assert_eq!(found.is_empty(), fits, "{found:?}");
        }
    }
}
