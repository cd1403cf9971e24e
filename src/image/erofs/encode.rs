//! Turning a piece of a file into blocks, on any thread.

use std::io;

use sha2::{Digest, Sha256};

use super::compress::{Codec, Compression, SEGMENT_BLOCKS, SEGMENT_SIZE};
use super::error::WriteError;
use super::format::BLOCK_SIZE;
use super::params::PIECE_SIZE;
use super::stream::{LARGE, Spare};
use crate::io::progress::Progress;
use crate::tree::read::Reader;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole blocks, and a rest that is not one.
    Flat,
    /// Chunks of so many bytes, those of zeros left out, and a rest that is not a whole block.
    Chunks(u64),
    /// Segments, compressed where that pays; the last block is filled with zeros.
    Compressed,
}

/// A piece of a file that is to be read.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// Where the bytes come from.
    pub reader: Reader<'a>,
    /// What becomes of them.
    pub form: Form,
    /// Where the piece begins in the file, a multiple of [`PIECE_SIZE`].
    pub offset: u64,
    /// Bytes of the piece, at most [`PIECE_SIZE`].
    pub count: usize,
    /// Whether the file ends with it.
    pub last: bool,
    /// Whether the digest of the bytes is wanted.
    pub digest: bool,
}

/// Some blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// A chunk of zeros that has no data.
    Hole,
    /// Blocks as they are; of a short last chunk possibly none.
    Plain(u16),
    /// So many blocks of the file, and those of its compressed data.
    Compressed(u16, u16),
    /// A whole segment of zeros that has no data yet.
    Zeros,
}

/// A piece as blocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// The data of all runs.
    pub data: Vec<u8>,
    /// How the blocks of the file lie in the data.
    pub runs: Vec<Run>,
    /// What is no whole block, unless the form puts it into one.
    pub rest: Vec<u8>,
    /// SHA-256 of the bytes.
    pub digest: Option<[u8; 32]>,
}

impl Encoded {
    /// A whole piece of zeros.
    pub(crate) fn zeros(form: Form) -> Encoded {
        let (run, length) = match form {
            Form::Flat => (Run::Hole, PIECE_SIZE),
            Form::Chunks(chunk) => (Run::Hole, chunk),
            Form::Compressed => (Run::Zeros, SEGMENT_SIZE as u64),
        };
        let count = usize::try_from(PIECE_SIZE / length).unwrap_or_default();
        let runs = vec![run; count];
        Encoded {
            runs,
            ..Encoded::default()
        }
    }
}

/// One thread's compressor and memory.
pub(crate) struct Encoder<'a> {
    spare: &'a Spare,
    progress: &'a Progress,
    codec: Option<Codec>,
    leave_out_zeros: bool,
    segment: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// An encoder that may leave out segments of zeros.
    pub(crate) fn new(
        compression: Option<Compression>,
        leave_out_zeros: bool,
        spare: &'a Spare,
        progress: &'a Progress,
    ) -> io::Result<Encoder<'a>> {
        Ok(Encoder {
            spare,
            progress,
            codec: compression.map(Codec::new).transpose()?,
            leave_out_zeros,
            segment: Vec::new(),
        })
    }

    /// Reads a piece and turns it into blocks.
    pub(crate) fn encode(&mut self, piece: &Piece<'_>) -> Result<Encoded, WriteError> {
        let mut encoded = Encoded::default();
        if piece.count >= LARGE {
            encoded.data = self.spare.take();
        }
        let mut digest = piece.digest.then(Sha256::new);
        match piece.form {
            Form::Flat => chunks(piece, PIECE_SIZE, &mut encoded, &mut digest)?,
            Form::Chunks(chunk) => chunks(piece, chunk, &mut encoded, &mut digest)?,
            Form::Compressed => self.segments(piece, &mut encoded, &mut digest)?,
        }
        if piece.last {
            piece.reader.finish()?;
        }
        self.progress.add(piece.count as u64);
        encoded.digest = digest.map(|digest| digest.finalize().into());
        Ok(encoded)
    }

    fn segments(
        &mut self,
        piece: &Piece<'_>,
        encoded: &mut Encoded,
        digest: &mut Option<Sha256>,
    ) -> Result<(), WriteError> {
        let mut done = 0;
        while done < piece.count {
            let count = SEGMENT_SIZE.min(piece.count - done);
            self.segment.clear();
            let offset = piece.offset + done as u64;
            piece.reader.append(offset, count, &mut self.segment)?;
            if let Some(digest) = digest {
                digest.update(&self.segment);
            }
            let run = self.segment(&mut encoded.data);
            encoded.runs.push(run.map_err(WriteError::Compress)?);
            done += count;
        }
        Ok(())
    }

    /// Appends the segment in the shortest way.
    fn segment(&mut self, out: &mut Vec<u8>) -> io::Result<Run> {
        let segment = self.segment.as_slice();
        if self.leave_out_zeros && segment.len() == SEGMENT_SIZE && is_zero(segment) {
            return Ok(Run::Zeros);
        }
        // At most those of a segment.
        let blocks = u16::try_from(segment.len().div_ceil(BLOCK_SIZE)).unwrap_or(SEGMENT_BLOCKS);
        let codec = self.codec.as_mut();
        let compressed = codec
            .map(|codec| codec.compress(segment, out))
            .transpose()?;
        if let Some(Some(count)) = compressed {
            return Ok(Run::Compressed(blocks, count));
        }
        out.extend_from_slice(segment);
        out.resize(out.len().next_multiple_of(BLOCK_SIZE), 0);
        Ok(Run::Plain(blocks))
    }
}

fn chunks(
    piece: &Piece<'_>,
    chunk: u64,
    encoded: &mut Encoded,
    digest: &mut Option<Sha256>,
) -> Result<(), WriteError> {
    let chunk = usize::try_from(chunk).unwrap_or(usize::MAX);
    encoded.data.reserve(piece.count);
    let mut done = 0;
    while done < piece.count {
        let count = chunk.min(piece.count - done);
        let before = encoded.data.len();
        let offset = piece.offset + done as u64;
        piece.reader.append(offset, count, &mut encoded.data)?;
        done += count;
        let bytes = encoded.data.get(before..).unwrap_or_default();
        if let Some(digest) = digest {
            digest.update(bytes);
        }
        if matches!(piece.form, Form::Chunks(_)) && is_zero(bytes) {
            encoded.data.truncate(before);
            encoded.runs.push(Run::Hole);
            continue;
        }
        let whole = count - count % BLOCK_SIZE;
        encoded.rest = encoded.data.split_off(before + whole);
        let blocks = u16::try_from(whole / BLOCK_SIZE).unwrap_or(u16::MAX);
        encoded.runs.push(Run::Plain(blocks));
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<32>();
    words.iter().all(|word| *word == [0; 32]) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(bytes: &[u8], form: Form) -> Encoded {
        let (spare, progress) = (Spare::default(), Progress::new());
        let mut encoder = Encoder::new(Some(Compression::Lz4), true, &spare, &progress).unwrap();
        let reader = Reader::bytes(bytes, bytes.len() as u64).unwrap();
        let piece = Piece {
            reader,
            form,
            offset: 0,
            count: bytes.len(),
            last: true,
            digest: true,
        };
        let encoded = encoder.encode(&piece).unwrap();
        assert_eq!(encoded.digest.unwrap(), *Sha256::digest(bytes));
        encoded
    }

    #[test]
    fn a_rest_stands_apart_unless_compressed() {
        let bytes = [1; 4096 * 2 + 5];
        let flat = encode(&bytes, Form::Flat);
        assert_eq!((flat.data.len(), flat.rest.len()), (8192, 5));
        assert_eq!(flat.runs, [Run::Plain(2)]);
        let compressed = encode(&bytes, Form::Compressed);
        assert_eq!((compressed.data.len(), compressed.rest.len()), (4096, 0));
        assert_eq!(compressed.runs, [Run::Compressed(3, 1)]);
    }

    #[test]
    fn zeros_are_found_by_content() {
        let mut bytes = vec![0; 3 * 65536 + 10];
        bytes[65536] = 1;
        let chunks = encode(&bytes, Form::Chunks(65536));
        assert_eq!(
            chunks.runs,
            [Run::Hole, Run::Plain(16), Run::Hole, Run::Hole]
        );
        assert_eq!((chunks.data.len(), chunks.rest.len()), (65536, 0));
        bytes[3 * 65536] = 1;
        let chunks = encode(&bytes, Form::Chunks(65536));
        assert_eq!(chunks.runs.last(), Some(&Run::Plain(0)));
        assert_eq!(chunks.rest.len(), 10);
        let segments = encode(&vec![0; SEGMENT_SIZE + 1], Form::Compressed);
        assert_eq!(segments.runs, [Run::Zeros, Run::Plain(1)]);
    }
}
