//! What we place is merged by the real systemd-sysext of Debian 13, in a mount namespace.
//!
//! Unsigned images only: the kernel that runs the tests may lack device-mapper. Signed ones boot
//! in `boot.rs`.

use crate::harness::namespace::merge;
use crate::harness::probe::{self, FILE, NAME, TEXT};
use crate::harness::{repart, tools, trixie};

fn possible() -> bool {
    tools::have(&["unshare", "mount", "chroot"])
}

/// The harness itself, without anything of ours.
#[test]
fn harness_sees_a_merge_and_the_absence_of_one() {
    if !(possible() && repart::possible()) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let probe = repart::probe("foreign");

    let bare = merge(&rootfs.path(), &[&probe]);
    assert!(bare.merged("/usr").is_empty(), "{bare:?}");
    assert_eq!(bare.file(&probe), None);

    rootfs.write("/var/lib/extensions/.keep", "");
    repart::naked("foreign", &rootfs.at("/var/lib/extensions/foreign.raw"));
    let merged = merge(&rootfs.path(), &[&probe, "/usr/lib/os-release"]);
    assert_eq!(merged.merged("/usr"), ["foreign"], "{merged:?}");
    assert_eq!(merged.file(&probe), Some("foreign"));
    assert!(merged.file("/usr/lib/os-release").is_some());
    assert!(!rootfs.at(&probe).exists(), "the namespace leaked");

    // The release file no longer carries the image's name: systemd has to refuse.
    let from = rootfs.at("/var/lib/extensions/foreign.raw");
    std::fs::rename(from, rootfs.at("/var/lib/extensions/renamed.raw")).unwrap();
    let refused = merge(&rootfs.path(), &[&probe]);
    assert!(refused.merged("/usr").is_empty(), "{refused:?}");
    assert_eq!(refused.file(&probe), None);
}

#[test]
fn an_applied_extension_is_merged() {
    if !possible() {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    for format in ["erofs", "squashfs", "ext4"] {
        if !tools::have(&["mksquashfs", "mkfs.ext4", "debugfs"]) {
            return;
        }
        probe::apply(&probe::in_format(format), &rootfs.path());
        let report = merge(&rootfs.path(), &[FILE, "/usr/lib/os-release"]);
        assert_eq!(report.merged("/usr"), [NAME], "{format}: {report:?}");
        assert_eq!(report.file(FILE), Some(TEXT), "{format}: {report:?}");
        assert!(report.file("/usr/lib/os-release").is_some());
    }
}
