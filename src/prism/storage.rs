//! Disks, partitions, file systems and verity: sizes that fit, and names that refer to something.

use std::collections::BTreeMap;

use super::node::{Body, Node};
use super::rules::{check_path, has_blank};
use super::walk::{Walk, size};
use crate::finding::Finding;

/// Partitions are aligned to it, and the table at either end takes one (`disk.go`).
const MIB: u64 = 1 << 20;

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

/// Where a partition begins and ends, in bytes; no end if it grows.
struct Extent<'a> {
    id: &'a str,
    start: u64,
    end: Option<u64>,
}

/// `disk.go` and `partition.go`.
fn check_disk(walk: &mut Walk<'_>, disk: &Node, path: &str) {
    let bytes = |node: &Node, key: &str| node.text_of(key).and_then(|text| size(text).ok());
    let max = bytes(disk, "maxSize");
    if let Some(node) = disk.get("maxSize") {
        aligned(walk, node, &format!("{path}.maxSize"));
    }
    let mut extents: Vec<Extent<'_>> = Vec::new();
    let mut before = Some(MIB);
    let partitions: Vec<(usize, &Node)> = disk.list("partitions").collect();
    for (index, partition) in &partitions {
        let path = format!("{path}.partitions[{index}]");
        let id = partition.text_of("id").unwrap_or("without id");
        for key in ["start", "end", "size"] {
            if let Some(node) = partition.get(key) {
                aligned(walk, node, &format!("{path}.{key}"));
            }
        }
        label(walk, partition, "label", &path);
        let start = match (bytes(partition, "start"), before) {
            (Some(start), _) => start,
            (None, Some(before)) if partition.get("start").is_none() => before,
            (None, None) if partition.get("start").is_none() => {
                tell(
                    walk,
                    partition,
                    format!(
                        "where the partition {id} begins is open: the one before it has no end"
                    ),
                    "give `start`, or the one before a `size`",
                );
                return;
            }
            // Not a size, which has been told.
            _ => return,
        };
        let is_grub = partition.text_of("type") == Some("bios-grub");
        if is_grub && start != MIB {
            tell(
                walk,
                partition,
                format!("the partition {id} is for BIOS boot and has to start at 1M"),
                "make it the first one",
            );
        }
        let length = partition.filled("size").filter(|text| *text != "grow");
        let end = match (bytes(partition, "end"), length.map(size)) {
            (Some(end), _) => Some(end),
            (None, Some(Ok(0))) => {
                tell(
                    walk,
                    partition,
                    format!("the partition {id} has no room"),
                    "give it a size above 0",
                );
                return;
            }
            (None, Some(Ok(length))) => start.checked_add(length),
            (None, Some(Err(_))) => return,
            (None, None) => None,
        };
        if end.is_some_and(|end| end <= start) {
            tell(
                walk,
                partition,
                format!("the partition {id} ends before it begins"),
                "",
            );
            return;
        }
        if let Some(last) = extents.last() {
            match last.end {
                None => {
                    let message =
                        format!("the partition {} grows and is not the last one", last.id);
                    let node = partitions
                        .get(extents.len() - 1)
                        .map_or(*partition, |(_, node)| *node);
                    tell(walk, node, message, "give it a size, or move it to the end");
                }
                Some(end) if end > start => {
                    let message = format!("the partition {id} begins before {} ends", last.id);
                    tell(
                        walk,
                        partition,
                        message,
                        "leave out `start`, or correct the sizes",
                    );
                }
                Some(_) => {}
            }
        }
        before = end;
        extents.push(Extent { id, start, end });
    }
    let Some(last) = extents.last() else {
        if max.is_none() && disk.get("maxSize").is_none() {
            tell(
                walk,
                disk,
                "the disk has neither `maxSize` nor partitions".to_owned(),
                "give either",
            );
        }
        return;
    };
    if extents.first().is_some_and(|first| first.start < MIB) {
        tell(
            walk,
            disk,
            "the first 1M of the disk is for the partition table".to_owned(),
            "let the first partition start at 1M",
        );
    }
    match (last.end, max) {
        (None, None) if disk.get("maxSize").is_none() => {
            let message = format!("the disk has no `maxSize`, and {} has no size", last.id);
            tell(walk, disk, message, "give either");
        }
        (end, Some(max)) => {
            // A last partition that grows gets 1 MiB at least; the backup table takes another.
            let needs = end
                .or(last.start.checked_add(MIB))
                .and_then(|end| end.checked_add(MIB));
            if needs.is_none_or(|needs| needs > max) {
                let needs = needs.map_or("more".to_owned(), |needs| format!("{}M", needs / MIB));
                let message = format!(
                    "the partitions need {needs}, and `maxSize` is {}M",
                    max / MIB
                );
                tell(
                    walk,
                    disk,
                    message,
                    "enlarge `maxSize`; the last 1M of it is for the backup of the table",
                );
            }
        }
        _ => {}
    }
}

fn aligned(walk: &mut Walk<'_>, node: &Node, path: &str) {
    if let Some(text) = node.text()
        && size(text).is_ok_and(|bytes| bytes % MIB != 0)
    {
        tell(
            walk,
            node,
            format!("`{path}` is {text}, expected a multiple of 1M"),
            "",
        );
    }
}

/// `isGPTNameValid`: 36 UTF-16 units with the final NUL, and ASCII.
fn label(walk: &mut Walk<'_>, node: &Node, key: &str, path: &str) {
    if let Some(label) = node.get(key)
        && let Some(text) = label.text()
        && (text.len() > 35 || !text.is_ascii())
    {
        tell(
            walk,
            label,
            format!("`{path}.{key}` is `{text}`, expected up to 35 ASCII characters"),
            "",
        );
    }
}

#[derive(Clone, Copy)]
enum Device<'a> {
    Partition(&'a Node),
    Verity,
}

/// What file systems and verity can refer to.
fn devices<'a>(
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
fn uses<'a>(
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

/// Mount points of file systems and subvolumes (`filesystem.go`, `mountpoint.go`, `btrfssubvolume.go`).
fn mounts<'a>(walk: &mut Walk<'_>, storage: &'a Node, devices: &BTreeMap<&'a str, Device<'a>>) {
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

/// What firmware boots from (`storage.go`).
fn boot_partitions(
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

/// `verity.go`, and `storage.go` for what is mounted from it.
fn verity(walk: &mut Walk<'_>, storage: &Node, on: &BTreeMap<&str, &Node>) {
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
