//! What is answered where the config is good, and a file, a base or an image that it names is not, or does
//! not go with the others.

use std::fs;
use std::process::Stdio;

use crate::harness::bad::{APPLY, BUILD, CUSTOMIZE, GOOD, image_as, workspace};
use crate::harness::said::Said;
use crate::harness::workspace::Workspace;

#[test]
fn a_missing_or_unreadable_config_is_named() {
    let workspace = workspace();
    for verb in [
        "build",
        "expand",
        "validate-config",
        "check",
        APPLY,
        "customize",
    ] {
        workspace
            .refused(verb, "config-unreadable")
            .names(&["./config.yaml", "--config-file"]);
        workspace
            .refused(
                &format!("{verb} --config-file no/x.yaml"),
                "config-unreadable",
            )
            .names(&["no/x.yaml"]);
        workspace
            .refused(&format!("{verb} --config-file bin"), "config-unreadable")
            .names(&["bin"]);
    }
    workspace.write("project/config.yaml", [b'a', 0xff], 0o644);
    workspace
        .refused("build", "config-not-utf-8")
        .names(&["config.yaml"]);
}

/// A reader that waits for a writer, or a device without an end, must not hang the command.
#[test]
fn only_regular_files_are_read() {
    let workspace = workspace();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        workspace.path("fifo"),
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
            workspace.config(&format!("sysext: {{{block}}}\n"));
            within(&workspace, BUILD, id).names(&[odd, "not a"]);
        }
        workspace.config(&format!(
            "sysext: {{target: {{osRelease: {odd}}}, extensions: [a.raw]}}\n"
        ));
        within(&workspace, "build", "target-unreadable").names(&[odd]);
        within(
            &workspace,
            &format!("build --config-file {odd}"),
            "config-unreadable",
        )
        .names(&[odd]);
        within(&workspace, &format!("inspect {odd}"), "image-unreadable").names(&[odd]);
        let verify = format!("verify garbage.raw --certificate {odd}");
        within(&workspace, &verify, "certificate-unreadable").names(&[odd]);
        workspace.config("os: {}\n");
        within(
            &workspace,
            &format!("expand --check --output-file {odd}"),
            "expansion-stale",
        )
        .names(&[odd]);
    }
}

/// Refused, and soon.
fn within(workspace: &Workspace, args: &str, id: &str) -> Said {
    let command = workspace.command(args.split(' '));
    let mut timed = std::process::Command::new("timeout");
    timed
        .args(["--signal=KILL", "20"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(workspace.path("project"))
        .stdin(Stdio::null());
    let said = Said::of(&mut timed);
    said.is_refused(id);
    said
}

#[test]
fn a_base_that_is_none_is_refused() {
    let workspace = workspace();
    workspace.config(GOOD);
    for verb in ["build", "apply", "check", "expand", "customize"] {
        workspace
            .refused(&format!("{verb} --rootfs ../nowhere"), "rootfs-unreadable")
            .names(&["../nowhere"]);
        workspace
            .refused(
                &format!("{verb} --rootfs ../imagecustomizer"),
                "rootfs-unreadable",
            )
            .names(&["../imagecustomizer"]);
    }
    fs::create_dir(workspace.path("hollow")).unwrap();
    for args in [
        "apply --rootfs ../hollow",
        "list --rootfs ../hollow",
        "build --rootfs ../hollow",
    ] {
        let said = workspace.refused(args, "base-without-os-release");
        said.names(&["../hollow", "os-release"]);
    }
    workspace
        .refused("build --target azurelinux-4711", "unknown-profile")
        .names(&["azurelinux-4711", "azurelinux-3.0"]);
    workspace
        .refused("build", "no-base")
        .names(&["--rootfs", "arch: x86-64"]);
    workspace.refused("customize", "no-base");
    workspace
        .refused("check garbage.raw", "no-base")
        .names(&["--target"]);
}

/// systemd loads a library for dm-verity that small images leave out.
#[test]
fn a_base_without_libcryptsetup_takes_no_signed_extension() {
    let workspace = Workspace::new();
    let text = "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n  - {name: a, files: ['bin/tool:/usr/bin/a']}\n";
    workspace.config(text);
    std::fs::remove_file(workspace.path("rootfs/usr/lib/libcryptsetup.so.12")).unwrap();
    let said = workspace.run("apply --rootfs ../rootfs");
    said.is_refused("libcryptsetup-missing")
        .names(&["libcryptsetup12"]);
    workspace.config(&text.replace("name: a,", "name: a, verity: none,"));
    workspace.run("apply --rootfs ../rootfs").succeeded();
}

#[test]
fn a_broken_image_is_refused_and_what_lay_there_is_kept() {
    let workspace = workspace();
    image_as(&workspace, GOOD, "tools.raw", "whole.raw");
    let whole = workspace.read("project/whole.raw");
    workspace.run(APPLY).succeeded();
    for (name, bytes) in [
        ("half.raw", &whole[..whole.len() / 2]),
        ("sector.raw", &whole[..512]),
        ("header.raw", &whole[..1 << 20]),
    ] {
        workspace.write(&format!("project/{name}"), bytes, 0o644);
        workspace.config(&format!(
            "sysext: {{certificates: [../keys/cert.crt], extensions: [{name}]}}\n"
        ));
        let before = workspace.snapshot();
        for verb in [BUILD, APPLY, CUSTOMIZE] {
            let said = workspace.run(verb);
            assert_eq!(said.status, Some(1), "{name}: {said:?}");
            assert_eq!(said.errors().len(), 1, "{name}: {said:?}");
            said.names(&[name]);
            workspace.is_unchanged(&before, name);
        }
        let inspected = workspace.run(&format!("inspect {name} --output json"));
        inspected.json();
        assert_ne!(
            workspace.run(&format!("verify {name}")).status,
            Some(0),
            "{name}"
        );
        assert_ne!(
            workspace
                .run(&format!("check {name} --target azurelinux-3.0"))
                .status,
            Some(0)
        );
    }
    // One flipped byte of content: described well, but systemd would refuse it.
    let mut flipped = whole.clone();
    let middle = (1 << 20) + 5000;
    flipped[middle] ^= 1;
    workspace.write("project/tools.raw", &flipped, 0o644);
    workspace.config("sysext: {certificates: [../keys/cert.crt], extensions: [tools.raw]}\n");
    let said = workspace.run(APPLY);
    assert_eq!(said.status, Some(1), "{said:?}");
    let placed = workspace.read("rootfs/var/lib/extensions/tools.raw");
    assert_eq!(placed, whole, "the good one is still there");
}

#[test]
fn a_signed_image_without_its_certificate_would_block_all() {
    let workspace = workspace();
    image_as(&workspace, GOOD, "tools.raw", "tools.raw");
    workspace.config("sysext: {certificates: [../keys/other.crt], extensions: [tools.raw]}\n");
    let before = workspace.snapshot();
    let said = workspace.run(APPLY);
    assert_eq!(said.status, Some(1), "{said:?}");
    said.names(&["tools.raw", "certificate"]);
    workspace.is_unchanged(&before, "apply");
}

/// The seed's recipe: the image is named after the version inside, its file is not.
#[test]
fn the_seeds_image_is_placed_under_the_name_of_its_release_file() {
    let workspace = workspace();
    let kubernetes = GOOD
        .replace("name: tools", "name: kubernetes, versionedName: true")
        .replace("'1.0'", "1.30.7");
    image_as(
        &workspace,
        &kubernetes,
        "kubernetes_1.30.7.raw",
        "kubernetes.raw",
    );

    let check = workspace.run("check kubernetes.raw --target azurelinux-3.0");
    assert_eq!(check.status, Some(1), "{check:?}");
    assert!(!check.out.contains("merges-signed"), "{check:?}");
    check.names(&["kubernetes_1.30.7.raw", "help: "]);

    workspace
        .config("sysext:\n  extensions: [kubernetes.raw]\n  certificates: [../keys/cert.crt]\n");
    let apply = workspace.run(APPLY);
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
        workspace.read("rootfs/var/lib/extensions/kubernetes_1.30.7.raw"),
        workspace.read("project/kubernetes.raw"),
        "the bytes are as they came"
    );
    assert!(
        !workspace
            .path("rootfs/var/lib/extensions/kubernetes.raw")
            .exists()
    );

    let expanded = workspace.run("expand --output-file -");
    let text = &expanded.succeeded().out;
    assert!(text.contains("source: kubernetes.raw\n"), "{text}");
    assert!(
        text.contains("destination: /var/lib/extensions/kubernetes_1.30.7.raw\n"),
        "{text}"
    );

    let check = workspace
        .run("check ../rootfs/var/lib/extensions/kubernetes_1.30.7.raw --rootfs ../rootfs");
    check.succeeded();

    for (name, fine) in [
        ("kubernetes", true),
        ("kubernetes_1.30.7", true),
        ("kube", false),
        ("other", false),
    ] {
        workspace.config(&format!(
            "sysext: {{certificates: [../keys/cert.crt], extensions: [{{name: {name}, image: kubernetes.raw}}]}}\n"
        ));
        if fine {
            workspace.run(APPLY).succeeded();
        } else {
            workspace
                .refused(APPLY, "name-disagrees")
                .names(&["name: kubernetes_1.30.7"]);
        }
    }
}

#[test]
fn what_systemd_would_not_merge_is_not_placed() {
    let workspace = workspace();
    for (extra, id) in [
        ("arch: arm64", "release-architecture-mismatch"),
        ("release: {versionId: '2.0'}", "release-version-mismatch"),
        ("release: {id: fedora}", "release-id-mismatch"),
        ("release: {scope: [initrd]}", "release-scope-mismatch"),
    ] {
        workspace.config(&format!(
            "sysext: {{extensions: [{{name: a, tree: tree, verity: none, {extra}}}]}}\n"
        ));
        workspace.run(BUILD).succeeded();
        for verb in [APPLY, CUSTOMIZE] {
            workspace
                .refused(verb, id)
                .names(&["help: ", "config.yaml:1:"]);
        }
    }
}

/// What an earlier apply placed and this one takes out again does not count any more: neither its
/// policy nor its certificates.
#[test]
fn the_next_apply_is_judged_without_what_it_takes_out() {
    let workspace = workspace();
    let signed = "verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt, ";
    workspace.config(&format!(
        "sysext: {{{signed}imagePolicy: signed, extensions: [{{name: a, tree: tree}}]}}\n"
    ));
    workspace.run(APPLY).succeeded();
    workspace.config("sysext: {extensions: [{name: a, tree: tree, verity: none}]}\n");
    workspace.run(APPLY).succeeded();

    workspace.config(&format!(
        "sysext: {{{signed}extensions: [{{name: a, tree: tree}}]}}\n"
    ));
    workspace.run(APPLY).succeeded();
    fs::copy(
        workspace.path("project/.sysext/a.raw"),
        workspace.path("project/b.raw"),
    )
    .unwrap();
    fs::rename(
        workspace.path("project/b.raw"),
        workspace.path("project/a.raw"),
    )
    .unwrap();
    workspace.config("sysext: {extensions: [a.raw]}\n");
    workspace.refused(APPLY, "signer-not-trusted");
}

/// What two extensions have in common, and what is asked of their protection.
#[test]
fn check_tells_conflicts_and_holds_to_demands() {
    let workspace = Workspace::new();
    let extensions = "  extensions:\n  - {name: a, files: [{content: '1', destination: /usr/share/x}]}\n  - {name: b, files: [{content: '2', destination: /usr/share/x}]}\n";
    let keys = "  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n";
    workspace.config(&format!("sysext:\n{keys}{extensions}"));
    let said = workspace.run("apply --rootfs ../rootfs");
    said.succeeded()
        .names(&["layer-conflict", "`b` hides files of `a`", "/usr/share/x"]);
    let check = "check --rootfs ../rootfs";
    workspace
        .run(&format!("{check} --require signed"))
        .succeeded();
    workspace.config(&format!(
        "sysext:\n  allow: ['/usr/share/x']\n{keys}{extensions}"
    ));
    let said = workspace.run(check);
    assert!(!said.succeeded().err.contains("layer-conflict"), "{said:?}");

    let status = |usr: &str| {
        format!(
            "[{{\"hierarchy\":\"/opt\",\"extensions\":\"none\",\"since\":null}},{{\"hierarchy\":\"/usr\",\"extensions\":{usr},\"since\":1}}]"
        )
    };
    workspace.write("project/status", status("[\"a\",\"b\"]"), 0o644);
    workspace
        .run(&format!("{check} --status-json status"))
        .succeeded();
    workspace.write("project/status", status("[\"a\"]"), 0o644);
    workspace
        .refused(&format!("{check} --status-json status"), "status-differs")
        .names(&["/usr: a is merged, predicted was a, b"]);
    workspace.write("project/status", "none", 0o644);
    workspace.refused(
        &format!("{check} --status-json status"),
        "status-unreadable",
    );

    let plain = extensions
        .replace("name: a,", "name: a, verity: none,")
        .replace("name: b,", "name: b, verity: none,");
    workspace.config(&format!("sysext:\n  allow: ['/usr/share/*']\n{plain}"));
    workspace.run("build --rootfs ../rootfs").succeeded();
    workspace.run(check).succeeded();
    let said = workspace.run(&format!("{check} --require verity"));
    assert_eq!(said.status, Some(1), "{said:?}");
    said.names(&["protection-required", "merges-unprotected"]);
}

#[test]
fn holes_of_a_prebuilt_image_are_told() {
    let workspace = workspace();
    image_as(&workspace, GOOD, "tools.raw", "thin.raw");
    let path = workspace.path("project/thin.raw");
    let image = fs::File::options().append(true).open(path).unwrap();
    let length = image.metadata().unwrap().len();
    image.set_len(length + (64 << 20)).unwrap();
    workspace.config("sysext:\n  certificates: [../keys/cert.crt]\n  extensions: [{image: thin.raw, name: tools}]\n");
    let said = workspace.run("expand --rootfs ../rootfs");
    said.names(&["warning[image-sparse]", "config.yaml:3:", "are holes"]);
}
