//! What a caller may demand of a prediction.

use std::path::Path;

use crate::check::{Judgement, Prediction, Stack, Verdict};
use crate::finding::Finding;
use crate::io::open;
use crate::systemd::kind::ExtensionKind;

/// Longest saved status that is read, in bytes.
const MAX_STATUS_BYTES: u64 = 1 << 20;

/// Listed extensions that are merged with less protection than is asked for.
pub fn too_weak(prediction: &Prediction, enough: Verdict) -> Vec<Finding> {
    let listed = prediction
        .extensions
        .iter()
        .filter(|judgement| judgement.listed);
    let weak = listed.filter(|judgement| judgement.verdict.merges() && judgement.verdict > enough);
    let finding = |judgement: &Judgement| {
        let (name, word) = (&judgement.name, judgement.verdict.word());
        let message = format!("`{name}` is only {word}, `{}` is required", enough.word());
        Finding::error("protection-required", message)
            .in_file(&judgement.path)
            .help("sign it with `verity: signed` by a key whose certificate the base trusts")
    };
    weak.map(finding).collect()
}

/// Where a booted system differs from what was predicted; the file holds what
/// `systemd-sysext status --json=short` said there.
///
/// # Errors
/// `status-unreadable`.
pub fn differs_from_status(prediction: &Prediction, path: &Path) -> Result<Vec<Finding>, Finding> {
    let refused = |message: String| {
        let finding = Finding::error("status-unreadable", message).in_file(path);
        finding.help("save the output of `systemd-sysext status --json=short`")
    };
    let bytes = open::read(path, MAX_STATUS_BYTES)
        .map_err(|error| refused(format!("reading the status: {error}")))?;
    let status: Vec<StatusLine> = serde_json::from_slice(&bytes)
        .map_err(|error| refused(format!("reading the status: {error}")))?;
    let mut findings = Vec::new();
    for line in status {
        let mut seen = match line.extensions {
            StatusNames::Some(names) => names,
            StatusNames::None(_) => Vec::new(),
        };
        let merged = |(_, stack): &(ExtensionKind, &Stack)| {
            let mut hierarchies = stack.hierarchies.iter();
            let here = hierarchies.any(|it| it.path == line.hierarchy);
            here && stack.merged != Some(false)
        };
        let mut expected = match prediction.stacks().find(merged) {
            Some((_, stack)) => stack.layers.clone(),
            None => Vec::new(),
        };
        seen.sort();
        expected.sort();
        if seen != expected {
            let text = |names: &[String]| match names {
                [] => "nothing".to_owned(),
                names => names.join(", "),
            };
            let message = format!(
                "{}: {} is merged, predicted was {}",
                line.hierarchy,
                text(&seen),
                text(&expected)
            );
            let finding = Finding::error("status-differs", message).in_file(path);
            findings.push(finding.help("compare the base and the images with those of that system; if they are the same, this is a bug of prism-sysext"));
        }
    }
    Ok(findings)
}

/// A line of `systemd-sysext status --json`.
#[derive(serde::Deserialize)]
struct StatusLine {
    hierarchy: String,
    extensions: StatusNames,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum StatusNames {
    Some(Vec<String>),
    /// `none`
    None(#[allow(dead_code, reason = "only its type counts")] String),
}
