//! Partitions that firmware boots from.

use std::collections::BTreeMap;

use super::tell;
use crate::prism::node::Node;
use crate::prism::walk::Walk;

/// What firmware boots from (`storage.go`).
pub(super) fn boot_partitions(
    walk: &mut Walk<'_>,
    storage: &Node,
    disks: &[(usize, &Node)],
    on: &BTreeMap<&str, &Node>,
) {
    let (mut esp, mut grub) = (false, false);
    for (_, partition) in disks.iter().flat_map(|(_, disk)| disk.list("partitions")) {
        let id = partition.text_of("id").unwrap_or_default();
        let file_system = on.get(id).copied();
        let kind = file_system.and_then(|it| it.filled("type"));
        let mount = file_system.and_then(|it| it.get("mountPoint"));
        let path = mount.and_then(|mount| mount.text().or_else(|| mount.text_of("path")));
        match partition.text_of("type") {
            Some("esp") => {
                esp = true;
                if !matches!(kind, Some("fat32" | "vfat")) {
                    tell(
                        walk,
                        partition,
                        format!("the ESP `{id}` has no file system of type fat32 or vfat"),
                        "add one to `storage.filesystems`",
                    );
                } else if path != Some("/boot/efi") {
                    let at = mount.unwrap_or(partition);
                    tell(
                        walk,
                        at,
                        format!("the ESP `{id}` is not mounted at /boot/efi"),
                        "mount it there",
                    );
                }
            }
            Some("bios-grub") => {
                grub = true;
                if kind.is_some() || mount.is_some() {
                    let at = file_system.unwrap_or(partition);
                    tell(
                        walk,
                        at,
                        format!("the partition `{id}` is for BIOS boot and holds no file system"),
                        "remove its item of `storage.filesystems`",
                    );
                }
            }
            _ => {}
        }
    }
    let Some(boot) = storage.get("bootType").filter(|_| !disks.is_empty()) else {
        return;
    };
    match boot.text() {
        Some("efi") if !esp => tell(
            walk,
            boot,
            "`bootType: efi` needs a partition of type esp".to_owned(),
            "add one, with vfat, mounted at /boot/efi",
        ),
        Some("legacy") if !grub => tell(
            walk,
            boot,
            "`bootType: legacy` needs a partition of type bios-grub".to_owned(),
            "add one of 1M or more as the first",
        ),
        _ => {}
    }
}
