//! Digests of blocks, two at a time where the processor can.
//!
//! One SHA-256 waits for itself: the instruction that does two rounds takes
//! about twice as long to finish as to start. Two digests that know nothing of
//! each other fill the gaps. Which way is taken does not show in the digests.
#![allow(unsafe_code)]

use sha2::{Digest, Sha256};

use super::leaves::BLOCK_SIZE;

/// Bytes of a digest.
pub(crate) const DIGEST_SIZE: usize = 32;

type Block = [u8; BLOCK_SIZE];

/// Digests blocks with a salt before each, as dm-verity's format version 1 wants it.
#[derive(Debug, Clone)]
pub(crate) struct BlockHasher {
    salted: Sha256,
    salt: [u8; 32],
    pairs: bool,
}

impl BlockHasher {
    /// A hasher for a salt of 32 bytes.
    pub(crate) fn new(salt: [u8; 32]) -> BlockHasher {
        BlockHasher {
            salted: Sha256::new_with_prefix(salt),
            salt,
            pairs: has_pairs(),
        }
    }

    /// The salt.
    pub(crate) fn salt(&self) -> [u8; 32] {
        self.salt
    }

    /// Appends the digest of each whole block.
    pub(crate) fn append(&self, blocks: &[u8], to: &mut Vec<u8>) {
        let (blocks, _) = blocks.as_chunks::<BLOCK_SIZE>();
        let (pairs, last) = blocks.as_chunks::<2>();
        for pair in pairs {
            match self.pair(pair) {
                Some(digests) => to.extend(digests.as_flattened()),
                None => pair.iter().for_each(|block| self.one(block, to)),
            }
        }
        last.iter().for_each(|block| self.one(block, to));
    }

    fn one(&self, block: &Block, to: &mut Vec<u8>) {
        to.extend(self.salted.clone().chain_update(block).finalize());
    }

    #[cfg(target_arch = "x86_64")]
    fn pair(&self, blocks: &[Block; 2]) -> Option<[[u8; DIGEST_SIZE]; 2]> {
        // SAFETY: `pairs` says that the processor has every instruction set that the function is
        // compiled for.
        self.pairs.then(|| unsafe { x86::pair(&self.salt, blocks) })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn pair(&self, _: &[Block; 2]) -> Option<[[u8; DIGEST_SIZE]; 2]> {
        debug_assert!(!self.pairs);
        None
    }
}

#[cfg(target_arch = "x86_64")]
fn has_pairs() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("ssse3")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_pairs() -> bool {
    false
}

/// FIPS 180-4 by Intel's SHA extensions (Software Developer's Manual, volume 2, SHA256RNDS2).
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi64, _mm_set_epi8, _mm_set_epi32,
        _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
        _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::{Block, DIGEST_SIZE};

    /// Bytes that one round of the compression takes in.
    const CHUNK: usize = 64;

    #[rustfmt::skip]
    const K: [[i32; 4]; 16] = {
        const fn four(a: u32, b: u32, c: u32, d: u32) -> [i32; 4] {
            [a.cast_signed(), b.cast_signed(), c.cast_signed(), d.cast_signed()]
        }
        [
            four(0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5),
            four(0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5),
            four(0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3),
            four(0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174),
            four(0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc),
            four(0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da),
            four(0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7),
            four(0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967),
            four(0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13),
            four(0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85),
            four(0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3),
            four(0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070),
            four(0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5),
            four(0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3),
            four(0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208),
            four(0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2),
        ]
    };

    /// Two digests of salt and block.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn pair(salt: &[u8; 32], blocks: &[Block; 2]) -> [[u8; DIGEST_SIZE]; 2] {
        let mut lanes = [Lane::new(), Lane::new()];
        let [a, b] = blocks;
        let (head_a, rest_a) = a.split_first_chunk::<32>().unwrap_or((salt, a));
        let (head_b, rest_b) = b.split_first_chunk::<32>().unwrap_or((salt, b));
        compress(&mut lanes, &join(salt, head_a), &join(salt, head_b));
        let (chunks_a, tail_a) = rest_a.as_chunks::<CHUNK>();
        let (chunks_b, tail_b) = rest_b.as_chunks::<CHUNK>();
        for (a, b) in chunks_a.iter().zip(chunks_b) {
            compress(&mut lanes, a, b);
        }
        // The end of the message: a bit, zeros, and the length in bits.
        let mut end = [0; 32];
        end[0] = 0x80;
        let bits = 8 * (salt.len() + super::BLOCK_SIZE) as u64;
        end[24..].copy_from_slice(&bits.to_be_bytes());
        let last = |tail: &[u8]| join(tail.first_chunk().unwrap_or(&end), &end);
        compress(&mut lanes, &last(tail_a), &last(tail_b));
        let [a, b] = lanes;
        [a.digest(), b.digest()]
    }

    fn join(first: &[u8; 32], second: &[u8; 32]) -> [u8; CHUNK] {
        let mut chunk = [0; CHUNK];
        let (left, right) = chunk.split_at_mut(32);
        left.copy_from_slice(first);
        right.copy_from_slice(second);
        chunk
    }

    /// The state of one digest in the order of the instructions.
    #[derive(Clone, Copy)]
    struct Lane {
        abef: __m128i,
        cdgh: __m128i,
    }

    impl Lane {
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn new() -> Lane {
            let word = |word: u32| word.cast_signed();
            Lane {
                abef: _mm_set_epi32(
                    word(0x6a09e667),
                    word(0xbb67ae85),
                    word(0x510e527f),
                    word(0x9b05688c),
                ),
                cdgh: _mm_set_epi32(
                    word(0x3c6ef372),
                    word(0xa54ff53a),
                    word(0x1f83d9ab),
                    word(0x5be0cd19),
                ),
            }
        }

        /// Four rounds.
        #[inline]
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn rounds(&mut self, words: __m128i, k: __m128i) {
            let sum = _mm_add_epi32(words, k);
            self.cdgh = _mm_sha256rnds2_epu32(self.cdgh, self.abef, sum);
            let upper = _mm_shuffle_epi32::<0x0e>(sum);
            self.abef = _mm_sha256rnds2_epu32(self.abef, self.cdgh, upper);
        }

        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn digest(self) -> [u8; DIGEST_SIZE] {
            let halves = |register: __m128i| {
                let (low, high) = (
                    _mm_extract_epi64::<0>(register).cast_unsigned(),
                    _mm_extract_epi64::<1>(register).cast_unsigned(),
                );
                // A pair of words in a half, the first one above.
                [high.to_be_bytes(), low.to_be_bytes()]
            };
            let [ab, ef] = halves(self.abef);
            let [cd, gh] = halves(self.cdgh);
            let mut digest = [0; DIGEST_SIZE];
            for (eight, bytes) in digest.chunks_exact_mut(8).zip([ab, cd, ef, gh]) {
                eight.copy_from_slice(&bytes);
            }
            digest
        }
    }

    /// Four words of the message.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let half = |at: usize| {
            let eight = bytes.get(at..).and_then(|rest| rest.first_chunk());
            i64::from_le_bytes(*eight.unwrap_or(&[0; 8]))
        };
        let swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        _mm_shuffle_epi8(_mm_set_epi64x(half(8), half(0)), swap)
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn load_chunk(chunk: &[u8; CHUNK]) -> [__m128i; 4] {
        let (words, _) = chunk.as_chunks::<16>();
        match words {
            [a, b, c, d] => [load(a), load(b), load(c), load(d)],
            _ => [_mm_set_epi32(0, 0, 0, 0); 4],
        }
    }

    /// The four words of the schedule that follow sixteen others.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn next(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8::<4>(d, c));
        _mm_sha256msg2_epu32(sum, d)
    }

    /// Takes one chunk into each state.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn compress(lanes: &mut [Lane; 2], a: &[u8; CHUNK], b: &[u8; CHUNK]) {
        let before = *lanes;
        let [first, second] = lanes;
        let [mut a0, mut a1, mut a2, mut a3] = load_chunk(a);
        let [mut b0, mut b1, mut b2, mut b3] = load_chunk(b);
        for [w, x, y, z] in K {
            let k = _mm_set_epi32(z, y, x, w);
            first.rounds(a0, k);
            second.rounds(b0, k);
            // The last four of these are not used, and cost nothing beside the rounds.
            (a0, a1, a2, a3) = (a1, a2, a3, next(a0, a1, a2, a3));
            (b0, b1, b2, b3) = (b1, b2, b3, next(b0, b1, b2, b3));
        }
        for (lane, before) in lanes.iter_mut().zip(before) {
            lane.abef = _mm_add_epi32(lane.abef, before.abef);
            lane.cdgh = _mm_add_epi32(lane.cdgh, before.cdgh);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the processor has no pairs both ways are the same, and this says so.
    #[test]
    fn pairs_agree_with_the_library() {
        let mut state = 7_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(33 * BLOCK_SIZE)
        .collect();
        let salt = std::array::from_fn(|i| bytes[i]);
        let hasher = BlockHasher::new(salt);
        let library = BlockHasher {
            pairs: false,
            ..hasher.clone()
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        hasher.append(&bytes, &mut ours);
        library.append(&bytes, &mut theirs);
        assert_eq!(ours.len(), 33 * DIGEST_SIZE);
        assert!(ours == theirs, "pairs: {}", hasher.pairs);
        let expected = Sha256::new_with_prefix(salt).chain_update(&bytes[..BLOCK_SIZE]);
        assert_eq!(ours[..DIGEST_SIZE], *expected.finalize());
    }
}
