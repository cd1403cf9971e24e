//! Writing EROFS, the read-only file system of the kernel, without compression.
//!
//! The on-disk format is that of the kernel's `fs/erofs/erofs_fs.h` and
//! `Documentation/filesystems/erofs.rst`. Sizes of all files are known before
//! the first byte is written, so [`layout`] places everything first and
//! [`mod@write`] then reads every file once, in order, and writes every block once.
//! Blocks go out as two ascending runs, metadata and data:
//!
//! ```text
//! block 0      1 …                            data_start …
//! superblock | inodes, attributes, file tails | whole data blocks, directory blocks
//! ```
//!
//! The same tree and parameters give the same bytes.

pub mod format;
pub mod layout;
pub mod write;
