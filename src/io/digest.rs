//! Digests of whole files, as the manifest, a pin and Trident ask for them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{io, thread};

use sha2::{Digest, Sha256, Sha384};

use crate::io::progress::Progress;
use crate::io::{hex, open};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Digest of the first `size` bytes, lower-case hex; a shorter file is an error. What
/// is read is counted in `progress`.
pub(crate) fn digest<D: Digest>(file: &File, size: u64, progress: &Progress) -> io::Result<String> {
    digest_of::<D>(file, 0..size, progress)
}

/// Digest of a range of bytes, likewise.
pub(crate) fn digest_of<D: Digest>(
    file: &File,
    range: Range<u64>,
    progress: &Progress,
) -> io::Result<String> {
    let mut digest = D::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = range.start;
    while offset < range.end {
        let left = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let piece = buffer.get_mut(..count).unwrap_or_default();
        file.read_exact_at(piece, offset)?;
        digest.update(&piece);
        progress.add(count as u64);
        offset += count as u64;
    }
    Ok(hex::encode(&digest.finalize()))
}

/// Digest and length in bytes of the file at `path`; reading it is a stage of `progress`.
pub(crate) fn digest_file<D: Digest>(
    path: &Path,
    stage: String,
    progress: &Progress,
) -> io::Result<(String, u64)> {
    let (file, size) = open::open_sized(path)?;
    progress.begin(stage, size);
    Ok((digest::<D>(&file, size, progress)?, size))
}

/// SHA-256 and SHA-384 of the first `size` bytes, computed side by side.
pub(crate) fn sha256_and_sha384(
    file: &File,
    size: u64,
    progress: &Progress,
) -> io::Result<(String, String)> {
    thread::scope(|scope| {
        let short = scope.spawn(|| digest::<Sha256>(file, size, &Progress::new()));
        let long = digest::<Sha384>(file, size, progress);
        let short = match short.join() {
            Ok(short) => short,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((short?, long?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn digests_are_those_of_the_whole_file() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = vec![7; CHUNK + 3];
        file.write_all(&bytes).unwrap();
        let size = bytes.len() as u64;
        let progress = Progress::new();
        let (short, long) = sha256_and_sha384(&file, size, &progress).unwrap();
        assert_eq!(progress.now().1, size);
        assert_eq!(short, hex::encode(&Sha256::digest(&bytes)));
        assert_eq!(long, hex::encode(&Sha384::digest(&bytes)));
        assert!(
            digest::<Sha256>(&file, size + 1, &progress).is_err(),
            "a file that shrank"
        );
    }
}
