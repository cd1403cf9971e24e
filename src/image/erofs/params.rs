//! What a file system is besides its content, and how much of it is worked on at a time.

use std::num::NonZero;

use super::compress::Compression;

/// Bytes that one thread works on at a time: the longest piece of a file, and about what short
/// files are gathered to.
pub(crate) const PIECE_SIZE: u64 = 1 << 20;

/// What the file system is besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Params {
    /// File system UUID in text order.
    pub uuid: [u8; 16],
    /// The modification time of everything, in seconds since 1970.
    pub epoch_seconds: u64,
    /// Label, NUL padded; zeros for none.
    pub volume_name: [u8; 16],
    /// How files of more than a block are compressed.
    pub compression: Option<Compression>,
    /// Whether equal compressed files share their data, which takes Linux 6.1 to mount. Files
    /// that are not compressed always do.
    pub share_compressed: bool,
    /// How many threads read and compress; the image does not depend on it. Each takes some
    /// 5 MiB, more with high levels of Zstandard.
    pub threads: NonZero<usize>,
}
