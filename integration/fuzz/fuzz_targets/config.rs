//! Configs: whatever the text, reading and validating, Prism's sections included, end in data or in
//! findings that have a place, and an expansion is proven or refused.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use prism_sysext::config::source::Source;
use prism_sysext::config::validate::validate;
use prism_sysext::config::Config;
use prism_sysext::finding::Place;
use prism_sysext::prism;
use prism_sysext::systemd::drop_in::enable_script;
use prism_sysext::systemd::kind::ExtensionKind;
use prism_sysext::expand::{AdditionalFile, Additions, Enable, expand};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(source) = Source::parse(Path::new("config.yaml"), text.to_owned()) {
        for finding in prism::check(source.root(), None) {
            let Some(Place::Position { line, column }) = finding.place else {
                panic!("{finding} has no place");
            };
            source.path_at(line, column);
        }
        if let Ok(config) = Config::from_source(source) {
            for finding in validate(&config) {
                if let Some(Place::Yaml(path)) = &finding.place {
                    assert!(config.source.locate(path).is_some(), "{path} has no place");
                }
            }
        }
    }
    let (name, content) = enable_script(&[ExtensionKind::Sysext], false);
    let additions = Additions {
        files: vec![AdditionalFile {
            source: Some("a.raw".into()),
            content: None,
            destination: "/var/lib/extensions/a.raw".into(),
            permissions: "644".into(),
        }],
        enable: Enable::Script { name, content },
    };
    if let Ok(expanded) = expand(text, &additions) {
        assert!(expanded.contains("/var/lib/extensions/a.raw"));
    }
});
