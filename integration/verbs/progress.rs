//! What a person sees while something takes long, and that programs see nothing of it.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::tools::{command, have, output, path};
use crate::harness::workspace::write_program;

/// Takes long whatever the machine, and then fails.
const SLOW: &str = "#!/bin/sh\ncat >/dev/null\nsleep 2\necho 'too slow' >&2\nexit 1\n";

fn build(dir: &TempDir) -> Command {
    let mut folders = vec![dir.path().join("bin")];
    folders.extend(std::env::split_paths(&path()));
    fs::create_dir_all(dir.path().join("root/usr/share")).unwrap();
    fs::write(dir.path().join("root/usr/share/file"), vec![7; 2_000_000]).unwrap();
    write_program(&dir.path().join("bin/mksquashfs"), SLOW);
    let config = "sysext:\n  extensions:\n  - {name: tools, tree: root, arch: x86-64, verity: none, \
                  format: squashfs, release: {id: _any}}\n";
    fs::write(dir.path().join("config.yaml"), config).unwrap();
    let mut script = command("script");
    script
        .args([
            "-qec",
            concat!(env!("CARGO_BIN_EXE_prism-sysext"), " build"),
            "/dev/null",
        ])
        .env("PATH", std::env::join_paths(folders).unwrap())
        .current_dir(dir.path());
    script
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    if !have(&["script"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let said = output(&mut build(&dir));
    let shown = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = "\r\x1b[Kbuilding tools: 2.0 MB of 2.0 MB (100 %)";
    assert!(shown.contains(line), "{shown:?}");
    // It is gone when the error comes.
    let (_, after) = shown.rsplit_once("\x1b[K").unwrap();
    assert!(after.starts_with("error: "), "{after:?}");
    assert!(after.contains("too slow"), "{after:?}");
}

#[test]
fn without_a_terminal_it_is_silent() {
    let dir = TempDir::new().unwrap();
    let mut quiet = Command::new(env!("CARGO_BIN_EXE_prism-sysext"));
    let terminal = build(&dir);
    let search = terminal.get_envs().find(|(name, _)| *name == "PATH");
    quiet
        .arg("build")
        .env("PATH", search.unwrap().1.unwrap())
        .current_dir(dir.path());
    let said = output(&mut quiet);
    let shown = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        !shown.contains('\r') && !shown.contains("building tools"),
        "{shown:?}"
    );
    assert!(shown.contains("too slow"), "{shown:?}");
}
