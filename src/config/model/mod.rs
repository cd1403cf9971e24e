//! The `sysext:` block as the user writes it, and its JSON schema.
//!
//! Doc comments here become the descriptions of the schema, so they speak to
//! the person who edits the YAML. Meaning beyond types is checked in
//! [`super::validate`].

mod compression;
mod content;
mod extension;
mod format;
mod placing;
mod release;
mod repair;
mod signing;
mod target;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::editor::{OrText, ProfileOrFacts};
use super::shorthand::{scalar_or_map_option, scalars_or_maps};

pub(crate) use crate::config::model::format::Delivery;
pub(crate) use crate::config::model::signing::VerityMode;
pub(crate) use compression::CompressionSetting;
pub(crate) use content::{ArchiveSource, FileEntry, ImageSource, LinkEntry};
pub(crate) use extension::{Extension, MadeByMkosi, Reload, SourceKey};
pub(crate) use format::Format;
pub(crate) use placing::{CertificateLocation, Enable, ImagePolicy, Location, OverlayConflict};
pub(super) use repair::Exceptions;
pub(crate) use repair::{Repair, RepairChange, RepairKind};
pub(crate) use signing::{CertificateEntry, KeyReference, Signer};
pub(crate) use target::Target;

/// System extensions to build or take in, place, trust and switch on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sysext {
    /// The extensions, at least one. A plain string is the path of a prebuilt image.
    #[serde(deserialize_with = "scalars_or_maps")]
    #[schemars(with = "Vec<OrText<Extension>>", length(min = 1))]
    pub extensions: Vec<Extension>,
    /// The base OS when there is no root file system to read it from: a profile such as
    /// `azurelinux-3.0`, or the facts themselves.
    #[serde(default, deserialize_with = "scalar_or_map_option")]
    #[schemars(with = "ProfileOrFacts")]
    pub target: Option<Target>,
    /// Private key that signs the root hashes: `PATH`, `file:PATH`, or `env:NAME` of a variable
    /// that holds PEM text. Default for all extensions.
    #[serde(default)]
    #[schemars(example = &"env:VERITY_KEY", example = &"file:verity_key.pem")]
    pub verity_key: Option<KeyReference>,
    /// Passphrase of an encrypted key or PKCS#12 file: `env:NAME`, or `file:PATH` (its first line).
    #[serde(default)]
    #[schemars(example = &"env:VERITY_KEY_PASSPHRASE")]
    pub verity_key_passphrase: Option<KeyReference>,
    /// Certificate (PEM or DER) that belongs to `verityKey`. It is installed on the target.
    #[serde(default)]
    pub verity_certificate: Option<PathBuf>,
    /// A command that signs instead of `verityKey`.
    #[serde(default)]
    pub signer: Option<Signer>,
    /// Further certificates to trust, beside those of the signed extensions.
    #[serde(default, deserialize_with = "scalars_or_maps")]
    #[schemars(with = "Vec<OrText<CertificateEntry>>")]
    pub certificates: Vec<CertificateEntry>,
    /// Folder on the target that receives the images.
    #[serde(default)]
    pub location: Location,
    /// Folder on the target that receives the certificates.
    #[serde(default)]
    pub certificate_location: CertificateLocation,
    /// How `systemd-sysext.service` is enabled: by a script step, by `os.services`, or not at all.
    #[serde(default)]
    pub enable: Enable,
    /// Adds `systemctl start systemd-sysext.service` to the script step. It has no effect during
    /// customization, where systemctl ignores `start`.
    #[serde(default)]
    pub start: bool,
    /// Which images may be merged at boot: `default` (systemd's own policy), `signed`, or a
    /// policy in the syntax of systemd.image-policy(7).
    #[serde(default)]
    #[schemars(example = &"default", example = &"signed")]
    pub image_policy: ImagePolicy,
    /// What to do when Prism's `os.overlays` covers `/usr` or `/opt`.
    #[serde(default)]
    pub overlay_conflict: OverlayConflict,
    /// Path globs whose conflicts between layers are intended.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Folder for built images, relative to the config file.
    #[serde(default = "default_output_directory")]
    #[schemars(example = &".sysext")]
    pub output_directory: PathBuf,
}

fn default_output_directory() -> PathBuf {
    PathBuf::from(".sysext")
}
