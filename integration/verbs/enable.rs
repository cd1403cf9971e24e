//! The service that merges, enabled as `systemctl` does it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::placing::{LINK, UNIT};
use crate::harness::snapshot::{Snapshot, assert_same, copy, snapshot};
use crate::harness::{placing, tools};

/// The wants folder after the real `systemctl enable`.
fn enabled_by_systemctl(rootfs: &Path) {
    let root = format!("--root={}", rootfs.display());
    let output = Command::new("systemctl")
        .args([&root, "enable", "systemd-sysext.service"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_service_is_enabled_as_systemctl_does() {
    if !tools::have(&["systemctl"]) {
        return;
    }
    for place in ["usr/lib", "lib, merged", "lib, split", "etc"] {
        let workspace = placing::workspace();
        let unit = fs::read(workspace.inside(UNIT)).unwrap();
        match place {
            "lib, merged" => workspace.link_inside("/lib", "usr/lib"),
            "lib, split" => {
                fs::remove_file(workspace.inside(UNIT)).unwrap();
                workspace.write_inside("/lib/systemd/system/systemd-sysext.service", unit);
            }
            "etc" => workspace.write_inside("/etc/systemd/system/systemd-sysext.service", unit),
            _ => {}
        }
        let reference = workspace.root().join("reference");
        copy(&workspace.rootfs(), &reference);
        enabled_by_systemctl(&reference);
        workspace.apply("").succeeded();
        let ours = workspace.rootfs_snapshot();
        let links = |tree: &Snapshot| -> Vec<_> {
            tree.iter()
                .filter(|(path, entry)| path.starts_with("etc/systemd") && entry.is_link())
                .map(|(path, entry)| {
                    (
                        path.clone(),
                        String::from_utf8(entry.content.clone()).unwrap(),
                    )
                })
                .collect()
        };
        let mut theirs = links(&snapshot(&reference));
        if place == "lib, merged" {
            // Which of its two names the folder gets, systemctl was told when it was built.
            for (_, target) in &mut theirs {
                *target = format!("/usr/lib{}", target.split_once("/lib").unwrap().1);
            }
        }
        assert_eq!(theirs.len(), 1, "{place}");
        assert_eq!(links(&ours), theirs, "{place}");
    }
}

#[test]
fn a_unit_that_can_not_be_enabled_is_told_before_anything_is_written() {
    let workspace = placing::workspace();
    fs::remove_file(workspace.inside(UNIT)).unwrap();
    let before = workspace.rootfs_snapshot();
    workspace.apply("").is_refused("service-missing");
    workspace.apply("--no-check").is_refused("unit-missing");
    assert_same(&before, &workspace.rootfs_snapshot());

    for mask in ["/dev/null", "../../../dev/null", ""] {
        let workspace = placing::workspace();
        let own = "/etc/systemd/system/systemd-sysext.service";
        if mask.is_empty() {
            workspace.write_inside(own, "");
        } else {
            workspace.link_inside(own, mask);
        }
        let before = workspace.rootfs_snapshot();
        workspace.apply("").is_refused("service-masked");
        workspace.apply("--no-check").is_refused("unit-masked");
        assert_same(&before, &workspace.rootfs_snapshot());
    }
}

/// Only a link counts for systemd, and not one to `/dev/null` (`process_deps`, src/core/load-dropin.c).
#[test]
fn what_lies_in_the_place_of_the_link_is_not_taken_for_it() {
    for kind in ["file", "folder", "mask"] {
        let workspace = placing::workspace();
        match kind {
            "file" => workspace.write_inside(LINK, "[Unit]\n"),
            "folder" => fs::create_dir_all(workspace.inside(LINK)).unwrap(),
            _ => workspace.link_inside(LINK, "/dev/null"),
        }
        let before = workspace.rootfs_snapshot();
        assert_eq!(workspace.list()["service"]["enabled"], false, "{kind}");
        workspace.apply("").is_refused("would-overwrite");
        assert_same(&before, &workspace.rootfs_snapshot());
    }
}
