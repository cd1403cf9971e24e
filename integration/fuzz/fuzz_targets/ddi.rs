//! Whole images never panic, hang or take more memory than the fuzzer allows.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use prism_sysext::image::dissect;
use prism_sysext::io::progress::Progress;
use prism_sysext::inspect::verify::verify_ddi;

// libFuzzer aborts on every panic, also on those that our reader catches; without its hook
// only a panic that reaches it counts.
fuzz_target!(init: drop(std::panic::take_hook()), |data: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else {
        return;
    };
    if file.write_all(data).is_err() {
        return;
    }
    let Ok(ddi) = dissect::open(file.path()) else {
        return;
    };
    let _ = verify_ddi(&ddi, &[], &Progress::new());
    if let Ok(fs) = ddi.file_system() {
        for (path, _) in fs.walk(10_000).unwrap_or_default() {
            let _ = fs.read(&path, 1 << 20);
            let _ = fs.xattr(&path, "user.x");
        }
    }
});
