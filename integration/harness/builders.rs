//! A Debian 13 root with the builders of others: systemd-repart, mkosi and the mkfs programs.

use std::path::Path;
use std::process::Command;

use super::tools::command;

/// Programs of the others. debootstrap knows nothing of virtual packages, so dbus and
/// python3-cffi-backend stand here.
pub(crate) const PACKAGES: &str = "systemd,dbus,systemd-repart,systemd-container,mkosi,python3-cffi-backend,\
                        erofs-utils,squashfs-tools,cryptsetup-bin,openssl";

/// mkosi and its sandbox need a `/` that is a mount, so a chroot is not enough.
const ENTER: &str = r#"
set -eu
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
mkdir -p "$root/bench"
mount --bind "$work" "$root/bench"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
cd "$root"
pivot_root . .
umount -l .
cd /bench
exec "$@"
"#;

/// A command that runs in `root`, whose arguments follow; it starts in `work`, seen as `/bench`.
pub(crate) fn enter(root: &Path, work: &Path) -> Command {
    let mut enter = command("unshare");
    enter
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            ENTER,
            "sh",
        ])
        .arg(root)
        .arg(work);
    enter
}
