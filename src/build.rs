//! Carries out the plan as far as images go: builds what is to be built,
//! digests what is taken in, and describes both in the manifest.
//!
//! Everything that can be wrong with content and keys is found before the
//! first image is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Mode;
use sha2::Sha256;

mod join;

use crate::assemble::{Ids, Recipe, TooLarge, Verity as Protection, assemble, threads};
use crate::check::surroundings::Folder;
use crate::compression;
use crate::config::model::{Layout, Verity};
use crate::content::{Content, FileContent, gather};
use crate::demands::{too_large, unmet};
use crate::digest::{digest, sha256_and_sha384};
use crate::finding::{Finding, Findings};
use crate::identity::{Identity, Seed};
use crate::image::ddi::{self, Ddi, SignatureState};
use crate::image::gpt_types::{Designator, PartitionType, Role};
use crate::image::signature::Signer;
use crate::image::verity::RootHash;
use crate::image::wrapped::{Wrapped, unwrap};
use crate::ingest::{TakenFolder, TakenIn};
use crate::input;
use crate::manifest::{Companion, Entry, Manifest, Origin, Repaired, UnpackedFrom};
use crate::pending::PendingFile;
use crate::plan::{Beside, BuildStep, Plan, Planned, SigningKey, Step};
use crate::progress::Progress;
use crate::release::ReleaseFields;
use crate::sign::{self, SignRequest};
use crate::signer::CommandSigner;
use crate::signing_key::Secrets;
use crate::staged::StagedFolder;
use crate::tree::Tree;
use crate::tree::collect::{Collected, Options, collect};
use crate::tree::folder::{self, FolderError};
use join::join_one;

type BoxedSigner<'a> = Box<dyn Signer + 'a>;

/// Everything that was made or digested.
#[derive(Debug)]
pub struct Built {
    /// One per extension, in the order of the plan.
    pub images: Vec<BuiltImage>,
    /// The folders of what was built, to compare with the base's.
    pub folders: Vec<Folder>,
    /// What was noticed in the content; no errors.
    pub findings: Vec<Finding>,
}

/// One image that lies ready.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// Path on this machine.
    pub path: PathBuf,
    /// What the manifest says of it.
    pub entry: Entry,
}

/// Builds all images of the plan. An image appears complete or not at all.
///
/// `progress` has a stage for each image that is built or digested.
pub fn build(plan: &Plan, secrets: &Secrets<'_>, progress: &Progress) -> anyhow::Result<Built> {
    let mut errors = Vec::new();
    let mut findings = Vec::new();
    let mut folders = Vec::new();
    let mut sizes = BTreeMap::new();
    let mut ready: Vec<Option<(Content, Option<BoxedSigner<'_>>)>> = Vec::new();
    for extension in &plan.extensions {
        let step = match &extension.step {
            Step::Build(step) => step,
            Step::TakeIn(_) => {
                ready.push(None);
                continue;
            }
            Step::TakeFolder(taken) => {
                match gather_folder(taken, &extension.at) {
                    Ok(content) => {
                        findings.extend(content.findings.iter().cloned());
                        folders.extend(folders_of(&extension.at, &content.tree));
                        sizes.insert(extension.destination.as_str(), content.tree.content_size());
                    }
                    Err(found) => errors.extend(found),
                }
                ready.push(None);
                continue;
            }
        };
        let signer = match signer(step, secrets) {
            Ok(signer) => signer,
            Err(finding) => {
                // One key may be that of all extensions.
                if !errors.contains(&finding) {
                    errors.push(finding);
                }
                None
            }
        };
        match gather(&step.content) {
            Ok(content) => {
                findings.extend(content.findings.iter().cloned());
                folders.extend(folders_of(&extension.at, &content.tree));
                ready.push(Some((content, signer)));
            }
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(Findings(errors).into());
    }
    let mut images = Vec::new();
    for (extension, ready) in plan.extensions.iter().zip(ready) {
        let entry = match (&extension.step, ready) {
            (Step::Build(step), Some((content, signer))) => {
                // Every config of a chain has its own.
                make_folder(input::folder_of(&extension.image))?;
                match step.layout {
                    Layout::Directory => build_folder(plan, extension, step, &content, progress)?,
                    Layout::Image | Layout::Bare => {
                        build_one(plan, extension, step, &content, signer.as_deref(), progress)?
                    }
                }
            }
            (Step::TakeFolder(taken), _) => {
                let size = sizes.get(extension.destination.as_str());
                let size = size.copied().unwrap_or_default();
                folder_entry(extension, Origin::TakenIn, size, &taken.release)
            }
            _ => take_in_one(plan, extension, progress)?,
        };
        images.push(BuiltImage {
            path: extension.image.clone(),
            entry,
        });
    }
    Ok(Built {
        images,
        folders,
        findings,
    })
}

fn folders_of(at: &str, tree: &Tree) -> Vec<Folder> {
    tree.walk()
        .filter(|(_, _, inode)| inode.entries().is_some())
        .filter_map(|(path, _, inode)| {
            // A name that is not UTF-8 is not one that the base and an extension share.
            let path = format!("/{}", std::str::from_utf8(&path).ok()?);
            Some(Folder {
                at: at.to_owned(),
                path,
                mode: inode.mode,
            })
        })
        .collect()
}

/// Writes the manifest beside the built images, and syncs the names of all.
pub fn write_manifest(plan: &Plan, built: &Built, overrides: &[String]) -> anyhow::Result<PathBuf> {
    let manifest = Manifest {
        schema_version: 1,
        tool: format!("prism-sysext {}", env!("CARGO_PKG_VERSION")),
        source_date_epoch: plan.epoch,
        overrides: overrides.to_vec(),
        extensions: built
            .images
            .iter()
            .map(|image| image.entry.clone())
            .collect(),
    };
    make_folder(&plan.output_directory)?;
    let path = plan.output_directory.join(crate::manifest::FILE_NAME);
    let text = manifest.to_text()?;
    write_whole(&path, text.as_bytes(), 0o644)?;
    Ok(path)
}

/// Writes a small file that appears complete or not at all.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut pending = PendingFile::create(path, mode)?;
        std::io::Write::write_all(pending.file(), bytes)?;
        pending.commit()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn make_folder(path: &Path) -> Result<(), Findings> {
    std::fs::create_dir_all(path).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
                "it is there but not a folder".to_owned()
            }
            _ => error.to_string(),
        };
        let message = format!("making the output folder {}: {why}", path.display());
        Finding::error("output-folder", message)
            .help("remove what is in the way, or name another folder with `outputDirectory`")
            .into()
    })
}

fn signer<'a>(
    step: &'a BuildStep,
    secrets: &Secrets<'_>,
) -> Result<Option<BoxedSigner<'a>>, Finding> {
    let Some(signing) = &step.signing else {
        return Ok(None);
    };
    let (reference, passphrase) = match &signing.key {
        SigningKey::Command(command) => {
            let path = &signing.certificate_path;
            let signer = CommandSigner::new(command, &signing.certificate, path);
            return Ok(Some(Box::new(signer)));
        }
        SigningKey::Text(reference, passphrase) => (reference, passphrase),
    };
    let key = secrets.open(reference, passphrase.as_ref(), &signing.certificate);
    Ok(Some(Box::new(
        key.map_err(|finding| finding.at(&signing.at))?,
    )))
}

/// Whose signature an image has.
fn signer_of(image: &Ddi) -> Option<String> {
    match &image.signature {
        SignatureState::Present { partition, .. } => partition.certificate_fingerprint.clone(),
        _ => None,
    }
}

/// What is to be signed, beside the image.
fn write_request(
    plan: &Plan,
    extension: &Planned,
    image: &Ddi,
    progress: &Progress,
) -> anyhow::Result<()> {
    let own = format!("{}.verityCertificate", extension.at);
    let of = |at: &str| plan.certificates.iter().find(|trusted| trusted.at == at);
    let certificate = of(&own).or_else(|| of("sysext.verityCertificate"));
    let certificate = certificate.map(|trusted| &trusted.certificate);
    let request = sign::request(image, certificate, progress).map_err(Findings::from)?;
    let file = SignRequest {
        schema_version: 1,
        requests: vec![request],
    };
    let path = extension.image.with_extension("sign-request.json");
    write_whole(&path, file.to_text()?.as_bytes(), 0o644)
}

fn build_one(
    plan: &Plan,
    extension: &Planned,
    step: &BuildStep,
    content: &Content,
    signer: Option<&dyn Signer>,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let what = format!("building {}", extension.name);
    progress.begin(what, content.tree.content_size());
    let ids = ids(extension, step, &content.release)?;
    let trusted = plan.certificates.iter();
    let trusted: Vec<_> = trusted.map(|trusted| trusted.certificate.clone()).collect();
    let folder = input::folder_of(&extension.image);
    let stored = |root: &RootHash| sign::stored(folder, root, &trusted);
    let verity = match (step.verity, signer) {
        _ if step.layout == Layout::Bare => Protection::Bare,
        (Verity::Signed, Some(signer)) => Protection::Signed(signer),
        (Verity::Signed, None) => anyhow::bail!("signing {}: there is no key", extension.name),
        (Verity::Defer, _) => Protection::Defer(&stored),
        (Verity::Hash, _) => Protection::Hash,
        (Verity::None, _) => Protection::None,
    };
    let recipe = Recipe {
        tree: &content.tree,
        arch: step.partition_arch,
        verity,
        ids,
        epoch_seconds: step.epoch.unwrap_or(plan.epoch),
        file_system: step.file_system,
        threads: threads(step.file_system),
        max_size: step.max_size,
        progress,
    };
    let assembled = assemble(&recipe, &extension.image)
        .map_err(|error| measured(error, content.tree.files(), extension))?;
    let (sha256, sha384) = match plan.digests {
        true => input::open(&extension.image)
            .and_then(|file| wanted(&file, assembled.size, &extension.name, progress))
            .context("reading the image back")?,
        false => (None, None),
    };
    let fingerprint = match (&step.signing, step.verity) {
        (Some(signing), _) => Some(signing.certificate.fingerprint_sha256_hex.clone()),
        (None, Verity::Defer) => {
            let image = ddi::open(&extension.image)?;
            write_request(plan, extension, &image, progress)?;
            signer_of(&image)
        }
        (None, _) => None,
    };
    let mut unpacked_from = None;
    let repaired = match &step.content.image {
        Some(image) => {
            let ddi = &image.ddi;
            if let Some(wrapped) = ddi.wrapped {
                unpacked_from = Some(wrapper(&ddi.path, wrapped)?);
            }
            progress.begin(format!("digesting {}", ddi.path.display()), ddi.size);
            let original_sha256 = digest::<Sha256>(ddi.file(), ddi.size, progress)
                .with_context(|| format!("reading {}", ddi.path.display()))?;
            let changes = step.changes.clone();
            Some(Repaired {
                original_sha256,
                changes,
            })
        }
        None => None,
    };
    Ok(Entry {
        name: extension.name.clone(),
        kind: extension.kind,
        image: step.layout.file_name(&extension.name),
        layout: step.layout,
        destination: extension.destination.clone(),
        origin: match &repaired {
            Some(_) => Origin::Repaired,
            None => Origin::Built,
        },
        size: assembled.size,
        sha256,
        sha384,
        beside: Vec::new(),
        unpacked_from,
        format: Some(compression::format(step.file_system)),
        verity: Some(step.verity),
        root_hash: assembled.root_hash.map(|hash| hash.to_string()),
        certificate_fingerprint: fingerprint.filter(|_| assembled.signed),
        repaired,
        release: fields(&content.release),
    })
}

/// Names the largest files where that is what was wrong.
fn measured(
    error: anyhow::Error,
    files: impl Iterator<Item = (String, u64)>,
    extension: &Planned,
) -> anyhow::Error {
    match error.downcast_ref::<TooLarge>() {
        Some(TooLarge { size, most }) => {
            Findings::from(too_large(*size, *most, files, &extension.at)).into()
        }
        None => error,
    }
}

/// Writes a folder beside its final name and gives it that name when it is complete.
fn build_folder(
    plan: &Plan,
    extension: &Planned,
    step: &BuildStep,
    content: &Content,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let size = content.tree.content_size();
    may_replace(extension, step).map_err(Findings::from)?;
    if let Some(most) = step.max_size.filter(|most| size > *most) {
        let finding = too_large(size, most, content.tree.files(), &extension.at);
        return Err(Findings::from(finding).into());
    }
    progress.begin(format!("building {}", extension.name), size);
    let writing = || format!("writing the folder {}", extension.image.display());
    let staged = StagedFolder::create(&extension.image).with_context(writing)?;
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
        FileContent::Path(path) => Some(path),
        FileContent::Bytes(_) => None,
    });
    let archive = wanted.archive.iter().map(|archive| &archive.path);
    let mut sources = wanted.tree.iter().chain(files).chain(archive);
    let holds = |source: &PathBuf| {
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

/// Who may not give files away can still have an image made.
pub(crate) fn owners(error: &FolderError) -> Finding {
    Finding::error("owners-not-settable", error.to_string())
        .because("owners of files are those that programs see after the merge")
        .help("run it as root, or in a namespace of your own (`unshare --map-auto --map-root-user`), or use `layout: bare` or a disk image, which need no rights")
}

/// What a folder that is taken as it is holds, or all that is wrong with it.
fn gather_folder(taken: &TakenFolder, at: &str) -> Result<Collected, Vec<Finding>> {
    let options = Options {
        keep_owners: taken.keep_owners,
    };
    let collected = collect(&taken.path, &options).map_err(|found| found.0)?;
    let paths = collected.tree.walk();
    let paths = paths.map(|(path, ..)| format!("/{}", String::from_utf8_lossy(&path)));
    let mut unmet = unmet(paths, &taken.expect, &taken.forbid, at);
    let size = collected.tree.content_size();
    if let Some(most) = taken.max_size.filter(|most| size > *most) {
        unmet.push(too_large(size, most, collected.tree.files(), at));
    }
    match unmet.is_empty() {
        true => Ok(collected),
        false => Err(unmet),
    }
}

fn folder_entry(extension: &Planned, origin: Origin, size: u64, release: &ReleaseFields) -> Entry {
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

/// Ids and salt; an image's own seed, if the user wrote one, stands for its identity.
fn ids(extension: &Planned, step: &BuildStep, release: &ReleaseFields) -> anyhow::Result<Ids> {
    let pairs: Vec<(String, String)> = release
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let seed = match &step.seed {
        Some(text) => Seed::parse(text).context("reading the seed")?,
        None => Seed::derive(&Identity {
            name: &extension.name,
            version: step.version.as_deref(),
            kind: extension.kind,
            arch: step.arch.map_or("any", |arch| arch.name()),
            release: &pairs,
            format: compression::format(step.file_system),
            compression: &compression::name(step.file_system),
        })?,
    };
    let type_guid = |role| {
        PartitionType::new(step.partition_arch, Designator::Root, role)
            .guid()
            .with_context(|| {
                format!(
                    "{} has no partition type for extensions",
                    step.partition_arch
                )
            })
    };
    let data = type_guid(Role::Data)?;
    Ok(Ids {
        disk: seed.disk_guid()?.into_bytes(),
        root: seed.partition_guid(data)?.into_bytes(),
        signature: seed
            .partition_guid(type_guid(Role::Signature)?)?
            .into_bytes(),
        file_system: seed.file_system_uuid(data)?.into_bytes(),
        verity: seed.verity_uuid()?.into_bytes(),
        salt: seed.verity_salt()?,
    })
}

/// Unpacks a compressed image to where the plan wants it.
fn unwrap_one(
    extension: &Planned,
    taken: &TakenIn,
    wrapped: Wrapped,
) -> anyhow::Result<UnpackedFrom> {
    let path = &taken.ddi.path;
    let reading = || format!("reading {}", path.display());
    let file = input::open(path).with_context(reading)?;
    let from = wrapper(path, wrapped)?;
    let writing = || format!("writing {}", extension.image.display());
    let mut pending = PendingFile::create(&extension.image, 0o644).with_context(writing)?;
    unwrap(&file, wrapped.codec, pending.file()).with_context(reading)?;
    pending.commit().with_context(writing)?;
    Ok(from)
}

/// What the manifest says of a compressed file.
fn wrapper(path: &Path, wrapped: Wrapped) -> anyhow::Result<UnpackedFrom> {
    let reading = || format!("reading {}", path.display());
    let file = input::open(path).with_context(reading)?;
    let size = file.metadata().with_context(reading)?.len();
    let sha256 = digest::<Sha256>(&file, size, &Progress::new()).with_context(reading)?;
    Ok(UnpackedFrom {
        codec: wrapped.codec,
        size,
        sha256,
    })
}

fn take_in_one(plan: &Plan, extension: &Planned, progress: &Progress) -> anyhow::Result<Entry> {
    let Step::TakeIn(taken) = &extension.step else {
        anyhow::bail!("{} was not gathered", extension.name)
    };
    let wrapped = match (taken.ddi.wrapped, &taken.join) {
        (None, None) => None,
        (wrapped, join) => {
            make_folder(input::folder_of(&extension.image))?;
            match (wrapped, join) {
                (Some(wrapped), None) => Some(unwrap_one(extension, taken, wrapped)?),
                (Some(wrapped), Some(_)) => Some(wrapper(&taken.ddi.path, wrapped)?),
                (None, _) => None,
            }
        }
    };
    let repaired = match &taken.join {
        Some(join) => Some(join_one(
            extension,
            taken,
            join,
            &plan.certificates,
            progress,
        )?),
        None => None,
    };
    let reading = || format!("reading {}", extension.image.display());
    let file = input::open(&extension.image).with_context(reading)?;
    let size = file.metadata().with_context(reading)?.len();
    let (sha256, sha384) = match plan.digests {
        true => wanted(&file, size, &extension.name, progress).with_context(reading)?,
        // Both digests of what is no longer the same file are recorded.
        false if wrapped.is_some() => {
            progress.begin(format!("digesting {}", extension.name), size);
            let sha256 = digest::<Sha256>(&file, size, progress).with_context(reading)?;
            (Some(sha256), None)
        }
        false => (None, None),
    };
    // The image was described from what was read then; it must still be the same.
    if let Some(expected) = &taken.sha256 {
        let found = match wrapped.as_ref().map(|it| &it.sha256).or(sha256.as_ref()) {
            Some(found) => found.clone(),
            None => {
                progress.begin(format!("digesting {}", extension.name), size);
                digest::<Sha256>(&file, size, progress).with_context(reading)?
            }
        };
        if !expected.eq_ignore_ascii_case(&found) {
            anyhow::bail!(
                "{} changed while it was read; run the command again",
                extension.image.display()
            );
        }
    }
    Ok(Entry {
        name: extension.name.clone(),
        kind: extension.kind,
        image: format!("{}.raw", extension.name),
        layout: extension.layout(),
        destination: extension.destination.clone(),
        origin: match &repaired {
            Some(_) => Origin::Repaired,
            None => Origin::TakenIn,
        },
        size,
        sha256,
        sha384,
        beside: extension
            .beside
            .iter()
            .map(companion)
            .collect::<anyhow::Result<_>>()?,
        unpacked_from: wrapped,
        format: None,
        verity: repaired.as_ref().map(|_| Verity::Signed),
        root_hash: taken.root_hash(),
        certificate_fingerprint: taken.signer_fingerprint(&plan.certificates),
        repaired,
        release: fields(taken.release()),
    })
}

fn companion(beside: &Beside) -> anyhow::Result<Companion> {
    let path = &beside.file.path;
    let reading = || format!("reading {}", path.display());
    let file = input::open(path).with_context(reading)?;
    let size = file.metadata().with_context(reading)?.len();
    Ok(Companion {
        kind: beside.file.kind,
        destination: beside.destination.clone(),
        sha256: digest::<Sha256>(&file, size, &Progress::new()).with_context(reading)?,
    })
}

fn fields(release: &ReleaseFields) -> serde_json::Map<String, serde_json::Value> {
    release
        .iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

/// SHA-256 and SHA-384 of a file for the manifest.
fn wanted(
    file: &File,
    size: u64,
    name: &str,
    progress: &Progress,
) -> std::io::Result<(Option<String>, Option<String>)> {
    progress.begin(format!("digesting {name}"), size);
    let (sha256, sha384) = sha256_and_sha384(file, size, progress)?;
    Ok((Some(sha256), Some(sha384)))
}
