//! Who signs an extension.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::config::model::{Extension, KeyReference, Sysext, VerityMode};
use crate::config::validate::{SignedBy, certificate, signed_by};
use crate::finding::Finding;
use crate::image::x509::Certificate;
use crate::sign::command::SignerCommand;
use crate::sign::trust;

/// Who signs an extension.
#[derive(Debug)]
pub struct Signing {
    /// The key or the command.
    pub key: SigningKey,
    /// The certificate of the key.
    pub certificate: Certificate,
    /// Where the certificate lies on this machine.
    pub certificate_path: PathBuf,
    /// Where the config names the key or the command.
    pub at: String,
}

/// Where the key is.
#[derive(Debug)]
pub enum SigningKey {
    /// In a file or variable, with a passphrase if it is encrypted.
    Text(KeyReference, Option<KeyReference>),
    /// Elsewhere; a command signs.
    Command(SignerCommand),
}

/// Who signs an extension, if it is to be signed.
pub(super) fn signing(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    verity: VerityMode,
    at: &str,
) -> Result<Option<Signing>, Finding> {
    match verity {
        VerityMode::Signed => {
            let (Some(by), Some(path)) =
                (signed_by(sysext, extension), certificate(sysext, extension))
            else {
                // validate() has refused this already.
                return Err(Finding::error(
                    "key-missing",
                    "a signed extension needs key and certificate",
                )
                .at(at));
            };
            let certificate_path = config.resolve(path);
            let certificate =
                trust::read_one(&certificate_path).map_err(|finding| finding.at(at))?;
            let resolved = |reference: &KeyReference| match reference {
                KeyReference::File(path) => KeyReference::File(config.resolve(path)),
                KeyReference::Env(name) => KeyReference::Env(name.clone()),
            };
            let own = extension.verity_key.is_some() || extension.signer.is_some();
            let place = if own { at } else { "sysext" };
            let (key, name) = match by {
                SignedBy::Key(key, passphrase) => {
                    let passphrase = passphrase.map(resolved);
                    (SigningKey::Text(resolved(key), passphrase), "verityKey")
                }
                SignedBy::Command(signer) => {
                    let command = SignerCommand {
                        command: signer.command.clone(),
                        directory: config.source.directory().to_owned(),
                        time_limit: Duration::from_secs(signer.timeout_seconds.into()),
                        retries: signer.retries,
                    };
                    (SigningKey::Command(command), "signer")
                }
            };
            Ok(Some(Signing {
                key,
                certificate,
                certificate_path,
                at: format!("{place}.{name}"),
            }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::testing::{config, key_pair, said};

    /// Who signs the only extension of a config: what, with which certificate, and named where.
    fn signs(dir: &Path, keys: &str, own: &str, verity: VerityMode) -> Option<[String; 3]> {
        let text = format!("sysext: {{{keys}extensions: [{{name: a, tree: t, {own}}}]}}\n");
        let config = config(dir, &text);
        let sysext = config.sysext.as_ref().unwrap();
        let signing = signing(&config, sysext, &sysext.extensions[0], verity, "here").unwrap()?;
        let key = match signing.key {
            SigningKey::Text(key, passphrase) => format!("{key:?} {passphrase:?}"),
            SigningKey::Command(command) => format!(
                "{:?} in {} for {:?}, {}",
                command.command,
                command.directory.display(),
                command.time_limit,
                command.retries
            ),
        };
        let key = key.replace(&dir.display().to_string(), "/d");
        assert_eq!(signing.certificate_path.parent(), Some(dir));
        Some([key, signing.certificate.subject, signing.at])
    }

    #[test]
    fn the_own_key_comes_before_that_of_all() {
        let dir = tempfile::tempdir().unwrap();
        key_pair(dir.path(), "all");
        key_pair(dir.path(), "own");
        let of_all = "verityKey: k.pem, verityCertificate: all.crt, ";
        for (keys, own, key, subject, at) in [
            (
                of_all,
                "",
                "File(\"/d/k.pem\") None",
                "all",
                "sysext.verityKey",
            ),
            (
                "verityKey: 'env:K', verityKeyPassphrase: file:p, verityCertificate: all.crt, ",
                "",
                "Env(\"K\") Some(File(\"/d/p\"))",
                "all",
                "sysext.verityKey",
            ),
            // Its own key does not take the passphrase of the other.
            (
                "verityKey: k.pem, verityKeyPassphrase: file:p, verityCertificate: all.crt, ",
                "verityKey: /k/own.pem, verityCertificate: own.crt",
                "File(\"/k/own.pem\") None",
                "own",
                "here.verityKey",
            ),
            (
                of_all,
                "verityCertificate: own.crt",
                "File(\"/d/k.pem\") None",
                "own",
                "sysext.verityKey",
            ),
            (
                of_all,
                "signer: {command: [./s, x]}",
                "[\"./s\", \"x\"] in /d for 60s, 2",
                "all",
                "here.signer",
            ),
            (
                "signer: {command: [s], timeoutSeconds: 5, retries: 0}, verityCertificate: all.crt, ",
                "",
                "[\"s\"] in /d for 5s, 0",
                "all",
                "sysext.signer",
            ),
        ] {
            let found = signs(dir.path(), keys, own, VerityMode::Signed).unwrap();
            let subject = format!("O=Test, CN={subject}");
            assert_eq!(found, [key, &subject, at], "{keys}{own}");
        }
    }

    #[test]
    fn only_what_is_signed_has_a_signer() {
        let dir = tempfile::tempdir().unwrap();
        key_pair(dir.path(), "all");
        let keys = "verityKey: k.pem, verityCertificate: all.crt, ";
        for verity in [VerityMode::Defer, VerityMode::Hash, VerityMode::None] {
            assert_eq!(signs(dir.path(), keys, "", verity), None);
        }
        assert!(signs(dir.path(), keys, "", VerityMode::Signed).is_some());
    }

    #[test]
    fn a_certificate_that_is_none_is_refused_where_the_extension_stands() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("no.crt"), "no").unwrap();
        for (keys, id) in [
            ("verityKey: k, ", "key-missing"),
            ("verityCertificate: no.crt, ", "key-missing"),
            (
                "verityKey: k, verityCertificate: no.crt, ",
                "not-a-certificate",
            ),
            (
                "verityKey: k, verityCertificate: gone.crt, ",
                "certificate-unreadable",
            ),
        ] {
            let text = format!("sysext: {{{keys}extensions: [{{name: a, tree: t}}]}}\n");
            let config = config(dir.path(), &text);
            let sysext = config.sysext.as_ref().unwrap();
            let found = signing(
                &config,
                sysext,
                &sysext.extensions[0],
                VerityMode::Signed,
                "here",
            );
            let found = found.map(|_| ()).unwrap_err();
            assert_eq!(said(&[found]), [format!("{id} here")]);
        }
    }
}
