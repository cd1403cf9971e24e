//! Extensions of a base that are folders.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::rootfs::RootFs;
use crate::image::dissect::{Content, Files, content};
use crate::image::gpt::types::Designator;
use crate::image::read::{FileKind, FsError, Metadata, Xattr};
use crate::io::root::{EntryKind, RootDir, RootError};

/// Most names of one folder that are read.
const NAME_LIMIT: usize = 65_536;

/// What an extension that is a folder holds; `None` when there is no such folder.
pub fn folder_content(root: &dyn RootFs, path: &Path) -> Result<Option<Content>, FsError> {
    match root.enter(path).map_err(|error| fs_error(path, error))? {
        Some(folder) => {
            let files: &dyn Files = folder.as_ref();
            content(files, Designator::Root).map(Some)
        }
        None => Ok(None),
    }
}

impl Files for RootDir {
    fn kind(&self, path: &Path) -> Result<Option<FileKind>, FsError> {
        match self.metadata(path) {
            Ok(found) => Ok(found.map(|found| file_kind(found.kind))),
            // A file where a folder was looked for.
            Err(RootError::Io { errno, .. }) if errno == Errno::NOTDIR => Ok(None),
            Err(error) => Err(fs_error(path, error)),
        }
    }

    fn entries(&self, folder: &Path) -> Result<Vec<(OsString, FileKind)>, FsError> {
        let names = self
            .list(folder, NAME_LIMIT)
            .map_err(|error| fs_error(folder, error))?;
        if names.truncated {
            return Err(FsError::TooManyEntries(NAME_LIMIT));
        }
        let mut entries = Vec::new();
        for name in names.names {
            let path = folder.join(&name);
            let found = self
                .lmetadata(&path)
                .map_err(|error| fs_error(&path, error))?;
            entries.extend(found.map(|found| (name, file_kind(found.kind))));
        }
        Ok(entries)
    }

    fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
        match self.read(path, limit) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(FsError::NotFound(path.to_owned())),
            Err(error) => Err(fs_error(path, error)),
        }
    }

    fn attribute(&self, path: &Path, name: &str) -> Result<Xattr, FsError> {
        let value = RootDir::attribute(self, path, name).map_err(|error| fs_error(path, error))?;
        Ok(value.map_or(Xattr::Absent, Xattr::Value))
    }
}

impl crate::check::lint::Files for RootDir {
    fn walk(&self, limit: usize) -> Result<Vec<(PathBuf, Metadata)>, FsError> {
        let mut found = Vec::new();
        let mut pending = vec![PathBuf::from("/")];
        while let Some(folder) = pending.pop() {
            for (name, _) in self.entries(&folder)? {
                let path = folder.join(name);
                let metadata = self.lmetadata(&path);
                let Some(entry) = metadata.map_err(|error| fs_error(&path, error))? else {
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

    fn read_start(&self, path: &Path, count: u64) -> Result<Vec<u8>, FsError> {
        let start = RootDir::read_start(self, path, count);
        let start = start.map_err(|error| fs_error(path, error))?;
        start.ok_or_else(|| FsError::NotFound(path.to_owned()))
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        let target = RootDir::read_link(self, path).map_err(|error| fs_error(path, error))?;
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

fn fs_error(path: &Path, error: RootError) -> FsError {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::dissect::Fault;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_the_extension_stay_in_the_extension() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("ext/usr/lib/extension-release.d")).unwrap();
        std::fs::create_dir_all(at("usr/lib")).unwrap();
        std::fs::write(at("usr/lib/os-release"), "ID=host\n").unwrap();
        std::fs::write(at("ext/usr/lib/real"), "ID=x\n").unwrap();
        let releases = at("ext/usr/lib/extension-release.d");
        symlink("/usr/lib/real", releases.join("extension-release.ext")).unwrap();
        symlink("../os-release", releases.join("extension-release.none")).unwrap();
        std::fs::create_dir(at("ext/opt")).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let content = folder_content(&root, Path::new("/ext")).unwrap().unwrap();
        assert!(!content.has_os_release);
        let [ext, none] = content.releases.as_slice() else {
            panic!("{content:?}")
        };
        assert_eq!(ext.fields.as_ref().unwrap().get("ID"), Some("x"));
        assert_eq!(none.fault, Some(Fault::Missing));
        assert!(content.filled.contains("usr") && content.filled.contains("usr/lib"));
        assert!(
            !content.filled.contains("opt"),
            "an empty folder is not merged"
        );
        assert_eq!(folder_content(&root, Path::new("/gone")).unwrap(), None);
    }
}
