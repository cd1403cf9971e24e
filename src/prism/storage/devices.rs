//! What file systems and verity refer to, and who uses it.

use std::collections::BTreeMap;

use super::tell;
use crate::finding::Finding;
use crate::prism::node::Node;
use crate::prism::walk::Walk;

/// What has an `id`.
#[derive(Clone, Copy)]
pub(super) enum Device<'a> {
    Partition(&'a Node),
    Verity,
}

/// What file systems and verity can refer to.
pub(super) fn devices<'a>(
    walk: &mut Walk<'_>,
    storage: &'a Node,
    disks: &[(usize, &'a Node)],
) -> BTreeMap<&'a str, Device<'a>> {
    let mut devices = BTreeMap::new();
    let partitions = disks.iter().flat_map(|(_, disk)| disk.list("partitions"));
    let partitions = partitions.map(|(_, node)| (node, Device::Partition(node)));
    let verity = storage
        .list("verity")
        .map(|(_, node)| (node, Device::Verity));
    for (node, device) in partitions.chain(verity) {
        let id = node.text_of("id").unwrap_or_default();
        if devices.insert(id, device).is_some() {
            let at = node.get("id").unwrap_or(node);
            let finding =
                Finding::error("prism-duplicate", format!("the id `{id}` is there twice"));
            walk.tell(
                at.at,
                finding.help("give each partition and verity device an `id` of its own"),
            );
        }
    }
    devices
}

/// Which file system is on which device; each device has one user (`checkDeviceTree`).
pub(super) fn uses<'a>(
    walk: &mut Walk<'_>,
    storage: &'a Node,
    devices: &BTreeMap<&'a str, Device<'a>>,
) -> BTreeMap<&'a str, &'a Node> {
    let mut used: BTreeMap<&str, &str> = BTreeMap::new();
    let mut on = BTreeMap::new();
    let mut refer = |walk: &mut Walk<'_>, node: &'a Node, key: &str, by: &'a str| {
        let Some(at) = node.get(key) else { return };
        let Some(id) = at.text().filter(|id| !id.is_empty()) else {
            return;
        };
        match devices.get(id) {
            // That there is no disk has been told.
            None if devices.is_empty() => {}
            None => {
                let known: Vec<&str> = devices.keys().copied().collect();
                let help = format!("known are: {}", known.join(", "));
                tell(
                    walk,
                    at,
                    format!("`{key}`: nothing has the id `{id}`"),
                    &help,
                );
            }
            Some(Device::Verity) if by == "verity" => {
                tell(
                    walk,
                    at,
                    format!("`{key}`: `{id}` is a verity device, expected a partition"),
                    "",
                );
            }
            Some(_) => {
                if used.insert(id, by).is_some() {
                    tell(
                        walk,
                        at,
                        format!("the device `{id}` is used twice"),
                        "each partition holds one thing",
                    );
                }
            }
        }
    };
    for (_, verity) in storage.list("verity") {
        refer(walk, verity, "dataDeviceId", "verity");
        // The same id twice is a tree behind its data.
        if verity.text_of("hashDeviceId") != verity.text_of("dataDeviceId") {
            refer(walk, verity, "hashDeviceId", "verity");
        }
    }
    for (_, file_system) in storage.list("filesystems") {
        refer(walk, file_system, "deviceId", "file system");
        if let Some(id) = file_system.text_of("deviceId") {
            on.insert(id, file_system);
        }
    }
    on
}
