//! A tree as a plain folder, and the digest by which folders are told apart.
//!
//! Names, types, modes, owners, hard links, extended attributes and bytes count, times do not: a tree
//! that is written to a folder, collected and digested again has the same digest.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::read::{ReadError, Reader};
use super::{Inode, InodeId, Kind, Tree};
use crate::finding::Finding;
use crate::io::open;
use crate::io::progress::Progress;

/// Begins every digest, so that none is that of a file.
const DOMAIN: &[u8] = b"prism-sysext folder v1\0";
/// Bytes that are copied at a time.
const CHUNK: usize = 128 * 1024;
/// Mode while something is written; nobody else may look into half a file.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Why a folder could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// The content can't be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The caller may not give files to their owners.
    #[error("{path} is to belong to {uid}:{gid}, which only root can bring about")]
    Owner {
        /// Path in the folder.
        path: String,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The system refused.
    #[error("could not {action} {path}: {source}")]
    Write {
        /// What we were doing.
        action: &'static str,
        /// Path in the folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The digest of a tree; reads all files.
pub(crate) fn digest(tree: &Tree, progress: &Progress) -> Result<[u8; 32], FolderError> {
    let mut digest = TreeDigest::new();
    for (path, id, inode) in tree.walk() {
        if digest.enter(&path, id, inode) {
            copy(inode, &mut digest.0, progress, |_| Ok(()))?;
        }
    }
    Ok(digest.finish())
}

/// Writes a tree into an open, empty folder, whose own mode and owner stay as they are, and returns
/// its digest. All times are `epoch_seconds` since 1970. Nothing is synced.
pub(crate) fn write(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    epoch_seconds: u64,
    progress: &Progress,
) -> Result<[u8; 32], FolderError> {
    let writer = Writer {
        folder,
        epoch_seconds,
    };
    let mut digest = TreeDigest::new();
    let mut names: HashMap<InodeId, PathBuf> = HashMap::new();
    let mut folders = Vec::new();
    for (path, id, inode) in tree.walk() {
        let is_new = digest.enter(&path, id, inode);
        let path = Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned();
        if let Some(first) = names.get(&id) {
            let linked = rustix::fs::linkat(folder, first, folder, &path, AtFlags::empty());
            linked.map_err(|errno| failed("link", &path, errno))?;
            continue;
        }
        writer.make(&path, inode)?;
        if is_new && matches!(inode.kind, Kind::File { .. }) {
            writer.fill(&path, inode, &mut digest.0, progress)?;
        }
        if inode.entries().is_some() {
            folders.push((path, inode));
        } else {
            writer.finish(&path, inode)?;
            names.insert(id, path);
        }
    }
    // Last, because a folder may be read-only and changes its time with every entry.
    for (path, inode) in folders.iter().rev() {
        writer.finish(path, inode)?;
    }
    let times = timestamps(epoch_seconds);
    rustix::fs::futimens(folder, &times).map_err(|errno| failed("date", Path::new("."), errno))?;
    Ok(digest.finish())
}

struct Writer<'a> {
    folder: BorrowedFd<'a>,
    epoch_seconds: u64,
}

impl Writer<'_> {
    fn make(&self, path: &Path, inode: &Inode) -> Result<(), FolderError> {
        let node = |kind, device| rustix::fs::mknodat(self.folder, path, kind, PRIVATE, device);
        let made = match &inode.kind {
            Kind::Directory(_) => rustix::fs::mkdirat(self.folder, path, PRIVATE.union(Mode::XUSR)),
            // Not mknod, which is not for everybody everywhere.
            Kind::File { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                rustix::fs::openat(self.folder, path, flags, PRIVATE).map(drop)
            }
            Kind::Symlink(target) => {
                rustix::fs::symlinkat(std::ffi::OsStr::from_bytes(target), self.folder, path)
            }
            Kind::Fifo => node(FileType::Fifo, 0),
            Kind::Socket => node(FileType::Socket, 0),
            Kind::CharDevice(major, minor) => node(
                FileType::CharacterDevice,
                rustix::fs::makedev(*major, *minor),
            ),
            Kind::BlockDevice(major, minor) => {
                node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
        };
        made.map_err(|errno| failed("make", path, errno))
    }

    fn fill(
        &self,
        path: &Path,
        inode: &Inode,
        digest: &mut Sha256,
        progress: &Progress,
    ) -> Result<(), FolderError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.folder, path, flags, Mode::empty())
            .map_err(|errno| failed("open", path, errno))?;
        let mut file = File::from(file);
        copy(inode, digest, progress, |bytes| {
            file.write_all(bytes).map_err(|source| FolderError::Write {
                action: "write",
                path: path.display().to_string(),
                source,
            })
        })
    }

    /// Owner, mode, attributes and time, in the order in which none undoes another: a change of owner
    /// takes set-id bits and capabilities away (chown(2)), an access list sets the group's bits.
    fn finish(&self, path: &Path, inode: &Inode) -> Result<(), FolderError> {
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(self.folder, path, no_follow)
            .map_err(|errno| failed("examine", path, errno))?;
        if (stat.st_uid, stat.st_gid) != (inode.uid, inode.gid) {
            let (uid, gid) = (Uid::from_raw(inode.uid), Gid::from_raw(inode.gid));
            rustix::fs::chownat(self.folder, path, Some(uid), Some(gid), no_follow).map_err(
                |errno| match errno {
                    Errno::PERM | Errno::INVAL => FolderError::Owner {
                        path: path.display().to_string(),
                        uid: inode.uid,
                        gid: inode.gid,
                    },
                    other => failed("give away", path, other),
                },
            )?;
        }
        if !matches!(inode.kind, Kind::Symlink(_)) {
            let mode = Mode::from_raw_mode(inode.mode.into());
            rustix::fs::chmodat(self.folder, path, mode, AtFlags::empty())
                .map_err(|errno| failed("set the mode of", path, errno))?;
        }
        for (name, value) in &inode.xattrs {
            // There is no setxattrat before Linux 6.13.
            let place = open::by_descriptor(&self.folder).join(path);
            rustix::fs::lsetxattr(&place, name.as_slice(), value, XattrFlags::empty())
                .map_err(|errno| failed("set an attribute of", path, errno))?;
        }
        let times = timestamps(self.epoch_seconds);
        rustix::fs::utimensat(self.folder, path, &times, no_follow)
            .map_err(|errno| failed("date", path, errno))
    }
}

fn timestamps(epoch_seconds: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(epoch_seconds).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn failed(action: &'static str, path: &Path, errno: Errno) -> FolderError {
    FolderError::Write {
        action,
        path: path.display().to_string(),
        source: errno.into(),
    }
}

/// Passes the bytes of a file to a digest and to `put`.
fn copy(
    inode: &Inode,
    digest: &mut Sha256,
    progress: &Progress,
    mut put: impl FnMut(&[u8]) -> Result<(), FolderError>,
) -> Result<(), FolderError> {
    let Kind::File { size, source } = &inode.kind else {
        return Ok(());
    };
    let reader = Reader::new(source, *size)?;
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < *size {
        let count = usize::try_from(*size - at).unwrap_or(CHUNK).min(CHUNK);
        buffer.clear();
        reader.append(at, count, &mut buffer)?;
        digest.update(&buffer);
        put(&buffer)?;
        progress.add(count as u64);
        at += count as u64;
    }
    Ok(reader.finish()?)
}

/// Entry by entry, every text and list with its length before it.
struct TreeDigest(Sha256, HashMap<InodeId, u64>);

impl TreeDigest {
    fn new() -> TreeDigest {
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        TreeDigest(digest, HashMap::new())
    }

    /// Takes in all but the bytes of a file, and says whether those are to follow.
    fn enter(&mut self, path: &[u8], id: InodeId, inode: &Inode) -> bool {
        self.bytes(path);
        if let Some(number) = self.1.get(&id) {
            let number = *number;
            self.0.update(b"h");
            self.number(number);
            return false;
        }
        if inode.entries().is_none() {
            let number = self.1.len() as u64;
            self.1.insert(id, number);
        }
        let tag = match &inode.kind {
            Kind::Directory(_) => b"d",
            Kind::File { .. } => b"f",
            Kind::Symlink(_) => b"l",
            Kind::Fifo => b"p",
            Kind::Socket => b"s",
            Kind::CharDevice(..) => b"c",
            Kind::BlockDevice(..) => b"b",
        };
        self.0.update(tag);
        // The mode of a link is that of the system.
        let mode = match inode.kind {
            Kind::Symlink(_) => 0,
            _ => inode.mode,
        };
        self.number(mode.into());
        self.number(inode.uid.into());
        self.number(inode.gid.into());
        self.number(inode.xattrs.len() as u64);
        for (name, value) in &inode.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        match &inode.kind {
            Kind::File { size, .. } => {
                self.number(*size);
                return true;
            }
            Kind::Symlink(target) => self.bytes(target),
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                self.number((*major).into());
                self.number((*minor).into());
            }
            Kind::Directory(_) | Kind::Fifo | Kind::Socket => {}
        }
        false
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Who may not give files away can still have an image made.
pub(crate) fn owners(error: &FolderError) -> Finding {
    Finding::error("owners-not-settable", error.to_string())
        .because("owners of files are those that programs see after the merge")
        .help("run it as root, or in a namespace of your own (`unshare --map-auto --map-root-user`), or use `layout: bare` or a disk image, which need no rights")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Source;
    use crate::tree::collect::{Options, collect};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn tree(owner: u32) -> Tree {
        let mut tree = Tree::new();
        let file = |text: &str, mode| {
            let kind = Kind::File {
                size: text.len() as u64,
                source: Source::Bytes(text.as_bytes().to_vec()),
            };
            let mut inode = Inode::new(mode, kind);
            (inode.uid, inode.gid) = (owner, owner);
            inode.xattrs.insert(b"user.note".to_vec(), b"kept".to_vec());
            inode
        };
        let id = tree.insert(b"usr/bin/tool", file("tool", 0o4755)).unwrap();
        tree.insert_link(b"usr/bin/again", id).unwrap();
        tree.insert(b"usr/empty", file("", 0o400)).unwrap();
        tree.insert_symlink(b"usr/link", b"/nowhere").unwrap();
        tree.insert(b"usr/pipe", Inode::new(0o600, Kind::Fifo))
            .unwrap();
        let closed = tree.make_dirs(b"usr/closed").unwrap();
        tree.get_mut(closed).unwrap().mode = 0o555;
        tree.insert(b"usr/closed/in", file("in", 0o444)).unwrap();
        for inode in &mut tree.inodes {
            (inode.uid, inode.gid) = (owner, owner);
        }
        tree
    }

    fn written(tree: &Tree) -> (tempfile::TempDir, [u8; 32]) {
        let dir = tempfile::tempdir().unwrap();
        let folder: OwnedFd = File::open(dir.path()).unwrap().into();
        let digest = write(tree, folder.as_fd(), 7, &Progress::new()).unwrap();
        (dir, digest)
    }

    #[test]
    fn what_is_written_and_collected_again_has_the_same_digest() {
        let own = rustix::process::geteuid().as_raw();
        let tree = tree(own);
        let (dir, written) = written(&tree);
        assert_eq!(written, digest(&tree, &Progress::new()).unwrap());
        let options = Options { keep_owners: true };
        let again = collect(dir.path(), &options).unwrap().tree;
        assert_eq!(written, digest(&again, &Progress::new()).unwrap());

        let at = |path: &str| std::fs::symlink_metadata(dir.path().join(path)).unwrap();
        let (tool, link) = (at("usr/bin/tool"), at("usr/link"));
        assert_eq!(tool.permissions().mode() & 0o7777, 0o4755);
        assert_eq!((tool.nlink(), tool.ino()), (2, at("usr/bin/again").ino()));
        assert_eq!(at("usr/closed").permissions().mode() & 0o7777, 0o555);
        for found in [&tool, &link, &at("usr"), &at("")] {
            assert_eq!(found.mtime(), 7);
        }

        std::fs::set_permissions(
            dir.path().join("usr/empty"),
            std::fs::Permissions::from_mode(0o440),
        )
        .unwrap();
        let other = collect(dir.path(), &options).unwrap().tree;
        assert_ne!(written, digest(&other, &Progress::new()).unwrap());
    }

    #[test]
    fn an_owner_that_can_not_be_set_is_told() {
        if rustix::process::geteuid().is_root() {
            let (dir, _) = written(&tree(12));
            let found = std::fs::metadata(dir.path().join("usr/bin/tool")).unwrap();
            assert_eq!((found.uid(), found.gid()), (12, 12));
            assert_eq!(found.permissions().mode() & 0o7777, 0o4755);
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder: OwnedFd = File::open(dir.path()).unwrap().into();
        let error = write(&tree(0), folder.as_fd(), 0, &Progress::new()).unwrap_err();
        assert!(matches!(error, FolderError::Owner { .. }), "{error}");
    }
}
