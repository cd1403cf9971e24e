//! The files of archives whose bytes can't be read from the archive itself.

use std::fs::File;
use std::io;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::inode::Packed;

/// An unnamed temporary file, made with the first file that is kept.
#[derive(Debug, Default)]
pub(super) struct Spill {
    file: Option<Arc<File>>,
    end: u64,
}

impl Spill {
    /// Keeps the `size` bytes of a file of the archive at a path.
    pub(super) fn keep(
        &mut self,
        bytes: &mut impl Read,
        size: u64,
        archive: &Path,
    ) -> io::Result<Packed> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let folder = archive
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let beside = tempfile::tempfile_in(folder.unwrap_or(Path::new(".")));
                let file = Arc::new(beside.or_else(|_| tempfile::tempfile())?);
                self.file.insert(file).clone()
            }
        };
        let offset = self.end;
        let mut to: &File = &file;
        to.seek(SeekFrom::Start(offset))?;
        let copied = io::copy(&mut bytes.take(size), &mut to)?;
        to.flush()?;
        if copied != size {
            let message = format!("the file has {size} bytes, but the archive ends after {copied}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.end = offset.saturating_add(copied);
        Ok(Packed {
            file,
            offset,
            path: archive.to_owned(),
        })
    }
}
