//! A part of a file, read as if it were a file of its own.

use std::fs::File;
use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A range of bytes of an open file. No read leaves it.
#[derive(Debug, Clone)]
pub struct Window {
    file: Arc<File>,
    offset: u64,
    length: u64,
}

impl Window {
    /// The `length` bytes from `offset`; the file may turn out to be shorter.
    pub fn new(file: Arc<File>, offset: u64, length: u64) -> Window {
        Window {
            file,
            offset,
            length,
        }
    }

    /// Bytes in the window.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from the byte `at` of the window.
    ///
    /// # Errors
    /// `UnexpectedEof` where the window or the file ends before `buffer` is full, else what reading
    /// the file says. `buffer` may then hold a part.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let wanted = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = at.checked_add(wanted).filter(|end| *end <= self.length);
        let start = self.offset.checked_add(at);
        match (end, start) {
            (Some(_), Some(start)) => self.file.read_exact_at(buffer, start),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The bytes at `at`, or `None` where the window or the file ends before them.
    pub fn peek<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    }

    /// A cursor over the window.
    pub fn reader(&self) -> WindowReader {
        WindowReader {
            window: self.clone(),
            position: 0,
        }
    }
}

/// Reads a [`Window`] from front to back, with seeking.
#[derive(Debug)]
pub struct WindowReader {
    window: Window,
    position: u64,
}

impl Read for WindowReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.window.length.saturating_sub(self.position);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let (Some(buffer), Some(at)) = (
            buffer.get_mut(..count),
            self.window.offset.checked_add(self.position),
        ) else {
            return Ok(0);
        };
        let count = self.window.file.read_at(buffer, at)?;
        self.position = self
            .position
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

impl Seek for WindowReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => self.window.length.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Windows over bytes, for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use std::io::Write;

    /// A window over all of these bytes.
    pub(crate) fn window(bytes: &[u8]) -> Window {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Window::new(Arc::new(file), 0, bytes.len() as u64)
    }

    /// A window over zeros with this magic number, and with that of a boot sector.
    pub(crate) fn with(at: usize, magic: &[u8]) -> Window {
        let mut bytes = vec![0; 128 * 1024];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        window(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn no_read_leaves_the_window() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let window = Window::new(Arc::new(file), 2, 5);
        assert_eq!(window.peek(0), Some(*b"23456"));
        assert_eq!(window.peek::<6>(0), None);
        assert_eq!(window.peek::<1>(u64::MAX), None);
        let mut text = String::new();
        let mut reader = window.reader();
        reader.seek(SeekFrom::End(-2)).unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "56");
        assert!(reader.seek(SeekFrom::Current(-9)).is_err());
        reader.seek(SeekFrom::Start(99)).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}
