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
}
