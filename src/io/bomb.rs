//! How far packed bytes may unpack: a few kilobytes can stand for any number of zeros.

/// Most bytes that come out for each one that goes in: more is a bomb.
const MAX_RATIO: u64 = 2000;
/// What may always come out, however little goes in.
const MIN_ALLOWANCE: u64 = 256 << 20;

/// The most that so many packed bytes may unpack to.
pub(crate) fn allowance(packed: u64) -> u64 {
    packed.saturating_mul(MAX_RATIO).max(MIN_ALLOWANCE)
}
