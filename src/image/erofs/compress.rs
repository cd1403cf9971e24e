//! Compressing a file in segments that know nothing of each other.
//!
//! mkfs.erofs searches for the input that fills a cluster of given size; here every segment has
//! the same length before compression, as in squashfs, and takes as many blocks as it needs. So
//! all processors work on one file, and reading any byte costs at most one segment.

use std::io;

use lz4::block::CompressionMode;

use super::format::{Algorithm, BLOCK_SIZE};

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// LZ4 blocks.
    Lz4,
    /// LZ4 blocks after a longer search (`HIGH_LEVEL`); read like the others.
    Lz4hc,
    /// Zstandard.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

/// The level of [`Compression::Lz4hc`]: that of mkfs.erofs and liblz4 when none is given. The highest,
/// 12, makes images of programs 0.3 % smaller in three times the time.
const HIGH_LEVEL: i32 = 9;
/// log2 of the bytes of a segment. Reading one byte reads and decompresses up to a whole segment;
/// half of it makes images of programs 2 % (LZ4) to 6 % (Zstandard) larger, twice of it makes
/// them 1 % to 3 % smaller.
const SEGMENT_LOG: u8 = 18;
/// Bytes of a segment.
pub(crate) const SEGMENT_SIZE: usize = 1 << SEGMENT_LOG;
/// Blocks of a segment.
pub(crate) const SEGMENT_BLOCKS: u16 = (SEGMENT_SIZE / BLOCK_SIZE) as u16;

impl Compression {
    /// As the superblock names it.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Compression::Lz4 | Compression::Lz4hc => Algorithm::Lz4,
            Compression::Zstd { .. } => Algorithm::Zstd {
                window_log: SEGMENT_LOG,
            },
        }
    }
}

/// A compressor with its memory; every thread has its own.
pub(crate) struct Codec {
    kind: Kind,
    compressed: Vec<u8>,
}

enum Kind {
    Lz4(CompressionMode),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Codec {
    /// Takes the memory.
    pub(crate) fn new(compression: Compression) -> io::Result<Codec> {
        let lz4 = |mode| Ok((Kind::Lz4(mode), lz4::block::compress_bound(SEGMENT_SIZE)?));
        let (kind, longest) = match compression {
            Compression::Lz4 => lz4(CompressionMode::FAST(1)),
            Compression::Lz4hc => lz4(CompressionMode::HIGHCOMPRESSION(HIGH_LEVEL)),
            Compression::Zstd { level } => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.window_log(SEGMENT_LOG.into())?;
                // Without the length of the content erofs-utils refuses a frame (lib/decompress.c);
                // it is there by default.
                let longest = zstd::zstd_safe::compress_bound(SEGMENT_SIZE);
                Ok::<_, io::Error>((Kind::Zstd(compressor), longest))
            }
        }?;
        let compressed = vec![0; longest];
        Ok(Codec { kind, compressed })
    }

    /// Appends a segment as whole blocks, its data at their end, and returns their number;
    /// `None`, with nothing appended, when that saves no block.
    pub(crate) fn compress(
        &mut self,
        segment: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<Option<u16>> {
        let length = match &mut self.kind {
            Kind::Lz4(mode) => {
                lz4::block::compress_to_buffer(segment, Some(*mode), false, &mut self.compressed)?
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
        let zstd = Compression::Zstd { level: 3 };
        for compression in [Compression::Lz4, Compression::Lz4hc, zstd] {
            let mut codec = Codec::new(compression).unwrap();
            let mut out = vec![7; BLOCK_SIZE];
            assert_eq!(codec.compress(&noise, &mut out).unwrap(), None);
            assert_eq!(out.len(), BLOCK_SIZE);
            let blocks = codec.compress(&text, &mut out).unwrap().unwrap();
            assert_eq!(out.len(), BLOCK_SIZE * (1 + usize::from(blocks)));
            let data: &[u8] = &out[BLOCK_SIZE..];
            let data = &data[data.iter().position(|byte| *byte != 0).unwrap()..];
            let back = match compression {
                Compression::Lz4 | Compression::Lz4hc => {
                    lz4_flex::block::decompress(data, text.len()).unwrap()
                }
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
