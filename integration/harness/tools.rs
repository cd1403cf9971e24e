//! Finding and running programs.

use std::ffi::OsString;
use std::process::{Command, Output};

/// Where administrators' programs live that an ordinary user's `PATH` leaves out.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The `PATH` of this process and the administrators' directories.
pub(crate) fn path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&own).chain(SYSTEM.iter().map(Into::into));
    std::env::join_paths(dirs).unwrap()
}

/// A command that finds administrators' programs too and speaks English.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", path()).env("LC_ALL", "C.UTF-8");
    command
}

/// Whether the test can go on: all programs are there.
pub(crate) fn have(programs: &[&str]) -> bool {
    let dirs: Vec<_> = std::env::split_paths(&path()).collect();
    programs.iter().all(|program| {
        dirs.iter().any(|dir| dir.join(program).exists())
            || skip(&format!("{program} is not installed (run ./setup)"))
    })
}

/// Whether the test can go on: we are root.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root() || skip("this test mounts and chroots, so it needs root")
}

/// Leaves a test out, loudly; in CI nothing is left out.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{why}, and this is CI");
    eprintln!("SKIPPED: {why}");
    false
}

/// Runs a command to its end, whatever that is.
pub(crate) fn output(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {command:?}: {error}"),
    }
}

/// Runs a command that must succeed and returns its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed, {}\n{}",
        output.status,
        transcript(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both streams of a command, for a person.
pub(crate) fn transcript(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("--- stdout\n{stdout}\n--- stderr\n{stderr}")
}
