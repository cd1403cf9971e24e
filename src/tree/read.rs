//! The bytes of regular files, read while an image is written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, SeekFrom};

use super::inode::{Packed, Source};

/// Why the bytes of a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("reading {path}: {source}")]
    Read {
        /// The file on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it was when the tree was collected.
    #[error(
        "{path} changed while it was read: expected {expected}, found {found}; build again when nothing writes to it"
    )]
    Changed {
        /// The file on this machine.
        path: PathBuf,
        /// What was collected.
        expected: String,
        /// What is there now.
        found: String,
    },
}

/// Where bytes come from.
#[derive(Debug, Clone)]
pub(crate) enum Reader<'a> {
    /// Made by us.
    Bytes(&'a [u8]),
    /// An open file.
    File {
        /// Shared by the threads that read pieces of it.
        file: Arc<File>,
        /// Its path, for messages.
        path: &'a Path,
        /// Its length when it was collected, in bytes.
        size: u64,
    },
    /// A range of an open archive.
    Packed {
        /// The archive.
        packed: &'a Packed,
        /// Length of the range in bytes.
        size: u64,
    },
}

impl<'a> Reader<'a> {
    /// Opens what a file of `size` bytes consists of.
    pub(crate) fn new(source: &'a Source, size: u64) -> Result<Reader<'a>, ReadError> {
        match source {
            Source::Path(path) => Reader::open(path, size),
            Source::Bytes(bytes) => Reader::bytes(bytes, size),
            Source::Packed(packed) => Ok(Reader::Packed { packed, size }),
        }
    }

    /// Opens a file that must still be a regular one of `size` bytes.
    fn open(path: &'a Path, size: u64) -> Result<Reader<'a>, ReadError> {
        let read = |source| unreadable(path, source);
        // Neither follow a link that took the file's place nor wait for the writer of a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(changed(path, size, "no regular file"));
        }
        if metadata.len() != size {
            let found = format!("{} bytes", metadata.len());
            return Err(changed(path, size, &found));
        }
        let file = Arc::new(file);
        Ok(Reader::File { file, path, size })
    }

    /// Takes bytes made by us, of which `size` were announced.
    pub(crate) fn bytes(bytes: &'a [u8], size: u64) -> Result<Reader<'a>, ReadError> {
        match bytes.len() as u64 == size {
            true => Ok(Reader::Bytes(bytes)),
            false => {
                let found = format!("{} bytes", bytes.len());
                Err(changed(Path::new("(generated content)"), size, &found))
            }
        }
    }

    /// Appends the `count` bytes at `offset`.
    pub(crate) fn append(
        &self,
        offset: u64,
        count: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        match self {
            Reader::Bytes(bytes) => {
                // Inside: the announced length was compared.
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let piece = bytes.get(start..).and_then(|rest| rest.get(..count));
                to.extend_from_slice(piece.unwrap_or_default());
                Ok(())
            }
            Reader::Packed { packed, size } => {
                let before = to.len();
                to.resize(before + count, 0);
                let room = to.get_mut(before..).unwrap_or_default();
                let at = packed.offset.saturating_add(offset);
                packed
                    .file
                    .read_exact_at(room, at)
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::UnexpectedEof => changed(&packed.path, *size, "less"),
                        _ => unreadable(&packed.path, error),
                    })
            }
            Reader::File { file, path, size } => {
                let before = to.len();
                to.resize(before + count, 0);
                let room = to.get_mut(before..).unwrap_or_default();
                file.read_exact_at(room, offset)
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::UnexpectedEof => changed(path, *size, "less"),
                        _ => unreadable(path, error),
                    })
            }
        }
    }

    /// After the last byte: the file must not have grown since it was opened.
    pub(crate) fn finish(&self) -> Result<(), ReadError> {
        let Reader::File { file, path, size } = self else {
            return Ok(());
        };
        match file.read_at(&mut [0], *size) {
            Ok(0) => Ok(()),
            Ok(_) => Err(changed(path, *size, "more")),
            Err(error) => Err(unreadable(path, error)),
        }
    }

    /// Whether the file system knows that all bytes of a range are zeros.
    pub(crate) fn is_hole(&self, offset: u64, count: u64) -> bool {
        let Reader::File { file, .. } = self else {
            return false;
        };
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data >= offset.saturating_add(count),
            // No data up to the end; other errors are for whoever reads.
            Err(error) => error == rustix::io::Errno::NXIO,
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> ReadError {
    ReadError::Read {
        path: path.to_owned(),
        source,
    }
}

fn changed(path: &Path, size: u64, found: &str) -> ReadError {
    ReadError::Changed {
        path: PathBuf::from(path),
        expected: format!("{size} bytes"),
        found: found.to_owned(),
    }
}
