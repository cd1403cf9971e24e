//! Images that are cut, bent, circular, or far larger on paper than on disk: an error that names
//! what is wrong, within a limit of memory and time, and nothing is written.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use crate::harness::tools::{command, have, output, transcript};
use crate::harness::workspace::{PROGRAM, Workspace};

/// Address space of the program, in bytes.
const MEMORY: u64 = 1 << 30;
/// Time for one image and verb. The program is not optimized here.
const TIME: Duration = Duration::from_secs(60);

/// Runs a verb under the limits; it must end by itself, and a panic or an abort is no end.
fn limited(workspace: &Workspace, args: &[&str]) -> std::process::Output {
    let mut call = command("prlimit");
    call.arg(format!("--as={MEMORY}"))
        .args([PROGRAM])
        .args(args);
    call.current_dir(workspace.path("project"));
    call.env("TMPDIR", workspace.path("tmp"));
    let start = Instant::now();
    let said = output(&mut call);
    assert!(
        start.elapsed() < TIME,
        "{args:?} took {:?}",
        start.elapsed()
    );
    assert!(
        matches!(said.status.code(), Some(0 | 1)),
        "{args:?}: {}",
        transcript(&said)
    );
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    said
}

/// A small tree in a file system of each kind.
fn images(workspace: &Workspace) -> Vec<&'static str> {
    let source = workspace.path("source");
    fs::create_dir_all(source.join("usr/lib/extension-release.d")).unwrap();
    let release = "usr/lib/extension-release.d/extension-release.x";
    fs::write(source.join(release), "ID=_any\n").unwrap();
    fs::write(source.join("usr/text"), "much the same\n".repeat(3000)).unwrap();
    for number in 0..40 {
        fs::write(source.join(format!("usr/{number}")), "x".repeat(number * 9)).unwrap();
    }
    let at = |name: &str| workspace.path("project").join(name);
    let mut erofs = command("mkfs.erofs");
    assert!(
        output(erofs.arg("-zlz4").args([at("e.raw"), source.clone()]))
            .status
            .success()
    );
    let mut squashfs = command("mksquashfs");
    squashfs
        .args([source.clone(), at("s.raw")])
        .args(["-quiet", "-no-progress"]);
    assert!(output(&mut squashfs).status.success());
    let mut ext4 = command("mkfs.ext4");
    ext4.args(["-q", "-b", "4096", "-O", "^has_journal", "-d"])
        .args([source, at("x.raw")])
        .arg("4M");
    assert!(output(&mut ext4).status.success());
    vec!["e.raw", "s.raw", "x.raw"]
}

#[test]
fn bent_images_end_within_bounds() {
    if !have(&["mkfs.erofs", "mksquashfs", "mkfs.ext4", "prlimit"]) {
        return;
    }
    let workspace = Workspace::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for name in images(&workspace) {
        let whole = fs::read(workspace.path("project").join(name)).unwrap();
        // What is not zero is what a reader follows.
        let places: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        for round in 0..30 {
            let mut bytes = whole.clone();
            for _ in 0..=round % 8 {
                let at = places[usize::try_from(random()).unwrap() % places.len()];
                bytes[at] = random().to_le_bytes()[0];
            }
            if round % 5 == 0 {
                bytes.truncate(usize::try_from(random()).unwrap() % whole.len());
            }
            workspace.write("project/bent.raw", &bytes, 0o644);
            limited(&workspace, &["inspect", "bent.raw", "--output", "json"]);
            let said = limited(&workspace, &["inspect", "bent.raw", "--extract", "out"]);
            match said.status.code() {
                Some(0) => fs::remove_dir_all(workspace.path("project/out")).unwrap(),
                _ => assert!(!workspace.path("project/out").exists(), "{name} {round}"),
            }
        }
    }
}

#[test]
fn hostile_images_are_refused_by_name() {
    if !have(&[
        "mkfs.erofs",
        "mksquashfs",
        "mkfs.ext4",
        "debugfs",
        "prlimit",
    ]) {
        return;
    }
    let workspace = Workspace::new();
    images(&workspace);
    let ext4 = fs::read(workspace.path("project/x.raw")).unwrap();
    let change = |name: &str, commands: &str| {
        workspace.write(&format!("project/{name}"), &ext4, 0o644);
        workspace.write("commands", commands, 0o644);
        let mut call = command("debugfs");
        call.arg("-w").arg("-f").arg(workspace.path("commands"));
        call.arg(workspace.path("project").join(name));
        assert!(output(&mut call).status.success());
    };
    change("circle.raw", "link usr usr/one\nlink usr usr/two\n");
    change("up.raw", "link <2> usr/root\n");
    change("long.raw", "sif usr/text size 0x1fffffffff\n");
    let bomb = std::io::repeat(0).take(3 << 30);
    zstd::stream::copy_encode(
        bomb,
        fs::File::create(workspace.path("project/bomb.raw.zst")).unwrap(),
        1,
    )
    .unwrap();
    workspace.write(
        "project/cut.raw.gz",
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1],
        0o644,
    );
    workspace.write("project/cut.raw.zst", [0x28, 0xb5, 0x2f, 0xfd, 0, 0], 0o644);
    workspace.write("project/empty.raw", "", 0o644);
    let table = [
        ("circle.raw", "--list", "are one (inode"),
        ("up.raw", "--list", "are one (inode"),
        ("circle.raw", "--mtree", "are one (inode"),
        ("long.raw", "--mtree", "137438953471 bytes"),
        ("bomb.raw.zst", "--list", "more than 1073741824 bytes"),
        ("cut.raw.gz", "--list", "can't be unpacked after 0 bytes"),
        ("cut.raw.zst", "--list", "can't be unpacked after 0 bytes"),
        (
            "empty.raw",
            "--list",
            "neither a partition table nor a file system",
        ),
    ];
    for (name, form, expected) in table {
        let said = limited(&workspace, &["inspect", name, form]);
        let text = String::from_utf8_lossy(&said.stderr).replace('\n', " ");
        assert_eq!(said.status.code(), Some(1), "{name} {form}: {text}");
        assert!(text.contains(expected), "{name} {form}: {text}");
        let said = limited(&workspace, &["inspect", name, "--extract", "out"]);
        assert_eq!(said.status.code(), Some(1), "{name}: {}", transcript(&said));
        assert!(!workspace.path("project/out").exists(), "{name}");
    }
    assert_eq!(fs::read_dir(workspace.path("tmp")).unwrap().count(), 0);
}
