//! Compressed images never panic, and unpack to no more than is allowed.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use prism_sysext::image::compressed::{Codec, decompressed};

fuzz_target!(|data: &[u8]| {
    let Ok(mut file) = tempfile::tempfile() else {
        return;
    };
    if file.write_all(data).is_err() {
        return;
    }
    if let Some(codec) = Codec::of(&file) {
        let _ = decompressed(&file, codec);
    }
});
