//! What an editor makes of our schemas: the language server of VS Code's YAML extension completes,
//! explains and underlines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::language_server::{Offer, Server};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn schema() -> PathBuf {
    root().join("schema/prism-sysext.schema.json")
}

/// The descriptions of the keys of a definition in the schema.
fn described(definition: &str) -> BTreeMap<String, String> {
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema()).unwrap()).unwrap();
    let keys = schema["$defs"][definition]["properties"].as_object();
    keys.unwrap()
        .iter()
        .map(|(key, about)| {
            let about = about["description"].as_str().unwrap();
            (key.clone(), about.to_owned())
        })
        .collect()
}

/// What is offered, by label; an object with required keys is offered as a whole, too, which goes.
fn keys(offers: Vec<Offer>, definition: &str) -> BTreeMap<String, String> {
    offers
        .into_iter()
        .filter(|offer| offer.label != definition)
        .map(|offer| (offer.label, offer.about))
        .collect()
}

fn labels(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| offer.label.as_str()).collect()
}

#[test]
fn every_key_is_offered_with_its_description() {
    let Some(mut server) = Server::start(Some(&schema())) else {
        return;
    };
    for (text, definition) in [
        ("sysext:\n  |\n", "Sysext"),
        ("sysext:\n  extensions:\n  - |\n", "Extension"),
        (
            "sysext:\n  extensions:\n  - image:\n      |\n",
            "ImageSource",
        ),
        (
            "sysext:\n  extensions:\n  - tar:\n      |\n",
            "ArchiveSource",
        ),
        (
            "sysext:\n  extensions:\n  - name: a\n    files:\n    - |\n",
            "FileEntry",
        ),
        (
            "sysext:\n  extensions:\n  - name: a\n    release:\n      |\n",
            "Release",
        ),
        ("sysext:\n  certificates:\n  - |\n", "CertificateEntry"),
        ("sysext:\n  target:\n    |\n", "Target"),
        ("sysext:\n  signer:\n    |\n", "Signer"),
        ("os:\n  |\n", "Prism.OS"),
        ("os:\n  additionalFiles:\n  - |\n", "Prism.AdditionalFile"),
    ] {
        let offered = keys(server.offers(text), definition);
        assert_eq!(offered, described(definition), "{text}");
    }
    // What is there is not offered again, and what is needed comes with the key.
    let rest = server.offers("sysext:\n  extensions: [a.raw]\n  |\n");
    assert!(!labels(&rest).contains(&"extensions"));
    let top = server.offers("sys|\n");
    let section = top.iter().find(|offer| offer.label == "sysext").unwrap();
    assert!(section.text.contains("extensions:\n"), "{section:?}");
}

#[test]
fn every_word_is_offered() {
    let Some(mut server) = Server::start(Some(&schema())) else {
        return;
    };
    let extension = |key: &str| format!("sysext:\n  extensions:\n  - name: a\n    {key}: |\n");
    let of_section = |key: &str| format!("sysext:\n  {key}: |\n");
    for (text, expected) in [
        (of_section("enable"), vec!["script", "service", "none"]),
        (
            of_section("location"),
            vec!["/var/lib/extensions", "/etc/extensions"],
        ),
        (of_section("imagePolicy"), vec!["default", "signed"]),
        (
            extension("verity"),
            vec!["signed", "defer", "hash", "none", "false", "true", "null"],
        ),
        (extension("format"), vec!["erofs", "squashfs", "ext4"]),
        (
            extension("compression"),
            vec!["auto", "none", "lz4", "lz4hc", "zstd", "zstd:19", "null"],
        ),
        (
            "os:\n  selinux:\n    mode: |\n".to_owned(),
            vec![
                "disabled",
                "permissive",
                "enforcing",
                "force-enforcing",
                "null",
            ],
        ),
        (
            "os:\n  overlays:\n  - isInitrdOverlay: |\n".to_owned(),
            vec!["true", "false", "null"],
        ),
    ] {
        assert_eq!(labels(&server.offers(&text)), expected, "{text}");
    }
    let targets = server.offers(&of_section("target"));
    assert!(labels(&targets).contains(&"azurelinux-3.0"), "{targets:?}");
    let modes = server.offers(&extension("verity"));
    assert_eq!(modes[0].about, "dm-verity with a signature.");
}

#[test]
fn a_key_is_explained() {
    let Some(mut server) = Server::start(Some(&schema())) else {
        return;
    };
    for (text, definition, key) in [
        ("sysext:\n  exten|sions: [a.raw]\n", "Sysext", "extensions"),
        ("sysext:\n  en|able: none\n", "Sysext", "enable"),
        ("sysext:\n  tar|get: azurelinux-3.0\n", "Sysext", "target"),
        ("sysext:\n  verity|Key: env:KEY\n", "Sysext", "verityKey"),
        (
            "sysext:\n  extensions:\n  - na|me: a\n",
            "Extension",
            "name",
        ),
        (
            "sysext:\n  extensions:\n  - ver|ity: hash\n",
            "Extension",
            "verity",
        ),
        (
            "sysext:\n  extensions:\n  - im|age: a.raw\n",
            "Extension",
            "image",
        ),
        (
            "sysext:\n  extensions:\n  - release: {i|d: a}\n",
            "Release",
            "id",
        ),
        ("sysext:\n  signer: {comm|and: [a]}\n", "Signer", "command"),
        ("os:\n  host|name: a\n", "Prism.OS", "hostname"),
        (
            "os:\n  selinux: {mo|de: disabled}\n",
            "Prism.SELinux",
            "mode",
        ),
    ] {
        let about = &described(definition)[key];
        let shown = server.hover(text);
        assert!(shown.contains(about), "{text}: {about}\n{shown}");
    }
    // With the words, each described.
    let shown = server.hover("sysext:\n  extensions:\n  - ver|ity: hash\n");
    assert!(
        shown.contains("`defer`: dm-verity with room for a signature"),
        "{shown}"
    );
}

/// A document in which exactly one thing is underlined, the first place of this text, and what is said of it.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "sysext:\n  extensions: [a.raw]\n  certificats: [a.crt]\n",
        "certificats",
        "Property certificats is not allowed.",
    ),
    (
        "sysext:\n  extensions:\n  - nmae: a\n",
        "nmae",
        "Property nmae is not allowed.",
    ),
    (
        "sysext:\n  extensions:\n  - name: a\n    files:\n    - {destnation: /usr/a, content: x}\n",
        "destnation",
        "Property destnation is not allowed.",
    ),
    (
        "sysext:\n  extensions: [{image: {path: a, sha: b}}]\n",
        "sha",
        "Property sha is not allowed.",
    ),
    (
        "sysext:\n  extensions: [a.raw]\n  target: {osrelease: x}\n",
        "osrelease",
        "Expected the name of a profile, or osRelease,",
    ),
    (
        "sysext:\n  extensions: [a.raw]\n  target: azurelinux-3\n",
        "azurelinux-3",
        "Expected the name of a profile, or osRelease,",
    ),
    (
        "sysext:\n  extensions: []\n",
        "[]",
        "Array has too few items.",
    ),
    (
        "sysext:\n  enable: none\n",
        "sysext",
        "Missing property \"extensions\".",
    ),
    (
        "sysext:\n  extensions: a.raw\n",
        "a.raw",
        "Incorrect type. Expected \"array\".",
    ),
    (
        "sysext:\n  extensions:\n  - name: a\n    verity: sometimes\n",
        "sometimes",
        "Value is not accepted. Valid values: \"signed\", \"defer\",",
    ),
    (
        "sysext:\n  extensions:\n  - name: a\n    format: 7\n",
        "7",
        "Value is not accepted. Valid values: \"erofs\",",
    ),
    (
        "sysext:\n  extensions:\n  - name: a\n    compression: zstd:77\n",
        "zstd:77",
        "String does not match the pattern",
    ),
    (
        "sysext:\n  extensions:\n  - name: a\n    files:\n    - {destination: /usr/a, content: x, permissions: '0888'}\n",
        "'0888'",
        "String does not match the pattern",
    ),
    (
        "os:\n  hostnam: x\n",
        "hostnam",
        "Property hostnam is not allowed.",
    ),
    (
        "os:\n  additionalFiles:\n  - {source: a, content: BOTH, destination: /x}\n",
        "BOTH",
        "`content` does not go with `source`.",
    ),
    (
        "os:\n  selinux: {mode: maybe}\n",
        "maybe",
        "Value is not accepted. Valid values: \"disabled\",",
    ),
    (
        "os:\n  overlays:\n  - {lowerDirs: [/a], upperDir: /b, workDir: /c, mountPoint: /d, isInitrdOverlay: yess}\n",
        "yess",
        "Expected true or false.",
    ),
];

#[test]
fn a_mistake_is_underlined_where_it_is() {
    let Some(mut server) = Server::start(Some(&schema())) else {
        return;
    };
    for (text, wrong, message) in WRONG {
        let found = server.diagnostics(text);
        let [one] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        let before = &text[..text.find(wrong).unwrap()];
        let line = before.matches('\n').count() as u64;
        let column = (before.len() - before.rfind('\n').map_or(0, |at| at + 1)) as u64;
        let end = column + wrong.len() as u64;
        assert_eq!(
            (one.from, one.to),
            ((line, column), (line, end)),
            "{text}: {one:?}"
        );
        assert!(one.message.starts_with(message), "{text}: {one:?}");
    }
}

/// All YAML files below a folder that have a section or are Prism's.
fn good() -> Vec<PathBuf> {
    let files = |folder: &str| {
        let entries = walkdir::WalkDir::new(root().join(folder)).into_iter();
        entries.map(|entry| entry.unwrap().into_path())
    };
    let is_example = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".yaml") && !path.ends_with("ci/github-actions.yaml")
    };
    files("testdata/valid")
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .chain(files("examples").filter(is_example))
        .collect()
}

#[test]
fn nothing_is_underlined_in_what_is_good() {
    let Some(mut server) = Server::start(Some(&schema())) else {
        return;
    };
    let files = good();
    assert!(files.len() >= 60, "{}", files.len());
    for file in files {
        let found = server.diagnostics(&fs::read_to_string(&file).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

#[test]
fn the_first_line_of_a_config_names_its_schema() {
    let Some(mut server) = Server::start(None) else {
        return;
    };
    let modeline = |name: &str| {
        let path = root().join("schema").join(name);
        format!(
            "# yaml-language-server: $schema=file://{}\n",
            path.display()
        )
    };
    let whole = modeline("prism-sysext.schema.json");
    assert!(
        server
            .diagnostics("sysext:\n  certificats: []\n")
            .is_empty(),
        "no schema, no opinion"
    );
    let found = server.diagnostics(&format!("{whole}os:\n  hostnam: x\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].from, found[0].to), ((2, 2), (2, 9)));
    let offers = server.offers(&format!("{whole}sysext:\n  |\n"));
    assert_eq!(keys(offers, "Sysext"), described("Sysext"));

    // The schema of the section, for a file that holds it alone.
    let block = modeline("sysext.schema.json");
    let offers = server.offers(&format!("{block}extensions:\n- |\n"));
    assert_eq!(keys(offers, "Extension"), described("Extension"));
    let found = server.diagnostics(&format!("{block}extensions: [a.raw]\nenabel: none\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].from, found[0].to), ((2, 0), (2, 6)));
    let shown = server.hover(&format!("{block}extensions: [a.raw]\nen|able: none\n"));
    assert!(shown.contains(&described("Sysext")["enable"]), "{shown}");
}
