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
            let mut images = built.images.iter();
            images.find(|image| image.entry.destination == planned.destination)
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
            Step::PrebuiltFolder(taken) => (taken.keep_owners, None),
            Step::PrebuiltImage(_) => (false, None),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::build::testing::{KEY, write_key};
    use crate::session::testing::{SECTION, build, in_root, rootfs, session};

    /// A folder for a config, and a root file system.
    fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        rootfs(root.path());
        (tempfile::tempdir().unwrap(), root)
    }

    /// A section whose image is signed, with more keys.
    fn signed(dir: &Path, keys: &str) -> String {
        write_key(dir);
        let keys = format!("sysext:\n{KEY}{keys}");
        SECTION
            .replace("sysext:\n", &keys)
            .replace("verity: hash", "verity: signed")
    }

    #[test]
    fn what_is_placed_is_what_was_built_and_is_found_again() {
        let (dir, root) = folders();
        let session = in_root(
            root.path(),
            dir.path(),
            &signed(dir.path(), "  imagePolicy: signed\n"),
        );
        let built = build(&session);
        let target = RootDir::open(root.path()).unwrap();
        let progress = Progress::new();
        session
            .place(&target, &built, Placing::default(), &progress)
            .unwrap();
        let placed = root.path().join("var/lib/extensions/a.raw");
        assert!(fs::read(&placed).unwrap() == fs::read(&built.images[0].path).unwrap());
        assert!(root.path().join("etc/verity.d/cert.crt").is_file());
        let again = session
            .check_placed(&target, Allowed::default(), &progress)
            .unwrap();
        assert!(again.is_none(), "{again:#?}");

        let mut image = fs::read(&placed).unwrap();
        let at = image.windows(5).position(|it| it == b"hello").unwrap();
        image[at] ^= 1;
        fs::write(&placed, image).unwrap();
        let damaged = session
            .check_placed(&target, Allowed::default(), &progress)
            .unwrap();
        assert_eq!(damaged.unwrap().extensions[0].verdict, Verdict::BlocksAll);
        // It is not as it was placed, and somebody may want it so.
        let again = session.place(&target, &built, Placing::default(), &progress);
        assert_eq!(
            again.unwrap_err().errors().next().unwrap().id,
            "would-overwrite"
        );
        session
            .place(&target, &built, Placing { force: true }, &progress)
            .unwrap();
        let again = session
            .check_placed(&target, Allowed::default(), &progress)
            .unwrap();
        assert!(again.is_none(), "{again:#?}");
        fs::remove_file(&placed).unwrap();
        let gone = session
            .check_placed(&target, Allowed::default(), &progress)
            .unwrap();
        assert!(gone.unwrap().extensions.is_empty());
    }

    #[test]
    fn digests_are_those_of_the_files_whether_they_were_wanted_or_not() {
        let (dir, root) = folders();
        let folder = SECTION.replace("verity: hash", "layout: directory");
        for text in [SECTION, &folder] {
            let session = in_root(root.path(), dir.path(), text);
            let mut built = build(&session);
            let of = |built: &Built| {
                let placements = session.digested(built, &Progress::new()).unwrap();
                let extension = placements.files.into_iter();
                let mut extension = extension.filter(|file| !file.extensions.is_empty());
                extension.next().unwrap().sha256
            };
            let found = of(&built);
            let Ok(bytes) = fs::read(&built.images[0].path) else {
                assert_eq!(found, of(&built), "a folder has one digest");
                continue;
            };
            assert_eq!(found, <[u8; 32]>::from(Sha256::digest(bytes)));
            // What the manifest has is not computed again.
            built.images[0].entry.sha256 = Some("07".repeat(32));
            assert_eq!(of(&built), [7; 32]);
            built.images[0].entry.sha256 = Some("7".to_owned());
            assert!(session.digested(&built, &Progress::new()).is_err());
        }
    }

    #[test]
    fn what_was_not_built_is_not_placed() {
        let (dir, root) = folders();
        let session = in_root(root.path(), dir.path(), SECTION);
        let mut built = build(&session);
        built.images.clear();
        let target = RootDir::open(root.path()).unwrap();
        let stopped = session.place(&target, &built, Placing::default(), &Progress::new());
        assert!(stopped.unwrap_err().to_string().contains("a was not built"));
        assert!(!root.path().join("var/lib/extensions").exists());
    }

    #[test]
    fn a_base_whose_policy_admits_more_is_noted_where_all_is_signed() {
        let (dir, root) = folders();
        let noted = |text: &str| {
            let session = in_root(root.path(), dir.path(), text);
            build(&session);
            let prediction = session.predict(&Progress::new()).unwrap();
            assert!(prediction.is_good(Allowed::default()), "{prediction:#?}");
            let found = enforcement(&session, &prediction);
            assert!(found.iter().all(|it| it.id == "signatures-not-enforced"));
            !found.is_empty()
        };
        assert!(noted(&signed(dir.path(), "")));
        assert!(!noted(&signed(dir.path(), "  imagePolicy: signed\n")));
        assert!(!noted(SECTION));
        // An older systemd knows no policy.
        let lib = root.path().join("usr/lib/systemd");
        let library = |major: u32| lib.join(format!("libsystemd-shared-{major}.so"));
        fs::rename(library(258), library(253)).unwrap();
        assert!(!noted(&signed(dir.path(), "")));
        // Nothing is known of the base.
        let other = session(dir.path(), SECTION);
        let prediction = other.predict(&Progress::new()).unwrap();
        assert!(enforcement(&other, &prediction).is_empty());
    }

    #[test]
    fn a_digest_has_64_hex_digits() {
        assert_eq!(from_hex(&"0a".repeat(32)).unwrap(), [10; 32]);
        for text in ["", "0a", &"0a".repeat(33), &"zz".repeat(32)] {
            assert!(from_hex(text).is_err(), "{text}");
        }
    }
}
