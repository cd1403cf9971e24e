//! Files of equal content share their blocks.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::format::Cluster;
use super::params::PIECE_SIZE;
use crate::tree::{Kind, Tree};

/// SHA-256 of something.
pub(crate) type Sum = [u8; 32];

/// Where the content of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Block after block.
    Flat {
        /// The first.
        address: u32,
        /// Whether the last block, which is not full, is one of them.
        with_rest: bool,
    },
    /// The address of every chunk.
    Chunks(Vec<u32>),
    /// Clusters, some of them compressed.
    Compressed(Vec<Cluster>),
}

/// Content that may come again, by the digests of its pieces of [`PIECE_SIZE`] bytes.
///
/// Only files whose length another one has are digested at all.
#[derive(Debug)]
pub(crate) struct Shares {
    repeated: HashSet<u64>,
    /// Of files of more than one piece: length and digest of the first.
    heads: HashMap<u64, HashSet<Sum>>,
    stored: HashMap<(u64, Sum), Rc<Stored>>,
}

impl Shares {
    /// Looks for lengths that come more than once among files of at least `smallest` bytes.
    pub(crate) fn new(tree: &Tree, smallest: u64) -> Shares {
        let mut sizes: Vec<u64> = tree
            .inodes
            .iter()
            .filter_map(|inode| match inode.kind {
                Kind::File { size, .. } if size >= smallest => Some(size),
                _ => None,
            })
            .collect();
        sizes.sort_unstable();
        let pairs = sizes.array_windows();
        Shares {
            repeated: pairs.filter(|[a, b]| a == b).map(|[a, _]| *a).collect(),
            heads: HashMap::new(),
            stored: HashMap::new(),
        }
    }

    /// Whether a file of this length is to be digested.
    pub(crate) fn wants(&self, size: u64) -> bool {
        self.repeated.contains(&size)
    }

    /// Whether a long file of this length was stored.
    pub(crate) fn knows_length(&self, size: u64) -> bool {
        self.heads.contains_key(&size)
    }

    /// Whether a long file of this length that begins like this was stored.
    pub(crate) fn knows_head(&self, size: u64, head: &Sum) -> bool {
        self.heads
            .get(&size)
            .is_some_and(|heads| heads.contains(head))
    }

    /// Where content of these digests is.
    pub(crate) fn find(&self, size: u64, pieces: &[Sum]) -> Option<Rc<Stored>> {
        self.stored.get(&(size, joined(pieces))).cloned()
    }

    /// Remembers where content is.
    pub(crate) fn remember(&mut self, size: u64, pieces: &[Sum], stored: Rc<Stored>) {
        if size > PIECE_SIZE
            && let Some(head) = pieces.first()
        {
            self.heads.entry(size).or_default().insert(*head);
        }
        self.stored.insert((size, joined(pieces)), stored);
    }
}

fn joined(pieces: &[Sum]) -> Sum {
    match pieces {
        [only] => *only,
        many => Sha256::digest(many.as_flattened()).into(),
    }
}
