//! Recomputing a hash tree that somebody else made.
//!
//! Everything is read as it lies on disk and compared block by block; memory
//! is a few blocks per thread whatever the superblock claims.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::{io, thread};

use sha2::{Digest, Sha256, Sha512};

use super::RootHash;
use super::superblock::{Algorithm, HashType, SUPERBLOCK_SIZE, Superblock, SuperblockError};
use crate::io::progress::Progress;

/// Why data and hash tree do not belong together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerityError {
    /// The superblock is unusable.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The superblock covers more than there is.
    #[error(
        "the verity superblock covers {blocks} data blocks of {block_size} bytes, but the data has only {data_len} bytes"
    )]
    DataTooShort {
        /// Data blocks by the superblock.
        blocks: u64,
        /// Bytes of each.
        block_size: u32,
        /// Bytes that are there.
        data_len: u64,
    },
    /// The tree does not fit into the hash area.
    #[error("the hash tree needs {needed} bytes, but the hash area has only {hash_len}")]
    HashTooShort {
        /// Bytes of superblock and tree.
        needed: u64,
        /// Bytes that are there.
        hash_len: u64,
    },
    /// A stored hash block is not what the blocks below it give: data or tree was changed.
    #[error(
        "hash block {block} of level {level} (at byte {offset}) does not match the {below}; \
         data or hash tree was damaged or changed"
    )]
    Mismatch {
        /// Level of the hash block; 0 is next to the data.
        level: usize,
        /// Number of the hash block within its level.
        block: u64,
        /// Where the hash block begins in the file.
        offset: u64,
        /// The blocks it is made of, such as `data blocks 0 to 127`.
        below: String,
    },
    /// The file could not be read.
    #[error("reading {what} at byte {offset}: {source}")]
    Read {
        /// `data` or `hash tree`.
        what: &'static str,
        /// Where in the file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Recomputes the tree by the parameters of its own superblock, compares every stored hash
/// block with it and returns the root hash, which the caller has yet to compare with what it trusts.
///
/// Data and hash tree may lie in different files: each is a file, an offset and a length in bytes.
/// Data after the last covered block is not looked at. What has been read is counted in `progress`.
pub(crate) fn verify(
    data: (&File, u64, u64),
    hash: (&File, u64, u64),
    progress: &Progress,
) -> Result<RootHash, VerityError> {
    let mut head = [0; SUPERBLOCK_SIZE];
    let (hash_file, hash_offset, hash_len) = hash;
    if hash_len < SUPERBLOCK_SIZE as u64 {
        return Err(SuperblockError::Short.into());
    }
    read(hash_file, "hash tree", hash_offset, &mut head)?;
    let superblock = Superblock::parse(&head)?;
    let tree = Shape::new(&superblock, data, hash)?;
    for level in 0..tree.levels.len() {
        check_level(&superblock, &tree, level, progress)?;
    }
    // Of the last list there is exactly one block: the top of the tree, or the only data block.
    let top = tree.below(tree.levels.len());
    let mut block = vec![0; top.block_size];
    read(top.file, top.what, top.offset, &mut block)?;
    let root = Hasher::new(&superblock).digest(&block);
    Ok(RootHash::from_digest(&root).unwrap_or(RootHash::from([0; 32])))
}

/// A run of equal blocks in a file.
#[derive(Clone, Copy)]
struct Run<'a> {
    file: &'a File,
    what: &'static str,
    offset: u64,
    block_size: usize,
    blocks: u64,
}

/// Where data and levels lie.
struct Shape<'a> {
    data: Run<'a>,
    /// The level next to the data first.
    levels: Vec<Run<'a>>,
    /// Digests per hash block.
    fanout: u64,
}

impl<'a> Shape<'a> {
    fn new(
        superblock: &Superblock,
        (data_file, data_offset, data_len): (&'a File, u64, u64),
        (hash_file, hash_offset, hash_len): (&'a File, u64, u64),
    ) -> Result<Shape<'a>, VerityError> {
        let blocks = superblock.data_blocks;
        let block_size = superblock.data_block_size;
        blocks
            .checked_mul(u64::from(block_size))
            .filter(|covered| *covered <= data_len)
            .ok_or(VerityError::DataTooShort {
                blocks,
                block_size,
                data_len,
            })?;
        let data = Run {
            file: data_file,
            what: "data",
            offset: data_offset,
            block_size: block_size as usize,
            blocks,
        };
        let hash_block = u64::from(superblock.hash_block_size);
        let fanout = hash_block / superblock.algorithm.digest_size() as u64;
        // At least 8 digests per block: at most 21 rounds.
        let mut counts = Vec::new();
        let mut below = blocks;
        while below > 1 {
            below = below.div_ceil(fanout);
            counts.push(below);
        }
        // The counts shrink by the fanout and start below 2^52: no sum of them overflows.
        let needed = (1 + counts.iter().sum::<u64>()).saturating_mul(hash_block);
        if needed > hash_len || hash_offset.checked_add(needed).is_none() {
            return Err(VerityError::HashTooShort { needed, hash_len });
        }
        let mut offset = hash_offset.saturating_add(hash_block);
        let mut levels: Vec<Run<'_>> = counts
            .iter()
            .rev()
            .map(|blocks| {
                let run = Run {
                    file: hash_file,
                    what: "hash tree",
                    offset,
                    block_size: superblock.hash_block_size as usize,
                    blocks: *blocks,
                };
                offset = offset.saturating_add(blocks.saturating_mul(hash_block));
                run
            })
            .collect();
        levels.reverse();
        Ok(Shape {
            data,
            levels,
            fanout,
        })
    }

    /// The blocks that `level` is made of.
    fn below(&self, level: usize) -> Run<'a> {
        let run = level
            .checked_sub(1)
            .and_then(|below| self.levels.get(below));
        run.copied().unwrap_or(self.data)
    }
}

/// Compares all blocks of a level, on all cores.
fn check_level(
    superblock: &Superblock,
    tree: &Shape<'_>,
    level: usize,
    progress: &Progress,
) -> Result<(), VerityError> {
    let Some(run) = tree.levels.get(level) else {
        return Ok(());
    };
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let share = run.blocks.div_ceil(workers);
    let results: Vec<_> = thread::scope(|scope| {
        let spans = (0..workers).map(|worker| {
            let first = worker.saturating_mul(share).min(run.blocks);
            first..first.saturating_add(share).min(run.blocks)
        });
        let handles: Vec<_> = spans
            .filter(|span| !span.is_empty())
            .map(|span| scope.spawn(|| check_span(superblock, tree, level, span, progress)))
            .collect();
        handles
            .into_iter()
            .map(|handle| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    // The spans are in order, so the first error is the first in the file too.
    results.into_iter().collect()
}

fn check_span(
    superblock: &Superblock,
    tree: &Shape<'_>,
    level: usize,
    span: std::ops::Range<u64>,
    progress: &Progress,
) -> Result<(), VerityError> {
    let Some(run) = tree.levels.get(level) else {
        return Ok(());
    };
    let below = tree.below(level);
    let hasher = Hasher::new(superblock);
    let mut stored = vec![0; run.block_size];
    let mut expected = Vec::with_capacity(run.block_size);
    // Whole blocks near this size: few system calls, little memory.
    let per_read = ((1 << 20) / below.block_size).max(1) as u64;
    let mut buffer = vec![0; below.block_size * per_read as usize];
    for block in span {
        expected.clear();
        let first = block.saturating_mul(tree.fanout);
        let end = first.saturating_add(tree.fanout).min(below.blocks);
        let mut next = first;
        while next < end {
            let count = per_read.min(end - next);
            let bytes = buffer
                .get_mut(..below.block_size * count as usize)
                .unwrap_or_default();
            let offset = below.offset.saturating_add(next * below.block_size as u64);
            read(below.file, below.what, offset, bytes)?;
            for block in bytes.chunks_exact(below.block_size) {
                hasher.digest_into(block, &mut expected);
            }
            next += count;
            // Of the data only: the levels of the tree are a 128th of it.
            if level == 0 {
                progress.add(bytes.len() as u64);
            }
        }
        expected.resize(run.block_size, 0);
        let offset = run.offset.saturating_add(block * run.block_size as u64);
        read(run.file, run.what, offset, &mut stored)?;
        if stored != expected {
            let last = end.saturating_sub(1);
            let below = match level.checked_sub(1) {
                None => format!("data blocks {first} to {last}"),
                Some(below) => format!("blocks {first} to {last} of level {below}"),
            };
            return Err(VerityError::Mismatch {
                level,
                block,
                offset,
                below,
            });
        }
    }
    Ok(())
}

/// The digest with its salt in the right place.
enum Hasher<'a> {
    Sha256First(Sha256),
    Sha512First(Sha512),
    SaltLast(Algorithm, &'a [u8]),
}

impl Hasher<'_> {
    fn new(superblock: &Superblock) -> Hasher<'_> {
        match (superblock.hash_type, superblock.algorithm) {
            (HashType::ChromeOs, algorithm) => Hasher::SaltLast(algorithm, &superblock.salt),
            (HashType::Normal, Algorithm::Sha256) => {
                Hasher::Sha256First(Sha256::new_with_prefix(&superblock.salt))
            }
            (HashType::Normal, Algorithm::Sha512) => {
                Hasher::Sha512First(Sha512::new_with_prefix(&superblock.salt))
            }
        }
    }

    fn digest_into(&self, block: &[u8], out: &mut Vec<u8>) {
        match self {
            Hasher::Sha256First(salted) => {
                out.extend(salted.clone().chain_update(block).finalize());
            }
            Hasher::Sha512First(salted) => {
                out.extend(salted.clone().chain_update(block).finalize());
            }
            Hasher::SaltLast(Algorithm::Sha256, salt) => {
                out.extend(Sha256::new_with_prefix(block).chain_update(salt).finalize());
            }
            Hasher::SaltLast(Algorithm::Sha512, salt) => {
                out.extend(Sha512::new_with_prefix(block).chain_update(salt).finalize());
            }
        }
    }

    fn digest(&self, block: &[u8]) -> Vec<u8> {
        let mut digest = Vec::new();
        self.digest_into(block, &mut digest);
        digest
    }
}

fn read(file: &File, what: &'static str, offset: u64, into: &mut [u8]) -> Result<(), VerityError> {
    file.read_exact_at(into, offset)
        .map_err(|source| VerityError::Read {
            what,
            offset,
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::super::leaves::BLOCK_SIZE;
    use super::super::leaves::tests::{UUID, area, numbered};
    use super::*;

    /// 4096 bytes of something else, the data, the hash area.
    fn image(data: &[u8], hash: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(data, 4096).unwrap();
        file.write_all_at(hash, 4096 + data.len() as u64).unwrap();
        file
    }

    fn run(data: &[u8], hash: &[u8]) -> Result<RootHash, VerityError> {
        let (data_len, hash_len) = (data.len() as u64, hash.len() as u64);
        let file = image(data, hash);
        let hash = (&file, 4096 + data_len, hash_len);
        verify((&file, 4096, data_len), hash, &Progress::new())
    }

    fn hash_bytes(data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        area(data).write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn our_own_trees_verify() {
        for blocks in [1, 2, 128, 129, 16385] {
            let data = numbered(blocks);
            let root = run(&data, &hash_bytes(&data)).unwrap();
            assert_eq!(root, area(&data).root_hash(), "{blocks} blocks");
        }
    }

    /// `veritysetup format --hash=sha512 --data-block-size=1024 --hash-block-size=512
    /// --salt=aabb`, version 2.6.1, over 129 blocks of 4096 bytes; the tree is rebuilt here
    /// from its definition, so that this test does not need the tool.
    #[test]
    fn other_parameters_give_the_root_hash_of_veritysetup() {
        let data = numbered(129);
        let superblock = Superblock {
            hash_type: HashType::Normal,
            uuid: UUID,
            algorithm: Algorithm::Sha512,
            data_block_size: 1024,
            hash_block_size: 512,
            data_blocks: 516,
            salt: vec![0xaa, 0xbb],
        };
        let hasher = Hasher::new(&superblock);
        let mut levels = Vec::new();
        let mut below = data.clone();
        let mut size = 1024;
        while below.len() > size {
            let mut level = Vec::new();
            below
                .chunks_exact(size)
                .for_each(|block| hasher.digest_into(block, &mut level));
            level.resize(level.len().next_multiple_of(512), 0);
            size = 512;
            levels.push(level.clone());
            below = level;
        }
        levels.reverse();
        let hash = [superblock.to_bytes(), levels.concat()].concat();
        assert_eq!(
            run(&data, &hash).unwrap().to_string(),
            "c2472f2642f9dab563be1379ec86085d3cab7fd111c811155d76720fcdaf4dcc\
             cda3c14e924dccf10f703e6e5ab0e41f7f8622e59f6c9cdff7d638ecab85b1b9"
        );
    }

    #[test]
    fn the_first_mismatch_is_named() {
        let data = numbered(16385);
        let hash = hash_bytes(&data);
        let mut bad = data.clone();
        bad[200 * BLOCK_SIZE + 5] ^= 1;
        bad[9000 * BLOCK_SIZE] ^= 1;
        match run(&bad, &hash).unwrap_err() {
            VerityError::Mismatch {
                level: 0,
                block: 1,
                offset,
                below,
            } => {
                // Superblock, top level (1 block), middle level (2 blocks), then block 1.
                let start = 4096 + data.len() as u64;
                assert_eq!(offset, start + 5 * 4096);
                assert_eq!(below, "data blocks 128 to 255");
            }
            other => panic!("{other}"),
        }
        let mut bad = hash.clone();
        bad[4096] ^= 1;
        match run(&data, &bad).unwrap_err() {
            VerityError::Mismatch { level, block, .. } => assert_eq!((level, block), (2, 0)),
            other => panic!("{other}"),
        }
        // Padding inside a hash block is covered by the level above, so it counts too.
        let mut bad = hash;
        let last = bad.len() - 1;
        bad[last] ^= 1;
        match run(&data, &bad).unwrap_err() {
            VerityError::Mismatch { level, block, .. } => assert_eq!((level, block), (0, 128)),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn claims_beyond_the_image_are_refused() {
        let data = numbered(129);
        let hash = hash_bytes(&data);
        let claim = |blocks: u64| {
            let mut bad = hash.clone();
            bad[72..80].copy_from_slice(&blocks.to_le_bytes());
            run(&data, &bad).unwrap_err()
        };
        for blocks in [130, 1 << 52, u64::MAX] {
            assert!(matches!(claim(blocks), VerityError::DataTooShort { .. }));
        }
        assert!(matches!(
            run(&data, &hash[..4096 * 3]).unwrap_err(),
            VerityError::HashTooShort { needed: 16384, .. }
        ));
        assert!(matches!(
            run(&data, &hash[..100]).unwrap_err(),
            VerityError::Superblock(SuperblockError::Short)
        ));
    }
}
