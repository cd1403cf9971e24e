//! Why something in an image cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use super::kind::FsKind;
use super::limits::MAX_SYMLINKS;
use super::metadata::FileKind;

/// Why something in an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The image file itself.
    #[error("reading the image: {0}")]
    Io(#[from] io::Error),
    /// No known magic number.
    #[error("there is no file system that systemd could mount")]
    Unrecognized,
    /// Known by name only.
    #[error("the file system is {0}, expected erofs, squashfs or ext4 to look inside")]
    Unsupported(FsKind),
    /// Compressed by something that is not read here.
    #[error(
        "the file system is {0} compressed by {1}, expected gzip, xz, lz4 or zstd to look inside"
    )]
    Codec(FsKind, &'static str),
    /// It contradicts itself.
    #[error("the file system is damaged or uses something unknown: {0}")]
    Damaged(String),
    /// There is no such path.
    #[error("{} is not in the image", .0.display())]
    NotFound(PathBuf),
    /// Something else than what the operation needs.
    #[error("{} is not a {expected:?} in the image", path.display())]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// What was expected.
        expected: FileKind,
    },
    /// Too many symbolic links.
    #[error("{} leads through more than {MAX_SYMLINKS} symbolic links", .0.display())]
    Loop(PathBuf),
    /// Longer than the caller reads.
    #[error("{} has {size} bytes, at most {limit} are read", path.display())]
    TooBig {
        /// Which file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// More entries than are read.
    #[error("there are more than {0} files")]
    TooManyEntries(usize),
}

pub(super) fn wrong(path: &Path, expected: FileKind) -> FsError {
    FsError::WrongKind {
        path: path.to_owned(),
        expected,
    }
}
