//! What was built goes into a root file system.

use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest, Sha256};

use super::predict::predict_present;
use super::{Session, Stopped};
use crate::base::Base;
use crate::build::{Built, BuiltImage};
use crate::check::{Allowed, Prediction, Verdict};
use crate::config::model::{Enable, ImagePolicy};
use crate::finding::Finding;
use crate::io::digest::digest_file;
use crate::io::hex;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::place;
use crate::place::{Applied, FileSource, Options, PlacedFile, PlacedTree, Placements};
use crate::plan::placements::{Placement, PlacementSource};
use crate::plan::{Planned, Step};
use crate::systemd::changes::Change;
use crate::tree::collect::{Options as Collecting, collect};
use crate::tree::folder;

/// How to place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Placing {
    /// Replace files that an earlier apply did not place, or that were changed since.
    pub force: bool,
}

impl Session {
    /// Writes what was built and everything that goes with it into a root file system, and takes out
    /// what an earlier apply placed and the plan does not list any more.
    ///
    /// # Errors
    /// An image that was not built or can't be read, and those of [`apply`](crate::place::apply()), which
    /// says what an error leaves behind.
    pub fn place(
        &self,
        root: &RootDir,
        built: &Built,
        how: Placing,
        progress: &Progress,
    ) -> Result<Applied, Stopped> {
        let placements = self.digested(built, progress)?;
        let options = Options {
            force: how.force,
            progress: Some(progress),
        };
        place::apply(root, &placements, &options).map_err(|findings| self.refuse(findings.0))
    }

    /// Judges what lies in a root file system after [`Session::place`], as it will be found at boot;
    /// nothing if that is what was predicted.
    ///
    /// # Errors
    /// A base that can't be read any more.
    pub fn check_placed(
        &self,
        root: &RootDir,
        allowed: Allowed,
        progress: &Progress,
    ) -> Result<Option<Prediction>, Stopped> {
        let base = Base::read(root)?;
        let listed = |path: &str| {
            let mut extensions = self.plan.extensions.iter();
            let planned = extensions.find(|planned| planned.destination == path);
            planned.map(|planned| planned.at.clone())
        };
        let prediction = predict_present(root, &base, listed, progress);
        let found = prediction.extensions.iter().filter(|it| it.listed).count();
        let as_planned = found == self.plan.extensions.len() && prediction.is_good(allowed);
        Ok((!as_planned).then_some(prediction))
    }

    /// The plan's placements with the digests of what was built.
    fn digested(&self, built: &Built, progress: &Progress) -> anyhow::Result<Placements> {
        let plan = &self.plan;
        let image_of = |planned: &Planned| {
            let pairs = plan.extensions.iter().zip(&built.images);
            let mut found = pairs.filter(|(it, _)| std::ptr::eq(*it, planned));
            let (_, image) = found.next()?;
            Some(image)
        };
        let mut files = Vec::new();
        for placement in plan.placements() {
            let (extensions, source, sha256) = match &placement.source {
                PlacementSource::Certificate(trusted) => {
                    let (source, sha256) = of_text(trusted.certificate.pem());
                    (Vec::new(), source, sha256)
                }
                PlacementSource::DropIn(drop_in) => {
                    let (source, sha256) = of_text(drop_in.text.clone());
                    (Vec::new(), source, sha256)
                }
                PlacementSource::Sidecar {
                    planned,
                    number,
                    path,
                    ..
                } => {
                    // The manifest has them in the same order.
                    let entry = image_of(planned).and_then(|it| it.entry.beside.get(*number));
                    let entry =
                        entry.with_context(|| format!("{} was not built", path.display()))?;
                    let source = FileSource::Path(path.to_path_buf());
                    (vec![planned.name.clone()], source, from_hex(&entry.sha256)?)
                }
                PlacementSource::Extension(planned) => {
                    let image = image_of(planned)
                        .with_context(|| format!("{} was not built", planned.name))?;
                    let (source, sha256) =
                        self.of_extension(&placement, planned, image, progress)?;
                    (vec![planned.name.clone()], source, sha256)
                }
            };
            files.push(PlacedFile {
                kind: placement.kind,
                extensions,
                destination: placement.destination,
                source,
                mode: placement.mode,
                sha256,
            });
        }
        Ok(Placements {
            files,
            enable: match plan.enable {
                Enable::None => Vec::new(),
                _ => plan.kinds(),
            },
            tool: format!("prism-sysext {}", env!("CARGO_PKG_VERSION")),
        })
    }

    fn of_extension(
        &self,
        placement: &Placement<'_>,
        planned: &Planned,
        image: &BuiltImage,
        progress: &Progress,
    ) -> anyhow::Result<(FileSource, [u8; 32])> {
        if placement.kind != place::PlacedKind::Folder {
            let sha256 = match &image.entry.sha256 {
                Some(text) => from_hex(text)?,
                None => digest_of(&image.path, progress)?,
            };
            return Ok((FileSource::Path(image.path.clone()), sha256));
        }
        let (keep_owners, epoch) = match &planned.step {
            // What was built has the owners that it is to have.
            Step::Build(step) => (true, step.epoch),
            Step::TakeFolder(taken) => (taken.keep_owners, None),
            Step::TakeIn(_) => (false, None),
        };
        let tree = collect(&image.path, &Collecting { keep_owners })?.tree;
        progress.begin(format!("digesting {}", planned.name), tree.content_size());
        let sha256 = folder::digest(&tree, progress)?;
        let placed = PlacedTree {
            path: image.path.clone(),
            tree,
            epoch_seconds: epoch.unwrap_or(self.plan.epoch),
        };
        Ok((FileSource::Tree(Box::new(placed)), sha256))
    }
}

fn of_text(text: String) -> (FileSource, [u8; 32]) {
    let bytes = text.into_bytes();
    let sha256 = Sha256::digest(&bytes).into();
    (FileSource::Bytes(bytes), sha256)
}

fn digest_of(path: &Path, progress: &Progress) -> anyhow::Result<[u8; 32]> {
    let name = path.file_name().unwrap_or_default();
    let stage = format!("digesting {}", name.display());
    let (found, _) = digest_file::<Sha256>(path, stage, progress)
        .with_context(|| format!("reading {}", path.display()))?;
    from_hex(&found)
}

/// A SHA-256 in hex as bytes.
fn from_hex(text: &str) -> anyhow::Result<[u8; 32]> {
    hex::decode(text)
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("expected 64 hex digits as SHA-256, found `{text}`"))
}

/// A note where all is signed, but nothing insists on it.
pub fn enforcement(session: &Session, prediction: &Prediction) -> Vec<Finding> {
    let listed = || prediction.extensions.iter().filter(|it| it.listed);
    let all_signed = listed().next().is_some()
        && listed().all(|judgement| judgement.verdict == Verdict::MergesSigned);
    let sysext = session.config.sysext.as_ref();
    let policy = sysext.map(|sysext| &sysext.image_policy);
    let base = session.base.as_ref();
    let newer = base
        .and_then(Base::systemd_build)
        .is_some_and(|systemd| systemd.has(Change::ImagePolicy));
    match all_signed && policy == Some(&ImagePolicy::Default) && newer {
        true => vec![not_enforced()],
        false => Vec::new(),
    }
}

/// Systemd's own policy admits more than what is signed.
pub(super) fn not_enforced() -> Finding {
    Finding::note("signatures-not-enforced", "all extensions are signed, but unsigned ones would be merged as well")
        .because("systemd's own policy admits unprotected images (image_policy_sysext, src/shared/image-policy.c)")
        .help("write `imagePolicy: signed` in a `sysext` section to admit signed ones only")
}
