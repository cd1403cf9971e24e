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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::check::Hierarchy;

    fn judgement(name: &str, listed: bool, verdict: Verdict) -> Judgement {
        Judgement {
            kind: ExtensionKind::Sysext,
            name: name.to_owned(),
            path: format!("/var/lib/extensions/{name}.raw"),
            listed,
            verdict,
            reasons: Vec::new(),
            filled: Default::default(),
        }
    }

    fn stack(merged: Option<bool>, layers: &[&str], hierarchies: &[&str]) -> Stack {
        let layers: Vec<String> = layers.iter().map(|name| (*name).to_owned()).collect();
        let hierarchy = |path: &&str| Hierarchy {
            path: (*path).to_owned(),
            layers: layers.clone(),
            base_hidden: false,
        };
        Stack {
            merged,
            hierarchies: hierarchies.iter().map(hierarchy).collect(),
            layers,
            reasons: Vec::new(),
        }
    }

    fn prediction(extensions: Vec<Judgement>, stack: Stack) -> Prediction {
        Prediction {
            extensions,
            stack,
            confext_stack: None,
        }
    }

    #[test]
    fn only_what_is_listed_and_merged_can_be_too_weak() {
        use Verdict::{BlocksAll, Ignored, MergesSigned, MergesUnprotected, MergesVerity, Unknown};
        // For `enough` the names of those that are told.
        for (enough, expected) in [
            (MergesSigned, vec!["verity", "unprotected"]),
            (MergesVerity, vec!["unprotected"]),
            (MergesUnprotected, vec![]),
        ] {
            let extensions = vec![
                judgement("signed", true, MergesSigned),
                judgement("verity", true, MergesVerity),
                judgement("unprotected", true, MergesUnprotected),
                judgement("other", false, MergesUnprotected),
                judgement("unknown", true, Unknown),
                judgement("ignored", true, Ignored),
                judgement("blocks", true, BlocksAll),
            ];
            let found = too_weak(&prediction(extensions, stack(None, &[], &[])), enough);
            assert!(found.iter().all(|it| it.id == "protection-required"));
            let told = |name: &&str| {
                let start = format!("`{name}` is only ");
                found.iter().any(|it| it.message.starts_with(&start))
            };
            assert!(expected.iter().all(told), "{found:?}");
            assert_eq!(found.len(), expected.len());
        }
    }

    #[test]
    fn a_booted_system_is_compared_by_hierarchy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let both = ["a", "b"].as_slice();
        let (usr, opt) = ("/usr", "/opt");
        let line = |hierarchy: &str, names: &str| {
            format!(r#"{{"hierarchy":"{hierarchy}","extensions":{names},"since":null}}"#)
        };
        for (merged, layers, status, differs) in [
            (Some(true), both, vec![line(usr, r#"["a","b"]"#)], false),
            (Some(true), both, vec![line(usr, r#"["b","a"]"#)], false),
            (None, both, vec![line(usr, r#"["a","b"]"#)], false),
            (Some(true), both, vec![line(usr, r#"["a"]"#)], true),
            (Some(true), both, vec![line(usr, "\"none\"")], true),
            (Some(false), both, vec![line(usr, "\"none\"")], false),
            (Some(false), both, vec![line(usr, r#"["a"]"#)], true),
            (Some(true), &[], vec![line(usr, "\"none\"")], false),
            // Nothing was predicted for /opt.
            (
                Some(true),
                both,
                vec![line(usr, r#"["a","b"]"#), line(opt, "\"none\"")],
                false,
            ),
            (Some(true), both, vec![line(opt, r#"["a"]"#)], true),
            (Some(true), both, vec![], false),
        ] {
            fs::write(&path, format!("[{}]", status.join(","))).unwrap();
            let prediction = prediction(Vec::new(), stack(merged, layers, &[usr]));
            let found = differs_from_status(&prediction, &path).unwrap();
            let ids: Vec<&str> = found.iter().map(|finding| finding.id).collect();
            let expected = vec!["status-differs"; usize::from(differs)];
            assert_eq!(ids, expected, "{merged:?} {layers:?} {status:?}");
        }
    }

    #[test]
    fn both_classes_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        fs::write(&path, r#"[{"hierarchy":"/etc","extensions":["c"]}]"#).unwrap();
        let mut found = prediction(Vec::new(), stack(Some(true), &["a"], &["/usr"]));
        assert_eq!(differs_from_status(&found, &path).unwrap().len(), 1);
        found.confext_stack = Some(stack(Some(true), &["c"], &["/etc"]));
        assert!(differs_from_status(&found, &path).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_status_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let prediction = prediction(Vec::new(), stack(None, &[], &[]));
        let refused = |path: &Path| differs_from_status(&prediction, path).unwrap_err().id;
        assert_eq!(refused(&path), "status-unreadable");
        for text in ["", "{}", "[{}]", r#"[{"hierarchy":"/usr","extensions":1}]"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(refused(&path), "status-unreadable", "{text}");
        }
        fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
        assert_eq!(refused(&path), "status-unreadable");
    }
}
