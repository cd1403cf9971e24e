//! On-disk formats: partition table, hash tree, signature, file systems.

pub mod compressed;
pub mod dissect;
pub mod erofs;
pub mod gpt;
pub mod mkfs;
pub mod read;
pub(crate) mod sidecar;
pub mod signature;
#[cfg(test)]
pub(crate) mod testing;
pub mod verity;
pub mod x509;

/// A file system and how it compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// EROFS, written here.
    Erofs {
        /// How files are compressed.
        compression: Option<erofs::compress::Compression>,
        /// Whether equal compressed files share their data, see `erofs::params::Params`.
        share_compressed: bool,
    },
    /// squashfs, by `mksquashfs`.
    Squashfs(mkfs::squashfs::Compression),
    /// ext4, by `mkfs.ext4` and `debugfs`.
    Ext4,
}
