//! What is said of a plan as a whole.

use std::collections::BTreeSet;
use std::path::Path;

use super::Planned;
use crate::config::Config;
use crate::config::model::{
    CertificateLocation, KeyReference, OverlayConflict, Sysext, VerityMode,
};
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
                if step.verity == VerityMode::Defer {
                    return Vec::new();
                }
            }
            Step::PrebuiltImage(taken) if taken.awaits_signature() => return Vec::new(),
            Step::PrebuiltImage(taken) => {
                for signer in taken.signers() {
                    // Told by issuer and serial alone.
                    let Some(certificate) = signer.certificate else {
                        return Vec::new();
                    };
                    used.insert(certificate.fingerprint_sha256_hex);
                }
            }
            Step::PrebuiltFolder(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::image::gpt::types::Designator;
    use crate::image::testing::{Protection, disk};
    use crate::plan::finish;
    use crate::plan::testing::{bare, config, key_pair, planned, said};

    fn one(keys: &str) -> String {
        format!("{{tree: t, verity: none, {keys}}}")
    }

    #[test]
    fn names_clash_within_their_kind_and_the_later_one_is_told() {
        for (first, second, expected) in [
            ("a", "b", vec![]),
            ("a", "a", vec!["duplicate-name sysext.extensions[1]"]),
            ("x_1", "x1", vec!["names-tie sysext.extensions[1]"]),
            ("x-1", "x1", vec![]),
            ("x1", "x01", vec!["names-tie sysext.extensions[1]"]),
        ] {
            for (kind, expected) in [("sysext", expected), ("confext", vec![])] {
                let text = format!(
                    "sysext: {{extensions: [{}, {}]}}\n",
                    one("name: p"),
                    one(&format!("name: q, kind: {kind}"))
                );
                let mut plan = planned(Path::new("/d"), &text).unwrap();
                plan.extensions[0].name = first.to_owned();
                plan.extensions[1].name = second.to_owned();
                let findings = name_clashes(&plan.extensions);
                assert_eq!(said(&findings), expected, "{first} {second} {kind}");
                let help = findings.iter().flat_map(|it| it.help.as_deref());
                assert!(
                    help.into_iter()
                        .all(|it| it.ends_with("stands at sysext.extensions[0]"))
                );
            }
        }
    }

    #[test]
    fn names_of_certificates_are_plain_where_a_unit_copies_them() {
        let dir = tempfile::tempdir().unwrap();
        key_pair(dir.path(), "c");
        for (location, name, odd) in [
            ("/run/verity.d", "c.crt", false),
            ("/run/verity.d", "A_b-1.2.crt", false),
            ("/run/verity.d", "a b.crt", true),
            ("/run/verity.d", "a%n.crt", true),
            ("/run/verity.d", "ä.crt", true),
            ("/run/verity.d", "c.confext.crt", true),
            ("/etc/verity.d", "a b.crt", false),
            ("/usr/lib/verity.d", "c.confext.crt", false),
        ] {
            let text = format!(
                "sysext: {{certificateLocation: {location}, certificates: \
                 [{{source: c.crt, name: '{name}'}}], extensions: [{}]}}\n",
                one("name: a")
            );
            let found = planned(dir.path(), &text).map(|_| ());
            let found = found.map_err(|findings| said(&findings));
            let expected = vec!["certificate-name sysext.certificates[0]".to_owned()];
            assert_eq!(
                found,
                if odd { Err(expected) } else { Ok(()) },
                "{location} {name}"
            );
        }
    }

    #[test]
    fn a_listed_certificate_without_an_extension_is_told_once_all_signers_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let (key, _) = key_pair(dir.path(), "mine");
        key_pair(dir.path(), "other");
        let data = bare("p", "ID=x\n");
        for (name, protected) in [
            ("signed", Protection::Signed(&key)),
            ("room", Protection::Room(b"")),
            ("hash", Protection::Hash),
        ] {
            let image = disk(&data, Designator::Root, protected);
            std::fs::write(dir.path().join(name), image).unwrap();
        }
        let own = "{name: a, tree: t, verityKey: k, verityCertificate: mine.crt}";
        let unused = |index: usize| format!("certificate-unused sysext.certificates[{index}]");
        for (certificates, extension, expected) in [
            ("mine.crt", own, vec![]),
            ("mine.crt, other.crt", own, vec![unused(1)]),
            ("other.crt, mine.crt", "signed", vec![unused(0)]),
            ("mine.crt, other.crt", "hash", vec![unused(0), unused(1)]),
            (
                "other.crt",
                "{name: a, tree: t, layout: directory}",
                vec![unused(0)],
            ),
            // Who will sign, is not known yet.
            ("other.crt", "room", vec![]),
            ("other.crt", "{name: a, tree: t, verity: defer}", vec![]),
        ] {
            let text =
                format!("sysext: {{certificates: [{certificates}], extensions: [{extension}]}}\n");
            let mut plan = planned(dir.path(), &text).unwrap();
            let findings = finish(&mut plan, &[]);
            assert_eq!(said(&findings), expected, "{text}");
            assert!(findings.iter().all(|it| it.severity == Severity::Warning));
        }
        // One that stands at its key is not listed.
        let text = format!("sysext: {{verityCertificate: other.crt, extensions: [{own}]}}\n");
        assert_eq!(
            said(&unused_certificates(&planned(dir.path(), &text).unwrap())),
            [""; 0]
        );
    }

    #[test]
    fn a_key_below_the_folder_of_the_config_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        key_pair(&inside, "c");
        for path in ["sub/k.pem", "../out.pem"] {
            std::fs::write(inside.join(path), "").unwrap();
        }
        std::os::unix::fs::symlink("../out.pem", inside.join("link.pem")).unwrap();
        std::os::unix::fs::symlink("inside/sub/k.pem", dir.path().join("in.pem")).unwrap();
        for (key, told) in [
            ("sub/k.pem", true),
            ("../out.pem", false),
            ("../in.pem", true),
            ("link.pem", false),
            ("gone.pem", false),
            ("env:K", false),
        ] {
            let text = format!(
                "sysext: {{verityKey: '{key}', verityCertificate: c.crt, \
                 extensions: [{{name: a, tree: t}}, {{name: b, tree: t}}]}}\n"
            );
            let plan = planned(&inside, &text).unwrap();
            let expected: &[&str] = if told {
                &["key-below-config sysext.verityKey"]
            } else {
                &[]
            };
            assert_eq!(said(&plan.findings), expected, "{key}");
        }
    }

    #[test]
    fn overlays_of_prism_on_a_hierarchy_are_told_as_the_config_wants() {
        for (mount_point, setting, expected) in [
            ("/usr", "", Some(Severity::Warning)),
            ("/opt/x/", "", Some(Severity::Warning)),
            ("/etc/../usr/lib", "", Some(Severity::Warning)),
            ("/usrlocal", "", None),
            ("/etc", "", None),
            ("/usr", ", overlayConflict: error", Some(Severity::Error)),
            ("/usr", ", overlayConflict: ignore", None),
        ] {
            let text = format!(
                "os: {{overlays: [{{mountPoint: /var}}, {{mountPoint: {mount_point}}}]}}\n\
                 sysext: {{extensions: [a.raw]{setting}}}\n"
            );
            let config = config(Path::new("/d"), &text);
            let found = overlays(&config, config.sysext.as_ref().unwrap());
            let severities = found.iter().map(|it| it.severity);
            assert!(severities.eq(expected), "{text}{found:?}");
            let places = expected.map(|_| "overlay-on-hierarchy os.overlays[1].mountPoint");
            assert!(said(&found).iter().map(String::as_str).eq(places));
        }
    }
}
