//! What systemd will do at boot with a set of extensions on a base.
//!
//! A prediction, not a test: it decides only what is certain for the base's
//! version of systemd, and calls everything else [`Verdict::Unknown`]. Covered are disk images and
//! folders, on the versions of systemd in `systemd::changes::COVERED`. What layers hide from each
//! other is reported by `conflicts`.
//!
//! systemd works in two stages (`image_discover_and_read_metadata` and
//! `merge_subprocess`, src/sysext/sysext.c): an image whose metadata can't be
//! read, and later one that can't be mounted, end the merge of all; one that
//! does not fit the host is only left out.

pub(crate) mod conflicts;
pub(crate) mod discover;
mod host;
pub(crate) mod lint;
mod lookup;
mod mounting;
mod policy;
mod protection;
mod release;
pub(crate) mod sidecars;
mod stack;
#[cfg(test)]
mod testing;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::finding::{Finding, Severity};
use crate::image::dissect::{Content, Ddi, Layout};
use crate::inspect::verify::Report;
use crate::systemd::changes::{Change, SystemdBuild, covered};
use crate::systemd::extension_name::Effect;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::{citations, extension_name};
use release::Holder;

pub use host::{Candidate, Host, Image, Service};
pub use sidecars::Sidecars;
pub use stack::{Activation, Hierarchy, Stack};

/// What becomes of one extension.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
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

/// What becomes of one extension, and why.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// For which merge it is found.
    pub kind: ExtensionKind,
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
    /// Folders of it that hold something, such as `usr` and `usr/share`.
    #[serde(skip)]
    pub filled: BTreeSet<String>,
}

/// Everything that was predicted.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// One per extension, in the order in which systemd finds them.
    pub extensions: Vec<Judgement>,
    /// All system extensions together.
    pub stack: Stack,
    /// All configuration extensions together, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confext_stack: Option<Stack>,
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
        let mut errors = self.reasons.iter().filter(|reason| reason.is_error());
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
        let lists = |kind| {
            let mut all = self.extensions.iter();
            all.any(|judgement| judgement.listed && judgement.kind == kind)
        };
        let blocked_only = |kind, stack: &Stack| {
            let mut reasons = stack.reasons.iter();
            let of_kind = self
                .extensions
                .iter()
                .filter(|judgement| judgement.kind == kind);
            let mut blocking = of_kind.filter(|judgement| judgement.verdict == Verdict::BlocksAll);
            blocking.all(excused) && reasons.all(|reason| reason.id == "merge-blocked")
        };
        let happens = |(kind, stack): (ExtensionKind, &Stack)| match stack.merged {
            Some(true) => !stack.hierarchies.iter().any(|it| it.base_hidden),
            Some(false) => allowed.unsigned && blocked_only(kind, stack),
            None => allowed.unknown,
        };
        // What nobody asked for may fail; with nothing listed the merge itself was asked for.
        let counts = |kind| match kind {
            ExtensionKind::Sysext => lists(kind) || !lists(ExtensionKind::Confext),
            ExtensionKind::Confext => lists(kind),
        };
        let mut stacks = self.stacks().filter(|(kind, _)| counts(*kind));
        listed.all(fine) && stacks.all(happens)
    }

    /// The stack of a class.
    pub fn stack_mut(&mut self, kind: ExtensionKind) -> Option<&mut Stack> {
        match kind {
            ExtensionKind::Sysext => Some(&mut self.stack),
            ExtensionKind::Confext => self.confext_stack.as_mut(),
        }
    }

    /// The stacks that there are, each with what it is of.
    pub fn stacks(&self) -> impl Iterator<Item = (ExtensionKind, &Stack)> {
        let confext = self.confext_stack.as_ref();
        let confext = confext.map(|stack| (ExtensionKind::Confext, stack));
        std::iter::once((ExtensionKind::Sysext, &self.stack)).chain(confext)
    }
}

/// Predicts what becomes of all candidates together; they come in the order in which systemd
/// searches, so of two of a class with one name the first is used.
pub fn predict(host: &Host<'_>, candidates: &[Candidate]) -> Prediction {
    let mut extensions: Vec<Judgement> = Vec::new();
    for candidate in candidates {
        let mut judgement = judge(host, candidate);
        let same =
            |other: &&Judgement| other.name == judgement.name && other.kind == judgement.kind;
        if let Some(first) = extensions.iter().find(same) {
            judgement.verdict = Verdict::Ignored;
            judgement.reasons = vec![
                reason(
                    "shadowed",
                    candidate,
                    format!("{} has the same name and is found first", first.path),
                )
                .because(citations::SEARCH_PATH)
                .help("remove the other one, or rename this extension"),
            ];
        }
        extensions.push(judgement);
    }
    let of = |kind| {
        let all = extensions.iter().filter(|judgement| judgement.kind == kind);
        all.collect::<Vec<_>>()
    };
    let confexts = of(ExtensionKind::Confext);
    let sysexts = of(ExtensionKind::Sysext);
    let mut stack = stack::judge(host, ExtensionKind::Sysext, &sysexts);
    if sysexts.is_empty() && !confexts.is_empty() {
        // What keeps nothing from being merged is no news.
        stack.reasons.clear();
    }
    let confext_stack =
        (!confexts.is_empty()).then(|| stack::judge(host, ExtensionKind::Confext, &confexts));
    Prediction {
        stack,
        confext_stack,
        extensions,
    }
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
    service: &'a Service<'a>,
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

    fn bad_name(&mut self, verdict: Verdict, message: String, rule: &str) {
        self.worsen(verdict, "name-refused", message, rule, "rename it");
    }

    fn unknown(&mut self, id: &'static str, message: impl Into<String>, help: &str) {
        let mut finding = reason(id, self.candidate, message).help(help);
        finding.severity = Severity::Warning;
        self.verdict = self.verdict.max(Verdict::Unknown);
        self.reasons.push(finding);
    }
}

fn judge(host: &Host<'_>, candidate: &Candidate) -> Judgement {
    let mut case = Case {
        candidate,
        service: host.service(candidate.kind),
        verdict: Verdict::MergesSigned,
        reasons: Vec::new(),
    };
    let mut filled = BTreeSet::new();
    match host.systemd {
        None => case.unknown(
            "systemd-unknown",
            "the version of systemd in the base can't be told",
            "give the base with --rootfs DIR or --target PROFILE",
        ),
        Some(systemd) if !systemd.is_covered() => case.unknown(
            "systemd-not-covered",
            format!("systemd {systemd} is not judged, only {}", covered()),
            "check it on a machine with that version",
        ),
        Some(_) if naming(&mut case) == Effect::Skipped => {}
        Some(systemd) => {
            protection::option(systemd, &mut case);
            match &candidate.image {
                Image::Disk(ddi, report, sidecars) => {
                    disk(host, systemd, ddi, report, sidecars, &mut case);
                    filled = ddi
                        .content
                        .as_ref()
                        .map(|it| it.filled.clone())
                        .unwrap_or_default();
                }
                Image::Folder {
                    content, in_usr, ..
                } => {
                    folder(host, systemd, content, *in_usr, &mut case);
                    filled = content.filled.clone();
                }
                Image::Unreadable(why) => case.worsen(
                    Verdict::BlocksAll,
                    "image-unreadable",
                    why.clone(),
                    citations::STAGE_A,
                    "remove the file, or replace it with an intact image",
                ),
                Image::Other(what) => case.unknown(
                    "not-judged",
                    format!("{what} is not judged"),
                    "look at it on the booted system",
                ),
            }
            overlay_name(&mut case);
        }
    }
    Judgement {
        kind: candidate.kind,
        name: candidate.name.clone(),
        path: candidate.path.clone(),
        listed: candidate.at.is_some(),
        verdict: case.verdict,
        reasons: case.reasons,
        filled,
    }
}

/// What systemd makes of the name before it looks at the extension.
fn naming(case: &mut Case<'_>) -> Effect {
    let (effect, message) = extension_name::effect(&case.candidate.name);
    match effect {
        Effect::Taken | Effect::BreaksOverlay => {}
        Effect::Skipped => case.bad_name(Verdict::Ignored, message, citations::NAME),
        Effect::BlocksAll => case.bad_name(Verdict::BlocksAll, message, extension_name::BREAKS),
    }
    effect
}

/// What the name of an accepted extension does to the mount.
fn overlay_name(case: &mut Case<'_>) {
    if let (Effect::BreaksOverlay, message) = extension_name::effect(&case.candidate.name)
        && case.verdict.merges()
    {
        case.bad_name(Verdict::BlocksAll, message, extension_name::BREAKS);
    }
}

/// Problems that are judged where it is known whether systemd looks at that part.
const JUDGED_WITH_VERITY: &[&str] = &[
    "signature-unusable",
    "signature-malformed",
    "verity-superblock",
];

fn disk(
    host: &Host<'_>,
    systemd: SystemdBuild,
    ddi: &Ddi,
    report: &Report,
    sidecars: &Sidecars,
    case: &mut Case<'_>,
) {
    for problem in ddi
        .problems
        .iter()
        .filter(|problem| problem.is_error() && !JUDGED_WITH_VERITY.contains(&problem.id))
    {
        // A file system that only the kernel can read is no problem of the image.
        let ours = problem.id == "file-system-unreadable" && !ddi.is_readable_here();
        if !ours {
            case.worsen(
                Verdict::BlocksAll,
                problem.id,
                problem.message.clone(),
                citations::STAGE_A,
                "replace it with an intact image",
            );
        }
    }
    if let Layout::Gpt(table) = &ddi.layout
        && table.sector_size != 512
        && !systemd.has(Change::SectorSizeProbed)
    {
        case.worsen(
            Verdict::BlocksAll,
            "sector-size",
            format!(
                "the partition table is for sectors of {} bytes",
                table.sector_size
            ),
            Change::SectorSizeProbed.source(),
            "build the image for sectors of 512 bytes",
        );
    }
    mounting::judge(host, systemd, ddi, case);
    let Some(content) = &ddi.content else {
        return case.unknown(
            "content-unreadable",
            "the file system can't be read",
            "use erofs, squashfs or ext4",
        );
    };
    let name = lookup::release_name(case.candidate, systemd);
    let holder = Holder {
        name: &name,
        content,
        is_folder: false,
    };
    release::judge(host, systemd, holder, case);
    protection::judge(host, systemd, ddi, report, sidecars, case);
}

/// A folder: nothing protects it, no policy keeps it out, and without a release file it is passed over.
fn folder(
    host: &Host<'_>,
    systemd: SystemdBuild,
    content: &Content,
    in_usr: bool,
    case: &mut Case<'_>,
) {
    case.verdict = case.verdict.max(Verdict::MergesUnprotected);
    let holder = Holder {
        name: &case.candidate.name,
        content,
        is_folder: true,
    };
    release::judge(host, systemd, holder, case);
    protection::folder(systemd, case);
    if in_usr && case.verdict.merges() {
        case.worsen(
            Verdict::BlocksAll,
            "folder-in-usr",
            "the folder lies in /usr, over which it would be mounted",
            citations::FOLDER_IN_USR,
            "move it to /var/lib/extensions, or make it an image",
        );
    }
}

#[cfg(test)]
mod tests;
