//! Root file systems made to lead us out, to hang us or to make us talk: every component of every
//! path that is read or written is replaced by everything that can stand at a path.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::harness::placing;
use crate::harness::said::Said;
use crate::harness::snapshot::{Snapshot, copy, snapshot};
use crate::harness::workspace::Workspace;

/// Stands in every file and name outside, and must never be seen.
const CANARY: &str = "canary-5a1e";

/// Everything that is read or written, and what leads there.
const PATHS: &[&str] = &[
    "boot",
    "boot/config-6.6.0-example",
    "etc",
    "etc/extensions",
    "etc/extensions/theirs.raw",
    "etc/os-release",
    "etc/systemd",
    "etc/systemd/system",
    "etc/systemd/system/sysinit.target.wants",
    "etc/systemd/system/sysinit.target.wants/systemd-sysext.service",
    "etc/systemd/system/systemd-sysext.service",
    "etc/systemd/system/systemd-sysext.service.d",
    "etc/systemd/system/systemd-sysext.service.d/50-image-policy.conf",
    "etc/systemd/system/systemd-sysext.service.d/60-theirs.conf",
    "etc/verity.d",
    "etc/verity.d/theirs.crt",
    "etc/verity.d/cert.crt",
    "run",
    "run/extensions",
    "run/extensions/theirs.raw",
    "usr",
    "usr/bin",
    "usr/bin/systemd-sysext",
    "usr/lib",
    "usr/lib/modules",
    "usr/lib/modules/6.6.0",
    "usr/lib/modules/6.6.0/config",
    "usr/lib/os-release",
    "usr/lib/systemd",
    "usr/lib/systemd/libsystemd-shared-255.so",
    "usr/lib/systemd/system",
    "usr/lib/systemd/system/systemd-sysext.service",
    "usr/lib/verity.d",
    "usr/lib/verity.d/theirs.crt",
    "var",
    "var/lib",
    "var/lib/dpkg",
    "var/lib/dpkg/status",
    "var/lib/extensions",
    "var/lib/extensions/kubernetes.raw",
    "var/lib/extensions/new.raw",
    "var/lib/extensions/old.raw",
    "var/lib/extensions/theirs.raw",
    "var/lib/prism-sysext",
    "var/lib/prism-sysext/applied.json",
];

/// What may stand at a path.
#[derive(Debug, Clone, Copy)]
enum Hostile {
    Away,
    Up,
    Loop,
    Dangling,
    Root,
    Fifo,
    Null,
    Zero,
    Socket,
    Empty,
    Garbage,
    Folder,
    FullFolder,
    Sparse,
    /// The file that was there, with a hole behind it.
    Grown,
}

const HOSTILE: &[Hostile] = &[
    Hostile::Away,
    Hostile::Up,
    Hostile::Loop,
    Hostile::Dangling,
    Hostile::Root,
    Hostile::Fifo,
    Hostile::Null,
    Hostile::Zero,
    Hostile::Socket,
    Hostile::Empty,
    Hostile::Garbage,
    Hostile::Folder,
    Hostile::FullFolder,
    Hostile::Sparse,
    Hostile::Grown,
];

impl Hostile {
    /// Puts it at `path` of the root file system; false if this can't be done.
    fn put(self, workspace: &Workspace, path: &str) -> bool {
        let at = workspace.inside(path);
        if matches!(self, Hostile::Grown) {
            let file = fs::OpenOptions::new().write(true).open(&at);
            return fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_file())
                && file.is_ok_and(|file| file.set_len(1 << 40).is_ok());
        }
        clear(&at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let node =
            |kind, device| mknodat(CWD, &at, kind, Mode::from_raw_mode(0o644), device).is_ok();
        match self {
            Hostile::Away => symlink(workspace.root().join("outside").join(path), &at).unwrap(),
            Hostile::Up => {
                let up = "../".repeat(path.matches('/').count() + 1);
                symlink(format!("{up}outside/{path}"), &at).unwrap();
            }
            Hostile::Loop => symlink(at.file_name().unwrap(), &at).unwrap(),
            Hostile::Dangling => symlink("/nowhere/at/all", &at).unwrap(),
            Hostile::Root => symlink("/", &at).unwrap(),
            Hostile::Fifo => return node(FileType::Fifo, 0),
            Hostile::Null => return node(FileType::CharacterDevice, makedev(1, 3)),
            Hostile::Zero => return node(FileType::CharacterDevice, makedev(1, 5)),
            Hostile::Socket => return node(FileType::Socket, 0),
            Hostile::Empty => fs::write(&at, "").unwrap(),
            Hostile::Garbage => fs::write(&at, "\u{1b}[2J\0garbage\n[{\"").unwrap(),
            Hostile::Folder => fs::create_dir(&at).unwrap(),
            Hostile::FullFolder => fs::create_dir_all(at.join("usr/x")).unwrap(),
            Hostile::Sparse => fs::File::create(&at).unwrap().set_len(1 << 40).unwrap(),
            Hostile::Grown => {}
        }
        true
    }
}

fn clear(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
}

/// A root file system with everything in it, an earlier apply included, and a tripwire beside it.
struct Trap {
    workspace: Workspace,
    tripwire: Snapshot,
}

impl Trap {
    fn new() -> Trap {
        // In memory where that is to be had: every file is synced to the disk, thousands of times.
        let memory = Path::new("/dev/shm");
        Trap::around(if memory.is_dir() {
            placing::workspace_in(memory)
        } else {
            placing::workspace()
        })
    }

    fn around(workspace: Workspace) -> Trap {
        workspace.list_extensions(&["kubernetes", "old"]);
        workspace.apply("").succeeded();
        // The next apply has an image to replace, one to place and one to take out.
        workspace.change_content("changed");
        workspace.list_extensions(&["kubernetes", "new"]);
        let certificate = fs::read(workspace.inside("/etc/verity.d/cert.crt")).unwrap();
        workspace.write_inside("/etc/verity.d/theirs.crt", &certificate);
        workspace.write_inside("/usr/lib/verity.d/theirs.crt", &certificate);
        workspace.write_inside("/usr/lib/modules/6.6.0/config", "CONFIG_EROFS_FS=y\n");
        workspace.write_inside(
            "/etc/systemd/system/systemd-sysext.service.d/60-theirs.conf",
            "[Service]\n",
        );
        workspace.write_inside("/var/lib/dpkg/status", "Package: dash\n");
        fs::create_dir_all(workspace.inside("/etc/extensions")).unwrap();
        fs::create_dir_all(workspace.inside("/run/extensions")).unwrap();

        let outside = workspace.root().join("outside");
        copy(&workspace.rootfs(), &outside);
        for path in PATHS {
            let path = outside.join(path);
            if !path.is_dir() {
                clear(&path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("ID={CANARY}\nVERSION_ID={CANARY}\n")).unwrap();
            }
        }
        for folder in [
            "etc/verity.d",
            "usr/lib/verity.d",
            "etc/extensions",
            "var/lib/extensions",
        ] {
            fs::write(outside.join(folder).join(format!("{CANARY}.crt")), CANARY).unwrap();
            fs::write(outside.join(folder).join(format!("{CANARY}.raw")), CANARY).unwrap();
        }
        let record = format!(
            "{{\"schemaVersion\":1,\"enabledByUs\":true,\"folders\":[],\"files\":[{{\"path\":\"/etc/extensions/{CANARY}.raw\",\
             \"kind\":\"image\",\"extension\":\"{CANARY}\",\"size\":11,\"sha256\":\"\"}}]}}"
        );
        fs::write(outside.join("var/lib/prism-sysext/applied.json"), record).unwrap();
        let tripwire = snapshot(&outside);
        Trap {
            workspace,
            tripwire,
        }
    }

    /// Runs every verb that looks at a root file system, and looks whether the trap snapped.
    fn spring(&self, what: &str) {
        for verb in VERBS {
            let ran = self.workspace.run(verb);
            let said = format!("{what}, {verb:?}: {}{}", ran.out, ran.err);
            assert!(
                matches!(ran.status, Some(0 | 1)),
                "status {:?}: {said}",
                ran.status
            );
            assert!(
                ran.status == Some(0) || !ran.err.is_empty(),
                "no word: {said}"
            );
            assert!(!said.contains(CANARY), "read outside: {said}");
            assert!(!said.contains('\u{1b}'), "controls the terminal: {said:?}");
        }
        assert!(
            self.tripwire == snapshot(&self.workspace.root().join("outside")),
            "{what}: changed outside"
        );
        let mut names: Vec<_> = fs::read_dir(self.workspace.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["keys", "outside", "project", "rootfs", "template", "tmp",],
            "{what}"
        );
    }

    /// Keeps the state of the root file system, to come back to it.
    fn keep(&self) {
        fs::rename(
            self.workspace.rootfs(),
            self.workspace.root().join("template"),
        )
        .unwrap();
    }

    fn reset(&self) {
        clear(&self.workspace.rootfs());
        copy(
            &self.workspace.root().join("template"),
            &self.workspace.rootfs(),
        );
    }
}

/// Applying judges the listed images together with what is there, as `check` with a config does.
const VERBS: &[&str] = &[
    "check --rootfs ../rootfs --config-file none.yaml",
    "list --rootfs ../rootfs",
    "apply --rootfs ../rootfs",
    "apply --rootfs ../rootfs --force --no-check",
    "remove --rootfs ../rootfs kubernetes",
    "remove --rootfs ../rootfs kubernetes --force",
];

#[test]
fn nothing_leads_out_or_hangs() {
    let cases: Vec<(&str, Hostile)> = PATHS
        .iter()
        .flat_map(|path| HOSTILE.iter().map(move |hostile| (*path, *hostile)))
        .collect();
    let next = AtomicUsize::new(0);
    let ran = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let trap = Trap::new();
                trap.keep();
                while let Some((path, hostile)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    trap.reset();
                    if hostile.put(&trap.workspace, path) {
                        trap.spring(&format!("{hostile:?} at {path}"));
                        ran.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let ran = ran.into_inner();
    assert!(ran > PATHS.len() * 11, "only {ran} of {}", cases.len());
    eprintln!("{ran} trees in {:?}", start.elapsed());
}

/// On the disk, because file systems in memory are often mounted so that no device opens.
#[test]
fn devices_are_not_read() {
    let trap = Trap::around(placing::workspace());
    trap.keep();
    for path in [
        "etc/os-release",
        "etc/verity.d/theirs.crt",
        "usr/bin/systemd-sysext",
        "var/lib/dpkg/status",
        "var/lib/extensions/kubernetes.raw",
        "var/lib/prism-sysext/applied.json",
    ] {
        trap.reset();
        if Hostile::Zero.put(&trap.workspace, path) {
            trap.spring(&format!("/dev/zero at {path}"));
        } else {
            eprintln!("SKIPPED: no device can be made at {path}");
        }
    }
}

#[test]
fn a_forged_record_sends_us_nowhere() {
    let trap = Trap::new();
    trap.keep();
    let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let file = |path: &str| serde_json::json!({"path": path, "kind": "image", "extension": "kubernetes", "size": 0, "sha256": sha256});
    let record = |paths: &[&str], folders: &[&str]| {
        let files: Vec<_> = paths.iter().map(|path| file(path)).collect();
        serde_json::json!({"schemaVersion": 1, "files": files, "folders": folders, "enabledByUs": true}).to_string()
    };
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let outside = trap.workspace.root().join("outside/etc/os-release");
    let forged = [
        record(&["../../outside"], &[]),
        record(&["/etc/passwd"], &[]),
        record(
            &["/var/lib/extensions/../../../../outside/etc/os-release"],
            &[],
        ),
        record(&["/var/lib/extensions/.."], &[]),
        record(&["/var/lib/extensions/"], &[]),
        record(&["/var/lib/extensions/x\u{0}y"], &[]),
        record(&["/var/lib/extensions/\u{1b}[2J\n.raw"], &[]),
        record(&[outside.to_str().unwrap()], &[]),
        record(&[""], &[]),
        record(&[], &["/"]),
        record(&[], &["../outside"]),
        record(&[], &["/var/lib/../../../outside"]),
        record(
            &["/var/lib/extensions/kubernetes.raw"],
            &["/usr", "/etc", "/var"],
        ),
        record(&["/var/lib/extensions/kubernetes.raw"; 9_000], &[]),
        record(&["/var/lib/extensions/kubernetes.raw"; 20_000], &[]),
        "{}".into(),
        "null".into(),
        "{\"schemaVersion\":2,\"files\":[],\"folders\":[],\"enabledByUs\":false}".into(),
        deep,
        " ".repeat(5 << 20),
    ];
    for (number, text) in forged.iter().enumerate() {
        trap.reset();
        trap.workspace
            .write_inside("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
        trap.workspace
            .write_inside("/var/lib/prism-sysext/applied.json", text);
        trap.spring(&format!("record {number}"));
        assert!(trap.workspace.inside("/etc/passwd").is_file());
        assert!(trap.workspace.inside("/usr/lib/os-release").is_file());
    }
}

#[test]
fn names_neither_confuse_nor_control_the_terminal() {
    let trap = Trap::new();
    trap.keep();
    let long = format!("{}.raw", "x".repeat(251));
    let names: [&[u8]; 8] = [
        b"\x1b[2J\x1b]0;title\x07.raw",
        b"new\nline.raw",
        b"\xff\xfe.raw",
        b"\xe2\x80\xaegnp.raw",
        b"-rf.raw",
        b".raw",
        b"..raw",
        long.as_bytes(),
    ];
    for name in names {
        for folder in [
            "etc/extensions",
            "var/lib/extensions",
            "etc/verity.d",
            "boot",
        ] {
            trap.reset();
            let path = trap.workspace.inside(folder).join(OsStr::from_bytes(name));
            fs::write(&path, "x").unwrap();
            let certificate = fs::read(trap.workspace.path("keys/cert.crt")).unwrap();
            let stem = name.strip_suffix(b".raw").unwrap_or(name);
            let name = [stem, b".crt"].concat();
            let path = trap.workspace.inside(folder).join(OsStr::from_bytes(&name));
            fs::write(&path, certificate).unwrap();
            trap.spring(&format!("{:?} in {folder}", String::from_utf8_lossy(&name)));
        }
    }
}

#[test]
fn a_folder_with_a_great_many_entries_is_no_hang() {
    let trap = Trap::new();
    for folder in ["boot", "etc/extensions", "etc/verity.d", "usr/lib/modules"] {
        for number in 0..3_000 {
            let name = match folder {
                "boot" => format!("config-{number}"),
                "etc/verity.d" => format!("{number}.crt"),
                _ => format!("{number}.raw"),
            };
            trap.workspace
                .write_inside(&format!("{folder}/{name}"), "x");
        }
    }
    for verb in VERBS {
        let ran: Said = trap.workspace.run(verb);
        assert!(
            matches!(ran.status, Some(0 | 1)),
            "{verb:?}: {:?}",
            ran.status
        );
    }
}
