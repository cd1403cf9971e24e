//! `apply`, `remove` and `list` on a root file system, from outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::fixture::{
    Fixture, PROGRAM, Ran, Snapshot, assert_same, can, copy, snapshot, text,
};
use rustix::process::{Pid, Signal, kill_process};

const CERTIFICATE: &str = "/etc/verity.d/verity_cert.crt";
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
    let fixture = Fixture::new();
    let first = fixture.apply(&[]);
    assert_eq!(first.actions(), all("placed"));
    assert_eq!(first.good()["applied"]["service"], "placed");
    assert_eq!(first.good()["applied"]["ownership"], "root");
    let before = fixture.snapshot();
    let second = fixture.apply(&[]);
    assert_eq!(second.actions(), all("unchanged"));
    assert_eq!(second.good()["applied"]["service"], "unchanged");
    assert_eq!(before, fixture.snapshot());
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["077", "000"] {
        let fixture = Fixture::new();
        let before = fixture.snapshot();
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let shell = ["sh", "-c", &script, PROGRAM];
        Ran::of(fixture.by(
            &shell,
            &["apply", "--rootfs", "../rootfs", "--output", "json"],
        ))
        .good();
        for (path, entry) in fixture.snapshot() {
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
            let fixture = Fixture::new();
            let at = fixture.inside(destination);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            match kind {
                "file" => fs::write(&at, "foreign").unwrap(),
                "link" => symlink("/etc/os-release", &at).unwrap(),
                "dangling link" => symlink("/nowhere", &at).unwrap(),
                _ => fs::create_dir_all(at.join("usr")).unwrap(),
            }
            let before = fixture.snapshot();
            fixture.apply(&[]).refused("would-overwrite");
            assert_same(&before, &fixture.snapshot());
            if kind == "folder" {
                fixture.apply(&["--force"]).refused("would-overwrite");
                assert_same(&before, &fixture.snapshot());
                continue;
            }
            let forced = fixture.apply(&["--force"]).actions();
            assert!(
                forced.contains(&format!("{destination} replaced")),
                "{kind}"
            );
            assert!(fs::symlink_metadata(&at).unwrap().is_file());
            assert!(!fixture.inside("/nowhere").exists());
            let release = fs::read(fixture.inside("/usr/lib/os-release")).unwrap();
            assert!(text(&release).contains("ID="));
        }
    }
}

#[test]
fn what_was_there_with_the_same_bytes_is_not_ours() {
    let fixture = Fixture::new();
    let certificate = fs::read(fixture.work().join("verity_cert.crt")).unwrap();
    fixture.apply(&[]).good();
    let placed = fs::read(fixture.inside(CERTIFICATE)).unwrap();
    fixture.remove("kubernetes", &[]).good();
    assert_eq!(certificate, placed);
    fixture.write(CERTIFICATE, placed);
    let before = fixture.snapshot();
    let actions = fixture.apply(&[]).actions();
    assert!(actions.contains(&format!("{CERTIFICATE} unchanged")));
    fixture.apply(&[]).good();
    fixture.remove("kubernetes", &[]).good();
    assert_same(&before, &fixture.snapshot());
}

#[test]
fn an_image_that_is_no_longer_listed_is_taken_out() {
    let fixture = Fixture::new();
    fixture.list_extensions(&["kubernetes", "other"]);
    fixture.apply(&[]).good();
    assert!(fixture.inside("/var/lib/extensions/other.raw").exists());
    fixture.list_extensions(&["kubernetes"]);
    let ran = fixture.apply(&[]);
    let mut expected = all("unchanged");
    expected.push("/var/lib/extensions/other.raw removed".into());
    assert_eq!(ran.actions(), expected);
    assert!(!fixture.inside("/var/lib/extensions/other.raw").exists());
    assert_eq!(fixture.record()["files"].as_array().unwrap().len(), 3);
}

#[test]
fn an_image_that_changed_is_not_taken_out() {
    let fixture = Fixture::new();
    fixture.list_extensions(&["kubernetes", "other"]);
    fixture.apply(&[]).good();
    fixture.write("/var/lib/extensions/other.raw", "mine now");
    let before = fixture.snapshot();
    fixture.remove("other", &[]).refused("changed-since");
    fixture.list_extensions(&["kubernetes"]);
    // Garbage blocks the merge of all, so leaving it and going on would not do either.
    fixture.apply(&[]).refused("changed-since");
    assert_same(&before, &fixture.snapshot());
    let forced = fixture.apply(&["--force"]).actions();
    assert!(forced.contains(&"/var/lib/extensions/other.raw removed".to_owned()));
}

#[test]
fn a_changed_file_is_only_removed_by_force() {
    for path in [CERTIFICATE, DROP_IN, IMAGE] {
        let fixture = Fixture::new();
        fixture.apply(&[]).good();
        fs::write(fixture.inside(path), "changed").unwrap();
        let before = fixture.snapshot();
        fixture.remove("kubernetes", &[]).refused("changed-since");
        assert_same(&before, &fixture.snapshot());
        fixture.remove("kubernetes", &["--force"]).good();
        assert!(!fixture.inside(path).exists());
        // The same for a link that took its place; a folder stays in any case.
        let fixture = Fixture::new();
        fixture.apply(&[]).good();
        fs::remove_file(fixture.inside(path)).unwrap();
        fixture.link(path, "/etc/os-release");
        fixture.remove("kubernetes", &[]).refused("changed-since");
        fixture.remove("kubernetes", &["--force"]).good();
        assert!(fs::symlink_metadata(fixture.inside(path)).is_err());
        let fixture = Fixture::new();
        fixture.apply(&[]).good();
        fs::remove_file(fixture.inside(path)).unwrap();
        fs::create_dir(fixture.inside(path)).unwrap();
        let before = fixture.snapshot();
        let ran = fixture.remove("kubernetes", &["--force"]);
        ran.refused("changed-since");
        assert!(!ran.stderr.contains("--force"), "{}", ran.stderr);
        assert_same(&before, &fixture.snapshot());
    }
}

#[test]
fn an_apply_that_replaces_its_own_file_needs_no_force() {
    let fixture = Fixture::new();
    fixture.apply(&[]).good();
    fs::write(fixture.work().join("bin/a"), "#!/bin/sh\necho new\n").unwrap();
    let actions = fixture.apply(&[]).actions();
    assert!(actions.contains(&format!("{IMAGE} replaced")));
    // Unless somebody else has changed it.
    fs::write(fixture.inside(IMAGE), "changed").unwrap();
    fixture.apply(&[]).refused("would-overwrite");
}

#[test]
fn remove_takes_one_and_with_the_last_all() {
    let fixture = Fixture::new();
    fixture.write("/etc/verity.d/.keep", "");
    fs::create_dir_all(fixture.inside("/var/lib/extensions")).unwrap();
    fixture.list_extensions(&["kubernetes", "other"]);
    let before = fixture.snapshot();
    fixture.apply(&[]).good();
    let listing = fixture.list();
    assert_eq!(listing["extensions"].as_array().unwrap().len(), 2);
    assert_eq!(listing["extensions"][0]["ours"], true);
    assert_eq!(listing["certificates"][0]["path"], CERTIFICATE);
    assert_eq!(listing["certificates"][0]["ours"], true);
    assert_eq!(listing["service"]["enabled"], true);

    let unknown = fixture.remove("kubernetez", &[]);
    unknown.refused("not-applied");
    assert!(unknown.stderr.contains("did you mean `kubernetes`?"));

    let ran = fixture.remove("other", &[]);
    assert_eq!(ran.actions(), ["/var/lib/extensions/other.raw removed"]);
    assert_eq!(ran.good()["applied"]["service"], "none");
    for path in [CERTIFICATE, DROP_IN, IMAGE, RECORD] {
        assert!(fixture.inside(path).is_file(), "{path}");
    }
    fixture.remove("other", &[]).refused("not-applied");
    assert_eq!(fixture.list()["extensions"].as_array().unwrap().len(), 1);

    let ran = fixture.remove("kubernetes", &[]);
    assert_eq!(ran.actions().len(), 3);
    // Certificates go last: without them an image blocks all others.
    assert_eq!(ran.actions()[0], format!("{IMAGE} removed"));
    assert_eq!(ran.good()["applied"]["service"], "removed");
    assert_same(&before, &fixture.snapshot());
    let listing = fixture.list();
    assert_eq!(listing["extensions"].as_array().unwrap().len(), 0);
    assert_eq!(listing["service"]["enabled"], false);
}

#[test]
fn folders_that_others_use_by_now_stay() {
    let fixture = Fixture::new();
    fixture.apply(&[]).good();
    fixture.write("/var/lib/extensions/theirs.txt", "x");
    fixture.write("/etc/verity.d/theirs.crt", "x");
    // A second run makes no folder, but must not forget the ones of the first.
    fs::write(fixture.work().join("bin/a"), "changed").unwrap();
    fixture.apply(&[]).good();
    fixture.remove("kubernetes", &[]).good();
    assert!(fixture.inside("/var/lib/extensions/theirs.txt").is_file());
    assert!(fixture.inside("/etc/verity.d/theirs.crt").is_file());
    assert!(!fixture.inside("/var/lib/prism-sysext").exists());
    assert!(!fixture.inside("/etc/systemd/system").exists());
}

#[test]
fn a_link_that_was_there_stays() {
    let fixture = Fixture::new();
    fixture.link(LINK, UNIT);
    let before = fixture.snapshot();
    assert_eq!(fixture.apply(&[]).good()["applied"]["service"], "unchanged");
    fixture.remove("kubernetes", &[]).good();
    assert_same(&before, &fixture.snapshot());
}

#[test]
fn our_link_is_ours_even_if_a_later_config_does_not_enable() {
    let fixture = Fixture::new();
    let before = fixture.snapshot();
    fixture.apply(&[]).good();
    fixture.config("  enable: none\n", &["kubernetes"]);
    assert_eq!(fixture.apply(&[]).good()["applied"]["service"], "none");
    fixture.remove("kubernetes", &[]).good();
    assert_same(&before, &fixture.snapshot());
}

/// The wants folder after the real `systemctl enable`.
fn enabled_by_systemctl(rootfs: &Path) {
    let root = format!("--root={}", rootfs.display());
    let output = Command::new("systemctl")
        .args([&root, "enable", "systemd-sysext.service"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_service_is_enabled_as_systemctl_does() {
    if !can("systemctl", &["--version"]) {
        return;
    }
    for place in ["usr/lib", "lib, merged", "lib, split", "etc"] {
        let fixture = Fixture::new();
        let unit = fs::read(fixture.inside(UNIT)).unwrap();
        match place {
            "lib, merged" => fixture.link("/lib", "usr/lib"),
            "lib, split" => {
                fs::remove_file(fixture.inside(UNIT)).unwrap();
                fixture.write("/lib/systemd/system/systemd-sysext.service", unit);
            }
            "etc" => fixture.write("/etc/systemd/system/systemd-sysext.service", unit),
            _ => {}
        }
        let reference = fixture.path().join("reference");
        copy(&fixture.rootfs(), &reference);
        enabled_by_systemctl(&reference);
        fixture.apply(&[]).good();
        let ours = fixture.snapshot();
        let links = |tree: &Snapshot| -> Vec<_> {
            tree.iter()
                .filter(|(path, entry)| {
                    path.starts_with("etc/systemd") && entry.mode & 0o170_000 == 0o120_000
                })
                .map(|(path, entry)| (path.clone(), text(&entry.content)))
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
    let fixture = Fixture::new();
    fs::remove_file(fixture.inside(UNIT)).unwrap();
    let before = fixture.snapshot();
    fixture.apply(&[]).refused("service-missing");
    fixture.apply(&["--no-check"]).refused("unit-missing");
    assert_same(&before, &fixture.snapshot());

    for mask in ["/dev/null", "../../../dev/null", ""] {
        let fixture = Fixture::new();
        let own = "/etc/systemd/system/systemd-sysext.service";
        if mask.is_empty() {
            fixture.write(own, "");
        } else {
            fixture.link(own, mask);
        }
        let before = fixture.snapshot();
        fixture.apply(&[]).refused("service-masked");
        fixture.apply(&["--no-check"]).refused("unit-masked");
        assert_same(&before, &fixture.snapshot());
    }
}

/// Only a link counts for systemd, and not one to `/dev/null` (`process_deps`, src/core/load-dropin.c).
#[test]
fn what_lies_in_the_place_of_the_link_is_not_taken_for_it() {
    for kind in ["file", "folder", "mask"] {
        let fixture = Fixture::new();
        match kind {
            "file" => fixture.write(LINK, "[Unit]\n"),
            "folder" => fs::create_dir_all(fixture.inside(LINK)).unwrap(),
            _ => fixture.link(LINK, "/dev/null"),
        }
        let before = fixture.snapshot();
        assert_eq!(fixture.list()["service"]["enabled"], false, "{kind}");
        fixture.apply(&[]).refused("would-overwrite");
        assert_same(&before, &fixture.snapshot());
    }
}

/// Runs a shell script in a mount namespace of its own.
fn in_namespace(fixture: &Fixture, script: &str) -> Ran {
    let mut command = fixture.by(
        &[
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-euc",
            script,
        ],
        &[PROGRAM],
    );
    command.current_dir(fixture.path());
    Ran::of(command)
}

#[test]
fn a_read_only_root_file_system_is_told() {
    if !can("unshare", &["-m", "true"]) {
        return;
    }
    let fixture = Fixture::new();
    let before = fixture.snapshot();
    let script = "mount --bind rootfs rootfs; mount -o remount,ro,bind rootfs; cd work; \"$0\" apply --rootfs ../rootfs";
    let ran = in_namespace(&fixture, script);
    ran.refused("rootfs-io");
    assert!(ran.stderr.contains("read-write"), "{}", ran.stderr);
    assert_same(&before, &fixture.snapshot());
    fixture.apply(&[]).good();
    let before = fixture.snapshot();
    let ran = in_namespace(&fixture, &script.replace("apply", "remove kubernetes"));
    ran.refused("rootfs-io");
    assert_same(&before, &fixture.snapshot());
}

/// `SHOW FOLDER`: everything in it, as lines.
const SHOW: &str = "show() { (cd \"$1\"; find . -printf '%p %y %m %l\\n' | sort; find . -type f -exec sha256sum {} + | sort); }";

#[test]
fn a_small_root_file_system_is_told_and_left_as_it_was() {
    if !can("unshare", &["-m", "true"]) {
        return;
    }
    let fixture = Fixture::new();
    let script = format!(
        "{SHOW}
        mkdir small; mount -t tmpfs -o size=1M none small; cp -a rootfs/. small; show small >before
        cd work; \"$0\" apply --rootfs ../small && exit 9; cd ..; show small >after; cmp before after; exit 1"
    );
    in_namespace(&fixture, &script).refused("no-room");
}

#[test]
fn wherever_the_inodes_end_nothing_is_changed() {
    if !can("unshare", &["-m", "true"]) {
        return;
    }
    let fixture = Fixture::new();
    // An earlier state with an image to replace and one to take out.
    fixture.list_extensions(&["aaa", "kubernetes"]);
    fixture.apply(&[]).good();
    fs::remove_dir_all(fixture.inside("/etc/systemd/system")).unwrap();
    fs::write(fixture.work().join("bin/a"), "changed").unwrap();
    fixture.list_extensions(&["kubernetes", "new"]);
    let script = format!(
        "{SHOW}
        used=$(find rootfs | wc -l); free=0; failed=0; mkdir small
        while [ $free -lt 40 ]; do
            mount -t tmpfs -o size=64M,nr_inodes=$((used + free)) none small
            cp -a rootfs/. small; show small >before
            cd work; code=0; \"$0\" apply --rootfs ../small >../out 2>&1 || code=$?; cd ..
            show small >after; umount small
            if [ $code = 0 ]; then break; fi
            [ $code = 1 ] || {{ cat out; exit 8; }}
            grep -q 'No space left' out || {{ cat out; exit 7; }}
            diff before after || {{ echo \"with $free inodes\"; cat out; exit 9; }}
            free=$((free + 1)); failed=$((failed + 1))
        done
        echo $failed"
    );
    let ran = in_namespace(&fixture, &script);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let failed: u32 = ran.stdout.trim().parse().unwrap();
    assert!((5..40).contains(&failed), "{failed}");
}

#[test]
fn a_full_disk_behind_any_folder_changes_nothing() {
    if !can("unshare", &["-m", "true"]) {
        return;
    }
    for folder in [
        "etc/verity.d",
        "etc/systemd/system/systemd-sysext.service.d",
        "etc/systemd/system/sysinit.target.wants",
        "var/lib/prism-sysext",
    ] {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.inside(folder)).unwrap();
        // The folder's own file system has neither bytes nor inodes left. A link and the record are
        // too small for the check before, which counts what files need.
        let small = folder.ends_with(".wants") || folder.ends_with("prism-sysext");
        let script = format!(
            "{SHOW}
            mount -t tmpfs -o size=4k,nr_inodes=2 none rootfs/{folder}
            echo full >rootfs/{folder}/full; show rootfs >before
            cd work; code=0; \"$0\" apply --rootfs ../rootfs || code=$?; cd ..
            show rootfs >after; diff before after || exit 9; exit $code"
        );
        in_namespace(&fixture, &script).refused(if small { "rootfs-io" } else { "no-room" });
    }
}

/// `chattr +i` on some file systems is the one thing that nobody foresees.
#[test]
fn a_name_that_can_not_be_given_takes_all_back() {
    let fixture = Fixture::new();
    fixture.apply(&[]).good();
    fs::write(fixture.work().join("bin/a"), "changed").unwrap();
    fixture.list_extensions(&["kubernetes", "aaa"]);
    let image = fixture.inside(IMAGE);
    let chattr = |flag: &str| {
        let mut command = Command::new("chattr");
        command.arg(flag).arg(&image);
        command.output().is_ok_and(|output| output.status.success())
    };
    if !chattr("+i") {
        eprintln!("SKIPPED: chattr +i does not work here");
        return;
    }
    let before = fixture.snapshot();
    let ran = fixture.apply(&[]);
    let after = fixture.snapshot();
    assert!(chattr("-i"));
    ran.refused("rootfs-io");
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
    let fixture = Fixture::new();
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
    fs::write(fixture.work().join("bin/a"), noise).unwrap();
    let before = fixture.snapshot();
    fixture.apply(&[]).good();
    let complete = fixture.snapshot();
    fixture.remove("kubernetes", &[]).good();
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
        let mut child = fixture
            .command(&["apply", "--rootfs", "../rootfs"])
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
            fixture.remove("kubernetes", &[]).good();
            continue;
        }
        caught += 1;
        let after = fixture.snapshot();
        let naming = fixture.inside(RECORD).exists();
        for (path, entry) in &after {
            let folder = entry.mode & 0o170_000 == 0o040_000;
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
    fixture.apply(&[]).good();
    assert!(fixture.inside(IMAGE).is_file());
}

#[test]
fn after_a_kill_at_any_moment_apply_and_remove_know_what_is_ours() {
    let fixture = Fixture::new();
    let before = fixture.snapshot();
    fixture.list_extensions(&["kubernetes", "old"]);
    fixture.apply(&[]).good();
    fs::write(fixture.work().join("bin/a"), "changed").unwrap();
    fixture.list_extensions(&["kubernetes", "new"]);
    let template = fixture.path().join("template");
    fs::rename(fixture.rootfs(), &template).unwrap();
    let mut killed = 0;
    for round in 0..40 {
        copy(&template, &fixture.rootfs());
        let mut child = fixture
            .command(&["apply", "--rootfs", "../rootfs"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Half of the rounds wait for the names, which are given in no time.
        let start = Instant::now();
        let record = fs::read(fixture.inside(RECORD)).unwrap();
        while round % 2 == 1
            && child.try_wait().unwrap().is_none()
            && fs::read(fixture.inside(RECORD)).unwrap() == record
        {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        std::thread::sleep(Duration::from_micros(700 * (round / 2)));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        killed += u32::from(!child.wait().unwrap().success());
        if round % 4 < 2 {
            fixture.apply(&[]).good();
        }
        // Whatever is left of the two generations, all of it is ours.
        for name in ["kubernetes", "new", "old"] {
            let ran = fixture.remove(name, &[]);
            if ran.code != Some(0) {
                ran.refused("not-applied");
            }
        }
        let after: Snapshot = fixture
            .snapshot()
            .into_iter()
            .filter(|(path, entry)| {
                // What a kill leaves: hidden names, and folders which hold them or nothing.
                let hidden = path.extension().is_some_and(|extension| extension == "tmp");
                let folder = entry.mode & 0o170_000 == 0o040_000;
                before.contains_key(path) || !(hidden || folder)
            })
            .collect();
        assert_same(&before, &after);
        fs::remove_dir_all(fixture.rootfs()).unwrap();
    }
    assert!(killed > 0, "every round was over too soon");
}

/// A kill between the names leaves the record of old and new; both are known as ours.
#[test]
fn a_record_of_an_unfinished_apply_knows_old_and_new() {
    for state in ["nothing yet", "the old image", "the new image"] {
        let fixture = Fixture::new();
        let before = fixture.snapshot();
        fixture.apply(&[]).good();
        let old = fs::read(fixture.inside(IMAGE)).unwrap();
        let mut record = fixture.record();
        fs::write(fixture.work().join("bin/a"), "changed").unwrap();
        fixture.apply(&[]).good();
        let more = fixture.record()["files"].as_array().unwrap().clone();
        record["files"].as_array_mut().unwrap().extend(more);
        fixture.write(RECORD, record.to_string());
        match state {
            "nothing yet" => fs::remove_file(fixture.inside(IMAGE)).unwrap(),
            "the old image" => fixture.write(IMAGE, old),
            _ => {}
        }
        let copied = fixture.path().join("copied");
        copy(&fixture.rootfs(), &copied);
        fixture.apply(&[]).good();
        assert_eq!(fixture.record()["files"].as_array().unwrap().len(), 3);
        fs::remove_dir_all(fixture.rootfs()).unwrap();
        fs::rename(copied, fixture.rootfs()).unwrap();
        fixture.remove("kubernetes", &[]).good();
        assert_same(&before, &fixture.snapshot());
    }
}

const NOBODY: [&str; 5] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    PROGRAM,
];

#[test]
fn ordinary_users_write_to_their_own_only() {
    if !can(
        "setpriv",
        &["--reuid=65534", "--regid=65534", "--clear-groups", "true"],
    ) {
        return;
    }
    let fixture = Fixture::new();
    let own = |path: &Path| {
        let status = Command::new("chown")
            .arg("-R")
            .arg("65534:65534")
            .arg(path)
            .status();
        assert!(status.unwrap().success());
    };
    own(&fixture.work());
    let args = ["apply", "--rootfs", "../rootfs", "--output", "json"];
    let before = fixture.snapshot();
    Ran::of(fixture.by(&NOBODY, &args)).refused("rootfs-not-owned");
    assert_same(&before, &fixture.snapshot());
    own(&fixture.rootfs());
    let ran = Ran::of(fixture.by(&NOBODY, &args));
    assert_eq!(ran.good()["applied"]["ownership"], "caller");
    let remove = ["remove", "--rootfs", "../rootfs", "kubernetes"];
    assert_eq!(Ran::of(fixture.by(&NOBODY, &remove)).code, Some(0));
    assert_same(&before, &fixture.snapshot());
    // A folder of somebody else inside it.
    fs::create_dir_all(fixture.inside("/var/lib/extensions")).unwrap();
    let before = fixture.snapshot();
    Ran::of(fixture.by(&NOBODY, &args)).refused("rootfs-io");
    assert_same(&before, &fixture.snapshot());
}

#[test]
fn root_gives_all_to_root() {
    use std::os::unix::fs::MetadataExt;
    let fixture = Fixture::new();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    // A folder whose group is inherited.
    fs::create_dir_all(fixture.inside("/var/lib")).unwrap();
    std::os::unix::fs::chown(fixture.inside("/var/lib"), Some(7), Some(7)).unwrap();
    let setgid = fs::Permissions::from_mode(0o2755);
    fs::set_permissions(fixture.inside("/var/lib"), setgid).unwrap();
    fixture.apply(&[]).good();
    for path in [CERTIFICATE, DROP_IN, IMAGE, RECORD, "/var/lib/extensions"] {
        let metadata = fs::metadata(fixture.inside(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path}");
    }
}

#[test]
fn what_the_base_has_already_is_judged_as_well() {
    let fixture = Fixture::new();
    fixture.write("/var/lib/extensions/broken.raw", "garbage");
    let before = fixture.snapshot();
    let ran = fixture.apply(&[]);
    ran.refused("image-unreadable");
    assert!(ran.stderr.contains("broken.raw"), "{}", ran.stderr);
    assert_same(&before, &fixture.snapshot());

    let fixture = Fixture::new();
    fixture.write("/var/lib/extensions/folder/usr/lib/os-release", "ID=x");
    let before = fixture.snapshot();
    fixture.apply(&[]).refused("os-release-inside");
    assert_same(&before, &fixture.snapshot());

    let fixture = Fixture::new();
    // Without a release file a folder is only left out.
    fs::create_dir_all(fixture.inside("/var/lib/extensions/folder/usr")).unwrap();
    fixture.apply(&[]).good();

    let fixture = Fixture::new();
    let other = Fixture::new();
    other.apply(&[]).good();
    let image = fs::read(other.inside(IMAGE)).unwrap();
    fixture.write("/etc/extensions/kubernetes.raw", image);
    let before = fixture.snapshot();
    fixture.apply(&[]).refused("shadowed");
    assert_same(&before, &fixture.snapshot());
}
