//! What is said of a plan as a whole.

use std::collections::BTreeSet;
use std::path::Path;

use super::Planned;
use crate::config::Config;
use crate::config::model::{CertificateLocation, KeyReference, OverlayConflict, Sysext, Verity};
use crate::config::prism::cleaned;
use crate::finding::Finding;
use crate::plan::signing::SigningKey;
use crate::plan::{Plan, Step};
use crate::systemd::drop_in::CONFEXT_COPY;
use crate::systemd::extension_name;

pub(super) fn name_clashes(extensions: &[Planned]) -> Vec<Finding> {
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
pub(super) fn odd_names(plan: &Plan) -> Vec<Finding> {
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
pub(super) fn unused_certificates(plan: &Plan) -> Vec<Finding> {
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
pub(super) fn key_places(config: &Config, extensions: &[Planned]) -> Vec<Finding> {
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
