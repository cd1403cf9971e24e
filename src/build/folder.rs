//! Extensions that are folders: built, or taken as they are.

use std::path::Path;

use anyhow::Context as _;
use rustix::fs::Mode;

use super::fields;
use crate::build::content::Content;
use crate::build::manifest::{Entry, Origin};
use crate::config::model::Layout;
use crate::finding::{Finding, Findings};
use crate::io::atomic_folder::AtomicFolder;
use crate::io::progress::Progress;
use crate::plan::content::FileContent;
use crate::plan::ingest::TakenFolder;
use crate::plan::{BuildStep, Plan, Planned};
use crate::systemd::release_file::ReleaseFields;
use crate::tree::collect::{Collected, Options, collect};
use crate::tree::folder;
use crate::tree::folder::{FolderError, owners};

/// Writes a folder beside its final name and gives it that name when it is complete.
pub(super) fn build_folder(
    plan: &Plan,
    extension: &Planned,
    step: &BuildStep,
    content: &Content,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let size = content.tree.content_size();
    may_replace(extension, step).map_err(Findings::from)?;
    let limits = &step.content.limits;
    if let Some(finding) = limits.size(size, || content.tree.files(), &extension.at) {
        return Err(Findings::from(finding).into());
    }
    progress.begin(format!("building {}", extension.name), size);
    let writing = || format!("writing the folder {}", extension.image.display());
    let staged = AtomicFolder::create(&extension.image).with_context(writing)?;
    let epoch = step.epoch.unwrap_or(plan.epoch);
    let written = folder::write(&content.tree, staged.folder(), epoch, progress);
    written.map_err(|error| match error {
        FolderError::Owner { .. } => Findings::from(owners(&error).at(&extension.at)).into(),
        other => anyhow::Error::from(other).context(writing()),
    })?;
    rustix::fs::fchmod(staged.folder(), Mode::from_raw_mode(0o755)).with_context(writing)?;
    staged.commit().with_context(writing)?;
    Ok(folder_entry(
        extension,
        Origin::Built,
        size,
        &content.release,
    ))
}

/// What is replaced goes with all that is in it, so it must be the folder of an earlier build, and
/// nothing of what is built now may lie in it.
fn may_replace(extension: &Planned, step: &BuildStep) -> Result<(), Finding> {
    let Ok(there) = extension.image.canonicalize() else {
        return Ok(());
    };
    let wanted = &step.content;
    let files = wanted.files.iter().filter_map(|file| match &file.content {
        FileContent::Path(path) => Some(path.as_path()),
        FileContent::Bytes(_) => None,
    });
    let mut sources = wanted.source.path().into_iter().chain(files);
    let holds = |source: &Path| {
        let source = source.canonicalize();
        source.is_ok_and(|source| source.starts_with(&there))
    };
    let release = wanted.kind.release_dir();
    let release = there
        .join(release)
        .join(format!("extension-release.{}", wanted.name));
    let is_empty = || std::fs::read_dir(&there).is_ok_and(|mut entries| entries.next().is_none());
    if !sources.any(holds) && (release.symlink_metadata().is_ok() || is_empty()) {
        return Ok(());
    }
    let message = format!(
        "{} is there already and was not built as this extension",
        extension.image.display()
    );
    let finding = Finding::error("would-overwrite", message).at(&extension.at);
    Err(finding.help("remove or move it, or name another folder with `outputDirectory`"))
}

/// What a folder that is taken as it is holds, or all that is wrong with it.
pub(super) fn gather_folder(taken: &TakenFolder, at: &str) -> Result<Collected, Vec<Finding>> {
    let options = Options {
        keep_owners: taken.keep_owners,
    };
    let collected = collect(&taken.path, &options).map_err(|found| found.0)?;
    let paths = collected.tree.walk();
    let paths = paths.map(|(path, ..)| format!("/{}", String::from_utf8_lossy(&path)));
    let mut unmet = taken.limits.paths(paths, at);
    let size = collected.tree.content_size();
    unmet.extend(taken.limits.size(size, || collected.tree.files(), at));
    match unmet.is_empty() {
        true => Ok(collected),
        false => Err(unmet),
    }
}

pub(super) fn folder_entry(
    extension: &Planned,
    origin: Origin,
    size: u64,
    release: &ReleaseFields,
) -> Entry {
    Entry {
        name: extension.name.clone(),
        kind: extension.kind,
        image: extension.name.clone(),
        layout: Layout::Directory,
        destination: extension.destination.clone(),
        origin,
        size,
        sha256: None,
        sha384: None,
        beside: Vec::new(),
        unpacked_from: None,
        format: None,
        verity: None,
        root_hash: None,
        certificate_fingerprint: None,
        repaired: None,
        release: fields(release),
    }
}
