//! An apply that cannot go on: disks that are full or read-only, files that cannot be replaced, and
//! being killed at any moment.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::placing::{IMAGE, RECORD};
use crate::harness::said::Said;
use crate::harness::snapshot::{Snapshot, assert_same, copy};
use crate::harness::workspace::{PROGRAM, Workspace};
use crate::harness::{namespace, placing};

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
    workspace.apply("").succeeded();
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
    workspace.apply("").succeeded();
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
    workspace.apply("").succeeded();
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

/// An apply that is under way.
fn started(workspace: &Workspace) -> std::process::Child {
    workspace
        .command(["apply", "--rootfs", "../rootfs"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
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
    workspace.apply("").succeeded();
    let complete = workspace.rootfs_snapshot();
    workspace.remove("kubernetes", "").succeeded();
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
        let mut child = started(&workspace);
        let pid = Pid::from_child(&child);
        if copying(&mut child) {
            std::thread::sleep(Duration::from_millis(3 * round as u64));
            let _ = kill_process(pid, signal);
        }
        if child.wait().unwrap().success() {
            // It was quicker than we; begin anew.
            workspace.remove("kubernetes", "").succeeded();
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
    workspace.apply("").succeeded();
    assert!(workspace.inside(IMAGE).is_file());
}

#[test]
fn after_a_kill_at_any_moment_apply_and_remove_know_what_is_ours() {
    let workspace = placing::workspace();
    let before = workspace.rootfs_snapshot();
    workspace.list_extensions(&["kubernetes", "old"]);
    workspace.apply("").succeeded();
    workspace.change_content("changed");
    workspace.list_extensions(&["kubernetes", "new"]);
    let template = workspace.root().join("template");
    fs::rename(workspace.rootfs(), &template).unwrap();
    let mut killed = 0;
    for round in 0..40 {
        copy(&template, &workspace.rootfs());
        let mut child = started(&workspace);
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
            workspace.apply("").succeeded();
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
        workspace.apply("").succeeded();
        let old = fs::read(workspace.inside(IMAGE)).unwrap();
        let mut record = workspace.record();
        workspace.change_content("changed");
        workspace.apply("").succeeded();
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
        workspace.apply("").succeeded();
        assert_eq!(workspace.record()["files"].as_array().unwrap().len(), 3);
        fs::remove_dir_all(workspace.rootfs()).unwrap();
        fs::rename(copied, workspace.rootfs()).unwrap();
        workspace.remove("kubernetes", "").succeeded();
        assert_same(&before, &workspace.rootfs_snapshot());
    }
}
