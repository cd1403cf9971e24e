//! One extension: its source, and which keys go with that.

use super::files::{inside_hierarchy, one_file};
use super::glob_syntax;
use super::signing::{certificate, effective_verity, key_text, signing_keys};
use crate::config::model::{
    CompressionSetting, Delivery, Extension, Format, ImagePolicy, LinkEntry, RepairKind, SourceKey,
    Sysext, VerityMode,
};
use crate::finding::Finding;
use crate::finding::suggest::nearest;
use crate::systemd::arch::Arch;
use crate::systemd::extension_name;
use crate::systemd::kind::ExtensionKind;

pub(super) fn one_extension(
    sysext: &Sysext,
    extension: &Extension,
    at: &str,
    findings: &mut Vec<Finding>,
) {
    let at_key = |key: &str| format!("{at}.{key}");
    let sources = extension.sources();
    if sources.len() != 1 {
        let keys: Vec<&str> = sources.iter().map(|source| source.key()).collect();
        let found = match keys.is_empty() {
            true => "none".to_owned(),
            false => keys.join(" and "),
        };
        findings.push(
            Finding::error(
                "one-source",
                format!("expected one source of content, found {found}"),
            )
            .at(at)
            .help("give exactly one of `image`, `tree` (with or without `files`), `files`, `tar`, `oci`, `mkosi`"),
        );
    }
    repair(extension, at, findings);
    let written = extension.compression.as_deref().map(str::parse);
    match written {
        Some(Err(message)) => {
            findings.push(Finding::error("unknown-value", message).at(at_key("compression")));
        }
        Some(Ok(
            CompressionSetting::Lz4 | CompressionSetting::Lz4hc | CompressionSetting::Zstd(_),
        )) if extension.format == Format::Ext4 => {
            let finding = Finding::error("no-compression", "ext4 has no compression");
            let finding = finding.at(at_key("compression"));
            findings.push(finding.help("leave `compression` out, or use `format: erofs`"));
        }
        _ => {}
    }
    key_text(
        extension.verity_key.as_ref(),
        &at_key("verityKey"),
        findings,
    );
    key_text(
        extension.verity_key_passphrase.as_ref(),
        &at_key("verityKeyPassphrase"),
        findings,
    );
    let (signer, key) = (extension.signer.as_ref(), extension.verity_key.as_ref());
    signing_keys(signer, key, at, findings);
    if let Some(text) = &extension.name
        && let Err(finding) = extension_name::check(text)
    {
        findings.push(finding.at(at_key("name")));
    }
    if let Some(version) = &extension.version
        && (version.is_empty()
            || !version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-+~^".contains(c)))
    {
        findings.push(
            Finding::error("version-refused", format!("`{version}` is not a version"))
                .at(at_key("version"))
                .help("use letters, digits and `._-+~^`"),
        );
    }
    if extension.versioned_name && extension.version.is_none() {
        findings.push(
            Finding::error("missing-key", "`versionedName` needs `version`")
                .at(at_key("versionedName")),
        );
    }
    let none = Vec::new();
    let archive = extension.tar.as_ref().or(extension.oci.as_ref());
    let (include, exclude) = match archive {
        Some(archive) => (&archive.include, &archive.exclude),
        None => (&none, &none),
    };
    let source = if extension.tar.is_some() {
        "tar"
    } else {
        "oci"
    };
    for (key, patterns) in [
        ("expect".to_owned(), &extension.expect),
        ("forbid".to_owned(), &extension.forbid),
        (format!("{source}.include"), include),
        (format!("{source}.exclude"), exclude),
    ] {
        glob_syntax(patterns, &at_key(&key), findings);
    }
    match sources.as_slice() {
        [SourceKey::Image(image)] => prebuilt(extension, image.sha256.as_deref(), at, findings),
        [SourceKey::Tree(_) | SourceKey::Files | SourceKey::Tar(_) | SourceKey::Oci(_)] => {
            built(sysext, extension, at, findings);
        }
        // What mkosi's files come to is judged in their place.
        [SourceKey::Mkosi] | [] | [_, _, ..] => {}
    }
}

/// Only prebuilt images are repaired, and of those none that must stay as it is.
fn repair(extension: &Extension, at: &str, findings: &mut Vec<Finding>) {
    let auto = extension.repair.is_wanted();
    if extension.repair.exceptions().contains(&RepairKind::Outside) {
        let message = "files that are never merged can't be kept in a repaired image";
        findings.push(
            Finding::error("wrong-value", message)
                .at(format!("{at}.repair.except"))
                .help("leave `outside` out; by itself it is never the reason for a repair"),
        );
    }
    let mut without_effect = |key: &str, why: &str| {
        let finding = Finding::error("key-without-effect", format!("`{key}` {why}"));
        findings.push(
            finding
                .at(format!("{at}.{key}"))
                .help(format!("remove `{key}`")),
        );
    };
    if extension.resign && !auto {
        without_effect("resign", "is for `repair: auto`");
    }
    match &extension.image {
        None if auto => without_effect("repair", "is for a prebuilt `image`"),
        Some(image) if auto && image.sha256.is_some() => findings.push(
            Finding::error(
                "repair-pinned",
                "an image pinned by `sha256` is never changed",
            )
            .at(format!("{at}.repair"))
            .help("remove `repair: auto`, or the pin"),
        ),
        _ => {}
    }
}

fn prebuilt(extension: &Extension, sha256: Option<&str>, at: &str, findings: &mut Vec<Finding>) {
    if let Some(digest) = sha256
        && !is_hex(digest, 64)
    {
        findings.push(
            Finding::error("wrong-value", "expected a SHA-256 as 64 hex digits")
                .at(format!("{at}.image.sha256")),
        );
    }
    let release = &extension.release;
    let without_effect = [
        ("versionedName", extension.versioned_name),
        ("version", extension.version.is_some()),
        ("arch", extension.arch.is_some()),
        ("layout", extension.layout != Delivery::Image),
        ("compression", extension.compression.is_some()),
        ("verity", extension.verity.is_some()),
        ("verityKey", extension.verity_key.is_some()),
        ("signer", extension.signer.is_some()),
        (
            "release",
            release.id.is_some()
                || release.version_id.is_some()
                || release.level.is_some()
                || !release.scope.is_empty(),
        ),
        ("pathLinks", !extension.path_links.is_empty()),
        ("links", !extension.links.is_empty()),
        ("seed", extension.seed.is_some()),
        ("sourceDateEpoch", extension.source_date_epoch.is_some()),
    ];
    // These say how a repaired image is built.
    let of_repair = [
        "compression",
        "verity",
        "verityKey",
        "signer",
        "seed",
        "sourceDateEpoch",
    ];
    for (key, present) in without_effect {
        if present && !(extension.repair.is_wanted() && of_repair.contains(&key)) {
            findings.push(
                Finding::error(
                    "key-without-effect",
                    format!("`{key}` says how to build, but `image` is already built"),
                )
                .at(format!("{at}.{key}"))
                .help(format!("remove `{key}`, or build from `tree` or `files`")),
            );
        }
    }
}

/// Keys that say something of an image that `layout` makes no room for.
fn layout(extension: &Extension, at: &str, findings: &mut Vec<Finding>) {
    if extension.layout == Delivery::Image {
        return;
    }
    let folder = extension.layout == Delivery::Directory;
    let without_effect = [
        ("verityKey", extension.verity_key.is_some()),
        ("signer", extension.signer.is_some()),
        ("verityCertificate", extension.verity_certificate.is_some()),
        ("format", folder && extension.format != Format::Erofs),
        ("compression", folder && extension.compression.is_some()),
        ("seed", folder && extension.seed.is_some()),
    ];
    for (key, _) in without_effect.iter().filter(|(_, present)| *present) {
        let layout = extension.layout.word();
        findings.push(
            Finding::error(
                "key-without-effect",
                format!("`{key}` means nothing with `layout: {layout}`"),
            )
            .at(format!("{at}.{key}"))
            .help(format!("remove `{key}`, or `layout: {layout}`")),
        );
    }
}

fn built(sysext: &Sysext, extension: &Extension, at: &str, findings: &mut Vec<Finding>) {
    if extension.name.is_none() {
        findings.push(
            Finding::error("missing-key", "an extension that is built needs a `name`")
                .at(at)
                .help("add `name: …`; the image becomes NAME.raw"),
        );
    }
    layout(extension, at, findings);
    match effective_verity(sysext, extension) {
        Err(finding) => {
            let place = if extension.verity.is_some() {
                format!("{at}.verity")
            } else {
                at.to_owned()
            };
            findings.push(finding.at(place));
        }
        Ok(VerityMode::Signed) if certificate(sysext, extension).is_none() => findings.push(
            Finding::error(
                "certificate-missing",
                "a signed extension needs the certificate of its key",
            )
            .at(at)
            .help("add `verityCertificate: verity_cert.crt`; it is installed on the target"),
        ),
        Ok(verity) => {
            // No policy says anything of folders.
            if sysext.image_policy == ImagePolicy::Signed
                && extension.layout != Delivery::Directory
                && matches!(verity, VerityMode::Hash | VerityMode::None)
            {
                findings.push(
                    Finding::error(
                        "policy-refuses-extension",
                        format!("`imagePolicy: signed` refuses this extension, which has `verity: {}`", verity.word()),
                    )
                    .at(at)
                    .because("a policy violation aborts the whole merge (merge_subprocess, src/sysext/sysext.c)")
                    .help(match extension.layout {
                        Delivery::Bare => "leave `layout` out and sign it, or use `imagePolicy: default`",
                        _ => "sign it, or use `imagePolicy: default`",
                    }),
                );
            }
        }
    }
    if let Some(arch) = &extension.arch
        && arch != "any"
        && Arch::parse(arch).is_none()
    {
        let known: Vec<&str> = Arch::all().map(Arch::name).collect();
        let help = nearest(arch, &known).map_or_else(
            || "use systemd's name, such as x86-64 or arm64, or `any`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        findings.push(
            Finding::error("unknown-value", format!("`{arch}` is not an architecture"))
                .at(format!("{at}.arch"))
                .help(help),
        );
    }
    if let Some(seed) = &extension.seed
        && !is_hex(seed, 64)
    {
        findings.push(
            Finding::error("wrong-value", "expected a seed of 64 hex digits")
                .at(format!("{at}.seed")),
        );
    }
    if extension.kind == ExtensionKind::Confext && !extension.path_links.is_empty() {
        let message = "`pathLinks` makes links in /usr/bin, and a configuration extension is /etc";
        let finding = Finding::error("key-without-effect", message);
        let help = "remove it; programs belong in an extension of `kind: sysext`";
        findings.push(finding.at(format!("{at}.pathLinks")).help(help));
    }
    for (index, program) in extension.path_links.iter().enumerate() {
        if program.is_empty() || program.contains('/') {
            findings.push(
                Finding::error(
                    "wrong-value",
                    format!("`{program}` is not the name of a program"),
                )
                .at(format!("{at}.pathLinks[{index}]"))
                .help("give the file name without folders"),
            );
        }
    }
    for (index, link) in extension.links.iter().enumerate() {
        let at = format!("{at}.links[{index}]");
        findings
            .extend(one_link(link, extension.kind).map(|(key, it)| it.at(format!("{at}.{key}"))));
    }
    for (index, file) in extension.files.iter().enumerate() {
        one_file(
            file,
            extension.kind,
            &format!("{at}.files[{index}]"),
            findings,
        );
    }
}

/// What is wrong with a link, and with which of its keys.
fn one_link(link: &LinkEntry, kind: ExtensionKind) -> Option<(&'static str, Finding)> {
    let places = kind.places();
    if !inside_hierarchy(&link.path, kind) {
        let message = format!("`{}` is not a place below {places}", link.path);
        let finding = Finding::error("outside-hierarchy", message)
            .because(format!(
                "systemd merges {places} of a {} and nothing else",
                kind.noun()
            ))
            .help(format!(
                "choose an absolute path below {places}, without `..`"
            ));
        return Some(("path", finding));
    }
    // What symlink(2) refuses.
    let wrong = link.target.is_empty() || link.target.contains('\0') || link.target.len() > 4095;
    wrong.then(|| {
        let message = "expected the target of a link: 1 to 4095 bytes, none of them zero";
        ("target", Finding::error("wrong-value", message))
    })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
