//! Which file system it is, told by its magic numbers.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::window::Window;

/// A kind of file system, by libblkid's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// Read here.
    Erofs,
    /// Read here.
    Squashfs,
    /// Read here.
    Ext4,
    /// Read here; systemd does not mount it since 253.
    Ext3,
    /// Read here; systemd does not mount it since 253.
    Ext2,
    /// Only named.
    Btrfs,
    /// Only named.
    Xfs,
    /// Only named.
    Vfat,
    /// Only named.
    F2fs,
    /// An encrypted volume; only named.
    #[serde(rename = "crypto_LUKS")]
    Luks,
}

impl FsKind {
    /// The name in libblkid and in systemd's messages.
    pub fn name(self) -> &'static str {
        match self {
            FsKind::Erofs => "erofs",
            FsKind::Squashfs => "squashfs",
            FsKind::Ext4 => "ext4",
            FsKind::Ext3 => "ext3",
            FsKind::Ext2 => "ext2",
            FsKind::Btrfs => "btrfs",
            FsKind::Xfs => "xfs",
            FsKind::Vfat => "vfat",
            FsKind::F2fs => "f2fs",
            FsKind::Luks => "crypto_LUKS",
        }
    }

    /// Bytes that its superblock lays claim to, for those kinds that the kernel refuses to mount
    /// from less (`ext4_fill_super`, `squashfs_fill_super`).
    pub fn claimed_size(self, window: &Window) -> Option<u64> {
        let number = |at: u64| window.peek(at).map(u32::from_le_bytes).map(u64::from);
        match self {
            FsKind::Squashfs => window.peek(40).map(u64::from_le_bytes),
            FsKind::Ext4 | FsKind::Ext3 | FsKind::Ext2 => {
                // s_blocks_count_lo, s_log_block_size; s_blocks_count_hi with INCOMPAT_64BIT.
                let block = 1024u64.checked_shl(window.peek(1024 + 24).map(u32::from_le_bytes)?)?;
                let wide = number(1024 + 0x60)? & 0x80 != 0;
                let high = if wide { number(1024 + 0x150)? } else { 0 };
                (number(1024 + 4)? | high << 32).checked_mul(block)
            }
            _ => None,
        }
    }

    /// Tells by the magic numbers what is in a window; nothing if it is none of these.
    pub fn identify(window: &Window) -> Option<FsKind> {
        if window.peek(1024) == Some(0xe0f5_e1e2_u32.to_le_bytes()) {
            return Some(FsKind::Erofs);
        }
        if window.peek(0) == Some(*b"hsqs") {
            return Some(FsKind::Squashfs);
        }
        if window.peek(1024 + 0x38) == Some([0x53, 0xef]) {
            return ext_generation(window);
        }
        if window.peek(0) == Some(*b"LUKS\xba\xbe") {
            return Some(FsKind::Luks);
        }
        if window.peek(0) == Some(*b"XFSB") {
            return Some(FsKind::Xfs);
        }
        if window.peek(64 * 1024 + 64) == Some(*b"_BHRfS_M") {
            return Some(FsKind::Btrfs);
        }
        if window.peek(1024) == Some(0xf2f5_2010_u32.to_le_bytes()) {
            return Some(FsKind::F2fs);
        }
        let fat = window.peek(54) == Some(*b"FAT") || window.peek(82) == Some(*b"FAT32");
        (fat && window.peek(510) == Some([0x55, 0xaa])).then_some(FsKind::Vfat)
    }
}

/// The distinction that libblkid makes (`superblocks/ext.c`).
fn ext_generation(window: &Window) -> Option<FsKind> {
    let field = |at: u64| window.peek(1024 + at).map(u32::from_le_bytes);
    let (compat, incompat, ro_compat) = (field(0x5c)?, field(0x60)?, field(0x64)?);
    // Not among filetype, recover, meta_bg; sparse_super, large_file, btree_dir.
    if incompat & !0x16 != 0 || ro_compat & !0x07 != 0 {
        return Some(FsKind::Ext4);
    }
    let has_journal = compat & 0x04 != 0;
    Some(if has_journal {
        FsKind::Ext3
    } else {
        FsKind::Ext2
    })
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::read::window::testing::{window, with};
    use crate::image::read::{FileSystem, FsError};

    #[test]
    fn magic_numbers_tell_the_kind() {
        for (at, magic, kind) in [
            (0, &b"XFSB"[..], FsKind::Xfs),
            (0, b"LUKS\xba\xbe", FsKind::Luks),
            (65536 + 64, b"_BHRfS_M", FsKind::Btrfs),
            (1024, &[0x10, 0x20, 0xf5, 0xf2], FsKind::F2fs),
            (54, b"FAT16", FsKind::Vfat),
            (82, b"FAT32", FsKind::Vfat),
            (1024 + 56, &[0x53, 0xef], FsKind::Ext2),
        ] {
            assert_eq!(FsKind::identify(&with(at, magic)), Some(kind));
        }
        assert!(matches!(
            FileSystem::open(window(&[])),
            Err(FsError::Unrecognized)
        ));
        let xfs = FileSystem::open(with(0, b"XFSB"));
        assert!(matches!(xfs, Err(FsError::Unsupported(FsKind::Xfs))));
    }
}
