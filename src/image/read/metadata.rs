//! What is known of an inode and of a whole file system.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What is known of an inode without reading its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes of files and links.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds after that; squashfs has none.
    pub mtime_nanos: u32,
    /// Major and minor number of a device, where the reader can tell.
    pub device: Option<(u32, u32)>,
}

/// A path and what is there.
pub(super) type Found = (PathBuf, Metadata);

/// What the superblock tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Bytes per block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// Id of the file system, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Features that its superblock names.
    pub features: Vec<String>,
    /// Algorithms that a kernel must have to read it.
    pub compression: Vec<String>,
}

/// Extended attributes by full name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The value of an extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xattr {
    /// The reader can't tell: an ext4 with a journal to replay, or values in inodes of their own.
    Unknown,
    /// There is none of this name.
    Absent,
    /// Its value.
    Value(Vec<u8>),
}

/// The text of a UUID; nothing if it is not set.
pub(super) fn uuid_text(bytes: [u8; 16]) -> Option<String> {
    let uuid = uuid::Uuid::from_bytes(bytes);
    (!uuid.is_nil()).then(|| uuid.to_string())
}
