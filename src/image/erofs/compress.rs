//! Compressing a file in segments that know nothing of each other.
//!
//! mkfs.erofs searches for the input that fills a cluster of given size; here every segment has
//! the same length before compression, as in squashfs, and takes as many blocks as it needs. So
//! all processors work on one file, and reading any byte costs at most one segment.

use std::io;

use super::format::{Algorithm, BLOCK_SIZE};

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// LZ4 blocks.
    Lz4,
    /// Zstandard.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

/// log2 of the bytes of a segment. Reading one byte reads and decompresses up to a whole segment;
/// half of it makes images of programs 2 % (LZ4) to 6 % (Zstandard) larger, twice of it makes
/// them 1 % to 3 % smaller.
const SEGMENT_LOG: u8 = 18;
/// Bytes of a segment.
pub const SEGMENT_SIZE: usize = 1 << SEGMENT_LOG;
/// Blocks of a segment.
pub const SEGMENT_BLOCKS: u16 = (SEGMENT_SIZE / BLOCK_SIZE) as u16;

impl Compression {
    /// As the superblock names it.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Compression::Lz4 => Algorithm::Lz4,
            Compression::Zstd { .. } => Algorithm::Zstd {
                window_log: SEGMENT_LOG,
            },
        }
    }
}

/// A compressor with its memory; every thread has its own.
pub struct Codec {
    kind: Kind,
    compressed: Vec<u8>,
}

enum Kind {
    Lz4(Box<lz4_flex::block::CompressTable>),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Codec {
    /// Takes the memory.
    pub fn new(compression: Compression) -> io::Result<Codec> {
        let (kind, longest) = match compression {
            // Always the table for long input: which one is used shows in the result.
            Compression::Lz4 => (
                Kind::Lz4(Box::new(lz4_flex::block::CompressTable::large())),
                lz4_flex::block::get_maximum_output_size(SEGMENT_SIZE),
            ),
            Compression::Zstd { level } => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.window_log(SEGMENT_LOG.into())?;
                // Without the length of the content erofs-utils refuses a frame (lib/decompress.c);
                // it is there by default.
                (
                    Kind::Zstd(compressor),
                    zstd::zstd_safe::compress_bound(SEGMENT_SIZE),
                )
            }
        };
        let compressed = vec![0; longest];
        Ok(Codec { kind, compressed })
    }

    /// Appends a segment as whole blocks, its data at their end, and returns their number;
    /// `None`, with nothing appended, when that saves no block.
    pub fn compress(&mut self, segment: &[u8], out: &mut Vec<u8>) -> io::Result<Option<u16>> {
        let length = match &mut self.kind {
            Kind::Lz4(table) => {
                lz4_flex::block::compress_into_with_table(segment, &mut self.compressed, table)
                    .map_err(io::Error::other)?
            }
            Kind::Zstd(compressor) => {
                compressor.compress_to_buffer(segment, self.compressed.as_mut_slice())?
            }
        };
        let blocks = length.div_ceil(BLOCK_SIZE);
        if blocks >= segment.len().div_ceil(BLOCK_SIZE) {
            return Ok(None);
        }
        let padding = blocks * BLOCK_SIZE - length;
        out.resize(out.len() + padding, 0);
        out.extend_from_slice(self.compressed.get(..length).unwrap_or_default());
        // At most a segment's.
        Ok(u16::try_from(blocks).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_back_and_noise_is_left_alone() {
        let text: Vec<u8> = (0..SEGMENT_SIZE).map(|i| (i / 100 % 256) as u8).collect();
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(SEGMENT_SIZE)
        .collect();
        for compression in [Compression::Lz4, Compression::Zstd { level: 3 }] {
            let mut codec = Codec::new(compression).unwrap();
            let mut out = vec![7; BLOCK_SIZE];
            assert_eq!(codec.compress(&noise, &mut out).unwrap(), None);
            assert_eq!(out.len(), BLOCK_SIZE);
            let blocks = codec.compress(&text, &mut out).unwrap().unwrap();
            assert_eq!(out.len(), BLOCK_SIZE * (1 + usize::from(blocks)));
            let data: &[u8] = &out[BLOCK_SIZE..];
            let data = &data[data.iter().position(|byte| *byte != 0).unwrap()..];
            let back = match compression {
                Compression::Lz4 => lz4_flex::block::decompress(data, text.len()).unwrap(),
                Compression::Zstd { .. } => zstd::bulk::decompress(data, text.len()).unwrap(),
            };
            assert!(back == text);
            // What was compressed before does not show.
            let mut again = vec![7; BLOCK_SIZE];
            codec.compress(&text[..5000], &mut Vec::new()).unwrap();
            codec.compress(&text, &mut again).unwrap();
            assert!(again == out);
        }
    }
}
