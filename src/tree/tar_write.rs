//! A tree as a pax archive, the form in which other programs take one over without a folder on
//! disk: owners, modes, hard links and extended attributes come from us and not from this machine.
//!
//! The format is that of POSIX `pax`; extended attributes are `SCHILY.xattr.*` records, as GNU tar
//! and bsdtar write them.

use std::collections::HashMap;
use std::io;
use std::io::{Read, Write};

use tar::{Builder, EntryType, Header};

use super::read::{ReadError, Reader};
use super::{Inode, InodeId, Kind, Tree};
use crate::io::progress::Progress;

/// Bytes of a file that are read at a time.
const PIECE: usize = 1 << 20;
/// Bytes of a name that fit into a header.
const NAME_SIZE: usize = 100;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file could not be read.
    #[error(transparent)]
    Source(ReadError),
    /// tar has no such thing.
    #[error("{path} is a {what}, which an archive cannot hold")]
    Unsupported {
        /// Path in the tree.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The archive could not be written.
    #[error(transparent)]
    Write(io::Error),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> ArchiveError {
        match error.downcast::<ReadError>() {
            Ok(error) => ArchiveError::Source(error),
            Err(error) => ArchiveError::Write(error),
        }
    }
}

/// Writes all below the root directory, folders before their content, everything modified at
/// `epoch_seconds` (seconds since 1970). What is read is counted in `progress`.
///
/// # Errors
/// [`ArchiveError::Source`], [`ArchiveError::Unsupported`] for a socket or an attribute whose name
/// is no text, [`ArchiveError::Write`]. `out` then has the beginning of an archive.
pub fn write(
    tree: &Tree,
    epoch_seconds: u64,
    progress: &Progress,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut builder = Builder::new(out);
    let mut seen: HashMap<InodeId, Vec<u8>> = HashMap::new();
    for (path, id, inode) in tree.walk() {
        let first = match inode.entries() {
            Some(_) => None,
            None => seen.get(&id),
        };
        let mut entry = Entry::new(inode, epoch_seconds);
        entry.name(&path);
        let mut data = None;
        if let Some(first) = first {
            entry.header.set_entry_type(EntryType::Link);
            entry.link(first);
        } else {
            entry.xattrs(inode, &path)?;
            match &inode.kind {
                Kind::Directory(_) => entry.header.set_entry_type(EntryType::Directory),
                Kind::File { size, source } => {
                    entry.header.set_entry_type(EntryType::Regular);
                    entry.header.set_size(*size);
                    let reader = Reader::new(source, *size).map_err(ArchiveError::Source)?;
                    data = Some(Bytes::new(reader, *size, progress));
                }
                Kind::Symlink(target) => {
                    entry.header.set_entry_type(EntryType::Symlink);
                    entry.link(target);
                }
                Kind::Fifo => entry.header.set_entry_type(EntryType::Fifo),
                Kind::Socket => return Err(unsupported(&path, "socket")),
                Kind::CharDevice(major, minor) => {
                    entry.device(EntryType::Char, *major, *minor)?;
                }
                Kind::BlockDevice(major, minor) => {
                    entry.device(EntryType::Block, *major, *minor)?;
                }
            }
        }
        entry.append(&mut builder, data)?;
        if inode.entries().is_none() {
            seen.entry(id).or_insert(path);
        }
    }
    Ok(builder.finish()?)
}

fn unsupported(path: &[u8], what: &'static str) -> ArchiveError {
    let path = super::shown(path);
    ArchiveError::Unsupported { path, what }
}

/// A header and the records that say what does not fit into it.
struct Entry {
    header: Header,
    records: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(inode: &Inode, epoch_seconds: u64) -> Entry {
        let mut header = Header::new_ustar();
        header.set_mode(inode.mode.into());
        header.set_uid(inode.uid.into());
        header.set_gid(inode.gid.into());
        header.set_mtime(epoch_seconds);
        header.set_size(0);
        let records = Vec::new();
        Entry { header, records }
    }

    fn name(&mut self, path: &[u8]) {
        fill(&mut self.header.as_old_mut().name, path);
        if path.len() > NAME_SIZE {
            self.records.push(("path".to_owned(), path.to_vec()));
        }
    }

    fn link(&mut self, target: &[u8]) {
        fill(&mut self.header.as_old_mut().linkname, target);
        if target.len() > NAME_SIZE {
            self.records.push(("linkpath".to_owned(), target.to_vec()));
        }
    }

    fn xattrs(&mut self, inode: &Inode, path: &[u8]) -> Result<(), ArchiveError> {
        for (name, value) in &inode.xattrs {
            let name = std::str::from_utf8(name)
                .map_err(|_| unsupported(path, "file with an attribute whose name is no text"))?;
            let key = format!("SCHILY.xattr.{name}");
            self.records.push((key, value.clone()));
        }
        Ok(())
    }

    fn device(&mut self, kind: EntryType, major: u32, minor: u32) -> io::Result<()> {
        self.header.set_entry_type(kind);
        self.header.set_device_major(major)?;
        self.header.set_device_minor(minor)
    }

    fn append(
        mut self,
        builder: &mut Builder<impl Write>,
        data: Option<Bytes<'_>>,
    ) -> io::Result<()> {
        let records = self.records.iter();
        builder
            .append_pax_extensions(records.map(|(key, value)| (key.as_str(), value.as_slice())))?;
        self.header.set_cksum();
        match data {
            Some(data) => builder.append(&self.header, data),
            None => builder.append(&self.header, io::empty()),
        }
    }
}

/// Fills a field with what fits.
fn fill(field: &mut [u8; NAME_SIZE], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// The content of a file as a stream.
struct Bytes<'a> {
    reader: Reader<'a>,
    progress: &'a Progress,
    size: u64,
    read: u64,
    buffer: Vec<u8>,
    /// How much of the buffer is used up.
    used: usize,
}

impl<'a> Bytes<'a> {
    fn new(reader: Reader<'a>, size: u64, progress: &'a Progress) -> Bytes<'a> {
        Bytes {
            reader,
            progress,
            size,
            read: 0,
            buffer: Vec::new(),
            used: 0,
        }
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            let left = self.size - self.read;
            let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            self.buffer.clear();
            self.used = 0;
            let more = match count {
                0 => self.reader.finish(),
                _ => self.reader.append(self.read, count, &mut self.buffer),
            };
            more.map_err(io::Error::other)?;
            self.read += count as u64;
            self.progress.add(count as u64);
        }
        let mut rest = self.buffer.get(self.used..).unwrap_or_default();
        let count = rest.read(out)?;
        self.used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Source;

    #[test]
    fn everything_comes_back_from_the_archive() {
        let mut tree = Tree::new();
        let long = [b"usr/share/".as_slice(), &[b'n'; 255], b"/", &[0xff; 200]].concat();
        let content = vec![7; 3 * PIECE + 1];
        let size = content.len() as u64;
        let id = tree
            .insert_file(&long, Source::Bytes(content.clone()), size, 0o4751)
            .unwrap();
        let inode = tree.get_mut(id).unwrap();
        (inode.uid, inode.gid) = (70_000, u32::MAX - 1);
        inode
            .xattrs
            .insert(b"user.binary".to_vec(), b"a\n\0=b".to_vec());
        tree.insert_link(b"usr/share/z", id).unwrap();
        tree.insert_symlink(b"usr/link", &[b't'; 300]).unwrap();

        let (mut bytes, progress) = (Vec::new(), Progress::new());
        write(&tree, 1_700_000_000, &progress, &mut bytes).unwrap();
        assert_eq!(progress.now().1, size);
        // The reader of the crate ends records at line breaks.
        let record = b"34 SCHILY.xattr.user.binary=a\n\0=b\n";
        assert!(bytes.windows(record.len()).any(|window| window == record));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().into_owned();
            let header = entry.header().clone();
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            if path == long {
                assert_eq!(header.mode().unwrap(), 0o4751);
                assert_eq!(header.uid().unwrap(), 70_000);
                assert_eq!(header.gid().unwrap(), u64::from(u32::MAX - 1));
                let mut found = Vec::new();
                entry.read_to_end(&mut found).unwrap();
                assert!(found == content);
            }
            let link = entry.link_name_bytes().map(|name| name.into_owned());
            seen.push((path, header.entry_type(), link));
        }
        let names: Vec<&[u8]> = seen.iter().map(|(path, ..)| path.as_slice()).collect();
        let folder = [b"usr/share/".as_slice(), &[b'n'; 255]].concat();
        assert_eq!(
            names,
            [
                b"usr".as_slice(),
                b"usr/link",
                b"usr/share",
                &folder,
                &long,
                b"usr/share/z"
            ]
        );
        assert_eq!(seen[1].2.as_deref(), Some([b't'; 300].as_slice()));
        assert_eq!(seen[5].1, EntryType::Link);
        assert_eq!(seen[5].2.as_deref(), Some(long.as_slice()));
    }

    #[test]
    fn what_changes_meanwhile_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "four").unwrap();
        for (size, refused) in [(4, false), (3, true), (5, true)] {
            let mut tree = Tree::new();
            tree.insert_file(b"usr/f", Source::Path(path.clone()), size, 0o644)
                .unwrap();
            let result = write(&tree, 0, &Progress::new(), io::sink());
            assert_eq!(
                matches!(result, Err(ArchiveError::Source(_))),
                refused,
                "{size}"
            );
        }
    }
}
