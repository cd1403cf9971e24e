//! Writing what [`Layout`] placed.

use std::collections::VecDeque;
use std::num::NonZero;
use std::ops::Range;
use std::{io, thread};

use sha2::{Digest, Sha256};

use super::compress::Compression;
use super::encode::{Encoded, Encoder, Form, PIECE_SIZE, Piece};
use super::format::{BLOCK_SIZE, DataLayout};
use super::layout::{Layout, LayoutError, Place, chunk_size};
use super::pool::Pool;
use super::record::{Incoming, Recorder};
use super::share::Sum;
use crate::io::progress::Progress;
use crate::tree::read::{ReadError, Reader};
use crate::tree::{Kind, Source, Tree};

pub use super::stream::{Sink, Spare};

/// What the file system is besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
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

/// Why a file system was not finished.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The tree does not fit into the format.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file could not be read.
    #[error(transparent)]
    Source(#[from] ReadError),
    /// The compressor did not do its work.
    #[error("compressing the content: {0}")]
    Compress(#[source] io::Error),
    /// The blocks could not be written.
    #[error("writing the file system: {0}")]
    Write(#[source] io::Error),
}

/// Files up to this many in one job, however short they are.
const FILES_PER_JOB: usize = 512;

/// Writes a tree and returns the number of 4096-byte blocks.
///
/// Files are read in the order of their paths, once; those of more than [`PIECE_SIZE`] that begin
/// like an earlier one of the same length twice, unless they are equal. An error leaves the sink
/// half written. What is read is counted in `progress`.
pub fn write(
    tree: &Tree,
    params: &Params,
    spare: &Spare,
    progress: &Progress,
    out: &mut impl Sink,
) -> Result<u64, WriteError> {
    let layout = Layout::new(tree, params.compression.is_some())?;
    let workers = (0..params.threads.get())
        .map(|_| Encoder::new(params.compression, params.share_compressed, spare, progress))
        .map(|encoder| encoder.map(|mut encoder| move |job: Job<'_>| job.run(&mut encoder)))
        .collect::<io::Result<Vec<_>>>()
        .map_err(WriteError::Compress)?;
    thread::scope(|scope| {
        let feeder = Feeder {
            tree,
            layout: &layout,
            pool: Pool::start(scope, workers),
            // Enough that no thread waits for the one whose turn it is.
            window: params.threads.get() as u64 + 2,
            expected: VecDeque::new(),
            short: Vec::new(),
            short_bytes: 0,
            first_short: 0,
            long: Incoming::default(),
            recorder: Recorder::new(tree, &layout, params, spare, out),
        };
        feeder.run()
    })
}

/// What one thread does at a time.
enum Job<'a> {
    /// Short files, read as a whole.
    Short(Vec<Short<'a>>),
    /// A piece of a long one.
    Piece(Piece<'a>),
    /// A whole piece of zeros that nobody has to read.
    Zeros(Form),
}

/// A file of at most [`PIECE_SIZE`] bytes.
struct Short<'a> {
    source: &'a Source,
    size: u64,
    form: Form,
    digest: bool,
}

impl Job<'_> {
    fn run(self, encoder: &mut Encoder<'_>) -> Result<Vec<Encoded>, WriteError> {
        match self {
            Job::Piece(piece) => Ok(vec![encoder.encode(&piece)?]),
            Job::Zeros(form) => Ok(vec![Encoded::zeros(form)]),
            Job::Short(files) => files
                .into_iter()
                .map(|file| {
                    encoder.encode(&Piece {
                        reader: Reader::new(file.source, file.size)?,
                        form: file.form,
                        offset: 0,
                        // At most PIECE_SIZE.
                        count: usize::try_from(file.size).unwrap_or(usize::MAX),
                        last: true,
                        digest: file.digest,
                    })
                })
                .collect(),
        }
    }
}

/// What the next result is for.
enum Expected {
    /// These places, by their numbers; those that are files with content have a result each.
    Places(Range<usize>),
    /// A piece of the file of a place.
    Piece { place: usize, last: bool },
}

/// Hands files to the threads and what becomes of them, in order, to the recorder.
struct Feeder<'a, S> {
    tree: &'a Tree,
    layout: &'a Layout,
    pool: Pool<Job<'a>, Result<Vec<Encoded>, WriteError>>,
    window: u64,
    expected: VecDeque<Expected>,
    short: Vec<Short<'a>>,
    short_bytes: u64,
    /// The first place that no job covers yet.
    first_short: usize,
    /// What has come of a long file.
    long: Incoming,
    recorder: Recorder<'a, S>,
}

impl<'a, S: Sink> Feeder<'a, S> {
    fn run(mut self) -> Result<u64, WriteError> {
        let (tree, layout) = (self.tree, self.layout);
        for (number, place) in layout.places.iter().enumerate() {
            let Some((size, source)) = content(tree, place) else {
                continue;
            };
            let form = form(place);
            let digest = self.recorder.shares().wants(size);
            if size > PIECE_SIZE {
                self.submit_short(number)?;
                self.long_file(number, source, size, form, digest)?;
                self.first_short = number + 1;
                continue;
            }
            let file = Short {
                source,
                size,
                form,
                digest,
            };
            self.short.push(file);
            self.short_bytes += size;
            if self.short_bytes >= PIECE_SIZE || self.short.len() >= FILES_PER_JOB {
                self.submit_short(number + 1)?;
            }
        }
        self.submit_short(layout.places.len())?;
        self.drain(0)?;
        self.recorder.finish()
    }

    /// Hands out the short files of all places before `end`.
    fn submit_short(&mut self, end: usize) -> Result<(), WriteError> {
        let places = std::mem::replace(&mut self.first_short, end)..end;
        if places.is_empty() {
            return Ok(());
        }
        self.short_bytes = 0;
        let files = std::mem::take(&mut self.short);
        self.submit(Job::Short(files), Expected::Places(places))
    }

    fn submit(&mut self, job: Job<'a>, expected: Expected) -> Result<(), WriteError> {
        self.pool.submit(job);
        self.expected.push_back(expected);
        self.drain(self.window)
    }

    /// Takes results until at most `left` are outstanding.
    fn drain(&mut self, left: u64) -> Result<(), WriteError> {
        while self.pool.outstanding() > left {
            let (Some(expected), Some(encoded)) = (self.expected.pop_front(), self.pool.take())
            else {
                return Err(WriteError::Write(io::Error::other("a thread is gone")));
            };
            let encoded = encoded?;
            match expected {
                Expected::Places(places) => self.recorder.places(places, encoded)?,
                Expected::Piece { place, last } => {
                    for encoded in encoded {
                        self.recorder.add(&mut self.long, encoded)?;
                    }
                    if last {
                        let incoming = std::mem::take(&mut self.long);
                        self.recorder.file(place, incoming)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn long_file(
        &mut self,
        number: usize,
        source: &'a Source,
        size: u64,
        form: Form,
        digest: bool,
    ) -> Result<(), WriteError> {
        let reader = Reader::new(source, size)?;
        if digest {
            // All that came before must be known, however many threads there are.
            self.drain(0)?;
            if self.recorder.shares().knows_length(size)
                && let Some(known) = self.digests(&reader, size)?
                && self
                    .recorder
                    .again(number, size, &known.pieces, &known.rest)?
            {
                return Ok(reader.finish()?);
            }
        }
        let mut offset = 0;
        while offset < size {
            let count = PIECE_SIZE.min(size - offset);
            let last = offset + count == size;
            // The last piece may be short, and a digest is one of bytes.
            let may_skip = !last && !digest && self.recorder.leaves_out_zeros(form);
            let job = match may_skip && reader.is_hole(offset, count) {
                true => Job::Zeros(form),
                false => Job::Piece(Piece {
                    reader: reader.clone(),
                    form,
                    offset,
                    // At most PIECE_SIZE.
                    count: usize::try_from(count).unwrap_or(usize::MAX),
                    last,
                    digest,
                }),
            };
            self.submit(
                job,
                Expected::Piece {
                    place: number,
                    last,
                },
            )?;
            offset += count;
        }
        Ok(())
    }

    /// The digests of all pieces of a long file and what is no whole block of it, unless it
    /// begins like no file that was stored.
    fn digests(&self, reader: &Reader<'_>, size: u64) -> Result<Option<Known>, WriteError> {
        let mut known = Known::default();
        let mut bytes = Vec::new();
        let mut offset = 0;
        while offset < size {
            let count = PIECE_SIZE.min(size - offset);
            bytes.clear();
            // At most PIECE_SIZE.
            let length = usize::try_from(count).unwrap_or(usize::MAX);
            reader.append(offset, length, &mut bytes)?;
            let sum = Sha256::digest(&bytes).into();
            if offset == 0 && !self.recorder.shares().knows_head(size, &sum) {
                return Ok(None);
            }
            known.pieces.push(sum);
            offset += count;
        }
        known.rest = bytes.split_off(bytes.len() - bytes.len() % BLOCK_SIZE);
        Ok(Some(known))
    }
}

/// Digests of the pieces of a long file, and what is no whole block of it.
#[derive(Default)]
struct Known {
    pieces: Vec<Sum>,
    rest: Vec<u8>,
}

/// Length and source of a file that is not empty.
pub(super) fn content<'a>(tree: &'a Tree, place: &Place) -> Option<(u64, &'a Source)> {
    match &tree.get(place.id)?.kind {
        Kind::File { size, source } if *size > 0 => Some((*size, source)),
        _ => None,
    }
}

/// What becomes of a file, as its place says.
fn form(place: &Place) -> Form {
    match (place.layout, chunk_size(place.size)) {
        (DataLayout::Compressed, _) => Form::Compressed,
        (_, Some(chunk)) => Form::Chunks(chunk),
        (_, None) => Form::Flat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Inode;
    use proptest::prelude::*;

    impl Sink for Vec<u8> {
        fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()> {
            let start = usize::try_from(first).unwrap() * BLOCK_SIZE;
            if self.len() < start + blocks.len() {
                self.resize(start + blocks.len(), 0xee);
            }
            self[start..start + blocks.len()].copy_from_slice(&blocks);
            Ok(())
        }
    }

    const PARAMS: Params = Params {
        uuid: [9; 16],
        epoch_seconds: 1_700_000_000,
        volume_name: [0; 16],
        compression: None,
        share_compressed: true,
        threads: NonZero::new(2).unwrap(),
    };

    /// All the ways to write.
    const FORMS: [Option<Compression>; 4] = [
        None,
        Some(Compression::Lz4),
        Some(Compression::Lz4hc),
        Some(Compression::Zstd { level: 3 }),
    ];

    /// One thread, three threads, and an image that does not tell.
    fn image(tree: &Tree, compression: Option<Compression>) -> Vec<u8> {
        let [one, three] = [1, 3].map(|threads| {
            let params = Params {
                compression,
                threads: NonZero::new(threads).unwrap(),
                ..PARAMS
            };
            let mut out = Vec::new();
            let blocks =
                write(tree, &params, &Spare::default(), &Progress::new(), &mut out).unwrap();
            assert_eq!(out.len() as u64, blocks * BLOCK_SIZE as u64);
            out
        });
        assert!(one == three);
        one
    }

    /// Bytes that compress well, not at all, are zeros, or some of each.
    fn bytes(kind: usize, size: usize) -> Vec<u8> {
        let mut state = size as u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..size)
            .map(|at| match (kind % 4, at >> 18 & 1) {
                (0, _) => (at / 50 % 256) as u8,
                (1, _) | (3, 1) => noise(),
                _ => 0,
            })
            .collect()
    }

    fn insert(tree: &mut Tree, path: &str, bytes: Vec<u8>) {
        let size = bytes.len() as u64;
        tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, 0o644)
            .unwrap();
    }

    fn sample() -> Tree {
        let mut tree = Tree::new();
        let mib = 1 << 20;
        for size in [
            0,
            1,
            4095,
            4096,
            4097,
            65536,
            70000,
            mib,
            mib + 1,
            3_000_000,
        ] {
            for kind in 0..4 {
                for copy in ["a", "b"] {
                    let path = format!("usr/files/{copy}/{size}-{kind}");
                    insert(&mut tree, &path, bytes(kind, size));
                }
            }
        }
        // Begins like another one and differs at the end.
        let mut other = bytes(1, 3_000_000);
        other[2_999_999] ^= 1;
        insert(&mut tree, "usr/files/other", other);
        for i in 0..3000 {
            let path = format!("usr/many/{i}-{}", "n".repeat(i % 200));
            tree.insert_symlink(path.as_bytes(), b"../x").unwrap();
        }
        tree
    }

    #[test]
    fn equal_content_and_zeros_are_there_once() {
        let blocks = |tree: &Tree, compression| image(tree, compression).len() / BLOCK_SIZE;
        for (compression, kind) in FORMS.into_iter().zip([1, 0, 1]) {
            let mut tree = Tree::new();
            insert(&mut tree, "a", bytes(kind, 5_000_000));
            let one = blocks(&tree, compression);
            insert(&mut tree, "b", bytes(kind, 5_000_000));
            insert(&mut tree, "c", bytes(kind, 5_000_000));
            let metadata = 2 * 5_000_000 / 4096 * 8 / 4096 + 2;
            assert!(blocks(&tree, compression) <= one + metadata);
        }
        let mut tree = Tree::new();
        insert(&mut tree, "zeros", vec![0; 20 << 20]);
        assert_eq!(blocks(&tree, None), 2);
        assert!(blocks(&tree, Some(Compression::Lz4)) <= 2 + 10 + 1);
    }

    #[test]
    fn an_independent_reader_finds_every_byte() {
        let tree = sample();
        for compression in FORMS {
            reads_back(&tree, &image(&tree, compression));
        }
    }

    fn reads_back(tree: &Tree, image: &[u8]) {
        let fs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(image)).unwrap();
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
        for compression in FORMS {
            assert!(image(&tree, compression) == image(&again, compression));
        }
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
            write(
                &tree,
                &PARAMS,
                &Spare::default(),
                &Progress::new(),
                &mut Vec::new(),
            )
        };
        assert!(build(5).is_ok());
        let error = build(4).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(
            build(5).unwrap_err(),
            WriteError::Source(ReadError::Read { .. })
        ));
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
            8100..13000_usize,
            250_000..600_000_usize
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
        fn any_tree_reads_back(files in prop::collection::vec(any_file(), 0..60), form in 0..3_usize) {
            let mut tree = Tree::new();
            for (number, (path, size, xattr)) in files.into_iter().enumerate() {
                let bytes = bytes(number, size);
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
            let compression = FORMS[form];
            let image = image(&tree, compression);
            let fs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&image)).unwrap();
            let layout = Layout::new(&tree, compression.is_some()).unwrap();
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
