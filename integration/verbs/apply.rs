//! `apply` and `list` on a root file system, from outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::nobody::{as_nobody, give_to_nobody};
use crate::harness::placing;
use crate::harness::placing::{CERTIFICATE, DROP_IN, IMAGE, RECORD};
use crate::harness::said::Said;
use crate::harness::snapshot::assert_same;
use crate::harness::workspace::PROGRAM;

fn all(action: &str) -> Vec<String> {
    [CERTIFICATE, DROP_IN, IMAGE]
        .map(|path| format!("{path} {action}"))
        .into()
}

#[test]
fn a_second_apply_changes_nothing() {
    let workspace = placing::workspace();
    let first = workspace.apply("");
    assert_eq!(first.actions(), all("placed"));
    assert_eq!(first.succeeded().json()["applied"]["service"], "placed");
    assert_eq!(first.succeeded().json()["applied"]["ownership"], "root");
    let before = workspace.rootfs_snapshot();
    let second = workspace.apply("");
    assert_eq!(second.actions(), all("unchanged"));
    assert_eq!(second.succeeded().json()["applied"]["service"], "unchanged");
    assert_eq!(before, workspace.rootfs_snapshot());
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["077", "000"] {
        let workspace = placing::workspace();
        let before = workspace.rootfs_snapshot();
        let script = format!("umask {umask}; exec \"$0\" apply --rootfs ../rootfs");
        let mut shell = workspace.other("sh");
        Said::of(shell.args(["-c", &script, PROGRAM])).succeeded();
        for (path, entry) in workspace.rootfs_snapshot() {
            if before.contains_key(&path) {
                continue;
            }
            let expected = match entry.mode & 0o170_000 {
                0o040_000 => 0o755,
                0o100_000 => 0o644,
                _ => continue,
            };
            assert_eq!(
                entry.mode & 0o7777,
                expected,
                "umask {umask}: {}",
                path.display()
            );
        }
    }
}

#[test]
fn what_others_placed_is_only_replaced_by_force() {
    for destination in [CERTIFICATE, DROP_IN, IMAGE] {
        for kind in ["file", "link", "dangling link", "folder"] {
            let workspace = placing::workspace();
            let at = workspace.inside(destination);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            match kind {
                "file" => fs::write(&at, "foreign").unwrap(),
                "link" => symlink("/etc/os-release", &at).unwrap(),
                "dangling link" => symlink("/nowhere", &at).unwrap(),
                _ => fs::create_dir_all(at.join("usr")).unwrap(),
            }
            let before = workspace.rootfs_snapshot();
            workspace.apply("").is_refused("would-overwrite");
            assert_same(&before, &workspace.rootfs_snapshot());
            if kind == "folder" {
                workspace.apply("--force").is_refused("would-overwrite");
                assert_same(&before, &workspace.rootfs_snapshot());
                continue;
            }
            let forced = workspace.apply("--force").actions();
            assert!(
                forced.contains(&format!("{destination} replaced")),
                "{kind}"
            );
            assert!(fs::symlink_metadata(&at).unwrap().is_file());
            assert!(!workspace.inside("/nowhere").exists());
            let release = fs::read_to_string(workspace.inside("/usr/lib/os-release")).unwrap();
            assert!(release.contains("ID="));
        }
    }
}

#[test]
fn what_was_there_with_the_same_bytes_is_not_ours() {
    let workspace = placing::workspace();
    let certificate = fs::read(workspace.path("keys/cert.crt")).unwrap();
    workspace.apply("").succeeded();
    let placed = fs::read(workspace.inside(CERTIFICATE)).unwrap();
    workspace.remove("kubernetes", "").succeeded();
    assert_eq!(certificate, placed);
    workspace.write_inside(CERTIFICATE, placed);
    let before = workspace.rootfs_snapshot();
    let actions = workspace.apply("").actions();
    assert!(actions.contains(&format!("{CERTIFICATE} unchanged")));
    workspace.apply("").succeeded();
    workspace.remove("kubernetes", "").succeeded();
    assert_same(&before, &workspace.rootfs_snapshot());
}

#[test]
fn an_image_that_is_no_longer_listed_is_taken_out() {
    let workspace = placing::workspace();
    workspace.list_extensions(&["kubernetes", "other"]);
    workspace.apply("").succeeded();
    assert!(workspace.inside("/var/lib/extensions/other.raw").exists());
    workspace.list_extensions(&["kubernetes"]);
    let ran = workspace.apply("");
    let mut expected = all("unchanged");
    expected.push("/var/lib/extensions/other.raw removed".into());
    assert_eq!(ran.actions(), expected);
    assert!(!workspace.inside("/var/lib/extensions/other.raw").exists());
    assert_eq!(workspace.record()["files"].as_array().unwrap().len(), 3);
}

#[test]
fn an_apply_that_replaces_its_own_file_needs_no_force() {
    let workspace = placing::workspace();
    workspace.apply("").succeeded();
    workspace.change_content("#!/bin/sh\necho new\n");
    let actions = workspace.apply("").actions();
    assert!(actions.contains(&format!("{IMAGE} replaced")));
    // Unless somebody else has changed it.
    fs::write(workspace.inside(IMAGE), "changed").unwrap();
    workspace.apply("").is_refused("would-overwrite");
}

#[test]
fn ordinary_users_write_to_their_own_only() {
    let workspace = placing::workspace();
    give_to_nobody(&workspace.path("keys"));
    give_to_nobody(&workspace.path("project"));
    let run = |args: &str| {
        let command = workspace.command(args.split_whitespace());
        Some(Said::of(&mut as_nobody(&command)?))
    };
    let apply = "apply --rootfs ../rootfs --output json";
    let before = workspace.rootfs_snapshot();
    let Some(refused) = run(apply) else {
        return;
    };
    refused.is_refused("rootfs-not-owned");
    assert_same(&before, &workspace.rootfs_snapshot());
    give_to_nobody(&workspace.rootfs());
    let before = workspace.rootfs_snapshot();
    let ran = run(apply).unwrap();
    assert_eq!(ran.succeeded().json()["applied"]["ownership"], "caller");
    run("remove --rootfs ../rootfs kubernetes")
        .unwrap()
        .succeeded();
    assert_same(&before, &workspace.rootfs_snapshot());
    // A folder of somebody else inside it.
    fs::create_dir_all(workspace.inside("/var/lib/extensions")).unwrap();
    let before = workspace.rootfs_snapshot();
    run(apply).unwrap().is_refused("rootfs-io");
    assert_same(&before, &workspace.rootfs_snapshot());
}

#[test]
fn root_gives_all_to_root() {
    use std::os::unix::fs::MetadataExt;
    let workspace = placing::workspace();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    // A folder whose group is inherited.
    fs::create_dir_all(workspace.inside("/var/lib")).unwrap();
    std::os::unix::fs::chown(workspace.inside("/var/lib"), Some(7), Some(7)).unwrap();
    let setgid = fs::Permissions::from_mode(0o2755);
    fs::set_permissions(workspace.inside("/var/lib"), setgid).unwrap();
    workspace.apply("").succeeded();
    for path in [CERTIFICATE, DROP_IN, IMAGE, RECORD, "/var/lib/extensions"] {
        let metadata = fs::metadata(workspace.inside(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path}");
    }
}

#[test]
fn what_the_base_has_already_is_judged_as_well() {
    let workspace = placing::workspace();
    workspace.write_inside("/var/lib/extensions/broken.raw", "garbage");
    let before = workspace.rootfs_snapshot();
    let ran = workspace.apply("");
    assert_eq!(ran.errors(), ["image-unreadable", "merge-blocked"]);
    assert!(ran.err.contains("broken.raw"), "{}", ran.err);
    assert_same(&before, &workspace.rootfs_snapshot());

    let workspace = placing::workspace();
    workspace.write_inside("/var/lib/extensions/folder/usr/lib/os-release", "ID=x");
    let before = workspace.rootfs_snapshot();
    assert_eq!(
        workspace.apply("").errors(),
        ["os-release-inside", "release-file-missing", "merge-blocked"]
    );
    assert_same(&before, &workspace.rootfs_snapshot());

    let workspace = placing::workspace();
    // Without a release file a folder is only left out.
    fs::create_dir_all(workspace.inside("/var/lib/extensions/folder/usr")).unwrap();
    workspace.apply("").succeeded();

    let workspace = placing::workspace();
    let other = placing::workspace();
    other.apply("").succeeded();
    let image = fs::read(other.inside(IMAGE)).unwrap();
    workspace.write_inside("/etc/extensions/kubernetes.raw", image);
    let before = workspace.rootfs_snapshot();
    assert!(workspace.apply("").errors().contains(&"shadowed"));
    assert_same(&before, &workspace.rootfs_snapshot());
}
