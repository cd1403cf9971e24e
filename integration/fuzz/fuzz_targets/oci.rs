//! An OCI layout as an archive never panics.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use prism_sysext::tree::oci;
use prism_sysext::tree::pick::Pick;

fuzz_target!(|data: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else {
        return;
    };
    if file.write_all(data).is_ok() {
        let _ = oci::read(file.path(), None, &Pick::default());
    }
});
