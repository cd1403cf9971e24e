//! Predictions against recorded truth: what ten versions of the real systemd-sysext made of 389
//! hosts with extensions.
//!
//! `testdata/check/recorded.jsonl` holds a host a line (`harness/scenario/mod.rs` says how it is written) and
//! what was seen: whether extensions were merged, none was suitable or the command failed; the
//! names in each hierarchy, lowest layer first; and whose file stood at the paths that were looked
//! at. Recorded with `refresh` (252: `merge`) in a chroot, on Linux 6.18 without device-mapper, so
//! every use of a hash tree fails there. Each host is made here, dressed as each version, and given
//! to `check`, which has to say the same of all of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::scenario::overlay::look;
use crate::harness::scenario::predict::{Predicted, predict};
use crate::harness::scenario::{Content, Node, host, make, text};

/// Hosts and versions together, so that none gets lost.
const OUTCOMES: usize = 3549;

#[test]
fn check_says_what_systemd_did() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/check/recorded.jsonl");
    let recorded = fs::read_to_string(data).unwrap();
    let lines: Vec<&str> = recorded.lines().collect();
    let [next, compared] = [0, 0].map(AtomicUsize::new);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scenario: Value = serde_json::from_str(line).unwrap();
            let mut dir = tempfile::tempdir().unwrap();
            let mut made = make(dir.path(), &scenario);
            for seen in scenario["seen"].as_array().unwrap() {
                for version in seen["by"].as_array().unwrap() {
                    let version = text(version);
                    if !scenario["steps"].is_null() {
                        // Steps change the host.
                        dir = tempfile::tempdir().unwrap();
                        made = make(dir.path(), &scenario);
                    }
                    if let Err(difference) = compare(dir.path(), &made, &scenario, seen, version) {
                        wrong.lock().unwrap().push(difference);
                    }
                    compared.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(work);
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(compared.into_inner(), OUTCOMES);
}

fn compare(
    root: &Path,
    made: &BTreeMap<String, Content>,
    scenario: &Value,
    seen: &Value,
    version: &str,
) -> Result<(), String> {
    let library = dress(root, version);
    let predicted = match scenario["steps"].as_array() {
        None => {
            let args: Vec<&str> = scenario["args"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect();
            run(root, scenario, &args)
        }
        Some(steps) => in_steps(root, scenario, steps),
    };
    fs::remove_file(library).unwrap();
    let differs = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        let id = text(&scenario["id"]);
        Err(format!(
            "{id} on {version}: {what} was {expected:?}, predicted {found:?}"
        ))
    };
    let outcome = text(&seen["outcome"]);
    if predicted.outcome != outcome {
        return differs("outcome", &outcome, &predicted.outcome);
    }
    let mut expected: BTreeMap<String, Vec<String>> =
        serde_json::from_value(seen["merged"].clone()).unwrap();
    let mut merged = predicted.merged.clone();
    let random = scenario["random"] == json!(true);
    if random {
        // Names that compare equal: either may be on top.
        expected.values_mut().for_each(|names| names.sort());
        merged.values_mut().for_each(|names| names.sort());
    }
    if merged != expected {
        return differs("merged", &expected, &merged);
    }
    if random {
        return Ok(());
    }
    for (path, found) in seen["content"].as_object().unwrap() {
        let winner = winner(scenario, made, &predicted, path);
        if found.as_str() == Some("EXECUTABLE") {
            continue;
        }
        if winner.as_deref() != found.as_str() {
            return differs(path, found, &winner);
        }
    }
    Ok(())
}

/// What stands at a path after the merge that was predicted.
fn winner(
    scenario: &Value,
    made: &BTreeMap<String, Content>,
    predicted: &Predicted,
    path: &str,
) -> Option<String> {
    let below = host(scenario);
    let mut path = path.to_owned();
    // A hierarchy of the host may be a link, as /opt can be.
    for (link, node) in &below {
        if let Node::Symlink(target) = node
            && let Some(rest) = path.strip_prefix(&format!("{}/", target.trim_start_matches('/')))
        {
            path = format!("{link}/{rest}");
        }
    }
    let inside =
        |hierarchy: &&String| path.starts_with(&format!("{}/", hierarchy.trim_start_matches('/')));
    let names = predicted
        .merged
        .keys()
        .find(inside)
        .map(|at| &predicted.merged[at]);
    let mut layers = Vec::new();
    for name in names.into_iter().flatten().rev() {
        let place = &predicted.paths[name];
        layers.push(resolved(&made[place].nodes));
    }
    let mut hidden = predicted.base_hidden.iter();
    if !hidden.any(|at| path.starts_with(&format!("{}/", at.trim_start_matches('/')))) {
        layers.push(resolved(&below));
    }
    let layers: Vec<_> = layers.iter().collect();
    look(&layers, &path)
}

/// A layer in which links at the top are what they lead to.
fn resolved(nodes: &BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let mut all = nodes.clone();
    for (link, node) in nodes {
        if let Node::Symlink(target) = node
            && !link.contains('/')
        {
            let from = format!("{}/", target.trim_start_matches('/'));
            all.remove(link);
            for (path, node) in nodes {
                if let Some(rest) = path.strip_prefix(&from) {
                    all.insert(format!("{link}/{rest}"), node.clone());
                }
            }
        }
    }
    all
}

/// Several calls, one after the other: a call that fails before it mounts leaves the last merge.
fn in_steps(root: &Path, scenario: &Value, steps: &[Value]) -> Predicted {
    let mut state = Predicted::default();
    for step in steps {
        match step["sh"].as_str() {
            Some(script) => {
                let at = |path: &str| format!(" {}{path}", root.display());
                let script = script
                    .replace(" /var/", &at("/var/"))
                    .replace(" /srv/", &at("/srv/"));
                let done = Command::new("sh").args(["-c", &script]).status().unwrap();
                assert!(done.success(), "{script}");
            }
            None => {
                let words: Vec<&str> = step.as_array().unwrap().iter().map(text).collect();
                let next = run(root, scenario, &words[1..]);
                if next.outcome != "failed" {
                    state = next;
                }
            }
        }
    }
    state
}

/// Makes the root look like one with this version of systemd and a kernel like that of the recording;
/// returns the file that tells the version.
fn dress(root: &Path, version: &str) -> PathBuf {
    // The point release behind a recording.
    let version = match version {
        "249" => "249.11",
        "252" => "252.39",
        "254" => "254.26",
        "256" => "256.17",
        "257" => "257.13",
        "258" => "258.2",
        "259" => "259.8",
        other => other,
    };
    let put = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let library = format!("usr/lib/systemd/libsystemd-shared-{version}.so");
    put(&library, b"");
    put(
        "boot/config-6.18",
        b"CONFIG_EROFS_FS=y\nCONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_ZLIB=y\nCONFIG_EXT4_FS=y\n\
          CONFIG_OVERLAY_FS=y\nCONFIG_BLK_DEV_LOOP=y\n",
    );
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/rootfs/usr/bin/systemd-sysext"
    );
    put("usr/bin/systemd-sysext", &fs::read(example).unwrap());
    let wants = root.join("etc/systemd/system/sysinit.target.wants");
    fs::create_dir_all(&wants).unwrap();
    let unit = "/usr/lib/systemd/system/systemd-sysext.service";
    let link = wants.join("systemd-sysext.service");
    if fs::symlink_metadata(&link).is_err() {
        symlink(unit, link).unwrap();
    }
    root.join(library)
}

/// What `check` says of the root, with a unit that runs with these arguments.
fn run(root: &Path, scenario: &Value, args: &[&str]) -> Predicted {
    let mut unit = format!(
        "[Service]\nExecStart=systemd-sysext refresh {}\n",
        args.join(" ")
    );
    for (name, value) in scenario["env"].as_object().into_iter().flatten() {
        unit += &format!("Environment={name}={}\n", text(value));
    }
    let path = root.join("usr/lib/systemd/system/systemd-sysext.service");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, unit).unwrap();
    predict(root)
}
