//! mkosi's files never panic; what is read has a place and is not made up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prism_sysext::mkosi::ini;

fuzz_target!(|text: &str| {
    let lines = text.lines().count();
    match ini::parse(text) {
        Ok(ini) => {
            for setting in &ini.settings {
                assert!((1..=lines).contains(&setting.line));
                assert!(!setting.section.is_empty() && !setting.name.is_empty());
                let pieces = setting.value.lines();
                assert!(pieces.clone().all(|piece| text.contains(piece)));
                assert!(!setting.value.contains('#'));
            }
        }
        Err(error) => assert!((1..=lines).contains(&error.line)),
    }
});
