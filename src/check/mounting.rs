//! Whether the base's kernel and systemd mount the file system of an image.

use super::{Case, Host, Verdict};
use crate::base::kernel::Support;
use crate::image::dissect::Ddi;
use crate::image::read::FsKind;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::citations;

/// File systems that systemd mounts where it limits them (`dissect_fstype_ok`).
const MOUNTABLE: &[&str] = &["btrfs", "erofs", "ext4", "f2fs", "squashfs", "vfat", "xfs"];

/// Judges the file system and its compressions.
pub(super) fn judge(host: &Host<'_>, systemd: SystemdBuild, ddi: &Ddi, case: &mut Case<'_>) {
    let Some(kind) = ddi.fs_kind else {
        return case.worsen(
            Verdict::BlocksAll,
            "no-file-system",
            "the image holds no known file system",
            citations::STAGE_A,
            "use erofs, squashfs or ext4",
        );
    };
    let kernel = &host.kernel;
    let support = match kind {
        FsKind::Erofs => kernel.erofs,
        FsKind::Squashfs => kernel.squashfs,
        FsKind::Ext4 => kernel.ext4,
        FsKind::Btrfs => kernel.btrfs,
        FsKind::Vfat => kernel.vfat,
        FsKind::Xfs => kernel.xfs,
        FsKind::F2fs => kernel.f2fs,
        _ => Support::Unknown,
    };
    let needs = |case: &mut Case<'_>, what: &str, support: Support| {
        match support {
        Support::Yes | Support::Module => {}
        Support::No => case.worsen(
            Verdict::BlocksAll,
            "kernel-without-file-system",
            format!("the kernel of the base can't mount {what}"),
            citations::STAGE_A,
            "use a file system and a compression that it has",
        ),
        Support::Unknown => case.unknown(
            "kernel-unknown",
            format!("it can't be told whether the kernel of the base mounts {what}"),
            "give a base that holds its kernel's configuration (boot/config-*), or --target PROFILE",
        ),
    }
    };
    needs(case, kind.name(), support);
    for algorithm in ddi.fs.iter().flat_map(|details| &details.compression) {
        let support = kernel.decompresses(kind, algorithm);
        needs(case, &format!("{} with {algorithm}", kind.name()), support);
    }
    if systemd.has(Change::FileSystemsLimited) && !MOUNTABLE.contains(&kind.name()) {
        case.worsen(
            Verdict::BlocksAll,
            "file-system-not-allowed",
            format!("systemd mounts no {} for extensions", kind.name()),
            Change::FileSystemsLimited.source(),
            "use erofs, squashfs or ext4",
        );
    }
}
