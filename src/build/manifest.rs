//! `sysext-manifest.json`: what was built or taken in, for later stages of a pipeline.
//!
//! The same input gives the same bytes: no clock, no path of this machine.

use serde::Serialize;

use crate::config::model::{Delivery, Format, RepairChange, VerityMode};
use crate::image::compressed::Codec;
use crate::image::sidecar::SidecarKind;
use crate::systemd::kind::ExtensionKind;

/// File name in the output directory.
pub(crate) const FILE_NAME: &str = "sysext-manifest.json";

/// The whole file.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Version of this format.
    pub schema_version: u32,
    /// Version of prism-sysext.
    pub tool: String,
    /// Time stamp in everything that was built, in Unix seconds.
    pub source_date_epoch: u64,
    /// What the caller took on, such as `--force`.
    pub overrides: Vec<String>,
    /// The extensions in the order of the config.
    pub extensions: Vec<Entry>,
}

/// One extension.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Name without `.raw`.
    pub name: String,
    /// What it adds to.
    pub kind: ExtensionKind,
    /// File name of the image or folder.
    pub image: String,
    /// In which form it is delivered.
    pub layout: Delivery,
    /// Where it belongs on the target.
    pub destination: String,
    /// Whether it was built here or taken in.
    pub origin: Origin,
    /// Size in bytes; of a folder that of its files.
    pub size: u64,
    /// SHA-256 of the image, hex; where digests were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// SHA-384 of the image, hex (what Trident asks for); where digests were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha384: Option<String>,
    /// What is placed with it: root hash, signature, hash tree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<SidecarEntry>,
    /// The compressed file that it was unpacked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked_from: Option<UnpackedFrom>,
    /// File system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How it was to be protected; none for images taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verity: Option<VerityMode>,
    /// Root hash, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// SHA-256 of the signer's certificate in DER, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_fingerprint: Option<String>,
    /// What a prebuilt image was before it was repaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Repaired>,
    /// The release file.
    pub release: serde_json::Map<String, serde_json::Value>,
}

/// A prebuilt image that was rebuilt.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repaired {
    /// SHA-256 of the original, hex.
    pub original_sha256: String,
    /// What was changed.
    pub changes: Vec<RepairChange>,
}

/// A file that is placed beside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Companion")]
pub struct SidecarEntry {
    /// What it is.
    pub kind: SidecarKind,
    /// Where it belongs on the target.
    pub destination: String,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// A compressed file that an image was unpacked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnpackedFrom {
    /// How it is compressed.
    pub codec: Codec,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// Where an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Built here.
    Built,
    /// Made by somebody else, bytes unchanged.
    TakenIn,
    /// Made by somebody else, and rebuilt.
    Repaired,
}

impl Manifest {
    /// The text of the file.
    pub(crate) fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
