//! Every example does what it says, on the root file system that lies beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::said::Said;
use prism_sysext::check::Allowed;
use prism_sysext::finding::Severity;
use prism_sysext::io::progress::Progress;
use prism_sysext::session::{BaseChoice, Placing, Request, Session, Stopped, open_root};
use prism_sysext::sign::passphrase::Secrets;

use crate::harness::snapshot::{Snapshot, assert_same, copy, snapshot};
use crate::harness::workspace::{PROGRAM, examples};

struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Copy {
        let dir = tempfile::tempdir().unwrap();
        copy(&examples(), &dir.path().join("examples"));
        Copy(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("examples").join(name)
    }

    fn run(&self, example: &str, args: &str) -> Said {
        Said::of(
            Command::new(PROGRAM)
                .args(args.split_whitespace())
                .current_dir(self.path(example))
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env(
                    "VERITY_KEY",
                    fs::read(self.path("verity_key.pem"))
                        .map(|key| String::from_utf8(key).unwrap())
                        .unwrap_or_default(),
                )
                .stdin(Stdio::null()),
        )
    }

    /// Prepares an example as its comment says.
    fn prepare(&self, example: &str) {
        let config = fs::read_to_string(self.path(example).join("config.yaml")).unwrap();
        if !config.contains("[kubernetes.raw]") {
            self.run(example, "sign keygen --key ../verity_key.pem")
                .succeeded();
        }
        if config.contains("[kubernetes.raw]") {
            self.prepare("build");
            self.run("build", "build --rootfs ../rootfs").succeeded();
            for (from, to) in [
                ("build/.sysext/kubernetes.raw", "kubernetes.raw"),
                ("build/verity_cert.crt", "verity_cert.crt"),
            ] {
                fs::copy(self.path(from), self.path(example).join(to)).unwrap();
            }
        }
    }
}

/// The names of all folders with a config.
fn all() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("config.yaml").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The example that is there to be refused.
const BROKEN: &str = "broken";

#[test]
fn every_example_is_applied_and_expanded() {
    let names = all();
    for expected in [
        "base-configs",
        "broken",
        "build",
        "ci",
        "confext",
        "external",
        "prebuilt",
        "several",
        "verity-root",
    ] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    for name in names.iter().filter(|name| *name != BROKEN) {
        let copy = Copy::new();
        copy.prepare(name);
        copy.run(
            name,
            "validate-config --validate-resources files,images --rootfs ../rootfs",
        )
        .succeeded();
        let applied = copy.run(name, "apply --rootfs ../rootfs");
        assert!(
            applied.succeeded().out.contains("merges-"),
            "{name}: {applied:?}"
        );
        let listed = copy.run(name, "list --rootfs ../rootfs");
        for line in ["enabled  systemd-sysext.service", "/var/lib/extensions/"] {
            assert!(listed.succeeded().out.contains(line), "{name}: {listed:?}");
        }
        copy.run(name, "check --rootfs ../rootfs").succeeded();
        // What is there must not pass for what is made.
        let _ = fs::remove_file(copy.path(name).join("common/base.prism.yaml"));
        copy.run(name, "expand --rootfs ../rootfs").succeeded();
        for file in ["config.prism.yaml", "common/base.prism.yaml"] {
            let Ok(text) = fs::read_to_string(copy.path(name).join(file)) else {
                continue;
            };
            let committed = examples().join(name).join(file);
            if std::env::var_os("BLESS").is_some() {
                fs::write(&committed, &text).unwrap();
            }
            assert!(
                fs::read_to_string(&committed).unwrap_or_default() == text,
                "{} is stale; run this test with BLESS=1 and commit the result",
                committed.display()
            );
        }
        copy.run(name, "validate-config --config-file config.prism.yaml")
            .succeeded();
        plain(&copy.path(name));
        copy.run(name, "expand --rootfs ../rootfs --check")
            .succeeded();
    }
}

/// The expanded config has no block, keeps the rest, and names only files that are there.
fn plain(example: &Path) {
    let read = |name: &str| -> serde_yaml::Value {
        serde_yaml::from_str(&fs::read_to_string(example.join(name)).unwrap()).unwrap()
    };
    let (before, after) = (read("config.yaml"), read("config.prism.yaml"));
    assert!(after.get("sysext").is_none(), "{}", example.display());
    for (key, value) in before.as_mapping().unwrap() {
        if key.as_str() == Some("os") {
            for (key, value) in value.as_mapping().unwrap() {
                if key.as_str() == Some("services") {
                    let units = |config: &serde_yaml::Value| {
                        config["enable"].as_sequence().unwrap().clone()
                    };
                    assert!(units(&after["os"][key]).starts_with(&units(value)));
                    continue;
                }
                assert_eq!(after["os"].get(key), Some(value), "{key:?}");
            }
        } else if key.as_str() == Some("baseConfigs") {
            let path = after["baseConfigs"][0]["path"].as_str().unwrap();
            assert!(example.join(path).is_file(), "{path}");
        } else if key.as_str() != Some("sysext") {
            assert_eq!(after.get(key), Some(value), "{key:?}");
        }
    }
    let files = after["os"]["additionalFiles"].as_sequence().unwrap();
    assert!(files.len() >= 2);
    for file in files {
        assert!(file["destination"].as_str().unwrap().starts_with('/'));
        if let Some(source) = file.get("source").and_then(|source| source.as_str()) {
            assert!(example.join(source).is_file(), "{source}");
        }
    }
}

#[test]
fn the_broken_example_is_refused_with_the_reason() {
    let copy = Copy::new();
    copy.run(BROKEN, "validate-config").succeeded();
    let said = copy.run(BROKEN, "apply --rootfs ../rootfs");
    said.is_refused("release-version-mismatch")
        .names(&["2.0", "3.0", "help: "]);
    assert!(!copy.path("rootfs/var").exists(), "nothing was placed");
}

#[test]
fn what_was_applied_can_be_removed_again() {
    let copy = Copy::new();
    let before = snapshot(&copy.path("rootfs"));
    copy.prepare("build");
    copy.run("build", "apply --rootfs ../rootfs").succeeded();
    copy.run("build", "remove kubernetes --rootfs ../rootfs")
        .succeeded();
    let after = snapshot(&copy.path("rootfs"));
    let files = |snapshot: &Snapshot| -> Vec<PathBuf> {
        snapshot
            .iter()
            .filter(|(path, entry)| !entry.is_folder() && !path.ends_with("applied.json"))
            .map(|(path, _)| path.clone())
            .collect()
    };
    assert_eq!(files(&before), files(&after));
}

#[test]
fn the_library_leaves_what_the_program_leaves() {
    let by_program = Copy::new();
    by_program.prepare("build");
    let by_library = Copy(tempfile::tempdir().unwrap());
    copy(&by_program.path(""), &by_library.0.path().join("examples"));
    by_program
        .run("build", "apply --rootfs ../rootfs")
        .succeeded();

    let rootfs = by_library.path("rootfs");
    let root = open_root(&rootfs).map_err(Stopped::from).unwrap();
    let request = Request {
        config: by_library.path("build/config.yaml"),
        base: BaseChoice {
            rootfs: Some(rootfs),
            ..BaseChoice::default()
        },
        ..Request::default()
    };
    let (session, noticed) = Session::open(&request).unwrap();
    let mut noticed = noticed.findings();
    assert!(noticed.all(|finding| finding.severity < Severity::Error));
    let (progress, nobody) = (Progress::new(), |_: &str| None);
    let variable = |_: &str| None;
    let built = session
        .build(&Secrets::new(&variable, &nobody), &progress)
        .unwrap();
    let prediction = session.predict(&progress).unwrap();
    assert!(prediction.is_good(Allowed::default()), "{prediction:?}");
    session
        .place(&root, &built, Placing::default(), &progress)
        .unwrap();
    session.write_manifest(&built, &[]).unwrap();
    assert_same(
        &snapshot(&by_program.path("")),
        &snapshot(&by_library.path("")),
    );

    // What is wrong comes back as findings, each with its id.
    let missing = Request {
        config: by_library.path("build/none.yaml"),
        ..request
    };
    let stopped = Session::open(&missing).err().unwrap();
    assert_eq!(stopped.errors().count(), 1, "{stopped}");
}
