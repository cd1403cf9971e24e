//! Architecture names as systemd spells them.

use std::fmt;

/// Names of systemd's `src/basic/architecture.c` for which the Discoverable
/// Partitions Specification has partition types.
const NAMES: &[&str] = &[
    "x86-64",
    "x86",
    "arm64",
    "arm",
    "alpha",
    "arc",
    "ia64",
    "loongarch64",
    "mips",
    "mips-le",
    "mips64",
    "mips64-le",
    "parisc",
    "ppc",
    "ppc64",
    "ppc64-le",
    "riscv32",
    "riscv64",
    "s390",
    "s390x",
    "tilegx",
];

/// Spellings of other tools (`uname -m`, Debian, Go) and what systemd calls them.
const ALIASES: &[(&str, &str)] = &[
    ("x86_64", "x86-64"),
    ("amd64", "x86-64"),
    ("aarch64", "arm64"),
    ("i386", "x86"),
    ("i486", "x86"),
    ("i586", "x86"),
    ("i686", "x86"),
    ("armhf", "arm"),
    ("armv7l", "arm"),
    ("ppc64le", "ppc64-le"),
    ("ppc64el", "ppc64-le"),
    ("riscv64gc", "riscv64"),
];

/// Bytes of an ELF file that tell its architecture.
pub const ELF_START: u64 = 20;

/// A processor architecture, by systemd's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arch(&'static str);

impl Arch {
    /// 64-bit x86.
    pub const X86_64: Arch = Arch("x86-64");
    /// 64-bit Arm.
    pub const ARM64: Arch = Arch("arm64");

    /// Reads systemd's name or a common alias of it.
    pub fn parse(name: &str) -> Option<Arch> {
        let canonical = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, name)| name);
        NAMES
            .iter()
            .find(|known| **known == canonical)
            .map(|known| Arch(known))
    }

    /// The exact name: systemd compares `ARCHITECTURE=` bytewise, an alias there never matches.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The architecture in the first bytes of an ELF file (gABI: class at 4, byte order at 5,
    /// machine at 18); nothing for other files and machines without a name.
    pub fn of_elf(header: &[u8]) -> Option<Arch> {
        if header.get(..4)? != b"\x7fELF" {
            return None;
        }
        let wide = *header.get(4)? == 2;
        let little = *header.get(5)? == 1;
        let machine: [u8; 2] = header.get(18..20)?.try_into().ok()?;
        let machine = if little {
            u16::from_le_bytes(machine)
        } else {
            u16::from_be_bytes(machine)
        };
        // Numbers of the Linux `include/uapi/linux/elf-em.h`.
        let name = match (machine, wide, little) {
            (62, _, true) => "x86-64",
            (3, _, true) => "x86",
            (183, _, true) => "arm64",
            (40, _, true) => "arm",
            (243, true, _) => "riscv64",
            (243, false, _) => "riscv32",
            (21, _, true) => "ppc64-le",
            (21, _, false) => "ppc64",
            (20, _, false) => "ppc",
            (22, true, _) => "s390x",
            (22, false, _) => "s390",
            (258, true, _) => "loongarch64",
            (8, true, true) => "mips64-le",
            (8, true, false) => "mips64",
            (8, false, true) => "mips-le",
            (8, false, false) => "mips",
            (50, _, _) => "ia64",
            (0x9026, _, _) => "alpha",
            (15, _, _) => "parisc",
            (191, _, _) => "tilegx",
            (93 | 195, _, true) => "arc",
            _ => return None,
        };
        Arch::parse(name)
    }

    /// All architectures, for tables and suggestions.
    pub fn all() -> impl Iterator<Item = Arch> {
        NAMES.iter().map(|name| Arch(name))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_become_systemd_names() {
        assert_eq!(Arch::parse("amd64"), Some(Arch::X86_64));
        assert_eq!(Arch::parse("x86_64"), Some(Arch::X86_64));
        assert_eq!(Arch::parse("aarch64"), Some(Arch::ARM64));
        assert_eq!(Arch::parse("riscv64").map(Arch::name), Some("riscv64"));
        assert_eq!(Arch::parse("X86-64"), None);
        assert_eq!(Arch::parse(""), None);
    }

    #[test]
    fn every_alias_leads_to_a_known_name() {
        for (alias, _) in ALIASES {
            assert!(Arch::parse(alias).is_some(), "{alias}");
        }
    }

    #[test]
    fn elf_headers_tell_the_architecture() {
        let header = |class: u8, order: u8, machine: [u8; 2]| {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend([class, order]);
            bytes.resize(18, 0);
            bytes.extend(machine);
            Arch::of_elf(&bytes).map(Arch::name)
        };
        assert_eq!(header(2, 1, [62, 0]), Some("x86-64"));
        assert_eq!(header(2, 1, [183, 0]), Some("arm64"));
        assert_eq!(header(2, 2, [0, 22]), Some("s390x"));
        assert_eq!(header(2, 1, [1, 0]), None);
        assert_eq!(Arch::of_elf(b"\x7fELF"), None);
        assert_eq!(Arch::of_elf(b"#!/bin/sh                  "), None);
    }
}
