//! Verity superblocks never panic, and an accepted one is written back as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_sysext::image::verity::superblock::Superblock;

fuzz_target!(|data: &[u8]| {
    if let Ok(superblock) = Superblock::parse(data) {
        let again = Superblock::parse(&superblock.to_bytes());
        assert_eq!(again.as_ref(), Ok(&superblock));
    }
});
