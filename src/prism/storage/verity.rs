//! dm-verity: names, devices, and that what it protects is mounted read-only.

use std::collections::BTreeMap;

use super::disk::label;
use super::tell;
use crate::prism::node::Node;
use crate::prism::walk::Walk;

/// `verity.go`, and `storage.go` for what is mounted from it.
pub(super) fn verity(walk: &mut Walk<'_>, storage: &Node, on: &BTreeMap<&str, &Node>) {
    let has_disks = storage.list("disks").next().is_some();
    let by_id = |verity: &Node| {
        verity
            .filled("dataDeviceId")
            .or(verity.filled("hashDeviceId"))
            .is_some()
    };
    let existing = |verity: &Node| {
        verity
            .get("dataDevice")
            .or(verity.get("hashDevice"))
            .is_some()
    };
    let all: Vec<(usize, &Node)> = storage.list("verity").collect();
    if all.iter().any(|(_, it)| by_id(it))
        && let Some((_, second)) = all.iter().find(|(_, it)| existing(it))
    {
        tell(walk, second, "new partitions (dataDeviceId, hashDeviceId) and those of the base (dataDevice, hashDevice) don't go together".to_owned(), "use one of the two ways for all");
    }
    for (index, verity) in &all {
        let path = format!("storage.verity[{index}]");
        for key in ["dataDevice", "hashDevice"] {
            if let Some(device) = verity.get(key) {
                label(walk, device, "id", &format!("{path}.{key}"));
            }
        }
        if let Some(signature) = verity.get("hashSignaturePath")
            && let Some(text) = signature.text().filter(|text| !text.is_empty())
        {
            let odd = text
                .split('/')
                .skip(1)
                .any(|part| matches!(part, "" | "." | ".."));
            if odd || !text.starts_with("/boot/") {
                walk.bad(
                    signature,
                    format!(
                        "`{path}.hashSignaturePath` is `{text}`, expected a plain path below /boot"
                    ),
                    "",
                );
            }
        }
        let Some(name) = verity.get("name") else {
            continue;
        };
        let text = name.text().unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_lowercase()) {
            if !text.trim().is_empty() {
                walk.bad(
                    name,
                    format!("`{path}.name` is `{text}`, expected `root` or `usr`"),
                    "",
                );
            }
            continue;
        }
        match (by_id(verity), existing(verity)) {
            (true, false) if !has_disks => {
                tell(
                    walk,
                    verity,
                    format!("`{path}` refers to partitions, and there is no `storage.disks`"),
                    "describe the disk, or name partitions of the base with dataDevice and hashDevice",
                );
            }
            (true, false) => mounted_verity(walk, verity, name, on),
            (false, true) if has_disks => {
                tell(
                    walk,
                    verity,
                    format!(
                        "`{path}` refers to partitions of the base, which `storage.disks` replaces"
                    ),
                    "use dataDeviceId and hashDeviceId",
                );
            }
            _ => {}
        }
    }
}

/// `ValidateVerityMounts`.
fn mounted_verity(walk: &mut Walk<'_>, verity: &Node, name: &Node, on: &BTreeMap<&str, &Node>) {
    let id = verity.text_of("id").unwrap_or_default();
    let Some(file_system) = on.get(id).copied() else {
        return tell(
            walk,
            verity,
            format!("nothing is mounted from the verity device `{id}`"),
            "add an item of `storage.filesystems` with this `deviceId`, mounted at / or /usr",
        );
    };
    let volumes = file_system
        .get("btrfs")
        .into_iter()
        .flat_map(|btrfs| btrfs.list("subvolumes"));
    let volumes = volumes.filter_map(|(_, volume)| volume.get("mountPoint"));
    let mounts: Vec<&Node> = file_system
        .get("mountPoint")
        .into_iter()
        .chain(volumes)
        .collect();
    let [mount] = mounts.as_slice() else {
        let message = format!(
            "the verity device `{id}` has {} mount points, expected one",
            mounts.len()
        );
        return tell(walk, file_system, message, "mount it once, at / or /usr");
    };
    let path = mount
        .text()
        .or_else(|| mount.text_of("path"))
        .unwrap_or_default();
    let wanted = match path {
        "/" => "root",
        "/usr" => "usr",
        _ => {
            return tell(
                walk,
                mount,
                format!("the verity device `{id}` is mounted at {path}, expected / or /usr"),
                "",
            );
        }
    };
    if name.text() != Some(wanted) {
        tell(
            walk,
            name,
            format!(
                "what is mounted at {path} is protected by a verity device of the name `{wanted}`"
            ),
            &format!("write `name: {wanted}`"),
        );
    }
    let options = mount.text_of("options").unwrap_or_default();
    if !options.split(',').any(|option| option == "ro") {
        tell(
            walk,
            mount,
            format!("the mount of the verity device `{id}` is not read-only"),
            "add `ro` to its `options`",
        );
    }
}
