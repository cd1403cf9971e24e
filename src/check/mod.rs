//! What systemd will do at boot with a set of extensions on a base.
//!
//! A prediction, not a test: it decides only what is certain for the base's
//! version of systemd, and calls everything else [`Verdict::Unknown`]. Covered
//! are disk images and folders on systemd 249 to 262. What layers hide from each
//! other is told by [`conflicts`].
//!
//! systemd works in two stages (`image_discover_and_read_metadata` and
//! `merge_subprocess`, src/sysext/sysext.c): an image whose metadata can't be
//! read, and later one that can't be mounted, end the merge of all; one that
//! does not fit the host is only left out.

pub mod conflicts;
pub mod discover;
mod lookup;
mod policy;
mod protection;
mod rules;
mod stack;
pub mod surroundings;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::arch::Arch;
use crate::base::kernel::{KernelFeatures, Support};
use crate::finding::{Finding, Severity};
use crate::image::certificate::Certificate;
use crate::image::ddi::{Content, Ddi, Fault, Layout};
use crate::image::filesystem::FsKind;
use crate::name::{self, Effect};
use crate::release::{Decision, ExtensionKind, ReleaseFields, SystemdVersion, matches};
use crate::verify::Report;

use lookup::Found as Lookup;
pub use rules::COVERED;
pub use stack::{Activation, Hierarchy, Stack};

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
    /// Whether it is an initrd, for which extensions have to say so.
    pub initrd: bool,
    /// Whether the library that dm-verity needs is installed, as far as that is known.
    pub has_cryptsetup: Option<bool>,
    /// Whether something of it could not be read, so that nothing is certain.
    pub incomplete: bool,
    /// What merges system extensions.
    pub sysext: Service<'a>,
    /// What merges configuration extensions.
    pub confext: Service<'a>,
}

impl<'a> Host<'a> {
    /// What merges extensions of a class.
    pub fn service(&self, class: ExtensionKind) -> &Service<'a> {
        match class {
            ExtensionKind::Sysext => &self.sysext,
            ExtensionKind::Confext => &self.confext,
        }
    }
}

/// What merges extensions of one class.
#[derive(Debug)]
pub struct Service<'a> {
    /// The value of `--image-policy=` at boot, if any.
    pub image_policy: Option<&'a str>,
    /// Whether the program is installed.
    pub has_tool: bool,
    /// Whether the service runs at boot.
    pub activation: Activation,
    /// Whether it runs with `--force`.
    pub force: bool,
    /// Variables that the service sets.
    pub environment: &'a BTreeMap<String, String>,
}

impl Service<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Whether a variable switches something off.
    fn is_off(&self, name: &str) -> bool {
        self.variable(name)
            .is_some_and(|value| ["0", "no", "n", "false", "f", "off"].contains(&value))
    }

    /// What is merged into, without a leading slash (`parse_env_extension_hierarchies`,
    /// src/shared/extension-util.c).
    fn hierarchies(&self, class: ExtensionKind) -> Vec<String> {
        let name = format!("SYSTEMD_{}_HIERARCHIES", class.key_prefix());
        match self.variable(&name) {
            Some(list) => {
                let paths = list
                    .split(':')
                    .map(|path| path.trim_matches('/').to_owned());
                let mut paths: Vec<String> = paths.filter(|path| !path.is_empty()).collect();
                paths.sort();
                paths.dedup();
                paths
            }
            None => class
                .hierarchies()
                .iter()
                .map(|top| (*top).to_owned())
                .collect(),
        }
    }
}

/// One extension to judge.
#[derive(Debug)]
pub struct Candidate {
    /// For which merge it is found.
    pub class: ExtensionKind,
    /// Path in the config, if it is listed there.
    pub at: Option<String>,
    /// Path on the target.
    pub path: String,
    /// The name under which systemd knows it.
    pub name: String,
    /// What is there.
    pub image: Image,
}

impl Candidate {
    /// An image that will lie at `path`; its file name gives its name.
    pub fn placed(
        class: ExtensionKind,
        at: String,
        path: String,
        image: Image,
        systemd: Option<SystemdVersion>,
    ) -> Candidate {
        Candidate {
            name: lookup::name_of(&path, class, systemd),
            class,
            at: Some(at),
            path,
            image,
        }
    }
}

/// What is there.
#[derive(Debug)]
pub enum Image {
    /// A disk image, described and with its hash tree recomputed, and what lies beside it.
    Disk(Box<Ddi>, Box<Report>, Sidecars),
    /// A folder with an OS tree.
    Folder {
        /// What it holds.
        content: Box<Content>,
        /// Whether it lies in `/usr`, so that it can't be a layer over `/usr`.
        in_usr: bool,
    },
    /// A file that is no image, or something else at which systemd gives up; the reason.
    Unreadable(String),
    /// Anything that this version does not judge.
    Other(&'static str),
}

/// Files and attributes beside an image that name its root hash (`verity_settings_load`,
/// src/shared/dissect-image.c).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// `NAME.roothash`, or the attribute `user.verity.roothash`.
    pub root_hash: Option<Vec<u8>>,
    /// `NAME.roothash.p7s`.
    pub signature: Option<Vec<u8>>,
}

/// What becomes of one extension, and why.
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, Serialize)]
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
        let confext = self.confext_stack.as_ref();
        let confext = confext.map(|stack| (ExtensionKind::Confext, stack));
        let mut stacks = [Some((ExtensionKind::Sysext, &self.stack)), confext]
            .into_iter()
            .flatten()
            // What nobody asked for may fail; with nothing listed the merge itself was asked for.
            .filter(|(kind, _)| *kind == ExtensionKind::Sysext || lists(*kind))
            .filter(|(kind, _)| lists(*kind) || !lists(ExtensionKind::Confext));
        listed.all(fine) && stacks.all(happens)
    }

    /// The stack of a class.
    pub fn stack_mut(&mut self, class: ExtensionKind) -> Option<&mut Stack> {
        match class {
            ExtensionKind::Sysext => Some(&mut self.stack),
            ExtensionKind::Confext => self.confext_stack.as_mut(),
        }
    }

    /// The stacks that there are.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        std::iter::once(&self.stack).chain(&self.confext_stack)
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
                .because(rules::SEARCH_PATH)
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
    let stack = stack::judge(host, ExtensionKind::Sysext, &of(ExtensionKind::Sysext));
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
        service: host.service(candidate.class),
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
        Some(systemd) if !rules::COVERED.contains(&systemd.major) => case.unknown(
            "systemd-not-covered",
            format!("systemd {systemd} is not judged, only 249 to 262"),
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
                Image::Folder { content, in_usr } => {
                    folder(host, systemd, content, *in_usr, &mut case);
                    filled = content.filled.clone();
                }
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
            }
            overlay_name(&mut case);
        }
    }
    Judgement {
        kind: candidate.class,
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
    let (effect, message) = name::effect(&case.candidate.name);
    let help = "rename it";
    match effect {
        Effect::Taken | Effect::BreaksOverlay => {}
        Effect::Skipped => {
            case.worsen(Verdict::Ignored, "name-refused", message, rules::NAME, help);
        }
        Effect::BlocksAll => {
            case.worsen(
                Verdict::BlocksAll,
                "name-refused",
                message,
                name::BREAKS,
                help,
            );
        }
    }
    effect
}

/// What the name of an accepted extension does to the mount.
fn overlay_name(case: &mut Case<'_>) {
    if let (Effect::BreaksOverlay, message) = name::effect(&case.candidate.name)
        && case.verdict.merges()
    {
        let help = "rename the image";
        case.worsen(
            Verdict::BlocksAll,
            "name-refused",
            message,
            name::BREAKS,
            help,
        );
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
    systemd: SystemdVersion,
    ddi: &Ddi,
    report: &Report,
    sidecars: &Sidecars,
    case: &mut Case<'_>,
) {
    for problem in ddi.problems.iter().filter(|problem| {
        problem.severity == Severity::Error && !JUDGED_WITH_VERITY.contains(&problem.id)
    }) {
        // A file system that only the kernel can read is no problem of the image.
        let ours = problem.id == "file-system-unreadable" && !ddi.is_readable_here();
        if !ours {
            case.worsen(
                Verdict::BlocksAll,
                problem.id,
                problem.message.clone(),
                rules::STAGE_A,
                "replace it with an intact image",
            );
        }
    }
    if let Layout::Gpt(table) = &ddi.layout
        && table.sector_size != 512
        && systemd.major < 253
    {
        case.worsen(
            Verdict::BlocksAll,
            "sector-size",
            format!(
                "the partition table is for sectors of {} bytes",
                table.sector_size
            ),
            rules::SECTOR_SIZE,
            "build the image for sectors of 512 bytes",
        );
    }
    file_system(host, systemd, ddi, case);
    let Some(content) = &ddi.content else {
        return case.unknown(
            "content-unreadable",
            "the file system can't be read",
            "use erofs, squashfs or ext4",
        );
    };
    let in_folder = false;
    let name = lookup::release_name(case.candidate, systemd);
    release(host, systemd, &name, content, in_folder, case);
    protection::judge(host, systemd, ddi, report, sidecars, case);
}

/// A folder: nothing protects it, no policy keeps it out, and without a release file it is passed over.
fn folder(
    host: &Host<'_>,
    systemd: SystemdVersion,
    content: &Content,
    in_usr: bool,
    case: &mut Case<'_>,
) {
    case.verdict = case.verdict.max(Verdict::MergesUnprotected);
    let name = case.candidate.name.clone();
    release(host, systemd, &name, content, true, case);
    if in_usr && case.verdict.merges() {
        case.worsen(
            Verdict::BlocksAll,
            "folder-in-usr",
            "the folder lies in /usr, over which it would be mounted",
            rules::FOLDER_IN_USR,
            "move it to /var/lib/extensions, or make it an image",
        );
    }
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
        FsKind::Btrfs => kernel.btrfs,
        FsKind::Vfat => kernel.vfat,
        FsKind::Xfs => kernel.xfs,
        FsKind::F2fs => kernel.f2fs,
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
fn release(
    host: &Host<'_>,
    systemd: SystemdVersion,
    name: &str,
    content: &Content,
    in_folder: bool,
    case: &mut Case<'_>,
) {
    let class = case.candidate.class;
    // Folders are looked at for system extensions only, images whatever they are.
    let forbidden = content.has_os_release && (!in_folder || class == ExtensionKind::Sysext);
    if forbidden {
        // A folder and the folder `os-release` fail where metadata is read, which nothing forces.
        let verdict = match systemd.major {
            _ if content.os_release_is_folder && !in_folder => Some(Verdict::BlocksAll),
            254.. if in_folder => Some(Verdict::BlocksAll),
            _ if case.service.force => None,
            ..=253 => Some(Verdict::BlocksAll),
            _ => Some(Verdict::Ignored),
        };
        if let Some(verdict) = verdict {
            case.worsen(
                verdict,
                "os-release-inside",
                "it holds /usr/lib/os-release",
                rules::FORBIDDEN_CONTENT,
                "build it without that file",
            );
        }
    }
    let fields = match lookup::release_file(content, name, class, systemd) {
        Lookup::One(release) if release.fault == Some(Fault::Unreadable) && !in_folder => {
            let problem = release.problem.as_deref().unwrap_or("it can't be read");
            return case.worsen(
                Verdict::BlocksAll,
                "release-file-unreadable",
                format!("reading extension-release.{name}: {problem}"),
                rules::RELEASE_FILE,
                "make it a regular file",
            );
        }
        Lookup::One(release) => release.fields.clone().unwrap_or_default(),
        Lookup::Unknown => {
            return case.unknown(
                "release-file-unknown",
                format!("the image has no extension-release.{name}, and whether another one counts can't be read from this file system"),
                "name the image after its release file",
            );
        }
        Lookup::None => return no_release_file(systemd, name, content, in_folder, case),
    };
    if case.service.force {
        return;
    }
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
        class,
        host.initrd,
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

/// Folders are passed over; an image is, too, if it looks like an OS or an extension of the other
/// class, and else ends the merge.
fn no_release_file(
    systemd: SystemdVersion,
    name: &str,
    content: &Content,
    in_folder: bool,
    case: &mut Case<'_>,
) {
    let class = case.candidate.class;
    let others: Vec<&str> = content
        .releases
        .iter()
        .filter(|release| release.kind == class)
        .map(|release| release.suffix.as_str())
        .collect();
    let found = match others.as_slice() {
        [] => "none".to_owned(),
        others => others.join(", "),
    };
    let of_other_class = content
        .releases
        .iter()
        .any(|release| release.kind != class && release.suffix == name && release.fault.is_none());
    let message = format!("expected a release file for `{name}`, found {found}");
    let help = match others.first() {
        Some(other) if in_folder => format!("name the folder {other}"),
        Some(other) => format!("name the image {other}.raw"),
        None => "build it with a release file".to_owned(),
    };
    let looks_like_os = content.has_os_release || content.has_etc_os_release;
    let passed_over = in_folder || looks_like_os || (of_other_class && systemd.major >= 255);
    let (verdict, rule) = match (in_folder, passed_over) {
        (true, _) => (Verdict::Ignored, rules::RELEASE_FILE_OF_FOLDER),
        (false, true) if case.service.force => return,
        (false, true) => (Verdict::Ignored, rules::RELEASE_FILE),
        (false, false) => (Verdict::BlocksAll, rules::RELEASE_FILE),
    };
    if in_folder && case.service.force {
        return;
    }
    case.worsen(verdict, "release-file-missing", message, rule, &help);
}
