//! SquashFS 4.0 (Linux `fs/squashfs/squashfs_fs.h`).
//!
//! Only the decompressors are `backhand`'s. Its reader takes in the whole tree
//! at once, which a crafted image can blow up without bound, and it knows no
//! extended attributes; this one reads what is asked for, block by block.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use backhand::compression::{CompressionAction, Compressor, DefaultCompressor};

use super::{Details, FileKind, FsError, MAX_ENTRIES, Metadata, Reader, Window, Xattrs};

/// Bytes of a metadata block when unpacked.
const METADATA_BLOCK: usize = 8192;
/// Unpacked metadata blocks that are kept, 8 MiB in all.
const CACHED_BLOCKS: usize = 1024;
/// Bit of a metadata header for a block that is stored as it is.
const STORED_METADATA: u16 = 0x8000;
/// The same in the size of a data block.
const STORED_DATA: u32 = 1 << 24;
/// Stands for no fragment and for no extended attributes.
const NONE: u32 = u32::MAX;
/// Stands for a table that is not there.
const NO_TABLE: u64 = u64::MAX;
/// Most bytes of the extended attributes of one inode (Linux XATTR_LIST_MAX, XATTR_SIZE_MAX).
const MAX_XATTRS: u64 = 1024 * 1024;
/// Key prefixes by number.
const PREFIXES: &[&str] = &["user.", "trusted.", "security."];
/// Set in the number of a key whose value is stored elsewhere.
const VALUE_ELSEWHERE: u16 = 0x100;

fn damaged(reason: &str) -> FsError {
    FsError::Damaged(reason.to_owned())
}

/// Compressor ids with our names for them.
fn compressor(id: u16) -> Option<(Compressor, &'static str)> {
    match id {
        1 => Some((Compressor::Gzip, "gzip")),
        2 => Some((Compressor::Lzma, "lzma")),
        3 => Some((Compressor::Lzo, "lzo")),
        4 => Some((Compressor::Xz, "xz")),
        5 => Some((Compressor::Lz4, "lz4")),
        6 => Some((Compressor::Zstd, "zstd")),
        _ => None,
    }
}

pub(super) struct Squashfs {
    window: Window,
    compressor: Compressor,
    compression: &'static str,
    block_size: u32,
    root: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    xattrs: u64,
    ids: Vec<u32>,
    blocks: RefCell<HashMap<u64, MetadataBlock>>,
}

/// An unpacked block and where the next one begins.
type MetadataBlock = (Rc<Vec<u8>>, u64);

/// An inode without its lists.
struct Inode {
    metadata: Metadata,
    xattr: u32,
    body: Body,
}

enum Body {
    Directory {
        block: u32,
        offset: u16,
    },
    File {
        start: u64,
        fragment: u32,
        fragment_offset: u32,
    },
    Symlink(Vec<u8>),
    Other,
}

/// Reads metadata on from some place, over the bounds of blocks.
struct Cursor<'a> {
    fs: &'a Squashfs,
    block: u64,
    offset: usize,
}

impl Cursor<'_> {
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, FsError> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let (block, next) = self.fs.metadata_block(self.block)?;
            let rest = block.get(self.offset..).unwrap_or_default();
            if rest.is_empty() {
                self.block = next;
                self.offset = self.offset.saturating_sub(block.len());
                // A full block is followed by another one; a short one ends the table.
                if block.len() < METADATA_BLOCK {
                    return Err(damaged("metadata ends within an item"));
                }
                continue;
            }
            let taken = rest.len().min(count - bytes.len());
            bytes.extend(rest.iter().take(taken));
            self.offset = self.offset.saturating_add(taken);
        }
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FsError> {
        let bytes = self.bytes(N)?;
        bytes
            .first_chunk()
            .copied()
            .ok_or_else(|| damaged("metadata ends within an item"))
    }

    fn u16(&mut self) -> Result<u16, FsError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, FsError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, FsError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

impl Squashfs {
    pub(super) fn open(window: Window) -> Result<Squashfs, FsError> {
        let superblock = window
            .peek::<96>(0)
            .ok_or_else(|| damaged("the superblock is cut"))?;
        let u16_at = |at| window.peek(at).map_or(0, u16::from_le_bytes);
        let u64_at = |at| window.peek(at).map_or(0, u64::from_le_bytes);
        let block_size = window.peek(12).map_or(0, u32::from_le_bytes);
        if superblock.get(28..32) != Some(&[4, 0, 0, 0]) {
            return Err(damaged("it is not of version 4.0"));
        }
        if !(4096..=1024 * 1024).contains(&block_size) || !block_size.is_power_of_two() {
            return Err(damaged(
                "the block size is no power of two from 4 KiB to 1 MiB",
            ));
        }
        let (compressor, compression) =
            compressor(u16_at(20)).ok_or_else(|| damaged("the compressor is unknown"))?;
        let mut fs = Squashfs {
            compressor,
            compression,
            block_size,
            root: u64_at(32),
            inodes: u64_at(64),
            directories: u64_at(72),
            fragments: u64_at(80),
            xattrs: u64_at(56),
            ids: Vec::new(),
            blocks: RefCell::default(),
            window,
        };
        let count = u64::from(fs.window.peek(26).map_or(0, u16::from_le_bytes));
        let table = fs.window.peek(48).map_or(0, u64::from_le_bytes);
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(fs.indexed(table, number, 4)?.u32()?);
        }
        fs.ids = ids;
        Ok(fs)
    }

    fn unpack(&self, packed: &[u8], limit: usize) -> Result<Vec<u8>, FsError> {
        let mut out = Vec::with_capacity(limit);
        DefaultCompressor
            .decompress(packed, &mut out, self.compressor)
            .map_err(|error| FsError::Damaged(error.to_string()))?;
        if out.len() > limit {
            return Err(damaged("a block unpacks to more than its size"));
        }
        Ok(out)
    }

    fn metadata_block(&self, at: u64) -> Result<MetadataBlock, FsError> {
        if let Some(block) = self.blocks.borrow().get(&at) {
            return Ok(block.clone());
        }
        let cut = || damaged("a metadata block lies outside");
        let header = self
            .window
            .peek(at)
            .map(u16::from_le_bytes)
            .ok_or_else(cut)?;
        let length = usize::from(header & !STORED_METADATA);
        if length == 0 || length > METADATA_BLOCK {
            return Err(damaged("a metadata block has a wrong length"));
        }
        let mut bytes = vec![0; length];
        let start = at.checked_add(2).ok_or_else(cut)?;
        self.window
            .read_exact_at(&mut bytes, start)
            .map_err(|_| cut())?;
        let next = start.saturating_add(u64::from(header & !STORED_METADATA));
        if header & STORED_METADATA == 0 {
            bytes = self.unpack(&bytes, METADATA_BLOCK)?;
        }
        let block = (Rc::new(bytes), next);
        let mut blocks = self.blocks.borrow_mut();
        if blocks.len() >= CACHED_BLOCKS {
            blocks.clear();
        }
        blocks.insert(at, block.clone());
        Ok(block)
    }

    /// A place in a table: the block relative to its start, and the offset in the block.
    fn at(&self, table: u64, block: u64, offset: u64) -> Result<Cursor<'_>, FsError> {
        let block = table
            .checked_add(block)
            .ok_or_else(|| damaged("a reference overflows"))?;
        let offset = usize::try_from(offset).map_err(|_| damaged("a reference overflows"))?;
        if offset >= METADATA_BLOCK {
            return Err(damaged("a reference leads over the end of a block"));
        }
        Ok(Cursor {
            fs: self,
            block,
            offset,
        })
    }

    /// A place given as 48 bits of block and 16 of offset.
    fn referred(&self, table: u64, reference: u64) -> Result<Cursor<'_>, FsError> {
        self.at(table, reference >> 16, reference & 0xffff)
    }

    /// An entry of a table that is found through a list of the places of its blocks.
    fn indexed(&self, list: u64, number: u64, size: u64) -> Result<Cursor<'_>, FsError> {
        let per_block = METADATA_BLOCK as u64 / size;
        let place = (number / per_block)
            .checked_mul(8)
            .and_then(|at| list.checked_add(at))
            .and_then(|at| self.window.peek(at));
        let block = place
            .map(u64::from_le_bytes)
            .ok_or_else(|| damaged("a table is cut"))?;
        self.at(block, 0, number % per_block * size)
    }

    /// Reads the inode at a reference; the cursor is then at its lists.
    fn inode(&self, reference: u64) -> Result<(Inode, Cursor<'_>), FsError> {
        let mut cursor = self.referred(self.inodes, reference)?;
        let cursor_ref = &mut cursor;
        let (kind, mode) = (cursor_ref.u16()?, cursor_ref.u16()?);
        let (uid, gid) = (cursor_ref.u16()?, cursor_ref.u16()?);
        let (mtime, _number) = (cursor_ref.u32()?, cursor_ref.u32()?);
        let id = |index: u16| {
            let found = self.ids.get(usize::from(index)).copied();
            found.ok_or_else(|| damaged("an owner is not in the table"))
        };
        let mut inode = Inode {
            metadata: Metadata {
                kind: FileKind::File,
                mode: mode & 0o7777,
                uid: id(uid)?,
                gid: id(gid)?,
                size: 0,
                mtime: i64::from(mtime),
                device: None,
            },
            xattr: NONE,
            body: Body::Other,
        };
        inode.read_body(kind, &mut cursor)?;
        Ok((inode, cursor))
    }

    fn root(&self) -> Result<Inode, FsError> {
        let (inode, _) = self.inode(self.root)?;
        match inode.body {
            Body::Directory { .. } => Ok(inode),
            _ => Err(damaged("the root is no directory")),
        }
    }

    /// Calls `each` with name and reference of the entries of a directory until it says false.
    fn entries(
        &self,
        directory: &Inode,
        mut each: impl FnMut(&[u8], u64) -> Result<bool, FsError>,
    ) -> Result<(), FsError> {
        let Body::Directory { block, offset } = directory.body else {
            return Err(damaged(
                "an entry is looked up in something else than a directory",
            ));
        };
        // The size counts three bytes for `.` and `..`, which are not stored.
        let mut left = directory.metadata.size.saturating_sub(3);
        let mut cursor = self.at(self.directories, u64::from(block), u64::from(offset))?;
        let mut seen = 0;
        while left > 0 {
            let (count, start) = (cursor.u32()?, cursor.u32()?);
            let _number = cursor.u32()?;
            left = left.saturating_sub(12);
            if count > 255 {
                return Err(damaged("a directory has a run of more than 256 entries"));
            }
            for _ in 0..=count {
                let (offset, _delta) = (cursor.u16()?, cursor.u16()?);
                let (_kind, length) = (cursor.u16()?, cursor.u16()?);
                let name = cursor.bytes(usize::from(length).saturating_add(1))?;
                left = left.saturating_sub(u64::from(length).saturating_add(9));
                seen += 1;
                if seen > MAX_ENTRIES {
                    return Err(FsError::TooManyEntries(MAX_ENTRIES));
                }
                if !each(&name, u64::from(start) << 16 | u64::from(offset))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The inode at a path without symbolic links.
    fn find(&self, path: &Path) -> Result<Option<(Inode, u64)>, FsError> {
        let mut here = (self.root()?, self.root);
        for name in path.iter().filter(|name| *name != "/") {
            let mut found = None;
            self.entries(&here.0, |entry, reference| {
                if entry == name.as_bytes() {
                    found = Some(reference);
                }
                Ok(found.is_none())
            })?;
            let Some(reference) = found else {
                return Ok(None);
            };
            here = (self.inode(reference)?.0, reference);
        }
        Ok(Some(here))
    }

    fn existing(&self, path: &Path) -> Result<(Inode, u64), FsError> {
        self.find(path)?
            .ok_or_else(|| FsError::NotFound(path.to_owned()))
    }

    /// A data block that unpacks to at most `limit` bytes.
    fn data(&self, at: u64, size: u32, limit: usize) -> Result<Vec<u8>, FsError> {
        let length = usize::try_from(size & !STORED_DATA).unwrap_or(usize::MAX);
        if length > limit {
            return Err(damaged("a data block is longer than the block size"));
        }
        let mut bytes = vec![0; length];
        let read = self.window.read_exact_at(&mut bytes, at);
        read.map_err(|_| damaged("a data block lies outside"))?;
        match size & STORED_DATA {
            0 => self.unpack(&bytes, limit),
            _ => Ok(bytes),
        }
    }

    fn fragment(&self, number: u32, offset: u32, size: usize) -> Result<Vec<u8>, FsError> {
        if self.fragments == NO_TABLE {
            return Err(damaged("there is no table of fragments"));
        }
        let mut entry = self.indexed(self.fragments, u64::from(number), 16)?;
        let (start, packed) = (entry.u64()?, entry.u32()?);
        let block = self.data(start, packed, self.block_size as usize)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let tail = block.get(from..from.saturating_add(size));
        tail.map(<[u8]>::to_vec)
            .ok_or_else(|| damaged("a file end lies outside its fragment"))
    }
}

impl Inode {
    fn read_body(&mut self, kind: u16, cursor: &mut Cursor<'_>) -> Result<(), FsError> {
        // Extended inodes have the numbers of basic ones plus 7.
        let extended = kind > 7;
        let metadata = &mut self.metadata;
        match if extended { kind - 7 } else { kind } {
            1 if extended => {
                let (_links, size) = (cursor.u32()?, cursor.u32()?);
                let (block, _parent) = (cursor.u32()?, cursor.u32()?);
                let (_indexes, offset) = (cursor.u16()?, cursor.u16()?);
                self.xattr = cursor.u32()?;
                metadata.kind = FileKind::Directory;
                metadata.size = u64::from(size);
                self.body = Body::Directory { block, offset };
            }
            1 => {
                let (block, _links) = (cursor.u32()?, cursor.u32()?);
                let (size, offset) = (cursor.u16()?, cursor.u16()?);
                let _parent = cursor.u32()?;
                metadata.kind = FileKind::Directory;
                metadata.size = u64::from(size);
                self.body = Body::Directory { block, offset };
            }
            2 => {
                let start;
                let (fragment, fragment_offset);
                if extended {
                    start = cursor.u64()?;
                    metadata.size = cursor.u64()?;
                    let (_sparse, _links) = (cursor.u64()?, cursor.u32()?);
                    (fragment, fragment_offset) = (cursor.u32()?, cursor.u32()?);
                    self.xattr = cursor.u32()?;
                } else {
                    start = u64::from(cursor.u32()?);
                    (fragment, fragment_offset) = (cursor.u32()?, cursor.u32()?);
                    metadata.size = u64::from(cursor.u32()?);
                }
                self.body = Body::File {
                    start,
                    fragment,
                    fragment_offset,
                };
            }
            3 => {
                let (_links, length) = (cursor.u32()?, cursor.u32()?);
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= super::MAX_PATH);
                let length = length.ok_or_else(|| damaged("a symbolic link is too long"))?;
                let target = cursor.bytes(length)?;
                if extended {
                    self.xattr = cursor.u32()?;
                }
                metadata.kind = FileKind::Symlink;
                metadata.size = u64::try_from(length).unwrap_or(u64::MAX);
                self.body = Body::Symlink(target);
            }
            device @ (4 | 5) => {
                let (_links, number) = (cursor.u32()?, cursor.u32()?);
                metadata.kind = match device {
                    4 => FileKind::BlockDevice,
                    _ => FileKind::CharDevice,
                };
                // Linux new_encode_dev: 8 low bits of the minor, the major, the rest of the minor.
                let minor = number & 0xff | number >> 12 & 0xfff00;
                metadata.device = Some((number >> 8 & 0xfff, minor));
                if extended {
                    self.xattr = cursor.u32()?;
                }
            }
            other @ (6 | 7) => {
                let _links = cursor.u32()?;
                metadata.kind = if other == 6 {
                    FileKind::Fifo
                } else {
                    FileKind::Socket
                };
                if extended {
                    self.xattr = cursor.u32()?;
                }
            }
            _ => return Err(damaged("there is an inode of an unknown kind")),
        }
        Ok(())
    }
}

impl Reader for Squashfs {
    fn details(&self) -> Details {
        Details {
            block_size: Some(self.block_size),
            uuid: None,
            features: Vec::new(),
            compression: vec![self.compression.to_owned()],
        }
    }

    fn root(&self) -> Result<Metadata, FsError> {
        Ok(Squashfs::root(self)?.metadata)
    }

    fn child(&self, dir: &Path, name: &OsStr) -> Result<Option<Metadata>, FsError> {
        Ok(self.find(&dir.join(name))?.map(|(inode, _)| inode.metadata))
    }

    fn list(&self, dir: &Path) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let (directory, _) = self.existing(dir)?;
        let mut entries = Vec::new();
        self.entries(&directory, |name, reference| {
            let (inode, _) = self.inode(reference)?;
            entries.push((OsString::from_vec(name.to_vec()), inode.metadata));
            Ok(true)
        })?;
        Ok(entries)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        match self.existing(path)?.0.body {
            Body::Symlink(target) => Ok(PathBuf::from(OsString::from_vec(target))),
            _ => Err(damaged("a symbolic link turned into something else")),
        }
    }

    fn read(&self, path: &Path, size: usize) -> Result<Vec<u8>, FsError> {
        let (_, reference) = self.existing(path)?;
        let (inode, mut blocks) = self.inode(reference)?;
        let Body::File {
            start,
            fragment,
            fragment_offset,
        } = inode.body
        else {
            return Err(damaged("a file turned into something else"));
        };
        let block_size = self.block_size as usize;
        let mut content = Vec::new();
        let mut at = start;
        while content.len() < size {
            let wanted = block_size.min(size - content.len());
            if wanted < block_size && fragment != NONE {
                content.extend(self.fragment(fragment, fragment_offset, wanted)?);
                break;
            }
            let packed = blocks.u32()?;
            // A block of size zero is a hole.
            let mut block = match packed {
                0 => vec![0; wanted],
                _ => self.data(at, packed, block_size)?,
            };
            if block.len() != wanted {
                return Err(damaged("a data block has a wrong length"));
            }
            content.append(&mut block);
            at = at.saturating_add(u64::from(packed & !STORED_DATA));
        }
        Ok(content)
    }

    fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        let (inode, _) = self.existing(path)?;
        let mut attributes = BTreeMap::new();
        if inode.xattr == NONE || self.xattrs == NO_TABLE {
            return Ok(Some(attributes));
        }
        let cut = || damaged("the table of extended attributes is cut");
        let pairs = self
            .window
            .peek(self.xattrs)
            .map(u64::from_le_bytes)
            .ok_or_else(cut)?;
        // The list of blocks follows 16 bytes of header.
        let list = self.xattrs.checked_add(16).ok_or_else(cut)?;
        let mut entry = self.indexed(list, u64::from(inode.xattr), 16)?;
        let (reference, count) = (entry.u64()?, entry.u32()?);
        let mut cursor = self.referred(pairs, reference)?;
        let mut total = 0;
        for _ in 0..count {
            let (number, length) = (cursor.u16()?, cursor.u16()?);
            let prefix = PREFIXES.get(usize::from(number & 0xff));
            let prefix = prefix.ok_or_else(|| damaged("an attribute has an unknown prefix"))?;
            let mut name = prefix.as_bytes().to_vec();
            name.extend(cursor.bytes(usize::from(length))?);
            let length = cursor.u32()?;
            let mut value = |cursor: &mut Cursor<'_>, length: u32| {
                total += u64::from(length) + 8;
                if total > MAX_XATTRS {
                    return Err(damaged(
                        "there are more extended attributes than Linux allows",
                    ));
                }
                cursor.bytes(usize::try_from(length).unwrap_or(usize::MAX))
            };
            let value = if number & VALUE_ELSEWHERE == 0 {
                value(&mut cursor, length)?
            } else {
                let mut elsewhere = self.referred(pairs, cursor.u64()?)?;
                let length = elsewhere.u32()?;
                value(&mut elsewhere, length)?
            };
            attributes.insert(name, value);
        }
        Ok(Some(attributes))
    }
}
