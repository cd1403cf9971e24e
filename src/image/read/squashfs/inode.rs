//! Inodes of all fourteen kinds.

use super::metadata::Cursor;
use super::{NONE, damaged};
use crate::image::read::error::FsError;
use crate::image::read::limits::MAX_PATH;
use crate::image::read::metadata::{FileKind, Metadata};

/// An inode without its lists.
pub(super) struct Inode {
    pub(super) metadata: Metadata,
    pub(super) xattr: u32,
    /// How many names lead to it.
    pub(super) names: u32,
    pub(super) body: Body,
}

pub(super) enum Body {
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

impl Inode {
    /// Reads an inode whose owners are numbers in `ids`; the cursor is then at its lists.
    pub(super) fn read(cursor: &mut Cursor<'_>, ids: &[u32]) -> Result<Inode, FsError> {
        let (kind, mode) = (cursor.u16()?, cursor.u16()?);
        let (uid, gid) = (cursor.u16()?, cursor.u16()?);
        let (mtime, _number) = (cursor.u32()?, cursor.u32()?);
        let id = |index: u16| {
            let found = ids.get(usize::from(index)).copied();
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
                mtime_nanos: 0,
                device: None,
            },
            xattr: NONE,
            // A basic file has no count, because it has one name.
            names: 1,
            body: Body::Other,
        };
        inode.read_body(kind, cursor)?;
        Ok(inode)
    }

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
                    let _sparse = cursor.u64()?;
                    self.names = cursor.u32()?;
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
                self.names = cursor.u32()?;
                let length = cursor.u32()?;
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= MAX_PATH);
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
                self.names = cursor.u32()?;
                let number = cursor.u32()?;
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
                self.names = cursor.u32()?;
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
