//! Signature partitions and the envelopes in them never panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_sysext::image::signature::{SignaturePartition, check};

fuzz_target!(|data: &[u8]| {
    let _ = check(data, &"0".repeat(64), &[]);
    if let Ok(Some(partition)) = SignaturePartition::parse(data) {
        let _ = check(&partition.signature, &"0".repeat(64), &[]);
        if let Ok(bytes) = partition.to_bytes() {
            assert_eq!(
                SignaturePartition::parse(&bytes).ok(),
                Some(Some(partition))
            );
        }
    }
});
