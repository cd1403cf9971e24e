//! What the command line answers to bad input: one message with the place and the way out, exit
//! status 1 (2 for wrong flags), and every file as it was.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking; the messages are for reading aloud"
)]

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use program::{Ground, Said, as_nobody, each, give_to_nobody};

/// A config that is good, with the key beside the project.
const GOOD: &str = concat!(
    "sysext:\n",
    "  verityKey: ../keys/key.pem\n",
    "  verityCertificate: ../keys/cert.crt\n",
    "  extensions:\n",
    "  - {name: tools, version: '1.0', files: ['bin/tool:/usr/bin/tool']}\n",
);

const BUILD: &str = "build --rootfs ../rootfs";
const APPLY: &str = "apply --rootfs ../rootfs";
const CUSTOMIZE: &str =
    "customize --rootfs ../rootfs --imagecustomizer ../imagecustomizer --build-dir b";

/// A ground with all that is bad: keys, certificates, trees, images.
fn ground() -> Ground {
    let ground = Ground::new();
    ground.write(
        "imagecustomizer",
        "#!/bin/sh\necho reached >reached\n",
        0o755,
    );
    let key = ground.read("keys/key.pem");
    ground.write("keys/open.pem", &key, 0o644);
    ground.write("keys/garbage.pem", "not a key\n", 0o600);
    ground.write("keys/garbage.crt", "not a certificate\n", 0o644);
    let bundle = [ground.read("keys/cert.crt"), ground.read("keys/other.crt")].concat();
    ground.write("keys/bundle.crt", bundle, 0o644);
    ground.write("project/garbage.raw", vec![0x5a; 70_000], 0o644);
    ground.write("project/empty.raw", "", 0o644);
    ground.write("project/outside/etc/passwd", "x", 0o644);
    ground.write("project/outside/usr/bin/a", "x", 0o755);
    ground.write("project/identity/usr/lib/os-release", "ID=x\n", 0o644);
    ground.write("project/tree/usr/bin/tool", "x", 0o755);
    ground.write(
        "project/foreign/usr/lib/extension-release.d/extension-release.other",
        "ID=azurelinux\n",
        0o644,
    );
    fs::create_dir(ground.path("project/hollow")).unwrap();
    ground
}

/// Builds `GOOD` and moves the image to `project/NAME`, then forgets the rest.
fn image_as(ground: &Ground, config: &str, built: &str, name: &str) {
    ground.config(config);
    ground.run(BUILD).succeeded();
    let bytes = ground.read(&format!("project/.sysext/{built}"));
    ground.write(&format!("project/{name}"), bytes, 0o644);
    fs::remove_dir_all(ground.path("project/.sysext")).unwrap();
}

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
    let ground = ground();
    each(BAD_CONFIGS, |(text, id, names)| {
        ground.config(text);
        // Without the block `expand` and `customize` have nothing to do, which is fine.
        let verbs: &[&str] = if *id == "no-sysext" {
            &[BUILD, APPLY]
        } else {
            &[BUILD, APPLY, CUSTOMIZE]
        };
        for verb in verbs {
            let said = ground.refused(verb, id);
            said.names(names);
            assert_eq!(said.out, "", "{said:?}");
        }
        // For reading aloud: cargo test --test cli -- --nocapture
        println!("# {text}{}\n", ground.run(BUILD).err);
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
    let ground = ground();
    each(BAD_KEYS, |(keys, id, names)| {
        ground.config(&format!(
            "sysext: {{extensions: [{{name: a, tree: tree, {keys}}}]}}\n"
        ));
        for verb in [BUILD, APPLY, CUSTOMIZE] {
            ground.refused(verb, id).names(names);
        }
        println!("# {keys}\n{}", ground.run(BUILD).err);
    });
}

#[test]
fn what_systemd_would_not_merge_is_not_placed() {
    let ground = ground();
    for (extra, id) in [
        ("arch: arm64", "release-architecture-mismatch"),
        ("release: {versionId: '2.0'}", "release-version-mismatch"),
        ("release: {id: fedora}", "release-id-mismatch"),
        ("release: {scope: [initrd]}", "release-scope-mismatch"),
    ] {
        ground.config(&format!(
            "sysext: {{extensions: [{{name: a, tree: tree, verity: none, {extra}}}]}}\n"
        ));
        ground.run(BUILD).succeeded();
        for verb in [APPLY, CUSTOMIZE] {
            ground
                .refused(verb, id)
                .names(&["help: ", "config.yaml:1:"]);
        }
    }
}

#[test]
fn one_key_for_many_is_complained_of_once() {
    let ground = ground();
    ground.config(concat!(
        "sysext: {verityKey: ../keys/open.pem, verityCertificate: ../keys/cert.crt, ",
        "extensions: [{name: a, tree: tree}, {name: b, tree: tree}]}\n"
    ));
    ground.refused(BUILD, "key-permissions");
    ground.refused(
        "validate-config --validate-resources files",
        "key-permissions",
    );
}

#[test]
fn every_bad_config_is_valid_json_too() {
    let ground = ground();
    each(BAD_CONFIGS, |(text, id, _)| {
        ground.config(text);
        for verb in [BUILD, APPLY] {
            let said = ground.refused(&format!("{verb} --output json"), id);
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
fn a_place_is_shown_with_its_line_and_a_caret() {
    let ground = ground();
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
        ground.config(text);
        let said = ground.run(args);
        assert_eq!(said.errors().len(), 1, "{said:?}");
        said.names(&[excerpt, "help: "]);
    }
}

#[test]
fn a_missing_or_unreadable_config_is_named() {
    let ground = ground();
    for verb in [
        "build",
        "expand",
        "validate-config",
        "check",
        APPLY,
        "customize",
    ] {
        ground
            .refused(verb, "config-unreadable")
            .names(&["./config.yaml", "--config-file"]);
        ground
            .refused(
                &format!("{verb} --config-file no/x.yaml"),
                "config-unreadable",
            )
            .names(&["no/x.yaml"]);
        ground
            .refused(&format!("{verb} --config-file bin"), "config-unreadable")
            .names(&["bin"]);
    }
    ground.write("project/config.yaml", [b'a', 0xff], 0o644);
    ground
        .refused("build", "config-not-utf-8")
        .names(&["config.yaml"]);
}

/// A reader that waits for a writer, or a device without an end, must not hang the command.
#[test]
fn only_regular_files_are_read() {
    let ground = ground();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        ground.path("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let pin = "0".repeat(64);
    for odd in ["../fifo", "/dev/zero"] {
        for (block, id) in [
            (
                format!(
                    "certificates: [{odd}], extensions: [{{name: a, tree: tree, verity: none}}]"
                ),
                "certificate-unreadable",
            ),
            (
                format!(
                    "verityKey: {odd}, verityCertificate: ../keys/cert.crt, extensions: [{{name: a, tree: tree}}]"
                ),
                "key-unreadable",
            ),
            (format!("extensions: [{odd}]"), "image-unreadable"),
            (
                format!("extensions: [{{image: {{path: {odd}, sha256: '{pin}'}}}}]"),
                "image-unreadable",
            ),
            (
                format!("extensions: [{{name: a, files: ['{odd}:/usr/a'], verity: none}}]"),
                "file-unreadable",
            ),
            (
                format!("extensions: [{{name: a, tree: {odd}, verity: none}}]"),
                "tree-unreadable",
            ),
        ] {
            ground.config(&format!("sysext: {{{block}}}\n"));
            within(&ground, BUILD, id).names(&[odd, "not a"]);
        }
        ground.config(&format!(
            "sysext: {{target: {{osRelease: {odd}}}, extensions: [a.raw]}}\n"
        ));
        within(&ground, "build", "target-unreadable").names(&[odd]);
        within(
            &ground,
            &format!("build --config-file {odd}"),
            "config-unreadable",
        )
        .names(&[odd]);
        within(&ground, &format!("inspect {odd}"), "image-unreadable").names(&[odd]);
        let verify = format!("verify garbage.raw --certificate {odd}");
        within(&ground, &verify, "certificate-unreadable").names(&[odd]);
        ground.config("os: {}\n");
        within(
            &ground,
            &format!("expand --check --output-file {odd}"),
            "expansion-stale",
        )
        .names(&[odd]);
    }
}

/// Refused, and soon.
fn within(ground: &Ground, args: &str, id: &str) -> Said {
    let command = ground.command(args.split(' '));
    let mut timed = std::process::Command::new("timeout");
    timed
        .args(["--signal=KILL", "20"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(ground.path("project"))
        .stdin(Stdio::null());
    let said = Said::of(&mut timed);
    said.is_refused(id);
    said
}

#[test]
fn a_base_that_is_none_is_refused() {
    let ground = ground();
    ground.config(GOOD);
    for verb in ["build", "apply", "check", "expand", "customize"] {
        ground
            .refused(&format!("{verb} --rootfs ../nowhere"), "rootfs-unreadable")
            .names(&["../nowhere"]);
        ground
            .refused(
                &format!("{verb} --rootfs ../imagecustomizer"),
                "rootfs-unreadable",
            )
            .names(&["../imagecustomizer"]);
    }
    fs::create_dir(ground.path("hollow")).unwrap();
    for args in [
        "apply --rootfs ../hollow",
        "list --rootfs ../hollow",
        "build --rootfs ../hollow",
    ] {
        let said = ground.refused(args, "base-without-os-release");
        said.names(&["../hollow", "os-release"]);
    }
    ground
        .refused("build --target azurelinux-4711", "unknown-profile")
        .names(&["azurelinux-4711", "azurelinux-3.0"]);
    ground
        .refused("build", "no-base")
        .names(&["--rootfs", "arch: x86-64"]);
    ground.refused("customize", "no-base");
    ground
        .refused("check garbage.raw", "no-base")
        .names(&["--target"]);
}

#[test]
fn a_broken_image_is_refused_and_what_lay_there_is_kept() {
    let ground = ground();
    image_as(&ground, GOOD, "tools.raw", "whole.raw");
    let whole = ground.read("project/whole.raw");
    ground.run(APPLY).succeeded();
    for (name, bytes) in [
        ("half.raw", &whole[..whole.len() / 2]),
        ("sector.raw", &whole[..512]),
        ("header.raw", &whole[..1 << 20]),
    ] {
        ground.write(&format!("project/{name}"), bytes, 0o644);
        ground.config(&format!(
            "sysext: {{certificates: [../keys/cert.crt], extensions: [{name}]}}\n"
        ));
        let before = ground.snapshot();
        for verb in [BUILD, APPLY, CUSTOMIZE] {
            let said = ground.run(verb);
            assert_eq!(said.status, Some(1), "{name}: {said:?}");
            assert_eq!(said.errors().len(), 1, "{name}: {said:?}");
            said.names(&[name]);
            ground.is_unchanged(&before, name);
        }
        let inspected = ground.run(&format!("inspect {name} --output json"));
        inspected.json();
        assert_ne!(
            ground.run(&format!("verify {name}")).status,
            Some(0),
            "{name}"
        );
        assert_ne!(
            ground
                .run(&format!("check {name} --target azurelinux-3.0"))
                .status,
            Some(0)
        );
    }
    // One flipped byte of content: described well, but systemd would refuse it.
    let mut flipped = whole.clone();
    let middle = (1 << 20) + 5000;
    flipped[middle] ^= 1;
    ground.write("project/tools.raw", &flipped, 0o644);
    ground.config("sysext: {certificates: [../keys/cert.crt], extensions: [tools.raw]}\n");
    let said = ground.run(APPLY);
    assert_eq!(said.status, Some(1), "{said:?}");
    let placed = ground.read("rootfs/var/lib/extensions/tools.raw");
    assert_eq!(placed, whole, "the good one is still there");
}

#[test]
fn a_signed_image_without_its_certificate_would_block_all() {
    let ground = ground();
    image_as(&ground, GOOD, "tools.raw", "tools.raw");
    ground.config("sysext: {certificates: [../keys/other.crt], extensions: [tools.raw]}\n");
    let before = ground.snapshot();
    let said = ground.run(APPLY);
    assert_eq!(said.status, Some(1), "{said:?}");
    said.names(&["tools.raw", "certificate"]);
    ground.is_unchanged(&before, "apply");
}

/// The seed's recipe: the image is named after the version inside, its file is not.
#[test]
fn the_seeds_image_is_placed_under_the_name_of_its_release_file() {
    let ground = ground();
    let kubernetes = GOOD
        .replace("name: tools", "name: kubernetes, versionedName: true")
        .replace("'1.0'", "1.30.7");
    image_as(
        &ground,
        &kubernetes,
        "kubernetes_1.30.7.raw",
        "kubernetes.raw",
    );

    let check = ground.run("check kubernetes.raw --target azurelinux-3.0");
    assert_eq!(check.status, Some(1), "{check:?}");
    assert!(!check.out.contains("merges-signed"), "{check:?}");
    check.names(&["kubernetes_1.30.7.raw", "help: "]);

    ground.config("sysext:\n  extensions: [kubernetes.raw]\n  certificates: [../keys/cert.crt]\n");
    let apply = ground.run(APPLY);
    apply.succeeded().names(&[
        "note[placed-under-release-name]",
        "kubernetes.raw is placed as kubernetes_1.30.7.raw",
        "2 |   extensions: [kubernetes.raw]",
    ]);
    assert!(
        apply
            .out
            .contains("merges-signed  /var/lib/extensions/kubernetes_1.30.7.raw"),
        "{apply:?}"
    );
    assert_eq!(
        ground.read("rootfs/var/lib/extensions/kubernetes_1.30.7.raw"),
        ground.read("project/kubernetes.raw"),
        "the bytes are as they came"
    );
    assert!(
        !ground
            .path("rootfs/var/lib/extensions/kubernetes.raw")
            .exists()
    );

    let expanded = ground.run("expand --output-file -");
    let text = &expanded.succeeded().out;
    assert!(text.contains("source: kubernetes.raw\n"), "{text}");
    assert!(
        text.contains("destination: /var/lib/extensions/kubernetes_1.30.7.raw\n"),
        "{text}"
    );

    let check =
        ground.run("check ../rootfs/var/lib/extensions/kubernetes_1.30.7.raw --rootfs ../rootfs");
    check.succeeded();

    for (name, fine) in [
        ("kubernetes", true),
        ("kubernetes_1.30.7", true),
        ("kube", false),
        ("other", false),
    ] {
        ground.config(&format!(
            "sysext: {{certificates: [../keys/cert.crt], extensions: [{{name: {name}, image: kubernetes.raw}}]}}\n"
        ));
        if fine {
            ground.run(APPLY).succeeded();
        } else {
            ground
                .refused(APPLY, "name-disagrees")
                .names(&["name: kubernetes_1.30.7"]);
        }
    }
}

#[test]
fn a_deferred_image_needs_its_signature_first() {
    let ground = ground();
    ground.config(&GOOD.replace("name: tools", "name: tools, verity: defer"));
    ground.run(BUILD).succeeded();
    for verb in [APPLY, CUSTOMIZE, "expand --rootfs ../rootfs"] {
        let before = ground.snapshot();
        let said = ground.run(verb);
        said.is_refused("unsigned-deferred")
            .names(&["tools.raw", "--allow-unsigned"]);
        // The image is built again, to the same bytes.
        ground.is_unchanged(&before, verb);
    }
    ground
        .run("expand --rootfs ../rootfs --allow-unsigned")
        .succeeded();
}

#[test]
fn expand_names_what_is_missing_and_spares_its_source() {
    let ground = ground();
    ground.config(GOOD);
    ground
        .refused("expand --rootfs ../rootfs", "image-missing")
        .names(&["tools.raw", "prism-sysext build"]);
    ground.run(BUILD).succeeded();
    for file in ["config.yaml", "./config.yaml", "bin/../config.yaml"] {
        ground
            .refused(
                &format!("expand --rootfs ../rootfs --output-file {file}"),
                "would-overwrite",
            )
            .names(&["config.yaml"]);
    }
    std::os::unix::fs::symlink("config.yaml", ground.path("project/link.yaml")).unwrap();
    ground.refused(
        "expand --rootfs ../rootfs --output-file link.yaml",
        "would-overwrite",
    );
    let said = ground.run("expand --rootfs ../rootfs --output-file no/such/folder.yaml");
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["no/such/folder.yaml"]);
}

#[test]
fn holes_of_a_prebuilt_image_are_told() {
    let ground = ground();
    image_as(&ground, GOOD, "tools.raw", "thin.raw");
    let path = ground.path("project/thin.raw");
    let image = fs::File::options().append(true).open(path).unwrap();
    let length = image.metadata().unwrap().len();
    image.set_len(length + (64 << 20)).unwrap();
    ground.config("sysext:\n  certificates: [../keys/cert.crt]\n  extensions: [{image: thin.raw, name: tools}]\n");
    let said = ground.run("expand --rootfs ../rootfs");
    said.names(&["warning[image-sparse]", "config.yaml:3:", "are holes"]);
}

#[test]
fn expand_check_tells_stale_from_fresh() {
    let ground = ground();
    ground.config(GOOD);
    ground.run(BUILD).succeeded();
    let check = "expand --rootfs ../rootfs --check";
    ground
        .refused(check, "expansion-stale")
        .names(&["config.prism.yaml", "prism-sysext expand"]);
    ground.run("expand --rootfs ../rootfs").succeeded();
    let before = ground.snapshot();
    ground.run(check).succeeded();
    ground
        .run(&format!("{check} --output json"))
        .succeeded()
        .json();
    ground.is_unchanged(&before, check);
    ground.config(&GOOD.replace("  extensions:", "  enable: service\n  extensions:"));
    ground
        .refused(check, "expansion-stale")
        .names(&["config.prism.yaml"]);
    ground
        .refused(&format!("{check} --output json"), "expansion-stale")
        .json();
}

#[test]
fn the_output_folder_must_be_one() {
    let ground = ground();
    ground.config(GOOD);
    ground.write("project/.sysext", "I am a file", 0o644);
    for verb in [BUILD, APPLY, CUSTOMIZE] {
        let before = ground.snapshot();
        let said = ground.run(verb);
        assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
        said.names(&[".sysext", "not a folder"]);
        ground.is_unchanged(&before, verb);
    }
    ground.run(&format!("{BUILD} --output-dir out")).succeeded();
    assert!(ground.path("project/out/tools.raw").is_file());
}

#[test]
fn an_output_folder_without_permission_is_named() {
    let ground = ground();
    ground.config(GOOD);
    give_to_nobody_or_skip(&ground);
    let Some(mut command) = as_nobody(&ground.command(BUILD.split(' '))) else {
        return;
    };
    // The project is root's, so nobody can't make the folder.
    let project = ground.path("project");
    std::os::unix::fs::chown(&project, Some(0), Some(0)).unwrap();
    let before = ground.snapshot();
    let said = Said::of(&mut command);
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&[".sysext", "ermission denied"]);
    ground.is_unchanged(&before, "build");
    // And with the folder there, but root's.
    fs::create_dir(ground.path("project/.sysext")).unwrap();
    let said = Said::of(&mut as_nobody(&ground.command(BUILD.split(' '))).unwrap());
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["tools.raw", "ermission denied"]);
    assert_eq!(
        fs::read_dir(ground.path("project/.sysext"))
            .unwrap()
            .count(),
        0
    );
}

fn give_to_nobody_or_skip(ground: &Ground) {
    if rustix::process::geteuid().is_root() {
        give_to_nobody(ground.root());
    }
}

#[test]
fn only_takes_names_that_are_listed() {
    let ground = ground();
    ground.config(GOOD);
    ground
        .refused(&format!("{BUILD} --only tool"), "unknown-extension")
        .names(&["`tool`", "did you mean `tools`"]);
    ground
        .refused(&format!("{BUILD} --only xyz"), "unknown-extension")
        .names(&["it lists: tools"]);
    ground.run(&format!("{BUILD} --only tools")).succeeded();
}

#[test]
fn source_date_epoch_is_a_number() {
    let ground = ground();
    ground.config(GOOD);
    for bad in ["yesterday", "-1", "1.5", "", "99999999999999999999999"] {
        let before = ground.snapshot();
        let said = Said::of(
            ground
                .command(BUILD.split(' '))
                .env("SOURCE_DATE_EPOCH", bad),
        );
        said.is_refused("source-date-epoch")
            .names(&["SOURCE_DATE_EPOCH"]);
        ground.is_unchanged(&before, bad);
    }
    for epoch in ["0", "1700000000", "18446744073709551615"] {
        let said = Said::of(
            ground
                .command(BUILD.split(' '))
                .env("SOURCE_DATE_EPOCH", epoch),
        );
        assert!(matches!(said.status, Some(0 | 1)), "{said:?}");
        let inspected = ground.run("verify .sysext/tools.raw --certificate ../keys/cert.crt");
        inspected.succeeded();
    }
}

#[test]
fn wrong_flags_are_status_2() {
    let ground = ground();
    ground.config(GOOD);
    let before = ground.snapshot();
    for args in [
        "",
        "biuld",
        "build --rootfs",
        "build --rootfs a --target b",
        "build --no-such-flag",
        "apply",
        "remove",
        "inspect",
        "verify",
        "sign",
        "sign keygen --days 0",
        "build --output yaml",
        "customize --build-dir b --config-file",
        "validate-config --validate-resources all-of-it",
    ] {
        let said = ground.run(args);
        assert_eq!(said.status, Some(2), "`{args}`: {said:?}");
        assert_eq!(said.out, "", "`{args}`");
        assert!(!said.err.is_empty(), "`{args}`");
        ground.is_unchanged(&before, args);
    }
    for args in ["--help", "--version", "build --help", "sign keygen --help"] {
        let said = ground.run(args);
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{args}");
    }
}

#[test]
fn customize_finds_its_flags_and_passes_the_rest_on() {
    let ground = ground();
    ground.config(GOOD);
    ground.write(
        "imagecustomizer",
        "#!/bin/sh\necho \"$@\" >seen\nexit ${STATUS:-0}\n",
        0o755,
    );
    let args = "customize --build-dir b --imagecustomizer ../imagecustomizer --rootfs ../rootfs --image-file=i.vhdx --log-level debug";
    ground.run(args).succeeded();
    let seen = String::from_utf8(ground.read("project/seen")).unwrap();
    assert!(
        seen.starts_with(
            "customize --build-dir b --image-file=i.vhdx --log-level debug --config-file "
        ),
        "{seen}"
    );
    let said = Said::of(ground.command(args.split(' ')).env("STATUS", "3"));
    assert_eq!(
        said.status,
        Some(3),
        "Prism's own status comes back: {said:?}"
    );
    let said = ground.run("customize --rootfs ../rootfs --imagecustomizer ./nowhere");
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["./nowhere", "--imagecustomizer"]);
    // Both bases at once are a usage error wherever they stand.
    let said = ground.run("customize --build-dir b --rootfs ../rootfs --target azurelinux-3.0");
    assert_eq!(said.status, Some(2), "{said:?}");
    // Without the block the config goes to Prism as it is.
    ground.config("os: {hostname: a}\n");
    ground
        .run("customize --imagecustomizer ../imagecustomizer")
        .succeeded();
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let ground = ground();
    ground.config(GOOD);
    ground.run(BUILD).succeeded();
    for args in [
        "schema",
        "inspect .sysext/tools.raw",
        "--help",
        "validate-config",
        "list --rootfs ../rootfs",
    ] {
        let mut child = ground
            .command(args.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args}: {err}");
        assert!(
            !err.contains("panicked") && !err.contains("roken pipe"),
            "{args}: {err}"
        );
    }
}

#[test]
fn every_result_is_json_with_its_version_when_asked() {
    let ground = ground();
    ground.config(GOOD);
    for args in [
        "build --rootfs ../rootfs",
        "validate-config",
        "validate-config --validate-resources files,images --target azurelinux-3.0",
        "apply --rootfs ../rootfs --dry-run",
        "apply --rootfs ../rootfs",
        "list --rootfs ../rootfs",
        "check --rootfs ../rootfs",
        "check .sysext/tools.raw --rootfs ../rootfs",
        "expand --rootfs ../rootfs",
        "expand --rootfs ../rootfs --check",
        "inspect .sysext/tools.raw",
        "verify .sysext/tools.raw",
        "verify .sysext/tools.raw --certificate ../keys/cert.crt",
        "remove tools --rootfs ../rootfs",
        "sign keygen --key ../keys/new.pem --certificate ../keys/new.crt",
        "schema --write .",
    ] {
        ground
            .run(&format!("{args} --output json"))
            .succeeded()
            .json();
    }
    for args in [
        "remove tools --rootfs ../rootfs",
        "verify .sysext/tools.raw --certificate ../keys/other.crt",
        "verify garbage.raw",
        "inspect nowhere.raw",
        "check garbage.raw --target azurelinux-3.0",
        "check .sysext/tools.raw --target azurelinux-3.0",
        "sign keygen --key ../keys/new.pem",
        "list --rootfs ../nowhere",
        "build --config-file nowhere.yaml",
        "build --output-dir bin/tool --target azurelinux-3.0",
    ] {
        let said = ground.run(&format!("{args} --output json"));
        assert_eq!(said.status, Some(1), "{args}: {said:?}");
        said.json();
    }
}

#[test]
fn keygen_never_replaces_a_key() {
    let ground = ground();
    ground
        .refused("sign keygen --key ../keys/key.pem", "would-overwrite")
        .names(&["../keys/key.pem"]);
    ground.refused(
        "sign keygen --key new.pem --certificate ../keys/cert.crt",
        "would-overwrite",
    );
    let before = ground.snapshot();
    let said = ground.run("sign keygen --key new.pem --certificate no/such/folder.crt");
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    ground.is_unchanged(&before, "keygen");
    ground
        .run("sign keygen --key new.pem --certificate new.crt")
        .succeeded();
    let mode = fs::metadata(ground.path("project/new.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn no_colour_goes_to_a_pipe() {
    let ground = ground();
    ground.config("sysext: {extensions: [{nmae: a}]}\n");
    for value in [None, Some("1")] {
        let mut command = ground.command(["build"]);
        if let Some(value) = value {
            command.env("NO_COLOR", value);
        }
        let said = Said::of(command.env("TERM", "xterm-256color"));
        assert!(!said.err.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn validate_config_finds_what_build_would_refuse() {
    let ground = ground();
    each(BAD_CONFIGS, |(text, id, names)| {
        ground.config(text);
        let said =
            ground.run("validate-config --validate-resources files,images --rootfs ../rootfs");
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

/// What an earlier apply placed and this one takes out again does not count any more: neither its
/// policy nor its certificates.
#[test]
fn the_next_apply_is_judged_without_what_it_takes_out() {
    let ground = ground();
    let signed = "verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt, ";
    ground.config(&format!(
        "sysext: {{{signed}imagePolicy: signed, extensions: [{{name: a, tree: tree}}]}}\n"
    ));
    ground.run(APPLY).succeeded();
    ground.config("sysext: {extensions: [{name: a, tree: tree, verity: none}]}\n");
    ground.run(APPLY).succeeded();

    ground.config(&format!(
        "sysext: {{{signed}extensions: [{{name: a, tree: tree}}]}}\n"
    ));
    ground.run(APPLY).succeeded();
    fs::copy(
        ground.path("project/.sysext/a.raw"),
        ground.path("project/b.raw"),
    )
    .unwrap();
    fs::rename(ground.path("project/b.raw"), ground.path("project/a.raw")).unwrap();
    ground.config("sysext: {extensions: [a.raw]}\n");
    ground.refused(APPLY, "signer-not-trusted");
}

/// What two extensions have in common, and what is asked of their protection.
#[test]
fn check_tells_conflicts_and_holds_to_demands() {
    let ground = Ground::new();
    let extensions = "  extensions:\n  - {name: a, files: [{content: '1', destination: /usr/share/x}]}\n  - {name: b, files: [{content: '2', destination: /usr/share/x}]}\n";
    let keys = "  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n";
    ground.config(&format!("sysext:\n{keys}{extensions}"));
    let said = ground.run("apply --rootfs ../rootfs");
    said.succeeded()
        .names(&["layer-conflict", "`b` hides files of `a`", "/usr/share/x"]);
    let check = "check --rootfs ../rootfs";
    ground.run(&format!("{check} --require signed")).succeeded();
    ground.config(&format!(
        "sysext:\n  allow: ['/usr/share/x']\n{keys}{extensions}"
    ));
    let said = ground.run(check);
    assert!(!said.succeeded().err.contains("layer-conflict"), "{said:?}");

    let status = |usr: &str| {
        format!(
            "[{{\"hierarchy\":\"/opt\",\"extensions\":\"none\",\"since\":null}},{{\"hierarchy\":\"/usr\",\"extensions\":{usr},\"since\":1}}]"
        )
    };
    ground.write("project/status", status("[\"a\",\"b\"]"), 0o644);
    ground
        .run(&format!("{check} --status-json status"))
        .succeeded();
    ground.write("project/status", status("[\"a\"]"), 0o644);
    ground
        .refused(&format!("{check} --status-json status"), "status-differs")
        .names(&["/usr: a is merged, predicted was a, b"]);
    ground.write("project/status", "none", 0o644);
    ground.refused(
        &format!("{check} --status-json status"),
        "status-unreadable",
    );

    let plain = extensions
        .replace("name: a,", "name: a, verity: none,")
        .replace("name: b,", "name: b, verity: none,");
    ground.config(&format!("sysext:\n  allow: ['/usr/share/*']\n{plain}"));
    ground.run("build --rootfs ../rootfs").succeeded();
    ground.run(check).succeeded();
    let said = ground.run(&format!("{check} --require verity"));
    assert_eq!(said.status, Some(1), "{said:?}");
    said.names(&["protection-required", "merges-unprotected"]);
}

/// systemd loads a library for dm-verity that small images leave out.
#[test]
fn a_base_without_libcryptsetup_takes_no_signed_extension() {
    let ground = Ground::new();
    let text = "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n  - {name: a, files: ['bin/tool:/usr/bin/a']}\n";
    ground.config(text);
    std::fs::remove_file(ground.path("rootfs/usr/lib/libcryptsetup.so.12")).unwrap();
    let said = ground.run("apply --rootfs ../rootfs");
    said.is_refused("libcryptsetup-missing")
        .names(&["libcryptsetup12"]);
    ground.config(&text.replace("name: a,", "name: a, verity: none,"));
    ground.run("apply --rootfs ../rootfs").succeeded();
}
