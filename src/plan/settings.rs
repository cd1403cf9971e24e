//! What of the base itself gets in the way of extensions, short of stopping the merge.

use std::path::Path;

use crate::base::Base;
use crate::base::mounts::SelinuxMode;
use crate::base::rootfs::RootFs;
use crate::config::Config;
use crate::config::model::{CertificateLocation, ImagePolicy, OverlayConflict, Sysext};
use crate::config::prism::Prism;
use crate::finding::Finding;
use crate::io::root::EntryKind;
use crate::systemd::changes::Change;
use crate::tree::Folder;

/// Overlays of the base on `/usr` and `/opt`, and SELinux where systemd does not label its overlay.
pub(crate) fn of_base(base: &Base, conflict: OverlayConflict) -> Vec<Finding> {
    let mut findings = Vec::new();
    if conflict != OverlayConflict::Ignore {
        for overlay in &base.overlay_mounts {
            let message = format!(
                "etc/fstab of the base mounts an overlay on {}",
                overlay.mount_point
            );
            let finding = match conflict {
                OverlayConflict::Error => Finding::error("overlay-on-hierarchy", message),
                _ => Finding::warning("overlay-on-hierarchy", message),
            };
            findings.push(
                finding
                    .because("systemd mounts its own overlay on top, read-only: while extensions are merged, writes no longer reach the one below; the kernel stacks two overlays at most")
                    .help("leave /usr and /opt to the extensions, or say `overlayConflict: ignore`"),
            );
        }
    }
    let has = |change| {
        base.systemd_build()
            .is_some_and(|systemd| systemd.has(change))
    };
    if !has(Change::SubmountsKept) && !base.mounts_inside.is_empty() {
        let mounts = base.mounts_inside.join(", ");
        findings.push(
            Finding::warning(
                "mount-hidden",
                format!("etc/fstab of the base mounts {mounts}, which the merge hides"),
            )
            .because(Change::SubmountsKept.source())
            .help("mount it elsewhere and link to it, or use a base with systemd 257"),
        );
    }
    if base.selinux == Some(SelinuxMode::Enforcing) && !has(Change::SelinuxLabel) {
        findings.push(
            Finding::warning(
                "selinux-enforcing",
                "SELinux is enforcing in the base, and its systemd does not label the merged /usr",
            )
            .because(Change::SelinuxLabel.source())
            .help("boot with SELinux permissive or off, or use a base with systemd 257"),
        );
    }
    findings
}

/// Settings of the `sysext` section that can't work on this base.
pub(crate) fn of_settings(base: &Base, config: &Config, sysext: &Sysext) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(selinux(base, config));
    findings.extend(on_data_disk(base, sysext));
    let systemd = base.systemd_build();
    if let Some(systemd) = systemd.filter(|systemd| !systemd.has(Change::ImagePolicy))
        && sysext.image_policy != ImagePolicy::Default
    {
        let message = format!("systemd {systemd} of the base knows no image policy");
        findings.push(
            Finding::error("image-policy-unsupported", message)
                .at("sysext.imagePolicy")
                .because("`--image-policy=` came with 254 (NEWS); on the unknown option the service fails and merges nothing")
                .help("leave it out; on such a base sign all extensions and keep others from writing to the folders that systemd searches, for example by a read-only root with dm-verity"),
        );
    }
    if sysext.certificate_location == CertificateLocation::Run && base.has_install == Some(false) {
        findings.push(
            Finding::error("install-missing", "the base has no `install` to copy certificates to /run/verity.d")
                .at("sysext.certificateLocation")
                .because("/run is empty after every boot, so the unit has to bring them there before it merges")
                .help("use /etc/verity.d or /usr/lib/verity.d, or install coreutils in the base"),
        );
    }
    findings
}

/// A root that Prism mounts read-only, unless the configs of a chain say otherwise.
pub(crate) fn protected_root<'a>(
    base: &Base,
    mut chain: impl Iterator<Item = &'a Prism>,
) -> Option<Finding> {
    let anew = |prism: &Prism| {
        !prism.partitions.is_empty() || prism.reinitialize_verity.as_deref() == Some("all")
    };
    (base.protected_root && !chain.any(anew)).then(|| {
        let message = "dm-verity protects the root of the base image, and Prism leaves it read-only";
        Finding::warning("verity-read-only", message)
            .at("input.image")
            .because("without `storage.reinitializeVerity: all` it mounts what is protected read-only, and already fails to write etc/resolv.conf there")
            .help("write `storage: {reinitializeVerity: all}` and `previewFeatures: [reinitialize-verity]`")
    })
}

/// Extensions on a disk that the image is made without.
fn on_data_disk(base: &Base, sysext: &Sysext) -> Option<Finding> {
    let location = sysext.location.path();
    let mut disks = base.data_disks.iter();
    let disk = disks.find(|disk| Path::new(location).starts_with(disk.as_str()))?;
    let message =
        format!("etc/fstab of the base mounts a data disk on {disk}, which holds {location}");
    Some(
        Finding::error("extensions-on-data-disk", message)
            .at("sysext.location")
            .because("the disk is not there while the image is made: Prism mounts an empty read-only folder in its place, and its copy fails; what another tool puts there is hidden at boot")
            .help("use `location: /etc/extensions`, or mount the disk elsewhere"),
    )
}

/// SELinux as Prism will set it, where the base's own mode has not been told.
fn selinux(base: &Base, config: &Config) -> Option<Finding> {
    let mode = config.prism.os.as_ref()?.selinux.as_deref()?;
    let labels = base.systemd_build()?.has(Change::SelinuxLabel);
    let enforces = ["enforcing", "force-enforcing"].contains(&mode);
    (enforces && !labels && base.selinux != Some(SelinuxMode::Enforcing)).then(|| {
        let message = format!(
            "`os.selinux.mode: {mode}`, and the base's systemd does not label the merged /usr"
        );
        Finding::warning("selinux-enforcing", message)
            .at("os.selinux.mode")
            .because(Change::SelinuxLabel.source())
            .help("leave SELinux permissive or off, or use a base with systemd 257")
    })
}

/// Folders of extensions whose mode differs from the base's: the topmost layer's mode is the one
/// that counts in an overlay (Documentation/filesystems/overlayfs.rst, merged directories).
pub(crate) fn of_folders(root: &dyn RootFs, folders: &[Folder]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in folders {
        // What can't be looked at has been told when the base was read.
        let Ok(Some(there)) = root.metadata(Path::new(&folder.path)) else {
            continue;
        };
        if there.kind == EntryKind::Directory && there.mode != u32::from(folder.mode) {
            findings.push(
                Finding::warning(
                    "folder-mode-differs",
                    format!(
                        "{} has mode {:04o} in the extension and {:04o} in the base; once merged it has the extension's",
                        folder.path, folder.mode, there.mode
                    ),
                )
                .at(&folder.at)
                .help(format!("chmod {:04o} that folder in the tree", there.mode)),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Source;
    use crate::io::open::testing::folder;
    use crate::io::root::RootDir;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn rootfs(files: &[(&str, &str)]) -> (tempfile::TempDir, RootDir) {
        let dir = folder(&[&[("usr/lib/os-release", "ID=x\n")], files].concat());
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    fn ids(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn overlays_and_selinux_are_told() {
        let fstab = (
            "etc/fstab",
            "overlay /usr overlay lowerdir=/usr,upperdir=/a,workdir=/b 0 0\n",
        );
        let selinux = ("etc/selinux/config", "SELINUX=enforcing\n");
        let (_dir, root) = rootfs(&[
            fstab,
            selinux,
            ("usr/lib/systemd/libsystemd-shared-255.so", ""),
        ]);
        let mut base = Base::read(&root).unwrap();
        let told = of_base(&base, OverlayConflict::Warn);
        assert_eq!(ids(&told), ["overlay-on-hierarchy", "selinux-enforcing"]);
        assert_eq!(
            ids(&of_base(&base, OverlayConflict::Ignore)),
            ["selinux-enforcing"]
        );
        base.systemd.as_mut().unwrap().build.backports = &[Change::SelinuxLabel];
        assert!(of_base(&base, OverlayConflict::Ignore).is_empty());
        let (_dir, root) = rootfs(&[selinux, ("usr/lib/systemd/libsystemd-shared-257.so", "")]);
        assert!(of_base(&Base::read(&root).unwrap(), OverlayConflict::Warn).is_empty());
    }

    #[test]
    fn extensions_on_a_data_disk_are_told() {
        let told = |mount: &str, location: &str| {
            let fstab = format!("/dev/disk/azure/scsi1/lun0 {mount} ext4 defaults 0 0\n");
            let (_dir, root) = rootfs(&[("etc/fstab", &fstab)]);
            let text = format!("sysext: {{location: {location}, extensions: [a.raw]}}\n");
            let source = Source::parse(Path::new("c.yaml"), text).unwrap();
            let config = Config::from_source(source).unwrap();
            let base = Base::read(&root).unwrap();
            ids(&of_settings(
                &base,
                &config,
                config.sysext.as_ref().unwrap(),
            ))
        };
        assert_eq!(
            told("/var", "/var/lib/extensions"),
            ["extensions-on-data-disk"]
        );
        assert!(told("/var", "/etc/extensions").is_empty());
        assert!(told("/var/lib/ext", "/var/lib/extensions").is_empty());
    }

    #[test]
    fn only_other_modes_of_folders_are_told() {
        let (dir, root) = rootfs(&[("usr/local/bin/x", "")]);
        fs::set_permissions(
            dir.path().join("usr/local"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        let folder = |path: &str, mode| Folder {
            at: "e".into(),
            path: path.into(),
            mode,
        };
        assert!(
            of_folders(&root, &[folder("/usr/local", 0o755), folder("/opt", 0o700)]).is_empty()
        );
        let told = of_folders(&root, &[folder("/usr/local", 0o700)]);
        assert_eq!(ids(&told), ["folder-mode-differs"]);
        assert!(told[0].message.contains("0700") && told[0].message.contains("0755"));
    }
}
