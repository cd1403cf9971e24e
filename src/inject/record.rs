//! What an apply has placed, kept in the root file system itself, so that a
//! later apply or remove touches nothing else.

use serde::{Deserialize, Serialize};

use super::FileKind;
use crate::base::root::RootDir;
use crate::finding::{Finding, Findings};

/// Where the record lies.
pub const PATH: &str = "/var/lib/prism-sysext/applied.json";

/// Largest record that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this format.
    pub schema_version: u32,
    /// The files.
    pub files: Vec<RecordedFile>,
    /// Whether the link that enables the service is ours.
    pub enabled_by_us: bool,
}

/// One placed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedFile {
    /// Absolute path in the root file system.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// The extension it belongs to; none for what belongs to all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub extension: Option<String>,
    /// SHA-256 of what was placed, lower-case hex.
    pub sha256: String,
}

impl Default for Record {
    fn default() -> Record {
        Record {
            schema_version: 1,
            files: Vec::new(),
            enabled_by_us: false,
        }
    }
}

impl Record {
    /// The text of the file.
    pub fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Reads the record; an empty one if there is none.
pub fn read(root: &RootDir) -> Result<Record, Findings> {
    let useless = |message: String| {
        Findings::from(
            Finding::error(
                "record-unreadable",
                format!("reading {PATH} of the root file system: {message}"),
            )
            .help("remove it to start afresh; files placed before then need --force"),
        )
    };
    let bytes = root
        .read(PATH, MAX_BYTES)
        .map_err(|error| useless(error.to_string()))?;
    let Some(bytes) = bytes else {
        return Ok(Record::default());
    };
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|error| useless(error.to_string()))?;
    if record.schema_version != 1 {
        return Err(useless(format!(
            "it has version {}, expected 1",
            record.schema_version
        )));
    }
    // The record is data of the root file system: it must not send us to remove other things.
    for file in &record.files {
        let known = crate::base::SEARCH_PATH
            .iter()
            .chain(crate::base::CERTIFICATE_PATH)
            .chain(&["/etc/systemd/system/systemd-sysext.service.d"])
            .any(|folder| {
                file.path
                    .rsplit_once('/')
                    .is_some_and(|(parent, _)| parent == *folder)
            });
        if !known {
            return Err(useless(format!(
                "it lists {}, which prism-sysext never places",
                file.path
            )));
        }
    }
    Ok(record)
}
