//! What the file system of an image holds that decides how systemd treats it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::image::filesystem::{FileKind, FileSystem, FsError, Metadata, Xattr};
use crate::image::gpt_types::Designator;
use crate::release::{ExtensionKind, MAX_SIZE, ReleaseFields};

/// Endings of unit files (systemd `src/basic/unit-def.c`).
const UNIT_SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

/// What the file system of an image holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// All release files, also those that fit no name.
    pub releases: Vec<ReleaseFile>,
    /// Whether `usr/lib/os-release` leads to something, which is forbidden in a sysext.
    pub has_os_release: bool,
    /// Whether `etc/os-release` leads to something, which makes it look like an OS.
    pub has_etc_os_release: bool,
    /// What is at the top.
    pub top_level: Vec<String>,
    /// What of that is never merged.
    pub outside: Vec<String>,
    /// Unit files in `usr/lib/systemd/system`.
    pub units: Vec<String>,
}

/// One `extension-release.SUFFIX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFile {
    /// By the folder it is in.
    pub kind: ExtensionKind,
    /// What follows `extension-release.` in its name.
    pub suffix: String,
    /// Whether it is a symbolic link; then only its exact name counts.
    pub is_symlink: bool,
    /// What it says, unless systemd would reject it as a whole.
    pub fields: Option<ReleaseFields>,
    /// Why there are no fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The attribute `user.extension-release.strict`.
    pub strict: Strict,
}

/// The attribute that decides whether an image may have another name than its release file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strict {
    /// Not set, which counts as strict.
    Unset,
    /// Set to a true value, or one that is no boolean, which counts as true.
    Yes,
    /// Set to a false value: the file counts for any image name.
    No,
    /// The reader of this file system knows no attributes.
    Unknown,
}

/// Looks at everything in the file system that decides how systemd treats it.
pub(super) fn content(fs: &FileSystem, designator: Designator) -> Result<Content, FsError> {
    // A usr file system is mounted at /usr, so its paths lack that part.
    let inside = |path: &str| match designator {
        Designator::Root => Some(PathBuf::from(path)),
        Designator::Usr => path.strip_prefix("usr/").map(PathBuf::from),
    };
    let exists = |path: &str| -> Result<bool, FsError> {
        Ok(match inside(path) {
            Some(path) => fs.metadata(path)?.is_some(),
            None => false,
        })
    };
    let mut releases = Vec::new();
    for kind in [ExtensionKind::Sysext, ExtensionKind::Confext] {
        if let Some(dir) = inside(kind.release_dir()) {
            releases.extend(release_files(fs, kind, &dir)?);
        }
    }
    let top_level = names(fs.list("/")?.iter().map(|(name, _)| name.as_os_str()));
    let has_confext = releases
        .iter()
        .any(|release| release.kind == ExtensionKind::Confext);
    let merged = |name: &str| match name {
        "usr" | "opt" => true,
        "etc" => has_confext,
        // mkfs.ext4 makes it.
        "lost+found" => true,
        _ => false,
    };
    let outside = match designator {
        Designator::Root => top_level
            .iter()
            .filter(|name| !merged(name))
            .cloned()
            .collect(),
        Designator::Usr => Vec::new(),
    };
    let mut units = Vec::new();
    if let Some(dir) = inside("usr/lib/systemd/system") {
        let found = list_if_there(fs, &dir)?;
        let files = found
            .iter()
            .filter(|(_, it)| it.kind != FileKind::Directory);
        units = names(files.map(|(name, _)| name.as_os_str()));
        units.retain(|name| {
            name.rsplit_once('.')
                .is_some_and(|(_, suffix)| UNIT_SUFFIXES.contains(&suffix))
        });
    }
    Ok(Content {
        releases,
        has_os_release: exists("usr/lib/os-release")?,
        has_etc_os_release: exists("etc/os-release")?,
        top_level,
        outside,
        units,
    })
}

fn names<'a>(found: impl Iterator<Item = &'a OsStr>) -> Vec<String> {
    found
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

type Listing = Vec<(std::ffi::OsString, Metadata)>;

fn list_if_there(fs: &FileSystem, dir: &Path) -> Result<Listing, FsError> {
    match fs.metadata(dir)? {
        Some(found) if found.kind == FileKind::Directory => fs.list(dir),
        _ => Ok(Vec::new()),
    }
}

fn release_files(
    fs: &FileSystem,
    kind: ExtensionKind,
    dir: &Path,
) -> Result<Vec<ReleaseFile>, FsError> {
    let mut files = Vec::new();
    for (name, metadata) in list_if_there(fs, dir)? {
        // A name that is not UTF-8 is no valid image name.
        let Some(suffix) = name
            .to_str()
            .and_then(|name| name.strip_prefix("extension-release."))
        else {
            continue;
        };
        if !matches!(metadata.kind, FileKind::File | FileKind::Symlink) {
            continue;
        }
        let path = dir.join(&name);
        let is_symlink = metadata.kind == FileKind::Symlink;
        let parsed = match fs.read(&path, MAX_SIZE) {
            Ok(bytes) => ReleaseFields::parse(&bytes).map_err(|error| error.to_string()),
            // A link may lead nowhere; a damaged file system is another matter.
            Err(
                error @ (FsError::NotFound(_)
                | FsError::WrongKind { .. }
                | FsError::Loop(_)
                | FsError::TooBig { .. }),
            ) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        let strict = match is_symlink {
            true => Strict::Unset,
            false => strict(fs.xattr(&path, "user.extension-release.strict")?),
        };
        let problem = parsed.as_ref().err().cloned();
        files.push(ReleaseFile {
            kind,
            suffix: suffix.to_owned(),
            is_symlink,
            fields: parsed.ok(),
            problem,
            strict,
        });
    }
    Ok(files)
}

/// systemd `src/basic/parse-util.c`, `parse_boolean`.
fn strict(value: Xattr) -> Strict {
    match value {
        Xattr::Unknown => Strict::Unknown,
        Xattr::Absent => Strict::Unset,
        Xattr::Value(bytes) => {
            let word = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            match word.as_str() {
                "0" | "no" | "n" | "false" | "f" | "off" => Strict::No,
                _ => Strict::Yes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strict_attribute_is_a_boolean_of_systemd() {
        let of = |text: &str| strict(Xattr::Value(text.as_bytes().to_vec()));
        assert_eq!(of("FALSE"), Strict::No);
        assert_eq!(of("0"), Strict::No);
        assert_eq!(of("1"), Strict::Yes);
        assert_eq!(of(""), Strict::Yes);
        assert_eq!(strict(Xattr::Absent), Strict::Unset);
    }
}
