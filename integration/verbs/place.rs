//! Applies to root file systems in folders, read back with plain `std::fs`.
//!
//! Tests that need mounts, another user or another umask run once more inside `unshare`,
//! `setpriv` or `sh`, so that nothing outside changes.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use prism_sysext::base::Base;
use prism_sysext::finding::Findings;
use prism_sysext::io::root::{Ownership, RootDir};
use prism_sysext::place::{
    Applied, FileSource, Options, Outcome, PlacedFile, PlacedKind, Placements, apply, list, remove,
};
use prism_sysext::systemd::kind::ExtensionKind;
use sha2::{Digest, Sha256};

use crate::harness::again;
use crate::harness::snapshot::{assert_same, snapshot};

const IMAGE: &str = "/var/lib/extensions/tools.raw";
const CERTIFICATE: &str = "/etc/verity.d/tools.crt";
const DROP_IN: &str = "/etc/systemd/system/systemd-sysext.service.d/10-policy.conf";
const LINK: &str = "/etc/systemd/system/sysinit.target.wants/systemd-sysext.service";
const UNIT: &str = "/usr/lib/systemd/system/systemd-sysext.service";
const RECORD: &str = "/var/lib/prism-sysext/applied.json";

fn file(kind: PlacedKind, extensions: &[&str], destination: &str, bytes: &[u8]) -> PlacedFile {
    PlacedFile {
        kind,
        extensions: extensions.iter().map(|name| (*name).to_owned()).collect(),
        destination: destination.to_owned(),
        source: FileSource::Bytes(bytes.to_vec()),
        mode: 0o644,
        sha256: Sha256::digest(bytes).into(),
    }
}

fn placements() -> Placements {
    Placements {
        files: vec![
            file(PlacedKind::Image, &["tools"], IMAGE, b"image"),
            file(
                PlacedKind::Certificate,
                &["tools"],
                CERTIFICATE,
                b"certificate",
            ),
            file(PlacedKind::DropIn, &[], DROP_IN, b"[Service]\n"),
        ],
        enable: vec![ExtensionKind::Sysext],
        tool: "prism-sysext test".to_owned(),
    }
}

fn rootfs(path: &Path) {
    fs::create_dir_all(path.join("usr/lib/systemd/system")).unwrap();
    fs::create_dir_all(path.join("etc")).unwrap();
    fs::write(path.join("usr/lib/os-release"), "ID=test\n").unwrap();
    fs::write(
        at(path, UNIT),
        "[Service]\nExecStart=systemd-sysext refresh\n",
    )
    .unwrap();
}

fn at(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn run(root: &Path, placements: &Placements) -> Result<Applied, Findings> {
    apply(
        &RootDir::open(root).unwrap(),
        placements,
        &Options::default(),
    )
}

fn forced() -> Options<'static> {
    Options {
        force: true,
        ..Options::default()
    }
}

fn ids(findings: &Findings) -> Vec<&'static str> {
    findings.0.iter().map(|finding| finding.id).collect()
}

/// A private mount namespace, as root or as root of a user namespace.
fn namespace() -> Vec<&'static str> {
    match rustix::process::geteuid().is_root() {
        true => vec!["unshare", "--mount"],
        false => vec!["unshare", "--mount", "--map-root-user"],
    }
}

fn mount(arguments: &[&str]) {
    assert!(
        Command::new("mount")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn apply_places_enables_and_records_and_is_idempotent() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    let applied = run(root, &placements()).unwrap();
    assert!(
        applied
            .files
            .iter()
            .all(|file| file.outcome == Outcome::Created)
    );
    let order: Vec<&str> = applied
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(order, [CERTIFICATE, DROP_IN, IMAGE]);
    assert_eq!(fs::read(at(root, IMAGE)).unwrap(), b"image");
    assert_eq!(fs::read_link(at(root, LINK)).unwrap(), Path::new(UNIT));
    let record = fs::read_to_string(at(root, RECORD)).unwrap();
    assert!(!record.contains(root.to_str().unwrap()));

    let before = snapshot(root);
    let times = |path: &str| at(root, path).symlink_metadata().unwrap().ctime_nsec();
    let ctimes = [IMAGE, CERTIFICATE, LINK, RECORD].map(times);
    let again = run(root, &placements()).unwrap();
    assert!(
        again
            .files
            .iter()
            .all(|file| file.outcome == Outcome::Unchanged)
    );
    assert!(
        again
            .links
            .iter()
            .all(|link| link.outcome == Outcome::Unchanged)
    );
    assert_same(&before, &snapshot(root));
    assert_eq!([IMAGE, CERTIFICATE, LINK, RECORD].map(times), ctimes);

    let opened = RootDir::open(root).unwrap();
    let listing = list(&opened, &Base::read(&opened).unwrap());
    assert!(listing.extensions[0].ours && listing.service.enabled);
    serde_json::to_string(&listing).unwrap();
}

#[test]
fn remove_leaves_the_root_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    let before = snapshot(root);
    run(root, &placements()).unwrap();
    let opened = RootDir::open(root).unwrap();
    let removed = remove(&opened, "tools", &Options::default()).unwrap();
    assert_eq!(removed.links, [LINK]);
    assert_eq!(removed.files, [IMAGE, DROP_IN, CERTIFICATE]);
    assert_same(&before, &snapshot(root));
    let error = remove(&opened, "tools", &Options::default()).unwrap_err();
    assert_eq!(ids(&error), ["not-applied"]);
}

#[test]
fn what_others_need_stays() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    let mut both = placements();
    both.files[1].extensions.push("more".to_owned());
    let more = "/var/lib/extensions/more.raw";
    both.files
        .push(file(PlacedKind::Image, &["more"], more, b"more"));
    run(root, &both).unwrap();
    let opened = RootDir::open(root).unwrap();
    let removed = remove(&opened, "tools", &Options::default()).unwrap();
    assert_eq!(removed.files, [IMAGE]);
    assert_eq!(removed.kept, [CERTIFICATE]);
    for path in [CERTIFICATE, DROP_IN, LINK, more] {
        assert!(at(root, path).symlink_metadata().is_ok(), "{path}");
    }
    let removed = remove(&opened, "more", &Options::default()).unwrap();
    assert_eq!((removed.links.len(), removed.files.len()), (1, 3));
    assert!(!at(root, RECORD).exists());
}

#[test]
fn foreign_and_changed_files_are_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    fs::create_dir_all(at(root, "/var/lib/extensions")).unwrap();
    fs::write(at(root, IMAGE), "theirs").unwrap();
    let before = snapshot(root);
    let error = run(root, &placements()).unwrap_err();
    assert_eq!(ids(&error), ["would-overwrite"]);
    assert!(error.to_string().contains("was not placed by prism-sysext"));
    assert_same(&before, &snapshot(root));

    let opened = RootDir::open(root).unwrap();
    let applied = apply(&opened, &placements(), &forced()).unwrap();
    assert_eq!(applied.files[2].outcome, Outcome::Replaced);
    assert_eq!(fs::read(at(root, IMAGE)).unwrap(), b"image");

    // Ours may be replaced by a newer one, but not after somebody changed it.
    let mut newer = placements();
    newer.files[0] = file(PlacedKind::Image, &["tools"], IMAGE, b"image 2");
    assert_eq!(
        run(root, &newer).unwrap().files[2].outcome,
        Outcome::Replaced
    );
    fs::write(at(root, IMAGE), "edited").unwrap();
    let error = run(root, &placements()).unwrap_err();
    assert!(error.to_string().contains("was changed since"));
    let error = remove(&opened, "tools", &Options::default()).unwrap_err();
    assert_eq!(ids(&error), ["changed-since"]);
    remove(&opened, "tools", &forced()).unwrap();
    assert!(!at(root, IMAGE).exists());
}

#[test]
fn the_same_file_placed_by_hand_is_not_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    fs::create_dir_all(at(root, "/etc/verity.d")).unwrap();
    fs::write(at(root, CERTIFICATE), "certificate").unwrap();
    fs::create_dir_all(at(root, LINK).parent().unwrap()).unwrap();
    symlink(UNIT, at(root, LINK)).unwrap();
    let applied = run(root, &placements()).unwrap();
    assert_eq!(applied.files[0].outcome, Outcome::Unchanged);
    assert_eq!(applied.links[0].outcome, Outcome::Unchanged);
    remove(&RootDir::open(root).unwrap(), "tools", &Options::default()).unwrap();
    assert!(at(root, CERTIFICATE).exists() && at(root, LINK).symlink_metadata().is_ok());
}

#[test]
fn files_no_longer_listed_go_and_changed_ones_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    run(root, &placements()).unwrap();
    let mut fewer = placements();
    fewer.files.truncate(1);
    fewer.enable.clear();
    fs::write(at(root, DROP_IN), "changed").unwrap();
    let before = snapshot(root);
    assert_eq!(ids(&run(root, &fewer).unwrap_err()), ["changed-since"]);
    assert_same(&before, &snapshot(root));
    let opened = RootDir::open(root).unwrap();
    let applied = apply(&opened, &fewer, &forced()).unwrap();
    assert_eq!(applied.removed, [DROP_IN, CERTIFICATE]);
    assert!(at(root, IMAGE).exists() && !at(root, DROP_IN).exists());
    // Not to enable is to leave it; that the link is ours is not forgotten.
    assert!(!at(root, CERTIFICATE).exists() && at(root, LINK).symlink_metadata().is_ok());
    let removed = remove(&opened, "tools", &Options::default()).unwrap();
    assert_eq!(
        (removed.links, removed.files),
        (vec![LINK.to_owned()], vec![IMAGE.to_owned()])
    );
}

#[test]
fn units_that_are_missing_masked_or_blocked_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    fs::remove_file(at(root, UNIT)).unwrap();
    let before = snapshot(root);
    assert_eq!(
        ids(&run(root, &placements()).unwrap_err()),
        ["unit-missing"]
    );
    assert_same(&before, &snapshot(root));
    rootfs(root);
    fs::create_dir_all(at(root, LINK).parent().unwrap()).unwrap();
    symlink("/dev/null", at(root, LINK)).unwrap();
    assert_eq!(
        ids(&run(root, &placements()).unwrap_err()),
        ["would-overwrite"]
    );
    let mask = "/etc/systemd/system/systemd-sysext.service";
    symlink("/dev/null", at(root, mask)).unwrap();
    assert_eq!(ids(&run(root, &placements()).unwrap_err()), ["unit-masked"]);
    fs::remove_file(at(root, mask)).unwrap();
    apply(&RootDir::open(root).unwrap(), &placements(), &forced()).unwrap();
    assert_eq!(fs::read_link(at(root, LINK)).unwrap(), Path::new(UNIT));
}

#[test]
fn the_link_is_the_one_that_systemctl_makes() {
    let ours = tempfile::tempdir().unwrap();
    let theirs = tempfile::tempdir().unwrap();
    for root in [ours.path(), theirs.path()] {
        rootfs(root);
        fs::write(
            at(root, UNIT),
            "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=sysinit.target\n",
        )
        .unwrap();
    }
    run(ours.path(), &placements()).unwrap();
    let root = format!("--root={}", theirs.path().display());
    let status = Command::new("systemctl")
        .args([&root, "enable", "systemd-sysext.service"])
        .status();
    let Ok(status) = status else {
        assert!(std::env::var_os("CI").is_none(), "systemctl is missing");
        eprintln!("SKIPPED the_link_is_the_one_that_systemctl_makes: systemctl is missing");
        return;
    };
    assert!(status.success());
    let link = |root: &Path| fs::read_link(at(root, LINK)).unwrap();
    assert_eq!(link(ours.path()), link(theirs.path()));
}

#[test]
fn a_source_that_changed_since_the_check_is_not_placed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    let before = snapshot(root);
    let mut wrong = placements();
    wrong.files[0].sha256 = [0; 32];
    let error = run(root, &wrong).unwrap_err();
    assert!(
        error.to_string().contains("changed since it was checked"),
        "{error}"
    );
    assert_same(&before, &snapshot(root));
}

#[test]
fn bad_destinations_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    let before = snapshot(root);
    let mut bad = placements();
    bad.files[0].destination = "/etc/extensions/../passwd.raw".to_owned();
    bad.files[1].destination = DROP_IN.to_owned();
    let found = ids(&run(root, &bad).unwrap_err());
    assert_eq!(found, ["bad-destination", "bad-destination"]);
    assert_same(&before, &snapshot(root));
}

#[test]
fn an_apply_that_was_killed_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    rootfs(root);
    run(root, &placements()).unwrap();
    // What is there between two commits: old files, and a record that lists old and new.
    let old = fs::read_to_string(at(root, RECORD)).unwrap();
    let mut newer = placements();
    newer.files[0] = file(PlacedKind::Image, &["tools"], IMAGE, b"image 2");
    run(root, &newer).unwrap();
    let new = fs::read_to_string(at(root, RECORD)).unwrap();
    let mut both: serde_json::Value = serde_json::from_str(&new).unwrap();
    let old: serde_json::Value = serde_json::from_str(&old).unwrap();
    let files = old["files"].as_array().unwrap().clone();
    both["files"].as_array_mut().unwrap().extend(files);
    fs::write(at(root, RECORD), both.to_string()).unwrap();
    fs::write(at(root, IMAGE), b"image").unwrap();
    run(root, &newer).unwrap();
    assert_eq!(fs::read_to_string(at(root, RECORD)).unwrap(), new);
    assert_eq!(fs::read(at(root, IMAGE)).unwrap(), b"image 2");
    for image in [b"image".as_slice(), b"image 2"] {
        run(root, &newer).unwrap();
        fs::write(at(root, RECORD), both.to_string()).unwrap();
        fs::write(at(root, IMAGE), image).unwrap();
        let opened = RootDir::open(root).unwrap();
        let removed = remove(&opened, "tools", &Options::default()).unwrap();
        assert_eq!(removed.files.len(), 3);
        assert!(!at(root, IMAGE).exists());
    }
}

#[test]
fn a_full_disk_is_found_before_anything_is_written() {
    let Some(folder) = again::below(
        a_full_disk_is_found_before_anything_is_written,
        &namespace(),
    ) else {
        return;
    };
    let root = folder.join("root");
    rootfs(&root);
    fs::create_dir_all(root.join("var/lib")).unwrap();
    let var = root.join("var");
    mount(&[
        "-t",
        "tmpfs",
        "-o",
        "size=128k",
        "tmpfs",
        var.to_str().unwrap(),
    ]);
    let before = snapshot(&root);
    let mut big = placements();
    big.files[0] = file(PlacedKind::Image, &["tools"], IMAGE, &vec![7; 1024 * 1024]);
    let error = run(&root, &big).unwrap_err();
    assert_eq!(ids(&error), ["no-room"]);
    assert!(error.to_string().contains("var/lib/extensions/tools.raw"));
    assert_same(&before, &snapshot(&root));
}

#[test]
fn a_disk_that_fills_up_midway_loses_nothing() {
    let Some(folder) = again::below(a_disk_that_fills_up_midway_loses_nothing, &namespace()) else {
        return;
    };
    let root = folder.join("root");
    rootfs(&root);
    run(&root, &placements()).unwrap();
    // The check counts bytes; running out of inodes shows only when writing.
    let mut newer = placements();
    newer.files[0] = file(PlacedKind::Image, &["tools"], IMAGE, b"image 2");
    for number in 0..8 {
        let path = format!("/run/extensions/n{number}.raw");
        newer
            .files
            .push(file(PlacedKind::Image, &["n"], &path, b"n"));
    }
    fs::create_dir_all(root.join("run")).unwrap();
    let run_folder = root.join("run");
    mount(&[
        "-t",
        "tmpfs",
        "-o",
        "nr_inodes=6",
        "tmpfs",
        run_folder.to_str().unwrap(),
    ]);
    let before = snapshot(&root);
    let error = run(&root, &newer).unwrap_err().to_string();
    assert!(
        error.contains("No space left") && error.contains("/run/extensions/n"),
        "{error}"
    );
    assert_same(&before, &snapshot(&root));
}

#[test]
fn a_read_only_root_is_one_clear_message() {
    let Some(folder) = again::below(a_read_only_root_is_one_clear_message, &namespace()) else {
        return;
    };
    let root = folder.join("root");
    rootfs(&root);
    let path = root.to_str().unwrap();
    mount(&["--bind", path, path]);
    mount(&["-o", "remount,bind,ro", path]);
    let error = run(&root, &placements()).unwrap_err().to_string();
    assert!(
        error.contains("read-only") && error.contains("/etc/verity.d"),
        "{error}"
    );
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let Some(folder) = again::below(
        modes_do_not_depend_on_the_umask,
        &["sh", "-c", "umask 0077; exec \"$@\"", "sh"],
    ) else {
        return;
    };
    let root = folder.join("root");
    rootfs(&root);
    run(&root, &placements()).unwrap();
    let mode = |path: &str| at(&root, path).metadata().unwrap().mode() & 0o7777;
    for path in [IMAGE, CERTIFICATE, DROP_IN, RECORD] {
        assert_eq!(mode(path), 0o644, "{path}");
    }
    for path in [
        "/var",
        "/var/lib/extensions",
        "/etc/verity.d",
        "/var/lib/prism-sysext",
    ] {
        assert_eq!(mode(path), 0o755, "{path}");
    }
}

#[test]
fn an_ordinary_user_writes_only_into_what_is_theirs() {
    if !again::is_second() && !rustix::process::geteuid().is_root() {
        // Already an ordinary user: `/usr` is root's.
        assert!(
            RootDir::open(Path::new("/usr"))
                .unwrap()
                .ownership()
                .is_err()
        );
        return;
    }
    let Some(folder) = again::as_nobody(an_ordinary_user_writes_only_into_what_is_theirs) else {
        return;
    };
    // The folder itself is root's.
    let opened = RootDir::open(&folder).unwrap();
    let error = apply(&opened, &placements(), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("belongs to user 0"), "{error}");
    assert!(opened.make_dirs(Path::new("/x")).is_err());
    let own = tempfile::tempdir().unwrap();
    rootfs(own.path());
    let applied = run(own.path(), &placements()).unwrap();
    assert_eq!(applied.ownership, Ownership::Caller);
    assert_eq!(at(own.path(), IMAGE).metadata().unwrap().uid(), 65534);
}

#[test]
fn root_owns_what_root_places() {
    let dir = tempfile::tempdir().unwrap();
    rootfs(dir.path());
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED root_owns_what_root_places: not root");
        return;
    }
    std::os::unix::fs::chown(dir.path(), Some(1234), Some(1234)).unwrap();
    let applied = run(dir.path(), &placements()).unwrap();
    assert_eq!(applied.ownership, Ownership::Root);
    for path in [IMAGE, LINK, RECORD, "/var/lib/extensions"] {
        let metadata = at(dir.path(), path).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path}");
    }
}
