//! Images that were compressed as a whole for the way: `.raw.gz`, `.raw.xz`, `.raw.zst`.
//!
//! systemd takes none of them. They are unpacked in one go, within bounds: a few kilobytes can
//! stand for any number of zeros.

use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use schemars::JsonSchema;
use serde::Serialize;

use crate::io::bomb;

/// Most bytes that any image unpacks to.
const MAX_SIZE: u64 = 16 << 30;
/// What every image may unpack to: file systems with much free room shrink a lot.
const MIN_ALLOWANCE: u64 = 1 << 30;
/// Most memory of the decompressor of xz, in bytes; `xz -9` takes 65 MiB to unpack.
const XZ_MEMORY: u64 = 256 << 20;
/// Largest window of zstd, as a power of two; what `zstd -d` takes without being asked.
const ZSTD_WINDOW: u32 = 27;
/// Bytes that are moved at a time.
const PIECE: usize = 64 << 10;
/// Zeros that become a hole.
const HOLE: usize = 4096;

/// How an image is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::Zstd => "zstd",
        }
    }

    /// By the first bytes; nothing if it is none of these.
    pub fn of(file: &File) -> Option<Codec> {
        let mut magic = [0; 6];
        file.read_exact_at(&mut magic, 0).ok()?;
        match magic {
            [0x1f, 0x8b, ..] => Some(Codec::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Some(Codec::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// What was around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Wrapped")]
pub struct Compressed {
    /// How it is compressed.
    pub codec: Codec,
    /// Bytes of the compressed file.
    pub size: u64,
}

/// Why an image can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum CompressedError {
    /// The compressed bytes are damaged or cut, or want too much memory.
    #[error("the {codec} data can't be unpacked after {at} bytes of the image: {source}", codec = codec.name())]
    Damaged {
        /// How it is compressed.
        codec: Codec,
        /// Bytes that were unpacked before.
        at: u64,
        /// What the decompressor says.
        source: io::Error,
    },
    /// A bomb, or an image larger than any extension.
    #[error("the {codec} data unpacks to more than {limit} bytes", codec = codec.name())]
    TooBig {
        /// How it is compressed.
        codec: Codec,
        /// The most that is unpacked, in bytes.
        limit: u64,
    },
    /// The place for the unpacked bytes.
    #[error("writing the unpacked image: {0}")]
    Write(io::Error),
}

/// Unpacks all of `file` into `out`, which must be empty, and returns the new length in bytes.
///
/// # Errors
/// [`CompressedError::Damaged`] for data that is cut, corrupt or needs too much memory,
/// [`CompressedError::TooBig`] for a bomb (the limit depends on the compressed size and is at most 16
/// GiB), [`CompressedError::Write`]. `out` keeps what was unpacked until then.
pub fn unwrap(file: &File, codec: Codec, out: &mut File) -> Result<u64, CompressedError> {
    let damaged = |at| move |source| CompressedError::Damaged { codec, at, source };
    let mut input = file.try_clone().map_err(damaged(0))?;
    let packed = input.seek(SeekFrom::End(0)).map_err(damaged(0))?;
    input.seek(SeekFrom::Start(0)).map_err(damaged(0))?;
    let limit = bomb::allowance(packed).clamp(MIN_ALLOWANCE, MAX_SIZE);
    let input = BufReader::new(input);
    let mut unpacked: Box<dyn Read> = match codec {
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Codec::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED);
            let stream = stream.map_err(|error| damaged(0)(error.into()))?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
        Codec::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input).map_err(damaged(0))?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(damaged(0))?;
            Box::new(decoder)
        }
    };
    let mut sparse = Sparse::new(out);
    let mut piece = vec![0; PIECE];
    loop {
        let count = match unpacked.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(sparse.at)(error)),
        };
        if sparse.at.saturating_add(count as u64) > limit {
            return Err(CompressedError::TooBig { codec, limit });
        }
        let bytes = piece.get(..count).unwrap_or_default();
        sparse.write_all(bytes).map_err(CompressedError::Write)?;
    }
    sparse.finish().map_err(CompressedError::Write)
}

/// Unpacks into a file without a name, which is gone when it is closed.
///
/// # Errors
/// Those of [`unwrap`]; [`CompressedError::Write`] also if there is no place for temporary files.
pub fn decompressed(file: &File, codec: Codec) -> Result<File, CompressedError> {
    let mut out = tempfile::tempfile().map_err(CompressedError::Write)?;
    unwrap(file, codec, &mut out)?;
    Ok(out)
}

/// A new file in which zeros become holes.
pub(crate) struct Sparse<'a> {
    file: &'a mut File,
    /// Bytes so far.
    at: u64,
}

impl<'a> Sparse<'a> {
    pub(crate) fn new(file: &'a mut File) -> Sparse<'a> {
        Sparse { file, at: 0 }
    }

    /// Gives the file its length, which a hole at its end does not, and returns that.
    pub(crate) fn finish(self) -> io::Result<u64> {
        self.file.flush()?;
        self.file.set_len(self.at)?;
        Ok(self.at)
    }
}

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..bytes.len().min(HOLE)).unwrap_or_default();
        let count = match piece.iter().all(|byte| *byte == 0) {
            true => piece.len(),
            false => {
                self.file.seek(SeekFrom::Start(self.at))?;
                self.file.write(piece)?
            }
        };
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn packed(codec: Codec, bytes: impl Read) -> File {
        let file = tempfile::tempfile().unwrap();
        let (mut bytes, out) = (bytes, file.try_clone().unwrap());
        match codec {
            Codec::Gzip => {
                let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
                io::copy(&mut bytes, &mut out).unwrap();
                out.finish().unwrap();
            }
            Codec::Xz => {
                let mut out = liblzma::write::XzEncoder::new(out, 1);
                io::copy(&mut bytes, &mut out).unwrap();
                out.finish().unwrap();
            }
            Codec::Zstd => zstd::stream::copy_encode(bytes, out, 1).unwrap(),
        }
        file
    }

    const ALL: [Codec; 3] = [Codec::Gzip, Codec::Xz, Codec::Zstd];

    #[test]
    fn what_comes_out_is_what_went_in() {
        let mut bytes = vec![7; 300_000];
        bytes.extend(vec![0; 5_000_000]);
        for codec in ALL {
            let file = packed(codec, bytes.as_slice());
            assert_eq!(Codec::of(&file), Some(codec));
            let mut out = decompressed(&file, codec).unwrap();
            assert!(out.metadata().unwrap().blocks() < 4000, "holes");
            let mut found = Vec::new();
            out.seek(SeekFrom::Start(0)).unwrap();
            out.read_to_end(&mut found).unwrap();
            assert!(found == bytes, "{codec:?}");
        }
        assert_eq!(Codec::of(&tempfile::tempfile().unwrap()), None);
    }

    #[test]
    fn bombs_and_damage_are_refused() {
        for codec in ALL {
            let file = packed(codec, [1; 400_000].as_slice());
            let length = file.metadata().unwrap().len();
            file.set_len(length - 8).unwrap();
            let error = decompressed(&file, codec).unwrap_err();
            assert!(matches!(error, CompressedError::Damaged { .. }), "{error}");
        }
        let zeros = io::repeat(0).take(MIN_ALLOWANCE + 1);
        let error = decompressed(&packed(Codec::Zstd, zeros), Codec::Zstd).unwrap_err();
        assert!(matches!(error, CompressedError::TooBig { .. }), "{error}");
    }
}
