//! What will be done: the config joined with the base.
//!
//! Everything that may differ between two runs (time, environment) comes in
//! here and nowhere else. A plan names every file that will be made, placed
//! or expected; it has read certificates and prebuilt images, but neither
//! trees nor keys.

pub mod compression;
pub mod content;
pub mod ingest;
pub mod limits;
pub mod placements;
mod prebuilt;
pub mod repair;
pub mod settings;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::base::Base;
use crate::base::kernel::KernelFeatures;
use crate::config::Config;
use crate::config::model::{
    CertificateLocation, CompressionSetting, Enable, Extension, KeyReference, Layout,
    OverlayConflict, RepairChange, Sysext, Verity,
};
use crate::config::prism::cleaned;
use crate::config::validate::{SignedBy, certificate, effective_verity, signed_by, validate};
use crate::finding::suggest::nearest;
use crate::finding::{Finding, Severity};
use crate::image::sidecar::SidecarFile;
use crate::image::x509::Certificate;
use crate::image::{ImageFormat, dissect};
use crate::plan::content::{ArchivePlan, ContentPlan, FileContent, FilePlan};
use crate::plan::ingest::{TakenFolder, TakenIn};
use crate::sign::command::SignerCommand;
use crate::sign::trust;
use crate::sign::trust::Trusted;
use crate::systemd::arch::Arch;
use crate::systemd::drop_in::{CONFEXT_COPY, DropIn, certificates_drop_in, policy_drop_in};
use crate::systemd::extension_name;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::CERTIFICATE_STORE;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::pick::Pick;

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
    pub beside: Vec<Beside>,
    /// How it comes to be.
    pub step: Step,
}

/// A file that lies beside a prebuilt image, and beside it on the target, too.
#[derive(Debug)]
pub struct Beside {
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
    TakeIn(Box<TakenIn>),
    /// It is a folder, and taken as it is.
    TakeFolder(Box<TakenFolder>),
}

impl Planned {
    /// In which form it is delivered.
    pub fn layout(&self) -> Layout {
        match &self.step {
            Step::Build(step) => step.layout,
            Step::TakeIn(taken) if taken.join.is_some() => Layout::Image,
            Step::TakeIn(taken) => match taken.ddi.layout {
                dissect::Layout::Gpt(_) => Layout::Image,
                dissect::Layout::Naked => Layout::Bare,
            },
            Step::TakeFolder(_) => Layout::Directory,
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
    pub layout: Layout,
    /// How it is protected.
    pub verity: Verity,
    /// Who signs it.
    pub signing: Option<Signing>,
    /// File system and compression.
    pub file_system: ImageFormat,
    /// Seed written by the user.
    pub seed: Option<String>,
    /// Time stamp for this extension alone, in Unix seconds.
    pub epoch: Option<u64>,
    /// Most bytes that it may have.
    pub max_size: Option<u64>,
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
                Step::TakeIn(_) | Step::TakeFolder(_) => None,
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

/// Who signs an extension.
#[derive(Debug)]
pub struct Signing {
    /// The key or the command.
    pub key: SigningKey,
    /// The certificate of the key.
    pub certificate: Certificate,
    /// Where the certificate lies on this machine.
    pub certificate_path: PathBuf,
    /// Where the config names the key or the command.
    pub at: String,
}

/// Where the key is.
#[derive(Debug)]
pub enum SigningKey {
    /// In a file or variable, with a passphrase if it is encrypted.
    Text(KeyReference, Option<KeyReference>),
    /// Elsewhere; a command signs.
    Command(SignerCommand),
}

/// Joins one config and the base; all errors at once. What several configs have to do with each
/// other is for the chain that a config belongs to, and [`finish`] looks at the whole.
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
    stop_on_errors(&findings)?;
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
            build(
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
    stop_on_errors(&findings)?;
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

fn stop_on_errors(findings: &[Finding]) -> Result<(), Vec<Finding>> {
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        Err(findings.to_vec())
    } else {
        Ok(())
    }
}

type PlannedWithNotes = (Planned, Vec<Finding>);

fn build(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    at: String,
    base: Option<&BaseIdentity<'_>>,
    names_only: bool,
    output_directory: &Path,
) -> Result<PlannedWithNotes, Vec<Finding>> {
    let base_name = extension.name.clone().unwrap_or_default();
    let name = extension.full_name().unwrap_or_default();
    extension_name::check(&name).map_err(|finding| vec![finding.at(&at)])?;
    let verity = effective_verity(sysext, extension).map_err(|finding| vec![finding.at(&at)])?;
    let (arch, release) = match described(extension, &base_name, base) {
        Err(finding) if finding.id == "no-base" && names_only => (None, ReleaseFields::new()),
        other => other.map_err(|finding| vec![finding.at(&at)])?,
    };
    let signing =
        signing(config, sysext, extension, verity, &at).map_err(|finding| vec![finding])?;
    let files = extension
        .files
        .iter()
        .map(|file| FilePlan {
            content: match (&file.source, &file.content) {
                (Some(path), _) => FileContent::Path(config.resolve(path)),
                (None, text) => FileContent::Bytes(text.clone().unwrap_or_default().into_bytes()),
            },
            destination: file.destination.clone().unwrap_or_default(),
            permissions: file.permissions,
        })
        .collect();
    let file_system = file_system(extension, base);
    let layout = extension.layout;
    let file_name = layout.file_name(&name);
    let mut notes = Vec::new();
    if layout != Layout::Image {
        notes.push(ingest::unprotected(&name, layout).at(format!("{at}.layout")));
    }
    let planned = Planned {
        image: output_directory.join(&file_name),
        image_in_config: in_config(&sysext.output_directory.join(&file_name)),
        destination: format!("{}/{file_name}", placed_in(sysext, extension.kind)),
        beside: Vec::new(),
        step: Step::Build(Box::new(BuildStep {
            version: extension.version.clone(),
            arch,
            partition_arch: arch
                .or(base.and_then(|base| base.arch))
                .unwrap_or(Arch::X86_64),
            layout,
            verity,
            signing,
            file_system,
            seed: extension.seed.clone(),
            epoch: extension.source_date_epoch,
            max_size: extension.max_size,
            changes: Vec::new(),
            content: ContentPlan {
                at: at.clone(),
                name: name.clone(),
                kind: extension.kind,
                tree: extension.tree.as_ref().map(|path| config.resolve(path)),
                archive: archive(config, extension, arch),
                image: None,
                files,
                keep_owners: extension.keep_owners,
                release,
                reload: extension.reload,
                path_links: extension.path_links.clone(),
                expect: extension.expect.clone(),
                forbid: extension.forbid.clone(),
            },
        })),
        name,
        kind: extension.kind,
        at,
    };
    Ok((planned, notes))
}

/// The file system of an extension that is built.
fn file_system(extension: &Extension, base: Option<&BaseIdentity<'_>>) -> ImageFormat {
    // validate() has refused what is no setting.
    let setting: CompressionSetting = match &extension.compression {
        Some(text) => text.parse().unwrap_or_default(),
        None => CompressionSetting::Auto,
    };
    setting.for_target(
        extension.format,
        base.map(|base| base.kernel),
        base.is_some_and(|base| base.shares_compressed),
    )
}

/// Who signs an extension, if it is to be signed.
fn signing(
    config: &Config,
    sysext: &Sysext,
    extension: &Extension,
    verity: Verity,
    at: &str,
) -> Result<Option<Signing>, Finding> {
    match verity {
        Verity::Signed => {
            let (Some(by), Some(path)) =
                (signed_by(sysext, extension), certificate(sysext, extension))
            else {
                // validate() has refused this already.
                return Err(Finding::error(
                    "key-missing",
                    "a signed extension needs key and certificate",
                )
                .at(at));
            };
            let certificate_path = config.resolve(path);
            let certificate =
                trust::read_one(&certificate_path).map_err(|finding| finding.at(at))?;
            let resolved = |reference: &KeyReference| match reference {
                KeyReference::File(path) => KeyReference::File(config.resolve(path)),
                KeyReference::Env(name) => KeyReference::Env(name.clone()),
            };
            let own = extension.verity_key.is_some() || extension.signer.is_some();
            let place = if own { at } else { "sysext" };
            let (key, name) = match by {
                SignedBy::Key(key, passphrase) => {
                    let passphrase = passphrase.map(resolved);
                    (SigningKey::Text(resolved(key), passphrase), "verityKey")
                }
                SignedBy::Command(signer) => {
                    let command = SignerCommand {
                        command: signer.command.clone(),
                        directory: config.source.directory().to_owned(),
                        time_limit: Duration::from_secs(signer.timeout_seconds.into()),
                        retries: signer.retries,
                    };
                    (SigningKey::Command(command), "signer")
                }
            };
            Ok(Some(Signing {
                key,
                certificate,
                certificate_path,
                at: format!("{place}.{name}"),
            }))
        }
        _ => Ok(None),
    }
}

/// The archive of an extension; its globs were checked.
fn archive(config: &Config, extension: &Extension, arch: Option<Arch>) -> Option<ArchivePlan> {
    let source = extension.tar.as_ref().or(extension.oci.as_ref())?;
    let globs = |texts: &[String]| {
        let globs = texts
            .iter()
            .filter_map(|text| glob::Pattern::new(text).ok());
        globs.collect()
    };
    Some(ArchivePlan {
        path: config.resolve(&source.path),
        pick: Pick {
            include: globs(&source.include),
            exclude: globs(&source.exclude),
            strip: source.strip.into(),
            keep_owners: extension.keep_owners,
        },
        container: extension.oci.is_some().then_some(arch),
    })
}

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

fn no_base(what: &str, help: &str) -> Finding {
    Finding::error("no-base", format!("the {what} of the base is not known")).help(help)
}

/// What the release file declares, architecture included.
fn described(
    extension: &Extension,
    name: &str,
    base: Option<&BaseIdentity<'_>>,
) -> Result<(Option<Arch>, ReleaseFields), Finding> {
    let arch = architecture(extension, base)?;
    Ok((arch, release(extension, name, arch, base)?))
}

/// The architecture to declare: none is any.
fn architecture(
    extension: &Extension,
    base: Option<&BaseIdentity<'_>>,
) -> Result<Option<Arch>, Finding> {
    match extension.arch.as_deref() {
        Some("any") => Ok(None),
        Some(text) => Arch::parse(text).map(Some).ok_or_else(|| {
            Finding::error("unknown-value", format!("`{text}` is not an architecture"))
        }),
        None => base.and_then(|base| base.arch).map(Some).ok_or_else(|| {
            no_base(
                "architecture",
                // A profile is for all architectures of its OS.
                "write `arch: x86-64` (or arm64, any), or give the base with --rootfs DIR",
            )
        }),
    }
}

/// The release file as systemd compares it with the base (`extension_release_validate`,
/// src/shared/extension-util.c).
fn release(
    extension: &Extension,
    name: &str,
    arch: Option<Arch>,
    base: Option<&BaseIdentity<'_>>,
) -> Result<ReleaseFields, Finding> {
    let wanted = &extension.release;
    let host = |key: &str| base.and_then(|base| base.os_release.filled(key));
    let id = match wanted.id.as_deref().or_else(|| host("ID")) {
        Some(id) => id.to_owned(),
        None => {
            return Err(no_base(
                "ID",
                "give the base with --rootfs DIR or `target: azurelinux-3.0`, or write `release: {id: …}`",
            ));
        }
    };
    // Facts of the base describe an extension for the base, and no other.
    let for_base = host("ID") == Some(id.as_str());
    let of_base = |key: &str| if for_base { host(key) } else { None };
    let mut fields = ReleaseFields::new();
    fields.set("ID", id);
    if let Some(version) = wanted
        .version_id
        .as_deref()
        .or_else(|| of_base("VERSION_ID"))
    {
        fields.set("VERSION_ID", version);
    }
    let own = |key: &str| format!("{}_{key}", extension.kind.key_prefix());
    let level = own("LEVEL");
    if let Some(value) = wanted.level.as_deref().or_else(|| of_base(&level)) {
        fields.set(level, value);
    }
    fields.set(own("ID"), name);
    if let Some(version) = &extension.version {
        fields.set(own("VERSION_ID"), version);
    }
    let scope: Vec<&str> = wanted.scope.iter().map(|scope| scope.word()).collect();
    fields.set(
        own("SCOPE"),
        if scope.is_empty() {
            "system".to_owned()
        } else {
            scope.join(" ")
        },
    );
    if let Some(arch) = arch {
        fields.set("ARCHITECTURE", arch.name());
    }
    Ok(fields)
}

fn name_clashes(extensions: &[Planned]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, extension) in extensions.iter().enumerate() {
        // Each kind has its folders and its stack.
        let earlier = extensions.iter().take(index);
        for other in earlier.filter(|other| other.kind == extension.kind) {
            let finding = extension_name::clash(&extension.name, &other.name, &other.at);
            findings.extend(finding.map(|finding| finding.at(&extension.at)));
        }
    }
    findings
}

/// Names that would mean something else in the unit that copies the certificates.
fn odd_names(plan: &Plan) -> Vec<Finding> {
    if plan.certificate_location != CertificateLocation::Run {
        return Vec::new();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let odd = plan.certificates.iter();
    let odd = odd.filter(|trusted| {
        let name = &trusted.file_name;
        !name.chars().all(plain) || name.ends_with(CONFEXT_COPY)
    });
    odd.map(|trusted| {
        let name = &trusted.file_name;
        Finding::error(
            "certificate-name",
            format!("`{name}` can't be copied to /run/verity.d under that name"),
        )
        .at(&trusted.at)
        .because("the command stands in a unit file, where blanks, quotes, `%` and `$` have a meaning (systemd.service(5))")
        .help("give it a `name` of letters, digits, `.`, `_` and `-` under `certificates`, not ending in `.confext.crt`")
    })
    .collect()
}

/// Certificates listed under `certificates` that no listed extension is signed with.
fn unused_certificates(plan: &Plan) -> Vec<Finding> {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for extension in &plan.extensions {
        match &extension.step {
            Step::Build(step) => {
                let own = step.signing.as_ref().map(|signing| &signing.certificate);
                used.extend(own.map(|certificate| certificate.fingerprint_sha256_hex.clone()));
                // Who will sign is known by the certificate alone.
                if step.verity == Verity::Defer {
                    return Vec::new();
                }
            }
            Step::TakeIn(taken) if taken.awaits_signature() => return Vec::new(),
            Step::TakeIn(taken) => {
                for signer in taken.signers() {
                    // Told by issuer and serial alone.
                    let Some(certificate) = signer.certificate else {
                        return Vec::new();
                    };
                    used.insert(certificate.fingerprint_sha256_hex);
                }
            }
            Step::TakeFolder(_) => {}
        }
    }
    let listed = plan.certificates.iter();
    let listed = listed.filter(|trusted| trusted.at.contains("sysext.certificates["));
    let unused = listed.filter(|it| !used.contains(&it.certificate.fingerprint_sha256_hex));
    unused
        .map(|trusted| {
            let subject = &trusted.certificate.subject;
            Finding::warning(
                "certificate-unused",
                format!("no listed extension is signed by {subject}"),
            )
            .at(&trusted.at)
            .because("whoever holds its key can make extensions that the target merges (`validate_signature_userspace`, src/shared/dissect-image.c)")
            .help("remove it once no image by that key is in use or to come")
        })
        .collect()
}

/// Keys that every script of Prism can read.
fn key_places(config: &Config, extensions: &[Planned]) -> Vec<Finding> {
    let mut seen: Vec<&Path> = Vec::new();
    for extension in extensions {
        if let Step::Build(step) = &extension.step
            && let Some(signing) = &step.signing
            && let SigningKey::Text(KeyReference::File(path), _) = &signing.key
            && !seen.contains(&path.as_path())
            && is_below(path, config.source.directory())
        {
            seen.push(path);
        }
    }
    seen.into_iter()
        .map(|path| {
            Finding::warning("key-below-config", format!("the private key {} lies below the config's folder", path.display()))
                .at("sysext.verityKey")
                .because("Prism mounts that folder into the image as /_imageconfigs, where every script can read it")
                .help("keep it elsewhere, or pass it as `env:NAME`")
        })
        .collect()
}

/// Whether a path of this machine lies in a folder.
fn is_below(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        _ => false,
    }
}

/// Overlays of Prism on the hierarchies that systemd merges.
pub(crate) fn overlays(config: &Config, sysext: &Sysext) -> Vec<Finding> {
    let overlays = config.prism.os.as_ref().and_then(|os| os.overlays.as_ref());
    let mut findings = Vec::new();
    for (index, overlay) in overlays.into_iter().flatten().enumerate() {
        let mount_point = cleaned(overlay.mount_point.as_deref().unwrap_or_default());
        let below = |top: &str| {
            mount_point == top
                || mount_point
                    .strip_prefix(top)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        if !below("/usr") && !below("/opt") {
            continue;
        }
        let message =
            format!("Prism's overlay on {mount_point} lies below the merge of the extensions");
        let finding = match sysext.overlay_conflict {
            OverlayConflict::Ignore => continue,
            OverlayConflict::Warn => Finding::warning("overlay-on-hierarchy", message),
            OverlayConflict::Error => Finding::error("overlay-on-hierarchy", message),
        };
        findings.push(
            finding
                .at(format!("os.overlays[{index}].mountPoint"))
                .because("systemd mounts its overlay on top, read-only: while extensions are merged, writes no longer reach Prism's overlay; the kernel stacks two overlays at most")
                .help("leave /usr and /opt to the extensions, or call programs by their full path or by links in a PATH folder outside the overlay (`pathLinks`)"),
        );
    }
    findings
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
