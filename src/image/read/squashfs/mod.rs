//! SquashFS 4.0 (Linux `fs/squashfs/squashfs_fs.h`).
//!
//! Only the decompressors are `backhand`'s. Its reader takes in the whole tree
//! at once, which a crafted image can blow up without bound, and it knows no
//! extended attributes; this one reads what is asked for, block by block.

mod inode;
mod metadata;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::error::FsError;
use super::kind::FsKind;
use super::limits::MAX_ENTRIES;
use super::metadata::{Details, Metadata, Xattrs};
use super::reader::Reader;
use super::window::Window;
use inode::{Body, Inode};
use metadata::{Cursor, Packed, compressor};

/// Bit in the size of a data block that is stored as it is.
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

pub(super) struct Squashfs {
    packed: Packed,
    compression: &'static str,
    block_size: u32,
    features: Vec<String>,
    root: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    xattrs: u64,
    ids: Vec<u32>,
}

/// Names of the flags in the superblock (`fs/squashfs/squashfs_fs.h`), by their bits.
const FLAGS: &[&str] = &[
    "inodes-stored",
    "data-stored",
    "",
    "fragments-stored",
    "no-fragments",
    "always-fragments",
    "deduplicated",
    "exportable",
    "xattrs-stored",
    "no-xattrs",
    "compressor-options",
    "ids-stored",
];

fn features(flags: u16) -> Vec<String> {
    FLAGS
        .iter()
        .enumerate()
        .filter(|(bit, name)| flags >> bit & 1 == 1 && !name.is_empty())
        .map(|(_, name)| (*name).to_owned())
        .collect()
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
        // Few kernels have the first, none the second.
        if matches!(compression, "lzo" | "lzma") {
            return Err(FsError::Codec(FsKind::Squashfs, compression));
        }
        let (count, ids) = (u16_at(26), u64_at(48));
        let mut fs = Squashfs {
            compression,
            block_size,
            features: features(u16_at(24)),
            root: u64_at(32),
            inodes: u64_at(64),
            directories: u64_at(72),
            fragments: u64_at(80),
            xattrs: u64_at(56),
            ids: Vec::new(),
            packed: Packed::new(window, compressor),
        };
        for number in 0..u64::from(count) {
            let id = fs.packed.indexed(ids, number, 4)?.u32()?;
            fs.ids.push(id);
        }
        Ok(fs)
    }

    /// The inode at a reference, and the place of its lists.
    fn inode(&self, reference: u64) -> Result<(Inode, Cursor<'_>), FsError> {
        let mut cursor = self.packed.referred(self.inodes, reference)?;
        Ok((Inode::read(&mut cursor, &self.ids)?, cursor))
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
        let mut cursor = self
            .packed
            .at(self.directories, u64::from(block), u64::from(offset))?;
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
        let read = self.packed.window.read_exact_at(&mut bytes, at);
        read.map_err(|_| damaged("a data block lies outside"))?;
        match size & STORED_DATA {
            0 => self.packed.unpack(&bytes, limit),
            _ => Ok(bytes),
        }
    }

    fn fragment(&self, number: u32, offset: u32, size: usize) -> Result<Vec<u8>, FsError> {
        if self.fragments == NO_TABLE {
            return Err(damaged("there is no table of fragments"));
        }
        let mut entry = self.packed.indexed(self.fragments, u64::from(number), 16)?;
        let (start, packed) = (entry.u64()?, entry.u32()?);
        let block = self.data(start, packed, self.block_size as usize)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let tail = block.get(from..from.saturating_add(size));
        tail.map(<[u8]>::to_vec)
            .ok_or_else(|| damaged("a file end lies outside its fragment"))
    }
}

impl Reader for Squashfs {
    fn details(&self) -> Details {
        Details {
            block_size: Some(self.block_size),
            uuid: None,
            features: self.features.clone(),
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
        let mut content = Vec::new();
        self.copy(path, size as u64, &mut content)?;
        Ok(content)
    }

    fn copy(&self, path: &Path, size: u64, out: &mut dyn Write) -> Result<(), FsError> {
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
        let (mut at, mut left) = (start, size);
        while left > 0 {
            let wanted = usize::try_from(left).map_or(block_size, |left| left.min(block_size));
            // The last piece of what is asked for may still be a whole block of the file.
            let is_tail =
                inode.metadata.size.saturating_sub(size - left) < u64::from(self.block_size);
            if is_tail && fragment != NONE {
                out.write_all(&self.fragment(fragment, fragment_offset, wanted)?)?;
                break;
            }
            let whole = match is_tail {
                true => {
                    usize::try_from(inode.metadata.size.saturating_sub(size - left)).unwrap_or(0)
                }
                false => block_size,
            };
            let packed = blocks.u32()?;
            // A block of size zero is a hole.
            let mut block = match packed {
                0 => vec![0; whole],
                _ => self.data(at, packed, block_size)?,
            };
            if block.len() != whole {
                return Err(damaged("a data block has a wrong length"));
            }
            block.truncate(wanted);
            out.write_all(&block)?;
            left -= wanted as u64;
            at = at.saturating_add(u64::from(packed & !STORED_DATA));
        }
        Ok(())
    }

    fn identity(&self, path: &Path) -> Result<Option<(u64, u32)>, FsError> {
        // Numbers are the writer's word; where the inode lies is not.
        let (inode, place) = self.existing(path)?;
        Ok(Some((place, inode.names)))
    }

    fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        let (inode, _) = self.existing(path)?;
        let mut attributes = BTreeMap::new();
        if inode.xattr == NONE || self.xattrs == NO_TABLE {
            return Ok(Some(attributes));
        }
        let cut = || damaged("the table of extended attributes is cut");
        let pairs = self
            .packed
            .window
            .peek(self.xattrs)
            .map(u64::from_le_bytes)
            .ok_or_else(cut)?;
        // The list of blocks follows 16 bytes of header.
        let list = self.xattrs.checked_add(16).ok_or_else(cut)?;
        let mut entry = self.packed.indexed(list, u64::from(inode.xattr), 16)?;
        let (reference, count) = (entry.u64()?, entry.u32()?);
        let mut cursor = self.packed.referred(pairs, reference)?;
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
                let mut elsewhere = self.packed.referred(pairs, cursor.u64()?)?;
                let length = elsewhere.u32()?;
                value(&mut elsewhere, length)?
            };
            attributes.insert(name, value);
        }
        Ok(Some(attributes))
    }
}
