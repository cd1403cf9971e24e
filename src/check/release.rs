//! The release file: whether there is one, and whether it fits the base.

use super::lookup::Found;
use super::{Case, Host, Verdict, lookup};
use crate::image::dissect::{Content, Fault};
use crate::systemd::arch::Arch;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::citations;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::{Decision, matches};

/// An extension whose release file is looked for.
#[derive(Clone, Copy)]
pub(super) struct Holder<'a> {
    /// The name that the release file must have.
    pub(super) name: &'a str,
    /// What the extension holds.
    pub(super) content: &'a Content,
    /// Whether it is a folder and no image.
    pub(super) is_folder: bool,
}

/// Judges whether the release file is found, and fits the base.
pub(super) fn judge(
    host: &Host<'_>,
    systemd: SystemdBuild,
    holder: Holder<'_>,
    case: &mut Case<'_>,
) {
    let Holder {
        name,
        content,
        is_folder,
    } = holder;
    let kind = case.candidate.kind;
    // Folders are looked at for system extensions only, images whatever they are.
    let forbidden = content.has_os_release && (!is_folder || kind == ExtensionKind::Sysext);
    if forbidden {
        // A folder and the folder `os-release` fail where metadata is read, which nothing forces.
        let verdict = match systemd.has(Change::ForbiddenContent) {
            _ if content.os_release_is_folder && !is_folder => Some(Verdict::BlocksAll),
            true if is_folder => Some(Verdict::BlocksAll),
            _ if case.service.force => None,
            true => Some(Verdict::Ignored),
            false => Some(Verdict::BlocksAll),
        };
        if let Some(verdict) = verdict {
            case.worsen(
                verdict,
                "os-release-inside",
                "it holds /usr/lib/os-release",
                Change::ForbiddenContent.source(),
                "build it without that file",
            );
        }
    }
    let fields = match lookup::release_file(content, name, kind, systemd) {
        Found::One(release) if release.fault == Some(Fault::Unreadable) && !is_folder => {
            let problem = release.problem.as_deref().unwrap_or("it can't be read");
            return case.worsen(
                Verdict::BlocksAll,
                "release-file-unreadable",
                format!("reading extension-release.{name}: {problem}"),
                citations::RELEASE_FILE,
                "make it a regular file",
            );
        }
        Found::One(release) => release.fields.clone().unwrap_or_default(),
        Found::Unknown => {
            return case.unknown(
                "release-file-unknown",
                format!("the image has no extension-release.{name}, and whether another one counts can't be read from this file system"),
                "name the image after its release file",
            );
        }
        Found::None => return missing(systemd, holder, case),
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
        kind,
        host.initrd,
    ) {
        Decision::Accepted => {}
        Decision::Ignored(refusal) => case.worsen(
            Verdict::Ignored,
            refusal.id,
            refusal.message,
            citations::RELEASE_MATCH,
            "make `release` and `arch` agree with the base, or leave them out; a prebuilt image must have been built for this base",
        ),
        Decision::HostUnusable(refusal) => {
            case.worsen(
                Verdict::BlocksAll,
                refusal.id,
                refusal.message,
                citations::RELEASE_MATCH,
                "mend the base's os-release",
            );
        }
    }
}

/// Folders are passed over; an image is, too, if it looks like an OS or an extension of the other
/// kind, and else ends the merge.
fn missing(systemd: SystemdBuild, holder: Holder<'_>, case: &mut Case<'_>) {
    let Holder {
        name,
        content,
        is_folder,
    } = holder;
    let kind = case.candidate.kind;
    let others: Vec<&str> = content
        .releases
        .iter()
        .filter(|release| release.kind == kind)
        .map(|release| release.suffix.as_str())
        .collect();
    let found = match others.as_slice() {
        [] => "none".to_owned(),
        others => others.join(", "),
    };
    let of_other_class = content
        .releases
        .iter()
        .any(|release| release.kind != kind && release.suffix == name && release.fault.is_none());
    let message = format!("expected a release file for `{name}`, found {found}");
    let help = match others.first() {
        Some(other) if is_folder => format!("name the folder {other}"),
        Some(other) => format!("name the image {other}.raw"),
        None => "build it with a release file".to_owned(),
    };
    let looks_like_os = content.has_os_release || content.has_etc_os_release;
    let by_class = systemd.has(Change::ReleaseFileByClass);
    let passed_over = is_folder || looks_like_os || (of_other_class && by_class);
    let (verdict, rule) = match (is_folder, passed_over) {
        (true, _) => (Verdict::Ignored, citations::RELEASE_FILE_OF_FOLDER),
        (false, true) if case.service.force => return,
        (false, true) => (Verdict::Ignored, citations::RELEASE_FILE),
        (false, false) => (Verdict::BlocksAll, citations::RELEASE_FILE),
    };
    if is_folder && case.service.force {
        return;
    }
    case.worsen(verdict, "release-file-missing", message, rule, &help);
}
