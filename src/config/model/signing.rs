//! How an image is protected, who signs it, and which certificates are trusted.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an image is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Verity")]
pub enum VerityMode {
    /// dm-verity with a signature.
    Signed,
    /// dm-verity with room for a signature that is made later.
    Defer,
    /// dm-verity without a signature.
    Hash,
    /// Nothing. `false` means the same.
    None,
}

impl VerityMode {
    /// The word in the YAML.
    pub fn word(self) -> &'static str {
        match self {
            VerityMode::Signed => "signed",
            VerityMode::Defer => "defer",
            VerityMode::Hash => "hash",
            VerityMode::None => "none",
        }
    }
}

/// Reference to a private key; its text never shows the key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String", inline)]
pub enum KeyReference {
    /// A PEM file, relative to the config file.
    File(PathBuf),
    /// Name of an environment variable that holds PEM text.
    Env(String),
}

impl From<String> for KeyReference {
    fn from(text: String) -> KeyReference {
        if let Some(name) = text.strip_prefix("env:") {
            KeyReference::Env(name.to_owned())
        } else {
            KeyReference::File(text.strip_prefix("file:").unwrap_or(&text).into())
        }
    }
}

/// An external signing command.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signer {
    /// Program and arguments. The bytes to sign come on its standard input, the raw signature is
    /// expected on its standard output. A program with a slash in its name is relative to the
    /// config file.
    #[schemars(example = vec!["./sign.sh"], length(min = 1))]
    pub command: Vec<String>,
    /// How long one try may take, in seconds.
    #[serde(default = "default_signer_seconds")]
    pub timeout_seconds: u32,
    /// How often a failure is tried again.
    #[serde(default = "default_signer_retries")]
    pub retries: u32,
}

fn default_signer_seconds() -> u32 {
    60
}

fn default_signer_retries() -> u32 {
    2
}

/// A certificate to trust on the target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateEntry {
    /// Certificate file, PEM or DER, relative to the config file.
    pub source: PathBuf,
    /// File name on the target; must end in `.crt`. Default: the source's stem with `.crt`.
    #[serde(default)]
    pub name: Option<String>,
    /// Trusts every certificate of a bundle, one file each.
    #[serde(default)]
    pub all: bool,
}

impl From<String> for CertificateEntry {
    fn from(source: String) -> CertificateEntry {
        CertificateEntry {
            source: source.into(),
            name: None,
            all: false,
        }
    }
}
