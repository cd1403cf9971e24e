//! Keys that sign images in tests, made by the openssl program.

use std::path::PathBuf;

use tempfile::TempDir;

use super::tools::{command, run};

/// An RSA key (mode 0600) with its self-signed certificate; they go when this does.
pub(crate) struct Signer {
    dir: TempDir,
}

impl Signer {
    /// A new key whose certificate has this common name.
    pub(crate) fn new(name: &str) -> Self {
        let signer = Self {
            dir: TempDir::new().unwrap(),
        };
        run(command("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"])
            .args(["-days", "30", "-subj", &format!("/CN={name}"), "-keyout"])
            .arg(signer.key())
            .arg("-out")
            .arg(signer.certificate()));
        signer
    }

    /// The private key, PEM.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// The certificate, PEM.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("signer.crt")
    }
}
