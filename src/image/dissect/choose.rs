//! Which partitions of an image systemd would use (`dissect_image`, src/shared/dissect-image.c).

use super::Part;
use crate::finding::Finding;
use crate::image::gpt;
use crate::image::gpt::types::{Designator, LINUX_GENERIC, PartitionType, Role};
use crate::image::gpt::{Entry, Table};
use crate::systemd::arch::Arch;
use crate::systemd::extension_name::compare;

/// The partitions that systemd would use.
pub(super) struct Parts {
    pub(super) designator: Designator,
    pub(super) arch: Option<Arch>,
    pub(super) data: Option<Part>,
    pub(super) hash: Option<Part>,
    pub(super) signature: Option<Part>,
}

/// Chooses the partitions that systemd would use.
pub(super) fn choose(table: &Table, native: Option<Arch>, problems: &mut Vec<Finding>) -> Parts {
    // Label `_empty` since 258; nobody calls a partition in use that.
    let usable = |entry: &&Entry| entry.attributes & gpt::NO_AUTO == 0 && entry.label != "_empty";
    let entries: Vec<&Entry> = table.entries.iter().filter(usable).collect();
    let best = |designator, role| {
        let candidates = entries.iter().filter_map(|entry| {
            let kind = entry.partition_type()?;
            let fits = kind.designator == designator && kind.role == role;
            fits.then_some((*entry, kind))
        });
        // Of one type the higher label wins, of equal labels the first (since 249).
        candidates.min_by(|(a, a_kind), (b, b_kind)| {
            let by_arch = rank(a_kind.arch, native).cmp(&rank(b_kind.arch, native));
            by_arch
                .then_with(|| compare(&b.label, &a.label))
                .then(a.number.cmp(&b.number))
        })
    };
    let of = |wanted: PartitionType| {
        let found = entries
            .iter()
            .find(|entry| entry.partition_type() == Some(wanted));
        found.map(|entry| part(entry))
    };
    let mut problem = |id, message: &str| problems.push(Finding::error(id, message));

    let root = best(Designator::Root, Role::Data);
    let usr = best(Designator::Usr, Role::Data);
    let Some((entry, kind)) = root.or(usr) else {
        if [Designator::Root, Designator::Usr]
            .iter()
            .any(|it| best(*it, Role::Verity).is_some())
        {
            problem(
                "verity-without-data",
                "there is a verity partition but no data partition",
            );
        }
        let generic: Vec<_> = entries
            .iter()
            .filter(|entry| entry.type_guid == LINUX_GENERIC)
            .collect();
        match generic.as_slice() {
            [_] => {}
            [] => problem(
                "no-data-partition",
                "there is no root, usr or generic Linux partition",
            ),
            _ => problem(
                "several-generic-partitions",
                "there are several generic Linux partitions and no root",
            ),
        }
        let only = generic.first().filter(|_| generic.len() == 1);
        return Parts {
            designator: Designator::Root,
            arch: None,
            data: only.map(|entry| part(entry)),
            hash: None,
            signature: None,
        };
    };
    let hash = of(PartitionType {
        role: Role::Verity,
        ..kind
    });
    let signature = of(PartitionType {
        role: Role::Signature,
        ..kind
    });
    if signature.is_some() && hash.is_none() {
        problem(
            "signature-without-hash",
            "there is a signature partition but no verity partition",
        );
    }
    let other_verity = best(Designator::Usr, Role::Verity).is_some();
    if kind.designator == Designator::Root && hash.is_some() && (usr.is_some() || other_verity) {
        problem(
            "root-and-usr-verity",
            "there is a root verity partition together with usr partitions",
        );
    }
    if kind.designator == Designator::Usr && best(Designator::Root, Role::Verity).is_some() {
        problem(
            "verity-without-data",
            "there is a root verity partition but no root partition",
        );
    }
    if hash.is_none() && best(kind.designator, Role::Verity).is_some() {
        problem(
            "verity-without-data",
            "the verity partition is of another architecture than the data",
        );
    }
    Parts {
        designator: kind.designator,
        arch: Some(kind.arch),
        data: Some(part(entry)),
        hash,
        signature,
    }
}

/// Native before the 32-bit relative of the native before anything else; without a native
/// architecture all are alike.
fn rank(arch: Arch, native: Option<Arch>) -> u8 {
    const SECONDARY: &[(&str, &str)] = &[
        ("x86-64", "x86"),
        ("arm64", "arm"),
        ("mips64", "mips"),
        ("mips64-le", "mips-le"),
        ("ppc64", "ppc"),
        ("s390x", "s390"),
    ];
    match native {
        Some(native) if native == arch => 0,
        Some(native) if SECONDARY.contains(&(native.name(), arch.name())) => 1,
        _ => 2,
    }
}

fn part(entry: &Entry) -> Part {
    Part {
        number: Some(entry.number),
        offset: entry.offset,
        size: entry.size,
        uuid: Some(*entry.guid.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn entry(number: u32, kind: PartitionType) -> Entry {
        Entry {
            number,
            type_guid: kind.guid().unwrap(),
            guid: Uuid::from_u128(u128::from(number)),
            offset: u64::from(number) * 4096,
            size: 4096,
            attributes: 0,
            label: String::new(),
        }
    }

    fn chosen(entries: Vec<Entry>, native: Option<Arch>) -> (Parts, Vec<&'static str>) {
        let table = Table {
            sector_size: 512,
            disk_guid: Uuid::nil(),
            entries,
            from_backup: false,
        };
        let mut problems = Vec::new();
        let parts = choose(&table, native, &mut problems);
        (parts, problems.iter().map(|problem| problem.id).collect())
    }

    fn kind(arch: Arch, designator: Designator, role: Role) -> PartitionType {
        PartitionType::new(arch, designator, role)
    }

    #[test]
    fn root_wins_over_usr_and_native_over_foreign() {
        use Designator::{Root, Usr};
        let (parts, problems) = chosen(
            vec![
                entry(1, kind(Arch::X86_64, Usr, Role::Data)),
                entry(2, kind(Arch::ARM64, Root, Role::Data)),
                entry(3, kind(Arch::X86_64, Root, Role::Data)),
                entry(4, kind(Arch::ARM64, Root, Role::Verity)),
            ],
            Some(Arch::ARM64),
        );
        assert_eq!(parts.designator, Root);
        assert_eq!(parts.data.unwrap().number, Some(2));
        assert_eq!(parts.hash.unwrap().number, Some(4));
        assert_eq!(problems, ["root-and-usr-verity"]);
    }

    #[test]
    fn the_parts_of_a_usr_image_are_found() {
        use Designator::Usr;
        let (parts, problems) = chosen(
            vec![
                entry(1, kind(Arch::X86_64, Usr, Role::Data)),
                entry(2, kind(Arch::X86_64, Usr, Role::Verity)),
                entry(3, kind(Arch::X86_64, Usr, Role::Signature)),
            ],
            None,
        );
        assert_eq!(parts.designator, Usr);
        assert!(parts.hash.is_some() && parts.signature.is_some() && problems.is_empty());
    }

    #[test]
    fn partitions_that_do_not_go_together_are_problems() {
        use Designator::Root;
        let of = |role| kind(Arch::X86_64, Root, role);
        assert_eq!(chosen(vec![], None).1, ["no-data-partition"]);
        let (_, problems) = chosen(vec![entry(1, of(Role::Verity))], None);
        assert_eq!(problems, ["verity-without-data", "no-data-partition"]);
        let data = entry(1, of(Role::Data));
        let (_, problems) = chosen(vec![data.clone(), entry(2, of(Role::Signature))], None);
        assert_eq!(problems, ["signature-without-hash"]);
        let newer = Entry {
            label: "tools_2".to_owned(),
            ..entry(2, of(Role::Data))
        };
        let (parts, problems) = chosen(vec![data.clone(), newer], None);
        assert_eq!(parts.data.unwrap().number, Some(2));
        assert!(problems.is_empty());
        let skipped = Entry {
            attributes: gpt::NO_AUTO,
            ..data
        };
        assert_eq!(chosen(vec![skipped], None).1, ["no-data-partition"]);
    }
}
