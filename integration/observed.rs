//! Predictions against recorded truth: what real systemd versions did with disk images.
//!
//! `testdata/check/observed.jsonl` holds one host with extensions per line and, per version of
//! systemd, the names that it merged into `/usr` (recorded with `refresh` or `merge` in a chroot,
//! Linux 6.18 without device-mapper). Every one is built here, put on a root file system that looks
//! like that version, and given to `check`. What `check` decides has to be what happened; it may
//! leave a case undecided, but only as many as are counted below.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use prism_sysext::arch::Arch;
use prism_sysext::assemble::{FileSystem, Ids, Recipe, Verity, assemble};
use prism_sysext::image::erofs::write::{Params, Sink, Spare, write};
use prism_sysext::progress::Progress;
use prism_sysext::tree::{Inode, Kind, Source, Tree};
use serde_json::Value;

/// Decided and undecided cases over all versions; a change in the rules has to say so here.
const DECIDED: usize = 656;
const UNDECIDED: usize = 1;

#[test]
fn check_decides_what_systemd_did() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/check/observed.jsonl");
    let (mut decided, mut undecided, mut wrong) = (0, 0, Vec::new());
    for line in fs::read_to_string(data).unwrap().lines() {
        let scenario: Value = serde_json::from_str(line).unwrap();
        let root = tempfile::tempdir().unwrap();
        host(root.path(), &scenario);
        for (version, merged) in scenario["merged"].as_object().unwrap() {
            let version = recorded_with(version);
            let library = root
                .path()
                .join(format!("usr/lib/systemd/libsystemd-shared-{version}.so"));
            fs::write(&library, "").unwrap();
            let expected: BTreeSet<String> = merged
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect();
            match check(root.path()) {
                None => undecided += 1,
                Some(predicted) if predicted == expected => decided += 1,
                Some(predicted) => wrong.push(format!(
                    "{} on {version} ({}): merged {expected:?}, predicted {predicted:?}",
                    scenario["id"], scenario["note"]
                )),
            }
            fs::remove_file(library).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!((decided, undecided), (DECIDED, UNDECIDED));
}

/// The point release behind a recording.
fn recorded_with(version: &str) -> &str {
    match version {
        "252" => "252.39",
        "254" => "254.26",
        "256" => "256.17",
        "257" => "257.13",
        "258" => "258.2",
        "259" => "259.8",
        other => other,
    }
}

/// What is merged according to `check`; none if it does not decide.
fn check(root: &Path) -> Option<BTreeSet<String>> {
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
    if output.stdout.is_empty() {
        // The host itself is refused: systemd merges nothing on it.
        assert!(stderr.contains("base-os-release"), "{stderr}");
        return Some(BTreeSet::new());
    }
    let prediction: Value = serde_json::from_slice(&output.stdout).unwrap();
    match prediction["stack"]["merged"].as_bool() {
        None => None,
        Some(false) => Some(BTreeSet::new()),
        Some(true) => {
            let layers = prediction["stack"]["layers"].as_array().unwrap();
            Some(
                layers
                    .iter()
                    .map(|name| name.as_str().unwrap().to_owned())
                    .collect(),
            )
        }
    }
}

/// A root file system with the scenario's files and images, the unit enabled, and a kernel that has
/// all that is needed.
fn host(root: &Path, scenario: &Value) {
    let put = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(
        "usr/lib/systemd/system/systemd-sysext.service",
        b"[Service]\nExecStart=systemd-sysext refresh\n",
    );
    put(
        "boot/config-6.18",
        b"CONFIG_EROFS_FS=y\nCONFIG_OVERLAY_FS=y\nCONFIG_BLK_DEV_LOOP=y\n",
    );
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/rootfs/usr/bin/systemd-sysext"
    );
    put("usr/bin/systemd-sysext", &fs::read(example).unwrap());
    put("etc/systemd/system/sysinit.target.wants/.keep", b"");
    let wants = root.join("etc/systemd/system/sysinit.target.wants/systemd-sysext.service");
    symlink("/usr/lib/systemd/system/systemd-sysext.service", wants).unwrap();
    for (path, content) in scenario["host"].as_object().unwrap() {
        put(path, content.as_str().unwrap().as_bytes());
    }
    for entry in scenario["entries"].as_array().unwrap() {
        let folder = match entry["dir"].as_str().unwrap() {
            "etc" => "etc/extensions",
            "run" => "run/extensions",
            "var" => "var/lib/extensions",
            other => panic!("folder {other}"),
        };
        fs::create_dir_all(root.join(folder)).unwrap();
        image(
            &root.join(folder).join(entry["name"].as_str().unwrap()),
            entry,
        );
    }
}

fn image(path: &Path, entry: &Value) {
    match entry["kind"].as_str().unwrap() {
        "garbage" => fs::write(path, b"garbage ".repeat(9000)).unwrap(),
        "zeros" => fs::write(path, vec![0; 1 << 20]).unwrap(),
        "empty-file" => fs::write(path, b"").unwrap(),
        "raw-naked-erofs" => naked(path, &tree(entry)),
        "raw-gpt-erofs" => partitioned(path, &tree(entry), Verity::None),
        "raw-gpt-hash" => partitioned(path, &tree(entry), Verity::Hash),
        other => panic!("kind {other}"),
    }
}

fn tree(entry: &Value) -> Tree {
    let mut tree = Tree::new();
    for (path, node) in entry["files"].as_object().unwrap() {
        if let Some(text) = node.as_str() {
            file(&mut tree, path, text);
        } else if let Some(target) = node["symlink"].as_str() {
            tree.insert_symlink(path.as_bytes(), target.as_bytes())
                .unwrap();
        } else {
            let id = tree.make_dirs(path.as_bytes()).unwrap();
            if let Some(mode) = node["mode"].as_u64() {
                tree.get_mut(id).unwrap().mode = u16::try_from(mode).unwrap();
            }
        }
    }
    for release in entry["release"].as_array().into_iter().flatten() {
        let name = release["name"].as_str().unwrap();
        let path = format!("usr/lib/extension-release.d/extension-release.{name}");
        if let Some(target) = release["symlink"].as_str() {
            tree.insert_symlink(path.as_bytes(), target.as_bytes())
                .unwrap();
        } else if release["dir"].is_null() {
            let inode = file(&mut tree, &path, release["text"].as_str().unwrap());
            if let Some(strict) = release["xattr"].as_str() {
                inode
                    .xattrs
                    .insert(b"user.extension-release.strict".to_vec(), strict.into());
            }
        } else {
            tree.make_dirs(path.as_bytes()).unwrap();
        }
    }
    tree
}

fn file<'a>(tree: &'a mut Tree, path: &str, text: &str) -> &'a mut Inode {
    let kind = Kind::File {
        size: text.len() as u64,
        source: Source::Bytes(text.into()),
    };
    let id = tree
        .insert(path.as_bytes(), Inode::new(0o644, kind))
        .unwrap();
    tree.get_mut(id).unwrap()
}

fn naked(path: &Path, tree: &Tree) {
    struct Blocks(File);
    impl Sink for Blocks {
        fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()> {
            self.0.write_all_at(&blocks, first * 4096)
        }
    }
    let params = Params {
        uuid: [1; 16],
        epoch_seconds: 0,
        volume_name: [0; 16],
        compression: None,
        share_compressed: false,
        threads: std::num::NonZero::<usize>::MIN,
    };
    write(
        tree,
        &params,
        &Spare::default(),
        &Progress::new(),
        &mut Blocks(File::create(path).unwrap()),
    )
    .unwrap();
}

fn partitioned(path: &Path, tree: &Tree, verity: Verity<'_>) {
    let ids = Ids {
        disk: [2; 16],
        root: [3; 16],
        signature: [4; 16],
        file_system: [5; 16],
        verity: [6; 16],
        salt: [7; 32],
    };
    let recipe = Recipe {
        tree,
        arch: Arch::X86_64,
        verity,
        ids,
        epoch_seconds: 0,
        file_system: FileSystem::Erofs {
            compression: None,
            share_compressed: false,
        },
        threads: std::num::NonZero::<usize>::MIN,
        progress: &Progress::new(),
    };
    assemble(&recipe, path).unwrap();
}
