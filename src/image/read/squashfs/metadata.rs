//! Packed blocks and the metadata in them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use backhand::compression::{CompressionAction, Compressor, DefaultCompressor};

use super::damaged;
use crate::image::read::error::FsError;
use crate::image::read::window::Window;

/// Bytes of a metadata block when unpacked.
const METADATA_BLOCK: usize = 8192;
/// Unpacked metadata blocks that are kept, 8 MiB in all.
const CACHED_BLOCKS: usize = 1024;
/// Bit of a metadata header for a block that is stored as it is.
const STORED_METADATA: u16 = 0x8000;

/// Compressor ids with our names for them.
pub(super) fn compressor(id: u16) -> Option<(Compressor, &'static str)> {
    match id {
        1 => Some((Compressor::Gzip, "gzip")),
        2 => Some((Compressor::Lzma, "lzma")),
        3 => Some((Compressor::Lzo, "lzo")),
        4 => Some((Compressor::Xz, "xz")),
        5 => Some((Compressor::Lz4, "lz4")),
        6 => Some((Compressor::Zstd, "zstd")),
        _ => None,
    }
}

/// The image and how to unpack its blocks.
pub(super) struct Packed {
    pub(super) window: Window,
    compressor: Compressor,
    blocks: RefCell<HashMap<u64, MetadataBlock>>,
}

/// An unpacked block and where the next one begins.
type MetadataBlock = (Rc<Vec<u8>>, u64);

/// Reads metadata on from some place, over the bounds of blocks.
pub(super) struct Cursor<'a> {
    packed: &'a Packed,
    block: u64,
    offset: usize,
}

impl Cursor<'_> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, FsError> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let (block, next) = self.packed.metadata_block(self.block)?;
            let rest = block.get(self.offset..).unwrap_or_default();
            if rest.is_empty() {
                self.block = next;
                self.offset = self.offset.saturating_sub(block.len());
                // A full block is followed by another one; a short one ends the table.
                if block.len() < METADATA_BLOCK {
                    return Err(damaged("metadata ends within an item"));
                }
                continue;
            }
            let taken = rest.len().min(count - bytes.len());
            bytes.extend(rest.iter().take(taken));
            self.offset = self.offset.saturating_add(taken);
        }
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FsError> {
        let bytes = self.bytes(N)?;
        bytes
            .first_chunk()
            .copied()
            .ok_or_else(|| damaged("metadata ends within an item"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FsError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FsError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FsError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

impl Packed {
    pub(super) fn new(window: Window, compressor: Compressor) -> Packed {
        Packed {
            window,
            compressor,
            blocks: RefCell::default(),
        }
    }

    pub(super) fn unpack(&self, packed: &[u8], limit: usize) -> Result<Vec<u8>, FsError> {
        let mut out = Vec::with_capacity(limit);
        DefaultCompressor
            .decompress(packed, &mut out, self.compressor)
            .map_err(|error| FsError::Damaged(error.to_string()))?;
        if out.len() > limit {
            return Err(damaged("a block unpacks to more than its size"));
        }
        Ok(out)
    }

    fn metadata_block(&self, at: u64) -> Result<MetadataBlock, FsError> {
        if let Some(block) = self.blocks.borrow().get(&at) {
            return Ok(block.clone());
        }
        let cut = || damaged("a metadata block lies outside");
        let header = self
            .window
            .peek(at)
            .map(u16::from_le_bytes)
            .ok_or_else(cut)?;
        let length = usize::from(header & !STORED_METADATA);
        if length == 0 || length > METADATA_BLOCK {
            return Err(damaged("a metadata block has a wrong length"));
        }
        let mut bytes = vec![0; length];
        let start = at.checked_add(2).ok_or_else(cut)?;
        self.window
            .read_exact_at(&mut bytes, start)
            .map_err(|_| cut())?;
        let next = start.saturating_add(u64::from(header & !STORED_METADATA));
        if header & STORED_METADATA == 0 {
            bytes = self.unpack(&bytes, METADATA_BLOCK)?;
        }
        let block = (Rc::new(bytes), next);
        let mut blocks = self.blocks.borrow_mut();
        if blocks.len() >= CACHED_BLOCKS {
            blocks.clear();
        }
        blocks.insert(at, block.clone());
        Ok(block)
    }

    /// A place in a table: the block relative to its start, and the offset in the block.
    pub(super) fn at(&self, table: u64, block: u64, offset: u64) -> Result<Cursor<'_>, FsError> {
        let block = table
            .checked_add(block)
            .ok_or_else(|| damaged("a reference overflows"))?;
        let offset = usize::try_from(offset).map_err(|_| damaged("a reference overflows"))?;
        if offset >= METADATA_BLOCK {
            return Err(damaged("a reference leads over the end of a block"));
        }
        Ok(Cursor {
            packed: self,
            block,
            offset,
        })
    }

    /// A place given as 48 bits of block and 16 of offset.
    pub(super) fn referred(&self, table: u64, reference: u64) -> Result<Cursor<'_>, FsError> {
        self.at(table, reference >> 16, reference & 0xffff)
    }

    /// An entry of a table that is found through a list of the places of its blocks.
    pub(super) fn indexed(&self, list: u64, number: u64, size: u64) -> Result<Cursor<'_>, FsError> {
        let per_block = METADATA_BLOCK as u64 / size;
        let place = (number / per_block)
            .checked_mul(8)
            .and_then(|at| list.checked_add(at))
            .and_then(|at| self.window.peek(at));
        let block = place
            .map(u64::from_le_bytes)
            .ok_or_else(|| damaged("a table is cut"))?;
        self.at(block, 0, number % per_block * size)
    }
}
