//! What most verbs begin with: the config, the base, and the plan that joins them.

pub mod base;
pub mod imagecustomizer;
pub mod mkosi_run;
pub mod plain;
pub mod predict;
pub mod validate;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use glob::Pattern;

use crate::base::Base;
use crate::base::rootfs::RootFs;
use crate::build::{Built, build};
use crate::chain::Chain;
use crate::chain::join::{Added, join};
use crate::check::sidecars::Coming;
use crate::check::{Candidate, Prediction, predict};
use crate::cli::args::{BaseArgs, ConfigFile};
use crate::cli::output::{Failure, Screen};
use crate::cli::progress::watch;
use crate::cli::prompt::prompt;
use crate::cli::sign::now;
use crate::cli::text::findings;
use crate::config::model::{CertificateLocation, Enable, Layout};
use crate::config::pitfalls::EnabledUnit;
use crate::config::validate::validate;
use crate::config::{Config, pitfalls};
use crate::finding::{Finding, Findings, Severity};
use crate::image::dissect;
use crate::image::x509::Certificate;
use crate::io::progress::Progress;
use crate::place::record::Record;
use crate::plan::{BaseIdentity, Environment, Plan, Step, settings};
use crate::session::base::find_base;
use crate::session::mkosi_run as mkosi;
use crate::session::predict::{
    TrustedBy, coming_image, host, in_search_order, local_folder, look_inside, present, service,
};
use crate::sign::passphrase::Secrets;
use crate::systemd::drop_in::policy_path;
use crate::systemd::kind::ExtensionKind;

/// Config, base and plan.
pub(crate) struct Session {
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
    pub(crate) fn open(
        screen: &Screen,
        file: &ConfigFile,
        base: &BaseArgs,
        environment: Environment,
    ) -> Result<Session, Failure> {
        let chain = Chain::read(&file.config_file)?;
        Session::of(screen, chain, base, environment)
    }

    /// The same for a chain that has been read.
    pub(crate) fn of(
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
            let of_base = settings::of_base(base, conflict.unwrap_or_default());
            let prisms = chain.links().iter().map(|link| &link.config.prism);
            let of_base = of_base
                .into_iter()
                .chain(settings::protected_root(base, prisms));
            told.extend(of_base.map(|finding| (last, finding)));
            for (number, link) in chain.links().iter().enumerate() {
                let sysext = link.config.sysext.iter();
                let found =
                    sysext.flat_map(|sysext| settings::of_settings(base, &link.config, sysext));
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
    pub(crate) fn refuse(&self, findings: Vec<Finding>) -> Failure {
        Failure::Findings(Some(Box::new(self.config.source.clone())), findings)
    }

    /// An error that may carry findings, shown on this config.
    pub(crate) fn explain(&self, error: anyhow::Error) -> Failure {
        match error.downcast::<Findings>() {
            Ok(findings) => self.refuse(findings.0),
            Err(error) => Failure::Other(error),
        }
    }

    /// The base, or an error that tells how to give it.
    pub(crate) fn base(&self) -> Result<&Base, Failure> {
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
    pub(crate) fn images_ready(&self) -> Result<(), Failure> {
        let planned = self.plan.extensions.iter();
        let missing: Vec<Finding> = planned
            .filter(|planned| match planned.layout() {
                Layout::Directory => !planned.image.is_dir(),
                Layout::Image | Layout::Bare => !planned.image.is_file(),
            })
            .map(|planned| {
                let image = findings::path(&planned.image);
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
    pub(crate) fn only_images(&self) -> Result<(), Failure> {
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
    pub(crate) fn room(&self) -> Result<(), Failure> {
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
                let source = Box::new(link.config.source.clone());
                return Err(Failure::Findings(Some(source), vec![finding]));
            }
        }
        Ok(())
    }

    /// Prebuilt images that may take more room on the target than here.
    pub(crate) fn sparse(&self) -> Vec<Finding> {
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
    pub(crate) fn units_inside(&self) -> Vec<Finding> {
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
                && (step.content.tree.is_some() || !step.content.files.is_empty())
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
    pub(crate) fn noticed(&self, built: &Built) -> Vec<Finding> {
        let mut findings = built.findings.clone();
        findings.extend(self.units_inside());
        if let Some(root) = &self.root {
            findings.extend(settings::of_folders(root.as_ref(), &built.folders));
        }
        findings
    }

    /// Builds what is to be built, and shows how far that is.
    pub(crate) fn build(&self, screen: &Screen) -> Result<Built, Failure> {
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
    pub(crate) fn predict(&self, progress: &Progress) -> Result<Prediction, Failure> {
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
            let files: Vec<_> = extension.beside.iter().map(|it| it.file.clone()).collect();
            let coming = Coming {
                files: &files,
                root: self.root.as_deref(),
                destination: Path::new(&extension.destination),
                goes: &ours,
            };
            let image = match extension.layout() {
                Layout::Directory => local_folder(&extension.image),
                Layout::Image | Layout::Bare => {
                    coming_image(&extension.image, &coming, base, progress)
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
