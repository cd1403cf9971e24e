//! Who signs an extension.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::config::model::{Extension, KeyReference, Sysext, Verity};
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
    verity: Verity,
    at: &str,
) -> Result<Option<Signing>, Finding> {
    match verity {
        Verity::Signed => {
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
