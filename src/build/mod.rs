//! Carries out the plan as far as images go: builds what is to be built,
//! digests what is taken in, and describes both in the manifest.
//!
//! Everything that can be wrong with content and keys is found before the
//! first image is written.

pub mod assemble;
pub(crate) mod content;
mod folder;
pub(crate) mod identity;
pub(crate) mod manifest;
mod prebuilt;
mod sidecars;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::Sha256;

use crate::build::assemble::{Ids, Protection, Recipe, TooLarge, assemble};
use crate::build::content::{Content, gather};
use crate::build::identity::{Identity, Seed};
use crate::build::manifest::{Entry, Manifest, Origin, Repaired};
use crate::config::model::{Delivery, VerityMode};
use crate::finding::{Finding, Findings};
use crate::image::dissect;
use crate::image::dissect::{Ddi, SignatureState};
use crate::image::gpt::types::{Designator, PartitionType, Role};
use crate::image::signature::Signer;
use crate::image::verity::RootHash;
use crate::io::atomic_file::write_whole;
use crate::io::digest::{digest, sha256_and_sha384};
use crate::io::open;
use crate::io::progress::Progress;
use crate::plan::content::ContentSource;
use crate::plan::limits::too_large;
use crate::plan::{BuildStep, Plan, Planned, SigningKey, Step, compression};
use crate::sign::command::CommandSigner;
use crate::sign::deferred;
use crate::sign::deferred::SignRequest;
use crate::sign::passphrase::Secrets;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::{Folder, Tree};
use folder::{build_folder, folder_entry, gather_folder};
use prebuilt::{compressed_file, prebuilt_one};

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
///
/// # Errors
/// [`Findings`] (by `downcast`) with all that is wrong with content and keys, before any image is
/// written. What fails later, such as `too-large`, `output-folder` or a full disk, stops the work:
/// the images before it are complete and stay.
pub fn build(plan: &Plan, secrets: &Secrets<'_>, progress: &Progress) -> anyhow::Result<Built> {
    let mut errors = Vec::new();
    let mut findings = Vec::new();
    let mut folders = Vec::new();
    let mut sizes = BTreeMap::new();
    let mut ready: Vec<Option<(Content, Option<BoxedSigner<'_>>)>> = Vec::new();
    for extension in &plan.extensions {
        let step = match &extension.step {
            Step::Build(step) => step,
            Step::PrebuiltImage(_) => {
                ready.push(None);
                continue;
            }
            Step::PrebuiltFolder(taken) => {
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
                make_folder(open::folder_of(&extension.image))?;
                match step.layout {
                    Delivery::Directory => build_folder(plan, extension, step, &content, progress)?,
                    Delivery::Image | Delivery::Bare => {
                        build_one(plan, extension, step, &content, signer.as_deref(), progress)?
                    }
                }
            }
            (Step::PrebuiltFolder(taken), _) => {
                let size = sizes.get(extension.destination.as_str());
                let size = size.copied().unwrap_or_default();
                folder_entry(extension, Origin::TakenIn, size, &taken.release)
            }
            _ => prebuilt_one(plan, extension, progress)?,
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

/// Writes the manifest beside the built images, syncs the names of all, and returns its path.
///
/// # Errors
/// [`Findings`] (by `downcast`) with `output-folder` if the output directory can't be made, else
/// the failed write. A manifest is replaced as a whole or not at all.
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
    let path = plan
        .output_directory
        .join(crate::build::manifest::FILE_NAME);
    let text = manifest.to_text()?;
    write_whole(&path, text.as_bytes(), 0o644)?;
    Ok(path)
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
    let request = deferred::request(image, certificate, progress).map_err(Findings::from)?;
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
    let folder = open::folder_of(&extension.image);
    let stored = |root: &RootHash| deferred::stored(folder, root, &trusted);
    let verity = match (step.verity, signer) {
        _ if step.layout == Delivery::Bare => Protection::Bare,
        (VerityMode::Signed, Some(signer)) => Protection::Signed(signer),
        (VerityMode::Signed, None) => anyhow::bail!("signing {}: there is no key", extension.name),
        (VerityMode::Defer, _) => Protection::Defer(&stored),
        (VerityMode::Hash, _) => Protection::Hash,
        (VerityMode::None, _) => Protection::None,
    };
    let recipe = Recipe {
        verity,
        epoch_seconds: step.epoch.unwrap_or(plan.epoch),
        max_size: step.content.limits.max_size,
        ..Recipe::new(
            &content.tree,
            step.partition_arch,
            step.file_system,
            ids,
            progress,
        )
    };
    let assembled = assemble(&recipe, &extension.image)
        .map_err(|error| measured(error, content.tree.files(), extension))?;
    let (sha256, sha384) = match plan.digests {
        true => open::open(&extension.image)
            .and_then(|file| wanted(&file, assembled.size, &extension.name, progress))
            .context("reading the image back")?,
        false => (None, None),
    };
    let fingerprint = match (&step.signing, step.verity) {
        (Some(signing), _) => Some(signing.certificate.fingerprint_sha256_hex.clone()),
        (None, VerityMode::Defer) => {
            let image = dissect::open(&extension.image)?;
            write_request(plan, extension, &image, progress)?;
            signer_of(&image)
        }
        (None, _) => None,
    };
    let mut unpacked_from = None;
    let repaired = match &step.content.source {
        ContentSource::Image(image) => {
            let ddi = &image.ddi;
            if let Some(compressed) = ddi.compressed {
                unpacked_from = Some(compressed_file(&ddi.path, compressed)?);
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
        _ => None,
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

#[cfg(test)]
mod tests;
