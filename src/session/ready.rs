//! What must hold before a plan is carried out, and what is noticed of what it names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Session, Stopped};
use crate::build::Built;
use crate::config::model::{Layout, Verity};
use crate::config::pitfalls;
use crate::config::pitfalls::EnabledUnit;
use crate::finding::Finding;
use crate::finding::text::path;
use crate::image::dissect;
use crate::image::dissect::SignatureState;
use crate::plan::content::ContentSource;
use crate::plan::{Step, settings};

impl Session {
    /// Every image that the plan names must be there.
    ///
    /// # Errors
    /// `image-missing` for each that is not there.
    pub fn images_ready(&self) -> Result<(), Stopped> {
        let planned = self.plan.extensions.iter();
        let missing: Vec<Finding> = planned
            .filter(|planned| match planned.layout() {
                Layout::Directory => !planned.image.is_dir(),
                Layout::Image | Layout::Bare => !planned.image.is_file(),
            })
            .map(|planned| {
                let image = path(&planned.image);
                Finding::error("image-missing", format!("{image} is not built yet"))
                    .at(&planned.at)
                    .help("run `prism-sysext build` first")
            })
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(self.refuse(missing))
        }
    }

    /// Prism copies files, and of folders neither owners nor modes.
    ///
    /// # Errors
    /// `folder-needs-apply` for each extension that is a folder.
    pub fn only_images(&self) -> Result<(), Stopped> {
        let planned = self.plan.extensions.iter();
        let folders = planned.filter(|planned| planned.layout() == Layout::Directory);
        let findings: Vec<Finding> = folders
            .map(|planned| {
                let message = format!("Prism can't place `{}`, which is a folder", planned.name);
                Finding::error("folder-needs-apply", message)
                    .at(&planned.at)
                    .because("`additionalFiles` copies single files, and `additionalDirs` gives all of them one mode and no owners, links or attributes of their own")
                    .help("leave `layout` out (or build an image of the folder with `tree`), or place it with `prism-sysext apply --rootfs DIR`")
            })
            .collect();
        match findings.is_empty() {
            true => Ok(()),
            false => Err(self.refuse(findings)),
        }
    }

    /// The images have to fit where Prism puts them.
    ///
    /// # Errors
    /// `root-too-small` for the first config whose partition is smaller than all images together.
    pub fn room(&self) -> Result<(), Stopped> {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let mut images: Vec<(&str, u64)> = Vec::new();
        for planned in &self.plan.extensions {
            images.push((&planned.destination, length(&planned.image)));
            let beside = planned.beside.iter();
            images.extend(beside.map(|it| (it.destination.as_str(), length(&it.file.path))));
        }
        // Only one config of a chain may have `storage`.
        for link in self.chain.links() {
            if let Some(finding) = pitfalls::room(&link.config.prism, images.iter().copied()) {
                return Err(Stopped::about(&link.config.source, vec![finding]));
            }
        }
        Ok(())
    }

    /// Prebuilt images that may take more room on the target than here.
    pub fn sparse(&self) -> Vec<Finding> {
        let taken_in = self.plan.extensions.iter();
        let taken_in = taken_in.filter(|planned| matches!(planned.step, Step::TakeIn(_)));
        let found = taken_in.filter_map(|planned| {
            let file = std::fs::metadata(&planned.image).ok()?;
            let allocated = file.blocks().saturating_mul(512);
            let finding = pitfalls::sparse(&planned.image, allocated, file.len())?;
            Some(finding.at(&planned.at))
        });
        found.collect()
    }

    /// Units that Prism would enable and that come with an image; those of `tree` and `files` were told
    /// with the config.
    pub fn units_inside(&self) -> Vec<Finding> {
        let top = self.chain.links().len().saturating_sub(1);
        let mut units: Vec<(EnabledUnit, Option<&Path>)> = Vec::new();
        for (number, link) in self.chain.links().iter().enumerate() {
            let of = EnabledUnit::all(&link.config.prism).into_iter();
            let source = (number != top).then_some(link.config.source.path.as_path());
            units.extend(of.map(|unit| (unit, source)));
        }
        let in_base = |path: &str| {
            let root = self.root.as_deref();
            root.is_some_and(|root| matches!(root.metadata(Path::new(path)), Ok(Some(_))))
        };
        units.retain(|(unit, _)| !in_base(&unit.path()));
        let mut findings = Vec::new();
        for planned in self.plan.extensions.iter().filter(|_| !units.is_empty()) {
            if let Step::Build(step) = &planned.step
                && (matches!(step.content.source, ContentSource::Tree(_))
                    || !step.content.files.is_empty())
            {
                continue;
            }
            let image = dissect::open(&planned.image).ok();
            let fs = image.as_ref().and_then(|image| image.file_system().ok());
            let has = |path: &str| match &fs {
                Some(fs) => matches!(fs.metadata(path), Ok(Some(_))),
                None => planned.image.join(path.trim_start_matches('/')).exists(),
            };
            for (unit, source) in units.iter().filter(|(unit, _)| has(&unit.path())) {
                let finding = unit.inside(&planned.name);
                findings.push(match source {
                    Some(source) => finding.in_file(source),
                    None => finding,
                });
            }
        }
        findings
    }

    /// What of the built content does not go with the base.
    pub fn noticed(&self, built: &Built) -> Vec<Finding> {
        let mut findings = built.findings.clone();
        findings.extend(self.units_inside());
        if let Some(root) = &self.root {
            findings.extend(settings::of_folders(root.as_ref(), &built.folders));
        }
        findings
    }

    /// A deferred image without its signature would block all extensions.
    ///
    /// # Errors
    /// `unsigned-deferred` for each such image.
    pub fn all_signed(&self) -> Result<(), Stopped> {
        let extensions = self.plan.extensions.iter();
        let unsigned = extensions.filter(|planned| match &planned.step {
            Step::TakeIn(taken) => taken.awaits_signature(),
            Step::TakeFolder(_) => false,
            // An attached signature is found again by every build.
            Step::Build(step) => {
                let image = || dissect::open(&planned.image);
                step.verity == Verity::Defer
                    && image().is_ok_and(|image| image.signature == SignatureState::Empty)
            }
        });
        let findings: Vec<Finding> = unsigned
            .map(|planned| {
                Finding::error("unsigned-deferred", format!("{} is not signed yet", path(&planned.image)))
                    .at(&planned.at)
                    .because("systemd refuses an image whose signature partition is empty, and all others with it")
                    .help("sign it: `prism-sysext sign request` tells what to sign, `prism-sysext sign attach` takes the signature; or go on with --allow-unsigned")
            })
            .collect();
        match findings.is_empty() {
            true => Ok(()),
            false => Err(self.refuse(findings)),
        }
    }
}
