//! The bytes of regular files while an image is written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, SeekFrom};

use super::write::WriteError;

/// Where bytes come from.
#[derive(Debug, Clone)]
pub enum Reader<'a> {
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
}

impl<'a> Reader<'a> {
    /// Opens a file that must still be a regular one of `size` bytes.
    pub fn open(path: &'a Path, size: u64) -> Result<Reader<'a>, WriteError> {
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
    pub fn bytes(bytes: &'a [u8], size: u64) -> Result<Reader<'a>, WriteError> {
        match bytes.len() as u64 == size {
            true => Ok(Reader::Bytes(bytes)),
            false => {
                let found = format!("{} bytes", bytes.len());
                Err(changed(Path::new("(generated content)"), size, &found))
            }
        }
    }

    /// Appends the `count` bytes at `offset`.
    pub fn append(&self, offset: u64, count: usize, to: &mut Vec<u8>) -> Result<(), WriteError> {
        match self {
            Reader::Bytes(bytes) => {
                // Inside: the announced length was compared.
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let piece = bytes.get(start..).and_then(|rest| rest.get(..count));
                to.extend_from_slice(piece.unwrap_or_default());
                Ok(())
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
    pub fn finish(&self) -> Result<(), WriteError> {
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
    pub fn is_hole(&self, offset: u64, count: u64) -> bool {
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

fn unreadable(path: &Path, source: io::Error) -> WriteError {
    WriteError::Read {
        path: path.to_owned(),
        source,
    }
}

fn changed(path: &Path, size: u64, found: &str) -> WriteError {
    WriteError::Changed {
        path: PathBuf::from(path),
        expected: format!("{size} bytes"),
        found: found.to_owned(),
    }
}
