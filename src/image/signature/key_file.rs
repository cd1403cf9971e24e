//! A private key in memory.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use openssl::hash::MessageDigest;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};

use super::Signer;
use super::envelope::check_algorithm;
use crate::image::x509::Certificate;

/// A private key in memory, read from PEM.
pub struct KeyFile {
    key: PKey<Private>,
    certificate: Vec<u8>,
}

impl KeyFile {
    /// Reads an unencrypted PEM key and checks that it belongs to the certificate.
    ///
    /// # Errors
    /// Those of [`KeyFile::read`]; an encrypted key is one of them.
    pub fn from_pem(key: &[u8], certificate: &Certificate) -> Result<KeyFile> {
        KeyFile::read(key, None, certificate)
    }

    /// Reads a key in PEM, DER (PKCS#8, PKCS#1, SEC 1) or PKCS#12 and checks that it belongs to
    /// the certificate.
    ///
    /// # Errors
    /// In words, which hold nothing of the key: not a private key, a missing or wrong passphrase, a
    /// key that can't sign extensions, or one of another certificate.
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

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;

    use super::*;
    use crate::image::x509::testing::{certificate, ec_key};

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
}
