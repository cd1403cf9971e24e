//! Where file systems and subvolumes are mounted.

use std::collections::BTreeMap;

use super::devices::Device;
use super::tell;
use crate::finding::Finding;
use crate::prism::node::Node;
use crate::prism::rules::{check_path, has_blank};
use crate::prism::walk::Walk;

/// Mount points of file systems and subvolumes (`filesystem.go`, `mountpoint.go`, `btrfssubvolume.go`).
pub(super) fn mounts<'a>(
    walk: &mut Walk<'_>,
    storage: &'a Node,
    devices: &BTreeMap<&'a str, Device<'a>>,
) {
    let mut paths: BTreeMap<&str, ()> = BTreeMap::new();
    for (index, file_system) in storage.list("filesystems") {
        let path = format!("storage.filesystems[{index}]");
        let device = file_system
            .text_of("deviceId")
            .and_then(|id| devices.get(id));
        let kind = file_system.filled("type");
        let own = file_system.get("mountPoint");
        if let Some(own) = own.filter(|_| kind.is_none()) {
            tell(
                walk,
                own,
                format!("`{path}` is mounted and has no `type`"),
                "add for example `type: ext4`",
            );
        }
        if kind == Some("btrfs")
            && let Some(node) = file_system.get("type")
        {
            walk.needs_feature(node.at, "btrfs", &format!("{path}.type: btrfs"));
        }
        let volumes = file_system
            .get("btrfs")
            .into_iter()
            .flat_map(|btrfs| btrfs.list("subvolumes"));
        let volumes: Vec<(usize, &Node)> = volumes.collect();
        subvolumes(walk, &volumes, &path);
        let volumes = volumes.iter().filter_map(|(index, volume)| {
            let path = format!("{path}.btrfs.subvolumes[{index}].mountPoint");
            Some((volume.get("mountPoint")?, path))
        });
        let own = own.map(|own| (own, format!("{path}.mountPoint")));
        for (mount, path) in own.into_iter().chain(volumes) {
            let at = match mount.text() {
                Some(_) => Some(mount),
                None => mount.get("path"),
            };
            if let Some(at) = at {
                check_path(walk, at, &path);
                let text = at.text().unwrap_or_default();
                if !text.is_empty() && paths.insert(text, ()).is_some() {
                    let finding = Finding::error(
                        "prism-duplicate",
                        format!("two file systems are mounted at {text}"),
                    );
                    walk.tell(at.at, finding);
                }
            }
            if let Some(options) = mount.get("options")
                && options.text().is_some_and(has_blank)
            {
                walk.bad(
                    options,
                    format!("`{path}.options` holds a blank"),
                    "separate options by commas alone",
                );
            }
            let Some(kind) = mount.get("idType").filter(|kind| kind.text() != Some("")) else {
                continue;
            };
            match device {
                Some(Device::Verity) => {
                    tell(
                        walk,
                        kind,
                        format!("`{path}.idType` does not go with a verity device"),
                        "leave it out",
                    );
                }
                Some(Device::Partition(partition)) if kind.text() == Some("part-label") => {
                    labelled(walk, kind, partition, storage);
                }
                _ => {}
            }
        }
    }
}

/// fstab can name a partition by its label only if there is one and no other has it.
fn labelled(walk: &mut Walk<'_>, at: &Node, partition: &Node, storage: &Node) {
    let id = partition.text_of("id").unwrap_or_default();
    let Some(label) = partition.filled("label") else {
        return tell(
            walk,
            at,
            format!("the partition `{id}` has no label to mount it by"),
            "give it a `label`, or use another `idType`",
        );
    };
    let partitions = storage
        .list("disks")
        .flat_map(|(_, disk)| disk.list("partitions"));
    let same = partitions.filter(|(_, other)| other.text_of("label") == Some(label));
    if same.count() > 1 {
        tell(
            walk,
            at,
            format!("two partitions have the label `{label}`"),
            "give each its own, or use another `idType`",
        );
    }
}

fn subvolumes(walk: &mut Walk<'_>, volumes: &[(usize, &Node)], path: &str) {
    let mut names = BTreeMap::new();
    for (index, volume) in volumes {
        let path = format!("{path}.btrfs.subvolumes[{index}]");
        if let Some(node) = volume.get("path")
            && let Some(text) = node.text().filter(|text| !text.is_empty())
        {
            let odd = text.split('/').any(|part| matches!(part, "" | "." | ".."));
            if odd {
                walk.bad(
                    node,
                    format!(
                        "`{path}.path` is `{text}`, expected names with single slashes between"
                    ),
                    "",
                );
            } else if names.insert(text, ()).is_some() {
                let finding = Finding::error(
                    "prism-duplicate",
                    format!("the subvolume `{text}` is there twice"),
                );
                walk.tell(node.at, finding);
            }
        }
        if let Some(options) = volume
            .get("mountPoint")
            .and_then(|mount| mount.get("options"))
            && let Some(text) = options.text()
            && text
                .split(',')
                .any(|it| it.starts_with("subvol=") || it.starts_with("subvolid="))
        {
            walk.bad(
                options,
                format!("`{path}.mountPoint.options`: Prism itself adds `subvol=`"),
                "leave `subvol=` and `subvolid=` out",
            );
        }
    }
    let mounted = |volume: &Node| {
        let mount = volume.get("mountPoint")?;
        let path = mount.text().or_else(|| mount.text_of("path"))?;
        Some(format!("{}/", path.trim_end_matches('/')))
    };
    for (_, outer) in volumes {
        for (_, inner) in volumes {
            let names = (outer.text_of("path"), inner.text_of("path"));
            let (Some(outer_name), Some(inner_name)) = names else {
                continue;
            };
            let nested = inner_name.starts_with(&format!("{outer_name}/"));
            let (Some(above), Some(below)) = (mounted(inner), mounted(outer)) else {
                continue;
            };
            if nested && below != above && below.starts_with(&above) {
                tell(
                    walk,
                    outer,
                    format!(
                        "the subvolume `{outer_name}` holds `{inner_name}` and is mounted below it"
                    ),
                    "mount the outer one above the inner one",
                );
            }
        }
    }
}
