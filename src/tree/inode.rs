//! One file, folder or link of a tree, and where its bytes come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Index of an inode in [`Tree::inodes`](super::Tree::inodes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub u32);

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Permission bits including setuid, setgid and sticky (`0o7777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name (`user.x`, `security.capability`), sorted.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    pub kind: Kind,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory and its entries in byte order.
    Directory(BTreeMap<Vec<u8>, InodeId>),
    /// A regular file.
    File {
        /// Length in bytes, as seen when the tree was collected.
        size: u64,
        /// Where the bytes come from.
        source: Source,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device (major, minor).
    CharDevice(u32, u32),
    /// A block device (major, minor).
    BlockDevice(u32, u32),
}

/// Where the bytes of a regular file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine, read once while the image is written.
    Path(PathBuf),
    /// Bytes made by us, such as the release file.
    Bytes(Vec<u8>),
    /// A range of an archive.
    Packed(Packed),
}

impl Inode {
    /// A directory of root with mode 0755 and nothing in it.
    pub fn directory() -> Inode {
        Inode::new(0o755, Kind::Directory(BTreeMap::new()))
    }

    /// Something of root, without extended attributes.
    pub fn new(mode: u16, kind: Kind) -> Inode {
        Inode {
            mode,
            uid: 0,
            gid: 0,
            xattrs: BTreeMap::new(),
            kind,
        }
    }

    /// The entries, if it is a directory.
    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, InodeId>> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Whether it is a directory that says nothing of its own, as [`Tree::make_dirs`](super::Tree::make_dirs) makes them.
    pub(super) fn is_plain_directory(&self) -> bool {
        let Inode {
            mode,
            uid,
            gid,
            xattrs,
            kind,
        } = self;
        (*mode, *uid, *gid) == (0o755, 0, 0)
            && xattrs.is_empty()
            && matches!(kind, Kind::Directory(_))
    }
}

/// A range of a file that holds the bytes of a packed one.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The archive, or the temporary file.
    pub file: Arc<File>,
    /// Where the bytes begin.
    pub offset: u64,
    /// The archive, for messages.
    pub path: PathBuf,
}

/// The same place of the same open file.
impl PartialEq for Packed {
    fn eq(&self, other: &Packed) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.offset == other.offset
    }
}

impl Eq for Packed {}
