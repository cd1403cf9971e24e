//! Inodes of ext2, ext3 and ext4 as they lie on disk, for what `ext4-view` does not give: extended
//! attributes and device numbers (Linux `Documentation/filesystems/ext4/`, `fs/ext4/ext4.h`).
//!
//! Every number is the image's word and is checked before it leads anywhere. A file system whose
//! layout is not covered here (meta block groups, a journal to replay) has no [`Inodes`].

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::image::read::error::FsError;
use crate::image::read::limits::MAX_DIRECTORY;
use crate::image::read::window::Window;

/// Where the superblock begins, in bytes.
const SUPERBLOCK: u64 = 1024;
/// The root directory.
const ROOT_INODE: u32 = 2;
/// INCOMPAT_RECOVER: the journal holds what is true.
const RECOVER: u32 = 0x4;
/// INCOMPAT_META_BG: group descriptors are spread over the groups.
const META_BG: u32 = 0x10;
/// INCOMPAT_64BIT: group descriptors have the size that the superblock says.
const WIDE: u32 = 0x80;
/// EXT4_EXTENTS_FL and EXT4_INLINE_DATA_FL of an inode.
const EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;
/// First bytes of a node of an extent tree, and how deep such a tree may be.
const EXTENT_MAGIC: u16 = 0xf30a;
const MAX_EXTENT_DEPTH: u16 = 5;
/// Blocks that a block map names itself.
const DIRECT: u64 = 12;
/// Of an extent's length, from which on it is allocated but not written.
const UNWRITTEN: u16 = 0x8000;

/// The part of a file system in which inodes are found.
pub(super) struct Inodes {
    window: Window,
    block_size: u64,
    inode_size: u64,
    inodes: u32,
    inodes_per_group: u32,
    descriptors: u64,
    descriptor_size: u64,
}

/// One inode, byte for byte.
pub(super) struct Inode(Vec<u8>);

impl Inode {
    /// All its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32_at(&self.0, at).unwrap_or(0)
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16_at(&self.0, at).unwrap_or(0)
    }

    fn flags(&self) -> u32 {
        self.u32_at(0x20)
    }

    /// Whether its blocks are found by a map, neither by extents nor in the inode itself.
    pub(super) fn has_map(&self) -> bool {
        self.flags() & (EXTENTS | INLINE_DATA) == 0
    }

    /// Length of a directory in bytes.
    fn size(&self) -> u64 {
        u64::from(self.u32_at(0x4)) | u64::from(self.u32_at(0x6c)) << 32
    }

    /// The block with attributes that do not fit into the inode; 0 if there is none.
    pub(super) fn attribute_block(&self) -> u64 {
        u64::from(self.u32_at(0x68)) | u64::from(self.u16_at(0x76)) << 32
    }

    /// Major and minor number of a device: in the old form of 16 bits, else in the new one
    /// (`new_decode_dev`, Linux include/linux/kdev_t.h).
    pub(super) fn device(&self) -> (u32, u32) {
        match self.u32_at(0x28) {
            0 => {
                let new = self.u32_at(0x2c);
                ((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xf_ff00))
            }
            old => ((old >> 8) & 0xff, old & 0xff),
        }
    }

    /// Where attributes inside of it begin, in bytes; `i_extra_isize` counts from byte 128.
    pub(super) fn own_attributes(&self) -> Option<&[u8]> {
        let extra = usize::from(u16_at(&self.0, 0x80)?);
        self.0.get(128usize.checked_add(extra)?..)
    }
}

impl Inodes {
    /// Nothing where the layout is not covered.
    pub(super) fn open(window: Window) -> Option<Inodes> {
        let number = |at: u64| window.peek(SUPERBLOCK + at).map(u32::from_le_bytes);
        let short = |at: u64| window.peek(SUPERBLOCK + at).map(u16::from_le_bytes);
        let block_size = 1024u64
            .checked_shl(number(0x18)?)
            .filter(|size| *size != 0)?;
        let incompat = number(0x60)?;
        let is_old = number(0x4c)? == 0;
        let inode_size = if is_old { 128 } else { u64::from(short(0x58)?) };
        let descriptor_size = match incompat & WIDE {
            0 => 32,
            _ => u64::from(short(0xfe)?),
        };
        let inodes_per_group = number(0x28)?;
        let sane = incompat & (RECOVER | META_BG) == 0
            && (1024..=65536).contains(&block_size)
            && inode_size.is_power_of_two()
            && (128..=block_size).contains(&inode_size)
            && (32..=1024).contains(&descriptor_size)
            && inodes_per_group != 0;
        let inodes = number(0)?;
        // In the block after that of the superblock (`descriptor_loc`, fs/ext4/super.c).
        let descriptors = (SUPERBLOCK / block_size + 1) * block_size;
        sane.then_some(Inodes {
            window,
            block_size,
            inode_size,
            inodes,
            inodes_per_group,
            descriptors,
            descriptor_size,
        })
    }

    /// The inode at a path that leads through no symbolic link.
    pub(super) fn find(&self, path: &Path) -> Result<Inode, FsError> {
        self.numbered(path).map(|(_, inode)| inode)
    }

    fn numbered(&self, path: &Path) -> Result<(u32, Inode), FsError> {
        let mut found = (ROOT_INODE, self.read(ROOT_INODE)?);
        for component in path.components() {
            if let Component::Normal(name) = component {
                let number = self.lookup(&found.1, name)?;
                let number = number.ok_or_else(|| FsError::NotFound(path.to_owned()))?;
                found = (number, self.read(number)?);
            }
        }
        Ok(found)
    }

    /// Number and link count (i_links_count) of the inode at such a path.
    pub(super) fn identity(&self, path: &Path) -> Result<(u64, u32), FsError> {
        let (number, inode) = self.numbered(path)?;
        Ok((u64::from(number), u32::from(inode.u16_at(0x1a))))
    }

    /// A whole block.
    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>, FsError> {
        let at = number.checked_mul(self.block_size);
        let at = at.ok_or_else(|| damaged(format!("there is no block {number}")))?;
        self.bytes(at, self.block_size)
    }

    /// Writes the first `size` bytes of a file; holes are zeros.
    pub(super) fn copy(
        &self,
        inode: &Inode,
        size: u64,
        out: &mut dyn Write,
    ) -> Result<(), FsError> {
        let mut left = size;
        for logical in 0..size.div_ceil(self.block_size) {
            let count = left.min(self.block_size);
            let block = match self.block_of(inode, logical)? {
                Some(number) => self.block(number)?,
                None => vec![0; usize::try_from(count).unwrap_or(0)],
            };
            let wanted = usize::try_from(count).unwrap_or(0);
            out.write_all(block.get(..wanted).unwrap_or(&block))?;
            left -= count;
        }
        Ok(())
    }

    fn bytes(&self, at: u64, count: u64) -> Result<Vec<u8>, FsError> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        self.window
            .read_exact_at(&mut bytes, at)
            .map_err(|error| damaged(format!("reading {count} bytes at {at}: {error}")))?;
        Ok(bytes)
    }

    fn read(&self, number: u32) -> Result<Inode, FsError> {
        let bad = || damaged(format!("there is no inode {number}"));
        let index = number.checked_sub(1).filter(|index| *index < self.inodes);
        let index = index.ok_or_else(bad)?;
        let (group, slot) = (index / self.inodes_per_group, index % self.inodes_per_group);
        let descriptor = u64::from(group).checked_mul(self.descriptor_size);
        let descriptor = descriptor.and_then(|offset| offset.checked_add(self.descriptors));
        let descriptor = self.bytes(descriptor.ok_or_else(bad)?, self.descriptor_size)?;
        // bg_inode_table_lo and, in wide descriptors, bg_inode_table_hi.
        let low = u32_at(&descriptor, 0x8).ok_or_else(bad)?;
        let high = u32_at(&descriptor, 0x28).unwrap_or(0);
        let table = u64::from(low) | u64::from(high) << 32;
        let at = table
            .checked_mul(self.block_size)
            .and_then(|start| start.checked_add(u64::from(slot) * self.inode_size))
            .ok_or_else(bad)?;
        self.bytes(at, self.inode_size).map(Inode)
    }

    /// The number of a name in a directory. Index nodes of hashed directories look like blocks
    /// without names, so all blocks are gone through.
    fn lookup(&self, directory: &Inode, name: &OsStr) -> Result<Option<u32>, FsError> {
        if directory.flags() & INLINE_DATA != 0 {
            return Err(damaged("a directory lies inside its inode".to_owned()));
        }
        let size = directory.size();
        if size > MAX_DIRECTORY {
            return Err(damaged(format!("a directory has {size} bytes")));
        }
        for logical in 0..size.div_ceil(self.block_size) {
            let Some(block) = self.block_of(directory, logical)? else {
                continue;
            };
            let block = self.block(block)?;
            let mut rest = block.as_slice();
            while let Some(entry) = Entry::first(rest) {
                if entry.inode != 0 && entry.name == name.as_bytes() {
                    return Ok(Some(entry.inode));
                }
                rest = rest.get(entry.length..).unwrap_or_default();
            }
        }
        Ok(None)
    }

    /// Where a block of a file lies; nothing for a hole.
    fn block_of(&self, inode: &Inode, logical: u64) -> Result<Option<u64>, FsError> {
        let map = inode.bytes().get(0x28..0x64).unwrap_or_default();
        match inode.flags() & EXTENTS {
            0 => self.mapped(map, logical),
            _ => self.extent(map.to_vec(), logical),
        }
    }

    /// By the tree of extents, whose root lies in the inode.
    fn extent(&self, mut node: Vec<u8>, logical: u64) -> Result<Option<u64>, FsError> {
        let bad = || damaged("an extent tree contradicts itself".to_owned());
        let mut below = MAX_EXTENT_DEPTH + 1;
        loop {
            let depth = u16_at(&node, 6).ok_or_else(bad)?;
            if u16_at(&node, 0) != Some(EXTENT_MAGIC) || depth >= below {
                return Err(bad());
            }
            below = depth;
            let count = usize::from(u16_at(&node, 2).ok_or_else(bad)?);
            let entries = node
                .get(12..)
                .unwrap_or_default()
                .chunks_exact(12)
                .take(count);
            let first = |entry: &[u8]| u32_at(entry, 0).map_or(u64::MAX, u64::from);
            let Some(entry) = entries.take_while(|entry| first(entry) <= logical).last() else {
                return Ok(None);
            };
            let low = u32_at(entry, if depth == 0 { 8 } else { 4 }).ok_or_else(bad)?;
            let high = u16_at(entry, if depth == 0 { 6 } else { 8 }).ok_or_else(bad)?;
            let start = u64::from(low) | u64::from(high) << 32;
            if depth > 0 {
                node = self.block(start)?;
                continue;
            }
            let length = u16_at(entry, 4).ok_or_else(bad)?;
            let inside = logical - first(entry);
            // Unwritten ones read as zeros, as holes do.
            let is_there = length <= UNWRITTEN && inside < u64::from(length);
            return Ok(is_there.then_some(start.saturating_add(inside)));
        }
    }

    /// By the block map of ext2 and ext3: 12 blocks, then up to three levels of tables.
    fn mapped(&self, map: &[u8], logical: u64) -> Result<Option<u64>, FsError> {
        let per_table = self.block_size / 4;
        let Some(mut left) = logical.checked_sub(DIRECT) else {
            let block = self.entry(map, logical)?;
            return Ok((block != 0).then_some(block));
        };
        // How many blocks the tables of a level lead to.
        let (mut level, mut span) = (0, per_table);
        while left >= span {
            left -= span;
            level += 1;
            span = span.saturating_mul(per_table);
        }
        if level > 2 {
            return Err(damaged("a directory is larger than its map".to_owned()));
        }
        let mut block = self.entry(map, DIRECT + level)?;
        while span > 1 && block != 0 {
            span /= per_table;
            let table = self.block(block)?;
            block = self.entry(&table, left / span)?;
            left %= span;
        }
        Ok((block != 0).then_some(block))
    }

    fn entry(&self, table: &[u8], slot: u64) -> Result<u64, FsError> {
        let at = usize::try_from(slot)
            .ok()
            .and_then(|slot| slot.checked_mul(4));
        let block = at.and_then(|at| u32_at(table, at));
        block
            .map(u64::from)
            .ok_or_else(|| damaged("a block map ends too early".to_owned()))
    }
}

/// An entry of a directory (`ext4_dir_entry_2`).
struct Entry<'a> {
    inode: u32,
    length: usize,
    name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The one at the start; nothing where none can be, which ends the block.
    fn first(block: &'a [u8]) -> Option<Entry<'a>> {
        let length = usize::from(u16_at(block, 4)?);
        let name_length = usize::from(*block.get(6)?);
        let name = block.get(8..8 + name_length)?;
        (length >= 8 + name_length).then_some(Entry {
            inode: u32_at(block, 0)?,
            // 64 KiB do not fit into the field (`ext4_rec_len_from_disk`).
            length: if length == 0xffff { 0x1_0000 } else { length },
            name,
        })
    }
}

fn damaged(message: String) -> FsError {
    FsError::Damaged(message)
}

/// A little-endian number.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A little-endian number.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}
