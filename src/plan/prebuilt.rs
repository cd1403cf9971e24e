//! Images and folders that are there already: taken as they are, repaired, or joined with what lies
//! beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::building::file_system;
use super::signing::signing;
use super::{
    BaseIdentity, BuildStep, PlacedSidecar, Planned, PlannedWithNotes, Step, in_config, placed_in,
};
use crate::check::sidecars;
use crate::config::Config;
use crate::config::model::{
    Delivery, Extension, Reload, RepairChange, RepairKind, Sysext, VerityMode,
};
use crate::config::validate::signed_by;
use crate::finding::{Finding, Severity};
use crate::image::dissect;
use crate::image::dissect::Ddi;
use crate::image::read::FileKind;
use crate::io::progress::Progress;
use crate::plan::content::{ContentPlan, ContentSource, RepairedImage};
use crate::plan::ingest::{ImageFromParts, PrebuiltFolder, PrebuiltImage};
use crate::plan::limits::Limits;
use crate::plan::repair::Goal;
use crate::plan::{ingest, repair};
use crate::systemd::arch::Arch;
use crate::systemd::extension_name;

/// Most entries of a prebuilt image that are looked at.
const MAX_ENTRIES: usize = 1_000_000;

/// An image or folder that is there already: repaired, or taken as it is.
pub(super) fn prebuilt(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    at: String,
    base: Option<&BaseIdentity<'_>>,
    output_directory: &Path,
) -> Result<PlannedWithNotes, Vec<Finding>> {
    let image = extension.image.as_ref();
    let path = image.map(|image| config.resolve(&image.path));
    if let Some(path) = path.filter(|path| path.is_dir()) {
        return folder_as_it_is(sysext, extension, path, at);
    }
    if extension.keep_owners {
        let message = "`keepOwners` says how to build, but `image` is already built";
        let finding = Finding::error("key-without-effect", message).at(format!("{at}.keepOwners"));
        return Err(vec![finding.help("remove `keepOwners`")]);
    }
    match repaired(config, sysext, extension, &at, base, output_directory)? {
        Repaired::Build(planned, notes) => Ok((*planned, notes)),
        Repaired::AsItIs(notes) => {
            let (planned, more) =
                image_as_it_is(config, sysext, extension, output_directory, at, None)?;
            Ok((planned, notes.into_iter().chain(more).collect()))
        }
        Repaired::FromParts(join) => {
            image_as_it_is(config, sysext, extension, output_directory, at, Some(join))
        }
    }
}

/// A folder that holds an extension.
fn folder_as_it_is(
    sysext: &Sysext,
    extension: &Extension,
    path: PathBuf,
    at: String,
) -> Result<PlannedWithNotes, Vec<Finding>> {
    let refuse = |finding: Finding, key: &str| vec![finding.at(format!("{at}.{key}"))];
    let build = "write `tree` instead of `image`, with a `name`, to build an image of the folder";
    let image = extension.image.as_ref();
    if image.is_some_and(|image| image.sha256.is_some()) {
        let finding = Finding::error("wrong-value", "a folder has no SHA-256 to compare");
        return Err(refuse(finding.help("remove `sha256`"), "image.sha256"));
    }
    if extension.repair.is_wanted() {
        let message = format!(
            "{} is a folder, and only images are repaired",
            path.display()
        );
        return Err(refuse(
            Finding::error("repair-refused", message).help(build),
            "repair",
        ));
    }
    let name = extension.name.as_deref();
    let taken = ingest::folder(&path, name, extension.kind, &at);
    let (taken, notes) = taken.map_err(|finding| refuse(finding, "image"))?;
    let taken = PrebuiltFolder {
        keep_owners: extension.keep_owners,
        limits: Limits::of(extension),
        ..taken
    };
    let planned = Planned {
        destination: format!("{}/{}", placed_in(sysext, extension.kind), taken.name),
        name: taken.name.clone(),
        kind: extension.kind,
        image_in_config: image.map(|it| in_config(&it.path)).unwrap_or_default(),
        image: path,
        beside: Vec::new(),
        step: Step::PrebuiltFolder(Box::new(taken)),
        at,
    };
    Ok((planned, notes))
}

/// What `repair: auto` makes of a prebuilt image.
enum Repaired {
    /// It is taken in as it is.
    AsItIs(Vec<Finding>),
    /// What lies beside it is put into it.
    FromParts(ImageFromParts),
    /// It is rebuilt.
    Build(Box<Planned>, Vec<Finding>),
}

fn repaired(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    at: &str,
    base: Option<&BaseIdentity<'_>>,
    output_directory: &Path,
) -> Result<Repaired, Vec<Finding>> {
    let Some(image) = extension
        .image
        .as_ref()
        .filter(|_| extension.repair.is_wanted())
    else {
        return Ok(Repaired::AsItIs(Vec::new()));
    };
    let at_image = format!("{at}.image");
    let refuse = |finding: Finding| vec![finding.at(&at_image)];
    let path = config.resolve(&image.path);
    // What can't be read, or is nothing that can be told by its release file, take_in refuses.
    let Ok(ddi) = dissect::open_compressed(&path) else {
        return Ok(Repaired::AsItIs(Vec::new()));
    };
    let readable = ddi
        .problems
        .iter()
        .all(|problem| problem.severity != Severity::Error);
    let Some(release) = ingest::release_file(&path, &ddi, extension.kind)
        .ok()
        .filter(|_| readable)
        .cloned()
    else {
        return Ok(Repaired::AsItIs(Vec::new()));
    };
    let implied = signed_by(sysext, extension).map(|_| VerityMode::Signed);
    let beside = sidecars::beside_on_this_machine(&path, &ddi, &Progress::new());
    let goal = Goal {
        name: extension.name.as_deref(),
        kind: extension.kind,
        kernel: base.map(|base| base.kernel),
        verity: extension.verity.or(implied),
        except: extension.repair.exceptions(),
        beside: &beside,
    };
    let repair = repair::examine(&ddi, &release, goal).map_err(refuse)?;
    let kept = extension.repair.exceptions();
    let root_hash = repair::joinable(&ddi, &beside);
    let root_hash =
        root_hash.filter(|_| !extension.resign && !kept.contains(&RepairKind::Protection));
    let other = |change: &RepairChange| {
        !matches!(change.what, RepairKind::Protection | RepairKind::Outside)
    };
    let others = repair.iter().flat_map(|repair| &repair.changes).any(other);
    if let Some(root_hash) = root_hash.filter(|_| !others) {
        let declared = release.fields.as_ref();
        let declared = declared.and_then(|fields| fields.filled("ARCHITECTURE"));
        return Ok(Repaired::FromParts(ImageFromParts {
            root_hash,
            arch: declared
                .and_then(Arch::parse)
                .or(ddi.arch)
                .or(base.and_then(|base| base.arch))
                .unwrap_or(Arch::X86_64),
            seed: extension.seed.clone(),
            max_size: extension.max_size,
            changes: vec![repair::joined()],
        }));
    }
    let Some(repair) = repair else {
        return Ok(Repaired::AsItIs(Vec::new()));
    };
    let told: Vec<&str> = repair
        .changes
        .iter()
        .map(|change| change.detail.as_str())
        .collect();
    let told = told.join("; ");
    if repair.was_signed && !extension.resign {
        let message = format!(
            "{} is taken as it is, because it is signed; a repair would be: {told}",
            path.display()
        );
        let finding = Finding::warning("repair-left-out", message).at(&at_image);
        let help = "write `resign: true` to have it rebuilt and signed by your key";
        return Ok(Repaired::AsItIs(vec![finding.help(help)]));
    }
    let name = repair.name;
    extension_name::check(&name).map_err(refuse)?;
    let signing =
        signing(config, sysext, extension, repair.verity, at).map_err(|finding| vec![finding])?;
    let file_name = format!("{name}.raw");
    let built = output_directory.join(&file_name);
    if same(&built, &path) {
        let message = format!(
            "the repaired image would replace the original, {}",
            path.display()
        );
        let finding = Finding::error("repair-refused", message);
        return Err(refuse(
            finding.help("move the original out of `outputDirectory`"),
        ));
    }
    let declared = repair.release.filled("ARCHITECTURE").and_then(Arch::parse);
    let (kind, image_arch) = (extension.kind, ddi.arch);
    let source = ContentSource::Image(RepairedImage {
        release_file: format!(
            "{}/extension-release.{}",
            kind.release_dir(),
            release.suffix
        ),
        ddi: Arc::new(ddi),
        keep: extension.repair.exceptions().to_vec(),
        beside,
    });
    let note = Finding::note("repaired", format!("{} is rebuilt: {told}", path.display()));
    let planned = Planned {
        image: built,
        image_in_config: in_config(&sysext.output_directory.join(&file_name)),
        destination: format!("{}/{file_name}", placed_in(sysext, extension.kind)),
        beside: Vec::new(),
        step: Step::Build(Box::new(BuildStep {
            version: None,
            arch: declared,
            partition_arch: declared
                .or(image_arch)
                .or(base.and_then(|base| base.arch))
                .unwrap_or(Arch::X86_64),
            layout: Delivery::Image,
            verity: repair.verity,
            signing,
            file_system: file_system(extension, base),
            seed: extension.seed.clone(),
            epoch: extension.source_date_epoch,
            changes: repair.changes,
            content: ContentPlan {
                keep_owners: true,
                release: repair.release,
                reload: Reload::Never,
                limits: Limits::of(extension),
                ..ContentPlan::new(at.to_owned(), name.clone(), extension.kind, source)
            },
        })),
        name,
        kind: extension.kind,
        at: at.to_owned(),
    };
    Ok(Repaired::Build(Box::new(planned), vec![note.at(&at_image)]))
}

/// Whether two paths lead to one file.
fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn image_as_it_is(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    output_directory: &Path,
    at: String,
    join: Option<ImageFromParts>,
) -> Result<PlannedWithNotes, Vec<Finding>> {
    let Some(image) = &extension.image else {
        return Err(Vec::new());
    };
    let written = &image.path;
    let path = config.resolve(written);
    let (mut taken, mut notes) = ingest::image(
        &path,
        image.sha256.as_deref(),
        extension.name.as_deref(),
        extension.kind,
        &at,
    )
    .map_err(|finding| vec![finding.at(format!("{at}.image"))])?;
    let limits = Limits::of(extension);
    let mut unmet = demanded(&taken.ddi, &limits, &at);
    // What is joined is measured when it is made.
    if join.is_none() {
        unmet.extend(limits.size(taken.ddi.size, || files_of(&taken.ddi), &at));
    }
    if !unmet.is_empty() {
        return Err(unmet);
    }
    let file_name = format!("{}.raw", taken.name);
    let told = join.iter().flat_map(|join| &join.changes).map(|change| {
        let message = format!("{}: {}", path.display(), change.detail);
        Finding::note("repaired", message).at(format!("{at}.image"))
    });
    notes.extend(told);
    taken.from_parts = join;
    // A compressed one is unpacked by the build, as if it were built.
    let (image, image_in_config) =
        match taken.ddi.compressed.is_some() || taken.from_parts.is_some() {
            false => (path, in_config(written)),
            true => {
                let unpacked = output_directory.join(&file_name);
                if same(&unpacked, &path) {
                    let message = format!("what is made of {} would replace it", path.display());
                    return Err(vec![
                        Finding::error("image-unreadable", message)
                            .at(format!("{at}.image"))
                            .help("keep it in another folder than `outputDirectory`"),
                    ]);
                }
                (
                    unpacked,
                    in_config(&sysext.output_directory.join(&file_name)),
                )
            }
        };
    let destination = format!("{}/{file_name}", placed_in(sysext, extension.kind));
    let planned = Planned {
        beside: besides(&taken, written, &destination),
        destination,
        name: taken.name.clone(),
        kind: extension.kind,
        image,
        image_in_config,
        step: Step::PrebuiltImage(Box::new(taken)),
        at,
    };
    Ok((planned, notes))
}

/// What goes with an image that the config calls `written`.
fn besides(taken: &PrebuiltImage, written: &Path, destination: &str) -> Vec<PlacedSidecar> {
    let files = taken
        .sidecars
        .files
        .iter()
        .filter(|_| taken.from_parts.is_none());
    let beside = files.map(|file| PlacedSidecar {
        file: file.clone(),
        in_config: in_config(&file.kind.beside(written)),
        destination: file
            .kind
            .beside(Path::new(destination))
            .display()
            .to_string(),
    });
    beside.collect()
}

/// Files of an image with their sizes, as far as they can be told.
fn files_of(ddi: &Ddi) -> impl Iterator<Item = (String, u64)> {
    let walk = ddi.file_system().and_then(|fs| fs.walk(MAX_ENTRIES));
    let files = walk.unwrap_or_default().into_iter();
    let files = files.filter(|(_, found)| found.kind == FileKind::File);
    files.map(|(path, found)| (path.to_string_lossy().into_owned(), found.size))
}

/// What a prebuilt image lacks, or has too much.
fn demanded(ddi: &Ddi, limits: &Limits, at: &str) -> Vec<Finding> {
    if !limits.look_at_paths() {
        return Vec::new();
    }
    let paths = ddi
        .file_system()
        .and_then(|fs| fs.walk(MAX_ENTRIES))
        .map(|entries| entries.into_iter().map(|(path, _)| path));
    match paths {
        Ok(paths) => {
            let paths = paths.map(|path| path.to_string_lossy().into_owned());
            limits.paths(paths, at)
        }
        Err(error) => vec![
            Finding::error(
                "file-system-unreadable",
                format!("looking for what `expect` and `forbid` name: {error}"),
            )
            .at(format!("{at}.image")),
        ],
    }
}

#[cfg(test)]
mod tests;
