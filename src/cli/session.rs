//! What most verbs begin with: the config, the base, and the plan that joins them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::args::{BaseArgs, ConfigFile};
use super::base::find_base;
use super::progress::watch;
use super::prompt::prompt;
use super::render;
use super::screen::{Failure, Screen};
use super::sign::now;
use crate::base::Base;
use crate::base::extensions::{CONFEXT_DIRS, SYSEXT_DIRS};
use crate::base::folder::folder_content;
use crate::base::root::RootDir;
use crate::base::rootfs::RootFs;
use crate::build::{Built, build};
use crate::chain::Chain;
use crate::chain::join::{Added, join};
use crate::check::conflicts::{self, Layer};
use crate::check::discover::{What, discover};
use crate::check::{
    Activation, COVERED, Candidate, Host, Image, Prediction, Service, Sidecars, predict,
};
use crate::check::{sidecars, surroundings};
use crate::config::model::{CertificateLocation, Enable, Layout};
use crate::config::validate::validate;
use crate::config::{Config, traps};
use crate::expand::policy_path;
use crate::finding::{Finding, Findings, Severity};
use crate::image::certificate::Certificate;
use crate::image::ddi::{self, Ddi, Files};
use crate::image::gpt_types::Designator;
use crate::inject::record::Record;
use crate::lint::{self, Subject, Target, lint};
use crate::mkosi::run as mkosi;
use crate::plan::{BaseIdentity, Environment, Plan, Step};
use crate::progress::Progress;
use crate::release::{ExtensionKind, SystemdVersion};
use crate::signing_key::Secrets;
use crate::verify::verify_ddi;

/// Largest image of a base whose hash tree is recomputed, in bytes; a sparse file can claim any
/// size, and reading it must end.
const MAX_PRESENT_BYTES: u64 = 64 << 30;

/// Config, base and plan.
pub(super) struct Session {
    /// The config.
    pub config: Config,
    /// It and the configs that it builds on.
    pub chain: Chain,
    /// The base, if it is known.
    pub base: Option<Base>,
    /// The root file system, if there is one.
    pub root: Option<Box<dyn RootFs>>,
    /// The plan.
    pub plan: Plan,
    /// What each section of the chain adds to its config.
    pub added: Added,
}

impl Session {
    /// Reads everything that is needed to plan, and shows what was noticed.
    pub(super) fn open(
        screen: &Screen,
        file: &ConfigFile,
        base: &BaseArgs,
        environment: Environment,
    ) -> Result<Session, Failure> {
        let chain = Chain::read(&file.config_file)?;
        Session::of(screen, chain, base, environment)
    }

    /// The same for a chain that has been read.
    pub(super) fn of(
        screen: &Screen,
        chain: Chain,
        base: &BaseArgs,
        environment: Environment,
    ) -> Result<Session, Failure> {
        let Some(config) = chain.top().cloned() else {
            return Err(Failure::Said(1));
        };
        for link in chain.sections() {
            by_mkosi(&link.config, &environment)?;
        }
        let (base, root) = base_of(screen, &chain, base)?;
        let identity = base.as_ref().map(|base| BaseIdentity {
            os_release: &base.release,
            arch: base.arch,
            kernel: base.kernel_features(),
            // EROFS_FEATURE_INCOMPAT_DEDUPE came with Linux 6.1.
            shares_compressed: base.kernels_since(6, 1),
        });
        let environment = Environment {
            epoch: epoch()?,
            now: Some(now()),
            ..environment
        };
        let joined = join(&chain, identity.as_ref(), &environment)
            .map_err(|findings| refuse(screen, &chain, findings))?;
        show(screen, &chain, &joined.findings);
        if let Some(base) = &base {
            let mut told = Vec::new();
            let conflicts = chain
                .sections()
                .filter_map(|link| link.config.sysext.as_ref());
            let conflict = conflicts.map(|sysext| sysext.overlay_conflict).next_back();
            let last = chain.links().len().saturating_sub(1);
            let of_base = surroundings::of_base(base, conflict.unwrap_or_default());
            told.extend(of_base.into_iter().map(|finding| (last, finding)));
            for (number, link) in chain.links().iter().enumerate() {
                let sysext = link.config.sysext.iter();
                let found =
                    sysext.flat_map(|sysext| surroundings::of_settings(base, &link.config, sysext));
                told.extend(found.map(|finding| (number, finding)));
            }
            if told.iter().any(|(_, it)| it.severity == Severity::Error) {
                return Err(refuse(screen, &chain, told));
            }
            show(screen, &chain, &told);
        }
        Ok(Session {
            config,
            chain,
            base,
            root,
            plan: joined.plan,
            added: joined.added,
        })
    }

    /// Findings about this config.
    pub(super) fn refuse(&self, findings: Vec<Finding>) -> Failure {
        Failure::Findings(Some(Box::new(self.config.source.clone())), findings)
    }

    /// An error that may carry findings, shown on this config.
    pub(super) fn explain(&self, error: anyhow::Error) -> Failure {
        match error.downcast::<Findings>() {
            Ok(findings) => self.refuse(findings.0),
            Err(error) => Failure::Other(error),
        }
    }

    /// The base, or an error that tells how to give it.
    pub(super) fn base(&self) -> Result<&Base, Failure> {
        self.base.as_ref().ok_or_else(|| {
            self.refuse(vec![
                Finding::error(
                    "no-base",
                    "the base OS is not known, so nothing can be said about the merge",
                )
                .at("sysext")
                .help("give it with --rootfs DIR, --image-file IMAGE, --target PROFILE, or `target: azurelinux-3.0`"),
            ])
        })
    }

    /// Every image that the plan names must be there.
    pub(super) fn images_ready(&self) -> Result<(), Failure> {
        let planned = self.plan.extensions.iter();
        let missing: Vec<Finding> = planned
            .filter(|planned| match planned.layout() {
                Layout::Directory => !planned.image.is_dir(),
                Layout::Image | Layout::Bare => !planned.image.is_file(),
            })
            .map(|planned| {
                let image = render::path(&planned.image);
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
    pub(super) fn only_images(&self) -> Result<(), Failure> {
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
    pub(super) fn room(&self) -> Result<(), Failure> {
        let images = self.plan.extensions.iter().map(|planned| {
            let length = std::fs::metadata(&planned.image).map_or(0, |found| found.len());
            (planned.destination.as_str(), length)
        });
        let images: Vec<(&str, u64)> = images.collect();
        // Only one config of a chain may have `storage`.
        for link in self.chain.links() {
            if let Some(finding) = traps::room(&link.config.prism, images.iter().copied()) {
                let source = Box::new(link.config.source.clone());
                return Err(Failure::Findings(Some(source), vec![finding]));
            }
        }
        Ok(())
    }

    /// Prebuilt images that may take more room on the target than here.
    pub(super) fn sparse(&self) -> Vec<Finding> {
        let taken_in = self.plan.extensions.iter();
        let taken_in = taken_in.filter(|planned| matches!(planned.step, Step::TakeIn(_)));
        let found = taken_in.filter_map(|planned| {
            let file = std::fs::metadata(&planned.image).ok()?;
            let allocated = file.blocks().saturating_mul(512);
            let finding = traps::sparse(&planned.image, allocated, file.len())?;
            Some(finding.at(&planned.at))
        });
        found.collect()
    }

    /// What of the built content does not go with the base.
    pub(super) fn noticed(&self, built: &Built) -> Vec<Finding> {
        let mut findings = built.findings.clone();
        if let Some(root) = &self.root {
            findings.extend(surroundings::of_folders(root.as_ref(), &built.folders));
        }
        findings
    }

    /// Builds what is to be built, and shows how far that is.
    pub(super) fn build(&self, screen: &Screen) -> Result<Built, Failure> {
        let variable = |name: &str| std::env::var(name).ok();
        let secrets = Secrets::new(&variable, &prompt);
        // Before anything moves on the screen.
        for (key, passphrase) in self.plan.keys() {
            secrets.prepare(key, passphrase);
        }
        watch(screen, |progress| build(&self.plan, &secrets, progress))
            .map_err(|error| self.explain(error))
    }

    /// What becomes of the planned images together with what the base already has.
    pub(super) fn predict(&self, progress: &Progress) -> Result<Prediction, Failure> {
        let base = self.base()?;
        let systemd = base.systemd_version();
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
            let image = match extension.layout() {
                Layout::Directory => local_folder(&extension.image),
                Layout::Image | Layout::Bare => local_image(&extension.image, base, progress),
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

/// The base by the flags, else by what the config says of it, else by what its bases say.
fn base_of(screen: &Screen, chain: &Chain, args: &BaseArgs) -> Result<BaseAndRoot, Failure> {
    let mut told = None;
    for link in chain.links().iter().rev() {
        let config = &link.config;
        let found = find_base(Some(config), args).map_err(|finding| {
            Failure::Findings(Some(Box::new(config.source.clone())), vec![finding])
        })?;
        if found.base.is_some() {
            screen.findings(Some(&config.source), &found.findings);
            return Ok((found.base, found.root));
        }
        told.get_or_insert((config, found.findings));
    }
    if let Some((config, findings)) = told {
        screen.findings(Some(&config.source), &findings);
    }
    Ok((None, None))
}

type BaseAndRoot = (Option<Base>, Option<Box<dyn RootFs>>);

/// Shows findings about several configs, each on its own text.
fn show(screen: &Screen, chain: &Chain, findings: &[(usize, Finding)]) {
    for (number, link) in chain.links().iter().enumerate() {
        let of = findings.iter().filter(|(about, _)| *about == number);
        let of: Vec<Finding> = of.map(|(_, finding)| finding.clone()).collect();
        screen.findings(Some(&link.config.source), &of);
    }
}

/// The failure that such findings are: the last config with an error is the one that it is about.
fn refuse(screen: &Screen, chain: &Chain, findings: Vec<(usize, Finding)>) -> Failure {
    let bad = findings
        .iter()
        .filter(|(_, it)| it.severity == Severity::Error);
    let worst = bad.map(|(about, _)| *about).max().unwrap_or_default();
    let (last, others): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|(about, _)| *about == worst);
    show(screen, chain, &others);
    let source = chain.links().get(worst);
    let source = source.map(|link| Box::new(link.config.source.clone()));
    Failure::Findings(
        source,
        last.into_iter().map(|(_, finding)| finding).collect(),
    )
}

/// The certificates that count for each kind of extensions.
pub(super) struct TrustedBy {
    sysext: Vec<Certificate>,
    confext: Vec<Certificate>,
}

impl TrustedBy {
    pub(super) fn each(trusted: impl Fn(ExtensionKind) -> Vec<Certificate>) -> TrustedBy {
        TrustedBy {
            sysext: trusted(ExtensionKind::Sysext),
            confext: trusted(ExtensionKind::Confext),
        }
    }

    fn of(&self, kind: ExtensionKind) -> &[Certificate] {
        match kind {
            ExtensionKind::Sysext => &self.sysext,
            ExtensionKind::Confext => &self.confext,
        }
    }
}

/// Runs mkosi where an extension of a config needs it and images are to be built.
fn by_mkosi(config: &Config, environment: &Environment) -> Result<(), Failure> {
    if !mkosi::is_needed(config) {
        return Ok(());
    }
    let refuse = |findings| Failure::Findings(Some(Box::new(config.source.clone())), findings);
    // The plan refuses what is not valid; until then nothing is run for it.
    let valid = validate(config);
    if valid.iter().any(|it| it.severity == Severity::Error) {
        return Ok(());
    }
    if environment.builds {
        let path = std::env::var_os("PATH");
        mkosi::build(config, &environment.only, path.as_deref())
            .map_err(|finding| refuse(vec![finding]))?;
    }
    match mkosi::missing(config) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(refuse(missing)),
    }
}

/// A file of this machine that Prism copies to where systemd looks for extensions.
pub(super) struct Placement {
    /// By the folder that it lands in.
    pub kind: ExtensionKind,
    /// Where the config says so.
    pub at: String,
    /// The file.
    pub source: PathBuf,
    /// Where it lands.
    pub destination: String,
}

/// What becomes of such files, together with what the base already has.
pub(super) fn predict_placed(
    base: &Base,
    root: Option<&dyn RootFs>,
    placements: &[Placement],
    certificates: &TrustedBy,
    enabled: impl Fn(ExtensionKind) -> bool,
    progress: &Progress,
) -> Prediction {
    let replaced = |path: &str| placements.iter().any(|it| it.destination == path);
    let mut candidates = match root {
        Some(root) => present(root, base, replaced, |_| None, progress),
        None => Vec::new(),
    };
    for placement in placements {
        let image = local_image(&placement.source, base, progress);
        candidates.push(Candidate::placed(
            placement.kind,
            placement.at.clone(),
            placement.destination.clone(),
            image,
            base.systemd_version(),
        ));
    }
    in_search_order(&mut candidates);
    let service = |kind| {
        let policy = base.unit(kind).image_policy.as_deref();
        service(base, kind, policy, certificates.of(kind), enabled(kind))
    };
    let mut prediction = predict(&host(base, service), &candidates);
    look_inside(&mut prediction, &candidates, base, root, &[]);
    prediction
}

/// What becomes of what a root file system carries; `listed` gives the place in the config.
pub(super) fn predict_present(
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

/// Tells what the layers that are merged hide from each other and from the base.
fn add_conflicts(
    prediction: &mut Prediction,
    candidates: &[Candidate],
    root: Option<&dyn RootFs>,
    allow: &[Pattern],
) {
    let judged = || prediction.extensions.iter().zip(candidates);
    let mut told = Vec::new();
    for (class, stack) in prediction.stacks() {
        if stack.merged == Some(false) {
            continue;
        }
        let layer = |name: &String| {
            let (_, candidate) = judged().find(|(judgement, candidate)| {
                judgement.verdict.merges() && candidate.class == class && candidate.name == *name
            })?;
            let (files, is_usr): (Box<dyn Files>, bool) = match &candidate.image {
                Image::Disk(ddi, ..) => {
                    let is_usr = ddi.designator == Designator::Usr;
                    (Box::new(ddi.file_system().ok()?), is_usr)
                }
                Image::Folder { local, .. } => {
                    let folder: Box<dyn Files> = match local {
                        Some(path) => Box::new(RootDir::open(path).ok()?),
                        None => root?.enter(Path::new(&candidate.path)).ok()??,
                    };
                    (folder, false)
                }
                Image::Unreadable(_) | Image::Other(_) => return None,
            };
            Some(Layer {
                name: &candidate.name,
                at: candidate.at.as_deref(),
                path: &candidate.path,
                files,
                is_usr,
            })
        };
        let layers: Vec<Layer<'_>> = stack.layers.iter().filter_map(layer).collect();
        let base = root.map(|root| -> &dyn Files { root });
        told.push((class, conflicts::find(class, &layers, base, allow)));
    }
    for (class, found) in told {
        if let Some(stack) = prediction.stack_mut(class) {
            stack.reasons.extend(found);
        }
    }
}

/// Tells what the layers hide from each other and from the base, and what their content lacks to be
/// of use; both go through all files, so they are done side by side.
pub(super) fn look_inside(
    prediction: &mut Prediction,
    candidates: &[Candidate],
    base: &Base,
    root: Option<&dyn RootFs>,
    allow: &[Pattern],
) {
    let wanted: Vec<bool> = prediction
        .extensions
        .iter()
        .map(|judgement| judgement.listed && judgement.verdict.merges())
        .collect();
    let lacking = |root: Option<&dyn RootFs>| -> Vec<Vec<Finding>> {
        let wanted = candidates.iter().zip(&wanted);
        wanted
            .map(|(candidate, wanted)| match wanted {
                true => lacks(candidate, Target { base, root }),
                false => Vec::new(),
            })
            .collect()
    };
    let shared = root.map(RootFs::shared);
    let found = match shared {
        // A disk image is read by one thread.
        Some(None) => {
            add_conflicts(prediction, candidates, root, allow);
            lacking(root)
        }
        _ => std::thread::scope(|scope| {
            let shared = shared.flatten();
            let lacking = &lacking;
            let beside = scope.spawn(move || lacking(shared.map(|root| -> &dyn RootFs { root })));
            add_conflicts(prediction, candidates, root, allow);
            match beside.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }),
    };
    for (judgement, found) in prediction.extensions.iter_mut().zip(found) {
        judgement.reasons.extend(found);
    }
}

fn lacks(candidate: &Candidate, target: Target<'_>) -> Vec<Finding> {
    let (fs, is_usr): (Box<dyn lint::Files>, bool) = match &candidate.image {
        Image::Disk(ddi, ..) => match ddi.file_system() {
            Ok(fs) => (Box::new(fs), ddi.designator == Designator::Usr),
            Err(_) => return Vec::new(),
        },
        Image::Folder {
            local: Some(path), ..
        } => match RootDir::open(path) {
            Ok(folder) => (Box::new(folder), false),
            Err(_) => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let subject = Subject {
        fs: fs.as_ref(),
        kind: candidate.class,
        is_usr,
    };
    let at = candidate.at.as_deref().unwrap_or(&candidate.path);
    let found = lint(subject, target).into_iter();
    found.map(|finding| finding.at(at)).collect()
}

/// What becomes of candidates on a base as it is; `will_enable` tells that the service will run.
pub(super) fn predict_on(base: &Base, candidates: &[Candidate], will_enable: bool) -> Prediction {
    let trusted = TrustedBy::each(|kind| base.trusted(kind));
    let service = |kind| {
        let policy = base.unit(kind).image_policy.as_deref();
        service(base, kind, policy, trusted.of(kind), will_enable)
    };
    predict(&host(base, service), candidates)
}

/// What merges the extensions of a kind, as the rules see it.
fn service<'a>(
    base: &'a Base,
    kind: ExtensionKind,
    image_policy: Option<&'a str>,
    trusted: &'a [Certificate],
    will_enable: bool,
) -> Service<'a> {
    let unit = base.unit(kind);
    Service {
        image_policy,
        trusted,
        // `systemd-confext` is a link to `systemd-sysext`.
        has_tool: base.has_sysext_tool,
        activation: Activation::of(unit, will_enable),
        force: unit.force,
        environment: &unit.environment,
    }
}

/// The base as the rules see it.
fn host<'a>(base: &'a Base, service: impl Fn(ExtensionKind) -> Service<'a>) -> Host<'a> {
    Host {
        os_release: &base.release,
        systemd: base.systemd_version(),
        arch: base.arch,
        kernel: base.kernel_features(),
        initrd: base.initrd,
        has_cryptsetup: base.has_cryptsetup,
        incomplete: base.is_incomplete(),
        sysext: service(ExtensionKind::Sysext),
        confext: service(ExtensionKind::Confext),
    }
}

/// An image with its hash tree recomputed; its signature is judged with the base, which says whom to
/// trust.
pub(super) fn disk(ddi: Ddi, sidecars: Sidecars, progress: &Progress) -> Image {
    let report = verify_ddi(&ddi, &[], progress);
    Image::Disk(Box::new(ddi), Box::new(report), sidecars)
}

/// An image of this machine that is placed alone, without what lies beside it here.
fn local_image(path: &Path, base: &Base, progress: &Progress) -> Image {
    match ddi::open_for(path, base.arch) {
        Ok(ddi) => disk(ddi, Sidecars::default(), progress),
        Err(error) => Image::Unreadable(error.to_string()),
    }
}

/// An image of this machine with what lies beside it.
pub(super) fn image_and_beside(path: &Path, base: &Base, progress: &Progress) -> Image {
    let ddi = match ddi::open_for(path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Image::Unreadable(error.to_string()),
    };
    let beside = sidecars::beside_on_this_machine(path, &ddi, progress);
    disk(ddi, beside, progress)
}

/// A folder of this machine.
pub(super) fn local_folder(path: &Path) -> Image {
    let image = match RootDir::open(path) {
        Ok(root) => folder(&root, Path::new("/"), false),
        Err(error) => Image::Unreadable(error.to_string()),
    };
    match image {
        Image::Folder {
            content, in_usr, ..
        } => Image::Folder {
            content,
            in_usr,
            local: Some(path.to_owned()),
        },
        other => other,
    }
}

/// A folder of a root file system.
fn folder(root: &dyn RootFs, path: &Path, in_usr: bool) -> Image {
    match folder_content(root, path) {
        Ok(Some(content)) => Image::Folder {
            content: Box::new(content),
            in_usr,
            local: None,
        },
        Ok(None) => Image::Unreadable("there is nothing".to_owned()),
        // Not systemd's trouble, but ours.
        Err(_) => Image::Other("a folder that can't be read"),
    }
}

fn present(
    root: &dyn RootFs,
    base: &Base,
    skip: impl Fn(&str) -> bool,
    listed: impl Fn(&str) -> Option<String>,
    progress: &Progress,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let newest = SystemdVersion::new(*COVERED.end(), 0);
    let systemd = base.systemd_version().unwrap_or(newest);
    for entry in &base.extensions {
        let Some(found) = discover(entry, systemd, base.arch) else {
            continue;
        };
        if skip(&found.path) {
            continue;
        }
        let path = Path::new(&found.path);
        let image = match found.what {
            What::Image => match image(root, path, base, progress) {
                Some(image) => image,
                None => continue,
            },
            What::Folder | What::FolderInUsr => folder(root, path, found.what == What::FolderInUsr),
            What::Stack => Image::Unreadable("systemd takes no .mstack folders here".to_owned()),
            What::Circle => Image::Unreadable("the link leads in a circle".to_owned()),
            What::Device => Image::Other("a block device"),
        };
        candidates.push(Candidate {
            class: entry.class,
            at: listed(&found.path),
            path: found.path,
            name: found.name,
            image,
        });
    }
    candidates
}

/// An image of a root file system; nothing when it is gone meanwhile.
fn image(root: &dyn RootFs, path: &Path, base: &Base, progress: &Progress) -> Option<Image> {
    let (file, metadata) = match root.open_file(path) {
        Ok(found) => found?,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    if metadata.size > MAX_PRESENT_BYTES {
        return Some(Image::Other("an image of more than 64 GiB"));
    }
    let ddi = match ddi::describe(file, path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    let beside = sidecars::read(root, path, &ddi, progress);
    Some(disk(ddi, beside, progress))
}

fn in_search_order(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|candidate| {
        let dirs = match candidate.class {
            ExtensionKind::Sysext => SYSEXT_DIRS,
            ExtensionKind::Confext => CONFEXT_DIRS,
        };
        let lies_in = |folder: &&str| {
            let rest = candidate.path.strip_prefix(*folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        (candidate.class, dirs.iter().position(lies_in))
    });
}

/// An image of this machine, also a compressed one.
pub(super) fn open_any(path: &Path) -> Result<Ddi, Finding> {
    ddi::open_wrapped(path).map_err(|error| Finding::error("image-unreadable", error.to_string()))
}

/// An image of this machine.
pub(super) fn open_image(path: &Path) -> Result<Ddi, Finding> {
    ddi::open(path).map_err(|error| Finding::error("image-unreadable", error.to_string()))
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), else 0.
fn epoch() -> Result<u64, Finding> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(0),
        Ok(text) => text.parse().map_err(|_| {
            Finding::error(
                "source-date-epoch",
                format!("SOURCE_DATE_EPOCH is `{text}`, expected Unix seconds"),
            )
            .help("unset it, or set it to a whole number")
        }),
    }
}
