//! What the base OS is: the facts that decide whether an extension is merged.
//!
//! Facts come from a root file system ([`Base::read`]), from a built-in
//! description of a distribution (`profile`) or from a few files of the user
//! (`profile::Custom`). Everything in a root file system is hostile: files
//! are bounded, links stay inside, and what cannot be read becomes a finding.

pub(crate) mod certificate_copies;
pub(crate) mod disk;
pub(crate) mod extensions;
mod facts;
pub(crate) mod folder;
pub(crate) mod kernel;
pub(crate) mod mounts;
pub(crate) mod profile;
pub(crate) mod rootfs;
mod sysext_conf;
pub(crate) mod systemd;
pub(crate) mod unit;

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::finding::Finding;
use crate::image::x509::Certificate;
use crate::systemd::arch::Arch;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file;
use crate::systemd::release_file::ReleaseFields;
use extensions::{CertificateFile, ExistingExtension};
use facts::Facts;
use kernel::{Kernel, KernelFeatures};
use mounts::{OverlayMount, SelinuxMode};
use rootfs::RootFs;
use systemd::Systemd;
use unit::UnitState;

/// Where systemd looks for the os-release file (`src/shared/os-util.c`, `open_os_release_at`).
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// Where the facts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum Origin {
    /// A root file system in this folder or disk image.
    Rootfs(PathBuf),
    /// A built-in profile.
    Profile(&'static str),
    /// The user's own description.
    Custom,
}

/// The facts about a base OS.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    /// Where the facts come from.
    pub origin: Origin,
    /// The os-release file.
    pub release: ReleaseFields,
    /// Its systemd, when it has one that we recognize.
    pub systemd: Option<Systemd>,
    /// The processor its programs are built for.
    #[serde(serialize_with = "arch_name")]
    pub arch: Option<Arch>,
    /// Whether `systemd-sysext` is installed.
    pub has_sysext_tool: bool,
    /// Whether the library that dm-verity needs is installed; nothing is known of it in a profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_cryptsetup: Option<bool>,
    /// Whether `install` is there, which copies certificates; nothing is known of it in a profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_install: Option<bool>,
    /// Entries of the folders that systemd searches, in its order.
    pub extensions: Vec<ExistingExtension>,
    /// Files that systemd takes for trusted certificates.
    pub certificates: Vec<CertificateFile>,
    /// `systemd-sysext.service`.
    pub sysext_unit: UnitState,
    /// `systemd-confext.service`.
    pub confext_unit: UnitState,
    /// Installed kernels; empty when none is, as in a container image.
    pub kernels: Vec<Kernel>,
    /// overlayfs mounts of `/etc/fstab` at or around the folders that extensions are merged into.
    pub overlay_mounts: Vec<OverlayMount>,
    /// Other mounts of `/etc/fstab` below those folders.
    pub mounts_inside: Vec<String>,
    /// Where `/etc/fstab` mounts data disks of Azure.
    pub data_disks: Vec<String>,
    /// Whether dm-verity protects its root as a whole, as far as that can be seen.
    pub protected_root: bool,
    /// Whether it is an initrd (`/etc/initrd-release`).
    pub initrd: bool,
    /// `SELINUX=` of `/etc/selinux/config`.
    pub selinux: Option<SelinuxMode>,
    /// What could not be read, or was strange.
    pub findings: Vec<Finding>,
}

impl Base {
    /// Reads the facts from a root file system.
    ///
    /// # Errors
    /// `base-without-os-release` if there is no os-release file; `base-os-release` if it can't be
    /// read or has no `ID`. Nothing else fails: it ends up in `findings`.
    pub fn read(root: &dyn RootFs) -> Result<Base, Finding> {
        let mut facts = Facts {
            root,
            findings: Vec::new(),
        };
        let systemd = read_systemd(&mut facts);
        let sysext_unit = read_unit(&mut facts, ExtensionKind::Sysext, systemd.as_ref());
        let variable = sysext_unit.environment.get("SYSTEMD_OS_RELEASE");
        let listens = systemd
            .as_ref()
            .is_some_and(|found| found.has(Change::OsReleaseVariable));
        let release = match variable.filter(|_| listens) {
            Some(path) => read_os_release(root, &[path.as_str()])?,
            None => read_os_release(root, &OS_RELEASE)?,
        };
        let confext_unit = read_unit(&mut facts, ExtensionKind::Confext, systemd.as_ref());
        let units = [
            (ExtensionKind::Sysext, &sysext_unit.copies),
            (ExtensionKind::Confext, &confext_unit.copies),
        ];
        let certificates = extensions::read_certificates(&mut facts, units);
        let fstab = mounts::read_fstab(&mut facts);
        Ok(Base {
            origin: Origin::Rootfs(root.path().to_owned()),
            release,
            initrd: facts.metadata("etc/initrd-release").is_some(),
            arch: systemd::read_arch(&mut facts),
            has_sysext_tool: systemd::has_sysext_tool(&mut facts),
            has_cryptsetup: Some(systemd::has_cryptsetup(&mut facts)),
            extensions: extensions::read_extensions(&mut facts, systemd.as_ref()),
            sysext_unit,
            has_install: Some(systemd::has_install(&mut facts)),
            certificates,
            confext_unit,
            kernels: kernel::read_kernels(&mut facts),
            overlay_mounts: mounts::overlays(&fstab),
            mounts_inside: mounts::inside(&fstab),
            data_disks: mounts::data_disks(&fstab),
            protected_root: root.is_protected(),
            selinux: mounts::read_selinux(&mut facts),
            systemd,
            findings: facts.findings,
        })
    }

    /// The unit that merges extensions of a kind.
    pub fn unit(&self, kind: ExtensionKind) -> &UnitState {
        match kind {
            ExtensionKind::Sysext => &self.sysext_unit,
            ExtensionKind::Confext => &self.confext_unit,
        }
    }

    /// The build of its systemd, if it is known; the rules ask it for changes.
    pub fn systemd_build(&self) -> Option<SystemdBuild> {
        self.systemd.as_ref().map(|systemd| systemd.build)
    }

    /// Features that *every* installed kernel has; what no kernel here tells is taken
    /// from the profile of this OS, if there is one.
    pub fn kernel_features(&self) -> KernelFeatures {
        let mut kernels = self.kernels.iter().map(|kernel| kernel.features);
        let mut all = kernels.next().unwrap_or(KernelFeatures::UNKNOWN);
        for features in kernels {
            all.weaken(features);
        }
        if let Some(known) = profile::kernel_features(&self.release) {
            all.fill_from(known);
        }
        all
    }

    /// Whether all installed kernels are known and of at least this version.
    pub fn kernels_since(&self, major: u32, minor: u32) -> bool {
        let since = |kernel: &Kernel| kernel.version().is_some_and(|v| v >= (major, minor));
        !self.kernels.is_empty() && self.kernels.iter().all(since)
    }

    /// Certificates that systemd trusts when it merges extensions of a kind.
    pub fn trusted(&self, kind: ExtensionKind) -> Vec<Certificate> {
        let files = self.certificates.iter();
        let files = files.filter(|file| file.only_for.is_none_or(|only| only == kind));
        files.map(|file| file.certificate.clone()).collect()
    }

    /// Whether something that decides about a merge may have been overlooked; the findings say what.
    pub fn is_incomplete(&self) -> bool {
        let overlooked = ["base-unreadable", "base-folder-too-full"];
        self.findings
            .iter()
            .any(|finding| overlooked.contains(&finding.id))
    }
}

/// The systemd of a base with its backports. They go with the distribution's own os-release, also
/// where `$SYSTEMD_OS_RELEASE` names another file for extensions to match.
fn read_systemd(facts: &mut Facts<'_>) -> Option<Systemd> {
    let mut systemd = systemd::read_systemd(facts)?;
    if let Ok(release) = read_os_release(facts.root, &OS_RELEASE) {
        systemd.build = profile::with_backports(&release, systemd.build);
    }
    Some(systemd)
}

/// A unit with the image policy that it ends up with.
fn read_unit(facts: &mut Facts<'_>, kind: ExtensionKind, systemd: Option<&Systemd>) -> UnitState {
    let mut unit = unit::read_unit(facts, kind, systemd);
    let reads_conf = systemd.is_some_and(|found| found.has(Change::ConfigFiles));
    if unit.image_policy.is_none() && reads_conf {
        unit.image_policy = sysext_conf::image_policy(facts, kind);
    }
    unit
}

/// The state of the merging unit of a base, without the other facts.
pub fn read_unit_state(root: &dyn RootFs, kind: ExtensionKind) -> (UnitState, Vec<Finding>) {
    let mut facts = Facts {
        root,
        findings: Vec::new(),
    };
    let systemd = read_systemd(&mut facts);
    let state = read_unit(&mut facts, kind, systemd.as_ref());
    (state, facts.findings)
}

/// What SELinux does in a base, without the other facts.
pub fn read_selinux(root: &dyn RootFs) -> Option<SelinuxMode> {
    mounts::read_selinux(&mut Facts {
        root,
        findings: Vec::new(),
    })
}

fn read_os_release(root: &dyn RootFs, paths: &[&str]) -> Result<ReleaseFields, Finding> {
    for path in paths {
        let unreadable = |message: String| {
            Finding::error("base-os-release", message)
                .in_file(root.shown(Path::new(path)))
                .because("without an ID in os-release systemd merges nothing (`extension_release_validate`, src/shared/extension-util.c)")
                .help("put the os-release file of the distribution there")
        };
        let bytes = root
            .read(Path::new(path), release_file::MAX_SIZE)
            .map_err(|error| unreadable(error.to_string()))?;
        if let Some(bytes) = bytes {
            let fields = ReleaseFields::parse(&bytes)
                .map_err(|error| unreadable(format!("reading /{path} of the base: {error}")))?;
            return match fields.filled("ID") {
                Some(_) => Ok(fields),
                None => Err(unreadable(format!("/{path} of the base has no ID"))),
            };
        }
    }
    let message = format!(
        "{} has neither etc/os-release nor usr/lib/os-release",
        root.path().display()
    );
    Err(Finding::error("base-without-os-release", message)
        .because("systemd-sysext reads the os-release file of the host first (systemd `src/shared/os-util.c`)")
        .help("give the folder that holds the root file system of an installed OS"))
}

fn arch_name<S: Serializer>(arch: &Option<Arch>, serializer: S) -> Result<S::Ok, S::Error> {
    arch.map(Arch::name).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::extensions::TakenAs;
    use super::kernel::Support;
    use super::unit::Enablement;
    use super::*;
    use crate::io::open::testing::write;
    use crate::io::root::EntryKind;
    use crate::io::root::RootDir;
    use crate::systemd::version::SystemdVersion;
    use std::os::unix::fs::symlink;

    fn read(dir: &Path) -> Result<Base, Finding> {
        Base::read(&RootDir::open(dir).unwrap())
    }

    #[test]
    fn reads_a_debian_like_base() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(
            root,
            "usr/lib/os-release",
            b"ID=debian\nVERSION_ID=\"12\"\n",
        );
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
        write(root, "usr/lib/systemd/libsystemd-shared-252.so", b"");
        write(
            root,
            "var/lib/dpkg/status",
            b"Package: systemd\nStatus: install ok installed\nVersion: 252.39-1~deb12u2\n",
        );
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(18, 0);
        elf.extend([62, 0]);
        write(root, "usr/bin/systemd-sysext", &elf);
        write(
            root,
            "usr/lib/systemd/system/systemd-sysext.service",
            b"[Service]\nExecStart=systemd-sysext merge\n",
        );
        symlink("usr/lib", root.join("lib")).unwrap();
        write(root, "var/lib/extensions/a.raw", b"abc");
        symlink("/gone", root.join("var/lib/extensions/b.raw")).unwrap();
        let pair = crate::image::x509::key_pair::KeyPair::generate("a", 1_700_000_000, 1).unwrap();
        write(root, "etc/verity.d/k.crt", &pair.certificate);
        write(root, "usr/lib/verity.d/broken.crt", b"no certificate");
        write(root, "usr/lib/verity.d/k.crt", b"hidden");
        write(root, "boot/config-6.1.0", b"CONFIG_EROFS_FS=m\n");
        write(
            root,
            "etc/fstab",
            b"overlay /usr overlay lowerdir=/usr 0 0\n",
        );
        write(root, "etc/selinux/config", b"# x\nSELINUX=permissive\n");

        let base = read(root).unwrap();
        assert_eq!(base.release.get("ID"), Some("debian"));
        let systemd = base.systemd.as_ref().unwrap();
        assert_eq!(systemd.build.version, SystemdVersion::new(252, 39));
        assert_eq!(base.arch, Some(Arch::X86_64));
        assert!(base.has_sysext_tool);
        assert_eq!(base.extensions.len(), 2);
        assert_eq!(base.extensions[0].path(), "/var/lib/extensions/a.raw");
        assert_eq!(base.extensions[1].kind, EntryKind::Link);
        assert_eq!(base.certificates.len(), 1);
        assert_eq!(base.trusted(ExtensionKind::Sysext)[0].subject, "CN=a");
        let unit = &base.sysext_unit;
        assert_eq!(
            unit.file.as_deref(),
            Some("/lib/systemd/system/systemd-sysext.service")
        );
        assert_eq!(unit.enablement, Enablement::Disabled);
        assert_eq!(base.kernel_features().erofs, Support::Module);
        assert_eq!(base.overlay_mounts.len(), 1);
        assert_eq!(base.selinux, Some(SelinuxMode::Permissive));
        let ids: Vec<_> = base.findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["certificate-not-taken", "dangling-extension"]);
        assert!(
            serde_json::to_string(&base)
                .unwrap()
                .contains("\"arch\":\"x86-64\"")
        );
    }

    #[test]
    fn a_dead_os_release_link_falls_through_and_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("/nowhere", dir.path().join("etc/os-release")).unwrap();
        let finding = read(dir.path()).unwrap_err();
        assert_eq!(finding.id, "base-without-os-release");
        write(dir.path(), "usr/lib/os-release", b"ID=x\n");
        assert_eq!(read(dir.path()).unwrap().release.get("ID"), Some("x"));
        for text in [b"ID=x\0\n".as_slice(), b"NAME=x\n"] {
            write(dir.path(), "usr/lib/os-release", text);
            let finding = read(dir.path()).unwrap_err();
            assert_eq!(finding.id, "base-os-release");
        }
    }

    #[test]
    fn masks_and_links_of_the_unit_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "etc/os-release", b"ID=x\n");
        write(
            root,
            "usr/lib/systemd/system/systemd-sysext.service",
            b"[Unit]\n",
        );
        write(root, "etc/systemd/system/sysinit.target.wants/.keep", b"");
        let wants = root.join("etc/systemd/system/sysinit.target.wants/systemd-sysext.service");
        symlink("/usr/lib/systemd/system/systemd-sysext.service", &wants).unwrap();
        assert!(read(root).unwrap().sysext_unit.is_enabled());
        std::fs::remove_file(&wants).unwrap();
        symlink("/dev/null", &wants).unwrap();
        let unit = read(root).unwrap().sysext_unit;
        assert!(matches!(unit.enablement, Enablement::Blocked(_)));
        symlink(
            "/dev/null",
            root.join("etc/systemd/system/systemd-sysext.service"),
        )
        .unwrap();
        let unit = read(root).unwrap().sysext_unit;
        assert!(unit.masked.is_some() && unit.file.is_none());
    }

    #[test]
    fn a_crowded_folder_is_cut_short_and_told() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "etc/os-release", b"ID=x\n");
        for number in 0..facts::NAME_LIMIT + 1 {
            write(dir.path(), &format!("etc/extensions/{number}"), b"");
        }
        let base = read(dir.path()).unwrap();
        assert_eq!(base.extensions.len(), facts::NAME_LIMIT);
        assert_eq!(base.findings[0].id, "base-folder-too-full");
    }

    #[test]
    fn entries_are_taken_as_systemd_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "etc/os-release", b"ID=x\n");
        write(root, "var/lib/extensions/a.raw", b"x");
        write(root, "var/lib/extensions/b.txt", b"x");
        write(root, "var/lib/extensions/c/usr/x", b"");
        write(root, "usr/lib/extensions/old.raw", b"x");
        write(root, "etc/extensions/x", b"");
        symlink("/mnt/d.raw", root.join("etc/extensions/d.raw")).unwrap();
        symlink("e.raw", root.join("etc/extensions/e.raw")).unwrap();
        let taken = |major: &str| -> Vec<_> {
            let library = format!("usr/lib/systemd/libsystemd-shared-{major}.so");
            write(root, &library, b"");
            let base = read(root).unwrap();
            std::fs::remove_file(root.join(library)).unwrap();
            let entries = base.extensions.iter();
            entries
                .filter_map(|entry| Some((entry.name.clone(), entry.taken_as()?)))
                .collect()
        };
        let expected = [
            ("e.raw", TakenAs::Other),
            ("a.raw", TakenAs::Image),
            ("c", TakenAs::Folder),
            ("old.raw", TakenAs::Image),
        ]
        .map(|(name, taken)| (name.to_owned(), taken));
        assert_eq!(taken("253"), expected);
        assert_eq!(taken("254"), expected[..3]);
    }

    #[test]
    fn the_profile_fills_only_what_no_kernel_tells() {
        let dir = tempfile::tempdir().unwrap();
        let release = b"ID=azurelinux\nVERSION_ID=\"3.0\"\n";
        write(dir.path(), "etc/os-release", release);
        assert!(read(dir.path()).unwrap().kernel_features().erofs.is_there());
        write(dir.path(), "boot/config-1", b"CONFIG_EXT4_FS=y\n");
        let features = read(dir.path()).unwrap().kernel_features();
        assert!(features.erofs.is_missing() && features.ext4.is_there());
        write(dir.path(), "etc/os-release", b"ID=other\n");
        std::fs::remove_file(dir.path().join("boot/config-1")).unwrap();
        let features = read(dir.path()).unwrap().kernel_features();
        assert_eq!(features, KernelFeatures::UNKNOWN);
    }
}
