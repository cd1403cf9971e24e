//! A root file system in a folder, which no path can leave.
//!
//! Every path is resolved by the kernel with `openat2(2)` and `RESOLVE_IN_ROOT`:
//! absolute links and `..` stay inside the folder, as they would after a
//! `chroot`. Regular files are the only thing whose bytes are read, and no
//! fifo or device is ever opened, because that alone can hang or act.

mod entry;
mod error;
mod write;

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::io::open;

pub use entry::{EntryKind, FreeSpace, Metadata, Names, Ownership};
pub use error::RootError;

/// How often a lookup is tried again that raced with a rename (`EAGAIN`, openat2(2)).
const RACE_RETRIES: usize = 64;

/// An open root file system folder; all paths are looked up inside it, with or without a leading `/`.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl RootDir {
    /// Opens the folder and makes sure that the kernel can keep lookups inside.
    ///
    /// # Errors
    /// [`RootError::Io`] if it is no directory that can be opened, [`RootError::NoOpenat2`].
    pub fn open(path: &Path) -> Result<RootDir, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| RootError::Io {
            action: "open the root file system",
            path: path.to_owned(),
            errno,
        })?;
        let root = RootDir {
            fd,
            path: path.to_owned(),
        };
        match root.lookup(Path::new("."), OFlags::PATH) {
            Ok(_) => Ok(root),
            Err(Errno::NOSYS | Errno::PERM) => Err(RootError::NoOpenat2 { path: root.path }),
            Err(errno) => Err(root.failed("open", Path::new(""), errno)),
        }
    }

    /// The folder as it was given to [`open`](Self::open).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path to this very folder for calls that take no descriptor, for as long as this lives.
    pub fn place(&self) -> PathBuf {
        open::by_descriptor(&self.fd)
    }

    /// Who will own what is written.
    ///
    /// # Errors
    /// [`RootError::NotOwned`] if that would be neither root nor the owner of the root file system,
    /// [`RootError::Io`].
    pub fn ownership(&self) -> Result<Ownership, RootError> {
        let caller = rustix::process::geteuid();
        if caller.is_root() {
            return Ok(Ownership::Root);
        }
        let stat = rustix::fs::fstat(&self.fd)
            .map_err(|errno| self.failed("examine", Path::new(""), errno))?;
        if stat.st_uid == caller.as_raw() {
            return Ok(Ownership::Caller);
        }
        Err(RootError::NotOwned {
            path: self.path.clone(),
            owner: stat.st_uid,
            caller: caller.as_raw(),
        })
    }

    /// A folder in it as a root of its own, which no path can leave either; `None` when there is nothing.
    ///
    /// # Errors
    /// [`RootError::Io`], also for something that is no directory.
    pub fn enter(&self, path: &Path) -> Result<Option<RootDir>, RootError> {
        match self.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(RootDir {
                fd,
                path: self.shown(path),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("open the folder", path, errno)),
        }
    }

    /// An extended attribute of a regular file; `None` when there is none, or no such file.
    ///
    /// # Errors
    /// [`RootError::NotAFile`], [`RootError::Io`].
    pub fn attribute(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, RootError> {
        let Some((file, _)) = self.open_file(path)? else {
            return Ok(None);
        };
        let value = open::attribute(&file, name);
        value.map_err(|error| self.io_failed("read an attribute of", path, &error))
    }

    /// What `path` is after following links; `None` when there is nothing.
    ///
    /// # Errors
    /// [`RootError::Io`], also for a path through something that is no directory, and for links in
    /// a circle.
    pub fn metadata(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        self.stat(path, OFlags::PATH)
    }

    /// What `path` itself is, without following a link at its end.
    ///
    /// # Errors
    /// As [`RootDir::metadata`].
    pub fn lmetadata(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        self.stat(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Opens a regular file for reading; `None` when there is nothing.
    ///
    /// # Errors
    /// [`RootError::NotAFile`] for anything but a regular file, which is then not opened;
    /// [`RootError::Io`].
    pub fn open_file(&self, path: &Path) -> Result<Option<(File, Metadata)>, RootError> {
        // Looked at before it is opened: opening a device can act (watchdogs, tapes).
        let Some(metadata) = self.metadata(path)? else {
            return Ok(None);
        };
        let not_a_file = |found| RootError::NotAFile {
            path: self.shown(path),
            found,
        };
        if metadata.kind != EntryKind::File {
            return Err(not_a_file(metadata.kind));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match self.lookup(path, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("open", path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.failed("examine", path, errno))?;
        let metadata = Metadata::from(&stat);
        if metadata.kind != EntryKind::File {
            return Err(not_a_file(metadata.kind));
        }
        Ok(Some((File::from(fd), metadata)))
    }

    /// The bytes of a regular file of at most `limit` bytes; `None` when there is nothing.
    ///
    /// # Errors
    /// [`RootError::TooLarge`], and those of [`RootDir::open_file`].
    pub fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RootError> {
        let Some((file, metadata)) = self.open_file(path)? else {
            return Ok(None);
        };
        let too_large = |size| RootError::TooLarge {
            path: self.shown(path),
            size,
            limit,
        };
        if metadata.size > limit {
            return Err(too_large(metadata.size));
        }
        let bytes = self.read_up_to(file, path, limit.saturating_add(1))?;
        // Files of /proc and growing files are longer than they say.
        match u64::try_from(bytes.len()) {
            Ok(size) if size <= limit => Ok(Some(bytes)),
            _ => Err(too_large(limit.saturating_add(1))),
        }
    }

    /// The first bytes of a regular file, at most `count` of them; `None` when there is nothing.
    ///
    /// # Errors
    /// Those of [`RootDir::open_file`].
    pub fn read_start(&self, path: &Path, count: u64) -> Result<Option<Vec<u8>>, RootError> {
        let Some((file, _)) = self.open_file(path)? else {
            return Ok(None);
        };
        self.read_up_to(file, path, count).map(Some)
    }

    fn read_up_to(&self, file: File, path: &Path, count: u64) -> Result<Vec<u8>, RootError> {
        let mut bytes = Vec::new();
        file.take(count).read_to_end(&mut bytes).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            self.failed("read", path, errno)
        })?;
        Ok(bytes)
    }

    /// The target of a symbolic link as written; `None` when `path` is no link or not there.
    ///
    /// # Errors
    /// [`RootError::Io`], such as a missing permission.
    pub fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, RootError> {
        let fd = match self.lookup(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(self.failed("examine", path, errno)),
        };
        match rustix::fs::readlinkat(&fd, "", Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
            // What an empty path answers for anything but a link (readlink(2)).
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.failed("read the link", path, errno)),
        }
    }

    /// At most `limit` names in a directory; none when there is no such directory.
    ///
    /// # Errors
    /// [`RootError::Io`], also for something that is no directory.
    pub fn list(&self, path: &Path, limit: usize) -> Result<Names, RootError> {
        let fd = match self.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Names::default()),
            Err(errno) => return Err(self.failed("list", path, errno)),
        };
        let failed = |errno| self.failed("list", path, errno);
        let mut list = Names::default();
        for entry in Dir::read_from(&fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if list.names.len() >= limit {
                list.truncated = true;
                break;
            }
            list.names.push(OsStr::from_bytes(name).to_owned());
        }
        list.names.sort();
        Ok(list)
    }

    /// Free space where `path` is or, while it is missing, where its nearest existing folder is.
    ///
    /// # Errors
    /// [`RootError::Io`] if the place can't be examined.
    pub fn free_space(&self, path: &Path) -> Result<FreeSpace, RootError> {
        let mut place = Some(path);
        while let Some(current) = place {
            match self.lookup(relative(current), OFlags::PATH) {
                Ok(fd) => {
                    let failed = |errno| self.failed("examine", path, errno);
                    let device = rustix::fs::fstat(&fd).map_err(failed)?.st_dev;
                    let stat = rustix::fs::fstatvfs(&fd).map_err(failed)?;
                    // Root may use the blocks that are kept back for it.
                    let blocks = match rustix::process::geteuid().is_root() {
                        true => stat.f_bfree,
                        false => stat.f_bavail,
                    };
                    let known = stat.f_blocks > 0;
                    let bytes = known.then(|| blocks.saturating_mul(stat.f_frsize));
                    return Ok(FreeSpace { device, bytes });
                }
                Err(Errno::NOENT) => place = current.parent(),
                Err(errno) => return Err(self.failed("examine", path, errno)),
            }
        }
        Err(RootError::BadPath {
            path: path.to_owned(),
        })
    }

    /// Turns an error of the standard library about `path` into ours.
    pub fn io_failed(&self, action: &'static str, path: &Path, error: &io::Error) -> RootError {
        self.failed(
            action,
            path,
            Errno::from_io_error(error).unwrap_or(Errno::IO),
        )
    }

    /// The path with the folder before it, for messages.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(relative(path))
    }

    fn failed(&self, action: &'static str, path: &Path, errno: Errno) -> RootError {
        RootError::Io {
            action,
            path: self.shown(path),
            errno,
        }
    }

    fn stat(&self, path: &Path, flags: OFlags) -> Result<Option<Metadata>, RootError> {
        let fd = match self.lookup(path, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("examine", path, errno)),
        };
        match rustix::fs::fstat(&fd) {
            Ok(stat) => Ok(Some(Metadata::from(&stat))),
            Err(errno) => Err(self.failed("examine", path, errno)),
        }
    }

    /// The folder that holds `path`, resolved, and the last component.
    fn parent_of(&self, path: &Path) -> Result<(OwnedFd, CString), RootError> {
        let bad = || RootError::BadPath {
            path: path.to_owned(),
        };
        let components = plain_components(path)?;
        let (name, folders) = components.split_last().ok_or_else(bad)?;
        let folder: PathBuf = folders.iter().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self
            .lookup(relative(&folder), flags)
            .map_err(|errno| self.failed("open the folder", &folder, errno))?;
        let name = CString::new(name.as_bytes()).map_err(|_| bad())?;
        Ok((fd, name))
    }

    fn lookup(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..RACE_RETRIES {
            result = rustix::fs::openat2(&self.fd, relative(path), flags, Mode::empty(), resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }
}

/// The path as it is joined to a folder: without leading slashes, `.` for the root itself.
fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

/// The names in a path that has neither `.` nor `..`.
fn plain_components(path: &Path) -> Result<Vec<&OsStr>, RootError> {
    let bad = || RootError::BadPath {
        path: path.to_owned(),
    };
    relative(path)
        .components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(bad()),
        })
        .collect()
}

/// A root for tests.
#[cfg(test)]
mod testing {
    use super::RootDir;

    /// A folder that holds the root, and a file that lies outside of it.
    pub(crate) fn root() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("outside"), "canary").unwrap();
        let root = RootDir::open(&dir.path().join("root")).unwrap();
        (dir, root)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::root;
    use super::*;
    use rustix::fs::FileType;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let (dir, root) = root();
        let inside = root.path().to_owned();
        std::fs::write(inside.join("file"), "inside").unwrap();
        symlink("/file", inside.join("absolute")).unwrap();
        symlink("../../../file", inside.join("dots")).unwrap();
        symlink(dir.path().join("outside"), inside.join("escape")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        for path in ["file", "/file", "absolute", "dots", "../file"] {
            let bytes = root.read(Path::new(path), 100).unwrap();
            assert_eq!(bytes.as_deref(), Some(b"inside".as_slice()), "{path}");
        }
        assert_eq!(root.read(Path::new("escape"), 100).unwrap(), None);
        let error = root.read(Path::new("loop"), 100).unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
        let target = root.read_link(Path::new("absolute")).unwrap();
        assert_eq!(target.as_deref(), Some(Path::new("/file")));
        assert_eq!(root.read_link(Path::new("file")).unwrap(), None);
    }

    #[test]
    fn only_regular_files_of_limited_size_are_read() {
        let (_dir, root) = root();
        let fifo = root.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::write(root.path().join("big"), vec![0; 11]).unwrap();
        let message = |path: &str| root.read(Path::new(path), 10).unwrap_err().to_string();
        assert!(message("fifo").contains("named pipe"));
        assert!(message(".").contains("directory"));
        assert!(message("big").contains("at most 10"));
        let start = root.read_start(Path::new("big"), 4).unwrap().unwrap();
        assert_eq!(start.len(), 4);
        assert_eq!(root.read(Path::new("none"), 10).unwrap(), None);
    }

    #[test]
    fn listing_is_sorted_and_limited() {
        let (_dir, root) = root();
        for name in ["b", "a", "c"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let all = root.list(Path::new("/"), 3).unwrap();
        assert_eq!(all.names, ["a", "b", "c"].map(OsString::from));
        assert!(!all.truncated);
        assert!(root.list(Path::new("/"), 2).unwrap().truncated);
        assert_eq!(root.list(Path::new("none"), 2).unwrap(), Names::default());
    }
}
