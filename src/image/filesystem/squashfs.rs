//! SquashFS through `backhand`.
//!
//! The crate reads all metadata into memory and panics on some damaged
//! directories (the caller catches that). How much metadata there is is counted
//! beforehand, from the headers of its blocks alone. The crate has no extended
//! attributes.

use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use backhand::{FilesystemReader, InnerNode, Node, SquashfsFileReader};

use super::{Details, FileKind, FsError, Metadata, Reader, Window, Xattrs};

/// Bytes of a metadata block when unpacked (Linux `fs/squashfs/squashfs_fs.h`).
const METADATA_BLOCK: u64 = 8192;
/// Inodes and directories of about a million files.
const MAX_METADATA: u64 = 128 * 1024 * 1024;
/// What stands for a table that is not there.
const NO_TABLE: u64 = u64::MAX;
/// Compressor ids from 1 (Linux `fs/squashfs/squashfs_fs.h`).
const COMPRESSORS: &[&str] = &["gzip", "lzma", "lzo", "xz", "lz4", "zstd"];

pub(super) struct Squashfs {
    reader: FilesystemReader<'static>,
    details: Details,
}

impl From<backhand::BackhandError> for FsError {
    fn from(error: backhand::BackhandError) -> FsError {
        FsError::Damaged(error.to_string())
    }
}

impl Squashfs {
    pub(super) fn open(window: Window) -> Result<Squashfs, FsError> {
        let details = details(&window);
        check_metadata(&window)?;
        let reader = FilesystemReader::from_reader(BufReader::new(window.reader()))?;
        Ok(Squashfs { reader, details })
    }

    fn node(&self, path: &Path) -> Option<&Node<SquashfsFileReader>> {
        let nodes = &self.reader.root.nodes;
        let position = nodes.binary_search_by(|node| node.fullpath.as_path().cmp(path));
        nodes.get(position.ok()?)
    }
}

/// Offsets in the superblock: block size 12, compressor 20, then the tables.
fn details(window: &Window) -> Details {
    let compressor = window.peek(20).map(u16::from_le_bytes).unwrap_or(0);
    let name = usize::from(compressor)
        .checked_sub(1)
        .and_then(|index| COMPRESSORS.get(index));
    Details {
        block_size: window.peek(12).map(u32::from_le_bytes),
        uuid: None,
        features: Vec::new(),
        compression: name.map(|name| (*name).to_owned()).into_iter().collect(),
    }
}

/// Makes sure that both metadata tables end where they should and fit into memory.
fn check_metadata(window: &Window) -> Result<(), FsError> {
    let field = |at| {
        let bytes = window.peek(at);
        bytes
            .map(u64::from_le_bytes)
            .ok_or_else(|| damaged("the superblock is cut"))
    };
    let (ids, inodes, directories) = (field(48)?, field(64)?, field(72)?);
    // The directories end where the first table after them begins, fragments, export, then
    // ids, each found through the first entry of its index.
    let after = [field(80)?, field(88)?, ids];
    let index = after.into_iter().find(|at| *at != NO_TABLE).unwrap_or(ids);
    let end = field(index)?;
    count_blocks(window, inodes, directories)?;
    count_blocks(window, directories, end)
}

fn count_blocks(window: &Window, start: u64, end: u64) -> Result<(), FsError> {
    let mut at = start;
    let mut unpacked = 0u64;
    while at < end {
        let header = window.peek(at).map(u16::from_le_bytes);
        let header = header.ok_or_else(|| damaged("a metadata block is cut"))?;
        let length = u64::from(header & 0x7fff);
        at = at.saturating_add(2).saturating_add(length);
        unpacked = unpacked.saturating_add(METADATA_BLOCK);
        if unpacked > MAX_METADATA || length == 0 {
            return Err(damaged(
                "there is more metadata than 128 MiB, or an empty block of it",
            ));
        }
    }
    if at == end {
        Ok(())
    } else {
        Err(damaged("a metadata table does not end with a block"))
    }
}

fn damaged(reason: &str) -> FsError {
    FsError::Damaged(reason.to_owned())
}

fn metadata(node: &Node<SquashfsFileReader>) -> Metadata {
    // A device number is encoded as by the kernel's new_encode_dev.
    let device = |number: u32| {
        let minor = number & 0xff | number >> 12 & 0xfff00;
        Some((number >> 8 & 0xfff, minor))
    };
    let (kind, size, device) = match &node.inner {
        InnerNode::File(file) => (
            FileKind::File,
            u64::try_from(file.file_len()).unwrap_or(u64::MAX),
            None,
        ),
        InnerNode::Symlink(link) => {
            let length = link.link.as_os_str().len();
            (
                FileKind::Symlink,
                u64::try_from(length).unwrap_or(u64::MAX),
                None,
            )
        }
        InnerNode::Dir(_) => (FileKind::Directory, 0, None),
        InnerNode::CharacterDevice(it) => (FileKind::CharDevice, 0, device(it.device_number)),
        InnerNode::BlockDevice(it) => (FileKind::BlockDevice, 0, device(it.device_number)),
        InnerNode::NamedPipe => (FileKind::Fifo, 0, None),
        InnerNode::Socket => (FileKind::Socket, 0, None),
    };
    Metadata {
        kind,
        mode: node.header.permissions & 0o7777,
        uid: node.header.uid,
        gid: node.header.gid,
        size,
        mtime: i64::from(node.header.mtime),
        device,
    }
}

impl Reader for Squashfs {
    fn details(&self) -> Details {
        self.details.clone()
    }

    fn root(&self) -> Result<Metadata, FsError> {
        let root = self.node(Path::new("/"));
        Ok(metadata(
            root.ok_or_else(|| damaged("there is no root directory"))?,
        ))
    }

    fn child(&self, dir: &Path, name: &OsStr) -> Result<Option<Metadata>, FsError> {
        Ok(self.node(&dir.join(name)).map(metadata))
    }

    fn list(&self, dir: &Path) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let nodes = &self.reader.root.nodes;
        let position = nodes.binary_search_by(|node| node.fullpath.as_path().cmp(dir));
        let position = position.map_err(|_| FsError::NotFound(dir.to_owned()))?;
        // Sorted by path, so everything below a directory follows it.
        let below = nodes.get(position.saturating_add(1)..).unwrap_or_default();
        Ok(below
            .iter()
            .take_while(|node| node.fullpath.starts_with(dir))
            .filter(|node| node.fullpath.parent() == Some(dir))
            .filter_map(|node| Some((node.fullpath.file_name()?.to_owned(), metadata(node))))
            .collect())
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        match self.node(path).map(|node| &node.inner) {
            Some(InnerNode::Symlink(link)) => Ok(link.link.clone()),
            _ => Err(FsError::NotFound(path.to_owned())),
        }
    }

    fn read(&self, path: &Path, size: usize) -> Result<Vec<u8>, FsError> {
        let Some(InnerNode::File(file)) = self.node(path).map(|node| &node.inner) else {
            return Err(FsError::NotFound(path.to_owned()));
        };
        let limit = u64::try_from(size).unwrap_or(u64::MAX);
        let mut content = Vec::new();
        let reader = self.reader.file(file).reader_checked()?;
        reader
            .take(limit)
            .read_to_end(&mut content)
            .map_err(|error| FsError::Damaged(error.to_string()))?;
        Ok(content)
    }

    fn xattrs(&self, _path: &Path) -> Result<Option<Xattrs>, FsError> {
        Ok(None)
    }
}
