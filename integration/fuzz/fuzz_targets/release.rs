//! Release files never panic, and what can be written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_sysext::systemd::release_file::ReleaseFields;

fuzz_target!(|data: &[u8]| {
    if let Ok(fields) = ReleaseFields::parse(data)
        && let Ok(text) = fields.to_text()
    {
        assert_eq!(ReleaseFields::parse(text.as_bytes()), Ok(fields));
    }
});
