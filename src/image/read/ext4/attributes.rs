//! Extended attributes of ext2, ext3 and ext4 (Linux `fs/ext4/xattr.h`): in the inode after its
//! fields, and in a block of their own.

use super::inodes::{Inode, Inodes, u16_at, u32_at};
use crate::image::read::error::FsError;
use crate::image::read::metadata::Xattrs;

/// First bytes of both places.
const MAGIC: u32 = 0xea02_0000;
/// Bytes before the entries in a block of attributes.
const BLOCK_HEADER: usize = 32;
/// Bytes of an entry before its name.
const ENTRY_HEADER: usize = 16;
/// Number of an ACL entry without user or group.
const NOBODY: u32 = u32::MAX;

/// All attributes of an inode; nothing where a value lies in an inode of its own
/// (INCOMPAT_EA_INODE), which is not read.
pub(super) fn read(inodes: &Inodes, inode: &Inode) -> Result<Option<Xattrs>, FsError> {
    let mut found = Xattrs::new();
    if let Some(own) = inode.own_attributes()
        && u32_at(own, 0) == Some(MAGIC)
    {
        // Values are counted from the first entry.
        let own = own.get(4..).unwrap_or_default();
        if !collect(own, own, &mut found)? {
            return Ok(None);
        }
    }
    let block = inode.attribute_block();
    if block != 0 {
        let block = inodes.block(block)?;
        if u32_at(&block, 0) != Some(MAGIC) {
            return Err(damaged("a block of attributes has no magic number"));
        }
        // Values are counted from the start of the block.
        let entries = block.get(BLOCK_HEADER..).unwrap_or_default();
        if !collect(entries, &block, &mut found)? {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// Whether all could be taken in.
fn collect(mut entries: &[u8], values: &[u8], found: &mut Xattrs) -> Result<bool, FsError> {
    let short = || damaged("an attribute reaches beyond its place");
    // Four zero bytes end the entries, as does the end of the room.
    while u32_at(entries, 0).is_some_and(|first| first != 0) {
        let (length, index) = match entries {
            [length, index, ..] => (usize::from(*length), *index),
            _ => return Err(short()),
        };
        let name = entries.get(ENTRY_HEADER..ENTRY_HEADER + length);
        let name = name.ok_or_else(short)?;
        let start = usize::from(u16_at(entries, 2).ok_or_else(short)?);
        if u32_at(entries, 4) != Some(0) {
            return Ok(false);
        }
        let size = u32_at(entries, 8).and_then(|size| usize::try_from(size).ok());
        let end = size.and_then(|size| start.checked_add(size));
        let value = end
            .and_then(|end| values.get(start..end))
            .ok_or_else(short)?;
        if let Some(prefix) = prefix(index) {
            let value = match index {
                2 | 3 => acl(value).ok_or_else(|| damaged("an ACL contradicts itself"))?,
                _ => value.to_vec(),
            };
            found.insert([prefix, name].concat(), value);
        }
        let next = ENTRY_HEADER + length.next_multiple_of(4);
        entries = entries.get(next..).unwrap_or_default();
    }
    Ok(true)
}

/// The part of the name that stands as a number.
fn prefix(index: u8) -> Option<&'static [u8]> {
    Some(match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        _ => return None,
    })
}

/// From the form on disk, in which only entries of users and groups have a number
/// (`ext4_acl_from_disk`), to that of the system call (`posix_acl_to_xattr`).
fn acl(disk: &[u8]) -> Option<Vec<u8>> {
    if u32_at(disk, 0)? != 1 {
        return None;
    }
    let mut text = 2u32.to_le_bytes().to_vec();
    let mut rest = disk.get(4..)?;
    while !rest.is_empty() {
        let is_numbered = matches!(u16_at(rest, 0)?, 0x02 | 0x08);
        text.extend(rest.get(..4)?);
        let (id, length) = match is_numbered {
            true => (u32_at(rest, 4)?, 8),
            false => (NOBODY, 4),
        };
        text.extend(id.to_le_bytes());
        rest = rest.get(length..)?;
    }
    Some(text)
}

fn damaged(message: &str) -> FsError {
    FsError::Damaged(message.to_owned())
}
