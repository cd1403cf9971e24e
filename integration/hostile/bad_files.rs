//! What is answered where the config is good, and a file, a base or an image that it names is not, or does
//! not go with the others.

use std::fs;
use std::process::Stdio;

use crate::harness::bad::{APPLY, BUILD, CUSTOMIZE, GOOD, ground, image_as};
use crate::harness::workspace::{Ground, Said};

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
