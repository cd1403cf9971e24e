//! Writing EROFS, the read-only file system of the kernel.
//!
//! The on-disk format is that of the kernel's `fs/erofs/erofs_fs.h` and
//! `Documentation/filesystems/erofs.rst`. The metadata comes first on disk and
//! its length follows from names and lengths alone, so `layout` places all
//! inodes before the first file is read. Then `feed` hands pieces of
//! files to threads (`pool`), which read and compress them (`encode`), and
//! `record` gives the results their blocks in the order of the paths. Every
//! file is read once and every block is written once, as two ascending runs:
//!
//! ```text
//! block 0      1 …                                     data_start …
//! superblock | inodes, attributes, file tails, indices | data, directory blocks
//! ```
//!
//! The same tree and parameters give the same bytes, however many threads
//! there are. Files of equal content share their data; zeros have none.

pub mod compress;
pub(crate) mod encode;
pub(crate) mod error;
mod feed;
pub(crate) mod format;
pub(crate) mod layout;
pub(crate) mod pack;
pub(crate) mod params;
pub(crate) mod pool;
pub(crate) mod record;
pub(crate) mod region;
pub(crate) mod share;
pub(crate) mod stream;
pub(crate) mod write;
