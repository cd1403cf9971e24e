//! Handing files to the threads, and what becomes of them to the recorder, in the order of the paths.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::encode::{Encoded, Encoder, Form, Piece};
use super::error::WriteError;
use super::format::{BLOCK_SIZE, DataLayout};
use super::layout::{Layout, Place, chunk_size, content};
use super::params::PIECE_SIZE;
use super::pool::Pool;
use super::record::{Incoming, Recorder};
use super::share::Sum;
use super::stream::Sink;
use crate::tree::read::Reader;
use crate::tree::{Source, Tree};

/// Files up to this many in one job, however short they are.
const FILES_PER_JOB: usize = 512;

/// What one thread does at a time.
pub(super) enum Job<'a> {
    /// Short files, read as a whole.
    Short(Vec<Short<'a>>),
    /// A piece of a long one.
    Piece(Piece<'a>),
    /// A whole piece of zeros that nobody has to read.
    Zeros(Form),
}

/// A file of at most [`PIECE_SIZE`] bytes.
pub(super) struct Short<'a> {
    source: &'a Source,
    size: u64,
    form: Form,
    digest: bool,
}

impl Job<'_> {
    pub(super) fn run(self, encoder: &mut Encoder<'_>) -> Result<Vec<Encoded>, WriteError> {
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
pub(super) struct Feeder<'a, S> {
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
    /// Feeds the threads of `pool`, of which there are `threads`.
    pub(super) fn new(
        tree: &'a Tree,
        layout: &'a Layout,
        pool: Pool<Job<'a>, Result<Vec<Encoded>, WriteError>>,
        threads: u64,
        recorder: Recorder<'a, S>,
    ) -> Feeder<'a, S> {
        Feeder {
            tree,
            layout,
            pool,
            // Enough that no thread waits for the one whose turn it is.
            window: threads + 2,
            expected: VecDeque::new(),
            short: Vec::new(),
            short_bytes: 0,
            first_short: 0,
            long: Incoming::default(),
            recorder,
        }
    }

    /// All files; returns the number of blocks.
    pub(super) fn run(mut self) -> Result<u64, WriteError> {
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

/// What becomes of a file, as its place says.
fn form(place: &Place) -> Form {
    match (place.layout, chunk_size(place.size)) {
        (DataLayout::Compressed, _) => Form::Compressed,
        (_, Some(chunk)) => Form::Chunks(chunk),
        (_, None) => Form::Flat,
    }
}
