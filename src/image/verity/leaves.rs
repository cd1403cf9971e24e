//! Making a hash tree while the data goes by.
//!
//! [`LeafHashes`] takes 4096-byte blocks in any order and on any thread, so
//! that the writer need not read anything twice; [`LeafHashes::hash_area`]
//! adds the upper levels. The digests of the blocks, 32 bytes for 4096, wait in
//! a file; the upper levels take a 128th of that in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RootHash;
use super::blocks::{BlockHasher, DIGEST_SIZE};
use super::superblock::Superblock;

/// Bytes of a data block and of a hash block.
pub(crate) const BLOCK_SIZE: usize = 4096;
/// Bytes of digests that are read back at a time, whole hash blocks.
const CHUNK: usize = 64 * BLOCK_SIZE;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// There was no data.
    #[error("a hash tree needs at least one data block")]
    NoData,
    /// A block was never fed, or fed twice.
    #[error("hashed {fed} data blocks while the data has {blocks}")]
    Incomplete {
        /// How many were fed.
        fed: u64,
        /// How many there are.
        blocks: u64,
    },
    /// The digests that wait in a file could not be read.
    #[error("reading back the digests of the data blocks: {0}")]
    Read(#[from] io::Error),
}

/// The digests of all data blocks, filled in any order.
#[derive(Debug)]
pub(crate) struct LeafHashes {
    hasher: BlockHasher,
    digests: File,
    fed: AtomicU64,
    blocks: AtomicU64,
}

impl LeafHashes {
    /// No block yet; the digests wait in `digests`, an empty file that nobody else writes.
    pub(crate) fn new(salt: [u8; 32], digests: File) -> LeafHashes {
        LeafHashes {
            hasher: BlockHasher::new(salt),
            digests,
            fed: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
        }
    }

    /// Hashes whole blocks that stand at block `first` and after; every block is fed once.
    pub(crate) fn feed(&self, first: u64, blocks: &[u8]) -> io::Result<()> {
        let count = blocks.len() / BLOCK_SIZE;
        let mut digests = Vec::with_capacity(count * DIGEST_SIZE);
        self.hasher.append(blocks, &mut digests);
        self.digests
            .write_all_at(&digests, first * DIGEST_SIZE as u64)?;
        let count = count as u64;
        self.fed.fetch_add(count, Ordering::Relaxed);
        self.blocks.fetch_max(first + count, Ordering::Relaxed);
        Ok(())
    }

    /// The finished tree over all blocks that were fed.
    pub(crate) fn hash_area(self, uuid: [u8; 16]) -> Result<HashArea, TreeError> {
        let blocks = self.blocks.into_inner();
        let fed = self.fed.into_inner();
        if blocks == 0 {
            return Err(TreeError::NoData);
        }
        if fed != blocks {
            return Err(TreeError::Incomplete { fed, blocks });
        }
        let mut superblock = Superblock::new(uuid, self.hasher.salt(), blocks).to_bytes();
        superblock.resize(BLOCK_SIZE, 0);
        let leaves = Leaves {
            file: self.digests,
            size: blocks * DIGEST_SIZE as u64,
        };
        let mut above = Vec::new();
        if blocks > 1 {
            leaves.each_chunk(|chunk| {
                self.hasher.append(chunk, &mut above);
                Ok(())
            })?;
        } else {
            above.resize(DIGEST_SIZE, 0);
            leaves.file.read_exact_at(&mut above, 0)?;
        }
        let mut upper = Vec::new();
        while above.len() > DIGEST_SIZE {
            above.resize(above.len().next_multiple_of(BLOCK_SIZE), 0);
            let mut next = Vec::new();
            self.hasher.append(&above, &mut next);
            upper.push(std::mem::replace(&mut above, next));
        }
        let mut root = [0; DIGEST_SIZE];
        root.copy_from_slice(above.get(..DIGEST_SIZE).unwrap_or(&[0; DIGEST_SIZE]));
        Ok(HashArea {
            superblock,
            upper,
            leaves,
            root: RootHash::from(root),
        })
    }
}

/// The digests of the data blocks.
#[derive(Debug)]
struct Leaves {
    file: File,
    /// In bytes.
    size: u64,
}

impl Leaves {
    /// Bytes of their level of the tree; a single block has none, its digest is the root.
    fn level_size(&self) -> u64 {
        match self.size > DIGEST_SIZE as u64 {
            true => self.size.next_multiple_of(BLOCK_SIZE as u64),
            false => 0,
        }
    }

    /// Shows the level in pieces of whole blocks, the last one filled with zeros.
    fn each_chunk(&self, mut act: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut offset = 0;
        let mut chunk = Vec::with_capacity(CHUNK);
        while offset < self.level_size() {
            // At most CHUNK.
            let count = usize::try_from(self.size - offset)
                .unwrap_or(CHUNK)
                .min(CHUNK);
            chunk.resize(count, 0);
            self.file.read_exact_at(&mut chunk, offset)?;
            chunk.resize(count.next_multiple_of(BLOCK_SIZE), 0);
            act(&chunk)?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }
}

/// A finished hash area: superblock and all levels.
#[derive(Debug)]
pub(crate) struct HashArea {
    superblock: Vec<u8>,
    /// The levels above that of the data blocks, in whole blocks, the lowest first.
    upper: Vec<Vec<u8>>,
    leaves: Leaves,
    root: RootHash,
}

impl HashArea {
    /// The digest above all.
    pub(crate) fn root_hash(&self) -> RootHash {
        self.root
    }

    /// Bytes of the whole area, a multiple of 4096.
    pub(crate) fn size(&self) -> u64 {
        let upper: usize = self.upper.iter().map(Vec::len).sum();
        (self.superblock.len() + upper) as u64 + self.leaves.level_size()
    }

    /// Writes superblock and tree in their on-disk order: the topmost level first.
    pub(crate) fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        out.write_all(&self.superblock)?;
        for level in self.upper.iter().rev() {
            out.write_all(level)?;
        }
        self.leaves.each_chunk(|chunk| out.write_all(chunk))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    pub(in super::super) const UUID: [u8; 16] = [
        0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde,
        0xf0,
    ];

    /// Block `i` is its number, as eight little-endian bytes, over and over.
    pub(in super::super) fn numbered(blocks: u64) -> Vec<u8> {
        (0..blocks)
            .flat_map(|block| block.to_le_bytes().repeat(BLOCK_SIZE / 8))
            .collect()
    }

    pub(in super::super) fn area(data: &[u8]) -> HashArea {
        let salt = std::array::from_fn(|i| i as u8);
        let leaves = LeafHashes::new(salt, tempfile::tempfile().unwrap());
        // The first block last, as an image writer does it.
        leaves
            .feed(1, data.get(BLOCK_SIZE..).unwrap_or_default())
            .unwrap();
        leaves.feed(0, &data[..BLOCK_SIZE]).unwrap();
        leaves.hash_area(UUID).unwrap()
    }

    /// `veritysetup format --salt=000102…1f --uuid=12345678-9abc-def0-1234-56789abcdef0`,
    /// version 2.6.1, over [`numbered`] blocks: root hash, size and sha256 of the hash device.
    const GOLDEN: [(u64, &str, u64, &str); 4] = [
        (
            1,
            "4ce3ecf32c133bf6321901b6092219474b6ac91a19d0304621d629e6bb9987dc",
            4096,
            "d3b6ab6a32c0257f403ef3f25574f730a3ef2fb6560dacd8b844c44b147a654c",
        ),
        (
            128,
            "af707baf273fabdd52780908cb444858f279708a395e169c8dc25592e1dae9f7",
            8192,
            "65b2701abf6dc3f83160a81ec1cea9c15b42813dd4f22e486833f0b9512c2ec9",
        ),
        (
            129,
            "b5ad8a9dd55da570528cb4eb5a1dbec40b24dc114252eb00c238021a6f968fc0",
            16384,
            "deb6e3a0ee9e7ac411f75f969b56c324d3187fe4af76b27d382bd7c900f8eb5c",
        ),
        (
            16385,
            "2dc6d42726cb35d7aadc6fe1b4173c08d90375bdb6ae7669b07fa7c10c96180c",
            544768,
            "9df7d8f1ee4b40f902b3c7a11780f589dab7671da002ba46895951c0fb5668e8",
        ),
    ];

    #[test]
    fn the_bytes_are_those_of_veritysetup() {
        for (blocks, root, size, digest) in GOLDEN {
            let area = area(&numbered(blocks));
            assert_eq!(area.root_hash().to_string(), root, "{blocks} blocks");
            assert_eq!(area.size(), size, "{blocks} blocks");
            let mut bytes = Vec::new();
            area.write(&mut bytes).unwrap();
            // veritysetup leaves the rest of the superblock's block as the zeros of a new file.
            let hex = RootHash::from(<[u8; 32]>::from(Sha256::digest(&bytes))).to_string();
            assert_eq!(hex, digest, "{blocks} blocks");
        }
    }

    #[test]
    fn a_missing_block_is_noticed() {
        let leaves = || LeafHashes::new([0; 32], tempfile::tempfile().unwrap());
        let one = leaves();
        one.feed(1, &[0; BLOCK_SIZE]).unwrap();
        assert!(matches!(
            one.hash_area(UUID).unwrap_err(),
            TreeError::Incomplete { fed: 1, blocks: 2 }
        ));
        assert!(matches!(
            leaves().hash_area(UUID).unwrap_err(),
            TreeError::NoData
        ));
    }
}
