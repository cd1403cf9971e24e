//! What a bad config is answered with: one message with the place and the way out, exit status 1, and every
//! file as it was.

use crate::harness::bad::{APPLY, BUILD, CUSTOMIZE, workspace};
use crate::harness::cases::each;

/// What stands under `extensions:` (or beside it), the finding, and what the message must name.
type Case<'a> = (&'a str, &'a str, &'a [&'a str]);

const BAD_CONFIGS: &[Case<'_>] = &[
    (
        "os: {hostname: a}\n",
        "no-sysext",
        &["config.yaml", "extensions"],
    ),
    ("", "no-sysext", &["config.yaml"]),
    ("sysext:\n", "no-sysext", &["config.yaml"]),
    (
        "sysext: {}\n",
        "missing-key",
        &["config.yaml:1", "extensions"],
    ),
    (
        "sysext: {extensions: []}\n",
        "no-extensions",
        &["config.yaml:1"],
    ),
    (
        "sysext: {extensions: kubernetes.raw}\n",
        "wrong-type",
        &["config.yaml:1:22", "list"],
    ),
    ("sysext: [a]\n", "wrong-type", &["config.yaml:1:9"]),
    ("[a]\n", "wrong-type", &["config.yaml:1:1"]),
    (
        "sysext:\n  extensions: [{name: a}\n",
        "yaml-syntax",
        &["config.yaml:"],
    ),
    (
        "sysext:\n\textensions: []\n",
        "yaml-syntax",
        &["config.yaml:2", "tab"],
    ),
    (
        "os: {}\n---\nsysext: {extensions: [a.raw]}\n",
        "several-documents",
        &["config.yaml:2"],
    ),
    (
        "sysext: {extensions: [a.raw]}\nsysext: {extensions: [b.raw]}\n",
        "duplicate-key",
        &["config.yaml:2:1", "sysext"],
    ),
    (
        "sysext: {extensions: [a.raw], exstensions: [b.raw]}\n",
        "unknown-key",
        &["config.yaml:1:31", "did you mean `extensions`"],
    ),
    (
        "sysext: {extensions: [{nmae: a}]}\n",
        "unknown-key",
        &["config.yaml:1:24", "did you mean `name`"],
    ),
    (
        "sysext: {extensions: [{name: a, verity: 7}]}\n",
        "wrong-type",
        &["config.yaml:1:41"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: [x]}]}\n",
        "wrong-type",
        &["config.yaml:1:"],
    ),
    (
        "sysext: {extensions: [a.raw], start: maybe}\n",
        "wrong-type",
        &["config.yaml:1:38"],
    ),
    (
        "sysext: {extensions: [a.raw], location: /opt}\n",
        "unknown-value",
        &["/var/lib/extensions"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree}]}\n",
        "verity-not-chosen",
        &["verityKey", "verity: none"],
    ),
    (
        "sysext: {extensions: [{tree: tree, verity: none}]}\n",
        "missing-key",
        &["name"],
    ),
    (
        "sysext: {extensions: [{name: a, verity: none}]}\n",
        "one-source",
        &["tree"],
    ),
    (
        "sysext: {extensions: [{name: a, tar: a.tar, verity: none}]}\n",
        "archive-unreadable",
        &["a.tar"],
    ),
    (
        "sysext: {extensions: [{name: a, oci: a, verity: none}]}\n",
        "oci-unreadable",
        &["a"],
    ),
    (
        "sysext: {extensions: [{name: a, mkosi: a, verity: none}]}\n",
        "mkosi-unreadable",
        &["a"],
    ),
    (
        "sysext: {extensions: [{name: a, files: [{content: x, destination: /usr/x}], verity: none, kind: confext}]}\n",
        "outside-hierarchy",
        &["/usr/x", "/etc", "configuration extension"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, format: ext4, compression: lz4}]}\n",
        "no-compression",
        &["ext4", "compression", "format: erofs"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, compression: zstd:40}]}\n",
        "unknown-value",
        &["compression", "1 to 22"],
    ),
    (
        "sysext: {extensions: [{image: {path: a.raw, sha256: 0000000000000000000000000000000000000000000000000000000000000001}, repair: auto}]}\n",
        "repair-pinned",
        &["repair"],
    ),
    (
        "sysext: {signer: {command: [x]}, verityKey: k, extensions: [a.raw]}\n",
        "one-signer",
        &["`signer` and `verityKey`"],
    ),
    (
        "sysext: {allow: ['['], extensions: [a.raw]}\n",
        "glob-syntax",
        &["`[`"],
    ),
    (
        "sysext: {extensions: [{name: 'a:b', tree: tree, verity: none}]}\n",
        "name-refused",
        &["a:b", "config.yaml:1:30"],
    ),
    (
        "sysext: {extensions: [{name: a/b, tree: tree, verity: none}]}\n",
        "name-refused",
        &["a/b"],
    ),
    (
        "sysext: {extensions: [{name: ../a, tree: tree, verity: none}]}\n",
        "name-refused",
        &["../a"],
    ),
    (
        "sysext: {extensions: [{name: a.raw, tree: tree, verity: none}]}\n",
        "name-refused",
        &[".raw"],
    ),
    (
        "sysext: {extensions: [{name: a, version: ../1, versionedName: true, tree: tree, verity: none}]}\n",
        "version-refused",
        &["../1"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none}, {name: a, files: ['bin/tool:/usr/bin/b'], verity: none}]}\n",
        "duplicate-name",
        &["`a`", "extensions[0]"],
    ),
    (
        "sysext: {extensions: [{name: a1, tree: tree, verity: none}, {name: a01, tree: tree, verity: none}]}\n",
        "names-tie",
        &["`a1`", "`a01`"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: nowhere, verity: none}]}\n",
        "tree-unreadable",
        &["nowhere", "config.yaml:1:"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: bin/tool, verity: none}]}\n",
        "tree-unreadable",
        &["bin/tool"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: hollow, verity: none}]}\n",
        "empty-extension",
        &["usr/"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: outside, verity: none}]}\n",
        "outside-hierarchy",
        &["/etc", "/usr"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: identity, verity: none}]}\n",
        "os-release-inside",
        &["/usr/lib/os-release"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: foreign, verity: none}]}\n",
        "foreign-release-file",
        &["extension-release.other"],
    ),
    (
        "sysext: {extensions: [{name: a, files: ['nowhere:/usr/bin/x'], verity: none}]}\n",
        "file-unreadable",
        &["nowhere", "config.yaml:1:"],
    ),
    (
        "sysext: {extensions: [{name: a, files: ['/dev/null:/usr/bin/x'], verity: none}]}\n",
        "file-unreadable",
        &["/dev/null"],
    ),
    (
        "sysext: {extensions: [{name: a, files: ['bin/tool:/etc/x'], verity: none}]}\n",
        "outside-hierarchy",
        &["/etc/x"],
    ),
    (
        "sysext: {extensions: [{name: a, files: ['bin/tool:/usr/../etc/x'], verity: none}]}\n",
        "outside-hierarchy",
        &["/usr/../etc/x"],
    ),
    (
        "sysext: {extensions: [{name: a, files: [bin/tool], verity: none}]}\n",
        "missing-key",
        &["SOURCE:"],
    ),
    (
        "sysext: {extensions: [{name: a, files: ['bin/tool:/usr/x', 'bin/tool:/usr/x'], verity: none}]}\n",
        "content-conflict",
        &["usr/x"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, files: ['bin/tool:/usr/bin/tool'], verity: none}]}\n",
        "content-conflict",
        &["usr/bin/tool"],
    ),
    (
        "sysext: {extensions: [{name: a, files: ['bin/tool:/usr/x', 'bin/tool:/usr/x/y'], verity: none}]}\n",
        "content-conflict",
        &["usr/x"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, expect: [/usr/bin/no]}]}\n",
        "expected-path-missing",
        &["/usr/bin/no"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, forbid: [/usr/bin/*]}]}\n",
        "forbidden-path",
        &["/usr/bin/tool"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, expect: ['/usr/[']}]}\n",
        "glob-syntax",
        &["/usr/["],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, pathLinks: [no]}]}\n",
        "program-missing",
        &["`no`"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, links: [{path: /usr/bin/tool, target: x}]}]}\n",
        "content-conflict",
        &["usr/bin/tool"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, links: [{path: /etc/x, target: x}]}]}\n",
        "outside-hierarchy",
        &["/etc/x"],
    ),
    (
        "sysext: {extensions: [{name: a, tree: tree, verity: none, arch: x87}]}\n",
        "unknown-value",
        &["x87"],
    ),
    (
        "sysext: {imagePolicy: signed, extensions: [{name: a, tree: tree, verity: none}]}\n",
        "policy-refuses-extension",
        &["sign it"],
    ),
    (
        "sysext: {imagePolicy: 'a b', extensions: [a.raw]}\n",
        "image-policy-syntax",
        &["a b"],
    ),
    (
        "sysext: {extensions: [a.raw]}\nos: {services: {disable: [systemd-sysext]}}\n",
        "service-disabled",
        &["config.yaml:2"],
    ),
    // Images that are taken in.
    (
        "sysext: {extensions: [nowhere.raw]}\n",
        "image-unreadable",
        &["nowhere.raw", "config.yaml:1:23"],
    ),
    (
        "sysext: {extensions: [garbage.raw]}\n",
        "image-unreadable",
        &["garbage.raw"],
    ),
    (
        "sysext: {extensions: [empty.raw]}\n",
        "image-unreadable",
        &["empty.raw"],
    ),
    (
        "sysext: {extensions: [bin]}\n",
        "release-file-missing",
        &["bin"],
    ),
    (
        "sysext: {extensions: [{image: {path: garbage.raw, sha256: '0000000000000000000000000000000000000000000000000000000000000000'}}]}\n",
        "image-digest-mismatch",
        &["garbage.raw", "00000000"],
    ),
    (
        "sysext: {extensions: [{image: {path: garbage.raw, sha256: '00'}}]}\n",
        "wrong-value",
        &["64"],
    ),
    // Certificates on their own.
    (
        "sysext: {certificates: [../keys/nowhere.crt], extensions: [{name: a, tree: tree, verity: none}]}\n",
        "certificate-unreadable",
        &["nowhere.crt"],
    ),
    (
        "sysext: {certificates: [../keys/garbage.crt], extensions: [{name: a, tree: tree, verity: none}]}\n",
        "not-a-certificate",
        &["garbage.crt"],
    ),
    (
        "sysext: {certificates: [../keys/key.pem], extensions: [{name: a, tree: tree, verity: none}]}\n",
        "not-a-certificate",
        &["key.pem", "private key"],
    ),
    (
        "sysext: {certificates: [../keys/bundle.crt], extensions: [{name: a, tree: tree, verity: none}]}\n",
        "certificate-bundle",
        &["bundle.crt", "all: true"],
    ),
    (
        "sysext: {certificates: [{source: ../keys/cert.crt, name: a.pem}], extensions: [{name: a, tree: tree, verity: none}]}\n",
        "certificate-name",
        &[".crt"],
    ),
    (
        "sysext: {certificates: [{source: ../keys/cert.crt, name: a.crt}, {source: ../keys/other.crt, name: a.crt}], extensions: [{name: a, tree: tree, verity: none}]}\n",
        "certificate-collision",
        &["a.crt"],
    ),
];

#[test]
fn a_bad_config_is_refused_by_every_verb_alike() {
    let workspace = workspace();
    each(BAD_CONFIGS, |(text, id, names)| {
        workspace.config(text);
        // Without the block `expand` and `customize` have nothing to do, which is fine.
        let verbs: &[&str] = if *id == "no-sysext" {
            &[BUILD, APPLY]
        } else {
            &[BUILD, APPLY, CUSTOMIZE]
        };
        for verb in verbs {
            let said = workspace.refused(verb, id);
            said.names(names);
            assert_eq!(said.out, "", "{said:?}");
        }
        // For reading aloud: cargo test --test integration bad_config -- --nocapture
        println!("# {text}{}\n", workspace.run(BUILD).err);
    });
}

const BAD_KEYS: &[Case<'_>] = &[
    (
        "verityKey: ../keys/nowhere.pem, verityCertificate: ../keys/cert.crt",
        "key-unreadable",
        &["nowhere.pem", "config.yaml:1:"],
    ),
    (
        "verityKey: 'file:../keys', verityCertificate: ../keys/cert.crt",
        "key-unreadable",
        &["../keys"],
    ),
    (
        "verityKey: ../keys/open.pem, verityCertificate: ../keys/cert.crt",
        "key-permissions",
        &["open.pem", "0644", "chmod 600"],
    ),
    (
        "verityKey: ../keys/garbage.pem, verityCertificate: ../keys/cert.crt",
        "key-refused",
        &["garbage.pem", "config.yaml:1:"],
    ),
    (
        "verityKey: ../keys/cert.crt, verityCertificate: ../keys/cert.crt",
        "key-permissions",
        &["cert.crt"],
    ),
    (
        "verityKey: ../keys/other.pem, verityCertificate: ../keys/cert.crt",
        "key-refused",
        &["other.pem", "cert.crt", "config.yaml:1:"],
    ),
    (
        "verityKey: 'env:NO_SUCH_KEY', verityCertificate: ../keys/cert.crt",
        "key-unreadable",
        &["NO_SUCH_KEY", "PEM"],
    ),
    (
        "verityKey: ../keys/key.pem",
        "certificate-missing",
        &["verityCertificate"],
    ),
    (
        "verityCertificate: ../keys/cert.crt",
        "verity-not-chosen",
        &["verityKey"],
    ),
    (
        "verityKey: ../keys/key.pem, verityCertificate: ../keys/nowhere.crt",
        "certificate-unreadable",
        &["nowhere.crt"],
    ),
    (
        "verityKey: ../keys/key.pem, verityCertificate: ../keys/garbage.crt",
        "not-a-certificate",
        &["garbage.crt"],
    ),
    (
        "verityKey: ../keys/key.pem, verityCertificate: ../keys/key.pem",
        "not-a-certificate",
        &["key.pem", "private key"],
    ),
    (
        "verityKey: ../keys/key.pem, verityCertificate: ../keys/bundle.crt",
        "certificate-bundle",
        &["bundle.crt"],
    ),
];

#[test]
fn a_bad_key_is_refused_before_anything_is_written() {
    let workspace = workspace();
    each(BAD_KEYS, |(keys, id, names)| {
        workspace.config(&format!(
            "sysext: {{extensions: [{{name: a, tree: tree, {keys}}}]}}\n"
        ));
        for verb in [BUILD, APPLY, CUSTOMIZE] {
            workspace.refused(verb, id).names(names);
        }
        println!("# {keys}\n{}", workspace.run(BUILD).err);
    });
}

#[test]
fn one_key_for_many_is_complained_of_once() {
    let workspace = workspace();
    workspace.config(concat!(
        "sysext: {verityKey: ../keys/open.pem, verityCertificate: ../keys/cert.crt, ",
        "extensions: [{name: a, tree: tree}, {name: b, tree: tree}]}\n"
    ));
    workspace.refused(BUILD, "key-permissions");
    workspace.refused(
        "validate-config --validate-resources files",
        "key-permissions",
    );
}

#[test]
fn every_bad_config_is_valid_json_too() {
    let workspace = workspace();
    each(BAD_CONFIGS, |(text, id, _)| {
        workspace.config(text);
        for verb in [BUILD, APPLY] {
            let said = workspace.refused(&format!("{verb} --output json"), id);
            let findings = &said.json()["findings"];
            let found = findings.as_array().unwrap().iter().any(|finding| {
                finding["id"] == *id
                    && finding["severity"] == "error"
                    && finding["message"].is_string()
            });
            assert!(found, "{said:?}");
        }
    });
}

#[test]
fn validate_config_finds_what_build_would_refuse() {
    let workspace = workspace();
    each(BAD_CONFIGS, |(text, id, names)| {
        workspace.config(text);
        let said =
            workspace.run("validate-config --validate-resources files,images --rootfs ../rootfs");
        // What only the content shows is found while building.
        if said.status == Some(0) {
            let found_later = [
                "no-sysext",
                "empty-extension",
                "outside-hierarchy",
                "os-release-inside",
                "foreign-release-file",
                "content-conflict",
                "expected-path-missing",
                "forbidden-path",
                "program-missing",
            ];
            assert!(found_later.contains(id), "{text}: {said:?}");
        } else if said.errors() == ["prism-wrong-type"] {
            // It looks at the whole file first, in Prism's words.
            assert!(["no-sysext", "wrong-type"].contains(id), "{text}: {said:?}");
        } else {
            said.is_refused(id).names(names);
        }
    });
}

#[test]
fn a_place_is_shown_with_its_line_and_a_caret() {
    let workspace = workspace();
    for (text, args, excerpt) in [
        (
            "sysext:\n  extensions:\n  - nmae: a\n",
            BUILD,
            " --> ./config.yaml:3:5\n  |\n3 |   - nmae: a\n  |     ^^^^\n",
        ),
        (
            "sysext:\n  extensions:\n  - name: a\n    verity: none\n    files:\n    - nowhere:/usr/x\n",
            BUILD,
            "6 |     - nowhere:/usr/x\n  |       ^^^^^^^^^^^^^^\n",
        ),
        (
            "sysext:\n  verityKey: ../keys/open.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n  - {name: a, tree: tree}\n",
            BUILD,
            "2 |   verityKey: ../keys/open.pem\n  |              ^^^^^^^^^^^^^^^^\n",
        ),
        (
            "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/key.pem\n  extensions:\n  - {name: a, tree: tree}\n",
            BUILD,
            "3 |   verityCertificate: ../keys/key.pem\n  |                      ^^^^^^^^^^^^^^^\n",
        ),
        (
            "sysext:\n  target: fedora-1\n  extensions: [a.raw]\n",
            "build",
            "2 |   target: fedora-1\n  |           ^^^^^^^^\n",
        ),
        (
            "os:\n  services:\n    disable:\n    - systemd-sysext\nsysext: {extensions: [a.raw]}\n",
            BUILD,
            "4 |     - systemd-sysext\n  |       ^^^^^^^^^^^^^^\n",
        ),
    ] {
        workspace.config(text);
        let said = workspace.run(args);
        assert_eq!(said.errors().len(), 1, "{said:?}");
        said.names(&[excerpt, "help: "]);
    }
}
