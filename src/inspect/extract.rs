//! Writes the content of an image into a folder.
//!
//! The image is hostile: every path is resolved beneath the folder and through no symbolic link
//! (openat2(2), `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`), so that a link of the image leads no
//! later entry out. Owners and devices need root; who is not keeps what is permitted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use serde::Serialize;

use super::SCHEMA_VERSION;
use super::listing::Entry;
use crate::finding::Finding;
use crate::image::compressed::Sparse;
use crate::image::read::{FileKind, FileSystem, Xattrs};
use crate::io::open;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Extracted {
    /// Version of this format.
    pub schema_version: u32,
    /// Entries, of whatever kind.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Devices that only root can make.
    pub devices_left_out: u64,
    /// Attributes that could not be set.
    pub attributes_left_out: u64,
    /// Whether owners were kept.
    pub owners: bool,
}

/// Writes the entries at `paths` and below, all without any, into the folder `into`, which is made
/// if it is missing.
///
/// # Errors
/// `path-not-in-image`, `folder-not-empty`, `no-room-to-extract`, `extract-failed`. What was
/// written is removed again as far as possible, and so is `into` if it was made here; in a
/// directory that was not empty (`force`) it stays.
pub fn extract(
    fs: &FileSystem,
    entries: &[Entry],
    paths: &[PathBuf],
    into: &Path,
    force: bool,
) -> Result<Extracted, Finding> {
    let wanted: Vec<PathBuf> = paths.iter().map(|path| Path::new("/").join(path)).collect();
    for path in &wanted {
        if !entries.iter().any(|entry| entry.path == *path) {
            let message = format!("{} is not in the image", path.display());
            return Err(Finding::error("path-not-in-image", message)
                .help("`inspect IMAGE --list` shows all paths"));
        }
    }
    // Folders on the way to what is wanted come along.
    let chosen: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            let is_way = |path: &PathBuf| path.starts_with(&entry.path);
            let is_below = |path: &PathBuf| entry.path.starts_with(path);
            wanted.is_empty() || wanted.iter().any(|path| is_way(path) || is_below(path))
        })
        .collect();
    let made = match std::fs::create_dir(into) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(refused(into, &error)),
    };
    let mut names = std::fs::read_dir(into).map_err(|error| refused(into, &error))?;
    let is_empty = names.next().is_none();
    if !is_empty && !force {
        let message = format!("{} is not empty", into.display());
        return Err(Finding::error("folder-not-empty", message)
            .help("name a new folder, or give --force to write into this one"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(into, flags, Mode::empty())
        .map_err(|errno| refused(into, &errno.into()))?;
    let mut target = Target {
        fs,
        root,
        shown: into,
        is_root: rustix::process::geteuid().is_root(),
        force,
        written: Vec::new(),
        links: HashMap::new(),
        done: Extracted {
            schema_version: SCHEMA_VERSION,
            owners: rustix::process::geteuid().is_root(),
            ..Extracted::default()
        },
    };
    let result = target.room(&chosen).and_then(|()| target.all(&chosen));
    if result.is_err() && is_empty {
        target.undo();
        if made {
            // Best effort: the error that led here is the one to report.
            let _ = std::fs::remove_dir(into);
        }
    }
    result.map(|()| target.done)
}

struct Target<'a> {
    fs: &'a FileSystem,
    root: OwnedFd,
    shown: &'a Path,
    is_root: bool,
    force: bool,
    /// What was made, in order, and whether it is a folder.
    written: Vec<(PathBuf, bool)>,
    /// First name of each file with several.
    links: HashMap<u64, PathBuf>,
    done: Extracted,
}

impl Target<'_> {
    /// Whether there is room for all bytes that the image says it holds.
    fn room(&self, chosen: &[&Entry]) -> Result<(), Finding> {
        let files = chosen.iter().filter(|entry| entry.kind == FileKind::File);
        let bytes = files.fold(0u64, |sum, entry| sum.saturating_add(entry.size));
        let stat = rustix::fs::fstatvfs(&self.root).map_err(|errno| self.failed("/", errno))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if stat.f_blocks > 0 && bytes > free {
            let message = format!(
                "the files have {bytes} bytes, but {free} are free in {}",
                self.shown.display()
            );
            return Err(Finding::error("no-room-to-extract", message)
                .help("name a folder with more room, or single paths of the image"));
        }
        Ok(())
    }

    fn all(&mut self, chosen: &[&Entry]) -> Result<(), Finding> {
        for entry in chosen {
            self.one(entry)?;
        }
        // Only now: a folder without write permission could not have been filled, and filling it
        // would have changed its time.
        for entry in chosen.iter().rev() {
            if entry.kind == FileKind::Directory {
                let fd = self.open(below(entry), OFlags::RDONLY | OFlags::DIRECTORY)?;
                self.dress(&fd, entry)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, entry: &Entry) -> Result<(), Finding> {
        let path = below(entry);
        let Some(name) = path.file_name() else {
            // The root is the folder itself.
            return Ok(());
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = self.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let failed = |errno| self.failed(&entry.path, errno);
        if self.force && entry.kind != FileKind::Directory {
            match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let first = entry.hard_link.and_then(|inode| self.links.get(&inode));
        if let Some(first) = first {
            rustix::fs::linkat(&self.root, first, &parent, name, AtFlags::empty())
                .map_err(failed)?;
            self.wrote(entry);
            return Ok(());
        }
        match entry.kind {
            FileKind::Directory => match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                Err(Errno::EXIST) if self.force => return Ok(()),
                made => made.map_err(failed)?,
            },
            FileKind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let mode = Mode::RUSR | Mode::WUSR;
                let fd = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, mode)
                    .map_err(failed)?;
                self.written.push((path.to_owned(), false));
                self.fill(File::from(fd), entry)?;
                self.written.pop();
            }
            FileKind::Symlink => {
                let target = entry.target.as_deref().unwrap_or(Path::new(""));
                rustix::fs::symlinkat(target, &parent, name).map_err(failed)?;
                self.dress_name(&parent, name, entry)?;
            }
            kind => {
                let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
                if is_device && !self.is_root {
                    self.done.devices_left_out += 1;
                    return Ok(());
                }
                let (major, minor) = entry.device.unwrap_or_default();
                let kind = match kind {
                    FileKind::CharDevice => FileType::CharacterDevice,
                    FileKind::BlockDevice => FileType::BlockDevice,
                    FileKind::Socket => FileType::Socket,
                    _ => FileType::Fifo,
                };
                let mode = Mode::from_raw_mode(u32::from(entry.mode & 0o777));
                let device = rustix::fs::makedev(major, minor);
                match rustix::fs::mknodat(&parent, name, kind, mode, device) {
                    // Root of a user namespace makes none, too.
                    Err(Errno::PERM) if is_device => {
                        self.done.devices_left_out += 1;
                        return Ok(());
                    }
                    made => made.map_err(failed)?,
                }
                self.dress_name(&parent, name, entry)?;
            }
        }
        self.wrote(entry);
        Ok(())
    }

    fn wrote(&mut self, entry: &Entry) {
        let path = below(entry).to_owned();
        if let Some(inode) = entry.hard_link {
            self.links.entry(inode).or_insert_with(|| path.clone());
        }
        self.written.push((path, entry.kind == FileKind::Directory));
        self.done.entries += 1;
    }

    fn fill(&mut self, file: File, entry: &Entry) -> Result<(), Finding> {
        let mut file = file;
        let mut sparse = Sparse::new(&mut file);
        let copied = self.fs.copy(&entry.path, &mut sparse).map_err(|error| {
            let message = format!("extracting {}: {error}", entry.path.display());
            Finding::error("extract-failed", message)
        })?;
        let finished = sparse.finish();
        finished.map_err(|error| refused(&self.shown.join(below(entry)), &error))?;
        self.done.bytes = self.done.bytes.saturating_add(copied);
        self.dress(&OwnedFd::from(file), entry)
    }

    /// Sets owner, attributes, mode and time, in this order: a change of the owner takes set-id
    /// bits and capabilities away.
    fn dress(&mut self, fd: &OwnedFd, entry: &Entry) -> Result<(), Finding> {
        let failed = |errno| self.failed(&entry.path, errno);
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed)?;
        }
        let mut left_out = 0;
        for (name, value) in self.attributes(entry)? {
            let set = rustix::fs::fsetxattr(fd, name.as_slice(), &value, XattrFlags::empty());
            left_out += u64::from(is_set(set).map_err(failed)?);
        }
        let bits = if self.is_root { 0o7777 } else { 0o1777 };
        let mode = Mode::from_raw_mode(u32::from(entry.mode & bits));
        rustix::fs::fchmod(fd, mode).map_err(failed)?;
        rustix::fs::futimens(fd, &times(entry)).map_err(failed)?;
        self.done.attributes_left_out += left_out;
        Ok(())
    }

    /// The same for what is not opened: links, pipes, sockets, devices.
    fn dress_name(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), Finding> {
        let failed = |errno| self.failed(&entry.path, errno);
        let link = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), link).map_err(failed)?;
        }
        // No call takes a folder and a name; the folder is one that was opened without links.
        let path = open::by_descriptor(parent).join(name);
        let mut left_out = 0;
        for (name, value) in self.attributes(entry)? {
            let set = rustix::fs::lsetxattr(&path, name.as_slice(), &value, XattrFlags::empty());
            left_out += u64::from(is_set(set).map_err(failed)?);
        }
        if entry.kind != FileKind::Symlink {
            let mode = Mode::from_raw_mode(u32::from(entry.mode & 0o777));
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), link).map_err(failed)?;
        self.done.attributes_left_out += left_out;
        Ok(())
    }

    fn attributes(&self, entry: &Entry) -> Result<Xattrs, Finding> {
        let read = self.fs.xattrs(&entry.path).map_err(|error| {
            let message = format!("attributes of {}: {error}", entry.path.display());
            Finding::error("extract-failed", message)
        })?;
        let found = read.unwrap_or_default().into_iter();
        // The kernel takes no name without NUL at its end.
        Ok(found.filter(|(name, _)| !name.contains(&0)).collect())
    }

    /// Opens what was written, beneath the folder and through no link.
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Finding> {
        let inside = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(
            &self.root,
            inside,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
        .map_err(|errno| self.failed(path, errno))
    }

    fn failed(&self, path: impl AsRef<Path>, errno: Errno) -> Finding {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path);
        refused(&self.shown.join(path), &errno.into())
    }

    /// Takes away what was written, best effort.
    fn undo(&self) {
        for (path, is_folder) in self.written.iter().rev() {
            let flags = match is_folder {
                true => AtFlags::REMOVEDIR,
                false => AtFlags::empty(),
            };
            let parent = path.parent().unwrap_or(Path::new(""));
            if let (Ok(parent), Some(name)) = (
                self.open(parent, OFlags::PATH | OFlags::DIRECTORY),
                path.file_name(),
            ) {
                let _ = rustix::fs::unlinkat(&parent, name, flags);
            }
        }
    }
}

/// Whether an attribute had to be left out; other errors stop the work.
fn is_set(result: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(true),
        Err(errno) => Err(errno),
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: i64::from(entry.mtime_nanos.min(999_999_999)),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The path of an entry without the leading slash.
fn below(entry: &Entry) -> &Path {
    entry.path.strip_prefix("/").unwrap_or(&entry.path)
}

fn refused(path: &Path, error: &io::Error) -> Finding {
    let message = format!("writing {}: {error}", path.display());
    Finding::error("extract-failed", message)
}
