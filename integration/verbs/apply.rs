//! `apply`, `remove` and `list` on a root file system, from outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::nobody::{as_nobody, give_to_nobody};
use crate::harness::said::Said;
use crate::harness::snapshot::{Snapshot, assert_same, copy, snapshot};
use crate::harness::workspace::{PROGRAM, Workspace};
use crate::harness::{namespace, placing, tools};
use rustix::process::{Pid, Signal, kill_process};

const CERTIFICATE: &str = "/etc/verity.d/cert.crt";
const DROP_IN: &str = "/etc/systemd/system/systemd-sysext.service.d/50-image-policy.conf";
const IMAGE: &str = "/var/lib/extensions/kubernetes.raw";
const RECORD: &str = "/var/lib/prism-sysext/applied.json";
const LINK: &str = "/etc/systemd/system/sysinit.target.wants/systemd-sysext.service";
const UNIT: &str = "/usr/lib/systemd/system/systemd-sysext.service";

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
    workspace.apply("").succeeded().json();
    let placed = fs::read(workspace.inside(CERTIFICATE)).unwrap();
    workspace.remove("kubernetes", "").succeeded().json();
    assert_eq!(certificate, placed);
    workspace.write_inside(CERTIFICATE, placed);
    let before = workspace.rootfs_snapshot();
    let actions = workspace.apply("").actions();
    assert!(actions.contains(&format!("{CERTIFICATE} unchanged")));
    workspace.apply("").succeeded().json();
    workspace.remove("kubernetes", "").succeeded().json();
    assert_same(&before, &workspace.rootfs_snapshot());
}

#[test]
fn an_image_that_is_no_longer_listed_is_taken_out() {
    let workspace = placing::workspace();
    workspace.list_extensions(&["kubernetes", "other"]);
    workspace.apply("").succeeded().json();
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
fn an_image_that_changed_is_not_taken_out() {
    let workspace = placing::workspace();
    workspace.list_extensions(&["kubernetes", "other"]);
    workspace.apply("").succeeded().json();
    workspace.write_inside("/var/lib/extensions/other.raw", "mine now");
    let before = workspace.rootfs_snapshot();
    workspace.remove("other", "").is_refused("changed-since");
    workspace.list_extensions(&["kubernetes"]);
    // Garbage blocks the merge of all, so leaving it and going on would not do either.
    workspace.apply("").is_refused("changed-since");
    assert_same(&before, &workspace.rootfs_snapshot());
    let forced = workspace.apply("--force").actions();
    assert!(forced.contains(&"/var/lib/extensions/other.raw removed".to_owned()));
}

#[test]
fn a_changed_file_is_only_removed_by_force() {
    for path in [CERTIFICATE, DROP_IN, IMAGE] {
        let workspace = placing::workspace();
        workspace.apply("").succeeded().json();
        fs::write(workspace.inside(path), "changed").unwrap();
        let before = workspace.rootfs_snapshot();
        workspace
            .remove("kubernetes", "")
            .is_refused("changed-since");
        assert_same(&before, &workspace.rootfs_snapshot());
        workspace.remove("kubernetes", "--force").succeeded().json();
        assert!(!workspace.inside(path).exists());
        // The same for a link that took its place; a folder stays in any case.
        let workspace = placing::workspace();
        workspace.apply("").succeeded().json();
        fs::remove_file(workspace.inside(path)).unwrap();
        workspace.link_inside(path, "/etc/os-release");
        workspace
            .remove("kubernetes", "")
            .is_refused("changed-since");
        workspace.remove("kubernetes", "--force").succeeded().json();
        assert!(fs::symlink_metadata(workspace.inside(path)).is_err());
        let workspace = placing::workspace();
        workspace.apply("").succeeded().json();
        fs::remove_file(workspace.inside(path)).unwrap();
        fs::create_dir(workspace.inside(path)).unwrap();
        let before = workspace.rootfs_snapshot();
        let ran = workspace.remove("kubernetes", "--force");
        ran.is_refused("changed-since");
        assert!(!ran.err.contains("--force"), "{}", ran.err);
        assert_same(&before, &workspace.rootfs_snapshot());
    }
}

#[test]
fn an_apply_that_replaces_its_own_file_needs_no_force() {
    let workspace = placing::workspace();
    workspace.apply("").succeeded().json();
    workspace.change_content("#!/bin/sh\necho new\n");
    let actions = workspace.apply("").actions();
    assert!(actions.contains(&format!("{IMAGE} replaced")));
    // Unless somebody else has changed it.
    fs::write(workspace.inside(IMAGE), "changed").unwrap();
    workspace.apply("").is_refused("would-overwrite");
}

#[test]
fn remove_takes_one_and_with_the_last_all() {
    let workspace = placing::workspace();
    workspace.write_inside("/etc/verity.d/.keep", "");
    fs::create_dir_all(workspace.inside("/var/lib/extensions")).unwrap();
    workspace.list_extensions(&["kubernetes", "other"]);
    let before = workspace.rootfs_snapshot();
    workspace.apply("").succeeded().json();
    let listing = workspace.list();
    assert_eq!(listing["extensions"].as_array().unwrap().len(), 2);
    assert_eq!(listing["extensions"][0]["ours"], true);
    assert_eq!(listing["certificates"][0]["path"], CERTIFICATE);
    assert_eq!(listing["certificates"][0]["ours"], true);
    assert_eq!(listing["service"]["enabled"], true);

    let unknown = workspace.remove("kubernetez", "");
    unknown.is_refused("not-applied");
    assert!(unknown.err.contains("did you mean `kubernetes`?"));

    let ran = workspace.remove("other", "");
    assert_eq!(ran.actions(), ["/var/lib/extensions/other.raw removed"]);
    assert_eq!(ran.succeeded().json()["applied"]["service"], "none");
    for path in [CERTIFICATE, DROP_IN, IMAGE, RECORD] {
        assert!(workspace.inside(path).is_file(), "{path}");
    }
    workspace.remove("other", "").is_refused("not-applied");
    assert_eq!(workspace.list()["extensions"].as_array().unwrap().len(), 1);

    let ran = workspace.remove("kubernetes", "");
    assert_eq!(ran.actions().len(), 3);
    // Certificates go last: without them an image blocks all others.
    assert_eq!(ran.actions()[0], format!("{IMAGE} removed"));
    assert_eq!(ran.succeeded().json()["applied"]["service"], "removed");
    assert_same(&before, &workspace.rootfs_snapshot());
    let listing = workspace.list();
    assert_eq!(listing["extensions"].as_array().unwrap().len(), 0);
    assert_eq!(listing["service"]["enabled"], false);
}

#[test]
fn folders_that_others_use_by_now_stay() {
    let workspace = placing::workspace();
    workspace.apply("").succeeded().json();
    workspace.write_inside("/var/lib/extensions/theirs.txt", "x");
    workspace.write_inside("/etc/verity.d/theirs.crt", "x");
    // A second run makes no folder, but must not forget the ones of the first.
    workspace.change_content("changed");
    workspace.apply("").succeeded().json();
    workspace.remove("kubernetes", "").succeeded().json();
    assert!(workspace.inside("/var/lib/extensions/theirs.txt").is_file());
    assert!(workspace.inside("/etc/verity.d/theirs.crt").is_file());
    assert!(!workspace.inside("/var/lib/prism-sysext").exists());
    assert!(!workspace.inside("/etc/systemd/system").exists());
}

#[test]
fn a_link_that_was_there_stays() {
    let workspace = placing::workspace();
    workspace.link_inside(LINK, UNIT);
    let before = workspace.rootfs_snapshot();
    assert_eq!(
        workspace.apply("").succeeded().json()["applied"]["service"],
        "unchanged"
    );
    workspace.remove("kubernetes", "").succeeded().json();
    assert_same(&before, &workspace.rootfs_snapshot());
}

#[test]
fn our_link_is_ours_even_if_a_later_config_does_not_enable() {
    let workspace = placing::workspace();
    let before = workspace.rootfs_snapshot();
    workspace.apply("").succeeded().json();
    workspace.list_with("  enable: none\n", &["kubernetes"]);
    assert_eq!(
        workspace.apply("").succeeded().json()["applied"]["service"],
        "none"
    );
    workspace.remove("kubernetes", "").succeeded().json();
    assert_same(&before, &workspace.rootfs_snapshot());
}

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
        workspace.apply("").succeeded().json();
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

/// Runs a shell script in a mount namespace of its own.
fn in_namespace(workspace: &Workspace, script: &str) -> Said {
    let mut unshare = workspace.other("unshare");
    unshare
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-euc", script, PROGRAM])
        .current_dir(workspace.root());
    Said::of(&mut unshare)
}

#[test]
fn a_read_only_root_file_system_is_told() {
    if !namespace::possible() {
        return;
    }
    let workspace = placing::workspace();
    let before = workspace.rootfs_snapshot();
    let script = "mount --bind rootfs rootfs; mount -o remount,ro,bind rootfs; cd project; \"$0\" apply --rootfs ../rootfs";
    let ran = in_namespace(&workspace, script);
    ran.is_refused("rootfs-io");
    assert!(ran.err.contains("read-write"), "{}", ran.err);
    assert_same(&before, &workspace.rootfs_snapshot());
    workspace.apply("").succeeded().json();
    let before = workspace.rootfs_snapshot();
    let ran = in_namespace(&workspace, &script.replace("apply", "remove kubernetes"));
    ran.is_refused("rootfs-io");
    assert_same(&before, &workspace.rootfs_snapshot());
}

/// `SHOW FOLDER`: everything in it, as lines.
const SHOW: &str = "show() { (cd \"$1\"; find . -printf '%p %y %m %l\\n' | sort; find . -type f -exec sha256sum {} + | sort); }";

#[test]
fn a_small_root_file_system_is_told_and_left_as_it_was() {
    if !namespace::possible() {
        return;
    }
    let workspace = placing::workspace();
    let script = format!(
        "{SHOW}
        mkdir small; mount -t tmpfs -o size=1M none small; cp -a rootfs/. small; show small >before
        cd project; \"$0\" apply --rootfs ../small && exit 9; cd ..; show small >after; cmp before after; exit 1"
    );
    in_namespace(&workspace, &script).is_refused("no-room");
}

#[test]
fn wherever_the_inodes_end_nothing_is_changed() {
    if !namespace::possible() {
        return;
    }
    let workspace = placing::workspace();
    // An earlier state with an image to replace and one to take out.
    workspace.list_extensions(&["aaa", "kubernetes"]);
    workspace.apply("").succeeded().json();
    fs::remove_dir_all(workspace.inside("/etc/systemd/system")).unwrap();
    workspace.change_content("changed");
    workspace.list_extensions(&["kubernetes", "new"]);
    let script = format!(
        "{SHOW}
        used=$(find rootfs | wc -l); free=0; failed=0; mkdir small
        while [ $free -lt 40 ]; do
            mount -t tmpfs -o size=64M,nr_inodes=$((used + free)) none small
            cp -a rootfs/. small; show small >before
            cd project; code=0; \"$0\" apply --rootfs ../small >../out 2>&1 || code=$?; cd ..
            show small >after; umount small
            if [ $code = 0 ]; then break; fi
            [ $code = 1 ] || {{ cat out; exit 8; }}
            grep -q 'No space left' out || {{ cat out; exit 7; }}
            diff before after || {{ echo \"with $free inodes\"; cat out; exit 9; }}
            free=$((free + 1)); failed=$((failed + 1))
        done
        echo $failed"
    );
    let ran = in_namespace(&workspace, &script);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let failed: u32 = ran.out.trim().parse().unwrap();
    assert!((5..40).contains(&failed), "{failed}");
}

#[test]
fn a_full_disk_behind_any_folder_changes_nothing() {
    if !namespace::possible() {
        return;
    }
    for folder in [
        "etc/verity.d",
        "etc/systemd/system/systemd-sysext.service.d",
        "etc/systemd/system/sysinit.target.wants",
        "var/lib/prism-sysext",
    ] {
        let workspace = placing::workspace();
        fs::create_dir_all(workspace.inside(folder)).unwrap();
        // The folder's own file system has neither bytes nor inodes left. A link and the record are
        // too small for the check before, which counts what files need.
        let small = folder.ends_with(".wants") || folder.ends_with("prism-sysext");
        let script = format!(
            "{SHOW}
            mount -t tmpfs -o size=4k,nr_inodes=2 none rootfs/{folder}
            echo full >rootfs/{folder}/full; show rootfs >before
            cd project; code=0; \"$0\" apply --rootfs ../rootfs || code=$?; cd ..
            show rootfs >after; diff before after || exit 9; exit $code"
        );
        in_namespace(&workspace, &script).is_refused(if small { "rootfs-io" } else { "no-room" });
    }
}

/// `chattr +i` on some file systems is the one thing that nobody foresees.
#[test]
fn a_name_that_can_not_be_given_takes_all_back() {
    let workspace = placing::workspace();
    workspace.apply("").succeeded().json();
    workspace.change_content("changed");
    workspace.list_extensions(&["kubernetes", "aaa"]);
    let image = workspace.inside(IMAGE);
    let chattr = |flag: &str| {
        let mut command = Command::new("chattr");
        command.arg(flag).arg(&image);
        command.output().is_ok_and(|output| output.status.success())
    };
    if !chattr("+i") {
        eprintln!("SKIPPED: chattr +i does not work here");
        return;
    }
    let before = workspace.rootfs_snapshot();
    let ran = workspace.apply("");
    let after = workspace.rootfs_snapshot();
    assert!(chattr("-i"));
    ran.is_refused("rootfs-io");
    assert_same(&before, &after);
}

/// Waits until the program copies into the folder of images; false if it has ended before.
fn copying(child: &mut std::process::Child) -> bool {
    let start = Instant::now();
    let descriptors = format!("/proc/{}/fd", child.id());
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never copies");
        let open = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        for descriptor in open {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target
                .to_string_lossy()
                .contains("rootfs/var/lib/extensions/")
            {
                return true;
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    false
}

#[test]
fn a_killed_apply_leaves_no_half_written_file() {
    let workspace = placing::workspace();
    // Nothing that the image would have less of than the file.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()
    })
    .take(8 << 20)
    .flatten()
    .collect();
    workspace.change_content(noise);
    let before = workspace.rootfs_snapshot();
    workspace.apply("").succeeded().json();
    let complete = workspace.rootfs_snapshot();
    workspace.remove("kubernetes", "").succeeded().json();
    let mut caught = 0;
    for (round, signal) in [
        Signal::KILL,
        Signal::INT,
        Signal::KILL,
        Signal::INT,
        Signal::TERM,
    ]
    .into_iter()
    .enumerate()
    {
        let mut child = workspace
            .command(["apply", "--rootfs", "../rootfs"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        if copying(&mut child) {
            std::thread::sleep(Duration::from_millis(3 * round as u64));
            let _ = kill_process(pid, signal);
        }
        if child.wait().unwrap().success() {
            // It was quicker than we; begin anew.
            workspace.remove("kubernetes", "").succeeded().json();
            continue;
        }
        caught += 1;
        let after = workspace.rootfs_snapshot();
        let naming = workspace.inside(RECORD).exists();
        for (path, entry) in &after {
            let folder = entry.is_folder();
            // While names are given, whole files may have theirs already.
            let whole = naming
                && complete
                    .get(path)
                    .is_none_or(|it| it.content == entry.content);
            assert!(
                folder || before.contains_key(path) || whole,
                "{} was left behind",
                path.display()
            );
        }
    }
    assert!(caught > 0, "no round was caught while copying");
    workspace.apply("").succeeded().json();
    assert!(workspace.inside(IMAGE).is_file());
}

#[test]
fn after_a_kill_at_any_moment_apply_and_remove_know_what_is_ours() {
    let workspace = placing::workspace();
    let before = workspace.rootfs_snapshot();
    workspace.list_extensions(&["kubernetes", "old"]);
    workspace.apply("").succeeded().json();
    workspace.change_content("changed");
    workspace.list_extensions(&["kubernetes", "new"]);
    let template = workspace.root().join("template");
    fs::rename(workspace.rootfs(), &template).unwrap();
    let mut killed = 0;
    for round in 0..40 {
        copy(&template, &workspace.rootfs());
        let mut child = workspace
            .command(["apply", "--rootfs", "../rootfs"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Half of the rounds wait for the names, which are given in no time.
        let start = Instant::now();
        let record = fs::read(workspace.inside(RECORD)).unwrap();
        while round % 2 == 1
            && child.try_wait().unwrap().is_none()
            && fs::read(workspace.inside(RECORD)).unwrap() == record
        {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        std::thread::sleep(Duration::from_micros(700 * (round / 2)));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        killed += u32::from(!child.wait().unwrap().success());
        if round % 4 < 2 {
            workspace.apply("").succeeded().json();
        }
        // Whatever is left of the two generations, all of it is ours.
        for name in ["kubernetes", "new", "old"] {
            let ran = workspace.remove(name, "");
            if ran.status != Some(0) {
                ran.is_refused("not-applied");
            }
        }
        let after: Snapshot = workspace
            .rootfs_snapshot()
            .into_iter()
            .filter(|(path, entry)| {
                // What a kill leaves: hidden names, and folders which hold them or nothing.
                let hidden = path.extension().is_some_and(|extension| extension == "tmp");
                let folder = entry.is_folder();
                before.contains_key(path) || !(hidden || folder)
            })
            .collect();
        assert_same(&before, &after);
        fs::remove_dir_all(workspace.rootfs()).unwrap();
    }
    assert!(killed > 0, "every round was over too soon");
}

/// A kill between the names leaves the record of old and new; both are known as ours.
#[test]
fn a_record_of_an_unfinished_apply_knows_old_and_new() {
    for state in ["nothing yet", "the old image", "the new image"] {
        let workspace = placing::workspace();
        let before = workspace.rootfs_snapshot();
        workspace.apply("").succeeded().json();
        let old = fs::read(workspace.inside(IMAGE)).unwrap();
        let mut record = workspace.record();
        workspace.change_content("changed");
        workspace.apply("").succeeded().json();
        let more = workspace.record()["files"].as_array().unwrap().clone();
        record["files"].as_array_mut().unwrap().extend(more);
        workspace.write_inside(RECORD, record.to_string());
        match state {
            "nothing yet" => fs::remove_file(workspace.inside(IMAGE)).unwrap(),
            "the old image" => workspace.write_inside(IMAGE, old),
            _ => {}
        }
        let copied = workspace.root().join("copied");
        copy(&workspace.rootfs(), &copied);
        workspace.apply("").succeeded().json();
        assert_eq!(workspace.record()["files"].as_array().unwrap().len(), 3);
        fs::remove_dir_all(workspace.rootfs()).unwrap();
        fs::rename(copied, workspace.rootfs()).unwrap();
        workspace.remove("kubernetes", "").succeeded().json();
        assert_same(&before, &workspace.rootfs_snapshot());
    }
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
    workspace.apply("").succeeded().json();
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
    ran.is_refused("image-unreadable");
    assert!(ran.err.contains("broken.raw"), "{}", ran.err);
    assert_same(&before, &workspace.rootfs_snapshot());

    let workspace = placing::workspace();
    workspace.write_inside("/var/lib/extensions/folder/usr/lib/os-release", "ID=x");
    let before = workspace.rootfs_snapshot();
    workspace.apply("").is_refused("os-release-inside");
    assert_same(&before, &workspace.rootfs_snapshot());

    let workspace = placing::workspace();
    // Without a release file a folder is only left out.
    fs::create_dir_all(workspace.inside("/var/lib/extensions/folder/usr")).unwrap();
    workspace.apply("").succeeded().json();

    let workspace = placing::workspace();
    let other = placing::workspace();
    other.apply("").succeeded().json();
    let image = fs::read(other.inside(IMAGE)).unwrap();
    workspace.write_inside("/etc/extensions/kubernetes.raw", image);
    let before = workspace.rootfs_snapshot();
    workspace.apply("").is_refused("shadowed");
    assert_same(&before, &workspace.rootfs_snapshot());
}
