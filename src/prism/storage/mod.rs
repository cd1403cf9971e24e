//! `storage`: which settings need which others, and that names refer to something.

mod boot;
mod devices;
mod disk;
mod mounts;
mod verity;

use super::node::{Body, Node};
use super::walk::Walk;
use crate::finding::Finding;
use boot::boot_partitions;
use devices::{devices, uses};
use disk::check_disk;
use mounts::mounts;
use verity::verity;

pub(super) fn check(walk: &mut Walk<'_>, root: &Node) {
    let Some(storage) = root.get("storage") else {
        return;
    };
    let disks: Vec<(usize, &Node)> = storage.list("disks").collect();
    if let Some((_, second)) = disks.get(1) {
        tell(
            walk,
            second,
            "Prism makes one disk, this is a second one".to_owned(),
            "keep one item of `storage.disks`",
        );
    }
    for (index, disk) in &disks {
        check_disk(walk, disk, &format!("storage.disks[{index}]"));
    }
    together(walk, root, storage, disks.first().map(|(_, disk)| *disk));
    let devices = devices(walk, storage, &disks);
    let uses = uses(walk, storage, &devices);
    mounts(walk, storage, &devices);
    boot_partitions(walk, storage, &disks, &uses);
    verity(walk, storage, &uses);
}

fn tell(walk: &mut Walk<'_>, node: &Node, message: String, help: &str) {
    let finding = Finding::error("prism-storage", message);
    walk.tell(
        node.at,
        match help {
            "" => finding,
            help => finding.help(help),
        },
    );
}

/// Which settings need which others (`storage.go`, `config.go`).
fn together(walk: &mut Walk<'_>, root: &Node, storage: &Node, disk: Option<&Node>) {
    let resets = root
        .get("os")
        .and_then(|os| os.get("bootloader"))
        .and_then(|loader| loader.filled("resetType"))
        .is_some();
    if let Some(disk) = disk {
        if storage.filled("bootType").is_none() {
            tell(
                walk,
                disk,
                "`storage.disks` needs `storage.bootType`".to_owned(),
                "add `bootType: efi` (or legacy)",
            );
        }
        if !resets {
            tell(
                walk,
                disk,
                "`storage.disks` needs `os.bootloader.resetType`".to_owned(),
                "add `resetType: hard-reset`: the boot loader has to find the new partitions",
            );
        }
    } else {
        for key in ["bootType", "filesystems"] {
            let is_set = |node: &&Node| match &node.body {
                Body::List(items) => !items.is_empty(),
                _ => node.text() != Some(""),
            };
            if let Some(node) = storage.get(key).filter(is_set) {
                tell(
                    walk,
                    node,
                    format!("`storage.{key}` needs `storage.disks`"),
                    "describe the disk, or leave it out",
                );
            }
        }
    }
    if let Some(node) = storage.get("resetPartitionsUuidsType")
        && node.text() != Some("")
        && !resets
    {
        tell(
            walk,
            node,
            "`storage.resetPartitionsUuidsType` needs `os.bootloader.resetType`".to_owned(),
            "add `resetType: hard-reset`",
        );
    }
}
