//! The signature of a root hash: PKCS#7 envelope, signature partition, check.
//!
//! What is signed are the 64 lower-case hex characters of the root hash. The
//! envelope is what `PKCS7_sign` makes with `DETACHED|NOATTR|BINARY`
//! (systemd `src/repart/repart.c`, `sign_verity_roothash`): DER, SHA-256, the
//! signer's certificate inside. It is put together here rather than by OpenSSL
//! so that the key may be anywhere: a [`Signer`] only returns a raw signature.

mod envelope;
mod key_file;
mod partition;
mod verdict;

use anyhow::Result;

use super::x509::der;

pub use envelope::{envelope, sign_root_hash};
pub use key_file::{KeyFile, needs_passphrase};
pub use partition::{MAX_PARTITION_SIZE, PARTITION_SIZE, SignatureError, SignaturePartition};
pub use verdict::{SignerIdentity, SignerVerdict, check, signer_identity};

/// 1.2.840.113549.1.7.2, pkcs7-signedData
const OID_SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// Something that holds a key and signs with it.
pub trait Signer {
    /// The certificate of the key, in DER.
    fn certificate_der(&self) -> &[u8];
    /// Signs `data` with SHA-256 and the key: RSA PKCS#1 v1.5, or ECDSA either
    /// as DER or as the two numbers one after the other.
    ///
    /// # Errors
    /// Why there is no signature, in words that are shown to people and must hold no secret.
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>>;
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

#[cfg(test)]
pub(crate) mod testing {
    use openssl::pkey::{PKey, Private};

    use super::KeyFile;
    use crate::image::x509::{Certificate, testing};

    /// A root hash.
    pub(super) const HASH: &str =
        "452addea32c48fb76d3fdb21c53d6a1d1f5bc7a13fa2d3676e2fe91a8637a71e";

    /// A key with its certificate.
    pub(crate) fn signer(key: &PKey<Private>, name: &str) -> (KeyFile, Certificate) {
        let certificate = Certificate::from_x509(&testing::certificate(key, name, 0x1f0)).unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        (KeyFile::from_pem(&pem, &certificate).unwrap(), certificate)
    }
}
