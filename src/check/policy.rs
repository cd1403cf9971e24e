//! Image policies: which protection an image must have to be merged.
//!
//! Grammar and derived rules are those of systemd `src/shared/image-policy.c`
//! (`image_policy_from_string`, `image_policy_get_exhaustively`), the way they are applied
//! that of `src/shared/dissect-image.c` (`dissect_image`), both since 254.

use crate::image::gpt::types::Designator;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::kind::ExtensionKind;

/// What a partition may be, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    const VERITY: Flags = Flags(1);
    const SIGNED: Flags = Flags(2);
    const ENCRYPTED: Flags = Flags(4);
    const UNPROTECTED: Flags = Flags(8);
    const UNUSED: Flags = Flags(16);
    const ABSENT: Flags = Flags(32);
    /// Present, with whatever protection.
    const PRESENT: Flags = Flags(15);
    /// Present and read as it is.
    const PLAIN: Flags = Flags(12);
    const IGNORE: Flags = Flags(48);
    const OPEN: Flags = Flags(63);

    const fn and(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }

    const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    const fn meets(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

/// A partition that a policy can speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Data(Designator),
    Hash(Designator),
    Signature(Designator),
    /// Partitions that no extension has: home, esp, swap and the like.
    Other(u8),
}

use Designator::{Root, Usr};

/// By the names of `partition_designator_to_string`.
const SLOTS: [(&str, Slot); 13] = [
    ("root", Slot::Data(Root)),
    ("usr", Slot::Data(Usr)),
    ("home", Slot::Other(0)),
    ("srv", Slot::Other(1)),
    ("esp", Slot::Other(2)),
    ("xbootldr", Slot::Other(3)),
    ("swap", Slot::Other(4)),
    ("root-verity", Slot::Hash(Root)),
    ("usr-verity", Slot::Hash(Usr)),
    ("root-verity-sig", Slot::Signature(Root)),
    ("usr-verity-sig", Slot::Signature(Usr)),
    ("tmp", Slot::Other(5)),
    ("var", Slot::Other(6)),
];

/// A policy, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    rules: Vec<(Slot, Flags)>,
    default: Flags,
}

/// Why a policy says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PolicyError {
    /// systemd refuses the option, so the command fails.
    Invalid(String),
    /// It asks for something that is not judged here.
    NotJudged(String),
}

/// The partitions of an image, as far as a policy cares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Whether there is a partition table.
    pub partitioned: bool,
    /// What the data is.
    pub designator: Designator,
    /// Whether there is a hash tree.
    pub hash: bool,
    /// Whether there is a partition for a signature.
    pub signature: bool,
    /// Whether the data is encrypted.
    pub encrypted: bool,
}

/// What of an admitted image is used; partitions that the policy says to pass over are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Whether the hash tree is used.
    pub(super) hash: bool,
    /// Whether the signature is used.
    pub(super) signature: bool,
    /// Whether a hash tree alone would be good enough.
    pub(super) verity_suffices: bool,
}

impl Policy {
    /// systemd's own policy (`image_policy_sysext`, `image_policy_confext`).
    pub(super) fn default_of(kind: ExtensionKind) -> Policy {
        let data = |designator| (Slot::Data(designator), Flags::PRESENT.or(Flags::ABSENT));
        Policy {
            rules: match kind {
                ExtensionKind::Sysext => vec![data(Root), data(Usr)],
                ExtensionKind::Confext => vec![data(Root)],
            },
            default: Flags::IGNORE,
        }
    }

    /// Reads the value of `--image-policy=`.
    pub(super) fn parse(text: &str) -> Result<Policy, PolicyError> {
        let all = |default| Policy {
            rules: Vec::new(),
            default,
        };
        match text.trim() {
            "*" => return Ok(all(Flags::OPEN)),
            "~" => return Ok(all(Flags::ABSENT)),
            "-" | "" => return Ok(all(Flags::IGNORE)),
            _ => {}
        }
        let mut policy = all(Flags::IGNORE);
        let mut has_default = false;
        for item in text.split(':') {
            let invalid = || PolicyError::Invalid(format!("`{}` is no rule", item.trim()));
            let (name, flags) = item.split_once('=').ok_or_else(invalid)?;
            let (name, flags) = (name.trim(), parse_flags(flags)?);
            if name.is_empty() {
                if std::mem::replace(&mut has_default, true) {
                    return Err(PolicyError::Invalid("there are two defaults".to_owned()));
                }
                policy.default = flags;
                continue;
            }
            let slot = SLOTS.iter().find(|(known, _)| *known == name);
            let (_, slot) = slot.ok_or_else(invalid)?;
            if policy.rules.iter().any(|(known, _)| known == slot) {
                let message = format!("there are two rules for `{name}`");
                return Err(PolicyError::Invalid(message));
            }
            policy.rules.push((*slot, flags));
        }
        Ok(policy)
    }

    fn written(&self, slot: Slot) -> Option<Flags> {
        let mut rules = self.rules.iter();
        rules
            .find(|(known, _)| *known == slot)
            .map(|(_, flags)| *flags)
    }

    /// A rule as written; for hash and signature else one that follows from the data's.
    fn of(&self, slot: Slot) -> Flags {
        let derived = |designator, needed: Flags| {
            let data = self.written(Slot::Data(designator))?;
            let inherited = data.and(Flags::IGNORE);
            data.meets(needed)
                .then_some(Flags::UNPROTECTED.or(inherited))
        };
        let found = self.written(slot).or_else(|| match slot {
            Slot::Hash(designator) => derived(designator, Flags::VERITY.or(Flags::SIGNED)),
            Slot::Signature(designator) => derived(designator, Flags::SIGNED),
            Slot::Data(_) | Slot::Other(_) => None,
        });
        found.unwrap_or(self.default)
    }

    /// What becomes of an image.
    pub(super) fn rule(
        &self,
        shape: Shape,
        systemd: SystemdBuild,
    ) -> Result<Admitted, &'static str> {
        let data = Slot::Data(shape.designator);
        let plain = match shape.encrypted {
            true => Flags::ENCRYPTED,
            false => Flags::UNPROTECTED,
        };
        // `dissected_image_probe_filesystems` looks for encryption later on.
        let readable = match shape.encrypted {
            true => Flags::ENCRYPTED,
            false => Flags::VERITY.or(Flags::SIGNED).or(Flags::UNPROTECTED),
        };
        let verity_suffices = self.of(data).meets(Flags::VERITY);
        if !shape.partitioned {
            let own = self.of(Slot::Data(Root));
            // What lies beside it counts by its strongest level alone, in 258 as well.
            let found = match (shape.hash, shape.signature) {
                (true, true) => Flags::SIGNED,
                (true, false) => Flags::VERITY,
                (false, _) => plain,
            };
            return match () {
                () if own.meets(found) => Ok(Admitted {
                    hash: shape.hash,
                    signature: shape.signature,
                    verity_suffices,
                }),
                () if !own.meets(Flags::PRESENT) && own.meets(Flags::UNUSED) => {
                    Err("the policy passes over it, and nothing is left")
                }
                () if shape.hash => Err("the policy asks for another protection"),
                () => Err("the policy does not admit an image without hash tree"),
            };
        }
        let mut used = [false; 3];
        let slots = [
            data,
            Slot::Hash(shape.designator),
            Slot::Signature(shape.designator),
        ];
        let there = [true, shape.hash, shape.signature];
        for ((slot, there), used) in slots.iter().zip(there).zip(&mut used) {
            // `image_policy_may_use`
            match self.of(*slot) {
                _ if !there => {}
                flags if flags.meets(Flags::PRESENT) => *used = true,
                flags if flags.meets(Flags::UNUSED) => {}
                _ => return Err("the policy does not admit one of its partitions"),
            }
        }
        let [data_used, hash, signature] = used;
        if !data_used {
            return Err("the policy passes over its data, and nothing is left");
        }
        let cumulative = systemd.has(Change::PolicyCumulative);
        let level = match (hash, hash && signature) {
            (true, true) if cumulative => Flags::PRESENT,
            (true, true) => Flags::SIGNED,
            (true, false) if cumulative => Flags::VERITY.or(Flags::PLAIN),
            (true, false) => Flags::VERITY,
            _ => Flags::PLAIN,
        };
        for (_, slot) in SLOTS {
            let position = slots.iter().position(|own| *own == slot);
            let found = match position {
                Some(0) => level,
                Some(index) if used.get(index) == Some(&true) => Flags::PLAIN,
                Some(index) if there.get(index) == Some(&true) => Flags::UNUSED,
                _ => Flags::ABSENT,
            };
            if !self.of(slot).meets(found) {
                return Err(match position {
                    Some(0) => "the policy asks for another protection",
                    Some(_) => "the policy asks for a hash tree or a signature that is not there",
                    None => "the policy asks for partitions that an extension does not have",
                });
            }
        }
        if !self.of(data).meets(readable) {
            return Err("the policy asks for encryption");
        }
        Ok(Admitted {
            hash,
            signature,
            verity_suffices,
        })
    }
}

fn parse_flags(text: &str) -> Result<Flags, PolicyError> {
    let mut flags = Flags(0);
    for word in text.split('+').map(str::trim) {
        flags = flags.or(match word {
            "verity" => Flags::VERITY,
            "signed" => Flags::SIGNED,
            "encrypted" => Flags::ENCRYPTED,
            "unprotected" => Flags::UNPROTECTED,
            "unused" => Flags::UNUSED,
            "absent" => Flags::ABSENT,
            "open" => Flags::OPEN,
            "ignore" => Flags::IGNORE,
            "" => Flags(0),
            "read-only-on"
            | "read-only-off"
            | "growfs-on"
            | "growfs-off"
            | "encryptedwithintegrity"
            | "btrfs"
            | "erofs"
            | "ext4"
            | "f2fs"
            | "squashfs"
            | "vfat"
            | "xfs" => return Err(PolicyError::NotJudged(format!("`{word}`"))),
            _ => return Err(PolicyError::Invalid(format!("`{word}` is no flag"))),
        });
    }
    // `partition_policy_flags_extend`
    Ok(match flags {
        Flags(0) => Flags::OPEN,
        flags => flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::version::SystemdVersion;

    fn ruling(
        policy: &str,
        hash: bool,
        signature: bool,
        major: u32,
    ) -> Result<Admitted, &'static str> {
        let shape = Shape {
            partitioned: true,
            designator: Root,
            hash,
            signature,
            encrypted: false,
        };
        let policy = Policy::parse(policy).unwrap();
        policy.rule(shape, SystemdVersion::new(major, 0).into())
    }

    fn admitted(ruling: Result<Admitted, &str>) -> Option<(bool, bool)> {
        ruling.ok().map(|used| (used.hash, used.signature))
    }

    #[test]
    fn a_policy_without_signed_passes_over_the_signature() {
        // Seen on 257: merged, and unverified.
        for policy in ["root=verity", "root=verity+unprotected+absent"] {
            assert_eq!(
                admitted(ruling(policy, true, true, 257)),
                Some((true, false))
            );
        }
        let unprotected = ruling("root=unprotected", true, true, 257);
        assert_eq!(admitted(unprotected), Some((false, false)));
    }

    #[test]
    fn signed_asks_for_both_partitions() {
        let strict = "root=signed+absent:usr=signed+absent";
        assert_eq!(
            admitted(ruling(strict, true, true, 255)),
            Some((true, true))
        );
        assert_eq!(admitted(ruling(strict, true, false, 255)), None);
        assert_eq!(admitted(ruling(strict, false, false, 258)), None);
    }

    #[test]
    fn before_258_only_the_strongest_level_counts() {
        let policy = "root=signed+unprotected+absent";
        assert_eq!(admitted(ruling(policy, true, false, 257)), None);
        assert!(admitted(ruling(policy, true, false, 258)).is_some());
    }

    #[test]
    fn a_bare_default_asks_for_partitions_that_no_extension_has() {
        assert_eq!(admitted(ruling("=unprotected", false, false, 257)), None);
        assert!(admitted(ruling("*", false, false, 257)).is_some());
        assert_eq!(admitted(ruling("-", false, false, 257)), None);
    }

    #[test]
    fn what_is_no_policy_is_told_from_what_is_not_judged() {
        for text in ["bogus", "root=bogus", "root=open:root=open", "disk=open"] {
            assert!(
                matches!(Policy::parse(text), Err(PolicyError::Invalid(_))),
                "{text}"
            );
        }
        let other = Policy::parse("root=read-only-on");
        assert!(matches!(other, Err(PolicyError::NotJudged(_))));
    }
}
