//! A disk and its partitions: sizes that fit.

use super::tell;
use crate::prism::node::Node;
use crate::prism::walk::{Walk, size};

/// Partitions are aligned to it, and the table at either end takes one (`disk.go`).
const MIB: u64 = 1 << 20;

/// Where a partition begins and ends, in bytes; no end if it grows.
struct Extent<'a> {
    id: &'a str,
    start: u64,
    end: Option<u64>,
}

/// `disk.go` and `partition.go`.
pub(super) fn check_disk(walk: &mut Walk<'_>, disk: &Node, path: &str) {
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
pub(super) fn label(walk: &mut Walk<'_>, node: &Node, key: &str, path: &str) {
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
