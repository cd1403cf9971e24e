//! A key pair for development.

use anyhow::Context as _;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, KeyUsage};
use openssl::x509::{X509, X509NameBuilder};

use crate::io::secret::KeyText;

/// A private key and its self-signed certificate, both PEM.
pub(crate) struct KeyPair {
    /// PKCS#8 private key.
    pub key: KeyText,
    /// X.509 certificate.
    pub certificate: Vec<u8>,
}

impl KeyPair {
    /// Makes an RSA-2048 pair for development. `not_before` is in Unix seconds, `days` the validity.
    pub(crate) fn generate(
        common_name: &str,
        not_before: i64,
        days: i64,
    ) -> anyhow::Result<KeyPair> {
        let key = PKey::from_rsa(Rsa::generate(2048).context("generating an RSA key")?)?;
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_text("CN", common_name)
            .with_context(|| format!("using `{common_name}` as the common name"))?;
        let name = name.build();
        let mut serial = BigNum::new()?;
        // 20 octets at most, positive (RFC 5280, 4.1.2.2).
        serial.rand(159, MsbOption::MAYBE_ZERO, false)?;
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
        builder.set_subject_name(&name)?;
        builder.set_issuer_name(&name)?;
        builder.set_pubkey(&key)?;
        builder.set_not_before(Asn1Time::from_unix(not_before)?.as_ref())?;
        let not_after = not_before.saturating_add(days.saturating_mul(86_400));
        builder.set_not_after(Asn1Time::from_unix(not_after)?.as_ref())?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(KeyPair {
            key: KeyText::from_bytes(key.private_key_to_pem_pkcs8()?),
            certificate: builder.build().to_pem()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_pair_belongs_together() {
        let pair = KeyPair::generate("test key", 1_700_000_000, 30).unwrap();
        let key = PKey::private_key_from_pem(pair.key.bytes()).unwrap();
        let certificate = X509::from_pem(&pair.certificate).unwrap();
        assert!(certificate.public_key().unwrap().public_eq(&key));
        assert!(certificate.verify(&key).unwrap());
    }
}
