//! Takes in an image that somebody else made: reads it, finds the name under
//! which systemd will accept it, changes nothing.

use std::path::Path;

use sha2::Sha256;

use crate::digest::digest;
use crate::finding::{Finding, Severity};
use crate::image::ddi::{self, Ddi, ReleaseFile, SignatureState};
use crate::input;
use crate::name;
use crate::progress::Progress;
use crate::release::{ExtensionKind, ReleaseFields};

/// Endings of compressed images.
const WRAPPINGS: &[&str] = &[".gz", ".xz", ".zst"];

/// A prebuilt image, read.
#[derive(Debug)]
pub struct TakenIn {
    /// Name under which it is placed: that of its release file.
    pub name: String,
    /// The digest that the config asks for, lower-case hex.
    pub sha256: Option<String>,
    /// What it is; its path is that of the compressed file, if it is one.
    pub ddi: Ddi,
    release: ReleaseFields,
}

impl TakenIn {
    /// The fields of its release file.
    pub fn release(&self) -> &ReleaseFields {
        &self.release
    }

    /// The root hash, hex, if it has a hash tree.
    pub fn root_hash(&self) -> Option<String> {
        self.ddi.root_hash.as_ref().map(ToString::to_string)
    }

    /// Fingerprint of the signer's certificate, as the image says.
    pub fn signer_fingerprint(&self) -> Option<String> {
        match &self.ddi.signature {
            SignatureState::Present { partition, .. } => partition.certificate_fingerprint.clone(),
            _ => None,
        }
    }
}

/// Reads the image at `path`. `name` is what the config calls it, if it does.
///
/// The release file inside decides the name on the target: systemd looks for
/// `extension-release.NAME` of the image `NAME.raw` (`open_extension_release`,
/// src/basic/os-util.c), and silently passes over the image or refuses all of
/// them when there is none.
pub fn take_in(
    path: &Path,
    sha256: Option<&str>,
    name: Option<&str>,
    kind: ExtensionKind,
    at: &str,
) -> Result<(TakenIn, Vec<Finding>), Finding> {
    let sha256 = sha256.map(str::to_ascii_lowercase);
    if let Some(expected) = &sha256 {
        pinned(path, expected)?;
    }
    let ddi = ddi::open_wrapped(path).map_err(|error| {
        Finding::error("image-unreadable", error.to_string())
            .help("name an extension image: a GPT with a root partition, or a naked erofs, squashfs or ext4")
    })?;
    if let Some(problem) = ddi
        .problems
        .iter()
        .find(|problem| problem.severity == Severity::Error)
    {
        return Err(problem.clone());
    }
    let mut notes: Vec<Finding> = ddi.problems.clone();
    let release = release_file(path, &ddi, kind)?;
    let suffix = release.suffix.clone();
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
    name::check(&suffix).map_err(|finding| Finding {
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
    let stem = path
        .file_name()
        .and_then(|file| file.to_str())
        .map(|file| match ddi.wrapped {
            Some(_) => WRAPPINGS
                .iter()
                .find_map(|it| file.strip_suffix(it))
                .unwrap_or(file),
            None => file,
        })
        .and_then(|file| file.strip_suffix(".raw"));
    if stem != Some(suffix.as_str()) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(
            Finding::note(
                "placed-under-release-name",
                format!("{file} is placed as {suffix}.raw, the name that its release file is for"),
            )
            .at(format!("{at}.image"))
            .because(
                "as `NAME.raw` systemd looks for `extension-release.NAME` inside; before 254.11, 255.5 and 256 \
                 any other name is not found and the image is not merged (open_extension_release, src/basic/os-util.c)",
            ),
        );
    }
    Ok((
        TakenIn {
            name: suffix,
            sha256,
            ddi,
            release: fields,
        },
        notes,
    ))
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

fn pinned(path: &Path, expected: &str) -> Result<(), Finding> {
    let digest = || {
        let file = input::open(path)?;
        let size = file.metadata()?.len();
        digest::<Sha256>(&file, size, &Progress::new())
    };
    let found = digest().map_err(|error: std::io::Error| {
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
