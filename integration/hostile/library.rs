//! A root file system that tries to lead reads and writes out of itself.
//!
//! Every component of every path that is read or written is replaced in turn
//! by links, loops, fifos, devices, folders and files. Around the root lies a
//! tree of the same shape, full of canaries: nothing of it may be read,
//! changed or shown, whatever reading, applying, listing and removing answer.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use prism_sysext::base::Base;
use prism_sysext::io::root::RootDir;
use prism_sysext::place::{
    FileSource, Options, PlacedFile, PlacedKind, Placements, apply, list, remove,
};
use prism_sysext::systemd::kind::ExtensionKind;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use sha2::{Digest, Sha256};

use crate::harness::snapshot::snapshot;

/// In every file outside.
const CANARY: &str = "CANARY";

/// Nothing here takes longer than a moment; a hang takes forever.
const PATIENCE: Duration = Duration::from_secs(60);

const IMAGE: &str = "var/lib/extensions/tools.raw";
const CERTIFICATE: &str = "etc/verity.d/tools.crt";
const DROP_IN: &str = "etc/systemd/system/systemd-sysext.service.d/10-policy.conf";
const LINK: &str = "etc/systemd/system/sysinit.target.wants/systemd-sysext.service";
const RECORD: &str = "var/lib/prism-sysext/applied.json";

/// The files of a base; their parents are the folders that are replaced.
const FILES: &[(&str, &str)] = &[
    ("etc/os-release", "ID=@\nVERSION_ID=1\n"),
    ("usr/lib/os-release", "ID=@\nVERSION_ID=2\n"),
    ("usr/lib/systemd/libsystemd-shared-255.so", "@"),
    ("usr/bin/systemd-sysext", "@"),
    ("usr/lib/systemd/systemd", "@"),
    ("usr/bin/sh", "@"),
    (
        "var/lib/dpkg/status",
        "Package: systemd\nStatus: install ok installed\nVersion: 255.1-@\n",
    ),
    (
        "usr/lib/systemd/system/systemd-sysext.service",
        "[Service]\nExecStart=systemd-sysext @\n",
    ),
    (
        "usr/lib/systemd/system/systemd-confext.service",
        "[Service]\nExecStart=x @\n",
    ),
    (
        "lib/systemd/system/systemd-sysext.service",
        "[Service]\nExecStart=systemd-sysext @\n",
    ),
    (
        "etc/systemd/system/systemd-sysext.service.d/50-x.conf",
        "[Service]\nExecStart=@\n",
    ),
    ("etc/extensions/old.raw", "@"),
    ("run/extensions/old.raw", "@"),
    ("var/lib/extensions/old.raw", "@"),
    ("var/lib/confexts/old.raw", "@"),
    ("etc/verity.d/old.crt", "@"),
    ("usr/lib/verity.d/other.crt", "@"),
    ("boot/config-6.6.1", "CONFIG_EROFS_FS=y\n# @\n"),
    ("usr/lib/modules/6.6.1/config", "CONFIG_EROFS_FS=y\n# @\n"),
    ("etc/fstab", "overlay /usr overlay @ 0 0\n"),
    ("etc/selinux/config", "SELINUX=enforcing\n# @\n"),
];

/// What takes the place of a component.
#[derive(Debug, Clone, Copy)]
enum Trap {
    AbsoluteLink,
    ClimbingLink,
    HostLink,
    Loop,
    Fifo,
    Device,
    Folder,
    File,
}

fn write_base(root: &Path, content: &str) {
    for (path, text) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace('@', content)).unwrap();
    }
}

fn placements() -> Placements {
    let file = |kind, path: &str| PlacedFile {
        kind,
        extensions: vec!["tools".to_owned()],
        destination: format!("/{path}"),
        source: FileSource::Bytes(b"ours".to_vec()),
        mode: 0o644,
        sha256: Sha256::digest(b"ours").into(),
    };
    Placements {
        files: vec![
            file(PlacedKind::Image, IMAGE),
            file(PlacedKind::Certificate, CERTIFICATE),
            file(PlacedKind::DropIn, DROP_IN),
        ],
        enable: vec![ExtensionKind::Sysext],
        tool: "test".to_owned(),
    }
}

/// All paths that are read or written, with all folders on the way.
fn components() -> Vec<PathBuf> {
    let written = [IMAGE, CERTIFICATE, DROP_IN, LINK, RECORD];
    let mut all: Vec<PathBuf> = FILES
        .iter()
        .map(|(path, _)| *path)
        .chain(written)
        .flat_map(|path| Path::new(path).ancestors().map(Path::to_owned))
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    all.sort();
    all.dedup();
    all
}

fn set(trap: Trap, root: &Path, outside: &Path, component: &Path) -> bool {
    let path = root.join(component);
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path).unwrap(),
        Ok(_) => fs::remove_file(&path).unwrap(),
        Err(_) => fs::create_dir_all(path.parent().unwrap()).unwrap(),
    }
    let twin = outside.join(component);
    match trap {
        Trap::AbsoluteLink => symlink(&twin, &path).unwrap(),
        Trap::ClimbingLink => {
            let climb = "../".repeat(24) + twin.to_str().unwrap().trim_start_matches('/');
            symlink(climb, &path).unwrap();
        }
        // Inside the root this leads to the component itself, or around in circles.
        Trap::HostLink => symlink(Path::new("/").join(component), &path).unwrap(),
        Trap::Loop => symlink(path.file_name().unwrap(), &path).unwrap(),
        Trap::Fifo => {
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        }
        Trap::Device => {
            // /dev/zero, which never ends.
            let (kind, device) = (FileType::CharacterDevice, rustix::fs::makedev(1, 5));
            let mode = Mode::from_raw_mode(0o666);
            if rustix::fs::mknodat(CWD, &path, kind, mode, device).is_err() {
                return false;
            }
        }
        Trap::Folder => fs::create_dir(&path).unwrap(),
        Trap::File => fs::write(&path, "x").unwrap(),
    }
    true
}

fn files_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap);
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.into_path())
}

/// Marks all files as long unread, so that even `relatime` shows the next read.
fn mark_unread(outside: &Path) {
    for path in files_in(outside) {
        let time = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        let times = Timestamps {
            last_access: time(1),
            last_modification: time(2),
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    }
}

/// All commands in turn; what they say, and whether the last word of an apply was kept.
fn exercise(path: &Path) -> String {
    let root = RootDir::open(path).unwrap();
    let mut said = String::new();
    let mut say = |text: String| {
        said.push_str(&text);
        said.push('\n');
    };
    for force in [false, true] {
        let options = Options {
            force,
            ..Options::default()
        };
        match Base::read(&root) {
            Ok(base) => {
                say(serde_json::to_string(&base).unwrap());
                say(format!("{base:?}"));
                say(serde_json::to_string(&list(&root, &base)).unwrap());
            }
            Err(finding) => say(finding.to_string()),
        }
        match apply(&root, &placements(), &options) {
            Ok(applied) => {
                say(serde_json::to_string(&applied).unwrap());
                let read = root.read(&Path::new("/").join(IMAGE), 100).unwrap();
                assert_eq!(
                    read.as_deref(),
                    Some(b"ours".as_slice()),
                    "done, but not there"
                );
            }
            Err(findings) => say(findings.to_string()),
        }
        if let Ok(base) = Base::read(&root) {
            say(serde_json::to_string(&list(&root, &base)).unwrap());
        }
        match remove(&root, "tools", &options) {
            Ok(removed) => say(serde_json::to_string(&removed).unwrap()),
            Err(findings) => say(findings.to_string()),
        }
    }
    said
}

/// In memory where that can be: thousands of files are synced, which disks take their time for.
fn folder(trap: Trap) -> tempfile::TempDir {
    match trap {
        // Memory is often mounted `nodev`, where opening a device cannot do harm.
        Trap::Device => tempfile::tempdir().unwrap(),
        _ => tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap(),
    }
}

fn try_out(trap: Trap, component: &Path, applied_before: bool) -> bool {
    let dir = folder(trap);
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    write_base(&root, "inside");
    write_base(&outside, CANARY);
    for path in [IMAGE, CERTIFICATE, DROP_IN, LINK] {
        let path = outside.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, CANARY).unwrap();
    }
    fs::create_dir_all(outside.join(RECORD).parent().unwrap()).unwrap();
    let json =
        format!(r#"{{"schemaVersion":1,"tool":"{CANARY}","files":[],"links":[],"folders":[]}}"#);
    fs::write(outside.join(RECORD), json).unwrap();
    if applied_before {
        let opened = RootDir::open(&root).unwrap();
        apply(&opened, &placements(), &Options::default()).unwrap();
    }
    if !set(trap, &root, &outside, component) {
        return false;
    }
    mark_unread(&outside);
    let before = snapshot(&outside);
    mark_unread(&outside);
    let case = format!(
        "{trap:?} at {} (applied before: {applied_before})",
        component.display()
    );

    let (sender, receiver) = mpsc::channel();
    let place = root.clone();
    let worker = std::thread::spawn(move || sender.send(exercise(&place)));
    let said = match receiver.recv_timeout(PATIENCE) {
        Ok(said) => said,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {case}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("panics: {case}"),
    };
    worker.join().unwrap().unwrap();

    for path in files_in(&outside) {
        assert_eq!(
            path.metadata().unwrap().atime(),
            1,
            "{} was read: {case}",
            path.display()
        );
    }
    assert_eq!(snapshot(&outside), before, "{case}");
    // The folder's own name is in links, so the word is looked for beside it.
    assert!(!said.contains(CANARY), "{case}: {said}");
    for path in files_in(&root) {
        let bytes = fs::read(&path).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains(CANARY),
            "copied: {case}"
        );
    }
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}: {case}");
    let left: Vec<_> = files_in(&root)
        .filter(|path| {
            path.extension()
                .is_some_and(|suffix| suffix == "tmp" || suffix == "link")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}: {case}");
    true
}

fn try_all(trap: Trap) {
    let mut components = components();
    if matches!(trap, Trap::Device) {
        // As a folder it is refused unopened, like a fifo; a disk takes long for all of them.
        let leaves = components.clone();
        components.retain(|path| {
            !leaves
                .iter()
                .any(|leaf| leaf != path && leaf.starts_with(path))
        });
    }
    for component in components {
        for applied_before in [false, true] {
            if !try_out(trap, &component, applied_before) {
                assert!(std::env::var_os("CI").is_none(), "cannot make devices");
                eprintln!("SKIPPED {trap:?}: this user cannot make it");
                return;
            }
        }
    }
}

#[test]
fn absolute_links_do_not_lead_out() {
    try_all(Trap::AbsoluteLink);
}

#[test]
fn climbing_links_do_not_lead_out() {
    try_all(Trap::ClimbingLink);
}

#[test]
fn links_to_themselves_end() {
    try_all(Trap::HostLink);
    try_all(Trap::Loop);
}

#[test]
fn fifos_do_not_block() {
    try_all(Trap::Fifo);
}

#[test]
fn devices_are_not_opened() {
    try_all(Trap::Device);
}

#[test]
fn folders_and_files_in_the_wrong_place_are_told() {
    try_all(Trap::Folder);
    try_all(Trap::File);
}

/// The traps must be real: the same links do lead out for one who just follows them.
#[test]
fn the_traps_would_catch_a_careless_reader() {
    for trap in [Trap::AbsoluteLink, Trap::ClimbingLink] {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        write_base(&root, "inside");
        write_base(&outside, CANARY);
        for component in ["etc", "etc/os-release"] {
            set(trap, &root, &outside, Path::new(component));
            let text = fs::read_to_string(root.join("etc/os-release")).unwrap();
            assert!(text.contains(CANARY), "{trap:?}");
            fs::remove_file(root.join(component)).unwrap();
            fs::create_dir_all(root.join("etc")).unwrap();
        }
    }
}
