//! A folder to run the program in, and what it leaves behind.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::said::Said;
use super::secret::{Searched, Watch};
use super::snapshot::{Snapshot, copy, difference, snapshot};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_prism-sysext");

/// `keys/` with pairs, `rootfs/`, and `project/` in which the program runs.
///
/// When the test is over all of it is searched for pieces of the keys, and so is what was said.
pub(crate) struct Workspace {
    // Dropped first, so it finds everything.
    watch: Watch,
    dir: tempfile::TempDir,
}

impl Workspace {
    pub(crate) fn new() -> Workspace {
        Workspace::new_in(&std::env::temp_dir())
    }

    /// The same in a folder of choice.
    pub(crate) fn new_in(folder: &Path) -> Workspace {
        let dir = tempfile::tempdir_in(folder).unwrap();
        // Others must be able to enter, because some tests run as nobody.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let watch = Watch::new(dir.path());
        let workspace = Workspace { watch, dir };
        // What the program leaves in a temporary folder counts as well.
        fs::create_dir(workspace.path("tmp")).unwrap();
        fs::set_permissions(workspace.path("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        copy(&examples().join("rootfs"), &workspace.path("rootfs"));
        fs::create_dir(workspace.path("keys")).unwrap();
        for (name, mode) in [
            ("key.pem", 0o600),
            ("cert.crt", 0o644),
            ("other.pem", 0o600),
            ("other.crt", 0o644),
        ] {
            let bytes = fs::read(pairs().join(name)).unwrap();
            workspace.write(&format!("keys/{name}"), bytes, mode);
        }
        workspace.write("project/bin/tool", "#!/bin/sh\necho tool\n", 0o755);
        workspace
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

    /// Writes a program that is going to be run.
    pub(crate) fn program(&self, name: &str, bytes: impl AsRef<[u8]>) {
        write_program(&self.path(name), bytes);
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
        let mut command = self.other(PROGRAM);
        command.args(args);
        command
    }

    /// The same of another program.
    pub(crate) fn other(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
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

    #[track_caller]
    pub(crate) fn is_unchanged(&self, before: &Snapshot, what: &str) {
        let difference = difference(before, &self.snapshot());
        assert_eq!(difference, None, "{what}");
    }

    /// Of the whole workspace.
    pub(crate) fn snapshot(&self) -> Snapshot {
        snapshot(self.dir.path())
    }
}

/// Another process writes it: what a neighbour starts just then inherits what this one has open, and a
/// file that is open for writing cannot be executed.
pub(crate) fn write_program(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut content = install.stdin.take().unwrap();
    content.write_all(bytes.as_ref()).unwrap();
    drop(content);
    assert!(install.wait().unwrap().success());
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
