//! What an apply leaves behind in the root file system, to be found by the next one.
//!
//! The record is as hostile as the rest of the root file system: it is
//! believed only for paths where this program may place files, and only while
//! the digests agree.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PlacedKind;
use crate::base::rootfs::RootFs;
use crate::base::unit::enablement_link;
use crate::finding::{Finding, Findings};
use crate::io::hex;
use crate::io::root::{RootDir, RootError};
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CERTIFICATE_DIRS, CERTIFICATE_STORE, CONFEXT_DIRS, SYSEXT_DIRS};

/// Where the record is, inside the root file system.
pub(crate) const RECORD_PATH: &str = "/var/lib/prism-sysext/applied.json";

/// The folder that holds nothing but the record.
const RECORD_DIR: &str = "/var/lib/prism-sysext";

/// Most of a record that is read.
const RECORD_LIMIT: u64 = 4 * 1024 * 1024;

/// The format this program writes.
const SCHEMA_VERSION: u32 = 1;

/// A file that an apply wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedFile {
    /// The path inside the root file system.
    pub path: String,
    /// What it is.
    pub kind: PlacedKind,
    /// The extensions that need it; none means all.
    pub extensions: Vec<String>,
    /// Its length in bytes; of a folder that of its files.
    pub size: u64,
    /// The SHA-256 of its bytes, or the digest of [`crate::tree::folder`], in lower-case hex.
    pub sha256: String,
}

/// A link that an apply made to start a unit at boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedLink {
    /// The path inside the root file system.
    pub path: String,
    /// Where it points.
    pub target: String,
}

/// All that applies did to a root file system. The same input gives the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The format, now 1.
    pub schema_version: u32,
    /// Name and version of the program that wrote it.
    pub tool: String,
    /// The files, by path. A path may occur twice after an apply that was killed.
    pub files: Vec<RecordedFile>,
    /// The links.
    pub links: Vec<RecordedLink>,
    /// Folders that did not exist before, outermost first.
    pub folders: Vec<String>,
}

impl Record {
    /// An empty record of this program.
    pub(crate) fn new(tool: &str) -> Record {
        Record {
            schema_version: SCHEMA_VERSION,
            tool: tool.to_owned(),
            ..Record::default()
        }
    }

    /// Reads the record; `None` when nothing was ever applied.
    ///
    /// Fails with `record-unreadable` when it is not one of ours.
    pub(crate) fn read(root: &dyn RootFs) -> Result<Option<Record>, Findings> {
        let damaged = |message: String| {
            Finding::error("record-unreadable", message)
                .in_file(RECORD_PATH)
                .help("remove it to start afresh; files placed before then need --force")
        };
        let bytes = root
            .read(Path::new(RECORD_PATH), RECORD_LIMIT)
            .map_err(|error| damaged(error.to_string()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
            // Where, not what: the text of the parser may quote the file.
            let (line, column) = (error.line(), error.column());
            damaged(format!("the record of earlier applies is no valid JSON record (line {line}, column {column})"))
        })?;
        if record.schema_version != SCHEMA_VERSION {
            return Err(damaged(format!(
                "the record of earlier applies has format {}, this program knows {SCHEMA_VERSION}",
                record.schema_version
            ))
            .into());
        }
        match record.flaw() {
            Some(flaw) => Err(damaged(format!("the record of earlier applies {flaw}")).into()),
            None => Ok(Some(record)),
        }
    }

    /// What no record written by this program has.
    fn flaw(&self) -> Option<String> {
        for file in &self.files {
            if !file.kind.may_be_at(&file.path) {
                return Some(format!(
                    "lists `{}`, where no apply places files",
                    file.path.escape_debug()
                ));
            }
            if file.digest().is_none() {
                return Some(format!("has no SHA-256 for `{}`", file.path.escape_debug()));
            }
        }
        let units = [ExtensionKind::Sysext, ExtensionKind::Confext].map(ExtensionKind::unit);
        let known =
            |link: &RecordedLink| units.iter().any(|unit| enablement_link(unit) == link.path);
        if !self.links.iter().all(known) {
            return Some("lists a link that no apply makes".to_owned());
        }
        if !self.folders.iter().all(|folder| may_make_folder(folder)) {
            return Some("lists a folder that no apply makes".to_owned());
        }
        None
    }

    /// Whether these bytes at this path were placed by an earlier apply.
    pub(crate) fn owns(&self, path: &str, digest: Option<[u8; 32]>) -> bool {
        digest.is_some()
            && self
                .files
                .iter()
                .any(|file| file.path == path && file.digest() == digest)
    }

    /// Whether an earlier apply placed anything at this path.
    pub(crate) fn lists(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// The sizes that files at this path had when they were placed.
    pub(crate) fn sizes(&self, path: &str) -> Vec<u64> {
        self.files
            .iter()
            .filter(|file| file.path == path)
            .map(|file| file.size)
            .collect()
    }

    /// The extensions with a recorded image.
    pub(crate) fn extensions(&self) -> Vec<String> {
        let images = self.files.iter().filter(|file| file.kind.is_extension());
        let mut names: Vec<String> = images.flat_map(|file| file.extensions.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Adds what another record lists, for the time in which either may be true.
    pub(crate) fn union(&self, other: &Record) -> Record {
        let mut both = self.clone();
        both.files.extend(other.files.iter().cloned());
        both.links.extend(other.links.iter().cloned());
        both.folders.extend(other.folders.iter().cloned());
        both.tidy();
        both
    }

    /// Sorts, so that the same content gives the same bytes; outer folders come before inner ones.
    pub(crate) fn tidy(&mut self) {
        self.files.sort();
        self.files.dedup();
        self.links.sort();
        self.links.dedup();
        self.folders.sort();
        self.folders.dedup();
    }

    /// Whether there is nothing left to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.links.is_empty()
    }

    /// Writes the record; its folder must exist.
    pub(crate) fn write(&self, root: &RootDir) -> Result<(), RootError> {
        root.write_atomic(
            Path::new(RECORD_PATH),
            0o644,
            &mut self.to_json().as_slice(),
        )
    }

    /// The bytes that [`write`](Self::write) writes.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers in a struct: serde_json has no way to fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Makes the folder of the record; returns the folders that were missing.
    pub(crate) fn make_folder(root: &RootDir) -> Result<Vec<PathBuf>, RootError> {
        root.make_dirs(Path::new(RECORD_DIR))
    }
}

impl RecordedFile {
    /// The digest as bytes.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        hex::decode(&self.sha256)?.try_into().ok()
    }
}

/// Whether the folder is on the way to a place where an apply writes.
fn may_make_folder(folder: &str) -> bool {
    let own = [RECORD_DIR, "/etc/systemd/system/sysinit.target.wants"];
    let places = [
        SYSEXT_DIRS,
        CONFEXT_DIRS,
        CERTIFICATE_DIRS,
        super::DROP_IN_DIRS,
        &own,
        &[CERTIFICATE_STORE],
    ];
    places.iter().flat_map(|dirs| dirs.iter()).any(|dir| {
        dir.strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(record: &str) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/prism-sysext")).unwrap();
        std::fs::write(dir.path().join("var/lib/prism-sysext/applied.json"), record).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    fn record() -> Record {
        let mut record = Record::new("prism-sysext 0.1.0");
        record.files.push(RecordedFile {
            path: "/var/lib/extensions/a.raw".to_owned(),
            kind: PlacedKind::Image,
            extensions: vec!["a".to_owned()],
            size: 1,
            sha256: "00".repeat(32),
        });
        record.folders.push("/var/lib/extensions".to_owned());
        record
    }

    #[test]
    fn a_record_is_read_back() {
        let (_dir, root) = root_with(&String::from_utf8(record().to_json()).unwrap());
        let read = Record::read(&root).unwrap().unwrap();
        assert_eq!(read, record());
        assert!(read.owns("/var/lib/extensions/a.raw", Some([0; 32])));
        assert!(!read.owns("/var/lib/extensions/a.raw", Some([1; 32])));
        assert!(!read.owns("/var/lib/extensions/a.raw", None));
        assert_eq!(read.extensions(), ["a"]);
    }

    #[test]
    fn foreign_records_are_not_believed() {
        let json = |change: &dyn Fn(&mut Record)| {
            let mut record = record();
            change(&mut record);
            String::from_utf8(record.to_json()).unwrap()
        };
        for text in [
            json(&|record| record.files[0].path = "/etc/passwd".to_owned()),
            json(&|record| record.files[0].sha256 = "x".to_owned()),
            json(&|record| record.folders.push("/home".to_owned())),
            json(&|record| record.schema_version = 2),
            json(&|record| {
                let link = RecordedLink {
                    path: "/etc/mtab".to_owned(),
                    target: String::new(),
                };
                record.links.push(link);
            }),
            "secret".to_owned(),
        ] {
            let (_dir, root) = root_with(&text);
            let findings = Record::read(&root).unwrap_err();
            assert_eq!(findings.0[0].id, "record-unreadable");
            assert!(!findings.to_string().contains("secret"));
        }
    }
}
