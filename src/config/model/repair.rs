//! What `repair: auto` may change, and what a repair changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a repair changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Mended")]
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
#[schemars(rename = "Change")]
pub struct RepairChange {
    /// What was changed.
    pub what: RepairKind,
    /// From what to what.
    pub detail: String,
}

/// Whether a prebuilt image may be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Repair {
    /// It is taken as it is.
    #[default]
    Never,
    /// It may be rebuilt so that it works, but for these changes.
    But(Vec<RepairKind>),
}

impl Repair {
    /// Whether it may be rebuilt.
    pub fn is_wanted(&self) -> bool {
        matches!(self, Repair::But(_))
    }

    /// What is left as it is.
    pub fn exceptions(&self) -> &[RepairKind] {
        match self {
            Repair::Never => &[],
            Repair::But(exceptions) => exceptions,
        }
    }
}

/// Repairs that are not wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Exceptions {
    /// What is left as it is in a repair.
    pub(in crate::config) except: Vec<RepairKind>,
}

/// Schema only: `repair` in a word, or with exceptions.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "exists for the JSON schema")]
pub(super) enum RepairValue {
    /// Whether.
    Word(RepairWord),
    /// All but some.
    Exceptions(Exceptions),
}

/// Schema only: `repair` in a word.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "exists for the JSON schema")]
pub(super) enum RepairWord {
    /// It is taken as it is.
    Never,
    /// It may be rebuilt so that it works.
    Auto,
}
