//! Private keys: reading them without ever showing them, and making one for development.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context as _;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, KeyUsage};
use openssl::x509::{X509, X509NameBuilder};
use zeroize::Zeroizing;

use crate::config::model::KeyReference;
use crate::finding::Finding;
use crate::io::open;

/// Largest key file that is read, in bytes; an RSA key of 16384 bits has about 12 KiB.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// The text of a private key or a passphrase. It has no `Debug` and is wiped when dropped.
pub struct KeyText(Zeroizing<Vec<u8>>);

impl KeyText {
    /// The PEM bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What stands before the first line break, as in a file that holds a passphrase.
    pub fn first_line(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        self.0
            .get(..end.unwrap_or(self.0.len()))
            .unwrap_or_default()
    }

    /// Key text that was read from somewhere else than a file.
    pub fn from_bytes(bytes: Vec<u8>) -> KeyText {
        KeyText(Zeroizing::new(bytes))
    }
}

/// Reads what a reference names; `what` ends the advice for a variable that is not set.
pub fn read(
    reference: &KeyReference,
    variable: &dyn Fn(&str) -> Option<String>,
    what: &str,
) -> Result<KeyText, Finding> {
    match reference {
        KeyReference::File(path) => read_file(path),
        KeyReference::Env(name) => match variable(name) {
            Some(text) if !text.is_empty() => Ok(KeyText::from_bytes(text.into_bytes())),
            _ => Err(Finding::error(
                "key-unreadable",
                format!("the environment variable {name} is not set"),
            )
            .help(format!("set it to {what}"))),
        },
    }
}

/// Reads a key file that nobody but its owner can read.
pub fn read_file(path: &Path) -> Result<KeyText, Finding> {
    let refuse = |message: String, help: &str| {
        Finding::error(
            "key-unreadable",
            format!("reading the private key {}: {message}", path.display()),
        )
        .help(help)
    };
    let file = open::open(path).map_err(|error| {
        refuse(
            error.to_string(),
            "name a PEM file with `verityKey: file:PATH`, or use `env:NAME`",
        )
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| refuse(error.to_string(), "check the file system"))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Finding::error(
            "key-permissions",
            format!(
                "the private key {} has mode {:04o}, others than its owner may use it",
                path.display(),
                metadata.mode() & 0o7777
            ),
        )
        .help(format!("chmod 600 {}", path.display())));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = KeyText::from_bytes(Vec::with_capacity(
        usize::try_from(metadata.len()).unwrap_or(0).min(1 << 16),
    ));
    file.take(MAX_KEY_BYTES + 1)
        .read_to_end(&mut text.0)
        .map_err(|error| refuse(error.to_string(), "check the file system"))?;
    if text.0.len() as u64 > MAX_KEY_BYTES {
        return Err(refuse(
            "it is larger than 64 KiB".to_owned(),
            "name a PEM file",
        ));
    }
    Ok(text)
}

/// A private key and its self-signed certificate, both PEM.
pub struct KeyPair {
    /// PKCS#8 private key.
    pub key: KeyText,
    /// X.509 certificate.
    pub certificate: Vec<u8>,
}

/// Makes an RSA-2048 pair for development. `not_before` is in Unix seconds, `days` the validity.
pub fn generate(common_name: &str, not_before: i64, days: i64) -> anyhow::Result<KeyPair> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_generated_pair_belongs_together() {
        let pair = generate("test key", 1_700_000_000, 30).unwrap();
        let key = PKey::private_key_from_pem(pair.key.bytes()).unwrap();
        let certificate = X509::from_pem(&pair.certificate).unwrap();
        assert!(certificate.public_key().unwrap().public_eq(&key));
        assert!(certificate.verify(&key).unwrap());
    }

    #[test]
    fn others_must_not_be_able_to_read_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, "secret").unwrap();
        for (mode, expected) in [
            (0o644, Some("key-permissions")),
            (0o640, Some("key-permissions")),
            (0o600, None),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let result = read_file(&path);
            assert_eq!(
                result.as_ref().err().map(|finding| finding.id),
                expected,
                "{mode:o}"
            );
            if let Err(finding) = result {
                assert!(!finding.to_string().contains("secret"));
            }
        }
    }

    #[test]
    fn a_missing_or_odd_file_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read_file(&dir.path().join("no")).err().unwrap().id,
            "key-unreadable"
        );
        assert_eq!(read_file(dir.path()).err().unwrap().id, "key-unreadable");
    }
}
