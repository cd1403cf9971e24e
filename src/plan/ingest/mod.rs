//! Takes in an image or folder that somebody else made: reads it, finds the name
//! under which systemd will accept it, changes nothing.

mod sidecars;

use std::path::{Path, PathBuf};

use sha2::Sha256;

use super::limits::Limits;
use crate::base::folder::folder_content;
use crate::config::model::Delivery;
use crate::finding::Finding;
use crate::image::dissect;
use crate::image::dissect::{Content, Ddi, ReleaseFile, SignatureState};
use crate::image::sidecar::WRAPPINGS;
use crate::image::signature::{SignerIdentity, SignerVerdict, check, signer_identity};
use crate::image::x509::Certificate;
use crate::io::digest::digest_file;
use crate::io::hex;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::sign::trust::Trusted;
use crate::systemd::extension_name;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;

pub(crate) use sidecars::{ImageFromParts, PlacedSidecars};

/// A prebuilt image, read.
#[derive(Debug)]
pub struct PrebuiltImage {
    /// Name under which it is placed: that of its release file.
    pub name: String,
    /// The digest that the config asks for, lower-case hex.
    pub sha256: Option<String>,
    /// What it is; its path is that of the compressed file, if it is one.
    pub ddi: Ddi,
    /// What lies beside it and is placed with it, or put into it.
    pub sidecars: PlacedSidecars,
    /// What is made of all that, if it is not taken as it is.
    pub from_parts: Option<ImageFromParts>,
    release: ReleaseFields,
}

impl PrebuiltImage {
    /// The fields of its release file.
    pub fn release(&self) -> &ReleaseFields {
        &self.release
    }

    /// The root hash, hex, if it has a hash tree or one lies beside it.
    pub fn root_hash(&self) -> Option<String> {
        let own = self.ddi.root_hash.as_ref().map(ToString::to_string);
        own.or_else(|| self.sidecars.root_hash.as_deref().map(hex::encode))
    }

    /// Fingerprint of the signer's certificate, as the image or the signature beside it says. That one
    /// need not bring its certificate along, and is then tried with those that are trusted.
    pub fn signer_fingerprint(&self, trusted: &[Trusted]) -> Option<String> {
        match &self.ddi.signature {
            SignatureState::Present { partition, .. } => partition.certificate_fingerprint.clone(),
            _ => {
                let brought = self.signers().into_iter().find_map(|it| it.certificate);
                let certificate = brought.or_else(|| {
                    let known = trusted.iter().map(|it| it.certificate.clone());
                    let known: Vec<Certificate> = known.collect();
                    match check(
                        self.sidecars.signature.as_ref()?,
                        &self.root_hash()?,
                        &known,
                    ) {
                        SignerVerdict::Trusted(certificate) => Some(certificate),
                        _ => None,
                    }
                })?;
                Some(certificate.fingerprint_sha256_hex)
            }
        }
    }

    /// Who signed it, as far as that can be read.
    pub fn signers(&self) -> Vec<SignerIdentity> {
        match (&self.ddi.signature, &self.sidecars.signature) {
            (SignatureState::Present { signers, .. }, _) => signers.clone(),
            (_, Some(signature)) => signer_identity(signature).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Whether there is only room for a signature.
    pub fn awaits_signature(&self) -> bool {
        self.ddi.signature == SignatureState::Empty && self.sidecars.signature.is_none()
    }
}

/// An extension that is a folder, read.
#[derive(Debug)]
pub struct PrebuiltFolder {
    /// Name under which it is placed: that of its release file.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether owners are kept.
    pub keep_owners: bool,
    /// What it must hold, must not hold, and may weigh.
    pub limits: Limits,
    /// The fields of its release file.
    pub release: ReleaseFields,
}

/// Reads the folder at `path`, without its files. `name` is what the config calls it, if it does.
pub(crate) fn folder(
    path: &Path,
    name: Option<&str>,
    kind: ExtensionKind,
    at: &str,
) -> Result<(PrebuiltFolder, Vec<Finding>), Finding> {
    let unreadable = |error: String| {
        let message = format!("reading the folder {}: {error}", path.display());
        Finding::error("tree-unreadable", message)
    };
    let root = RootDir::open(path).map_err(|error| unreadable(error.to_string()))?;
    let content = folder_content(&root, Path::new("/"));
    let content = content.map_err(|error| unreadable(error.to_string()))?;
    let content = content.ok_or_else(|| unreadable("it is gone".to_owned()))?;
    let release = release_of(path, &content, kind).map_err(|finding| match finding.id {
        "release-file-missing" if content.releases.is_empty() => finding
            .because("systemd passes over a folder without it (open_extension_release, src/basic/os-util.c)")
            .help("write `tree` instead of `image`, with a `name`: the release file is made then"),
        _ => finding,
    })?;
    let release_fields = named(path, release, name)?;
    let suffix = release.suffix.clone();
    let mut notes = vec![unprotected(&suffix, Delivery::Directory).at(format!("{at}.image"))];
    let file = path.canonicalize();
    let file = file.as_deref().unwrap_or(path).file_name();
    if file != Some(suffix.as_ref()) {
        notes.push(renamed(
            file.unwrap_or_default().to_string_lossy(),
            &suffix,
            at,
        ));
    }
    let taken = PrebuiltFolder {
        name: suffix,
        path: path.to_owned(),
        keep_owners: false,
        limits: Limits::default(),
        release: release_fields,
    };
    Ok((taken, notes))
}

/// What a form of delivery means for verity.
pub(crate) fn unprotected(name: &str, layout: Delivery) -> Finding {
    let (what, policy) = match layout {
        Delivery::Directory => (
            "a plain folder",
            "image policies say nothing of folders, so it is merged under the strictest one as well",
        ),
        Delivery::Bare | Delivery::Image => (
            "a bare file system",
            "`imagePolicy: signed` would refuse it, and all others with it",
        ),
    };
    let message = format!("`{name}` is {what}: nothing checks its content; {policy}");
    let finding = Finding::note("layout-unprotected", message);
    match layout.without_verity() {
        Some(why) => finding.because(why),
        None => finding,
    }
}

/// Reads the image at `path`. `name` is what the config calls it, if it does.
///
/// The release file inside decides the name on the target: systemd looks for
/// `extension-release.NAME` of the image `NAME.raw` (`open_extension_release`,
/// src/basic/os-util.c), and silently passes over the image or refuses all of
/// them when there is none.
pub(crate) fn image(
    path: &Path,
    sha256: Option<&str>,
    name: Option<&str>,
    kind: ExtensionKind,
    at: &str,
) -> Result<(PrebuiltImage, Vec<Finding>), Finding> {
    let sha256 = sha256.map(str::to_ascii_lowercase);
    if let Some(expected) = &sha256 {
        pinned(path, expected)?;
    }
    let ddi = dissect::open_compressed(path).map_err(|error| {
        Finding::error("image-unreadable", error.to_string())
            .help("name an extension image: a GPT with a root partition, or a naked erofs, squashfs or ext4")
    })?;
    if let Some(problem) = ddi.problems.iter().find(|problem| problem.is_error()) {
        return Err(problem.clone());
    }
    let mut notes: Vec<Finding> = ddi.problems.clone();
    let release = release_file(path, &ddi, kind)?;
    let fields = named(path, release, name)?;
    let suffix = release.suffix.clone();
    let stem = path
        .file_name()
        .and_then(|file| file.to_str())
        .map(|file| match ddi.compressed {
            Some(_) => WRAPPINGS
                .iter()
                .find_map(|it| file.strip_suffix(it))
                .unwrap_or(file),
            None => file,
        })
        .and_then(|file| file.strip_suffix(".raw"));
    let (sidecars, finding) = PlacedSidecars::with(path, &ddi)?;
    notes.extend(finding.map(|finding| finding.at(format!("{at}.image"))));
    if ddi.layout == dissect::Layout::Naked && sidecars.files.is_empty() {
        notes.push(unprotected(&suffix, Delivery::Bare).at(format!("{at}.image")));
    }
    if stem != Some(suffix.as_str()) {
        let suffix_file = format!("{suffix}.raw");
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(renamed(file, &suffix_file, at));
    }
    Ok((
        PrebuiltImage {
            name: suffix,
            sha256,
            ddi,
            sidecars,
            from_parts: None,
            release: fields,
        },
        notes,
    ))
}

/// The fields of a release file that gives a usable name, which `name` must not contradict.
fn named(path: &Path, release: &ReleaseFile, name: Option<&str>) -> Result<ReleaseFields, Finding> {
    let suffix = &release.suffix;
    let fields = release.fields.clone().ok_or_else(|| {
        let problem = release.problem.as_deref().unwrap_or("it can't be read");
        Finding::error(
            "release-file-refused",
            format!(
                "the release file `{suffix}` of {} is useless: {problem}",
                path.display()
            ),
        )
    })?;
    extension_name::check(suffix).map_err(|finding| Finding {
        message: format!(
            "the release file of {} gives it the name `{suffix}`: {}",
            path.display(),
            finding.message
        ),
        ..finding
    })?;
    if let Some(name) = name
        && name != suffix
        && !suffix
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('_'))
    {
        return Err(Finding::error(
            "name-disagrees",
            format!(
                "`name` is `{name}`, but the release file of {} is for `{suffix}`",
                path.display()
            ),
        )
        .because("systemd accepts an image only under the name of its release file")
        .help(format!("write `name: {suffix}`, or leave `name` out")));
    }
    Ok(fields)
}

/// The one release file that says what the image is.
pub(crate) fn release_file<'a>(
    path: &Path,
    ddi: &'a Ddi,
    kind: ExtensionKind,
) -> Result<&'a ReleaseFile, Finding> {
    let Some(content) = &ddi.content else {
        return Err(Finding::error(
            "image-unreadable",
            format!("the file system of {} can't be read", path.display()),
        )
        .help("use erofs, squashfs or ext4"));
    };
    release_of(path, content, kind)
}

fn release_of<'a>(
    path: &Path,
    content: &'a Content,
    kind: ExtensionKind,
) -> Result<&'a ReleaseFile, Finding> {
    let mut all = content
        .releases
        .iter()
        .filter(|release| release.kind == kind);
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            let (what, help) = match content.releases.first().map(|release| release.kind) {
                Some(other) => (
                    format!("a {}", other.noun()),
                    format!("write `kind: {}`", other.name()),
                ),
                None => (
                    "no extension".to_owned(),
                    "build the image with a release file, for example from its content with `tree`"
                        .to_owned(),
                ),
            };
            let dir = kind.release_dir();
            Err(Finding::error(
                "release-file-missing",
                format!("{} is {what}: it holds no {dir}/extension-release.NAME", path.display()),
            )
            .because("without it systemd refuses the image, and all others with it (src/shared/discover-image.c)")
            .help(help))
        }
        (Some(first), Some(second)) => Err(Finding::error(
            "several-release-files",
            format!(
                "{} holds release files for `{}` and `{}`, so its name can't be told",
                path.display(),
                first.suffix,
                second.suffix
            ),
        )
        .help("keep the one for the name of the image")),
    }
}

/// That something is not placed under the name that it has here.
fn renamed(file: impl std::fmt::Display, placed: &str, at: &str) -> Finding {
    let message = format!("{file} is placed as {placed}, the name that its release file is for");
    Finding::note("placed-under-release-name", message)
        .at(format!("{at}.image"))
        .because(
            "as `NAME.raw` systemd looks for `extension-release.NAME` inside; before 254.11, 255.5 and 256 \
             any other name is not found and the image is not merged (open_extension_release, src/basic/os-util.c)",
        )
}

fn pinned(path: &Path, expected: &str) -> Result<(), Finding> {
    let stage = format!("digesting {}", path.display());
    let found = digest_file::<Sha256>(path, stage, &Progress::new());
    let (found, _) = found.map_err(|error| {
        Finding::error(
            "image-unreadable",
            format!("reading {}: {error}", path.display()),
        )
    })?;
    if found == expected {
        return Ok(());
    }
    Err(Finding::error(
        "image-digest-mismatch",
        format!(
            "{} has SHA-256 {found}, the config pins {expected}",
            path.display()
        ),
    )
    .help("get the image that was pinned, or update `sha256` if the change is intended"))
}

#[cfg(test)]
mod tests;
