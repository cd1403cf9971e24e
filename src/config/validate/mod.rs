//! What the block says beyond its types: combinations, names, paths.
//!
//! Looks at the config alone; files, keys and the base are the plan's business.
//! All findings are returned at once, in the order of the file.

mod extension;
mod files;
mod signing;

use super::model::{ImagePolicy, Sysext};
use super::pitfalls::scripts;
use super::{Config, pitfalls};
use crate::finding::Finding;
use crate::systemd::extension_name;
use crate::systemd::kind::ExtensionKind;
use extension::one_extension;
use signing::{key_text, signing_keys};

pub use files::{could_take_folder, inside_hierarchy};
pub(crate) use signing::effective_verity;
pub use signing::{SignedBy, certificate, signed_by};

/// Checks the whole block; empty if there is none.
pub fn validate(config: &Config) -> Vec<Finding> {
    let mut findings = config.notes.clone();
    let Some(sysext) = &config.sysext else {
        findings.extend(pitfalls::pitfalls(config));
        return findings;
    };
    block(sysext, &mut findings);
    for (index, extension) in sysext.extensions.iter().enumerate() {
        let at = format!("sysext.extensions[{index}]");
        one_extension(sysext, extension, &at, &mut findings);
    }
    names(sysext, &mut findings);
    findings.extend(around(config));
    findings
}

/// What Prism's own sections of a config do to the extensions of its block.
pub fn around(config: &Config) -> Vec<Finding> {
    let mut findings = pitfalls::pitfalls(config);
    prism(config, &mut findings);
    findings.extend(scripts::pitfalls(&config.prism));
    findings
}

fn block(sysext: &Sysext, findings: &mut Vec<Finding>) {
    if sysext.extensions.is_empty() {
        findings.push(
            Finding::error("no-extensions", "`extensions` lists nothing")
                .at("sysext.extensions")
                .help("list at least one extension, or remove the `sysext` block"),
        );
    }
    key_text(sysext.verity_key.as_ref(), "sysext.verityKey", findings);
    signing_keys(
        sysext.signer.as_ref(),
        sysext.verity_key.as_ref(),
        "sysext",
        findings,
    );
    key_text(
        sysext.verity_key_passphrase.as_ref(),
        "sysext.verityKeyPassphrase",
        findings,
    );
    glob_syntax(&sysext.allow, "sysext.allow", findings);
    for (index, certificate) in sysext.certificates.iter().enumerate() {
        if let Some(name) = &certificate.name
            && (!name.ends_with(".crt") || name.contains('/') || name.starts_with('.'))
        {
            findings.push(
                Finding::error(
                    "certificate-name",
                    format!("`{name}` is not a name for a trusted certificate"),
                )
                .at(format!("sysext.certificates[{index}].name"))
                .because("systemd reads only `*.crt` in verity.d (src/shared/dissect-image.c)")
                .help("use a plain file name that ends in `.crt`"),
            );
        }
    }
    if let ImagePolicy::Literal(text) = &sysext.image_policy
        && (text.is_empty()
            || text
                .chars()
                .any(|c| !(c.is_ascii_alphanumeric() || "+-=:*~".contains(c))))
    {
        // It becomes part of ExecStart=, where quotes, `%` and `$` have a meaning of their own.
        findings.push(
            Finding::error(
                "image-policy-syntax",
                format!("`{text}` is not an image policy"),
            )
            .at("sysext.imagePolicy")
            .help(
                "write `default`, `signed`, or for example `root=signed+absent:usr=signed+absent`",
            ),
        );
    }
}

/// Names among those that are built; an image's name stands inside of it.
fn names(sysext: &Sysext, findings: &mut Vec<Finding>) {
    let mut earlier: Vec<(String, String)> = Vec::new();
    for (index, extension) in sysext.extensions.iter().enumerate() {
        let (None, Some(name)) = (&extension.image, extension.full_name()) else {
            continue;
        };
        let at = format!("sysext.extensions[{index}].name");
        for (other, other_at) in &earlier {
            let finding = extension_name::clash(&name, other, other_at);
            findings.extend(finding.map(|finding| finding.at(&at)));
        }
        earlier.push((name, at));
    }
}

/// Patterns that are none.
fn glob_syntax(patterns: &[String], at: &str, findings: &mut Vec<Finding>) {
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err(error) = glob::Pattern::new(pattern) {
            let message = format!("`{pattern}` is not a glob: {}", error.msg);
            findings.push(Finding::error("glob-syntax", message).at(format!("{at}[{index}]")));
        }
    }
}

/// Where Prism's own sections and ours get in each other's way.
fn prism(config: &Config, findings: &mut Vec<Finding>) {
    let services = config.prism.os.as_ref().and_then(|os| os.services.as_ref());
    let disabled = services.and_then(|services| services.disable.as_ref());
    let extensions = config.sysext.iter().flat_map(|sysext| &sysext.extensions);
    let kinds: Vec<ExtensionKind> = extensions.map(|extension| extension.kind).collect();
    for (index, unit) in disabled.into_iter().flatten().enumerate() {
        let Some(unit) = unit.as_deref() else {
            continue;
        };
        let of_unit = |kind: &&ExtensionKind| unit == kind.unit() || unit == kind.program();
        if let Some(kind) = kinds.iter().find(of_unit) {
            findings.push(
                Finding::error(
                    "service-disabled",
                    format!("`os.services.disable` switches {} off", kind.unit()),
                )
                .at(format!("os.services.disable[{index}]"))
                .because("Prism disables after it enables, so nothing would be merged at boot")
                .help("remove it from the list"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::config::source::Source;

    fn ids(text: &str) -> Vec<(&'static str, String)> {
        let source = Source::parse(Path::new("c.yaml"), text.to_owned()).unwrap();
        let config = Config::from_source(source).unwrap();
        validate(&config)
            .into_iter()
            .map(|finding| {
                (
                    finding.id,
                    finding
                        .place
                        .map(|place| place.to_string())
                        .unwrap_or_default(),
                )
            })
            .collect()
    }

    fn one(text: &str) -> (&'static str, String) {
        let mut all = ids(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn the_seeds_case_is_fine() {
        assert!(
            ids("sysext: {extensions: [kubernetes.raw], certificates: [verity_cert.crt]}\n")
                .is_empty()
        );
        assert!(ids("os: {}\n").is_empty());
        let built = "sysext:\n  verityKey: k.pem\n  verityCertificate: c.crt\n  extensions:\n  - {name: a, tree: t, files: ['x:/usr/bin/x']}\n";
        assert!(ids(built).is_empty());
    }

    #[test]
    fn protection_must_be_chosen() {
        let (id, at) = one("sysext:\n  extensions: [{name: a, tree: t}]\n");
        assert_eq!(
            (id, at.as_str()),
            ("verity-not-chosen", "sysext.extensions[0]")
        );
        assert_eq!(
            one("sysext:\n  extensions: [{name: a, tree: t, verity: signed}]\n").0,
            "key-missing"
        );
        assert_eq!(
            one("sysext:\n  extensions: [{name: a, tree: t, verityKey: k}]\n").0,
            "certificate-missing"
        );
        assert!(ids("sysext:\n  extensions: [{name: a, tree: t, verity: false}]\n").is_empty());
        let refused =
            "sysext:\n  imagePolicy: signed\n  extensions: [{name: a, tree: t, verity: hash}]\n";
        assert_eq!(one(refused).0, "policy-refuses-extension");
    }

    #[test]
    fn one_source_and_no_keys_without_effect() {
        assert_eq!(one("sysext:\n  extensions: [{name: a}]\n").0, "one-source");
        assert_eq!(
            one("sysext:\n  extensions: [{name: a, image: x, tree: t, verity: none}]\n").0,
            "one-source"
        );
        let (id, at) = one("sysext:\n  extensions: [{image: x, seed: '1'}]\n");
        assert_eq!(
            (id, at.as_str()),
            ("key-without-effect", "sysext.extensions[0].seed")
        );
        assert_eq!(one("sysext:\n  extensions: []\n").0, "no-extensions");
    }

    #[test]
    fn names_and_destinations() {
        assert_eq!(
            one("sysext:\n  extensions: [{name: 'a:b', tree: t, verity: none}]\n").0,
            "name-refused"
        );
        for bad in [
            "/etc/x",
            "usr/x",
            "/etc",
            "/usr/../etc/x",
            "/usr/..",
            "/usrx/a",
        ] {
            let text =
                format!("sysext:\n  extensions: [{{name: a, verity: none, files: ['s:{bad}']}}]\n");
            assert_eq!(
                one(&text),
                (
                    "outside-hierarchy",
                    "sysext.extensions[0].files[0]".to_owned()
                ),
                "{bad}"
            );
        }
        assert_eq!(
            one("sysext:\n  extensions: [{name: a, verity: none, files: [s]}]\n").0,
            "missing-key"
        );
    }

    #[test]
    fn compression_has_few_names() {
        for (value, id) in [("zstd:23", "unknown-value"), ("gzip", "unknown-value")] {
            let text = format!(
                "sysext:\n  extensions: [{{name: a, tree: t, verity: none, compression: {value}}}]\n"
            );
            assert_eq!(
                one(&text),
                (id, "sysext.extensions[0].compression".to_owned())
            );
        }
    }

    #[test]
    fn only_images_that_may_change_are_repaired() {
        let one_of = |text: &str| one(&format!("sysext:\n  extensions: [{{{text}}}]\n")).0;
        assert_eq!(
            one_of("name: a, tree: t, verity: none, repair: auto"),
            "key-without-effect"
        );
        assert_eq!(one_of("image: x, resign: true"), "key-without-effect");
        let pin = "0".repeat(64);
        assert_eq!(
            one_of(&format!(
                "image: {{path: x, sha256: '{pin}'}}, repair: auto"
            )),
            "repair-pinned"
        );
        assert_eq!(
            one_of("image: x, repair: auto, version: '1'"),
            "key-without-effect"
        );
        let text =
            "sysext:\n  extensions: [{image: x, repair: auto, verity: hash, compression: none}]\n";
        assert!(ids(text).is_empty());
    }

    #[test]
    fn a_key_or_its_passphrase_in_the_config_is_refused_where_it_stands() {
        for key in ["verityKey", "verityKeyPassphrase"] {
            let pem = "\"-----BEGIN X-----\\n\"";
            let of_block = format!("sysext:\n  {key}: {pem}\n  extensions: [a.raw]\n");
            let (id, at) = ("key-in-config", format!("sysext.{key}"));
            assert!(ids(&of_block).contains(&(id, at)), "{of_block}");
            let of_one = format!("sysext:\n  extensions: [{{name: a, tree: t, {key}: {pem}}}]\n");
            let at = format!("sysext.extensions[0].{key}");
            assert!(ids(&of_one).contains(&(id, at)), "{of_one}");
        }
    }

    #[test]
    fn a_configuration_extension_is_for_etc_and_has_a_service_of_its_own() {
        let text = |rest: &str, disabled: &str| {
            format!(
                "os: {{services: {{disable: [{disabled}]}}}}\nsysext:\n  extensions: [{{name: a, kind: confext, verity: none, {rest}}}]\n"
            )
        };
        assert!(ids(&text("files: ['s:/etc/x']", "systemd-sysext")).is_empty());
        let (id, _) = one(&text("files: ['s:/etc/x']", "systemd-confext.service"));
        assert_eq!(id, "service-disabled");
        assert_eq!(one(&text("files: ['s:/usr/x']", "")).0, "outside-hierarchy");
        let linked = text("tree: t, pathLinks: [x]", "");
        assert_eq!(one(&linked).0, "key-without-effect");
    }

    #[test]
    fn links_lie_in_a_hierarchy_and_lead_somewhere() {
        let text = |rest: &str| {
            format!(
                "sysext:\n  extensions: [{{name: a, tree: t, verity: none, links: [{rest}]}}]\n"
            )
        };
        assert!(
            ids(&text(
                "{path: /usr/bin/x, target: ../lib/x}, {path: /opt/y, target: /usr/y}"
            ))
            .is_empty()
        );
        for (rest, id, key) in [
            ("{path: usr/bin/x, target: y}", "outside-hierarchy", "path"),
            ("{path: /etc/x, target: y}", "outside-hierarchy", "path"),
            ("{path: /usr/../x, target: y}", "outside-hierarchy", "path"),
            ("{path: /usr/x, target: ''}", "wrong-value", "target"),
        ] {
            let place = format!("sysext.extensions[0].links[0].{key}");
            assert_eq!(one(&text(rest)), (id, place), "{rest}");
        }
        let prebuilt =
            "sysext: {extensions: [{image: a.raw, links: [{path: /usr/x, target: y}]}]}\n";
        assert_eq!(one(prebuilt).0, "key-without-effect");
    }

    #[test]
    fn a_disabled_service_is_found() {
        let text =
            "os: {services: {disable: [sshd, systemd-sysext]}}\nsysext: {extensions: [a.raw]}\n";
        assert_eq!(
            one(text),
            ("service-disabled", "os.services.disable[1]".to_owned())
        );
    }
}
