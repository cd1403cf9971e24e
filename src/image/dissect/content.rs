//! What the file system of an image holds that decides how systemd treats it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::image::gpt::types::Designator;
use crate::image::read::view::FileView;
use crate::image::read::{FileKind, FsError, Xattr};
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::{MAX_SIZE, ReleaseFields};

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

/// Most folders that are looked into for [`Content::filled`].
const MAX_FOLDERS: usize = 4096;

/// What the file system of an image holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// All release files, also those that fit no name.
    pub releases: Vec<ReleaseFile>,
    /// Whether `usr/lib/os-release` leads to something, which is forbidden in a sysext.
    pub has_os_release: bool,
    /// Whether that is a folder, at which systemd gives up.
    #[serde(skip)]
    pub os_release_is_folder: bool,
    /// Whether `etc/os-release` leads to something, which makes it look like an OS.
    pub has_etc_os_release: bool,
    /// What is at the top.
    pub top_level: Vec<String>,
    /// What of that is never merged.
    pub outside: Vec<String>,
    /// Unit files in `usr/lib/systemd/system`.
    pub units: Vec<String>,
    /// Folders of the first two levels that hold something, such as `usr` and `usr/bin`: only
    /// such a hierarchy is merged (`merge_hierarchy`, systemd `src/sysext/sysext.c`).
    #[serde(skip)]
    pub filled: BTreeSet<String>,
}

/// One `extension-release.SUFFIX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFile {
    /// By the folder it is in.
    pub kind: ExtensionKind,
    /// What follows `extension-release.` in its name.
    pub suffix: String,
    /// Whether it is a symbolic link; then only its exact name counts.
    pub is_symlink: bool,
    /// What is wrong with it, if anything is.
    #[serde(skip)]
    pub fault: Option<Fault>,
    /// What it says, unless systemd would reject it as a whole.
    #[schemars(with = "Option<std::collections::BTreeMap<String, String>>")]
    pub fields: Option<ReleaseFields>,
    /// Why there are no fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The attribute `user.extension-release.strict`.
    pub strict: Strict,
}

/// What is wrong with a release file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A link that leads nowhere, which is as good as no file.
    Missing,
    /// A folder, or a link in a circle: systemd fails to read the whole image.
    Unreadable,
    /// A text that systemd takes for empty.
    Rejected,
}

/// The attribute that decides whether an image may have another name than its release file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strict {
    /// Not set, which counts as strict.
    Unset,
    /// Set to a true value, or one that is no boolean, which counts as true.
    Yes,
    /// Set to a false value: the file counts for any image name.
    No,
    /// The reader of the file system can't tell.
    Unknown,
}

/// Looks at everything in the file system that decides how systemd treats it.
///
/// # Errors
/// [`FsError`] if a directory or the bytes of a release file can't be read. A release file that is
/// missing behind its link, no file, too big or malformed is no error: see [`ReleaseFile::fault`].
pub fn content(fs: &dyn FileView, designator: Designator) -> Result<Content, FsError> {
    // A usr file system is mounted at /usr, so its paths lack that part.
    let inside = |path: &str| match designator {
        Designator::Root => Some(PathBuf::from(path)),
        Designator::Usr => path.strip_prefix("usr/").map(PathBuf::from),
    };
    let kind = |path: &str| match inside(path) {
        Some(path) => fs.kind(&path),
        None => Ok(None),
    };
    let mut releases = Vec::new();
    for kind in [ExtensionKind::Sysext, ExtensionKind::Confext] {
        if let Some(dir) = inside(kind.release_dir()) {
            releases.extend(release_files(fs, kind, &dir)?);
        }
    }
    let top = fs.entries(Path::new("/"))?;
    let top_level = names(top.iter().map(|(name, _)| name.as_os_str()));
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
            .filter(|(_, kind)| *kind != FileKind::Directory);
        units = names(files.map(|(name, _)| name.as_os_str()));
        units.retain(|name| {
            name.rsplit_once('.')
                .is_some_and(|(_, suffix)| UNIT_SUFFIXES.contains(&suffix))
        });
    }
    let os_release = kind("usr/lib/os-release")?;
    Ok(Content {
        releases,
        has_os_release: os_release.is_some(),
        os_release_is_folder: os_release == Some(FileKind::Directory),
        has_etc_os_release: kind("etc/os-release")?.is_some(),
        filled: filled(fs, &top_level, designator)?,
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

fn list_if_there(fs: &dyn FileView, dir: &Path) -> Result<Vec<(OsString, FileKind)>, FsError> {
    match fs.kind(dir)? {
        Some(FileKind::Directory) => fs.entries(dir),
        _ => Ok(Vec::new()),
    }
}

fn filled(
    fs: &dyn FileView,
    top_level: &[String],
    designator: Designator,
) -> Result<BTreeSet<String>, FsError> {
    let mut filled = BTreeSet::new();
    // A usr file system has a single folder at its top: itself.
    let (tops, prefix) = match designator {
        Designator::Root => (top_level.to_vec(), ""),
        Designator::Usr => (vec![String::new()], "usr"),
    };
    for top in tops {
        let entries = match list_if_there(fs, Path::new(&format!("/{top}"))) {
            Ok(entries) => entries,
            // A link in a circle is no hierarchy.
            Err(FsError::Loop(_)) => continue,
            Err(error) => return Err(error),
        };
        if entries.is_empty() {
            continue;
        }
        let shown = format!("{prefix}{top}");
        for (name, kind) in entries {
            let below = name.to_str().filter(|_| kind == FileKind::Directory);
            if let Some(name) = below
                && filled.len() < MAX_FOLDERS
                && !fs.entries(Path::new(&format!("/{top}/{name}")))?.is_empty()
            {
                filled.insert(format!("{shown}/{name}"));
            }
        }
        filled.insert(shown);
    }
    Ok(filled)
}

fn release_files(
    fs: &dyn FileView,
    kind: ExtensionKind,
    dir: &Path,
) -> Result<Vec<ReleaseFile>, FsError> {
    let mut files = Vec::new();
    for (name, found) in list_if_there(fs, dir)? {
        // A name that is not UTF-8 is no valid image name.
        let Some(suffix) = name
            .to_str()
            .and_then(|name| name.strip_prefix("extension-release."))
        else {
            continue;
        };
        if !matches!(
            found,
            FileKind::File | FileKind::Symlink | FileKind::Directory
        ) {
            continue;
        }
        let path = dir.join(&name);
        let is_symlink = found == FileKind::Symlink;
        let parsed = match fs.bytes(&path, MAX_SIZE) {
            Ok(bytes) => {
                ReleaseFields::parse(&bytes).map_err(|error| (Fault::Rejected, error.to_string()))
            }
            // A link may lead nowhere; a damaged file system is another matter.
            Err(error @ FsError::NotFound(_)) => Err((Fault::Missing, error.to_string())),
            Err(error @ (FsError::WrongKind { .. } | FsError::Loop(_))) => {
                Err((Fault::Unreadable, error.to_string()))
            }
            Err(error @ FsError::TooBig { .. }) => Err((Fault::Rejected, error.to_string())),
            Err(error) => return Err(error),
        };
        let strict = match found {
            FileKind::File => strict(fs.attribute(&path, "user.extension-release.strict")?),
            _ => Strict::Unset,
        };
        let (fault, problem) = match &parsed {
            Ok(_) => (None, None),
            Err((fault, problem)) => (Some(*fault), Some(problem.clone())),
        };
        files.push(ReleaseFile {
            kind,
            suffix: suffix.to_owned(),
            is_symlink,
            fault,
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
