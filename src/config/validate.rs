//! What the block says beyond its types: combinations, names, paths.
//!
//! Looks at the config alone; files, keys and the base are the plan's business.
//! All findings are returned at once, in the order of the file.

use std::path::{Component, Path};

use super::Config;
use super::model::{
    Extension, FileEntry, Format, ImagePolicy, KeyReference, Layout, Signer, Sysext, Verity,
};
use super::{scripts, traps};
use crate::arch::Arch;
use crate::base::unit::unit_name;
use crate::compression::Setting;
use crate::finding::Finding;
use crate::name;
use crate::release::ExtensionKind;
use crate::repair::Mended;

/// Checks the whole block; empty if there is none.
pub fn validate(config: &Config) -> Vec<Finding> {
    let mut findings = config.notes.clone();
    let Some(sysext) = &config.sysext else {
        findings.extend(traps::traps(config));
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
    let mut findings = traps::traps(config);
    prism(config, &mut findings);
    findings.extend(scripts::traps(&config.prism));
    findings
}

/// How an extension is protected once all defaults are applied; an error says what is missing.
pub fn effective_verity(sysext: &Sysext, extension: &Extension) -> Result<Verity, Finding> {
    let has_key = signed_by(sysext, extension).is_some();
    if let Some(why) = extension.layout.without_verity() {
        return match extension.verity {
            None | Some(Verity::None) => Ok(Verity::None),
            Some(verity) => {
                let (verity, layout) = (verity.word(), extension.layout.word());
                let message = format!("`verity: {verity}` can't be had with `layout: {layout}`");
                Err(Finding::error("layout-without-verity", message)
                    .because(why)
                    .help("leave `layout` out for a disk image that is protected, or write `verity: none`"))
            }
        };
    }
    match extension.verity {
        Some(Verity::Signed) if !has_key => Err(Finding::error(
            "key-missing",
            "`verity: signed` needs a private key",
        )
        .help("add `verityKey: file:verity_key.pem` (`prism-sysext sign keygen` makes a development pair)")),
        Some(verity) => Ok(verity),
        None if has_key => Ok(Verity::Signed),
        None => Err(Finding::error(
            "verity-not-chosen",
            "there is no key, so it must be written how the image is protected",
        )
        .help("add `verityKey` and `verityCertificate` to sign it, or write `verity: none` (unprotected), `hash` or `defer`")),
    }
}

/// What signs an extension.
#[derive(Debug, Clone, Copy)]
pub enum SignedBy<'a> {
    /// A key, and its passphrase.
    Key(&'a KeyReference, Option<&'a KeyReference>),
    /// A command.
    Command(&'a Signer),
}

/// What signs this extension: its own key or command before that of all.
pub fn signed_by<'a>(sysext: &'a Sysext, extension: &'a Extension) -> Option<SignedBy<'a>> {
    let one = |key: &'a Option<KeyReference>,
               passphrase: &'a Option<KeyReference>,
               signer: &'a Option<Signer>| {
        let key = key
            .as_ref()
            .map(|key| SignedBy::Key(key, passphrase.as_ref()));
        key.or(signer.as_ref().map(SignedBy::Command))
    };
    let Extension {
        verity_key,
        verity_key_passphrase,
        signer,
        ..
    } = extension;
    let own = one(verity_key, verity_key_passphrase, signer);
    own.or(one(
        &sysext.verity_key,
        &sysext.verity_key_passphrase,
        &sysext.signer,
    ))
}

/// The certificate that belongs to that key.
pub fn certificate<'a>(sysext: &'a Sysext, extension: &'a Extension) -> Option<&'a Path> {
    extension
        .verity_certificate
        .as_deref()
        .or(sysext.verity_certificate.as_deref())
}

/// Whether a path leads below a hierarchy of an extension without `..` or repeated slashes.
pub fn inside_hierarchy(destination: &str, kind: ExtensionKind) -> bool {
    let path = Path::new(destination);
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && matches!(components.next(), Some(Component::Normal(top)) if kind.hierarchies().iter().any(|known| top == *known))
        && components.clone().count() > 0
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !destination.ends_with('/')
}

/// Whether a folder could be copied to a destination: also to a hierarchy itself, and to `/` if it
/// holds one.
pub fn could_take_folder(destination: &str, kind: ExtensionKind) -> bool {
    let below = destination.trim_end_matches('/');
    destination.starts_with('/')
        && (below.is_empty()
            || kind
                .hierarchies()
                .iter()
                .any(|top| below.strip_prefix('/') == Some(top))
            || inside_hierarchy(below, kind))
}

/// Only prebuilt images are repaired, and of those none that must stay as it is.
fn repair(extension: &Extension, at: &str, findings: &mut Vec<Finding>) {
    let auto = extension.repair.is_wanted();
    if extension.repair.exceptions().contains(&Mended::Outside) {
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
            let finding = name::clash(&name, other, other_at);
            findings.extend(finding.map(|finding| finding.at(&at)));
        }
        earlier.push((name, at));
    }
}

/// One of both signs, and a command is one.
fn signing_keys(
    signer: Option<&Signer>,
    key: Option<&KeyReference>,
    at: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(signer) = signer else { return };
    let at = format!("{at}.signer");
    if key.is_some() {
        let message = "both `signer` and `verityKey` are given, expected one of them";
        findings.push(
            Finding::error("one-signer", message)
                .at(&at)
                .help("remove one"),
        );
    }
    if signer.command.first().is_none_or(String::is_empty) {
        let finding = Finding::error("missing-key", "the signer's `command` names no program");
        findings.push(finding.at(format!("{at}.command")));
    }
    if signer.timeout_seconds == 0 || signer.retries > 10 {
        let message = "expected `timeoutSeconds` of at least 1 and at most 10 `retries`";
        findings.push(Finding::error("wrong-value", message).at(&at));
    }
}

/// A key in place of its name must not get into messages as a path.
fn glob_syntax(patterns: &[String], at: &str, findings: &mut Vec<Finding>) {
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err(error) = glob::Pattern::new(pattern) {
            let message = format!("`{pattern}` is not a glob: {}", error.msg);
            findings.push(Finding::error("glob-syntax", message).at(format!("{at}[{index}]")));
        }
    }
}

fn key_text(reference: Option<&KeyReference>, at: &str, findings: &mut Vec<Finding>) {
    let text = match reference {
        None => return,
        Some(KeyReference::File(path)) => path.to_string_lossy(),
        Some(KeyReference::Env(name)) => name.into(),
    };
    if text.contains("-----BEGIN") || text.contains('\n') {
        findings.push(
            Finding::error(
                "key-in-config",
                "the config holds a key, expected the name of a file or of a variable",
            )
            .at(at)
            .help("keep the key in a file of mode 0600 and write `file:PATH`, or use `env:NAME`; consider this key as leaked"),
        );
    }
}

fn one_extension(sysext: &Sysext, extension: &Extension, at: &str, findings: &mut Vec<Finding>) {
    let at_key = |key: &str| format!("{at}.{key}");
    let sources: Vec<&str> = [
        ("image", extension.image.is_some()),
        (
            "tree/files",
            extension.tree.is_some() || !extension.files.is_empty(),
        ),
        ("tar", extension.tar.is_some()),
        ("oci", extension.oci.is_some()),
        ("mkosi", extension.mkosi.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, present)| present.then_some(name))
    .collect();
    if sources.len() != 1 {
        let found = if sources.is_empty() {
            "none".to_owned()
        } else {
            sources.join(" and ")
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
        Some(Ok(Setting::Lz4 | Setting::Lz4hc | Setting::Zstd(_)))
            if extension.format == Format::Ext4 =>
        {
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
        && let Err(finding) = name::check(text)
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
    match &extension.image {
        Some(image) if sources == ["image"] => {
            prebuilt(extension, image.sha256.as_deref(), at, findings);
        }
        None if matches!(sources.as_slice(), ["tree/files" | "tar" | "oci"]) => {
            built(sysext, extension, at, findings);
        }
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
        ("layout", extension.layout != Layout::Image),
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
    if extension.layout == Layout::Image {
        return;
    }
    let folder = extension.layout == Layout::Directory;
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
        Ok(Verity::Signed) if certificate(sysext, extension).is_none() => findings.push(
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
                && extension.layout != Layout::Directory
                && matches!(verity, Verity::Hash | Verity::None)
            {
                findings.push(
                    Finding::error(
                        "policy-refuses-extension",
                        format!("`imagePolicy: signed` refuses this extension, which has `verity: {}`", verity.word()),
                    )
                    .at(at)
                    .because("a policy violation aborts the whole merge (merge_subprocess, src/sysext/sysext.c)")
                    .help(match extension.layout {
                        Layout::Bare => "leave `layout` out and sign it, or use `imagePolicy: default`",
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
        let help = super::nearest(arch, &known).map_or_else(
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
    for (index, file) in extension.files.iter().enumerate() {
        one_file(
            file,
            extension.kind,
            &format!("{at}.files[{index}]"),
            findings,
        );
    }
}

fn one_file(file: &FileEntry, kind: ExtensionKind, at: &str, findings: &mut Vec<Finding>) {
    let places = kind.places();
    let has_source = file
        .source
        .as_ref()
        .is_some_and(|source| !source.as_os_str().is_empty());
    if has_source == file.content.is_some() {
        findings.push(
            Finding::error(
                "one-source",
                "expected exactly one of `source` and `content`",
            )
            .at(at),
        );
    }
    match &file.destination {
        None => findings.push(
            Finding::error("missing-key", "the file has no destination")
                .at(at)
                .help(format!(
                    "write `SOURCE:/{}/…`",
                    kind.hierarchies().first().unwrap_or(&"usr")
                )),
        ),
        Some(destination)
            if !(inside_hierarchy(destination, kind)
                || (has_source && could_take_folder(destination, kind))) =>
        {
            findings.push(
                Finding::error(
                    "outside-hierarchy",
                    format!("`{destination}` is not a file below {places}"),
                )
                .at(at)
                .because(format!(
                    "systemd merges {places} of a {} and nothing else",
                    kind.noun()
                ))
                .help(format!(
                    "choose an absolute destination below {places}, without `..`"
                )),
            );
        }
        Some(_) => {}
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
        let of_unit = |kind: &&ExtensionKind| unit == unit_name(**kind) || unit == kind.program();
        if let Some(kind) = kinds.iter().find(of_unit) {
            findings.push(
                Finding::error(
                    "service-disabled",
                    format!("`os.services.disable` switches {} off", unit_name(*kind)),
                )
                .at(format!("os.services.disable[{index}]"))
                .because("Prism disables after it enables, so nothing would be merged at boot")
                .help("remove it from the list"),
            );
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_disabled_service_is_found() {
        let text =
            "os: {services: {disable: [sshd, systemd-sysext]}}\nsysext: {extensions: [a.raw]}\n";
        assert_eq!(
            one(text),
            ("service-disabled", "os.services.disable[1]".to_owned())
        );
    }
}
