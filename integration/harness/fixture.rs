//! A config with its key pair and a root file system beside it, both throw-away copies of `examples/`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_prism-sysext");

/// No command on these small trees may take longer.
const LIMIT: Duration = Duration::from_secs(20);

/// Folders `work/` (config, keys, sources) and `rootfs/`.
pub(crate) struct Fixture {
    // Dropped first, so it finds everything.
    _watch: super::secret::Watch,
    folder: tempfile::TempDir,
}

impl Fixture {
    /// One extension, `kubernetes`, signed, with an image policy; a base of systemd 255.
    pub(crate) fn new() -> Fixture {
        Fixture::new_in(&std::env::temp_dir())
    }

    /// The same in a folder of choice.
    pub(crate) fn new_in(folder: &Path) -> Fixture {
        let folder = tempfile::tempdir_in(folder).unwrap();
        // Other users must get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let _watch = super::secret::Watch::new(folder.path());
        let fixture = Fixture { _watch, folder };
        copy(&examples.join("rootfs"), &fixture.rootfs());
        fs::create_dir_all(fixture.work().join("bin")).unwrap();
        fs::write(fixture.work().join("bin/a"), "#!/bin/sh\n").unwrap();
        fixture.list_extensions(&["kubernetes"]);
        let keygen = fixture.command(&["sign", "keygen"]).output().unwrap();
        assert!(keygen.status.success(), "{}", text(&keygen.stderr));
        fixture
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    /// A path in the root file system, as it is seen from outside.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// Writes a file of the root file system, with the folders that lead to it.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Makes a link in the root file system, with the folders that lead to it.
    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Writes a config that lists these extensions.
    pub(crate) fn list_extensions(&self, names: &[&str]) {
        self.config("", names);
    }

    /// Writes a config with `more` lines in its `sysext:` section.
    pub(crate) fn config(&self, more: &str, names: &[&str]) {
        let mut config = format!(
            "sysext:\n  verityKey: file:verity_key.pem\n  verityCertificate: verity_cert.crt\n  imagePolicy: signed\n{more}  extensions:\n"
        );
        for name in names {
            config.push_str(&format!(
                "  - name: {name}\n    version: \"1\"\n    files: [\"bin/a:/usr/local/bin/{name}\"]\n"
            ));
        }
        fs::write(self.work().join("config.yaml"), config).unwrap();
    }

    /// The program, to be run beside the config.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.by(&[PROGRAM], args)
    }

    /// The program started by another one.
    pub(crate) fn by(&self, starter: &[&str], args: &[&str]) -> Command {
        let (first, rest) = starter.split_first().unwrap();
        let mut command = Command::new(first);
        command
            .args(rest)
            .args(args)
            .current_dir(self.work())
            .env_remove("SOURCE_DATE_EPOCH")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args))
    }

    pub(crate) fn apply(&self, more: &[&str]) -> Ran {
        let mut args = vec!["apply", "--rootfs", "../rootfs", "--output", "json"];
        args.extend(more);
        self.run(&args)
    }

    pub(crate) fn remove(&self, name: &str, more: &[&str]) -> Ran {
        let mut args = vec!["remove", "--rootfs", "../rootfs", "--output", "json", name];
        args.extend(more);
        self.run(&args)
    }

    pub(crate) fn list(&self) -> Value {
        self.run(&["list", "--rootfs", "../rootfs", "--output", "json"])
            .good()
    }

    pub(crate) fn record(&self) -> Value {
        let text = fs::read(self.inside("/var/lib/prism-sysext/applied.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        snapshot(&self.rootfs())
    }
}

/// What a run ended with.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a command to its end; one that hangs or panics fails the test.
    pub(crate) fn of(mut command: Command) -> Ran {
        let start = Instant::now();
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if ended.recv_timeout(LIMIT).is_err() {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let output: Output = child.wait_with_output().unwrap();
        let _ = done.send(());
        watchdog.join().unwrap();
        let ran = Ran {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        if let Some(folder) = command.get_current_dir() {
            super::secret::heard(folder, &ran.stdout);
            super::secret::heard(folder, &ran.stderr);
        }
        assert!(start.elapsed() < LIMIT, "{command:?} hung: {}", ran.stderr);
        assert!(
            ran.code != Some(101) && !ran.stderr.contains("panicked"),
            "{command:?} panicked: {}",
            ran.stderr
        );
        ran
    }

    /// The JSON result of a run that must have succeeded.
    pub(crate) fn good(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Asserts a failure with this finding.
    #[track_caller]
    pub(crate) fn refused(&self, id: &str) {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stderr, self.stdout);
        assert!(
            self.stderr.contains(&format!("error[{id}]")),
            "expected {id}: {}",
            self.stderr
        );
    }

    /// `path action` of every file that the run speaks of.
    pub(crate) fn actions(&self) -> Vec<String> {
        let value = self.good();
        let files = value["applied"]["files"].as_array().unwrap().iter();
        files
            .map(|file| {
                format!(
                    "{} {}",
                    file["path"].as_str().unwrap(),
                    file["action"].as_str().unwrap()
                )
            })
            .collect()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every entry below a folder by its path.
pub(crate) type Snapshot = BTreeMap<PathBuf, Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Kind and permissions.
    pub(crate) mode: u32,
    /// Content of a file (of huge ones only the size), target of a link.
    pub(crate) content: Vec<u8>,
    pub(crate) modified: (i64, i64),
    pub(crate) inode: u64,
}

/// Looks at everything below a folder; no link is followed, nothing but files is opened.
pub(crate) fn snapshot(folder: &Path) -> Snapshot {
    let mut entries = Snapshot::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if metadata.is_symlink() {
            content = fs::read_link(&path).unwrap().as_os_str().as_bytes().into();
        } else if metadata.is_file() && metadata.len() < 16 << 20 {
            content = fs::read(&path).unwrap();
        } else {
            content = metadata.len().to_string().into();
        }
        let entry = Entry {
            mode: metadata.mode(),
            content,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
        };
        entries.insert(path.strip_prefix(folder).unwrap().to_owned(), entry);
    }
    entries
}

/// Asserts that two trees hold the same, whenever it was written.
#[track_caller]
pub(crate) fn assert_same(before: &Snapshot, after: &Snapshot) {
    for (path, entry) in before {
        let now = after.get(path);
        assert!(now.is_some(), "{} is gone", path.display());
        let same = now.is_some_and(|now| now.mode == entry.mode && now.content == entry.content);
        assert!(same, "{} changed", path.display());
    }
    for path in after.keys() {
        assert!(before.contains_key(path), "{} is new", path.display());
    }
}

/// Copies a tree of files, folders and links.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

/// Whether outside help can be used: root and this tool; a must in CI, elsewhere the test is skipped.
pub(crate) fn can(tool: &str, probe: &[&str]) -> bool {
    let works = Command::new(tool)
        .args(probe)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        assert!(
            std::env::var_os("CI").is_none(),
            "{tool} {probe:?} must work in CI"
        );
        eprintln!("SKIPPED: `{tool} {}` does not work here", probe.join(" "));
    }
    works
}
