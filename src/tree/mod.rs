//! The content of an extension before it is a file system.
//!
//! A [`Tree`] knows names, modes, owners, extended attributes, hard links and
//! where the bytes of each file come from. It knows no on-disk format.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Index of an inode in [`Tree::inodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub u32);

/// A whole directory tree; inode 0 is the root directory.
#[derive(Debug, Clone)]
pub struct Tree {
    /// All inodes; directory entries refer to them by index, hard links share one.
    pub inodes: Vec<Inode>,
}

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
}
