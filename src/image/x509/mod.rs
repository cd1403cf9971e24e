//! X.509 certificates of those who sign extensions.

pub(crate) mod der;
pub(crate) mod flaws;
pub(crate) mod key_pair;

use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef, X509Ref};
use serde::Serialize;

use crate::io::hex;

/// A certificate and what people need to recognize it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The exact encoding; two certificates are the same when these bytes are.
    #[serde(skip)]
    pub der: Vec<u8>,
    /// SHA-256 of `der` in lower-case hex.
    #[serde(rename = "fingerprint")]
    pub fingerprint_sha256_hex: String,
    /// Who it belongs to, such as `CN=builder, O=Contoso`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// Start of validity, for people; systemd checks neither date.
    pub not_before: String,
    /// End of validity.
    pub not_after: String,
}

/// Why bytes are not the certificate that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A private key was given, alone or beside a certificate.
    #[error(
        "this file holds a private key, expected only a certificate; \
         give the certificate that belongs to the key"
    )]
    PrivateKey,
    /// Another PEM object, such as a public key or a request.
    #[error(
        "this file holds PEM data of kind `{0}`, expected `CERTIFICATE`; \
         give an X.509 certificate"
    )]
    OtherPem(String),
    /// Neither PEM nor DER.
    #[error("this is not an X.509 certificate, neither as PEM nor as DER")]
    NotACertificate,
    /// A block that calls itself a certificate and is none.
    #[error("the certificate is damaged: {0}")]
    Damaged(#[from] openssl::error::ErrorStack),
}

impl Certificate {
    /// Describes a certificate that OpenSSL has parsed.
    pub(crate) fn from_x509(x509: &X509Ref) -> Result<Certificate, CertificateError> {
        let der = x509.to_der()?;
        let fingerprint = hash(MessageDigest::sha256(), &der)?;
        let serial = x509.serial_number().to_bn()?;
        Ok(Certificate {
            fingerprint_sha256_hex: hex::encode(&fingerprint),
            subject: name_text(x509.subject_name()),
            issuer: name_text(x509.issuer_name()),
            serial: serial.to_hex_str()?.to_lowercase(),
            not_before: x509.not_before().to_string(),
            not_after: x509.not_after().to_string(),
            der,
        })
    }

    /// Reads the DER of one certificate, with nothing after it.
    ///
    /// # Errors
    /// [`CertificateError::NotACertificate`]; [`CertificateError::Damaged`] if a part of it can't
    /// be described.
    pub fn from_der(bytes: &[u8]) -> Result<Certificate, CertificateError> {
        der::only(bytes, der::SEQUENCE).ok_or(CertificateError::NotACertificate)?;
        let x509 = X509::from_der(bytes).map_err(|_| CertificateError::NotACertificate)?;
        Certificate::from_x509(&x509)
    }

    /// The parsed form, for checking signatures.
    pub(crate) fn x509(&self) -> Result<X509, CertificateError> {
        Ok(X509::from_der(&self.der)?)
    }

    /// The certificate as one PEM block, the only form that systemd reads from `verity.d`.
    pub fn pem(&self) -> String {
        let text = openssl::base64::encode_block(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            // Base64 is ASCII, so every position is a boundary.
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

/// Reads all certificates of a file: PEM with one or several, or DER with one.
///
/// # Errors
/// [`CertificateError::PrivateKey`] if there is a key anywhere in it,
/// [`CertificateError::OtherPem`], [`CertificateError::NotACertificate`],
/// [`CertificateError::Damaged`]. One bad block rejects the whole file.
pub fn load(bytes: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    let kinds = pem_kinds(bytes);
    if kinds.iter().any(|kind| kind.ends_with("PRIVATE KEY")) || is_private_key_der(bytes) {
        return Err(CertificateError::PrivateKey);
    }
    if kinds.is_empty() {
        return Ok(vec![Certificate::from_der(bytes)?]);
    }
    let is_certificate = |kind: &&String| kind.ends_with("CERTIFICATE") && !kind.contains("ATTR");
    if let Some(other) = kinds.iter().find(|kind| !is_certificate(kind)) {
        return Err(CertificateError::OtherPem(other.clone()));
    }
    let certificates = X509::stack_from_pem(bytes)?;
    if certificates.len() != kinds.len() {
        return Err(CertificateError::NotACertificate);
    }
    certificates
        .iter()
        .map(|x509| Certificate::from_x509(x509))
        .collect()
}

/// Reads what systemd would take from a file in `verity.d`: the first PEM
/// certificate, whatever else is there (`src/shared/dissect-image.c`,
/// `validate_signature_userspace`).
pub(crate) fn first_pem_as_systemd(bytes: &[u8]) -> Result<Certificate, CertificateError> {
    let x509 = X509::from_pem(bytes).map_err(|_| CertificateError::NotACertificate)?;
    Certificate::from_x509(&x509)
}

/// The words after `BEGIN` of all PEM blocks.
fn pem_kinds(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("-----BEGIN ")?
                .strip_suffix("-----")
        })
        .map(|kind| kind.chars().filter(|c| !c.is_control()).take(40).collect())
        .collect()
}

fn is_private_key_der(bytes: &[u8]) -> bool {
    der::only(bytes, der::SEQUENCE).is_some()
        && openssl::pkey::PKey::private_key_from_der(bytes).is_ok()
}

/// A distinguished name as `CN=a, O=b`, safe to print: names come from strangers.
pub(crate) fn name_text(name: &X509NameRef) -> String {
    let parts: Vec<String> = name
        .entries()
        .map(|entry| {
            let key = match entry.object().nid() {
                Nid::UNDEF => entry.object().to_string(),
                nid => nid.short_name().unwrap_or("?").to_owned(),
            };
            let value = match entry.data().to_string() {
                Ok(text) => text
                    .chars()
                    .map(|c| {
                        if c.is_control() {
                            char::REPLACEMENT_CHARACTER
                        } else {
                            c
                        }
                    })
                    .collect(),
                Err(_) => hex::encode(entry.data().as_slice()),
            };
            format!("{key}={value}")
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
pub(crate) mod testing {
    //! Keys and certificates for tests, made on the spot.
    use super::*;
    use openssl::asn1::Asn1Time;
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::Rsa;
    use openssl::x509::{X509Builder, X509NameBuilder};

    pub(crate) fn rsa_key() -> PKey<Private> {
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
    }

    pub(crate) fn ec_key(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    pub(crate) fn certificate(key: &PKey<Private>, name: &str, serial: u32) -> X509 {
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("O", "Test").unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(0).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(86400).unwrap())
            .unwrap();
        builder.set_pubkey(key).unwrap();
        let digest = match key.id() {
            openssl::pkey::Id::ED25519 => MessageDigest::null(),
            _ => MessageDigest::sha256(),
        };
        builder.sign(key, digest).unwrap();
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::{certificate, ec_key};

    #[test]
    fn pem_bundle_and_der_give_the_same_certificates() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let one = certificate(&key, "one", 0x81);
        let two = certificate(&key, "two", 2);
        let bundle = [one.to_pem().unwrap(), two.to_pem().unwrap()].concat();
        let loaded = load(&bundle).unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(loaded[0], load(&one.to_der().unwrap()).unwrap()[0]);
        assert_eq!(first_pem_as_systemd(&bundle).unwrap(), loaded[0]);
        assert_eq!(loaded[0].pem().as_bytes(), one.to_pem().unwrap());
        assert_eq!(loaded[0].subject, "O=Test, CN=one");
        assert_eq!(loaded[0].serial, "81");
        assert!(
            loaded[0].not_after.contains("1970"),
            "{}",
            loaded[0].not_after
        );
        assert_eq!(loaded[0].fingerprint_sha256_hex.len(), 64);
    }

    #[test]
    fn other_things_are_called_by_their_name() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        assert!(matches!(load(&pem), Err(CertificateError::PrivateKey)));
        let der = key.private_key_to_der().unwrap();
        assert!(matches!(load(&der), Err(CertificateError::PrivateKey)));
        let both = [certificate(&key, "x", 1).to_pem().unwrap(), pem].concat();
        assert!(matches!(load(&both), Err(CertificateError::PrivateKey)));
        let public = key.public_key_to_pem().unwrap();
        assert!(matches!(load(&public), Err(CertificateError::OtherPem(_))));
        for bytes in [&b""[..], b"hello", &[0x30, 0], &[0; 100]] {
            assert!(matches!(
                load(bytes),
                Err(CertificateError::NotACertificate)
            ));
        }
        let mut trailing = certificate(&key, "x", 1).to_der().unwrap();
        trailing.push(0);
        assert!(matches!(
            load(&trailing),
            Err(CertificateError::NotACertificate)
        ));
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let x509 = certificate(&key, "evil\u{1b}[2J", 1);
        assert!(
            !Certificate::from_x509(&x509)
                .unwrap()
                .subject
                .contains('\u{1b}')
        );
    }
}
