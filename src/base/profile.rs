//! Built-in facts of bases that are not at hand.

use super::kernel::{Kernel, Support};
use super::unit::UnitState;
use super::{Base, Origin};
use crate::arch::Arch;
use crate::config::nearest;
use crate::finding::Finding;
use crate::release::{ReleaseFields, SystemdVersion};

use Support::{No, Unknown, Yes};

/// One base as published.
struct Profile {
    name: &'static str,
    id: &'static str,
    version_id: &'static str,
    arch: Arch,
    systemd: SystemdVersion,
    kernel: Kernel,
}

/// azurelinux-release of branch 3.0 (2026-04); SPECS/systemd/systemd.spec: the tag v255, not a
/// 255.x release; SPECS/kernel/config: Linux 6.6.
const AZURE_LINUX_3: Profile = Profile {
    name: "azurelinux-3.0",
    id: "azurelinux",
    version_id: "3.0",
    arch: Arch::X86_64,
    systemd: SystemdVersion::new(255, 0),
    kernel: Kernel {
        erofs: Yes,
        erofs_lz4: Yes,
        erofs_zstd: No,
        erofs_lzma: No,
        erofs_deflate: No,
        squashfs: Yes,
        ext4: Yes,
        overlay: Yes,
        loop_device: Yes,
        dm_verity: Yes,
    },
};

/// base-files 13 (2025-08); systemd 257 of trixie, whose point release changes with updates;
/// the configuration of Linux 6.12 in linux-image-amd64.
const DEBIAN_13: Profile = Profile {
    name: "debian-13",
    id: "debian",
    version_id: "13",
    arch: Arch::X86_64,
    systemd: SystemdVersion::new(257, 0),
    kernel: Kernel {
        erofs: Yes,
        erofs_lz4: Yes,
        erofs_zstd: Unknown,
        erofs_lzma: Unknown,
        erofs_deflate: Unknown,
        squashfs: Yes,
        ext4: Yes,
        overlay: Yes,
        loop_device: Yes,
        dm_verity: Yes,
    },
};

/// A name without an architecture means x86-64.
const PROFILES: &[Profile] = &[
    AZURE_LINUX_3,
    Profile {
        name: "azurelinux-3.0-arm64",
        arch: Arch::ARM64,
        ..AZURE_LINUX_3
    },
    DEBIAN_13,
    Profile {
        name: "debian-13-arm64",
        arch: Arch::ARM64,
        ..DEBIAN_13
    },
];

/// The base of a profile name.
pub fn by_name(name: &str) -> Result<Base, Finding> {
    if let Some(profile) = PROFILES.iter().find(|profile| profile.name == name) {
        return Ok(profile.base());
    }
    let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
    let finding = Finding::error("unknown-profile", format!("there is no profile `{name}`"));
    Err(match nearest(name, &known) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => finding.help(format!(
            "known are {}; or give the base with --rootfs DIR",
            known.join(", ")
        )),
    })
}

/// The profile of an OS, if there is one.
pub fn of(os_release: &ReleaseFields) -> Option<Base> {
    PROFILES
        .iter()
        .find(|profile| {
            os_release.get("ID") == Some(profile.id)
                && os_release.get("VERSION_ID") == Some(profile.version_id)
        })
        .map(Profile::base)
}

/// The profile of an Azure Linux version as `input.image.azureLinux` names it. Prism fetches the
/// image for the architecture of the machine that it runs on.
pub fn azure_linux(version: &str, machine: Option<Arch>) -> Option<Base> {
    let base = by_name(&format!("azurelinux-{version}")).ok()?;
    Some(Base {
        arch: machine,
        ..base
    })
}

impl Profile {
    fn base(&self) -> Base {
        let mut os_release = ReleaseFields::new();
        os_release.set("ID", self.id);
        os_release.set("VERSION_ID", self.version_id);
        Base {
            origin: Origin::Profile(self.name.to_owned()),
            os_release,
            systemd: Some(self.systemd),
            arch: Some(self.arch),
            kernel: self.kernel,
            unit: UnitState {
                path: Some(format!("/usr/lib/systemd/system/{}", super::unit::UNIT)),
                ..UnitState::default()
            },
            extensions: Vec::new(),
            certificates: Vec::new(),
            findings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_name_and_by_os_release() {
        let base = by_name("azurelinux-3.0").unwrap();
        assert_eq!(base.os_release.get("VERSION_ID"), Some("3.0"));
        assert_eq!(of(&base.os_release).unwrap().systemd, base.systemd);
        assert_eq!(
            azure_linux("3.0", Some(Arch::ARM64)).unwrap().arch,
            Some(Arch::ARM64)
        );
        assert!(azure_linux("9.9", None).is_none());
        assert_eq!(base.arch, Some(Arch::X86_64));
        let finding = by_name("azurelinux-3").unwrap_err();
        assert_eq!(
            finding.help.as_deref(),
            Some("did you mean `azurelinux-3.0`?")
        );
    }
}
