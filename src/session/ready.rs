//! What must hold before a plan is carried out, and what is noticed of what it names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Session, Stopped};
use crate::build::Built;
use crate::config::model::{Delivery, VerityMode};
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
                Delivery::Directory => !planned.image.is_dir(),
                Delivery::Image | Delivery::Bare => !planned.image.is_file(),
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
        let folders = planned.filter(|planned| planned.layout() == Delivery::Directory);
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
        let taken_in = taken_in.filter(|planned| matches!(planned.step, Step::PrebuiltImage(_)));
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
            Step::PrebuiltImage(taken) => taken.awaits_signature(),
            Step::PrebuiltFolder(_) => false,
            // An attached signature is found again by every build.
            Step::Build(step) => {
                let image = || dissect::open(&planned.image);
                step.verity == VerityMode::Defer
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::gpt::types::Designator;
    use crate::image::signature::sign_root_hash;
    use crate::image::testing::{Protection, disk, erofs, signer, tree};
    use crate::io::open::testing::write;
    use crate::session::testing::{SECTION, build, ids, in_root, rootfs, session};
    use crate::sign::deferred;

    const RELEASE: (&str, &str) = (
        "usr/lib/extension-release.d/extension-release.a",
        "ID=azurelinux\nVERSION_ID=3.0\n",
    );
    const TAKEN: &str = "sysext: {extensions: [a.raw]}\n";

    fn of(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn images_must_be_built_and_of_the_right_form() {
        let folder = SECTION.replace("verity: hash", "layout: directory");
        for (text, in_config) in [(SECTION, "out/a.raw"), (&folder, "out/a")] {
            let dir = tempfile::tempdir().unwrap();
            let session = session(dir.path(), text);
            assert_eq!(ids(session.images_ready()), ["image-missing"]);
            build(&session);
            assert!(session.images_ready().is_ok());
            // A folder in place of an image, and the other way round.
            let path = dir.path().join(in_config);
            match path.is_dir() {
                true => {
                    fs::remove_dir_all(&path).unwrap();
                    fs::write(&path, "").unwrap();
                }
                false => {
                    fs::remove_file(&path).unwrap();
                    fs::create_dir(&path).unwrap();
                }
            }
            assert_eq!(ids(session.images_ready()), ["image-missing"]);
        }
    }

    #[test]
    fn prism_places_images_only() {
        let dir = tempfile::tempdir().unwrap();
        for (keys, expected) in [
            ("verity: hash", vec![]),
            ("layout: bare", vec![]),
            ("layout: directory", vec!["folder-needs-apply"]),
        ] {
            let text = SECTION.replace("verity: hash", keys);
            let session = session(dir.path(), &text);
            assert_eq!(ids(session.only_images()), expected, "{keys}");
        }
    }

    #[test]
    fn images_must_fit_their_partition() {
        let dir = tempfile::tempdir().unwrap();
        for (size, expected) in [
            ("1M", vec!["root-too-small"]),
            ("1G", vec![]),
            ("grow", vec![]),
        ] {
            let storage = format!(
                "storage:\n  disks: [{{partitionTableType: gpt, partitions: [{{id: a, type: root, size: {size}}}]}}]\n  filesystems: [{{deviceId: a, type: ext4, mountPoint: /}}]\n"
            );
            let session = session(dir.path(), &format!("{storage}{SECTION}"));
            assert!(
                session.room().is_ok(),
                "what is not built yet weighs nothing"
            );
            build(&session);
            assert_eq!(ids(session.room()), expected, "{size}");
            fs::remove_dir_all(dir.path().join("out")).unwrap();
        }
    }

    #[test]
    fn only_prebuilt_images_with_many_holes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = erofs(&tree(&[RELEASE]));
        write(dir.path(), "a.raw", &bytes);
        assert!(session(dir.path(), TAKEN).sparse().is_empty());
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join("a.raw"))
            .unwrap();
        file.set_len(8 << 20).unwrap();
        assert_eq!(of(&session(dir.path(), TAKEN).sparse()), ["image-sparse"]);
        let built = session(dir.path(), SECTION);
        build(&built);
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join("out/a.raw"))
            .unwrap();
        file.set_len(64 << 20).unwrap();
        assert!(built.sparse().is_empty());
    }

    #[test]
    fn a_unit_that_prism_enables_must_not_come_with_a_prebuilt_image() {
        let unit = (
            "usr/lib/systemd/system/a.service",
            "[Service]\nExecStart=/usr/bin/a\n",
        );
        let text = |enabled: &str, section: &str| {
            format!("os: {{services: {{enable: [{enabled}]}}}}\n{section}")
        };
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.raw", erofs(&tree(&[RELEASE, unit])));
        for (enabled, expected) in [
            ("a", vec!["unit-inside-extension"]),
            ("a.service", vec!["unit-inside-extension"]),
            ("a.socket, b", vec![]),
            ("b, a", vec!["unit-inside-extension"]),
        ] {
            let session = session(dir.path(), &text(enabled, TAKEN));
            assert_eq!(of(&session.units_inside()), expected, "{enabled}");
        }
        // The same as a folder.
        let folder = dir.path().join("a");
        write(&folder, RELEASE.0, RELEASE.1);
        write(&folder, unit.0, unit.1);
        let taken = session(
            dir.path(),
            &text("a", "sysext: {extensions: [{image: a}]}\n"),
        );
        assert_eq!(of(&taken.units_inside()), ["unit-inside-extension"]);
        // What the base has anyway, and what was told with the config.
        let root = tempfile::tempdir().unwrap();
        rootfs(root.path());
        let session = in_root(root.path(), dir.path(), &text("a", TAKEN));
        assert_eq!(session.units_inside().len(), 1);
        write(root.path(), unit.0, unit.1);
        assert!(session.units_inside().is_empty());
    }

    #[test]
    fn an_image_without_its_signature_stops() {
        let dir = tempfile::tempdir().unwrap();
        let text = |verity: &str| SECTION.replace("verity: hash", verity);
        for verity in ["verity: hash", "verity: none"] {
            let session = session(dir.path(), &text(verity));
            build(&session);
            assert!(session.all_signed().is_ok(), "{verity}");
        }
        let deferred = session(dir.path(), &text("verity: defer"));
        build(&deferred);
        assert_eq!(ids(deferred.all_signed()), ["unsigned-deferred"]);
        let image = dissect::open(&dir.path().join("out/a.raw")).unwrap();
        let (own, _) = signer("a");
        let root = image.root_hash.unwrap().to_string();
        write(dir.path(), "answer", sign_root_hash(&own, &root).unwrap());
        let signature = deferred::read_signature(&image, &dir.path().join("answer"), None);
        deferred::attach(&image, &signature.unwrap()).unwrap();
        assert!(deferred.all_signed().is_ok());
        // Of prebuilt images what was read with the plan counts.
        let fs = erofs(&tree(&[RELEASE]));
        for (protection, expected) in [
            (Protection::Room(b""), vec!["unsigned-deferred"]),
            (Protection::Hash, vec![]),
            (Protection::Signed(&own), vec![]),
        ] {
            write(dir.path(), "a.raw", disk(&fs, Designator::Root, protection));
            assert_eq!(ids(session(dir.path(), TAKEN).all_signed()), expected);
        }
    }
}
