//! Making a hash tree while the data goes by.
//!
//! [`LeafHashes`] takes 4096-byte blocks in any order, so that the writer need
//! not read anything twice; [`LeafHashes::hash_area`] adds the upper levels.

use std::io;

use sha2::{Digest, Sha256};

use super::RootHash;
use super::superblock::Superblock;

/// Bytes of a data block and of a hash block.
pub const BLOCK_SIZE: usize = 4096;
const DIGEST_SIZE: usize = 32;

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
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
}

/// The digests of all data blocks, filled in any order.
#[derive(Debug)]
pub struct LeafHashes {
    salted: Sha256,
    salt: [u8; 32],
    digests: Vec<u8>,
    fed: u64,
}

impl LeafHashes {
    /// No block yet.
    pub fn new(salt: [u8; 32]) -> LeafHashes {
        LeafHashes {
            salted: Sha256::new_with_prefix(salt),
            salt,
            digests: Vec::new(),
            fed: 0,
        }
    }

    /// Hashes whole blocks that stand at block `first` and after; every block is fed once.
    pub fn feed(&mut self, first: usize, blocks: &[u8]) {
        let (blocks, _) = blocks.as_chunks::<BLOCK_SIZE>();
        let start = first * DIGEST_SIZE;
        let end = start + blocks.len() * DIGEST_SIZE;
        if self.digests.len() < end {
            self.digests.resize(end, 0);
        }
        let room = self.digests.get_mut(start..end).unwrap_or_default();
        for (slot, block) in room.chunks_exact_mut(DIGEST_SIZE).zip(blocks) {
            slot.copy_from_slice(&self.salted.clone().chain_update(block).finalize());
            self.fed += 1;
        }
    }

    /// The finished tree over all blocks that were fed; the memory of the leaves is reused.
    pub fn hash_area(self, uuid: [u8; 16]) -> Result<HashArea, TreeError> {
        let blocks = (self.digests.len() / DIGEST_SIZE) as u64;
        if blocks == 0 {
            return Err(TreeError::NoData);
        }
        if self.fed != blocks {
            let fed = self.fed;
            return Err(TreeError::Incomplete { fed, blocks });
        }
        let mut superblock = Superblock::new(uuid, self.salt, blocks).to_bytes();
        superblock.resize(BLOCK_SIZE, 0);
        let mut levels = Vec::new();
        let mut digests = self.digests;
        while digests.len() > DIGEST_SIZE {
            digests.resize(digests.len().next_multiple_of(BLOCK_SIZE), 0);
            let (nodes, _) = digests.as_chunks::<BLOCK_SIZE>();
            let above = nodes
                .iter()
                .flat_map(|node| self.salted.clone().chain_update(node).finalize())
                .collect();
            levels.push(std::mem::replace(&mut digests, above));
        }
        let mut root = [0; DIGEST_SIZE];
        root.copy_from_slice(digests.get(..DIGEST_SIZE).unwrap_or(&[0; DIGEST_SIZE]));
        Ok(HashArea {
            superblock,
            levels,
            root: RootHash::from(root),
        })
    }
}

/// A finished hash area: superblock and all levels.
#[derive(Debug)]
pub struct HashArea {
    superblock: Vec<u8>,
    /// Whole blocks, the level next to the data first.
    levels: Vec<Vec<u8>>,
    root: RootHash,
}

impl HashArea {
    /// The digest above all.
    pub fn root_hash(&self) -> RootHash {
        self.root
    }

    /// Bytes of the whole area, a multiple of 4096.
    pub fn size(&self) -> u64 {
        let tree: usize = self.levels.iter().map(Vec::len).sum();
        (self.superblock.len() + tree) as u64
    }

    /// Writes superblock and tree in their on-disk order: the topmost level first.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        out.write_all(&self.superblock)?;
        let mut levels = self.levels.iter().rev();
        levels.try_for_each(|level| out.write_all(level))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

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
        let mut leaves = LeafHashes::new(std::array::from_fn(|i| i as u8));
        // The first block last, as an image writer does it.
        leaves.feed(1, data.get(BLOCK_SIZE..).unwrap_or_default());
        leaves.feed(0, &data[..BLOCK_SIZE]);
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
        let mut leaves = LeafHashes::new([0; 32]);
        leaves.feed(1, &[0; BLOCK_SIZE]);
        let (fed, blocks) = (1, 2);
        assert_eq!(
            leaves.hash_area(UUID).unwrap_err(),
            TreeError::Incomplete { fed, blocks }
        );
        assert_eq!(
            LeafHashes::new([0; 32]).hash_area(UUID).unwrap_err(),
            TreeError::NoData
        );
    }
}
