//! What is looked at, whether it is an image or a folder: one read-only view.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::FsError;
use super::file_system::FileSystem;
use super::metadata::{FileKind, Metadata, Xattr};
use crate::io::root::{EntryKind, RootDir, RootError};

/// Most names of one folder that are read.
const NAME_LIMIT: usize = 65_536;

/// The files of an extension or a base. Links stay inside of it.
pub trait FileView {
    /// What is at a path, links followed; nothing also where a link leads nowhere.
    fn kind(&self, path: &Path) -> Result<Option<FileKind>, FsError>;
    /// Names in a folder and what they are themselves.
    fn entries(&self, folder: &Path) -> Result<Vec<(OsString, FileKind)>, FsError>;
    /// The bytes of a regular file of at most `limit` bytes, links followed.
    fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FsError>;
    /// The first bytes of a regular file, at most `count`.
    fn start(&self, path: &Path, count: u64) -> Result<Vec<u8>, FsError>;
    /// The target of a symbolic link.
    fn target(&self, path: &Path) -> Result<PathBuf, FsError>;
    /// An extended attribute, by its full name.
    fn attribute(&self, path: &Path, name: &str) -> Result<Xattr, FsError>;
    /// Everything in it by absolute path, folders before what is in them; an error if that is more
    /// than `limit` entries.
    fn walk(&self, limit: usize) -> Result<Vec<(PathBuf, Metadata)>, FsError>;
    /// Whether a walk is faster than going folder by folder to the places that matter.
    fn walks_fast(&self) -> bool {
        false
    }
}

impl FileView for FileSystem {
    fn kind(&self, path: &Path) -> Result<Option<FileKind>, FsError> {
        Ok(self.metadata(path)?.map(|found| found.kind))
    }

    fn entries(&self, folder: &Path) -> Result<Vec<(OsString, FileKind)>, FsError> {
        let entries = self.list(folder)?.into_iter();
        Ok(entries.map(|(name, found)| (name, found.kind)).collect())
    }

    fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
        self.read(path, limit)
    }

    fn start(&self, path: &Path, count: u64) -> Result<Vec<u8>, FsError> {
        self.read_start(path, count)
    }

    fn target(&self, path: &Path) -> Result<PathBuf, FsError> {
        self.read_link(path)
    }

    fn attribute(&self, path: &Path, name: &str) -> Result<Xattr, FsError> {
        self.xattr(path, name)
    }

    fn walk(&self, limit: usize) -> Result<Vec<(PathBuf, Metadata)>, FsError> {
        FileSystem::walk(self, limit)
    }

    fn walks_fast(&self) -> bool {
        true
    }
}

impl FileView for RootDir {
    fn kind(&self, path: &Path) -> Result<Option<FileKind>, FsError> {
        match self.metadata(path) {
            Ok(found) => Ok(found.map(|found| file_kind(found.kind))),
            // A file where a folder was looked for.
            Err(RootError::Io { errno, .. }) if errno == Errno::NOTDIR => Ok(None),
            Err(error) => Err(folder_error(path, error)),
        }
    }

    fn entries(&self, folder: &Path) -> Result<Vec<(OsString, FileKind)>, FsError> {
        let names = self
            .list(folder, NAME_LIMIT)
            .map_err(|error| folder_error(folder, error))?;
        if names.truncated {
            return Err(FsError::TooManyEntries(NAME_LIMIT));
        }
        let mut entries = Vec::new();
        for name in names.names {
            let path = folder.join(&name);
            let found = self
                .lmetadata(&path)
                .map_err(|error| folder_error(&path, error))?;
            entries.extend(found.map(|found| (name, file_kind(found.kind))));
        }
        Ok(entries)
    }

    fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
        match self.read(path, limit) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(FsError::NotFound(path.to_owned())),
            Err(error) => Err(folder_error(path, error)),
        }
    }

    fn attribute(&self, path: &Path, name: &str) -> Result<Xattr, FsError> {
        let value =
            RootDir::attribute(self, path, name).map_err(|error| folder_error(path, error))?;
        Ok(value.map_or(Xattr::Absent, Xattr::Value))
    }
    fn walk(&self, limit: usize) -> Result<Vec<(PathBuf, Metadata)>, FsError> {
        let mut found = Vec::new();
        let mut pending = vec![PathBuf::from("/")];
        while let Some(folder) = pending.pop() {
            for (name, _) in self.entries(&folder)? {
                let path = folder.join(name);
                let metadata = self.lmetadata(&path);
                let Some(entry) = metadata.map_err(|error| folder_error(&path, error))? else {
                    continue;
                };
                if entry.kind == EntryKind::Directory {
                    pending.push(path.clone());
                }
                found.push((
                    path,
                    Metadata {
                        kind: file_kind(entry.kind),
                        mode: u16::try_from(entry.mode).unwrap_or_default(),
                        uid: entry.uid,
                        gid: entry.gid,
                        size: entry.size,
                        mtime: 0,
                        mtime_nanos: 0,
                        device: None,
                    },
                ));
                if found.len() > limit {
                    return Err(FsError::TooManyEntries(limit));
                }
            }
        }
        Ok(found)
    }

    fn start(&self, path: &Path, count: u64) -> Result<Vec<u8>, FsError> {
        let start = RootDir::read_start(self, path, count);
        let start = start.map_err(|error| folder_error(path, error))?;
        start.ok_or_else(|| FsError::NotFound(path.to_owned()))
    }

    fn target(&self, path: &Path) -> Result<PathBuf, FsError> {
        let target = RootDir::read_link(self, path).map_err(|error| folder_error(path, error))?;
        target.ok_or_else(|| FsError::NotFound(path.to_owned()))
    }
}

fn file_kind(kind: EntryKind) -> FileKind {
    match kind {
        EntryKind::Directory => FileKind::Directory,
        EntryKind::File => FileKind::File,
        EntryKind::Link => FileKind::Symlink,
        EntryKind::CharDevice => FileKind::CharDevice,
        EntryKind::BlockDevice => FileKind::BlockDevice,
        EntryKind::Fifo => FileKind::Fifo,
        // Neither is ever looked into.
        EntryKind::Socket | EntryKind::Unknown => FileKind::Socket,
    }
}

pub(crate) fn folder_error(path: &Path, error: RootError) -> FsError {
    match error {
        RootError::Io { errno, .. } if errno == Errno::LOOP => FsError::Loop(path.to_owned()),
        RootError::NotAFile { .. } => FsError::WrongKind {
            path: path.to_owned(),
            expected: FileKind::File,
        },
        RootError::TooLarge { size, limit, .. } => FsError::TooBig {
            path: path.to_owned(),
            size,
            limit,
        },
        other => FsError::Io(io::Error::other(other)),
    }
}
