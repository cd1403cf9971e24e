//! The command line: flags, forms of output, and what `expand` and `build` write where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::harness::bad::{APPLY, BUILD, CUSTOMIZE, GOOD, ground};
use crate::harness::workspace::{Ground, Said, as_nobody, give_to_nobody};

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
