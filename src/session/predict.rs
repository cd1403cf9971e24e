//! What systemd will do with images and folders: those that a config names, those of a base, those of
//! this machine.

use std::path::{Path, PathBuf};

use glob::Pattern;

use super::candidates::{future_image, image_and_beside, in_search_order, local_folder, present};
use super::inside::look_inside;
use super::services::{TrustedBy, host, service};
use super::{Session, Stopped};
use crate::base::Base;
use crate::base::rootfs::RootFs;
use crate::check::sidecars::FutureSidecars;
use crate::check::{Candidate, Image, Prediction, predict};
use crate::config::model::{CertificateLocation, Delivery, Enable};
use crate::image::x509::Certificate;
use crate::io::progress::Progress;
use crate::place::record::Record;
use crate::systemd::drop_in::policy_path;
use crate::systemd::kind::ExtensionKind;

impl Session {
    /// What becomes of the planned images together with what the base already has.
    ///
    /// # Errors
    /// `no-base`, or a record of an earlier apply that can't be read.
    pub fn predict(&self, progress: &Progress) -> Result<Prediction, Stopped> {
        let base = self.base()?;
        let systemd = base.systemd_build();
        let planned: Vec<&str> = self
            .plan
            .extensions
            .iter()
            .map(|planned| planned.destination.as_str())
            .collect();
        let record = match &self.root {
            Some(root) => {
                Record::read(root.as_ref()).map_err(|findings| self.refuse(findings.0))?
            }
            None => None,
        };
        // What an earlier apply placed stays only as far as the plan lists it again.
        let ours = |path: &str| record.as_ref().is_some_and(|record| record.lists(path));
        let mut candidates = match &self.root {
            Some(root) => present(
                root.as_ref(),
                base,
                |path| planned.contains(&path) || ours(path),
                |_| None,
                progress,
            ),
            None => Vec::new(),
        };
        for extension in &self.plan.extensions {
            let files: Vec<_> = extension.beside.iter().map(|it| it.file.clone()).collect();
            let coming = FutureSidecars {
                files: &files,
                root: self.root.as_deref(),
                destination: Path::new(&extension.destination),
                goes: &ours,
            };
            let image = match extension.layout() {
                Delivery::Directory => local_folder(&extension.image),
                Delivery::Image | Delivery::Bare => {
                    future_image(&extension.image, &coming, base, progress)
                }
            };
            candidates.push(Candidate::placed(
                extension.kind,
                extension.at.clone(),
                extension.destination.clone(),
                image,
                systemd,
            ));
        }
        in_search_order(&mut candidates);
        let kinds = self.plan.kinds();
        let trusted = TrustedBy::each(|kind| self.trusted(base, kind, ours));
        let service = |kind| {
            let unit = base.unit(kind);
            let of_base = unit.image_policy.as_deref();
            let planned = self.plan.image_policy.as_deref();
            let planned = planned.filter(|_| kinds.contains(&kind));
            let policy = planned.or(of_base.filter(|_| !ours(&policy_path(kind))));
            // Prism enables what it installs, so a profile's unit counts as there.
            let will_enable = self.plan.enable != Enable::None && kinds.contains(&kind);
            service(base, kind, policy, trusted.of(kind), will_enable)
        };
        let mut prediction = predict(&host(base, service), &candidates);
        let sections = self.chain.sections();
        let sections = sections.filter_map(|link| link.config.sysext.as_ref());
        let allow = sections.flat_map(|sysext| &sysext.allow);
        // Their syntax was checked.
        let allow: Vec<Pattern> = allow.filter_map(|glob| Pattern::new(glob).ok()).collect();
        look_inside(
            &mut prediction,
            &candidates,
            base,
            self.root.as_deref(),
            &allow,
        );
        Ok(prediction)
    }

    /// What systemd will trust when it merges extensions of a kind; what an earlier apply placed
    /// (`ours`) stays only as far as the plan has it again.
    fn trusted(
        &self,
        base: &Base,
        kind: ExtensionKind,
        ours: impl Fn(&str) -> bool,
    ) -> Vec<Certificate> {
        let copies = self.plan.certificate_location == CertificateLocation::Run;
        // The unit of a kind of which nothing is planned copies nothing.
        let planned =
            (!copies || self.plan.kinds().contains(&kind)).then_some(&self.plan.certificates);
        let planned = planned.into_iter().flatten().map(|it| &it.certificate);
        let others = base.certificates.iter().filter(|file| {
            file.only_for.is_none_or(|only| only == kind)
                && !ours(&file.path)
                && !file.copied_from.as_deref().is_some_and(&ours)
        });
        let others = others.map(|file| &file.certificate);
        planned.chain(others).cloned().collect()
    }
}

/// What becomes of images on a base as if each were placed under its own file name.
pub fn predict_images(images: &[PathBuf], base: &Base, progress: &Progress) -> Prediction {
    let candidates: Vec<Candidate> = images
        .iter()
        .map(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let image = match path.is_dir() {
                true => local_folder(path),
                false => image_and_beside(path, base, progress),
            };
            let kind = class_of(&image);
            let folder = match kind {
                ExtensionKind::Sysext => "/var/lib/extensions",
                ExtensionKind::Confext => "/var/lib/confexts",
            };
            let at = path.display().to_string();
            let target = format!("{folder}/{file}");
            Candidate::placed(kind, at, target, image, base.systemd_build())
        })
        .collect();
    let mut prediction = predict_on(base, &candidates, true);
    look_inside(&mut prediction, &candidates, base, None, &[]);
    prediction
}

/// What its release files make it.
fn class_of(image: &Image) -> ExtensionKind {
    let content = match image {
        Image::Disk(ddi, ..) => ddi.content.as_ref(),
        Image::Folder { content, .. } => Some(content.as_ref()),
        Image::Unreadable(_) | Image::Other(_) => None,
    };
    let first = content.and_then(|content| content.releases.first());
    first.map_or(ExtensionKind::Sysext, |release| release.kind)
}

/// What becomes of what a root file system carries; `listed` gives the place in the config.
pub fn predict_present(
    root: &dyn RootFs,
    base: &Base,
    listed: impl Fn(&str) -> Option<String>,
    progress: &Progress,
) -> Prediction {
    let candidates = present(root, base, |_| false, listed, progress);
    let mut prediction = predict_on(base, &candidates, false);
    look_inside(&mut prediction, &candidates, base, Some(root), &[]);
    prediction
}

/// What becomes of candidates on a base as it is; `will_enable` tells that the service will run.
fn predict_on(base: &Base, candidates: &[Candidate], will_enable: bool) -> Prediction {
    let trusted = TrustedBy::each(|kind| base.trusted(kind));
    let service = |kind| {
        let policy = base.unit(kind).image_policy.as_deref();
        service(base, kind, policy, trusted.of(kind), will_enable)
    };
    predict(&host(base, service), candidates)
}
