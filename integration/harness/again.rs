//! A test once more, in a process of its own: with another umask or user, or mounts that no other
//! test sees.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::have;

/// Set in the second run, to the folder the test works in.
const FOLDER: &str = "PRISM_SYSEXT_TEST_FOLDER";

/// Runs this very test in another process; true in there.
pub(crate) fn apart<F: Fn()>(test: F) -> bool {
    below(test, &["env"]).is_some()
}

/// Runs this very test again below a starter such as `unshare`; gives the folder in that second run.
pub(crate) fn below<F: Fn()>(_test: F, starter: &[&str]) -> Option<PathBuf> {
    run::<F>(starter, |_| std::env::current_exe().unwrap())
}

/// The same as `nobody`, who may not reach the build folder; hence by a copy.
pub(crate) fn as_nobody<F: Fn()>(_test: F) -> Option<PathBuf> {
    let starter = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    run::<F>(&starter, |folder| {
        let program = folder.join("program");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        program
    })
}

/// Whether this is such a second run.
pub(crate) fn is_second() -> bool {
    folder().is_some()
}

fn folder() -> Option<OsString> {
    std::env::var_os(FOLDER)
}

fn run<F>(starter: &[&str], program: impl Fn(&Path) -> PathBuf) -> Option<PathBuf> {
    if let Some(folder) = folder() {
        return Some(folder.into());
    }
    if !have(&starter[..1]) {
        return None;
    }
    // The path of the test without the name of the crate is what the test program calls it.
    let (_, name) = std::any::type_name::<F>().split_once("::").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(starter[0])
        .args(&starter[1..])
        .arg(program(folder.path()))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{}", text.concat());
    assert!(text[0].contains("1 passed"), "{}", text.concat());
    None
}
