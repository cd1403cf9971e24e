//! Built-in facts of bases that are not at hand.

use super::kernel::{Kernel, Support};
use super::unit::UnitState;
use super::{Base, Origin};
use crate::config::nearest;
use crate::finding::Finding;
use crate::release::{ReleaseFields, SystemdVersion};

use Support::{No, Unknown, Yes};

/// One base as published.
struct Profile {
    name: &'static str,
    id: &'static str,
    version_id: &'static str,
    systemd: SystemdVersion,
    kernel: Kernel,
}

const PROFILES: &[Profile] = &[
    Profile {
        name: "azurelinux-3.0",
        // azurelinux-release of branch 3.0 (2026-04).
        id: "azurelinux",
        version_id: "3.0",
        // SPECS/systemd/systemd.spec of branch 3.0 (2026-04): the tag v255, not a 255.x release.
        systemd: SystemdVersion {
            major: 255,
            minor: 0,
        },
        // SPECS/kernel/config of branch 3.0, Linux 6.6 (2026-04).
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
    },
    Profile {
        name: "debian-13",
        // base-files 13 (2025-08).
        id: "debian",
        version_id: "13",
        // systemd 257 of trixie (2025-08); the point release changes with updates.
        systemd: SystemdVersion {
            major: 257,
            minor: 0,
        },
        // config-6.12 of linux-image-amd64 in trixie.
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

/// The profile of an Azure Linux version as `input.image.azureLinux` names it.
pub fn azure_linux(version: &str) -> Option<Base> {
    by_name(&format!("azurelinux-{version}")).ok()
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
            // Both are published for x86-64 and arm64.
            arch: None,
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
        assert!(azure_linux("3.0").is_some());
        assert!(azure_linux("9.9").is_none());
        let finding = by_name("azurelinux-3").unwrap_err();
        assert_eq!(
            finding.help.as_deref(),
            Some("did you mean `azurelinux-3.0`?")
        );
    }
}
