//! The schemas in `schema/` are those of the program, and an independent validator agrees with
//! the program on what is a config.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use prism_sysext::config::Config;
use prism_sysext::config::source::Source;
use prism_sysext::config::validate::validate;
use prism_sysext::output::schema;
use serde_json::Value;

use crate::harness::workspace::Workspace;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn validator() -> Validator {
    let text = fs::read_to_string(folder("schema/prism-sysext.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert!(
        jsonschema::meta::is_valid(&schema),
        "the schema is a schema"
    );
    jsonschema::validator_for(&schema).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_files_are_fresh() {
    let files = schema::files();
    for (name, text) in &files {
        let found = fs::read_to_string(folder("schema").join(name)).unwrap_or_default();
        assert!(
            found == *text,
            "schema/{name} is stale; run `cargo run -- schema --write schema` and commit the result"
        );
    }
    let mut there: Vec<_> = fs::read_dir(folder("schema"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    there.sort();
    let mut expected: Vec<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(
        there, expected,
        "every file in schema/ is written by the program"
    );
}

#[test]
fn both_schemas_are_schemas() {
    for (name, text) in schema::files() {
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(jsonschema::meta::is_valid(&value), "{name}");
    }
}

#[test]
fn every_example_is_valid() {
    let validator = validator();
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(folder("examples")) {
        let entry = entry.unwrap();
        if entry.file_name() != "config.yaml" {
            continue;
        }
        let value = yaml(&fs::read_to_string(entry.path()).unwrap());
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", entry.path().display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

const VALID: &[&str] = &[
    "",
    "os: {hostname: a}\n",
    "sysext: {extensions: [kubernetes.raw], certificates: [verity_cert.crt]}\n",
    "sysext: {extensions: [{image: k.raw, name: k}]}\n",
    "sysext: {extensions: [{image: {path: k.raw, sha256: abc}}]}\n",
    "sysext: {verityKey: 'env:KEY', verityCertificate: c.crt, extensions: [{name: a, version: '1.30', versionedName: true, tree: t}]}\n",
    "sysext: {target: azurelinux-3.0, extensions: [{name: a, tree: t, verity: none}]}\n",
    "sysext: {target: {osRelease: f, systemd: '255', kernelConfig: g, arch: x86-64}, extensions: [a.raw]}\n",
    "sysext: {extensions: [{name: a, verity: false, files: ['a:/usr/b', {source: a, destination: /usr/c, permissions: '644'}, {content: x, destination: /usr/d, permissions: 644}]}]}\n",
    "sysext: {location: /etc/extensions, certificateLocation: /usr/lib/verity.d, enable: none, start: true, imagePolicy: signed, overlayConflict: error, outputDirectory: out, extensions: [a.raw]}\n",
    "sysext: {imagePolicy: 'root=verity+signed:usr=absent', extensions: [a.raw]}\n",
    "sysext: {certificates: [{source: a.pem, name: b.crt, all: true}], extensions: [a.raw]}\n",
    "sysext: {extensions: [{name: a, tree: t, verity: hash, arch: any, release: {id: x, versionId: '1', level: '2', scope: [system, initrd]}, reload: never, pathLinks: [x], expect: [/usr/*], forbid: [/opt/*], keepOwners: true, seed: ab}]}\n",
    "sysext: {extensions: [{name: a, tar: t.tar, verity: none}]}\n",
    "sysext: {signer: {command: [./sign.sh]}, extensions: [{name: a, tree: t, kind: confext, format: ext4, compression: 'zstd:9', repair: auto}]}\n",
];

const INVALID: &[&str] = &[
    "- a\n",
    "sysext: {}\n",
    "sysext: [a.raw]\n",
    "sysext: a.raw\n",
    "sysext: {extensions: a.raw}\n",
    "sysext: {extensions: [{nmae: a}]}\n",
    "sysext: {extensions: [a.raw], certificats: [a.crt]}\n",
    "sysext: {extensions: [{image: {pth: a}}]}\n",
    "sysext: {extensions: [{name: a, verity: sometimes}]}\n",
    "sysext: {extensions: [{name: a, verity: 7}]}\n",
    "sysext: {extensions: [{name: a, format: btrfs}]}\n",
    "sysext: {extensions: [{name: [a]}]}\n",
    "sysext: {extensions: [a.raw], location: /opt}\n",
    "sysext: {extensions: [a.raw], enable: maybe}\n",
    "sysext: {extensions: [a.raw], start: [true]}\n",
    "sysext: {extensions: [a.raw], certificates: [{name: a.crt}]}\n",
    "sysext: {extensions: [{name: a, files: [{destination: /usr/a, content: x, permissions: '0888'}]}]}\n",
    "sysext: {extensions: [{name: a, release: {scope: [everywhere]}}]}\n",
    "sysext: {extensions: [a.raw], signer: {}}\n",
    "sysext: {extensions: [a.raw], target: {osrelease: x}}\n",
];

/// Whether the program can type the text; what it means is another question.
fn typed(text: &str) -> bool {
    Source::parse(Path::new("config.yaml"), text.to_owned())
        .and_then(Config::from_source)
        .is_ok()
}

#[test]
fn validator_and_program_agree() {
    let validator = validator();
    for text in VALID {
        let errors: Vec<_> = validator
            .iter_errors(&yaml(text))
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{text}: {errors:?}");
        assert!(typed(text), "the program refuses {text}");
    }
    for text in INVALID {
        assert!(!validator.is_valid(&yaml(text)), "the schema takes {text}");
        assert!(!typed(text), "the program takes {text}");
    }
    // Typed, but the program has a word on it and the schema says so too.
    let empty = "sysext: {extensions: []}\n";
    assert!(!validator.is_valid(&yaml(empty)));
    let source = Source::parse(Path::new("c"), empty.to_owned()).unwrap();
    let findings = validate(&Config::from_source(source).unwrap());
    assert_eq!(findings[0].id, "no-extensions");
}

#[test]
fn the_schema_of_the_block_is_that_of_the_section() {
    let block = jsonschema::validator_for(&schema::block()).unwrap();
    for text in VALID {
        if let Some(section) = yaml(text).get("sysext") {
            assert!(block.is_valid(section), "{text}");
        }
    }
}

#[test]
fn a_manifest_keeps_its_schema() {
    let workspace = Workspace::new();
    workspace.config(concat!(
        "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n",
        "  - {name: a, version: '1', files: ['bin/tool:/usr/bin/a']}\n",
        "  - {name: b, verity: none, files: ['bin/tool:/usr/bin/b']}\n",
    ));
    workspace.run("build --rootfs ../rootfs").succeeded();
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let manifest = read(&workspace.path("project/.sysext/sysext-manifest.json"));
    assert_eq!(manifest["extensions"].as_array().unwrap().len(), 2);
    let schema = read(&folder("schema/sysext-manifest.schema.json"));
    if let Err(error) = jsonschema::validate(&schema, &manifest) {
        panic!("{error}");
    }
}

#[test]
fn an_inspection_keeps_its_schema() {
    let workspace = Workspace::new();
    workspace.config(concat!(
        "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n",
        "  - {name: a, files: ['bin/tool:/usr/bin/a']}\n",
        "  - {name: b, verity: none, files: ['bin/tool:/usr/bin/b']}\n",
    ));
    workspace.run("build --rootfs ../rootfs").succeeded();
    let text = fs::read(folder("schema/inspection.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&text).unwrap();
    for name in ["a", "b"] {
        let said = workspace.run(&format!("inspect .sysext/{name}.raw --output json"));
        let value = said.json();
        if let Err(error) = jsonschema::validate(&schema, &value) {
            panic!("{error}");
        }
        assert_eq!(value["survey"]["files"], 2);
        // Nothing is printed that the schema does not tell of.
        for key in value.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
    }
}

#[test]
fn our_section_goes_into_a_published_schema() {
    let workspace = Workspace::new();
    let theirs = "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"$ref\": \"#/$defs/Config\",\n  \"$defs\": {\n    \"Config\": {\n      \"properties\": {\n        \"os\": {\n          \"type\": \"object\"\n        }\n      },\n      \"additionalProperties\": false,\n      \"type\": \"object\"\n    }\n  }\n}\n";
    workspace.write("project/theirs.json", theirs, 0o644);
    let said = workspace.run("schema --merge theirs.json");
    let merged: Value = serde_json::from_str(&said.succeeded().out).unwrap();
    assert!(jsonschema::meta::is_valid(&merged));
    let judge = jsonschema::validator_for(&merged).unwrap();
    for (text, good) in [
        ("os: {}\nsysext: {extensions: [a.raw]}\n", true),
        ("sysext: {extension: [a.raw]}\n", false),
        ("sysex: {}\n", false),
    ] {
        assert_eq!(judge.is_valid(&yaml(text)), good, "{text}");
    }
    workspace.write(
        "project/theirs.json",
        theirs.replace("\"os\"", "\"sysext\": {}, \"os\""),
        0o644,
    );
    workspace.refused("schema --merge theirs.json", "schema-merge");
}
