//! What will be done: the config joined with the base.
//!
//! Everything that may differ between two runs (time, environment) comes in
//! here and nowhere else. A plan names every file that will be made, placed
//! or expected; it has read certificates and prebuilt images, but neither
//! trees nor keys.

use judge::{key_places, name_clashes, odd_names, unused_certificates};
mod building;
pub(crate) mod compression;
pub(crate) mod content;
pub(crate) mod ingest;
mod judge;
pub(crate) mod limits;
pub(crate) mod placements;
mod prebuilt;
pub(crate) mod repair;
pub(crate) mod settings;
mod signing;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

pub(crate) use judge::overlays;
pub use signing::{Signing, SigningKey};

use crate::base::Base;
use crate::base::kernel::KernelFeatures;
use crate::config::Config;
use crate::config::model::{
    CertificateLocation, Delivery, Enable, KeyReference, RepairChange, Sysext, VerityMode,
};
use crate::config::validate::validate;
use crate::finding::suggest::nearest;
use crate::finding::{Finding, Findings};
use crate::image::sidecar::SidecarFile;
use crate::image::{ImageFormat, dissect};
use crate::plan::content::ContentPlan;
use crate::plan::ingest::{PrebuiltFolder, PrebuiltImage};
use crate::sign::trust;
use crate::sign::trust::Trusted;
use crate::systemd::arch::Arch;
use crate::systemd::drop_in::{DropIn, certificates_drop_in, policy_drop_in};
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::CERTIFICATE_STORE;
use crate::systemd::release_file::ReleaseFields;

/// What the plan needs to know of the base to build for it.
#[derive(Debug, Clone)]
pub struct BaseIdentity<'a> {
    /// The base's os-release.
    pub os_release: &'a ReleaseFields,
    /// Its architecture, if it can be told.
    pub arch: Option<Arch>,
    /// What all its kernels can do.
    pub kernel: KernelFeatures,
    /// Whether all its kernels mount images in which compressed files share data (Linux 6.1).
    pub shares_compressed: bool,
}

impl BaseIdentity<'_> {
    /// That of a base.
    pub fn of(base: &Base) -> BaseIdentity<'_> {
        BaseIdentity {
            os_release: &base.release,
            arch: base.arch,
            kernel: base.kernel_features(),
            // EROFS_FEATURE_INCOMPAT_DEDUPE came with Linux 6.1.
            shares_compressed: base.kernels_since(6, 1),
        }
    }
}

/// What a run brings along besides its files.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Time stamp of everything that is built, in Unix seconds (`SOURCE_DATE_EPOCH`, else 0).
    pub epoch: u64,
    /// Folder for built images instead of the config's `outputDirectory`.
    pub output_directory: Option<PathBuf>,
    /// The time in Unix seconds, by which certificates are judged; without it no date is.
    pub now: Option<i64>,
    /// Names of the extensions to look at; empty means all. For [`finish`].
    pub only: Vec<String>,
    /// Images are going to be built, so mkosi is run where a configuration needs it.
    pub builds: bool,
    /// Only names and places are asked for, so an unknown base leaves gaps instead of errors.
    pub names_only: bool,
    /// Digests of whole images are wanted in the manifest. Computing them takes longer than all
    /// the rest, and a root hash tells images apart as well.
    pub digests: bool,
    /// Folders with programs, as in `PATH`; in them mkosi is looked for.
    pub search_path: Option<OsString>,
}

/// Everything that will be done.
#[derive(Debug)]
pub struct Plan {
    /// The extensions in the order of the config.
    pub extensions: Vec<Planned>,
    /// The certificates that the target will trust.
    pub certificates: Vec<Trusted>,
    /// Where on the target systemd finds the certificates.
    pub certificate_location: CertificateLocation,
    /// The value for `--image-policy=`, if it is not systemd's own.
    pub image_policy: Option<String>,
    /// How the service is enabled.
    pub enable: Enable,
    /// Whether the script also starts it.
    pub start: bool,
    /// Folder for built images and the manifest.
    pub output_directory: PathBuf,
    /// Time stamp of everything that is built, in Unix seconds.
    pub epoch: u64,
    /// Whether the manifest gets digests of whole images.
    pub digests: bool,
    /// What was noticed on the way; no errors.
    pub findings: Vec<Finding>,
}

/// One extension.
#[derive(Debug)]
pub struct Planned {
    /// Path in the config, for findings.
    pub at: String,
    /// Name without `.raw`.
    pub name: String,
    /// Which hierarchies it adds to.
    pub kind: ExtensionKind,
    /// The image or folder on this machine: what will be built, or the prebuilt one.
    pub image: PathBuf,
    /// How the expanded config names the image: as the user wrote it, or below `outputDirectory`.
    pub image_in_config: String,
    /// The image on the target.
    pub destination: String,
    /// What is placed with a prebuilt image.
    pub beside: Vec<PlacedSidecar>,
    /// How it comes to be.
    pub step: Step,
}

/// A file that lies beside a prebuilt image, and beside it on the target, too.
#[derive(Debug)]
pub struct PlacedSidecar {
    /// What it is, and where it lies on this machine.
    pub file: SidecarFile,
    /// How the expanded config names it.
    pub in_config: String,
    /// Where it is placed.
    pub destination: String,
}

/// How an image comes to be.
#[derive(Debug)]
pub enum Step {
    /// It is built.
    Build(Box<BuildStep>),
    /// It is taken as it is.
    PrebuiltImage(Box<PrebuiltImage>),
    /// It is a folder, and taken as it is.
    PrebuiltFolder(Box<PrebuiltFolder>),
}

impl Planned {
    /// In which form it is delivered.
    pub fn layout(&self) -> Delivery {
        match &self.step {
            Step::Build(step) => step.layout,
            Step::PrebuiltImage(taken) if taken.from_parts.is_some() => Delivery::Image,
            Step::PrebuiltImage(taken) => match taken.ddi.layout {
                dissect::Layout::Gpt(_) => Delivery::Image,
                dissect::Layout::Naked => Delivery::Bare,
            },
            Step::PrebuiltFolder(_) => Delivery::Directory,
        }
    }
}

/// Everything about a build.
#[derive(Debug)]
pub struct BuildStep {
    /// Version, if any.
    pub version: Option<String>,
    /// Architecture that the release file declares; none means any.
    pub arch: Option<Arch>,
    /// Architecture whose partition types are used.
    pub partition_arch: Arch,
    /// In which form it is delivered.
    pub layout: Delivery,
    /// How it is protected.
    pub verity: VerityMode,
    /// Who signs it.
    pub signing: Option<Signing>,
    /// File system and compression.
    pub file_system: ImageFormat,
    /// Seed written by the user.
    pub seed: Option<String>,
    /// Time stamp for this extension alone, in Unix seconds.
    pub epoch: Option<u64>,
    /// What is changed in a prebuilt image; nothing where it is built from something else.
    pub changes: Vec<RepairChange>,
    /// The content.
    pub content: ContentPlan,
}

impl Plan {
    /// The kinds of extensions that there are, each once, system extensions first.
    pub fn kinds(&self) -> Vec<ExtensionKind> {
        let all = self.extensions.iter().map(|planned| planned.kind);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The keys that sign here, with where their passphrases are, once for each extension.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyReference, Option<&KeyReference>)> {
        self.extensions
            .iter()
            .filter_map(|planned| match &planned.step {
                Step::Build(step) => match &step.signing.as_ref()?.key {
                    SigningKey::Text(key, passphrase) => Some((key, passphrase.as_ref())),
                    SigningKey::Command(_) => None,
                },
                Step::PrebuiltImage(_) | Step::PrebuiltFolder(_) => None,
            })
    }

    /// Where a certificate is placed on the target.
    pub fn certificate_path(&self, trusted: &Trusted) -> String {
        let folder = match self.certificate_location {
            CertificateLocation::Run => CERTIFICATE_STORE,
            other => other.path(),
        };
        format!("{folder}/{}", trusted.file_name)
    }

    /// The drop-ins that the units on the target get.
    pub fn drop_ins(&self) -> Vec<DropIn> {
        let mut drop_ins = Vec::new();
        for kind in self.kinds() {
            if self.certificate_location == CertificateLocation::Run
                && !self.certificates.is_empty()
            {
                let names = self.certificates.iter().map(|it| it.file_name.as_str());
                drop_ins.push(certificates_drop_in(kind, names));
            }
            let policy = self.image_policy.as_deref();
            drop_ins.extend(policy.map(|policy| policy_drop_in(kind, policy)));
        }
        drop_ins
    }
}

/// Joins one config and the base; all errors at once. What several configs have to do with each
/// other is for the chain that a config belongs to, and [`finish`] looks at the whole.
///
/// # Errors
/// All findings, of which at least one is an error: `no-sysext` alone, else what [`validate`]
/// reports, else what is wrong with certificates, sources and prebuilt images. Nothing has been
/// written.
pub fn plan(
    config: &Config,
    base: Option<&BaseIdentity<'_>>,
    environment: &Environment,
) -> Result<Plan, Vec<Finding>> {
    let mut findings = validate(config);
    let Some(sysext) = &config.sysext else {
        let finding = Finding::error("no-sysext", "the config has no `sysext` section")
            .in_file(&config.source.path)
            .help("add `sysext:` with a list of `extensions`");
        return Err(vec![finding]);
    };
    Findings::stop_on_errors(&findings).map_err(|stop| stop.0)?;
    let certificates = match trust::read(config, sysext) {
        Ok(certificates) => certificates,
        Err(errors) => {
            findings.extend(errors);
            Vec::new()
        }
    };
    findings.extend(trust::flaws(&certificates, environment.now));
    let written_directory = environment.output_directory.clone();
    let output_directory = written_directory
        .clone()
        .unwrap_or_else(|| config.resolve(&sysext.output_directory));
    let mut extensions = Vec::new();
    for (index, extension) in sysext.extensions.iter().enumerate() {
        let at = format!("sysext.extensions[{index}]");
        let planned = if extension.image.is_some() {
            prebuilt::prebuilt(config, sysext, extension, at, base, &output_directory)
        } else {
            building::build(
                config,
                sysext,
                extension,
                at,
                base,
                environment.names_only,
                &output_directory,
            )
        };
        match planned {
            Ok((planned, notes)) => {
                findings.extend(notes);
                extensions.push(planned);
            }
            Err(errors) => {
                for error in errors {
                    // A certificate that can't be read has been told at its own place.
                    let known =
                        |other: &Finding| other.id == error.id && other.message == error.message;
                    if !findings.iter().any(known) {
                        findings.push(error);
                    }
                }
            }
        }
    }
    findings.extend(key_places(config, &extensions));
    findings.extend(overlays(config, sysext));
    let plan = Plan {
        extensions,
        certificates,
        certificate_location: sysext.certificate_location,
        image_policy: sysext.image_policy.text().map(str::to_owned),
        enable: sysext.enable,
        start: sysext.start,
        output_directory,
        epoch: environment.epoch,
        digests: environment.digests,
        findings: Vec::new(),
    };
    findings.extend(odd_names(&plan));
    Findings::stop_on_errors(&findings).map_err(|stop| stop.0)?;
    Ok(Plan { findings, ..plan })
}

/// Looks at a plan as a whole, once there is nothing to add to it, and leaves the extensions named
/// by `only` (all if that is empty).
pub fn finish(plan: &mut Plan, only: &[String]) -> Vec<Finding> {
    let mut findings = name_clashes(&plan.extensions);
    findings.extend(unused_certificates(plan));
    if let Err(finding) = select(&mut plan.extensions, only) {
        findings.push(finding);
    }
    findings
}

type PlannedWithNotes = (Planned, Vec<Finding>);

/// Where images of a kind lie on the target. systemd searches no folder of /etc for
/// configuration extensions (`image_search_path`, src/shared/discover-image.c).
pub fn placed_in(sysext: &Sysext, kind: ExtensionKind) -> &'static str {
    match kind {
        ExtensionKind::Sysext => sysext.location.path(),
        ExtensionKind::Confext => "/var/lib/confexts",
    }
}

/// A relative path as the expanded config writes it, without `./` at its front.
fn in_config(path: &Path) -> String {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .collect::<PathBuf>()
        .display()
        .to_string()
}

fn select(extensions: &mut Vec<Planned>, only: &[String]) -> Result<(), Finding> {
    let names: Vec<String> = extensions
        .iter()
        .map(|extension| extension.name.clone())
        .collect();
    for wanted in only {
        if !names.contains(wanted) {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let finding = Finding::error(
                "unknown-extension",
                format!("the config lists no extension `{wanted}`"),
            );
            return Err(match nearest(wanted, &known) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("it lists: {}", known.join(", "))),
            });
        }
    }
    if !only.is_empty() {
        extensions.retain(|extension| only.contains(&extension.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
