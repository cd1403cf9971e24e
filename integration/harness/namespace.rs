//! The target's own systemd-sysext or systemd-confext, run in a mount namespace of its own.
//!
//! No boot, so it takes a second; but the running kernel does the mounting, so images that need
//! device-mapper are for `guest` where that kernel has none.

use std::path::Path;

use super::report::{Report, parse, script};
use super::tools::{command, output, skip, transcript};

/// Whether this process can make itself a mount namespace.
pub(crate) fn possible() -> bool {
    let made = command("unshare").args(["--mount", "true"]).output();
    made.is_ok_and(|made| made.status.success()) || skip("`unshare --mount` does not work here")
}

/// Prepares the target and runs the script in it.
///
/// systemd-sysext mounts in a child with a private namespace, and the result comes back by
/// propagation, so the target's `/` must be a shared mount; and it makes `/run` a slave, so that
/// must be a mount point (systemd `src/sysext/sysext.c`, `merge_subprocess`).
const ENTER: &str = r#"
set -eu
root=$1 script=$2
mount -t tmpfs tmpfs /run
mount --bind "$root" "$root"
mount --make-shared "$root"
mount -t tmpfs tmpfs "$root/run"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
exec chroot "$root" /bin/sh -c "$script"
"#;

/// Merges the target's extensions with its own systemd-sysext, looks, and unmerges again.
///
/// What remains of it is what systemd leaves in `root`: empty mount points.
pub(crate) fn merge(root: &Path, files: &[&str]) -> Report {
    merge_by("systemd-sysext", "refresh --no-reload", root, files)
}

/// The same by the systemd-sysext of a version, with arguments.
pub(crate) fn merge_with(root: &Path, major: u32, args: &[&str]) -> Report {
    let verb = match major {
        ..=253 => "merge",
        254 => "refresh",
        _ => "refresh --no-reload",
    };
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    merge_by(
        "systemd-sysext",
        &format!("{verb} {}", quoted.join(" ")),
        root,
        &[],
    )
}

/// The same with configuration extensions.
pub(crate) fn merge_confexts(root: &Path, files: &[&str]) -> Report {
    merge_by("systemd-confext", "refresh --no-reload", root, files)
}

fn merge_by(program: &str, verb: &str, root: &Path, files: &[&str]) -> Report {
    // Up to 255 a refused merge exits 0 too, so the exit status decides nothing here. The manager
    // is not reloaded: there is none in a chroot.
    let inside = format!(
        "log=$({program} {verb} 2>&1)\n\
         {}\
         {program} unmerge >/dev/null 2>&1\n",
        script("chroot", "echo \"$log\"", files).replace("systemd-sysext", program)
    );
    let mut unshare = command("unshare");
    unshare.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        ENTER,
        "sh",
    ]);
    let said = output(unshare.arg(root).arg(inside));
    match parse(&String::from_utf8_lossy(&said.stdout)).map(|mut reports| reports.pop()) {
        Some(Some(report)) => report,
        _ => panic!("no report from the target\n{}", transcript(&said)),
    }
}
