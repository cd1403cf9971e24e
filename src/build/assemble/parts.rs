//! A disk image out of a file system, its hash tree and its signature, each byte for byte as its
//! maker left it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use uuid::Uuid;

use super::Table;
use crate::image::erofs::format::BLOCK_SIZE;
use crate::image::gpt::types::Role;
use crate::image::signature;
use crate::image::signature::SignaturePartition;
use crate::image::verity::RootHash;
use crate::io::atomic_file::AtomicFile;
use crate::io::progress::Progress;
use crate::systemd::arch::Arch;

/// Bytes that are copied at a time.
const PIECE: u64 = 1 << 20;

/// Bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// The file.
    pub file: &'a File,
    /// Where they begin, in bytes.
    pub offset: u64,
    /// How many they are.
    pub size: u64,
}

/// What is joined.
pub(crate) struct Parts<'a> {
    /// The file system.
    pub data: Piece<'a>,
    /// Its hash tree, superblock included.
    pub hash: Piece<'a>,
    /// The digest above it, of which the partitions get their ids.
    pub root_hash: RootHash,
    /// The signature of that.
    pub signature: &'a SignaturePartition,
    /// Decides the partition types.
    pub arch: Arch,
    /// Id of the partition table.
    pub disk: Uuid,
    /// Id of the signature partition.
    pub signature_id: Uuid,
    /// Most bytes that the image may have.
    pub max_size: Option<u64>,
    /// Counts the bytes that have been copied.
    pub progress: &'a Progress,
}

/// Makes the image and places it at `out`, as [`super::assemble`] does.
pub(crate) fn assemble_parts(parts: &Parts<'_>, out: &Path) -> Result<()> {
    make(parts, out).with_context(|| format!("making the image {}", out.display()))
}

fn make(parts: &Parts<'_>, out: &Path) -> Result<()> {
    let mut pending = AtomicFile::create(out, 0o644).context("creating the file")?;
    let file = pending.file();
    let mut table = Table::new(parts.arch);
    let (first, second) = parts.root_hash.uuid_halves();
    for (role, piece, id) in [
        (Role::Data, parts.data, first),
        (Role::Verity, parts.hash, second),
    ] {
        copy(piece, file, table.end, parts.progress).context("copying")?;
        let size = piece.size.next_multiple_of(BLOCK_SIZE as u64);
        table.add(role, Uuid::from_bytes(id), size)?;
    }
    let bytes = parts
        .signature
        .to_bytes()
        .context("making the signature partition")?;
    file.write_all_at(&bytes, table.end)?;
    table.add(
        Role::Signature,
        parts.signature_id,
        signature::PARTITION_SIZE,
    )?;
    table.write(file, parts.disk, parts.max_size)?;
    pending.place().context("placing the file")
}

fn copy(piece: Piece<'_>, to: &File, at: u64, progress: &Progress) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut done = 0;
    while done < piece.size {
        let count = (piece.size - done).min(PIECE);
        buffer.resize(usize::try_from(count).unwrap_or(0), 0);
        piece.file.read_exact_at(&mut buffer, piece.offset + done)?;
        to.write_all_at(&buffer, at + done)?;
        progress.add(count);
        done += count;
    }
    Ok(())
}
