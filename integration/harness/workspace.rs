//! A folder to run the program in, what it says there, and what it leaves behind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::secret::{Searched, Watch, heard};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_prism-sysext");

/// What a folder holds: mode and content (of a link: its target) by path.
pub(crate) type Snapshot = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// `keys/` with pairs, `rootfs/`, and `project/` in which the program runs.
///
/// When the test is over all of it is searched for pieces of the keys, and so is what was said.
pub(crate) struct Ground {
    // Dropped first, so it finds everything.
    watch: Watch,
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        // Others must be able to enter, because some tests run as nobody.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let watch = Watch::new(dir.path());
        let ground = Ground { watch, dir };
        // What the program leaves in a temporary folder counts as well.
        fs::create_dir(ground.path("tmp")).unwrap();
        fs::set_permissions(ground.path("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        copy(&examples().join("rootfs"), &ground.path("rootfs"));
        fs::create_dir(ground.path("keys")).unwrap();
        for (name, mode) in [
            ("key.pem", 0o600),
            ("cert.crt", 0o644),
            ("other.pem", 0o600),
            ("other.crt", 0o644),
        ] {
            let bytes = fs::read(pairs().join(name)).unwrap();
            ground.write(&format!("keys/{name}"), bytes, mode);
        }
        ground.write("project/bin/tool", "#!/bin/sh\necho tool\n", 0o755);
        ground
    }

    /// Searches now, and says how much was searched.
    pub(crate) fn search(&self) -> Result<Searched, String> {
        self.watch.search()
    }

    /// A word that is to be seen nowhere outside `keys/`.
    pub(crate) fn secret_word(&self, word: &str) {
        self.watch.word(word);
    }

    /// A place where the test itself puts secrets.
    pub(crate) fn holds_secrets(&self, name: &str) {
        self.watch.apart(name);
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes `project/config.yaml`.
    pub(crate) fn config(&self, text: &str) {
        self.write("project/config.yaml", text, 0o644);
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("reading {name}: {error}"))
    }

    /// What the manifest says of the first extension.
    pub(crate) fn manifest_entry(&self) -> serde_json::Value {
        let bytes = self.read("project/.sysext/sysext-manifest.json");
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        manifest["extensions"][0].clone()
    }

    /// The program, about to run in `project/` with nothing from this process's environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &str) -> Said {
        Said::of(&mut self.command(args.split_whitespace()))
    }

    /// Runs what must fail: status 1, one error of this id, and every file as it was before.
    pub(crate) fn refused(&self, args: &str, id: &str) -> Said {
        let before = self.snapshot();
        let said = self.run(args);
        said.is_refused(id);
        self.is_unchanged(&before, args);
        said
    }

    pub(crate) fn is_unchanged(&self, before: &Snapshot, what: &str) {
        let after = self.snapshot();
        for path in before.keys().chain(after.keys()) {
            assert!(
                before.get(path) == after.get(path),
                "{what}: {} was {:?}, is {:?}",
                path.display(),
                before.get(path).map(|(mode, bytes)| (mode, bytes.len())),
                after.get(path).map(|(mode, bytes)| (mode, bytes.len())),
            );
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        snapshot(self.dir.path())
    }
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Said {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let said = Said {
            status: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        };
        if let Some(folder) = command.get_current_dir() {
            heard(folder, &said.out);
            heard(folder, &said.err);
        }
        assert!(
            !said.err.contains("panicked") && said.status.is_some(),
            "{said:?}"
        );
        said
    }

    pub(crate) fn succeeded(&self) -> &Said {
        assert_eq!(self.status, Some(0), "{self:?}");
        self
    }

    /// Status 1 and one error, of this id.
    pub(crate) fn is_refused(&self, id: &str) -> &Said {
        assert_eq!(self.status, Some(1), "expected {id}: {self:?}");
        assert_eq!(self.errors(), [id], "{self:?}");
        self
    }

    /// The ids of all errors; `?` for one without.
    pub(crate) fn errors(&self) -> Vec<&str> {
        self.err
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix("error")?;
                match rest.strip_prefix('[') {
                    Some(rest) => rest.split_once(']').map(|(id, _)| id),
                    None => rest.starts_with(':').then_some("?"),
                }
            })
            .collect()
    }

    pub(crate) fn names(&self, parts: &[&str]) -> &Said {
        for part in parts {
            assert!(self.err.contains(part), "expected `{part}`: {self:?}");
        }
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let value: serde_json::Value =
            serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(value["schemaVersion"], 1, "{self:?}");
        value
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "status {:?}\n--- stdout\n{}--- stderr\n{}---",
            self.status, self.out, self.err
        )
    }
}

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Two key pairs, made once per test program.
fn pairs() -> &'static Path {
    static PAIRS: OnceLock<tempfile::TempDir> = OnceLock::new();
    PAIRS
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            for (key, certificate) in [("key.pem", "cert.crt"), ("other.pem", "other.crt")] {
                let status = Command::new(PROGRAM)
                    .args(["sign", "keygen", "--key", key, "--certificate", certificate])
                    .current_dir(dir.path())
                    .output()
                    .unwrap()
                    .status;
                assert!(status.success());
            }
            dir
        })
        .path()
}

pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let content = if metadata.is_file() {
            fs::read(entry.path()).unwrap()
        } else if metadata.is_symlink() {
            fs::read_link(entry.path())
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            Vec::new()
        };
        let path = entry.path().strip_prefix(root).unwrap().to_owned();
        found.insert(path, (metadata.mode(), content));
    }
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
        } else if entry.file_type().is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Runs all cases and fails with everything that is wrong, not only the first.
pub(crate) fn each<T>(cases: &[T], what: impl Fn(&T)) {
    let failed = cases
        .iter()
        .filter(|case| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what(case))).is_err()
        })
        .count();
    assert_eq!(failed, 0, "cases failed, see above");
}

/// `nobody`, as which things must work without any privilege.
pub(crate) const NOBODY: u32 = 65534;

/// The same command as an unprivileged user; none where this process can't become one.
pub(crate) fn as_nobody(command: &Command) -> Option<Command> {
    let root = rustix::process::geteuid().is_root();
    let setpriv = Path::new("/usr/bin/setpriv").exists();
    if !root || !setpriv {
        assert!(
            std::env::var_os("CI").is_none(),
            "setpriv and root are needed here"
        );
        eprintln!("SKIPPED: needs root and setpriv (util-linux)");
        return None;
    }
    let mut unprivileged = Command::new("setpriv");
    unprivileged
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        unprivileged.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            unprivileged.env(name, value);
        }
    }
    Some(unprivileged)
}

/// Hands a folder and all below it to nobody.
pub(crate) fn give_to_nobody(root: &Path) {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let permissions = entry.metadata().unwrap().permissions();
        std::os::unix::fs::lchown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        if !entry.file_type().is_symlink() {
            // A change of owner takes set-user-id away.
            fs::set_permissions(entry.path(), permissions).unwrap();
        }
    }
}
