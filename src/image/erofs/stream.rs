//! Ascending blocks on their way to the image.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::format::BLOCK_SIZE;

/// Bytes that are gathered before they are handed on.
const BUFFER_SIZE: usize = 1 << 20;
/// Blocks of this many bytes go on as they are; gathering them would only copy them.
pub(crate) const LARGE: usize = 128 << 10;

/// Memory that goes round between those who fill blocks and those who write them: fresh memory
/// costs as much as copying into it.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// More than are ever on their way.
    const MOST: usize = 32;

    /// An empty vector with room for a buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_SIZE))
    }

    /// Gives back what was taken; other vectors just go.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() == BUFFER_SIZE && spare.len() < Spare::MOST {
            spare.push(buffer);
        }
    }
}

/// Takes the blocks of the file system.
pub(crate) trait Sink {
    /// Takes a whole number of 4096-byte blocks that belong at block `first` and after.
    /// Every block comes exactly once; they do not come in order. The vector may go to
    /// [`Spare::give`] when it has been written.
    fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()>;
}

/// Ascending blocks, gathered so that the sink gets large pieces.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    spare: &'a Spare,
    /// Block at which `buffer` begins.
    first: u64,
    buffer: Vec<u8>,
}

impl<'a> Stream<'a> {
    /// Begins at a block.
    pub(crate) fn starting_at(first: u64, spare: &'a Spare) -> Stream<'a> {
        let buffer = Vec::new();
        Stream {
            spare,
            first,
            buffer,
        }
    }

    /// The byte of the image that comes next.
    pub(crate) fn position(&self) -> u64 {
        self.first * BLOCK_SIZE as u64 + self.buffer.len() as u64
    }

    /// Appends bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut impl Sink) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer = self.spare.take();
            }
            let room = BUFFER_SIZE - self.buffer.len();
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, b""));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_SIZE {
                self.flush(out)?;
            }
        }
        Ok(())
    }

    /// Appends whole blocks where a block begins.
    pub(crate) fn push_blocks(&mut self, blocks: Vec<u8>, out: &mut impl Sink) -> io::Result<()> {
        if blocks.len() < LARGE {
            return self.push(&blocks, out);
        }
        self.flush(out)?;
        self.send(blocks, out)
    }

    /// Zeros up to the byte `offset` of the image.
    pub(crate) fn pad_to(&mut self, offset: u64, out: &mut impl Sink) -> io::Result<()> {
        let left = offset.checked_sub(self.position());
        let mut left = left.ok_or_else(|| io::Error::other("the layout goes backwards"))?;
        while left > 0 {
            // At most a block.
            let count = usize::try_from(left.min(BLOCK_SIZE as u64)).unwrap_or(BLOCK_SIZE);
            self.push([0; BLOCK_SIZE].get(..count).unwrap_or_default(), out)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Zeros up to the end of the block.
    pub(crate) fn pad_block(&mut self, out: &mut impl Sink) -> io::Result<()> {
        let end = self.position().next_multiple_of(BLOCK_SIZE as u64);
        self.pad_to(end, out)
    }

    /// Fills the last block and sends what is left.
    pub(crate) fn finish(&mut self, out: &mut impl Sink) -> io::Result<()> {
        self.pad_block(out)?;
        self.flush(out)
    }

    fn flush(&mut self, out: &mut impl Sink) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => {
                let blocks = std::mem::take(&mut self.buffer);
                self.send(blocks, out)
            }
        }
    }

    fn send(&mut self, blocks: Vec<u8>, out: &mut impl Sink) -> io::Result<()> {
        let first = self.first;
        self.first += (blocks.len() / BLOCK_SIZE) as u64;
        out.write_blocks(first, blocks)
    }
}
