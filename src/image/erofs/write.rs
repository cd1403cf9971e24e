//! Writing what [`Layout`] placed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::format::{
    BLOCK_SIZE, DIRENT_SIZE, DataLayout, Dirent, InodeRecord, NO_ADDRESS, Superblock,
    device_number, directory_block, type_codes, xattr_bytes,
};
use super::layout::{Layout, LayoutError, Place, has_room, names_in_order};
use crate::tree::{Inode, Kind, Source, Tree};

/// Bytes that are gathered before they are handed on, per run.
const BUFFER_SIZE: usize = 1 << 20;

/// What the file system is besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// File system UUID in text order.
    pub uuid: [u8; 16],
    /// The modification time of everything, in seconds since 1970.
    pub epoch_seconds: u64,
    /// Label, NUL padded; zeros for none.
    pub volume_name: [u8; 16],
}

/// Takes the blocks of the file system.
pub trait Sink {
    /// Takes a whole number of 4096-byte blocks that belong at block `first` and after.
    /// Every block comes exactly once; they do not come in order.
    fn write_blocks(&mut self, first: u64, blocks: &[u8]) -> io::Result<()>;
}

/// Why a file system was not finished.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The tree does not fit into the format.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file could not be read.
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
    /// The blocks could not be written.
    #[error("writing the file system: {0}")]
    Write(#[source] io::Error),
}

/// Writes a tree and returns the number of 4096-byte blocks.
///
/// Files are read once, in the order of their paths. An error leaves the sink half written.
pub fn write(tree: &Tree, params: &Params, out: &mut impl Sink) -> Result<u64, WriteError> {
    let layout = Layout::new(tree)?;
    let mut writer = Writer {
        tree,
        layout: &layout,
        params,
        metadata: Run::starting_at(1),
        data: Run::starting_at(layout.data_start.into()),
        out,
    };
    for (number, place) in (1..).zip(&layout.places) {
        if let Some(inode) = tree.get(place.id) {
            writer.inode(number, place, inode)?;
        }
    }
    let Writer {
        mut metadata,
        mut data,
        out,
        ..
    } = writer;
    metadata.finish(out).map_err(WriteError::Write)?;
    data.finish(out).map_err(WriteError::Write)?;
    let root_nid = layout.places.first().map_or(0, Place::nid);
    let superblock = Superblock {
        root_nid: u16::try_from(root_nid).unwrap_or_default(),
        inodes: layout.places.len() as u64,
        epoch_seconds: params.epoch_seconds,
        blocks: layout.blocks,
        uuid: params.uuid,
        volume_name: params.volume_name,
    };
    out.write_blocks(0, &superblock.to_block())
        .map_err(WriteError::Write)?;
    Ok(layout.blocks.into())
}

struct Writer<'a, S> {
    tree: &'a Tree,
    layout: &'a Layout,
    params: &'a Params,
    metadata: Run,
    data: Run,
    out: &'a mut S,
}

impl<S: Sink> Writer<'_, S> {
    fn inode(&mut self, number: u32, place: &Place, inode: &Inode) -> Result<(), WriteError> {
        let xattrs = xattr_bytes(inode.xattrs.iter()).unwrap_or_default();
        let tail = match &inode.kind {
            Kind::File { size, source } => self.file(*size, source)?,
            Kind::Directory(_) => self.directory(place, inode)?,
            Kind::Symlink(target) => target.clone(),
            _ => Vec::new(),
        };
        let address = match &inode.kind {
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                device_number(*major, *minor).unwrap_or_default()
            }
            _ if place.size >= BLOCK_SIZE as u64 => place.data_block,
            _ if place.layout == DataLayout::Plain && !tail.is_empty() => place.data_block,
            _ => NO_ADDRESS,
        };
        let (type_bits, _) = type_codes(&inode.kind);
        let record = InodeRecord {
            extended: place.extended,
            layout: place.layout,
            xattr_size: xattrs.len(),
            mode: type_bits | inode.mode & 0o7777,
            links: place.links,
            size: place.size,
            address,
            number,
            uid: inode.uid,
            gid: inode.gid,
            epoch_seconds: self.params.epoch_seconds,
        };
        self.metadata(|run, out| {
            run.pad_to(place.offset, out)?;
            run.push(&record.to_bytes(), out)?;
            run.push(&xattrs, out)
        })?;
        match place.layout {
            DataLayout::Inline => self.metadata(|run, out| run.push(&tail, out)),
            DataLayout::Plain => self.data(|run, out| {
                run.push(&tail, out)?;
                run.pad_block(out)
            }),
        }
    }

    /// Sends the whole blocks of a file on and returns the rest.
    fn file(&mut self, size: u64, source: &Source) -> Result<Vec<u8>, WriteError> {
        match source {
            Source::Bytes(bytes) => {
                if bytes.len() as u64 != size {
                    return Err(WriteError::Changed {
                        path: PathBuf::from("(generated content)"),
                        expected: format!("{size} bytes"),
                        found: format!("{} bytes", bytes.len()),
                    });
                }
                let whole = bytes.len() - bytes.len() % BLOCK_SIZE;
                let (blocks, rest) = bytes.split_at_checked(whole).unwrap_or_default();
                self.data(|run, out| run.push(blocks, out))?;
                Ok(rest.to_vec())
            }
            Source::Path(path) => {
                let mut file = open_regular(path, size)?;
                let mut whole = size - size % BLOCK_SIZE as u64;
                while whole > 0 {
                    let room = self.data.room();
                    let wanted = usize::try_from(whole).unwrap_or(usize::MAX).min(room.len());
                    let room = room.get_mut(..wanted).unwrap_or_default();
                    read_exactly(&mut file, room, path, size)?;
                    self.data(|run, out| run.filled(wanted, out))?;
                    whole -= wanted as u64;
                }
                let mut rest = vec![0; (size % BLOCK_SIZE as u64) as usize];
                read_exactly(&mut file, &mut rest, path, size)?;
                // It may have grown since it was opened.
                let more = file.read(&mut [0]).map_err(|source| WriteError::Read {
                    path: path.clone(),
                    source,
                })?;
                match more {
                    0 => Ok(rest),
                    _ => Err(changed(path, size, "more".to_owned())),
                }
            }
        }
    }

    /// Sends all blocks of a directory but the last one on and returns that.
    fn directory(&mut self, place: &Place, inode: &Inode) -> Result<Vec<u8>, WriteError> {
        let Some(entries) = inode.entries() else {
            return Ok(Vec::new());
        };
        let layout = self.layout;
        let tree = self.tree;
        let mut block: Vec<Dirent<'_>> = Vec::new();
        let mut used = 0;
        for name in names_in_order(entries) {
            let target = match name {
                b"." => Some(&place.id),
                b".." => Some(&place.parent),
                name => entries.get(name),
            };
            let found = target.and_then(|id| Some((layout.place(*id)?, tree.get(*id)?)));
            let Some((target, inode)) = found else {
                continue;
            };
            if !has_room(used, name) {
                let bytes = directory_block(&block);
                self.data(|run, out| {
                    run.push(&bytes, out)?;
                    run.pad_block(out)
                })?;
                block.clear();
                used = 0;
            }
            used += DIRENT_SIZE + name.len();
            block.push(Dirent {
                name,
                nid: target.nid(),
                file_type: type_codes(&inode.kind).1,
            });
        }
        let bytes = directory_block(&block);
        if bytes.len() < BLOCK_SIZE {
            return Ok(bytes);
        }
        self.data(|run, out| run.push(&bytes, out))?;
        Ok(Vec::new())
    }

    fn metadata(
        &mut self,
        act: impl FnOnce(&mut Run, &mut S) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        act(&mut self.metadata, self.out).map_err(WriteError::Write)
    }

    fn data(
        &mut self,
        act: impl FnOnce(&mut Run, &mut S) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        act(&mut self.data, self.out).map_err(WriteError::Write)
    }
}

/// Opens a file that must still be a regular one of `size` bytes.
fn open_regular(path: &Path, size: u64) -> Result<File, WriteError> {
    let read = |source| WriteError::Read {
        path: path.to_owned(),
        source,
    };
    // Neither follow a link that took the file's place nor wait for the writer of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(changed(path, size, "no regular file".to_owned()));
    }
    if metadata.len() != size {
        return Err(changed(path, size, format!("{} bytes", metadata.len())));
    }
    Ok(file)
}

fn read_exactly(
    file: &mut File,
    into: &mut [u8],
    path: &Path,
    size: u64,
) -> Result<(), WriteError> {
    file.read_exact(into).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => changed(path, size, "less".to_owned()),
        _ => WriteError::Read {
            path: path.to_owned(),
            source,
        },
    })
}

fn changed(path: &Path, size: u64, found: String) -> WriteError {
    WriteError::Changed {
        path: path.to_owned(),
        expected: format!("{size} bytes"),
        found,
    }
}

/// Ascending blocks, gathered so that the sink gets large pieces.
struct Run {
    /// Block at which `buffer` begins.
    first: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Run {
    fn starting_at(first: u64) -> Run {
        Run {
            first,
            buffer: vec![0; BUFFER_SIZE],
            used: 0,
        }
    }

    /// The free part of the buffer, never empty.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.used..).unwrap_or_default()
    }

    /// Takes the first `count` bytes of [`room`](Self::room) as written.
    fn filled(&mut self, count: usize, out: &mut impl Sink) -> io::Result<()> {
        self.used += count;
        if self.used < self.buffer.len() {
            return Ok(());
        }
        out.write_blocks(self.first, &self.buffer)?;
        self.first += (self.buffer.len() / BLOCK_SIZE) as u64;
        self.used = 0;
        Ok(())
    }

    fn push(&mut self, mut bytes: &[u8], out: &mut impl Sink) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, b""));
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            bytes = later;
            self.filled(count, out)?;
        }
        Ok(())
    }

    fn pad(&mut self, mut count: usize, out: &mut impl Sink) -> io::Result<()> {
        while count > 0 {
            let room = self.room();
            let now = room.len().min(count);
            room.get_mut(..now).unwrap_or_default().fill(0);
            count -= now;
            self.filled(now, out)?;
        }
        Ok(())
    }

    /// Zeros up to the byte `offset` of the image, which is less than a block away.
    fn pad_to(&mut self, offset: u64, out: &mut impl Sink) -> io::Result<()> {
        let here = self.first * BLOCK_SIZE as u64 + self.used as u64;
        let count = offset
            .checked_sub(here)
            .and_then(|n| usize::try_from(n).ok());
        let count = count.ok_or_else(|| io::Error::other("the layout goes backwards"))?;
        self.pad(count, out)
    }

    fn pad_block(&mut self, out: &mut impl Sink) -> io::Result<()> {
        self.pad(self.used.next_multiple_of(BLOCK_SIZE) - self.used, out)
    }

    fn finish(&mut self, out: &mut impl Sink) -> io::Result<()> {
        self.pad_block(out)?;
        match self.buffer.get(..self.used) {
            Some(blocks) if !blocks.is_empty() => out.write_blocks(self.first, blocks),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Sink for Vec<u8> {
        fn write_blocks(&mut self, first: u64, blocks: &[u8]) -> io::Result<()> {
            let start = usize::try_from(first).unwrap() * BLOCK_SIZE;
            if self.len() < start + blocks.len() {
                self.resize(start + blocks.len(), 0xee);
            }
            self[start..start + blocks.len()].copy_from_slice(blocks);
            Ok(())
        }
    }

    const PARAMS: Params = Params {
        uuid: [9; 16],
        epoch_seconds: 1_700_000_000,
        volume_name: [0; 16],
    };

    fn image(tree: &Tree) -> Vec<u8> {
        let mut out = Vec::new();
        let blocks = write(tree, &PARAMS, &mut out).unwrap();
        assert_eq!(out.len() as u64, blocks * BLOCK_SIZE as u64);
        out
    }

    fn sample() -> Tree {
        let mut tree = Tree::new();
        for size in [0, 1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, 3_000_000] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let path = format!("usr/files/{size}");
            tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, 0o644)
                .unwrap();
        }
        for i in 0..3000 {
            let path = format!("usr/many/{i}-{}", "n".repeat(i % 200));
            tree.insert_symlink(path.as_bytes(), b"../x").unwrap();
        }
        tree
    }

    #[test]
    fn an_independent_reader_finds_every_byte() {
        let tree = sample();
        let image = image(&tree);
        let fs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&image)).unwrap();
        for (path, _, inode) in tree.walk() {
            let path = format!("/{}", String::from_utf8(path).unwrap());
            match &inode.kind {
                Kind::File {
                    source: Source::Bytes(bytes),
                    ..
                } => {
                    let file = fs.open(&path).unwrap();
                    let mut read = vec![0; bytes.len()];
                    let mut at = 0;
                    while at < read.len() {
                        at += file.read_at(&mut read[at..], at as u64).unwrap();
                    }
                    assert_eq!(file.size(), bytes.len() as u64, "{path}");
                    assert!(read == *bytes, "{path}");
                }
                Kind::Directory(entries) => {
                    let names = fs.read_dir(&path).unwrap().count();
                    assert_eq!(names, entries.len(), "{path}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_order_of_making_does_not_show() {
        let tree = sample();
        let mut again = Tree::new();
        let mut all: Vec<_> = tree
            .walk()
            .filter(|(_, _, inode)| inode.entries().is_none())
            .collect();
        all.reverse();
        for (path, _, inode) in all {
            again.insert(&path, inode.clone()).unwrap();
        }
        assert!(image(&tree) == image(&again));
    }

    #[test]
    fn a_file_that_changed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "12345").unwrap();
        let build = |size| {
            let mut tree = Tree::new();
            tree.insert_file(b"x", Source::Path(path.clone()), size, 0o644)
                .unwrap();
            write(&tree, &PARAMS, &mut Vec::new())
        };
        assert!(build(5).is_ok());
        let error = build(4).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(build(5).unwrap_err(), WriteError::Read { .. }));
    }

    /// A path, how many bytes it holds, and the size of one extended attribute.
    fn any_file() -> impl Strategy<Value = (Vec<Vec<u8>>, usize, usize)> {
        let byte = any::<u8>().prop_filter("in a name", |byte| !matches!(*byte, 0 | b'/'));
        let name = prop::collection::vec(byte, 1..=255)
            .prop_filter("no dots", |name| name != b"." && name != b"..");
        let short = prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"-".to_vec()]);
        let folders = prop::collection::vec(short, 0..4);
        let size = prop_oneof![
            0..200_usize,
            1900..2200_usize,
            3900..4300_usize,
            8100..13000_usize
        ];
        let path = (folders, name).prop_map(|(mut path, name)| {
            path.push(name);
            path
        });
        (
            path,
            size,
            prop_oneof![Just(0), 1..40_usize, 3900..9000_usize],
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_tree_reads_back(files in prop::collection::vec(any_file(), 0..60)) {
            let mut tree = Tree::new();
            for (number, (path, size, xattr)) in files.into_iter().enumerate() {
                let bytes = vec![number as u8; size];
                let inode = Inode {
                    xattrs: match xattr {
                        0 => Default::default(),
                        _ => [(b"user.x".to_vec(), vec![number as u8; xattr])].into(),
                    },
                    ..Inode::new(0o644, Kind::File { size: size as u64, source: Source::Bytes(bytes) })
                };
                // A name that is taken already is no content.
                let _ = tree.insert(&path.join(&b'/'), inode);
            }
            let image = image(&tree);
            let fs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&image)).unwrap();
            let layout = Layout::new(&tree).unwrap();
            for (path, id, inode) in tree.walk() {
                let nid = layout.place(id).unwrap().nid();
                let path = [b"/", path.as_slice()].concat();
                match &inode.kind {
                    Kind::File { source: Source::Bytes(bytes), .. } => {
                        let file = fs.open(&path).unwrap();
                        prop_assert_eq!(file.size(), bytes.len() as u64);
                        let mut read = vec![0; bytes.len()];
                        let mut at = 0;
                        while at < read.len() {
                            at += file.read_at(&mut read[at..], at as u64).unwrap();
                        }
                        prop_assert!(read == *bytes);
                        let found = fs.xattrs_inode(fs.get_inode(nid).unwrap()).unwrap();
                        prop_assert!(found.values().eq(inode.xattrs.values()));
                    }
                    Kind::Directory(entries) => {
                        prop_assert_eq!(fs.read_dir(&path).unwrap().count(), entries.len());
                    }
                    _ => {}
                }
            }
        }
    }
}
