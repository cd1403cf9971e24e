//! What `repair: auto` may change, and what a repair changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a repair changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RepairKind {
    /// The release file has the name of the image now.
    ReleaseFile,
    /// `SYSEXT_ID=` or `CONFEXT_ID=` was missing.
    Id,
    /// `ARCHITECTURE=` was spelled in a way that systemd does not know.
    Architecture,
    /// There is a hash tree, or a signature, now.
    Protection,
    /// It was a `/usr` partition, which is mounted unverified before systemd 258.
    UsrPartition,
    /// The kernel of the base could not mount it.
    FileSystem,
    /// It held an os-release file, which systemd forbids.
    OsRelease,
    /// It would have deleted files of the base.
    Whiteouts,
    /// It held files that are never merged. This alone is no reason for a repair.
    Outside,
}

impl RepairKind {
    /// The word in the YAML and the manifest.
    pub fn word(self) -> &'static str {
        match self {
            RepairKind::ReleaseFile => "release-file",
            RepairKind::Id => "id",
            RepairKind::Architecture => "architecture",
            RepairKind::Protection => "protection",
            RepairKind::UsrPartition => "usr-partition",
            RepairKind::FileSystem => "file-system",
            RepairKind::OsRelease => "os-release",
            RepairKind::Whiteouts => "whiteouts",
            RepairKind::Outside => "outside",
        }
    }
}

/// One change, for people and the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepairChange {
    /// What was changed.
    pub what: RepairKind,
    /// From what to what.
    pub detail: String,
}
