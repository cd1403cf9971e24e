//! What `inspect --list`, `--mtree` and `diff` do with a bare file system: no panic, no end without
//! an end.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use prism_sysext::image::dissect;
use prism_sysext::inspect::{diff, inspect, list, mtree};

// libFuzzer aborts on every panic, also on those that our reader catches; without its hook
// only a panic that reaches it counts.
fuzz_target!(init: drop(std::panic::take_hook()), |data: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else {
        return;
    };
    if file.write_all(data).is_err() {
        return;
    }
    let Ok(image) = dissect::open_compressed(file.path()) else {
        return;
    };
    if let Ok(fs) = image.file_system()
        && let Ok(entries) = list(&fs)
    {
        let _ = mtree(&fs, &entries, &mut std::io::sink());
    }
    let _ = diff(&image, &image);
    let _ = inspect(image);
});
