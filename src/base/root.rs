//! A root file system folder that no path can leave.
//!
//! Every path is resolved by the kernel with the folder as its root
//! (`openat2(2)`, `RESOLVE_IN_ROOT`): absolute links and `..` lead to places
//! inside, as they will on the booted system. Only regular files are read,
//! so neither a fifo nor a device can hang or feed us.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::pending::PendingFile;

/// Most entries of one directory that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// How often a lookup is tried again when the tree changes under it (`openat2(2)`, `EAGAIN`).
const TRIES: usize = 16;

/// An opened root file system folder.
#[derive(Debug)]
pub struct RootDir {
    path: PathBuf,
    dir: OwnedFd,
}

/// What stands at a path, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file and its size.
    File(u64),
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device 1:3, which systemd reads as a mask.
    DevNull,
    /// Block device.
    BlockDevice,
    /// Anything else.
    Other,
}

/// What failed inside the root, with the path as seen from inside.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path} in the root file system {root}: {source}")]
pub struct RootError {
    doing: &'static str,
    path: String,
    root: String,
    /// What the kernel said.
    pub source: io::Error,
}

type Result<T> = std::result::Result<T, RootError>;

impl RootDir {
    /// Opens the folder at `path`.
    pub fn open(path: &Path) -> Result<RootDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let root = match opened {
            Ok(dir) => RootDir {
                path: path.to_owned(),
                dir,
            },
            Err(error) => {
                return Err(RootError {
                    doing: "opening",
                    path: "/".into(),
                    root: path.display().to_string(),
                    source: error.into(),
                });
            }
        };
        match root.open_at("/", OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOSYS) => Err(root.error(
                "resolving",
                "/",
                io::Error::other("the kernel has no openat2, Linux 5.6 or newer is needed"),
            )),
            _ => Ok(root),
        }
    }

    /// The folder as the user named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, doing: &'static str, path: &str, source: impl Into<io::Error>) -> RootError {
        RootError {
            doing,
            path: path.to_owned(),
            root: self.path.display().to_string(),
            source: source.into(),
        }
    }

    fn open_at(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(
                &self.dir,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN) if tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// Opens a regular file, following links inside the root; none if nothing is there.
    pub fn open_file(&self, path: &str) -> Result<Option<File>> {
        // Not blocking and not a controlling terminal: the kind is only known once it is open.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match self.open_at(path, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(self.error("opening", path, error)),
        };
        let file = File::from(fd);
        let metadata = file
            .metadata()
            .map_err(|error| self.error("looking at", path, error))?;
        if metadata.is_file() {
            Ok(Some(file))
        } else {
            Err(self.error(
                "reading",
                path,
                io::Error::other("it is not a regular file"),
            ))
        }
    }

    /// Reads a regular file of at most `limit` bytes; none if nothing is there.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| self.error("reading", path, error))?;
        if bytes.len() as u64 > limit {
            let text = format!("it is larger than {limit} bytes");
            return Err(self.error("reading", path, io::Error::other(text)));
        }
        Ok(Some(bytes))
    }

    /// What stands at `path`, its last component not followed; none if nothing.
    pub fn kind(&self, path: &str) -> Result<Option<EntryKind>> {
        let (parent, name) = self.split(path)?;
        let Some(dir) = self.open_folder(parent)? else {
            return Ok(None);
        };
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(entry_kind(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("looking at", path, error)),
        }
    }

    /// What `path` leads to, links followed inside the root; none if nothing.
    pub fn target_kind(&self, path: &str) -> Result<Option<EntryKind>> {
        match self.open_at(path, OFlags::PATH) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)
                    .map_err(|error| self.error("looking at", path, error))?;
                Ok(Some(entry_kind(&stat)))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.error("looking at", path, error)),
        }
    }

    /// Permission bits of what `path` leads to; none if nothing.
    pub fn mode(&self, path: &str) -> Result<Option<u32>> {
        match self.open_at(path, OFlags::PATH) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)
                    .map_err(|error| self.error("looking at", path, error))?;
                Ok(Some(stat.st_mode & 0o7777))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.error("looking at", path, error)),
        }
    }

    /// The target of a symbolic link, as written; none if there is no link.
    pub fn read_link(&self, path: &str) -> Result<Option<PathBuf>> {
        let (parent, name) = self.split(path)?;
        let Some(dir) = self.open_folder(parent)? else {
            return Ok(None);
        };
        match rustix::fs::readlinkat(&dir, name, Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()).into())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(self.error("reading the link", path, error)),
        }
    }

    /// The names in a folder, sorted; empty if there is no folder.
    pub fn list(&self, path: &str) -> Result<Vec<OsString>> {
        let Some(dir) = self.open_folder(path)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        let entries =
            rustix::fs::Dir::read_from(&dir).map_err(|error| self.error("listing", path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.error("listing", path, error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
            if names.len() > MAX_ENTRIES {
                let text = format!("it has more than {MAX_ENTRIES} entries");
                return Err(self.error("listing", path, io::Error::other(text)));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes a folder and all that lead to it, mode 0755 whatever the umask; returns those made.
    pub fn make_dirs(&self, path: &str) -> Result<Vec<String>> {
        let mut made = Vec::new();
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let parent = if so_far.is_empty() { "/" } else { &so_far };
            let dir = self.open_folder(parent)?.ok_or_else(|| {
                self.error("making", parent, io::Error::from(io::ErrorKind::NotFound))
            })?;
            so_far = format!("{so_far}/{part}");
            if self.target_kind(&so_far)? == Some(EntryKind::Directory) {
                continue;
            }
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::mkdirat(&dir, part, mode)
                .map_err(|error| self.error("making the folder", &so_far, error))?;
            rustix::fs::chmodat(&dir, part, mode, AtFlags::empty())
                .map_err(|error| self.error("making the folder", &so_far, error))?;
            made.push(so_far.clone());
        }
        Ok(made)
    }

    /// Starts a file that replaces what is at `path`, a link included, once it is committed.
    pub fn create(&self, path: &str, mode: u32) -> Result<PendingFile> {
        let (parent, name) = self.split(path)?;
        let dir = self
            .open_at(parent, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| self.error("opening", parent, error))?;
        PendingFile::create_in(dir, name, mode).map_err(|error| self.error("writing", path, error))
    }

    /// Makes a symbolic link where nothing is.
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let (parent, name) = self.split(path)?;
        let dir = self
            .open_folder(parent)?
            .ok_or_else(|| self.error("linking", path, io::Error::from(io::ErrorKind::NotFound)))?;
        rustix::fs::symlinkat(target, &dir, name)
            .map_err(|error| self.error("linking", path, error))
    }

    /// Removes a file or link, its last component not followed; whether something was there.
    pub fn remove(&self, path: &str) -> Result<bool> {
        self.unlink(path, AtFlags::empty())
    }

    /// Removes an empty folder; whether it was there.
    pub fn remove_folder(&self, path: &str) -> Result<bool> {
        self.unlink(path, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, path: &str, flags: AtFlags) -> Result<bool> {
        let (parent, name) = self.split(path)?;
        let Some(dir) = self.open_folder(parent)? else {
            return Ok(false);
        };
        match rustix::fs::unlinkat(&dir, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.error("removing", path, error)),
        }
    }

    /// Free bytes of the file system that holds a folder, or would hold it.
    pub fn free_bytes(&self, path: &str) -> Result<u64> {
        let mut folder = path;
        loop {
            match self.open_at(
                if folder.is_empty() { "/" } else { folder },
                OFlags::PATH | OFlags::DIRECTORY,
            ) {
                Ok(fd) => {
                    let stat = rustix::fs::fstatvfs(&fd)
                        .map_err(|error| self.error("measuring", folder, error))?;
                    return Ok(stat.f_bavail.saturating_mul(stat.f_frsize));
                }
                Err(Errno::NOENT) if !folder.is_empty() => {
                    folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
                }
                Err(error) => return Err(self.error("measuring", folder, error)),
            }
        }
    }

    /// Owner of the root folder itself.
    pub fn owner(&self) -> Result<u32> {
        rustix::fs::fstat(&self.dir)
            .map(|stat| stat.st_uid)
            .map_err(|error| self.error("looking at", "/", error))
    }

    /// Gives an open file to root, which only root can do.
    pub fn give_to_root(&self, file: &File, path: &str) -> Result<()> {
        let metadata = file
            .metadata()
            .map_err(|error| self.error("looking at", path, error))?;
        if (metadata.uid(), metadata.gid()) == (0, 0) {
            return Ok(());
        }
        let root = (Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT));
        rustix::fs::fchown(file.as_fd(), root.0, root.1)
            .map_err(|error| self.error("changing the owner of", path, error))
    }

    fn open_folder(&self, path: &str) -> Result<Option<OwnedFd>> {
        match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("opening", path, error)),
        }
    }

    fn split<'a>(&self, path: &'a str) -> Result<(&'a str, &'a OsStr)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(self.error("resolving", path, io::Error::other("it names no file")));
        }
        Ok((
            if parent.is_empty() { "/" } else { parent },
            OsStr::from_bytes(name.as_bytes()),
        ))
    }
}

fn entry_kind(stat: &rustix::fs::Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::CharacterDevice if stat.st_rdev == rustix::fs::makedev(1, 3) => {
            EntryKind::DevNull
        }
        _ => EntryKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn root() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("outside"), "secret").unwrap();
        let root = RootDir::open(&dir.path().join("root")).unwrap();
        (dir, root)
    }

    #[test]
    fn links_lead_inside() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        std::fs::create_dir(inside.join("etc")).unwrap();
        std::fs::write(inside.join("outside"), "inside").unwrap();
        symlink("../../outside", inside.join("etc/up")).unwrap();
        symlink("/outside", inside.join("etc/abs")).unwrap();
        symlink(dir.path(), inside.join("etc/away")).unwrap();
        symlink("loop", inside.join("etc/loop")).unwrap();
        assert_eq!(root.read("/etc/up", 10).unwrap().unwrap(), b"inside");
        assert_eq!(root.read("/etc/abs", 10).unwrap().unwrap(), b"inside");
        assert_eq!(root.read("/etc/away/outside", 10).unwrap(), None);
        assert!(root.read("/etc/loop", 10).is_err());
        assert_eq!(root.kind("/etc/up").unwrap(), Some(EntryKind::Symlink));
        assert_eq!(
            root.read_link("/etc/abs").unwrap(),
            Some(PathBuf::from("/outside"))
        );
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        std::fs::write(inside.join("big"), [0; 11]).unwrap();
        assert!(
            root.read("/big", 10)
                .unwrap_err()
                .to_string()
                .contains("larger than 10")
        );
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            inside.join("fifo"),
            Mode::from_raw_mode(0o644),
        )
        .unwrap();
        assert!(
            root.read("/fifo", 10)
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
        assert!(root.read("/", 10).is_err());
        assert_eq!(root.read("/none/x", 10).unwrap(), None);
    }

    #[test]
    fn writes_replace_links_and_make_folders_with_their_own_mode() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        assert_eq!(root.make_dirs("/a/b").unwrap(), ["/a", "/a/b"]);
        assert!(root.make_dirs("/a/b").unwrap().is_empty());
        assert_eq!(
            std::fs::metadata(inside.join("a/b"))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777,
            0o755
        );
        symlink(dir.path().join("outside"), inside.join("a/b/f")).unwrap();
        let mut pending = root.create("/a/b/f", 0o644).unwrap();
        pending.file().write_all(b"new").unwrap();
        pending.commit().unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("outside")).unwrap(),
            b"secret"
        );
        assert_eq!(root.read("/a/b/f", 10).unwrap().unwrap(), b"new");
        root.symlink("/x", "/a/l").unwrap();
        assert!(root.symlink("/x", "/a/l").is_err());
        assert!(root.remove("/a/l").unwrap());
        assert!(!root.remove("/a/l").unwrap());
        assert!(root.free_bytes("/a/none/deeper").unwrap() > 0);
        for bad in ["", "/", "/a/..", "/a/."] {
            assert!(root.create(bad, 0o644).is_err(), "{bad}");
        }
    }
}
