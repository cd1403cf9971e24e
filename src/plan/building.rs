//! An extension that is built: what its image will be, and what goes into it.

use std::path::Path;

use super::content::{ArchivePlan, ContentPlan, FilePlan};
use super::signing::signing;
use super::{BuildStep, Planned, PlannedWithNotes, in_config, placed_in};
use crate::config::Config;
use crate::config::model::{
    ArchiveSource, CompressionSetting, Delivery, Extension, SourceKey, Sysext,
};
use crate::config::validate::effective_verity;
use crate::finding::Finding;
use crate::image::ImageFormat;
use crate::plan::content::{ContentSource, FileContent};
use crate::plan::limits::Limits;
use crate::plan::{BaseIdentity, Step, ingest};
use crate::systemd::arch::Arch;
use crate::systemd::extension_name;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::pick::Pick;

pub(super) fn build(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    at: String,
    base: Option<&BaseIdentity<'_>>,
    names_only: bool,
    output_directory: &Path,
) -> Result<PlannedWithNotes, Vec<Finding>> {
    let base_name = extension.name.clone().unwrap_or_default();
    let name = extension.full_name().unwrap_or_default();
    extension_name::check(&name).map_err(|finding| vec![finding.at(&at)])?;
    let verity = effective_verity(sysext, extension).map_err(|finding| vec![finding.at(&at)])?;
    let (arch, release) = match described(extension, &base_name, base) {
        Err(finding) if finding.id == "no-base" && names_only => (None, ReleaseFields::new()),
        other => other.map_err(|finding| vec![finding.at(&at)])?,
    };
    let signing =
        signing(config, sysext, extension, verity, &at).map_err(|finding| vec![finding])?;
    let files = extension
        .files
        .iter()
        .map(|file| FilePlan {
            content: match (&file.source, &file.content) {
                (Some(path), _) => FileContent::Path(config.resolve(path)),
                (None, text) => FileContent::Bytes(text.clone().unwrap_or_default().into_bytes()),
            },
            destination: file.destination.clone().unwrap_or_default(),
            permissions: file.permissions,
        })
        .collect();
    let file_system = file_system(extension, base);
    let source = content_source(config, extension, arch);
    let layout = extension.layout;
    let file_name = layout.file_name(&name);
    let mut notes = Vec::new();
    if layout != Delivery::Image {
        notes.push(ingest::unprotected(&name, layout).at(format!("{at}.layout")));
    }
    let planned = Planned {
        image: output_directory.join(&file_name),
        image_in_config: in_config(&sysext.output_directory.join(&file_name)),
        destination: format!("{}/{file_name}", placed_in(sysext, extension.kind)),
        beside: Vec::new(),
        step: Step::Build(Box::new(BuildStep {
            version: extension.version.clone(),
            arch,
            partition_arch: arch
                .or(base.and_then(|base| base.arch))
                .unwrap_or(Arch::X86_64),
            layout,
            verity,
            signing,
            file_system,
            seed: extension.seed.clone(),
            epoch: extension.source_date_epoch,
            changes: Vec::new(),
            content: ContentPlan {
                files,
                keep_owners: extension.keep_owners,
                release,
                reload: extension.reload,
                path_links: extension.path_links.clone(),
                links: extension.links.clone(),
                limits: Limits::of(extension),
                ..ContentPlan::new(at.clone(), name.clone(), extension.kind, source)
            },
        })),
        name,
        kind: extension.kind,
        at,
    };
    Ok((planned, notes))
}

/// The file system of an extension that is built.
pub(super) fn file_system(extension: &Extension, base: Option<&BaseIdentity<'_>>) -> ImageFormat {
    // validate() has refused what is no setting.
    let setting: CompressionSetting = match &extension.compression {
        Some(text) => text.parse().unwrap_or_default(),
        None => CompressionSetting::Auto,
    };
    setting.for_target(
        extension.format,
        base.map(|base| base.kernel),
        base.is_some_and(|base| base.shares_compressed),
    )
}

/// What the content of an extension that is built is taken from; its globs were checked.
fn content_source(config: &Config, extension: &Extension, arch: Option<Arch>) -> ContentSource {
    let globs = |texts: &[String]| {
        let globs = texts
            .iter()
            .filter_map(|text| glob::Pattern::new(text).ok());
        globs.collect()
    };
    let archive = |source: &ArchiveSource| ArchivePlan {
        path: config.resolve(&source.path),
        pick: Pick {
            include: globs(&source.include),
            exclude: globs(&source.exclude),
            strip: source.strip.into(),
            keep_owners: extension.keep_owners,
        },
    };
    match extension.sources().first() {
        Some(SourceKey::Tree(folder)) => ContentSource::Tree(config.resolve(folder)),
        Some(SourceKey::Tar(tar)) => ContentSource::Archive(archive(tar)),
        Some(SourceKey::Oci(oci)) => ContentSource::Oci(archive(oci), arch),
        // The first is not built here, and the second has been read into one of the others.
        Some(SourceKey::Image(_) | SourceKey::Mkosi) | Some(SourceKey::Files) | None => {
            ContentSource::FilesOnly
        }
    }
}

fn no_base(what: &str, help: &str) -> Finding {
    Finding::error("no-base", format!("the {what} of the base is not known")).help(help)
}

/// What the release file declares, architecture included.
fn described(
    extension: &Extension,
    name: &str,
    base: Option<&BaseIdentity<'_>>,
) -> Result<(Option<Arch>, ReleaseFields), Finding> {
    let arch = architecture(extension, base)?;
    Ok((arch, release(extension, name, arch, base)?))
}

/// The architecture to declare: none is any.
fn architecture(
    extension: &Extension,
    base: Option<&BaseIdentity<'_>>,
) -> Result<Option<Arch>, Finding> {
    match extension.arch.as_deref() {
        Some("any") => Ok(None),
        Some(text) => Arch::parse(text).map(Some).ok_or_else(|| {
            Finding::error("unknown-value", format!("`{text}` is not an architecture"))
        }),
        None => base.and_then(|base| base.arch).map(Some).ok_or_else(|| {
            no_base(
                "architecture",
                // A profile is for all architectures of its OS.
                "write `arch: x86-64` (or arm64, any), or give the base with --rootfs DIR",
            )
        }),
    }
}

/// The release file as systemd compares it with the base (`extension_release_validate`,
/// src/shared/extension-util.c).
fn release(
    extension: &Extension,
    name: &str,
    arch: Option<Arch>,
    base: Option<&BaseIdentity<'_>>,
) -> Result<ReleaseFields, Finding> {
    let wanted = &extension.release;
    let host = |key: &str| base.and_then(|base| base.os_release.filled(key));
    let id = match wanted.id.as_deref().or_else(|| host("ID")) {
        Some(id) => id.to_owned(),
        None => {
            return Err(no_base(
                "ID",
                "give the base with --rootfs DIR or `target: azurelinux-3.0`, or write `release: {id: …}`",
            ));
        }
    };
    // Facts of the base describe an extension for the base, and no other.
    let for_base = host("ID") == Some(id.as_str());
    let of_base = |key: &str| if for_base { host(key) } else { None };
    let mut fields = ReleaseFields::new();
    fields.set("ID", id);
    if let Some(version) = wanted
        .version_id
        .as_deref()
        .or_else(|| of_base("VERSION_ID"))
    {
        fields.set("VERSION_ID", version);
    }
    let own = |key: &str| format!("{}_{key}", extension.kind.key_prefix());
    let level = own("LEVEL");
    if let Some(value) = wanted.level.as_deref().or_else(|| of_base(&level)) {
        fields.set(level, value);
    }
    fields.set(own("ID"), name);
    if let Some(version) = &extension.version {
        fields.set(own("VERSION_ID"), version);
    }
    let scope: Vec<&str> = wanted.scope.iter().map(|scope| scope.word()).collect();
    fields.set(
        own("SCOPE"),
        if scope.is_empty() {
            "system".to_owned()
        } else {
            scope.join(" ")
        },
    );
    if let Some(arch) = arch {
        fields.set("ARCHITECTURE", arch.name());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Reload, VerityMode};
    use crate::image::erofs::compress::Compression;
    use crate::image::mkfs::squashfs;
    use crate::plan::testing::{planned, planned_for, said};
    use crate::systemd::kind::ExtensionKind;

    /// A config with one extension that has these keys.
    fn one(keys: &str) -> String {
        format!("sysext: {{extensions: [{{{keys}}}]}}\n")
    }

    /// The only extension of a plan, which is built, and what was said.
    fn built(profile: Option<&str>, keys: &str) -> Result<BuildStep, Vec<String>> {
        let plan = planned_for(profile, Path::new("/d"), &one(keys));
        let plan = plan.map_err(|findings| said(&findings))?;
        match plan.extensions.into_iter().next().map(|it| it.step) {
            Some(Step::Build(step)) => Ok(*step),
            other => panic!("{keys}: {other:?}"),
        }
    }

    #[test]
    fn the_release_file_is_for_the_base_unless_the_config_says_otherwise() {
        let azure = Some("azurelinux-3.0");
        for (profile, keys, text) in [
            (
                azure,
                "",
                "ID=azurelinux\nVERSION_ID=3.0\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\nARCHITECTURE=x86-64\n",
            ),
            (
                Some("debian-13-arm64"),
                "version: '1.2'",
                "ID=debian\nVERSION_ID=13\nSYSEXT_ID=a\nSYSEXT_VERSION_ID=1.2\nSYSEXT_SCOPE=system\nARCHITECTURE=arm64\n",
            ),
            // The release file of a versioned name has the version in its name alone.
            (
                azure,
                "version: '1.2', versionedName: true, arch: any",
                "ID=azurelinux\nVERSION_ID=3.0\nSYSEXT_ID=a\nSYSEXT_VERSION_ID=1.2\nSYSEXT_SCOPE=system\n",
            ),
            (
                azure,
                "kind: confext, version: '2', arch: amd64, release: {scope: [initrd, system], level: '7'}",
                "ID=azurelinux\nVERSION_ID=3.0\nCONFEXT_LEVEL=7\nCONFEXT_ID=a\nCONFEXT_VERSION_ID=2\nCONFEXT_SCOPE=\"initrd system\"\nARCHITECTURE=x86-64\n",
            ),
            // Another OS gets nothing of what the base is, the same one its version.
            (
                azure,
                "release: {id: _any}",
                "ID=_any\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\nARCHITECTURE=x86-64\n",
            ),
            (
                azure,
                "release: {id: azurelinux}",
                "ID=azurelinux\nVERSION_ID=3.0\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\nARCHITECTURE=x86-64\n",
            ),
            (
                azure,
                "release: {versionId: '3.5'}",
                "ID=azurelinux\nVERSION_ID=3.5\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\nARCHITECTURE=x86-64\n",
            ),
            (
                None,
                "arch: arm64, release: {id: x, versionId: '9'}",
                "ID=x\nVERSION_ID=9\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\nARCHITECTURE=arm64\n",
            ),
        ] {
            let keys = format!("name: a, tree: t, verity: none, {keys}");
            let step = built(profile, &keys).unwrap();
            assert_eq!(step.content.release.to_text().unwrap(), text, "{keys}");
        }
    }

    #[test]
    fn the_level_of_the_base_is_taken_over_by_its_own_kind_alone() {
        let mut os_release = ReleaseFields::new();
        for (key, value) in [("ID", "x"), ("VERSION_ID", ""), ("SYSEXT_LEVEL", "5")] {
            os_release.set(key, value);
        }
        let base = BaseIdentity {
            os_release: &os_release,
            arch: None,
            kernel: crate::base::kernel::KernelFeatures::UNKNOWN,
            shares_compressed: false,
        };
        for (kind, id, text) in [
            (
                ExtensionKind::Sysext,
                None,
                "ID=x\nSYSEXT_LEVEL=5\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\n",
            ),
            (
                ExtensionKind::Sysext,
                Some("y"),
                "ID=y\nSYSEXT_ID=a\nSYSEXT_SCOPE=system\n",
            ),
            (
                ExtensionKind::Confext,
                None,
                "ID=x\nCONFEXT_ID=a\nCONFEXT_SCOPE=system\n",
            ),
        ] {
            let mut extension = Extension {
                kind,
                ..Extension::default()
            };
            extension.release.id = id.map(str::to_owned);
            let fields = release(&extension, "a", None, Some(&base)).unwrap();
            assert_eq!(fields.to_text().unwrap(), text);
        }
    }

    #[test]
    fn partitions_are_for_the_declared_architecture_then_for_the_base() {
        for (profile, arch, declared, partition) in [
            (
                Some("azurelinux-3.0-arm64"),
                "",
                Some(Arch::ARM64),
                Arch::ARM64,
            ),
            (Some("azurelinux-3.0-arm64"), "arch: any", None, Arch::ARM64),
            (
                Some("azurelinux-3.0-arm64"),
                "arch: x86_64",
                Some(Arch::X86_64),
                Arch::X86_64,
            ),
            (None, "arch: any", None, Arch::X86_64),
            (None, "arch: aarch64", Some(Arch::ARM64), Arch::ARM64),
        ] {
            let keys = format!("name: a, tree: t, verity: none, release: {{id: x}}, {arch}");
            let step = built(profile, &keys).unwrap();
            assert_eq!(
                (step.arch, step.partition_arch),
                (declared, partition),
                "{keys}"
            );
        }
    }

    #[test]
    fn what_the_base_would_have_told_is_asked_for() {
        for (keys, what, help) in [
            ("", "architecture", "arch: x86-64"),
            ("arch: any", "ID", "target: azurelinux-3.0"),
            ("release: {id: x}", "architecture", "arch: x86-64"),
        ] {
            let text = one(&format!("name: a, tree: t, verity: none, {keys}"));
            let findings = planned_for(None, Path::new("/d"), &text).unwrap_err();
            assert_eq!(said(&findings), ["no-base sysext.extensions[0]"], "{keys}");
            assert_eq!(
                findings[0].message,
                format!("the {what} of the base is not known")
            );
            assert!(
                findings[0].help.as_deref().unwrap().contains(help),
                "{keys}"
            );
        }
    }

    #[test]
    fn the_file_system_is_what_the_kernels_of_the_base_mount() {
        let erofs = |compression, share_compressed| ImageFormat::Erofs {
            compression,
            share_compressed,
        };
        let zstd = |level| squashfs::Compression::Zstd { level };
        for (profile, keys, expected) in [
            (
                Some("azurelinux-3.0"),
                "",
                erofs(Some(Compression::Lz4), true),
            ),
            (
                Some("ubuntu-22.04"),
                "",
                erofs(Some(Compression::Lz4), false),
            ),
            (None, "", erofs(None, false)),
            (
                Some("azurelinux-3.0"),
                "compression: none",
                erofs(None, true),
            ),
            (
                None,
                "compression: 'zstd:9'",
                erofs(Some(Compression::Zstd { level: 9 }), false),
            ),
            (
                Some("azurelinux-3.0"),
                "format: squashfs",
                ImageFormat::Squashfs(zstd(15)),
            ),
            (
                None,
                "format: squashfs",
                ImageFormat::Squashfs(squashfs::Compression::Gzip),
            ),
            (Some("azurelinux-3.0"), "format: ext4", ImageFormat::Ext4),
        ] {
            let keys =
                format!("name: a, tree: t, verity: none, arch: any, release: {{id: x}}, {keys}");
            let step = built(profile, &keys).unwrap();
            assert_eq!(step.file_system, expected, "{profile:?} {keys}");
        }
    }

    #[test]
    fn content_is_found_beside_the_config() {
        let of = |keys: &str| {
            let keys = format!("name: a, verity: none, {keys}");
            built(Some("azurelinux-3.0"), &keys).unwrap().content
        };
        let content = of("tree: ./t, keepOwners: true, reload: always, pathLinks: [k]");
        assert!(matches!(content.source, ContentSource::Tree(path) if path == Path::new("/d/t")));
        assert_eq!(
            (content.keep_owners, content.reload),
            (true, Reload::Always)
        );
        assert_eq!(content.path_links, ["k"]);
        let content = of(
            "tar: {path: a.tar, include: [/usr], exclude: [/usr/share/*], strip: 2}, keepOwners: true",
        );
        let ContentSource::Archive(archive) = content.source else {
            panic!("{:?}", content.source)
        };
        assert_eq!(archive.path, Path::new("/d/a.tar"));
        let Pick {
            include,
            exclude,
            strip,
            keep_owners,
        } = archive.pick;
        assert_eq!(include, [glob::Pattern::new("/usr").unwrap()]);
        assert_eq!(exclude, [glob::Pattern::new("/usr/share/*").unwrap()]);
        assert_eq!((strip, keep_owners), (2, true));
        for (arch, expected) in [("arm64", Some(Arch::ARM64)), ("any", None)] {
            let content = of(&format!("oci: layout, arch: {arch}"));
            let ContentSource::Oci(archive, arch) = content.source else {
                panic!("{:?}", content.source)
            };
            assert_eq!(
                (archive.path.as_path(), arch),
                (Path::new("/d/layout"), expected)
            );
            assert!(!archive.pick.keep_owners);
        }
        let content =
            of("files: ['x:/usr/bin/x', {content: hi, destination: /opt/y, permissions: '600'}]");
        assert!(matches!(content.source, ContentSource::FilesOnly));
        let [path, bytes] = content.files.as_slice() else {
            panic!("{:?}", content.files)
        };
        assert!(matches!(&path.content, FileContent::Path(path) if path == Path::new("/d/x")));
        assert!(matches!(&bytes.content, FileContent::Bytes(bytes) if bytes == b"hi"));
        assert_eq!(
            (path.destination.as_str(), path.permissions),
            ("/usr/bin/x", None)
        );
        assert_eq!(
            (bytes.destination.as_str(), bytes.permissions),
            ("/opt/y", Some(0o600))
        );
    }

    #[test]
    fn layouts_without_a_hash_tree_are_noted() {
        for (layout, expected) in [
            ("image", vec![]),
            (
                "bare",
                vec!["layout-unprotected sysext.extensions[0].layout"],
            ),
            (
                "directory",
                vec!["layout-unprotected sysext.extensions[0].layout"],
            ),
        ] {
            let text = one(&format!("name: a, tree: t, verity: none, layout: {layout}"));
            let plan = planned(Path::new("/d"), &text).unwrap();
            assert_eq!(said(&plan.findings), expected, "{layout}");
            assert_eq!(plan.extensions[0].layout().word(), layout);
        }
    }

    #[test]
    fn what_only_the_build_uses_is_handed_on() {
        let seed = "5".repeat(64);
        let keys = format!(
            "name: a, tree: t, verity: defer, seed: '{seed}', sourceDateEpoch: 9, maxSize: 2K, expect: [/usr/x], forbid: [/opt/y]"
        );
        let step = built(Some("azurelinux-3.0"), &keys).unwrap();
        assert_eq!(step.verity, VerityMode::Defer);
        assert!(step.signing.is_none() && step.changes.is_empty());
        assert_eq!((step.seed, step.epoch), (Some(seed), Some(9)));
        let limits = step.content.limits;
        assert_eq!(limits.max_size, Some(2048));
        assert_eq!(
            (limits.expect, limits.forbid),
            (vec!["/usr/x".to_owned()], vec!["/opt/y".to_owned()])
        );
    }

    #[test]
    fn a_version_that_spoils_the_name_is_refused() {
        let keys = "name: a, version: 1.raw, versionedName: true, tree: t, verity: none";
        assert_eq!(
            built(Some("azurelinux-3.0"), keys).unwrap_err(),
            ["name-refused sysext.extensions[0]"]
        );
        let keys = "name: a, version: 1.raw, tree: t, verity: none";
        assert!(built(Some("azurelinux-3.0"), keys).is_ok());
    }
}
