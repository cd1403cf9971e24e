//! What `check` says of a root file system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::text;

/// What `check` says.
#[derive(Debug, Default)]
pub(crate) struct Predicted {
    /// `merged`, `idle` (nothing suitable), `failed` or `unknown`.
    pub(crate) outcome: &'static str,
    /// Names by hierarchy, lowest layer first.
    pub(crate) merged: BTreeMap<String, Vec<String>>,
    /// Hierarchies in which the host's own files are gone.
    pub(crate) base_hidden: Vec<String>,
    /// The path of each layer by its name.
    pub(crate) paths: BTreeMap<String, String>,
}

/// Runs `check` on it.
pub(crate) fn predict(root: &Path) -> Predicted {
    let output = Command::new(env!("CARGO_BIN_EXE_prism-sysext"))
        .args([
            "check",
            "--output",
            "json",
            "--config-file",
            "/nonexistent",
            "--rootfs",
        ])
        .arg(root)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    let mut predicted = Predicted::default();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if said.get("extensions").is_none() {
        // The host itself is refused: systemd merges nothing on it.
        assert!(stderr.contains("base-"), "{stderr}");
        predicted.outcome = "failed";
        return predicted;
    }
    predicted.outcome = match said["stack"]["merged"].as_bool() {
        None => "unknown",
        Some(false) => "failed",
        Some(true) => "idle",
    };
    if predicted.outcome != "idle" {
        return predicted;
    }
    for hierarchy in said["stack"]["hierarchies"].as_array().unwrap() {
        let layers = serde_json::from_value(said["stack"]["layers"].clone()).unwrap();
        predicted
            .merged
            .insert(text(&hierarchy["path"]).to_owned(), layers);
        predicted.outcome = "merged";
        if hierarchy["baseHidden"] == json!(true) {
            predicted
                .base_hidden
                .push(text(&hierarchy["path"]).to_owned());
        }
    }
    for extension in said["extensions"].as_array().unwrap() {
        if text(&extension["verdict"]).starts_with("merges") {
            let path = text(&extension["path"]).to_owned();
            let path = match fs::read_link(root.join(path.trim_start_matches('/'))) {
                Ok(target) => target.to_string_lossy().into_owned(),
                Err(_) => path,
            };
            predicted
                .paths
                .insert(text(&extension["name"]).to_owned(), path);
        }
    }
    predicted
}
