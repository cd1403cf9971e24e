//! Tar archives and layers of container images, with their pax records, never panic. The first
//! byte decides whether whiteouts count.
#![no_main]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use prism_sysext::tree::pick::Pick;
use prism_sysext::tree::tar_read::Layers;

fuzz_target!(|data: &[u8]| {
    let Some((first, archive)) = data.split_first() else {
        return;
    };
    let Ok(mut file) = tempfile::tempfile() else {
        return;
    };
    if file.write_all(archive).is_err() {
        return;
    }
    let window = (0, archive.len() as u64);
    let mut layers = Layers::default();
    let path = Path::new("layer.tar");
    let (file, pick) = (Arc::new(file), Pick::default());
    // Twice, so that the second meets what the first left.
    for _ in 0..2 {
        if layers.add(&file, window, path, &pick, first & 1 == 1).is_err() {
            return;
        }
    }
    let _ = layers.finish();
});
