//! The command line: flags, forms of output, and what `expand` and `build` write where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::harness::bad::{APPLY, BUILD, CUSTOMIZE, GOOD, workspace};
use crate::harness::nobody::{as_nobody, give_to_nobody};
use crate::harness::said::Said;
use crate::harness::workspace::Workspace;

#[test]
fn a_deferred_image_needs_its_signature_first() {
    let workspace = workspace();
    workspace.config(&GOOD.replace("name: tools", "name: tools, verity: defer"));
    workspace.run(BUILD).succeeded();
    for verb in [APPLY, CUSTOMIZE, "expand --rootfs ../rootfs"] {
        let before = workspace.snapshot();
        let said = workspace.run(verb);
        said.is_refused("unsigned-deferred")
            .names(&["tools.raw", "--allow-unsigned"]);
        // The image is built again, to the same bytes.
        workspace.is_unchanged(&before, verb);
    }
    workspace
        .run("expand --rootfs ../rootfs --allow-unsigned")
        .succeeded();
}

#[test]
fn expand_names_what_is_missing_and_spares_its_source() {
    let workspace = workspace();
    workspace.config(GOOD);
    workspace
        .refused("expand --rootfs ../rootfs", "image-missing")
        .names(&["tools.raw", "prism-sysext build"]);
    workspace.run(BUILD).succeeded();
    for file in ["config.yaml", "./config.yaml", "bin/../config.yaml"] {
        workspace
            .refused(
                &format!("expand --rootfs ../rootfs --output-file {file}"),
                "would-overwrite",
            )
            .names(&["config.yaml"]);
    }
    std::os::unix::fs::symlink("config.yaml", workspace.path("project/link.yaml")).unwrap();
    workspace.refused(
        "expand --rootfs ../rootfs --output-file link.yaml",
        "would-overwrite",
    );
    let said = workspace.run("expand --rootfs ../rootfs --output-file no/such/folder.yaml");
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["no/such/folder.yaml"]);
}

#[test]
fn expand_check_tells_stale_from_fresh() {
    let workspace = workspace();
    workspace.config(GOOD);
    workspace.run(BUILD).succeeded();
    let check = "expand --rootfs ../rootfs --check";
    workspace
        .refused(check, "expansion-stale")
        .names(&["config.prism.yaml", "prism-sysext expand"]);
    workspace.run("expand --rootfs ../rootfs").succeeded();
    let before = workspace.snapshot();
    workspace.run(check).succeeded();
    workspace
        .run(&format!("{check} --output json"))
        .succeeded()
        .json();
    workspace.is_unchanged(&before, check);
    workspace.config(&GOOD.replace("  extensions:", "  enable: service\n  extensions:"));
    workspace
        .refused(check, "expansion-stale")
        .names(&["config.prism.yaml"]);
    workspace
        .refused(&format!("{check} --output json"), "expansion-stale")
        .json();
}

#[test]
fn the_output_folder_must_be_one() {
    let workspace = workspace();
    workspace.config(GOOD);
    workspace.write("project/.sysext", "I am a file", 0o644);
    for verb in [BUILD, APPLY, CUSTOMIZE] {
        let before = workspace.snapshot();
        let said = workspace.run(verb);
        assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
        said.names(&[".sysext", "not a folder"]);
        workspace.is_unchanged(&before, verb);
    }
    workspace
        .run(&format!("{BUILD} --output-dir out"))
        .succeeded();
    assert!(workspace.path("project/out/tools.raw").is_file());
}

#[test]
fn an_output_folder_without_permission_is_named() {
    let workspace = workspace();
    workspace.config(GOOD);
    give_to_nobody_or_skip(&workspace);
    let Some(mut command) = as_nobody(&workspace.command(BUILD.split(' '))) else {
        return;
    };
    // The project is root's, so nobody can't make the folder.
    let project = workspace.path("project");
    std::os::unix::fs::chown(&project, Some(0), Some(0)).unwrap();
    let before = workspace.snapshot();
    let said = Said::of(&mut command);
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&[".sysext", "ermission denied"]);
    workspace.is_unchanged(&before, "build");
    // And with the folder there, but root's.
    fs::create_dir(workspace.path("project/.sysext")).unwrap();
    let said = Said::of(&mut as_nobody(&workspace.command(BUILD.split(' '))).unwrap());
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["tools.raw", "ermission denied"]);
    assert_eq!(
        fs::read_dir(workspace.path("project/.sysext"))
            .unwrap()
            .count(),
        0
    );
}

fn give_to_nobody_or_skip(workspace: &Workspace) {
    if rustix::process::geteuid().is_root() {
        give_to_nobody(workspace.root());
    }
}

#[test]
fn only_takes_names_that_are_listed() {
    let workspace = workspace();
    workspace.config(GOOD);
    workspace
        .refused(&format!("{BUILD} --only tool"), "unknown-extension")
        .names(&["`tool`", "did you mean `tools`"]);
    workspace
        .refused(&format!("{BUILD} --only xyz"), "unknown-extension")
        .names(&["it lists: tools"]);
    workspace.run(&format!("{BUILD} --only tools")).succeeded();
}

#[test]
fn source_date_epoch_is_a_number() {
    let workspace = workspace();
    workspace.config(GOOD);
    for bad in ["yesterday", "-1", "1.5", "", "99999999999999999999999"] {
        let before = workspace.snapshot();
        let said = Said::of(
            workspace
                .command(BUILD.split(' '))
                .env("SOURCE_DATE_EPOCH", bad),
        );
        said.is_refused("source-date-epoch")
            .names(&["SOURCE_DATE_EPOCH"]);
        workspace.is_unchanged(&before, bad);
    }
    for epoch in ["0", "1700000000", "18446744073709551615"] {
        let said = Said::of(
            workspace
                .command(BUILD.split(' '))
                .env("SOURCE_DATE_EPOCH", epoch),
        );
        assert!(matches!(said.status, Some(0 | 1)), "{said:?}");
        let inspected = workspace.run("verify .sysext/tools.raw --certificate ../keys/cert.crt");
        inspected.succeeded();
    }
}

#[test]
fn wrong_flags_are_status_2() {
    let workspace = workspace();
    workspace.config(GOOD);
    let before = workspace.snapshot();
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
        let said = workspace.run(args);
        assert_eq!(said.status, Some(2), "`{args}`: {said:?}");
        assert_eq!(said.out, "", "`{args}`");
        assert!(!said.err.is_empty(), "`{args}`");
        workspace.is_unchanged(&before, args);
    }
    for args in ["--help", "--version", "build --help", "sign keygen --help"] {
        let said = workspace.run(args);
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{args}");
    }
}

#[test]
fn customize_finds_its_flags_and_passes_the_rest_on() {
    let workspace = workspace();
    workspace.config(GOOD);
    workspace.program(
        "imagecustomizer",
        "#!/bin/sh\necho \"$@\" >seen\nexit ${STATUS:-0}\n",
    );
    let args = "customize --build-dir b --imagecustomizer ../imagecustomizer --rootfs ../rootfs --image-file=i.vhdx --log-level debug";
    workspace.run(args).succeeded();
    let seen = String::from_utf8(workspace.read("project/seen")).unwrap();
    assert!(
        seen.starts_with(
            "customize --build-dir b --image-file=i.vhdx --log-level debug --config-file "
        ),
        "{seen}"
    );
    let said = Said::of(workspace.command(args.split(' ')).env("STATUS", "3"));
    assert_eq!(
        said.status,
        Some(3),
        "Prism's own status comes back: {said:?}"
    );
    let said = workspace.run("customize --rootfs ../rootfs --imagecustomizer ./nowhere");
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["./nowhere", "--imagecustomizer"]);
    // Both bases at once are a usage error wherever they stand.
    let said = workspace.run("customize --build-dir b --rootfs ../rootfs --target azurelinux-3.0");
    assert_eq!(said.status, Some(2), "{said:?}");
    // Without the block the config goes to Prism as it is.
    workspace.config("os: {hostname: a}\n");
    workspace
        .run("customize --imagecustomizer ../imagecustomizer")
        .succeeded();
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let workspace = workspace();
    workspace.config(GOOD);
    workspace.run(BUILD).succeeded();
    for args in [
        "schema",
        "inspect .sysext/tools.raw",
        "--help",
        "validate-config",
        "list --rootfs ../rootfs",
    ] {
        let mut child = workspace
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
    let workspace = workspace();
    workspace.config(GOOD);
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
        workspace
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
        let said = workspace.run(&format!("{args} --output json"));
        assert_eq!(said.status, Some(1), "{args}: {said:?}");
        said.json();
    }
}

#[test]
fn keygen_never_replaces_a_key() {
    let workspace = workspace();
    workspace
        .refused("sign keygen --key ../keys/key.pem", "would-overwrite")
        .names(&["../keys/key.pem"]);
    workspace.refused(
        "sign keygen --key new.pem --certificate ../keys/cert.crt",
        "would-overwrite",
    );
    let before = workspace.snapshot();
    let said = workspace.run("sign keygen --key new.pem --certificate no/such/folder.crt");
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    workspace.is_unchanged(&before, "keygen");
    workspace
        .run("sign keygen --key new.pem --certificate new.crt")
        .succeeded();
    let mode = fs::metadata(workspace.path("project/new.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn no_colour_goes_to_a_pipe() {
    let workspace = workspace();
    workspace.config("sysext: {extensions: [{nmae: a}]}\n");
    for value in [None, Some("1")] {
        let mut command = workspace.command(["build"]);
        if let Some(value) = value {
            command.env("NO_COLOR", value);
        }
        let said = Said::of(command.env("TERM", "xterm-256color"));
        assert!(!said.err.contains('\u{1b}'), "{said:?}");
    }
}
