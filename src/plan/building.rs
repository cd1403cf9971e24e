//! An extension that is built: what its image will be, and what goes into it.

use std::path::Path;

use super::content::{ArchivePlan, ContentPlan, FilePlan};
use super::signing::signing;
use super::{BuildStep, Planned, PlannedWithNotes, in_config, placed_in};
use crate::config::Config;
use crate::config::model::{
    ArchiveSource, CompressionSetting, Extension, Layout, SourceKey, Sysext,
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
    if layout != Layout::Image {
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
