//! What a file system holds, in numbers: folders, the largest files, files with privileges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::lossy;
use crate::image::read::{FileKind, FileSystem, FsError, Metadata, Xattr};

/// Most entries of an image that are gone through.
pub(super) const MAX_ENTRIES: usize = 2_000_000;
/// How many of the largest files are named.
const LARGEST: usize = 10;
/// How deep folders are told of.
const DEPTH: usize = 2;
/// Most programs whose capabilities are looked up.
const MAX_PROGRAMS: usize = 4096;

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// Regular files; each name of a file with several counts.
    pub files: u64,
    /// Folders, without the root.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Pipes, sockets and devices.
    pub others: u64,
    /// Bytes of all regular files as they are read, not as they are stored.
    pub bytes: u64,
    /// Entries whose owner is not 0:0.
    pub foreign_owners: u64,
    /// Folders of the first two levels, sorted by path.
    pub top: Vec<Folder>,
    /// The largest files, largest first, ten at most.
    pub largest: Vec<Large>,
    /// Files that give their caller more rights.
    pub privileged: Vec<Privileged>,
}

/// A folder with everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// Path in the image.
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// Everything below that is no folder.
    pub files: u64,
    /// Bytes of the regular files below.
    pub bytes: u64,
}

/// A large file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Large {
    /// Path in the image.
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// A file with privileges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Privileged {
    /// Path in the image.
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// `setuid`, `setgid`, `capabilities`.
    pub by: Vec<&'static str>,
}

/// Goes through everything once.
pub(super) fn survey(fs: &FileSystem) -> Result<Survey, FsError> {
    let all = fs.walk(MAX_ENTRIES)?;
    let mut survey = Survey::default();
    let mut top: BTreeMap<&Path, Folder> = BTreeMap::new();
    let mut files: Vec<(&Path, u64)> = Vec::new();
    let mut programs = 0;
    for (path, found) in &all {
        survey.foreign_owners += u64::from((found.uid, found.gid) != (0, 0));
        let bytes = match found.kind {
            FileKind::File => found.size,
            _ => 0,
        };
        match found.kind {
            FileKind::File => survey.files += 1,
            FileKind::Directory => survey.folders += 1,
            FileKind::Symlink => survey.links += 1,
            _ => survey.others += 1,
        }
        survey.bytes = survey.bytes.saturating_add(bytes);
        if found.kind == FileKind::Directory && depth(path) <= DEPTH {
            let folder = Folder {
                path: path.clone(),
                files: 0,
                bytes: 0,
            };
            top.insert(path, folder);
        }
        if found.kind != FileKind::Directory {
            for above in path.ancestors().skip(1) {
                if let Some(folder) = top.get_mut(above) {
                    folder.files += 1;
                    folder.bytes = folder.bytes.saturating_add(bytes);
                }
            }
        }
        if found.kind == FileKind::File {
            files.push((path, bytes));
            let is_program = found.mode & 0o111 != 0;
            programs += usize::from(is_program);
            let by = privileges(fs, path, *found, is_program && programs <= MAX_PROGRAMS)?;
            if !by.is_empty() {
                let path = path.clone();
                survey.privileged.push(Privileged { path, by });
            }
        }
    }
    files.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    let large = files.into_iter().take(LARGEST).map(|(path, size)| Large {
        path: path.to_owned(),
        size,
    });
    survey.largest = large.collect();
    survey.top = top.into_values().collect();
    Ok(survey)
}

fn privileges(
    fs: &FileSystem,
    path: &Path,
    found: Metadata,
    look: bool,
) -> Result<Vec<&'static str>, FsError> {
    let mut by = Vec::new();
    if found.mode & 0o4000 != 0 {
        by.push("setuid");
    }
    if found.mode & 0o2000 != 0 {
        by.push("setgid");
    }
    if look && matches!(fs.xattr(path, "security.capability")?, Xattr::Value(_)) {
        by.push("capabilities");
    }
    Ok(by)
}

/// Names in an absolute path.
fn depth(path: &Path) -> usize {
    path.components().count().saturating_sub(1)
}
