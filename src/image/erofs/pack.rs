//! Packing inodes and what follows them into blocks.
//!
//! An inode with the end of its file lies in one block, because the kernel reads the end from
//! there (fs/erofs/data.c). In the order of the paths every block would lose what the next one is
//! too long for, a fifth of a tree of small files. So inodes are packed a region at a time, the
//! longest first, each where it leaves the least room; the regions stay in the order of the paths
//! and are short enough to be kept in memory until they are full.

use std::collections::BTreeSet;

use super::format::{BLOCK_SIZE, SLOT_SIZE};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Bytes of inodes in a region; only one that is longer by itself has more.
const REGION: u64 = 1 << 20;
/// Bytes of an inode that must not cross into another block; what follows it may.
const LONGEST_INODE: u64 = 64;

/// Takes lengths in the order of the paths and gives offsets in the image.
#[derive(Debug)]
pub(crate) struct Packer {
    /// Where the region that is being gathered begins, at a block.
    start: u64,
    /// Number and length in bytes of what is in it.
    items: Vec<(usize, u64)>,
    /// The sum of these lengths.
    length: u64,
    /// Where all regions began.
    regions: Vec<u64>,
}

/// Numbers and the offsets that they got.
pub(crate) type Offsets = Vec<(usize, u64)>;

impl Packer {
    /// Begins at a block.
    pub(crate) fn starting_at(start: u64) -> Packer {
        Packer {
            start,
            items: Vec::new(),
            length: 0,
            regions: Vec::new(),
        }
    }

    /// Takes what is `length` bytes long; returns the offsets of a region that is full.
    pub(crate) fn push(&mut self, number: usize, length: u64) -> Offsets {
        let length = length.next_multiple_of(SLOT_SIZE as u64);
        let full = match self.length.saturating_add(length) > REGION {
            true => self.close(),
            false => Vec::new(),
        };
        self.length = self.length.saturating_add(length);
        self.items.push((number, length));
        full
    }

    /// The offsets of the last region, where the regions begin and the end of the last.
    pub(crate) fn finish(mut self) -> (Offsets, Vec<u64>, u64) {
        let offsets = self.close();
        (offsets, self.regions, self.start)
    }

    /// Places all of a region: what is longer than a block in front, one after the other. The very
    /// first item stays at the very beginning: the root directory, whose number has only 16 bits.
    fn close(&mut self) -> Offsets {
        if self.items.is_empty() {
            return Vec::new();
        }
        let items = std::mem::take(&mut self.items);
        self.length = 0;
        let is_first = self.regions.is_empty();
        self.regions.push(self.start);
        let (front, mut rest): (Vec<_>, Vec<_>) = items
            .into_iter()
            .enumerate()
            .partition(|(index, (_, length))| (is_first && *index == 0) || *length > BLOCK);
        rest.sort_by_key(|(_, (_, length))| std::cmp::Reverse(*length));

        // Free room at the end of a block and where it begins.
        let mut free: BTreeSet<(u64, u64)> = BTreeSet::new();
        let mut offsets = Vec::with_capacity(front.len() + rest.len());
        for (_, (number, length)) in front {
            let left = self.start.next_multiple_of(BLOCK) - self.start;
            if left < LONGEST_INODE {
                free.insert((left, self.start));
                self.start += left;
            }
            offsets.push((number, self.start));
            self.start = self.start.saturating_add(length);
        }
        let left = self.start.next_multiple_of(BLOCK) - self.start;
        free.insert((left, self.start));
        self.start = self.start.next_multiple_of(BLOCK);
        for (_, (number, length)) in rest {
            let found = free.range((length, 0)..).next().copied();
            let (room, offset) = match found {
                Some(found) => {
                    free.remove(&found);
                    found
                }
                None => {
                    let offset = self.start;
                    self.start = self.start.saturating_add(BLOCK);
                    (BLOCK, offset)
                }
            };
            free.insert((room - length, offset + length));
            offsets.push((number, offset));
        }
        offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(lengths: &[u64]) -> (Vec<u64>, Vec<u64>, u64) {
        let mut packer = Packer::starting_at(BLOCK);
        let mut all = vec![0; lengths.len()];
        let mut place = |offsets: Offsets| {
            for (number, offset) in offsets {
                all[number] = offset;
            }
        };
        for (number, length) in lengths.iter().enumerate() {
            place(packer.push(number, *length));
        }
        let (offsets, regions, end) = packer.finish();
        place(offsets);
        (all, regions, end)
    }

    #[test]
    fn the_longest_go_first_and_the_first_stays() {
        let (offsets, regions, end) = pack(&[32, 100, 4064, 3000, 4096, 900]);
        assert_eq!(offsets, [4096, 16_224, 4128, 12_288, 8192, 15_296]);
        assert_eq!((regions, end), (vec![4096], 16_384));
    }

    #[test]
    fn nothing_overlaps_or_crosses_and_little_is_lost() {
        let mut state = 7_u64;
        let lengths: Vec<u64> = (0..5000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                match state >> 60 {
                    0 => 4097 + (state >> 50) % 9000,
                    _ => 32 + (state >> 33) % 4065,
                }
            })
            .collect();
        let (offsets, regions, end) = pack(&lengths);
        let mut spans: Vec<(u64, u64)> = offsets
            .iter()
            .zip(&lengths)
            .map(|(offset, length)| (*offset, offset + length))
            .collect();
        for (start, stop) in &spans {
            assert_eq!(start % SLOT_SIZE as u64, 0);
            let whole = (stop - start).min(LONGEST_INODE);
            let whole = if stop - start > BLOCK {
                whole
            } else {
                stop - start
            };
            assert_eq!(start / BLOCK, (start + whole - 1) / BLOCK);
        }
        // Later regions hold what came later.
        for (number, offset) in offsets.iter().enumerate() {
            let region = regions.partition_point(|start| start <= offset);
            let later = regions.get(region).copied().unwrap_or(end);
            assert!(offset + lengths[number] <= later);
        }
        assert!(regions.len() > 5 && regions.is_sorted());
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        let sum: u64 = lengths.iter().sum();
        assert!(end - BLOCK < sum + sum / 25, "{end} for {sum}");
    }

    #[test]
    fn what_is_longer_than_a_region_has_its_own() {
        let (offsets, regions, end) = pack(&[32, 3 << 20, 64]);
        assert_eq!(regions, [4096, 8192, 8192 + (3 << 20)]);
        assert_eq!(offsets, regions);
        assert_eq!(end, 8192 + (3 << 20) + 4096);
    }
}
