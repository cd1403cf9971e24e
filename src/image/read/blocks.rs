//! The last few pieces that were read of a window: readers of metadata ask for some bytes at a time,
//! near each other.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::window::Window;

/// Bytes of a piece, which begins at a multiple of them.
const PIECE: u64 = 64 << 10;
/// How many pieces are kept.
const KEPT: usize = 8;
/// Longer reads are of file data and go through.
const LARGEST: usize = 4 << 10;

/// A window that remembers.
#[derive(Debug)]
pub(super) struct Blocks {
    window: Window,
    /// Start and bytes, the latest at the end.
    pieces: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Blocks {
    pub(super) fn new(window: Window) -> Blocks {
        Blocks {
            window,
            pieces: Mutex::default(),
        }
    }

    /// Fills `buffer` from the position `at` in the window.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let start = at / PIECE * PIECE;
        let inside = usize::try_from(at - start).unwrap_or(usize::MAX);
        let end = inside.saturating_add(buffer.len());
        if buffer.len() > LARGEST || end as u64 > PIECE {
            return self.window.read_exact_at(buffer, at);
        }
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        match pieces.iter().position(|(first, _)| *first == start) {
            Some(index) => {
                let piece = pieces.remove(index);
                pieces.push(piece);
            }
            None => {
                let left = self.window.length().saturating_sub(start).min(PIECE);
                let mut piece = vec![0; usize::try_from(left).unwrap_or(0)];
                if self.window.read_exact_at(&mut piece, start).is_err() {
                    // The file is shorter than it says: what is there may still be read.
                    return self.window.read_exact_at(buffer, at);
                }
                if pieces.len() >= KEPT {
                    pieces.remove(0);
                }
                pieces.push((start, piece));
            }
        }
        let piece = pieces.last().and_then(|(_, piece)| piece.get(inside..end));
        let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    #[test]
    fn every_read_gives_what_the_window_gives() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..700_000_u32).map(|index| (index / 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        // It claims more than the file has.
        let window = Window::new(Arc::new(file), 100, 1_000_000);
        let blocks = Blocks::new(window.clone());
        for at in [
            0, 1, 65_530, 65_536, 131_071, 690_000, 699_890, 699_899, 0, 999_999,
        ] {
            for length in [0, 1, 10, 4096, 5000] {
                let (mut ours, mut theirs) = (vec![7; length], vec![7; length]);
                let found = blocks.read_exact_at(&mut ours, at).is_ok();
                assert_eq!(
                    found,
                    window.read_exact_at(&mut theirs, at).is_ok(),
                    "{at} {length}"
                );
                assert!(!found || ours == theirs, "{at} {length}");
            }
        }
    }
}
