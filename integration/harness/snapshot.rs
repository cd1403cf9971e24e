//! What a folder holds, to tell whether it has changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every entry below a folder by its path.
pub(crate) type Snapshot = BTreeMap<PathBuf, Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Kind and permissions.
    pub(crate) mode: u32,
    /// Content of a file (of huge ones only the size), target of a link.
    pub(crate) content: Vec<u8>,
    owner: u32,
    /// Time of change and inode: something was written, if only the same again.
    written: (i64, i64, u64),
}

impl Entry {
    pub(crate) fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub(crate) fn is_link(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// The same, whenever it was written.
    fn is_like(&self, other: &Entry) -> bool {
        (self.mode, self.owner) == (other.mode, other.owner) && self.content == other.content
    }

    pub(crate) fn of(path: &Path) -> Entry {
        let metadata = fs::symlink_metadata(path).unwrap();
        let content = if metadata.is_symlink() {
            let target = fs::read_link(path).unwrap();
            target.into_os_string().into_encoded_bytes()
        } else if metadata.is_dir() {
            Vec::new()
        } else if metadata.is_file() && metadata.len() < 16 << 20 {
            fs::read(path).unwrap()
        } else {
            metadata.len().to_string().into()
        };
        Entry {
            mode: metadata.mode(),
            content,
            owner: metadata.uid(),
            written: (metadata.mtime(), metadata.mtime_nsec(), metadata.ino()),
        }
    }
}

/// Looks at everything below a folder; no link is followed, nothing but files is opened.
pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let entries = walkdir::WalkDir::new(root).into_iter();
    entries
        .map(|entry| {
            let path = entry.unwrap().into_path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            (name, Entry::of(&path))
        })
        .collect()
}

/// A path that two snapshots do not have alike, whenever it was written.
pub(crate) fn difference(before: &Snapshot, after: &Snapshot) -> Option<String> {
    let paths = before.keys().chain(after.keys());
    let word = |path| match (before.get(path), after.get(path)) {
        (Some(old), Some(new)) if old.is_like(new) => None,
        (Some(_), Some(_)) => Some("changed"),
        (Some(_), None) => Some("is gone"),
        (None, _) => Some("is new"),
    };
    let mut differences =
        paths.filter_map(|path| Some(format!("{} {}", path.display(), word(path)?)));
    differences.next()
}

/// Asserts that two folders hold the same, whenever it was written.
#[track_caller]
pub(crate) fn assert_same(before: &Snapshot, after: &Snapshot) {
    assert_eq!(difference(before, after), None);
}

/// Copies a tree of files, folders and links.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
        } else if entry.file_type().is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
