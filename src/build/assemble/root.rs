//! The root partition: the file system and the digests of its blocks.

use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{io, thread};

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};

use super::Recipe;
use crate::build::assemble::Protection;
use crate::image::erofs::error::WriteError;
use crate::image::erofs::format::BLOCK_SIZE;
use crate::image::erofs::params::Params;
use crate::image::erofs::stream::{Sink, Spare};
use crate::image::mkfs::{ext4, squashfs};
use crate::image::verity::leaves::LeafHashes;
use crate::image::{ImageFormat, erofs};

/// Pieces on their way to the threads that hash and write them; each has at most 1 MiB.
const PIECES: usize = 4;
/// Threads that hash and write; each does some 2 GB/s, and no disk takes more than these.
const MOST_WRITERS: usize = 4;
/// Bytes that are read back at a time.
const PIECE: u64 = 1 << 20;

/// Writes the file system to its place; returns its size in blocks and, unless there is to be
/// no hash tree, the digests of all blocks, which wait in an unnamed file in `scratch`.
pub(super) fn write(
    recipe: &Recipe<'_>,
    file: &File,
    scratch: &Path,
) -> Result<(u64, Option<LeafHashes>)> {
    let leaves = match recipe.verity {
        Protection::Bare | Protection::None => None,
        _ => {
            let digests = tempfile_in(scratch).context("creating a temporary file")?;
            Some(LeafHashes::new(recipe.ids.salt, digests))
        }
    };
    let bytes = match recipe.file_system {
        ImageFormat::Erofs {
            compression,
            share_compressed,
        } => {
            let params = Params {
                uuid: recipe.ids.file_system,
                epoch_seconds: recipe.epoch_seconds,
                volume_name: [0; 16],
                compression,
                share_compressed,
                threads: recipe.threads,
            };
            let blocks = write_erofs(recipe, &params, file, leaves.as_ref())?;
            return Ok((blocks, leaves));
        }
        ImageFormat::Squashfs(compression) => squashfs::write(
            recipe.tree,
            compression,
            recipe.epoch_seconds,
            recipe.progress,
            file,
            recipe.first_offset(),
        )?,
        ImageFormat::Ext4 => ext4::write(
            recipe.tree,
            recipe.ids.file_system,
            recipe.epoch_seconds,
            file,
            recipe.first_offset(),
        )?,
    };
    let blocks = bytes / BLOCK_SIZE as u64;
    if let Some(leaves) = &leaves {
        let part = (recipe.first_offset(), bytes);
        hash(file, part, leaves, recipe.threads).context("reading the file system back")?;
    }
    Ok((blocks, leaves))
}

/// Hashes what another program wrote: so many bytes from an offset on.
fn hash(
    file: &File,
    (start, size): (u64, u64),
    leaves: &LeafHashes,
    threads: NonZero<usize>,
) -> io::Result<()> {
    let next = AtomicU64::new(0);
    let work = || -> io::Result<()> {
        let mut piece = Vec::new();
        loop {
            let offset = next.fetch_add(PIECE, Ordering::Relaxed);
            if offset >= size {
                return Ok(());
            }
            // At most PIECE, and whole blocks.
            piece.resize(usize::try_from((size - offset).min(PIECE)).unwrap_or(0), 0);
            file.read_exact_at(&mut piece, start + offset)?;
            leaves.feed(offset / BLOCK_SIZE as u64, &piece)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

/// Writes an EROFS; the threads that write its blocks hash them on the way.
fn write_erofs(
    recipe: &Recipe<'_>,
    params: &Params,
    file: &File,
    leaves: Option<&LeafHashes>,
) -> Result<u64> {
    let failure = OnceLock::new();
    let spare = Spare::default();
    let (pieces, waiting) = sync_channel(PIECES);
    let waiting = &Mutex::new(waiting);
    let written = thread::scope(|scope| {
        let root = Root {
            spare: &spare,
            file,
            start: recipe.first_offset(),
            leaves,
            failure: &failure,
        };
        let threads: Vec<_> = (0..recipe.threads.get().min(MOST_WRITERS))
            .map(|_| scope.spawn(move || root.write_all(waiting)))
            .collect();
        let mut sink = Pieces { pieces };
        let written = erofs::write::write(recipe.tree, params, &spare, recipe.progress, &mut sink);
        // The threads end when nobody can send any more.
        drop(sink);
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        written
    });
    match failure.into_inner() {
        Some(error) => Err(WriteError::Write(error).into()),
        None => Ok(written?),
    }
}

/// An unnamed file; the empty path is the current directory.
fn tempfile_in(dir: &Path) -> io::Result<File> {
    match dir.as_os_str().is_empty() {
        true => tempfile::tempfile_in("."),
        false => tempfile::tempfile_in(dir),
    }
}

/// A piece of the file system: its first block and its bytes.
type Piece = (u64, Vec<u8>);

/// The way to the threads that hash and write.
struct Pieces {
    pieces: SyncSender<Piece>,
}

impl Sink for Pieces {
    fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()> {
        let gone = |_| io::Error::other("the threads that write are gone");
        self.pieces.send((first, blocks)).map_err(gone)
    }
}

/// The root partition as a place for blocks.
#[derive(Clone, Copy)]
struct Root<'a> {
    spare: &'a Spare,
    file: &'a File,
    /// Its first byte.
    start: u64,
    leaves: Option<&'a LeafHashes>,
    /// The first error of any thread.
    failure: &'a OnceLock<io::Error>,
}

impl Root<'_> {
    /// Writes whatever comes, until nothing more can come. After an error pieces are only taken,
    /// so that nobody waits for room.
    fn write_all(self, waiting: &Mutex<Receiver<Piece>>) {
        loop {
            let piece = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok((first, blocks)) = piece else { return };
            if self.failure.get().is_none()
                && let Err(error) = self.write(first, &blocks)
            {
                // Another thread may have been first.
                let _ = self.failure.set(error);
            }
            self.spare.give(blocks);
        }
    }

    fn write(self, first: u64, blocks: &[u8]) -> io::Result<()> {
        if let Some(leaves) = self.leaves {
            leaves.feed(first, blocks)?;
        }
        let offset = self.start + first * BLOCK_SIZE as u64;
        self.file.write_all_at(blocks, offset)?;
        // The disk begins now instead of waiting for the final sync: Linux starts to write what is
        // dirty and keeps it cached until then (mm/fadvise.c). Only advice, so it can't fail.
        let _ = fadvise(
            self.file,
            offset,
            NonZero::new(blocks.len() as u64),
            Advice::DontNeed,
        );
        Ok(())
    }
}
