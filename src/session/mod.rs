//! The library's entry: a config and its base become a plan, and the plan is carried out.
//!
//! Every step returns data: what it made, what was [noticed](Noticed), or why it
//! [stopped](Stopped). Nothing is printed, and nothing is asked of the environment that
//! [`Environment`] does not hold.

mod base;
mod candidates;
mod configs;
mod customize;
mod demand;
pub mod imagecustomizer;
mod inside;
mod mkosi_run;
mod place;
mod plain;
mod predict;
mod ready;
mod services;
mod stopped;
#[cfg(test)]
mod testing;
mod trident;
mod validate;

use std::path::PathBuf;

use crate::base::Base;
use crate::base::rootfs::RootFs;
use crate::build;
use crate::build::Built;
use crate::chain::Chain;
use crate::chain::merge_plans::{Added, merge_plans};
use crate::config::{Config, validate as rules};
use crate::finding::{Finding, Findings};
use crate::io::progress::Progress;
use crate::plan::{BaseIdentity, Environment, Plan, settings};
use crate::sign::passphrase::Secrets;

pub use base::{BaseChoice, Found, find_base, open_root};
pub use candidates::{open_any, open_image};
pub use configs::{PlainConfig, Style, beside, write_all};
pub use demand::{differs_from_status, too_weak};
pub use place::{Placing, enforcement};
pub use plain::predict_plain;
pub use predict::{predict_images, predict_present};
pub use stopped::{Cause, Noticed, Stopped};
pub use validate::{Judged, Resource, ValidateRequest, validate};

/// What a session begins with.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The config file.
    pub config: PathBuf,
    /// Which base is meant, where the config is not to decide.
    pub base: BaseChoice,
    /// Everything else that may differ between two runs.
    pub environment: Environment,
}

/// Config, base and plan.
pub struct Session {
    /// The config.
    pub config: Config,
    /// It and the configs that it builds on.
    pub chain: Chain,
    /// The base, if it is known.
    pub base: Option<Base>,
    /// The root file system, if there is one.
    pub root: Option<Box<dyn RootFs>>,
    /// What will be done.
    pub plan: Plan,
    /// What each section of the chain adds to its config.
    pub(crate) added: Added,
}

impl Session {
    /// Reads the config, those that it builds on, and the base, and plans what is to be done.
    ///
    /// # Errors
    /// All that is wrong with the configs or with one of the files that they name at once.
    pub fn open(request: &Request) -> Result<(Session, Noticed), Stopped> {
        let chain = Chain::read(&request.config)?;
        Session::of(chain, &request.base, &request.environment)
    }

    /// The same for configs that have been read.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn of(
        chain: Chain,
        choice: &BaseChoice,
        environment: &Environment,
    ) -> Result<(Session, Noticed), Stopped> {
        let Some(config) = chain.top().cloned() else {
            // A chain has at least the config that it was read for.
            return Err(anyhow::anyhow!("there is no config").into());
        };
        for link in chain.sections() {
            by_mkosi(&link.config, environment)?;
        }
        let mut noticed = Noticed::default();
        let (base, root) = base_of(&chain, choice, &mut noticed)?;
        let identity = base.as_ref().map(BaseIdentity::of);
        let joined = match merge_plans(&chain, identity.as_ref(), environment) {
            Ok(joined) => joined,
            Err(findings) => return Err(refused(&chain, findings).after(noticed)),
        };
        notice(&mut noticed, &chain, &joined.findings);
        if let Some(base) = &base {
            let told = settings_of(base, &chain);
            if told.iter().any(|(_, it)| it.is_error()) {
                return Err(refused(&chain, told).after(noticed));
            }
            notice(&mut noticed, &chain, &told);
        }
        let session = Session {
            config,
            chain,
            base,
            root,
            plan: joined.plan,
            added: joined.added,
        };
        Ok((session, noticed))
    }

    /// Findings about this config.
    pub(crate) fn refuse(&self, findings: Vec<Finding>) -> Stopped {
        Stopped::about(&self.config.source, findings)
    }

    /// An error that may carry findings, which are then about this config.
    fn explain(&self, error: anyhow::Error) -> Stopped {
        match error.downcast::<Findings>() {
            Ok(findings) => self.refuse(findings.0),
            Err(error) => error.into(),
        }
    }

    /// The base.
    ///
    /// # Errors
    /// `no-base`, which tells how to give it.
    pub fn base(&self) -> Result<&Base, Stopped> {
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

    /// Makes the images that are to be built, beside those that are there.
    ///
    /// # Errors
    /// What is wrong with content and keys, before any image has changed. What only shows while an
    /// image is written, such as `too-large` or a full disk, leaves the images before it in place.
    pub fn build(&self, secrets: &Secrets<'_>, progress: &Progress) -> Result<Built, Stopped> {
        build::build(&self.plan, secrets, progress).map_err(|error| self.explain(error))
    }

    /// Writes what was built and what the caller took on (`overrides`, as flags) into the
    /// manifest, and returns where that is.
    ///
    /// # Errors
    /// `output-folder` if the output directory can't be made, or the failed write. A
    /// manifest is replaced as a whole or not at all.
    pub fn write_manifest(&self, built: &Built, overrides: &[String]) -> Result<PathBuf, Stopped> {
        Ok(build::write_manifest(&self.plan, built, overrides)?)
    }
}

/// The base by the choice, else by what the config says of it, else by what its bases say.
fn base_of(
    chain: &Chain,
    choice: &BaseChoice,
    noticed: &mut Noticed,
) -> Result<BaseAndRoot, Stopped> {
    let mut told = None;
    for link in chain.links().iter().rev() {
        let config = &link.config;
        let found = find_base(Some(config), choice)
            .map_err(|finding| Stopped::about(&config.source, vec![finding]))?;
        if found.base.is_some() {
            noticed.add(Some(&config.source), found.findings);
            return Ok((found.base, found.root));
        }
        told.get_or_insert((config, found.findings));
    }
    if let Some((config, findings)) = told {
        noticed.add(Some(&config.source), findings);
    }
    Ok((None, None))
}

type BaseAndRoot = (Option<Base>, Option<Box<dyn RootFs>>);

/// Notes findings about several configs, each on its own text.
fn notice(noticed: &mut Noticed, chain: &Chain, findings: &[(usize, Finding)]) {
    for (number, link) in chain.links().iter().enumerate() {
        let of = findings.iter().filter(|(about, _)| *about == number);
        let of = of.map(|(_, finding)| finding.clone()).collect();
        noticed.add(Some(&link.config.source), of);
    }
}

/// The stop that such findings are: the last config with an error is the one that it is about.
fn refused(chain: &Chain, findings: Vec<(usize, Finding)>) -> Stopped {
    let bad = findings.iter().filter(|(_, it)| it.is_error());
    let worst = bad.map(|(about, _)| *about).max().unwrap_or_default();
    let (last, others): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|(about, _)| *about == worst);
    let mut noticed = Noticed::default();
    notice(&mut noticed, chain, &others);
    let findings = Findings(last.into_iter().map(|(_, finding)| finding).collect());
    let source = chain.links().get(worst).map(|link| &link.config.source);
    Stopped {
        about: source.map(|source| Box::new(source.clone())),
        ..Stopped::from(findings).after(noticed)
    }
}

/// What the base makes of keys of the sections, by the number of the config.
fn settings_of(base: &Base, chain: &Chain) -> Vec<(usize, Finding)> {
    let sections = chain.sections();
    let sections = sections.filter_map(|link| link.config.sysext.as_ref());
    let conflict = sections.map(|sysext| sysext.overlay_conflict).next_back();
    let last = chain.links().len().saturating_sub(1);
    let prisms = chain.links().iter().map(|link| &link.config.prism);
    let of_base = settings::of_base(base, conflict.unwrap_or_default()).into_iter();
    let of_base = of_base.chain(settings::protected_root(base, prisms));
    let mut told: Vec<_> = of_base.map(|finding| (last, finding)).collect();
    for (number, link) in chain.links().iter().enumerate() {
        let sysext = link.config.sysext.iter();
        let found = sysext.flat_map(|sysext| settings::of_settings(base, &link.config, sysext));
        told.extend(found.map(|finding| (number, finding)));
    }
    told
}

/// Runs mkosi where an extension of a config needs it and images are to be built.
fn by_mkosi(config: &Config, environment: &Environment) -> Result<(), Stopped> {
    if !mkosi_run::is_needed(config) {
        return Ok(());
    }
    // The plan refuses what is not valid; until then nothing is run for it.
    let valid = rules::validate(config);
    if valid.iter().any(|it| it.is_error()) {
        return Ok(());
    }
    if environment.builds {
        let path = environment.search_path.as_deref();
        mkosi_run::build(config, &environment.only, path)
            .map_err(|finding| Stopped::about(&config.source, vec![finding]))?;
    }
    match mkosi_run::missing(config) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(Stopped::about(&config.source, missing)),
    }
}
