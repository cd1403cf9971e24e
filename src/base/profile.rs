//! Bases without a root file system at hand: built-in profiles and the user's own facts.

use std::collections::BTreeMap;

use super::certificate_copies::Copies;
use super::kernel::{Kernel, KernelFeatures, Support};
use super::systemd::Systemd;
use super::unit::{Enablement, UnitState};
use super::{Base, Origin};
use crate::base::mounts::SelinuxMode;
use crate::finding::Finding;
use crate::finding::suggest::nearest;
use crate::systemd::arch::Arch;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;

struct Profile {
    name: &'static str,
    arch: Arch,
    /// Fields of os-release that decide whether an extension fits.
    release: &'static [(&'static str, &'static str)],
    systemd: &'static str,
    systemd_source: &'static str,
    /// Whether systemd is Debian's, which had its units in `/lib` up to 254.
    from_dpkg: bool,
    /// Newer changes of systemd that the distribution ported back.
    backports: &'static [Change],
    kernel: &'static str,
    features: KernelFeatures,
    exec_start: &'static str,
    selinux: Option<SelinuxMode>,
}

/// All built-in profiles; a name without an architecture means x86-64. What the image maker
/// decides (certificates, present extensions) is unknown in them.
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
    DEBIAN_12,
    Profile {
        name: "debian-12-arm64",
        arch: Arch::ARM64,
        ..DEBIAN_12
    },
    UBUNTU_24_04,
    Profile {
        name: "ubuntu-24.04-arm64",
        arch: Arch::ARM64,
        ..UBUNTU_24_04
    },
    UBUNTU_22_04,
    Profile {
        name: "ubuntu-22.04-arm64",
        arch: Arch::ARM64,
        ..UBUNTU_22_04
    },
];

/// microsoft/azurelinux, branch 3.0 at 2172d5cf45 (2026-04-28).
const AZURE_LINUX_3: Profile = Profile {
    name: "azurelinux-3.0",
    arch: Arch::X86_64,
    // SPECS/azurelinux-release/azurelinux-release.spec writes no SYSEXT_LEVEL.
    release: &[("ID", "azurelinux"), ("VERSION_ID", "3.0")],
    // SPECS/systemd/systemd.spec: the v255 tarball without its point releases.
    systemd: "255",
    systemd_source: "microsoft/azurelinux 3.0 SPECS/systemd/systemd.spec, 2026-04-28",
    from_dpkg: false,
    backports: &[],
    // SPECS/kernel/kernel.spec: the 6.6 series.
    kernel: "6.6",
    // SPECS/kernel/config. Zstandard in EROFS came with Linux 6.10; LZMA and
    // deflate are off.
    features: KernelFeatures {
        erofs: Support::Module,
        erofs_lz4: Support::Yes,
        erofs_lzma: Support::No,
        erofs_deflate: Support::No,
        erofs_zstd: Support::No,
        squashfs: Support::Yes,
        squashfs_zstd: Support::Yes,
        squashfs_xz: Support::Yes,
        squashfs_lz4: Support::Yes,
        squashfs_gzip: Support::Yes,
        ext4: Support::Yes,
        dm_verity: Support::Module,
        dm_verity_signature: Support::Yes,
        overlay: Support::Yes,
        loop_device: Support::Yes,
        ..KernelFeatures::UNKNOWN
    },
    // systemd v255 units/systemd-sysext.service.in (2023-12-06).
    exec_start: "systemd-sysext refresh",
    selinux: Some(SelinuxMode::Disabled),
};

/// Debian 13 "trixie" as in its archive on 2026-11-22.
const DEBIAN_13: Profile = Profile {
    name: "debian-13",
    arch: Arch::X86_64,
    // Package base-files 13.
    release: &[("ID", "debian"), ("VERSION_ID", "13")],
    // Package systemd 257.13-1~deb13u1; the first release had 257.7.
    systemd: "257.7",
    systemd_source: "Debian 13.0 package systemd, 2025-08-09",
    from_dpkg: true,
    backports: &[],
    // Package linux-config-6.12 6.12.107-1, config.amd64_none_amd64.
    kernel: "6.12",
    features: KernelFeatures {
        erofs: Support::Module,
        erofs_lz4: Support::Yes,
        erofs_lzma: Support::Yes,
        erofs_deflate: Support::Yes,
        erofs_zstd: Support::Yes,
        squashfs: Support::Module,
        squashfs_zstd: Support::Yes,
        squashfs_xz: Support::Yes,
        squashfs_lz4: Support::Yes,
        squashfs_gzip: Support::Yes,
        ext4: Support::Module,
        dm_verity: Support::Module,
        dm_verity_signature: Support::Yes,
        overlay: Support::Module,
        loop_device: Support::Module,
        ..KernelFeatures::UNKNOWN
    },
    // systemd v257 units/systemd-sysext.service (2024-12-10).
    exec_start: "systemd-sysext refresh",
    selinux: None,
};

/// Debian 12 "bookworm" as in its archive on 2026-11-27.
const DEBIAN_12: Profile = Profile {
    name: "debian-12",
    arch: Arch::X86_64,
    // Package base-files 12.4.
    release: &[("ID", "debian"), ("VERSION_ID", "12")],
    // Package systemd 252.39-1~deb12u2; the first release had 252.6.
    systemd: "252.6",
    systemd_source: "Debian 12.0 package systemd, 2023-06-10",
    from_dpkg: true,
    backports: &[],
    // Package linux-config-6.1 6.1.192-2, config.amd64_none_amd64.
    kernel: "6.1",
    features: KernelFeatures {
        erofs: Support::Module,
        erofs_lz4: Support::Yes,
        erofs_lzma: Support::No,
        erofs_deflate: Support::No,
        erofs_zstd: Support::No,
        ..DEBIAN_13.features
    },
    // systemd v252 units/systemd-sysext.service (2022-10-31).
    exec_start: "systemd-sysext merge",
    selinux: None,
};

/// Ubuntu 24.04 "noble" as released. Its packages can't be fetched where this table is kept: the
/// kernel's options are those that the generic flavour is known for, not read again.
const UBUNTU_24_04: Profile = Profile {
    name: "ubuntu-24.04",
    arch: Arch::X86_64,
    release: &[("ID", "ubuntu"), ("VERSION_ID", "24.04")],
    systemd: "255.4",
    systemd_source: "Ubuntu 24.04 package systemd 255.4-1ubuntu8, 2024-04-25",
    from_dpkg: true,
    backports: &[],
    kernel: "6.8",
    features: KernelFeatures {
        erofs: Support::Module,
        erofs_lz4: Support::Yes,
        erofs_lzma: Support::Unknown,
        erofs_deflate: Support::Unknown,
        // Linux 6.10.
        erofs_zstd: Support::No,
        squashfs: Support::Yes,
        ext4: Support::Yes,
        loop_device: Support::Yes,
        ..DEBIAN_13.features
    },
    // systemd v255 units/systemd-sysext.service.in (2023-12-06).
    exec_start: "systemd-sysext refresh",
    selinux: None,
};

/// Ubuntu 22.04 "jammy" as released, likewise.
const UBUNTU_22_04: Profile = Profile {
    name: "ubuntu-22.04",
    release: &[("ID", "ubuntu"), ("VERSION_ID", "22.04")],
    systemd: "249.11",
    systemd_source: "Ubuntu 22.04 package systemd 249.11-0ubuntu3, 2022-04-21",
    backports: &[],
    kernel: "5.15",
    features: KernelFeatures {
        // Linux 5.16 and 6.6.
        erofs_lzma: Support::No,
        erofs_deflate: Support::No,
        ..UBUNTU_24_04.features
    },
    // systemd v249 units/systemd-sysext.service (2021-07-07).
    exec_start: "systemd-sysext merge",
    ..UBUNTU_24_04
};

/// The names of the built-in profiles.
pub(crate) fn names() -> Vec<&'static str> {
    PROFILES.iter().map(|profile| profile.name).collect()
}

/// A built-in profile by name.
pub(crate) fn by_name(name: &str) -> Result<Base, Finding> {
    if let Some(profile) = PROFILES.iter().find(|profile| profile.name == name) {
        return Ok(profile.base());
    }
    let known = names();
    let finding = Finding::error("unknown-profile", format!("there is no profile `{name}`"));
    Err(match nearest(name, &known) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => finding.help(format!(
            "known are {}; or give the base with --rootfs DIR",
            known.join(", ")
        )),
    })
}

/// The profile of an Azure Linux version as `input.image.azureLinux` names it. Prism fetches the
/// image for the architecture of the machine that it runs on.
pub(crate) fn azure_linux(version: &str, machine: Option<Arch>) -> Option<Base> {
    let base = by_name(&format!("azurelinux-{version}")).ok()?;
    Some(Base {
        arch: machine,
        ..base
    })
}

/// What the kernel of an OS can do, if there is a profile of that OS.
pub(super) fn kernel_features(release: &ReleaseFields) -> Option<KernelFeatures> {
    of(release).map(|profile| profile.features)
}

/// A build of systemd with what the distribution ported back to this series, if there is a profile
/// of it; another series is not the distribution's own build.
pub(super) fn with_backports(release: &ReleaseFields, build: SystemdBuild) -> SystemdBuild {
    let own = of(release).and_then(Profile::systemd);
    let own = own.filter(|own| own.build.version.is_of_series(build.version));
    SystemdBuild {
        backports: own.map_or(build.backports, |own| own.build.backports),
        ..build
    }
}

/// The profile of an OS; the facts that are used of it are the same for all architectures.
fn of(release: &ReleaseFields) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| {
        let mut fields = profile.release.iter();
        fields.all(|(key, value)| release.get(key) == Some(value))
    })
}

impl Profile {
    fn base(&self) -> Base {
        let mut release = ReleaseFields::new();
        for (key, value) in self.release {
            release.set(*key, *value);
        }
        let kernel = Kernel {
            release: self.kernel.to_owned(),
            config: None,
            features: self.features,
        };
        Base {
            arch: Some(self.arch),
            selinux: self.selinux,
            kernels: vec![kernel],
            ..bare(
                Origin::Profile(self.name),
                release,
                self.systemd(),
                self.exec_start,
            )
        }
    }

    fn systemd(&self) -> Option<Systemd> {
        let mut systemd = Systemd::parse(self.systemd, self.systemd_source)?;
        systemd.from_dpkg = self.from_dpkg;
        systemd.build.backports = self.backports;
        Some(systemd)
    }
}

/// A base that the user describes: `target: {osRelease, systemd, kernelConfig, arch}`.
#[derive(Debug, Clone)]
pub(crate) struct Custom<'a> {
    /// Its os-release.
    pub release: ReleaseFields,
    /// Its systemd; without it that of the profile of this OS.
    pub systemd: Option<Systemd>,
    /// The text of a kernel configuration.
    pub kernel_config: Option<&'a str>,
    /// The processor.
    pub arch: Option<Arch>,
}

impl Custom<'_> {
    /// The base; the unit is taken to exist and to be off, as a fresh systemd has it.
    pub(crate) fn base(self) -> Base {
        let given = self.systemd.map(|systemd| Systemd {
            build: with_backports(&self.release, systemd.build),
            ..systemd
        });
        let systemd = given.or_else(|| of(&self.release).and_then(Profile::systemd));
        let exec_start = match &systemd {
            Some(systemd) if !systemd.has(Change::UnitRefreshes) => "systemd-sysext merge",
            _ => "systemd-sysext refresh",
        };
        let kernels = self.kernel_config.map(|text| Kernel {
            release: "target".to_owned(),
            config: None,
            features: KernelFeatures::from_config(text),
        });
        Base {
            arch: self.arch,
            kernels: kernels.into_iter().collect(),
            ..bare(Origin::Custom, self.release, systemd, exec_start)
        }
    }
}

/// A base that has systemd and nothing else; a version that is not told is taken for a recent one.
fn bare(
    origin: Origin,
    release: ReleaseFields,
    systemd: Option<Systemd>,
    exec_start: &str,
) -> Base {
    let has = |change| systemd.as_ref().is_none_or(|systemd| systemd.has(change));
    let (sysext, confext) = (has(Change::Sysexts), has(Change::Confexts));
    let unit = |kind: ExtensionKind, exists: bool, command: String| UnitState {
        name: kind.unit(),
        file: exists.then(|| format!("/usr/lib/systemd/system/{}", kind.unit())),
        masked: None,
        enablement: Enablement::Disabled,
        text: exists.then(|| format!("[Service]\nExecStart={command}\n")),
        drop_ins: Vec::new(),
        exec_start: if exists { vec![command] } else { Vec::new() },
        image_policy: None,
        force: false,
        copies: Copies::default(),
        environment: BTreeMap::new(),
    };
    Base {
        origin,
        release,
        arch: None,
        has_sysext_tool: sysext,
        has_cryptsetup: None,
        has_install: None,
        extensions: Vec::new(),
        certificates: Vec::new(),
        sysext_unit: unit(ExtensionKind::Sysext, sysext, exec_start.to_owned()),
        confext_unit: unit(
            ExtensionKind::Confext,
            confext,
            exec_start.replace("sysext", "confext"),
        ),
        kernels: Vec::new(),
        overlay_mounts: Vec::new(),
        mounts_inside: Vec::new(),
        data_disks: Vec::new(),
        protected_root: false,
        initrd: false,
        selinux: None,
        findings: Vec::new(),
        systemd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::version::SystemdVersion;

    #[test]
    fn every_profile_can_be_had() {
        for profile in PROFILES {
            let base = by_name(profile.name).unwrap();
            assert!(base.release.filled("ID").is_some(), "{}", profile.name);
            assert!(base.systemd.is_some(), "{}", profile.name);
            assert!(base.sysext_unit.file.is_some() && !base.sysext_unit.is_enabled());
        }
        let finding = by_name("azurelinux-3").unwrap_err();
        assert_eq!(
            finding.help.as_deref(),
            Some("did you mean `azurelinux-3.0`?")
        );
        let azure = by_name("azurelinux-3.0").unwrap();
        assert_eq!(
            azure.systemd_build(),
            Some(SystemdVersion::new(255, 0).into())
        );
        assert_eq!(azure.arch, Some(Arch::X86_64));
        let arm = by_name("debian-13-arm64").unwrap();
        assert_eq!(arm.arch, Some(Arch::ARM64));
    }

    #[test]
    fn prism_fetches_azure_linux_for_this_machine() {
        let base = azure_linux("3.0", Some(Arch::ARM64)).unwrap();
        assert_eq!(base.arch, Some(Arch::ARM64));
        assert!(azure_linux("9.9", None).is_none());
    }

    #[test]
    fn a_custom_target_takes_the_rest_from_the_profile() {
        let release = |text: &str| ReleaseFields::parse(text.as_bytes()).unwrap();
        let base = Custom {
            release: release("ID=x\n"),
            systemd: Systemd::parse("252", "target"),
            kernel_config: Some("CONFIG_EROFS_FS=y\n"),
            arch: Some(Arch::ARM64),
        }
        .base();
        assert_eq!(base.kernel_features().erofs, Support::Yes);
        assert_eq!(base.sysext_unit.exec_start, ["systemd-sysext merge"]);
        assert!(base.confext_unit.file.is_none());
        let bare = |text: &str| {
            let custom = Custom {
                release: release(text),
                systemd: None,
                kernel_config: None,
                arch: None,
            };
            custom.base()
        };
        let debian = bare("ID=debian\nVERSION_ID=13\n");
        let own = debian.systemd_build().map(|build| build.version);
        assert_eq!(own, Some(SystemdVersion::new(257, 7)));
        assert!(debian.kernel_features().erofs.is_there());
        assert_eq!(bare("ID=y\n").systemd_build(), None);
        assert!(bare("ID=y\n").sysext_unit.file.is_some());
    }
}
