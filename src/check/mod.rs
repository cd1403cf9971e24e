//! What systemd will do at boot with a set of extensions on a base.
//!
//! A prediction, not a test: it decides only what is certain for the base's
//! version of systemd, and calls everything else [`Verdict::Unknown`]. Covered
//! are disk images on systemd 252 to 262; folders, literal image policies and
//! conflicts between layers are not judged.

mod lookup;
mod protection;
mod rules;
mod stack;
pub mod surroundings;

use serde::Serialize;

use crate::arch::Arch;
use crate::base::kernel::{KernelFeatures, Support};
use crate::finding::{Finding, Severity};
use crate::image::certificate::Certificate;
use crate::image::ddi::Ddi;
use crate::image::filesystem::FsKind;
use crate::name::{self, Effect};
use crate::release::{Decision, ExtensionKind, ReleaseFields, SystemdVersion, matches};
use crate::verify::Report;

pub use stack::{Activation, Stack};

/// What becomes of one extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Merged, signature and content checked.
    MergesSigned,
    /// Merged, content checked against the root hash that the image itself names.
    MergesVerity,
    /// Merged, nothing checked.
    MergesUnprotected,
    /// It can't be told.
    Unknown,
    /// Left out, without a word at boot.
    Ignored,
    /// Makes systemd merge nothing at all.
    BlocksAll,
}

impl Verdict {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::MergesSigned => "merges-signed",
            Verdict::MergesVerity => "merges-verity",
            Verdict::MergesUnprotected => "merges-unprotected",
            Verdict::Unknown => "unknown",
            Verdict::Ignored => "ignored",
            Verdict::BlocksAll => "blocks-all",
        }
    }

    /// Whether the extension is merged for sure.
    pub fn merges(self) -> bool {
        self <= Verdict::MergesUnprotected
    }
}

/// What the rules need to know of the base.
#[derive(Debug)]
pub struct Host<'a> {
    /// Its os-release.
    pub os_release: &'a ReleaseFields,
    /// Its systemd.
    pub systemd: Option<SystemdVersion>,
    /// Its architecture.
    pub arch: Option<Arch>,
    /// What all its kernels can do.
    pub kernel: KernelFeatures,
    /// Certificates that systemd will find.
    pub trusted: &'a [Certificate],
    /// The value of `--image-policy=` at boot, if any.
    pub image_policy: Option<&'a str>,
    /// Whether `systemd-sysext` is installed.
    pub has_tool: bool,
    /// Whether the service runs at boot.
    pub activation: Activation,
    /// Whether something of it could not be read, so that nothing is certain.
    pub incomplete: bool,
}

/// One extension to judge.
#[derive(Debug)]
pub struct Candidate {
    /// Path in the config, if it is listed there.
    pub at: Option<String>,
    /// Path on the target.
    pub path: String,
    /// What is there.
    pub image: Image,
}

/// What is there.
#[derive(Debug)]
pub enum Image {
    /// A disk image, described and with its hash tree recomputed.
    Disk(Box<Ddi>, Box<Report>),
    /// A file that is no image; the reason.
    Unreadable(String),
    /// Anything that this version does not judge.
    Other(&'static str),
}

/// What becomes of one extension, and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// Name under which systemd knows it.
    pub name: String,
    /// Path on the target.
    pub path: String,
    /// Whether the config lists it.
    pub listed: bool,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<Finding>,
}

/// Everything that was predicted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// One per extension, in the order in which systemd finds them.
    pub extensions: Vec<Judgement>,
    /// All of them together.
    pub stack: Stack,
}

/// What the caller takes on; nothing else that is known to fail is let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// What can't be told.
    pub unknown: bool,
    /// Images whose signature is still to be made.
    pub unsigned: bool,
}

impl Judgement {
    /// Whether all that is wrong is a signature that is still to be made.
    fn awaits_signature(&self) -> bool {
        let mut errors = self
            .reasons
            .iter()
            .filter(|reason| reason.severity == Severity::Error);
        self.verdict == Verdict::BlocksAll && errors.all(|reason| reason.id == "signature-missing")
    }
}

impl Prediction {
    /// Whether every listed extension is merged at boot for sure, but for what is allowed.
    pub fn is_good(&self, allowed: Allowed) -> bool {
        let excused = |judgement: &Judgement| allowed.unsigned && judgement.awaits_signature();
        let fine = |judgement: &Judgement| {
            judgement.verdict.merges()
                || (allowed.unknown && judgement.verdict == Verdict::Unknown)
                || excused(judgement)
        };
        let mut listed = self.extensions.iter().filter(|judgement| judgement.listed);
        let blocked_only = || {
            let mut reasons = self.stack.reasons.iter();
            let mut blocking = self
                .extensions
                .iter()
                .filter(|judgement| judgement.verdict == Verdict::BlocksAll);
            blocking.all(excused) && reasons.all(|reason| reason.id == "merge-blocked")
        };
        listed.all(fine)
            && match self.stack.merged {
                Some(true) => true,
                Some(false) => allowed.unsigned && blocked_only(),
                None => allowed.unknown,
            }
    }
}

/// Predicts what becomes of all candidates together; they come in the order in which systemd
/// searches, so of two with one name the first is used.
pub fn predict(host: &Host<'_>, candidates: &[Candidate]) -> Prediction {
    let mut extensions: Vec<Judgement> = Vec::new();
    for candidate in candidates {
        let mut judgement = judge(host, candidate);
        if let Some(first) = extensions.iter().find(|other| other.name == judgement.name) {
            judgement.verdict = Verdict::Ignored;
            judgement.reasons = vec![
                reason(
                    "shadowed",
                    candidate,
                    format!("{} has the same name and is found first", first.path),
                )
                .because(rules::SEARCH_PATH)
                .help("remove the other one, or rename this extension"),
            ];
        }
        extensions.push(judgement);
    }
    let stack = stack::judge(host, &extensions);
    Prediction { extensions, stack }
}

fn reason(id: &'static str, candidate: &Candidate, message: impl Into<String>) -> Finding {
    let finding = Finding::error(id, message);
    match &candidate.at {
        Some(at) => finding.at(at),
        None => finding.in_file(&candidate.path),
    }
}

/// The parts of a judgement while it is made: the worst that was found, and why.
struct Case<'a> {
    candidate: &'a Candidate,
    verdict: Verdict,
    reasons: Vec<Finding>,
}

impl Case<'_> {
    fn worsen(
        &mut self,
        verdict: Verdict,
        id: &'static str,
        message: impl Into<String>,
        rule: &str,
        help: &str,
    ) {
        let mut finding = reason(id, self.candidate, message).because(rule).help(help);
        finding.severity = match verdict {
            Verdict::MergesSigned | Verdict::MergesVerity | Verdict::MergesUnprotected => {
                Severity::Warning
            }
            _ => Severity::Error,
        };
        self.verdict = self.verdict.max(verdict);
        self.reasons.push(finding);
    }

    fn unknown(&mut self, id: &'static str, message: impl Into<String>, help: &str) {
        let mut finding = reason(id, self.candidate, message).help(help);
        finding.severity = Severity::Warning;
        self.verdict = self.verdict.max(Verdict::Unknown);
        self.reasons.push(finding);
    }
}

fn judge(host: &Host<'_>, candidate: &Candidate) -> Judgement {
    let name = lookup::name_of(&candidate.path, host.systemd);
    let mut case = Case {
        candidate,
        verdict: Verdict::MergesSigned,
        reasons: Vec::new(),
    };
    match host.systemd {
        None => case.unknown(
            "systemd-unknown",
            "the version of systemd in the base can't be told",
            "give the base with --rootfs DIR or --target PROFILE",
        ),
        Some(systemd) if !rules::COVERED.contains(&systemd.major) => case.unknown(
            "systemd-not-covered",
            format!("systemd {systemd} is not judged, only 252 to 262"),
            "check it on a machine with that version",
        ),
        Some(systemd) => match &candidate.image {
            Image::Disk(ddi, report) => disk(host, systemd, &name, ddi, report, &mut case),
            Image::Unreadable(why) => case.worsen(
                Verdict::BlocksAll,
                "image-unreadable",
                why.clone(),
                rules::STAGE_A,
                "remove the file, or replace it with an intact image",
            ),
            Image::Other(what) => case.unknown(
                "not-judged",
                format!("{what} is not judged"),
                "look at it on the booted system",
            ),
        },
    }
    Judgement {
        name,
        path: candidate.path.clone(),
        listed: candidate.at.is_some(),
        verdict: case.verdict,
        reasons: case.reasons,
    }
}

fn disk(
    host: &Host<'_>,
    systemd: SystemdVersion,
    name: &str,
    ddi: &Ddi,
    report: &Report,
    case: &mut Case<'_>,
) {
    match name::effect(name) {
        (Effect::Taken, _) => {}
        (Effect::Skipped, message) => {
            case.worsen(
                Verdict::Ignored,
                "name-refused",
                message,
                rules::NAME,
                "rename the image",
            );
        }
        (Effect::BlocksAll, message) => {
            case.worsen(
                Verdict::BlocksAll,
                "name-refused",
                message,
                name::BREAKS,
                "rename the image",
            );
        }
    }
    for problem in ddi
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
    {
        case.worsen(
            Verdict::BlocksAll,
            problem.id,
            problem.message.clone(),
            rules::STAGE_A,
            "replace it with an intact image",
        );
    }
    file_system(host, systemd, ddi, case);
    let release_name = lookup::release_name(&case.candidate.path, systemd);
    release(host, systemd, &release_name, ddi, case);
    protection::judge(host, systemd, ddi, report, case);
}

/// Whether the base's kernel can mount the file system.
fn file_system(host: &Host<'_>, systemd: SystemdVersion, ddi: &Ddi, case: &mut Case<'_>) {
    let Some(kind) = ddi.fs_kind else {
        return case.worsen(
            Verdict::BlocksAll,
            "no-file-system",
            "the image holds no known file system",
            rules::STAGE_A,
            "use erofs, squashfs or ext4",
        );
    };
    let kernel = &host.kernel;
    let support = match kind {
        FsKind::Erofs => kernel.erofs,
        FsKind::Squashfs => kernel.squashfs,
        FsKind::Ext4 => kernel.ext4,
        _ => Support::Unknown,
    };
    let needs = |case: &mut Case<'_>, what: &str, support: Support| {
        match support {
        Support::Yes | Support::Module => {}
        Support::No => case.worsen(
            Verdict::BlocksAll,
            "kernel-without-file-system",
            format!("the kernel of the base can't mount {what}"),
            rules::STAGE_A,
            "use a file system and a compression that it has",
        ),
        Support::Unknown => case.unknown(
            "kernel-unknown",
            format!("it can't be told whether the kernel of the base mounts {what}"),
            "give a base that holds its kernel's configuration (boot/config-*), or --target PROFILE",
        ),
    }
    };
    needs(case, kind.name(), support);
    for algorithm in ddi.fs.iter().flat_map(|details| &details.compression) {
        let support = match (kind, algorithm.as_str()) {
            (FsKind::Erofs, "lz4" | "lz4hc") => kernel.erofs_lz4,
            (FsKind::Erofs, "zstd") => kernel.erofs_zstd,
            (FsKind::Erofs, "lzma") => kernel.erofs_lzma,
            (FsKind::Erofs, "deflate") => kernel.erofs_deflate,
            (FsKind::Squashfs, "zstd") => kernel.squashfs_zstd,
            (FsKind::Squashfs, "xz") => kernel.squashfs_xz,
            (FsKind::Squashfs, "lz4") => kernel.squashfs_lz4,
            (FsKind::Squashfs, "gzip") => kernel.squashfs_gzip,
            _ => Support::Unknown,
        };
        needs(case, &format!("{} with {algorithm}", kind.name()), support);
    }
    if systemd.major >= 253 && !rules::MOUNTABLE.contains(&kind.name()) {
        case.worsen(
            Verdict::BlocksAll,
            "file-system-not-allowed",
            format!("systemd mounts no {} for extensions", kind.name()),
            rules::ALLOWED_FILE_SYSTEMS,
            "use erofs, squashfs or ext4",
        );
    }
}

/// Whether the release file is found, and fits the base.
fn release(host: &Host<'_>, systemd: SystemdVersion, name: &str, ddi: &Ddi, case: &mut Case<'_>) {
    let Some(content) = &ddi.content else {
        return case.unknown(
            "content-unreadable",
            "the file system can't be read",
            "use erofs, squashfs or ext4",
        );
    };
    if content.has_os_release {
        let verdict = if systemd.major <= 253 {
            Verdict::BlocksAll
        } else {
            Verdict::Ignored
        };
        case.worsen(
            verdict,
            "os-release-inside",
            "the image holds /usr/lib/os-release",
            rules::FORBIDDEN_CONTENT,
            "build it without that file",
        );
    }
    let fields = match lookup::release_file(content, name, systemd) {
        lookup::Found::One(release) => release.fields.clone().unwrap_or_default(),
        lookup::Found::Unknown => {
            return case.unknown(
                "release-file-unknown",
                format!("the image has no extension-release.{name}, and whether another one counts can't be read from this file system"),
                "name the image after its release file",
            );
        }
        lookup::Found::None => {
            let others: Vec<&str> = content
                .releases
                .iter()
                .map(|release| release.suffix.as_str())
                .collect();
            let found = if others.is_empty() {
                "none".to_owned()
            } else {
                others.join(", ")
            };
            let looks_like_os = content.has_os_release || content.has_etc_os_release;
            let has_confext = content
                .releases
                .iter()
                .any(|release| release.kind == ExtensionKind::Confext);
            let message = format!("expected a release file for `{name}`, found {found}");
            let help = match others.first() {
                Some(other) => format!("name the image {other}.raw"),
                None => "build the image with a release file".to_owned(),
            };
            if has_confext && systemd.major == 254 {
                return case.unknown("release-file-missing", message, &help);
            }
            let ignored = looks_like_os || (has_confext && systemd.major >= 255);
            let verdict = if ignored {
                Verdict::Ignored
            } else {
                Verdict::BlocksAll
            };
            return case.worsen(
                verdict,
                "release-file-missing",
                message,
                rules::RELEASE_FILE,
                &help,
            );
        }
    };
    let declared = fields.filled("ARCHITECTURE").filter(|arch| *arch != "_any");
    let arch = match (host.arch, declared) {
        (Some(arch), _) => arch,
        // Nothing declared is compared with nothing.
        (None, None) => Arch::X86_64,
        (None, Some(declared)) => {
            case.unknown(
                "architecture-unknown",
                format!("the image is for {declared}, the architecture of the base can't be told"),
                "give the base with --rootfs DIR, or its `arch` in `target`",
            );
            match Arch::parse(declared) {
                Some(arch) => arch,
                None => return,
            }
        }
    };
    match matches(
        &fields,
        host.os_release,
        arch,
        systemd,
        ExtensionKind::Sysext,
    ) {
        Decision::Accepted => {}
        Decision::Ignored(refusal) => case.worsen(
            Verdict::Ignored,
            refusal.id,
            refusal.message,
            rules::RELEASE_MATCH,
            "make `release` and `arch` agree with the base, or leave them out; a prebuilt image must have been built for this base",
        ),
        Decision::HostUnusable(refusal) => {
            case.worsen(
                Verdict::BlocksAll,
                refusal.id,
                refusal.message,
                rules::RELEASE_MATCH,
                "mend the base's os-release",
            );
        }
    }
}
