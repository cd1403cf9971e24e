//! Configs that build on others: planned, built, judged, expanded and customized as one.

use serde_yaml::Value;

use crate::harness::said::Said;
use crate::harness::workspace::{Workspace, examples};

const BASE_SECTION: &str = "sysext:\n  verityKey: ../../keys/key.pem\n  verityCertificate: ../../keys/cert.crt\n  extensions:\n  - name: common\n    files: [tool:/usr/bin/common-tool]\n";
const TOP_SECTION: &str = "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n  - name: special\n    files: [bin/tool:/usr/bin/special-tool]\n";

/// A config on a base, both with a section, and a plain config between them.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("project/common/tool", "#!/bin/sh\n", 0o755);
    workspace.write(
        "project/common/base.yaml",
        format!("# for all\nos:\n  hostname: x\n{BASE_SECTION}"),
        0o644,
    );
    workspace.write(
        "project/middle.yaml",
        "previewFeatures: [base-configs]\nbaseConfigs: [{path: common/base.yaml}]  # stays\n",
        0o644,
    );
    workspace.config(&format!(
        "previewFeatures: [base-configs]\nbaseConfigs:\n- path: ./middle.yaml\n{TOP_SECTION}"
    ));
    workspace
}

fn yaml(workspace: &Workspace, name: &str) -> Value {
    serde_yaml::from_slice(&workspace.read(name)).unwrap()
}

fn sources(config: &Value) -> Vec<&str> {
    let files = config["os"]["additionalFiles"].as_sequence().unwrap();
    files
        .iter()
        .filter_map(|file| file["source"].as_str())
        .collect()
}

#[test]
fn every_config_is_expanded_beside_itself() {
    let workspace = workspace();
    workspace.run("build --rootfs ../rootfs").succeeded();
    let sources_before = workspace.read("project/common/base.yaml");
    let said = workspace.run("expand --rootfs ../rootfs --output json");
    assert_eq!(
        said.json()["expandedBases"],
        serde_json::json!(["./common/base.prism.yaml", "./middle.prism.yaml"])
    );
    assert_eq!(workspace.read("project/common/base.yaml"), sources_before);

    let base = yaml(&workspace, "project/common/base.prism.yaml");
    assert_eq!(
        sources(&base),
        [".sysext/common.raw", "../../keys/cert.crt"]
    );
    assert!(base.get("sysext").is_none());
    assert_eq!(
        String::from_utf8(workspace.read("project/middle.prism.yaml")).unwrap(),
        "previewFeatures: [base-configs]\nbaseConfigs: [{path: common/base.prism.yaml}]  # stays\n"
    );
    let top = yaml(&workspace, "project/config.prism.yaml");
    assert_eq!(top["baseConfigs"][0]["path"], "./middle.prism.yaml");
    assert_eq!(sources(&top), [".sysext/special.raw", "../keys/cert.crt"]);
    workspace
        .path("project/common/.sysext/common.raw")
        .metadata()
        .unwrap();

    // What is committed is held current, whichever of the files is stale.
    workspace
        .run("expand --rootfs ../rootfs --check")
        .succeeded();
    workspace.write("project/common/base.prism.yaml", "os: {}\n", 0o644);
    workspace
        .refused("expand --rootfs ../rootfs --check", "expansion-stale")
        .names(&["common/base.prism.yaml"]);
    // An expanded config is plain, and so are its bases.
    workspace.run("expand --rootfs ../rootfs").succeeded();
    let again =
        "expand --rootfs ../rootfs --config-file config.prism.yaml --output-file again.yaml";
    workspace.run(again).succeeded();
    assert_eq!(
        workspace.read("project/again.yaml"),
        workspace.read("project/config.prism.yaml")
    );
}

#[test]
fn all_extensions_are_judged_and_applied_together() {
    let workspace = workspace();
    let applied = workspace.run("apply --rootfs ../rootfs");
    applied.succeeded();
    for name in ["common", "special"] {
        workspace
            .path(&format!("rootfs/var/lib/extensions/{name}.raw"))
            .metadata()
            .unwrap();
    }
    let judged = workspace
        .run("check --rootfs ../rootfs --output json")
        .json();
    let names: Vec<(&str, bool)> = judged["extensions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["listed"] == true))
        .collect();
    assert_eq!(names, [("common", true), ("special", true)]);
    // One of a base can be built alone.
    workspace
        .run("build --rootfs ../rootfs --only common")
        .succeeded();
    workspace.refused("build --rootfs ../rootfs --only comon", "unknown-extension");
}

#[test]
fn style_base_leaves_the_config_and_puts_a_small_one_on_top() {
    let workspace = Workspace::new();
    workspace.config(&format!(
        "# mine\nos:\n  hostname: x   # here\n{TOP_SECTION}"
    ));
    workspace.run("build --rootfs ../rootfs").succeeded();
    workspace
        .run("expand --rootfs ../rootfs --style base")
        .succeeded();
    assert_eq!(
        String::from_utf8(workspace.read("project/config.base.prism.yaml")).unwrap(),
        "# mine\nos:\n  hostname: x   # here\n"
    );
    let top = yaml(&workspace, "project/config.prism.yaml");
    assert_eq!(top["baseConfigs"][0]["path"], "config.base.prism.yaml");
    assert_eq!(top["previewFeatures"][0], "base-configs");
    assert_eq!(sources(&top), [".sysext/special.raw", "../keys/cert.crt"]);
    assert_eq!(
        top["scripts"]["postCustomization"][0]["name"],
        "sysext-enable"
    );
    workspace
        .run("expand --rootfs ../rootfs --style base --check")
        .succeeded();
    for path in ["config.prism.yaml", "config.base.prism.yaml"] {
        let said = workspace.run(&format!("validate-config --config-file {path}"));
        said.succeeded();
    }
}

#[test]
fn troubles_of_a_chain_are_told_where_they_stand() {
    // A circle, a file that is not there, a base that is none.
    for (base, id, place) in [
        (
            "baseConfigs: [{path: ../config.yaml}]\n",
            "base-config-twice",
            "common/base.yaml:1:22",
        ),
        (
            "\nbaseConfigs:\n- path: none.yaml\n",
            "base-config-unreadable",
            "common/base.yaml:3:9",
        ),
        ("os: [\n", "yaml-syntax", "common/base.yaml:"),
        (
            "sysext: {extensions: [{nam: x}]}\n",
            "unknown-key",
            "common/base.yaml:1:24",
        ),
    ] {
        let workspace = workspace();
        workspace.write("project/common/base.yaml", base, 0o644);
        for verb in ["build", "expand", "check"] {
            workspace
                .refused(&format!("{verb} --rootfs ../rootfs"), id)
                .names(&[place]);
        }
    }
    // What holds for the system can't be different in two of them.
    let workspace = workspace();
    workspace.config(&format!(
        "baseConfigs: [{{path: middle.yaml}}]\n{TOP_SECTION}  imagePolicy: signed\n"
    ));
    workspace
        .refused("build --rootfs ../rootfs", "sections-differ")
        .names(&["imagePolicy", "common/base.yaml", "config.yaml:8"]);
}

#[test]
fn what_a_base_does_to_extensions_of_others_is_told_in_the_base() {
    let workspace = workspace();
    workspace.write("project/common/base.yaml", "os:\n  overlays:\n  - {mountPoint: /usr/local, upperDir: /a, workDir: /b}\n  services: {disable: [systemd-sysext]}\n", 0o644);
    let said = workspace.refused("build --rootfs ../rootfs", "service-disabled");
    said.names(&[
        "common/base.yaml:4:",
        "warning[overlay-on-hierarchy]",
        "common/base.yaml:3:",
    ]);
}

#[test]
fn places_that_two_want_are_found_over_the_whole_chain() {
    let taken = |base: &str, top: &str| -> (Workspace, Said) {
        let workspace = workspace();
        workspace.write(
            "project/common/base.yaml",
            format!("{base}{BASE_SECTION}"),
            0o644,
        );
        workspace.write("project/dirs/lib/extensions/special.raw", "x", 0o644);
        workspace.config(&format!(
            "baseConfigs: [{{path: middle.yaml}}]\n{top}{TOP_SECTION}"
        ));
        let said = workspace.run("build --rootfs ../rootfs");
        (workspace, said)
    };
    // A file of the base where the top's extension goes, written in another way.
    let file = "os:\n  additionalFiles:\n  - {source: tool, destination: //var/lib/./extensions/special.raw}\n";
    let (_ground, said) = taken(file, "");
    said.is_refused("destination-taken")
        .names(&["common/base.yaml:3:33", "sysext.extensions[0]"]);
    // A folder.
    let folder = "os:\n  additionalDirs:\n  - {source: dirs, destination: /var}\n";
    let (_ground, said) = taken("", folder);
    said.is_refused("destination-taken")
        .names(&["config.yaml:4:33", "lib/extensions/special.raw"]);
    // The same extension in both.
    let (workspace, _) = taken("", "");
    let same = TOP_SECTION.replace("name: special", "name: common");
    workspace.config(&format!("baseConfigs: [{{path: middle.yaml}}]\n{same}"));
    let said = workspace.run("build --rootfs ../rootfs");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.errors().contains(&"destination-taken"), "{said:?}");
    // The user's own: a warning in one file, a note over two, and nothing for the certificate that both need.
    let twice = "os:\n  additionalFiles:\n  - {content: a, destination: /etc/motd}\n";
    let (_ground, said) = taken(twice, twice);
    said.succeeded().names(&[
        "note[destination-twice]",
        "config.yaml:4",
        "common/base.yaml: os.additionalFiles[0]",
    ]);
    let (_ground, said) = taken(
        "",
        &format!("{twice}  - {{content: b, destination: /etc//motd}}\n"),
    );
    said.succeeded()
        .names(&["warning[destination-twice]", "config.yaml:5"]);
}

#[test]
fn prism_gets_all_of_them_and_nothing_is_left() {
    let workspace = workspace();
    workspace.program("imagecustomizer",
        "#!/bin/sh\nset -eu\necho \"$1\"\nwhile [ \"$1\" != --config-file ]; do shift; done\ncat \"$2\"\n\
         middle=$(sed -n 's/^- path: //p' \"$2\")\ncat \"$middle\"\n\
         base=$(sed -n 's/.*path: \\(common[^}]*\\)}.*/\\1/p' \"$middle\")\ncat \"$base\"\n");
    for verb in ["", "validate-config "] {
        let said = workspace.run(&format!(
            "customize --rootfs ../rootfs --imagecustomizer ../imagecustomizer {verb}--build-dir b"
        ));
        said.succeeded();
        for part in ["special.raw", "common.raw", "hostname: x"] {
            assert!(said.out.contains(part), "{said:?}");
        }
        assert!(!said.out.contains("sysext:"), "{said:?}");
    }
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(workspace.path(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names("project"),
        [".sysext", "bin", "common", "config.yaml", "middle.yaml"]
    );
    assert_eq!(names("project/common"), [".sysext", "base.yaml", "tool"]);
}

/// `validate-config` looks at bases when it may look at files.
#[test]
fn bases_are_validated_with_the_config() {
    let workspace = workspace();
    let validate = "validate-config --target azurelinux-3.0 --validate-resources files,images";
    let said = workspace.run(validate);
    said.succeeded();
    assert_eq!(said.err, "");
    workspace.write(
        "project/common/base.yaml",
        "os:\n  hostnam: x\n  additionalFiles:\n  - {source: gone, destination: /etc/motd}\n\
         sysext:\n  extensions:\n  - {image: gone.raw, name: a}\n  - {name: b, verity: none, tree: nowhere}\n  - {name: c, nmae: d}\n",
        0o644,
    );
    workspace.config(&format!(
        "previewFeatures: [base-configs]\nbaseConfigs:\n- path: middle.yaml\nos: {{hostname: a b}}\n{TOP_SECTION}"
    ));
    // Only the file itself without leave to look at others.
    let alone = workspace.refused("validate-config", "prism-bad-value");
    assert_eq!(alone.errors(), ["prism-bad-value"]);
    let said = workspace.run(validate);
    let ids = [
        "prism-unknown-field",
        "prism-file-missing",
        "unknown-key",
        "prism-bad-value",
    ];
    assert_eq!(said.errors(), ids);
    said.names(&[
        "common/base.yaml:2:3",
        "common/base.yaml:4:",
        "common/base.yaml:9:",
        "config.yaml:4:",
    ]);
    // With what was mistyped gone, what it names is looked for from its own folder.
    let text = String::from_utf8(workspace.read("project/common/base.yaml")).unwrap();
    let text = text
        .replace("  hostnam: x\n", "")
        .replace("  - {name: c, nmae: d}\n", "");
    workspace.write("project/common/base.yaml", text, 0o644);
    let told = workspace.run(&format!("{validate} --output json")).json();
    let told: Vec<(&str, &str, u64)> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let text = |key: &str| it[key].as_str().unwrap_or_default();
            let line = it["line"].as_u64().unwrap_or_default();
            (text("id"), text("config"), line)
        })
        .collect();
    let base = "./common/base.yaml";
    assert_eq!(
        told,
        [
            ("prism-file-missing", base, 3),
            ("image-unreadable", base, 6),
            ("tree-unreadable", base, 7),
            ("prism-bad-value", "", 4),
        ]
    );

    workspace.write(
        "project/middle.yaml",
        "previewFeatures: [base-configs]\nbaseConfigs: [{path: config.yaml}, {path: common/base.yaml}]\n",
        0o644,
    );
    let said = workspace.run(validate);
    assert!(
        said.errors().starts_with(&["prism-file-missing"]),
        "{said:?}"
    );
    said.names(&["error[base-config-twice]", "middle.yaml:2:22"]);
    std::fs::remove_file(workspace.path("project/middle.yaml")).unwrap();
    // Once, not by each that looks for it.
    let said = workspace.run(validate);
    assert_eq!(said.errors(), ["prism-file-missing", "prism-bad-value"]);
    // What they do to each other.
    let twice = "os:\n  additionalFiles:\n  - {content: a, destination: /etc/motd}\n";
    workspace.write("project/middle.yaml", twice, 0o644);
    workspace.config(&format!("previewFeatures: [base-configs]\nbaseConfigs: [{{path: middle.yaml}}]\n{twice}{TOP_SECTION}"));
    workspace
        .run(validate)
        .succeeded()
        .names(&["note[destination-twice]", "config.yaml:5"]);
}

/// Prism's other subcommands.
#[test]
fn other_subcommands_get_what_was_typed() {
    let workspace = workspace();
    workspace.program("imagecustomizer", "#!/bin/sh\necho \"$@\"\nexit 3\n");
    let with = |rest: &str| format!("customize --imagecustomizer ../imagecustomizer {rest}");
    for (typed, passed) in [
        (
            "inject-files --build-dir b --config-file inject.yaml --image-file i.raw",
            "inject-files --build-dir b --image-file i.raw --config-file inject.yaml\n",
        ),
        (
            "--log-level debug convert --image-file i.raw --output-image-format vhdx",
            "convert --log-level debug --image-file i.raw --output-image-format vhdx\n",
        ),
    ] {
        let said = workspace.run(&with(typed));
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(3), passed),
            "{said:?}"
        );
    }
    // `create` knows no files, so a config with a section can't be meant for it.
    workspace
        .refused(&with("create --build-dir b"), "create-not-possible")
        .names(&["--image-file"]);
    // A config without any section is Prism's own, in a folder that can't be written to as well.
    workspace.write("plain/config.yaml", "os: {}\n", 0o644);
    for (verb, name) in [
        ("", "customize"),
        ("create ", "create"),
        ("validate-config ", "validate-config"),
    ] {
        let said = workspace.run(&with(&format!(
            "{verb}--build-dir b --config-file ../plain/config.yaml"
        )));
        let passed = format!("{name} --build-dir b --config-file ../plain/config.yaml\n");
        assert_eq!((said.status, said.out), (Some(3), passed));
    }
}

/// The wrapper of the examples, with a stand-in for docker that runs what it is given.
#[test]
fn the_container_sees_the_same_paths() {
    let workspace = workspace();
    workspace.program(
        "docker",
        "#!/bin/sh\nset -eu\n\
         [ \"$1 $2 $3 $4 $5\" = 'run --rm --privileged=true -v /dev:/dev' ]\n\
         [ \"$6 $7\" = \"-v $PWD:$PWD:z\" ]\n[ \"$8 $9\" = \"-w $PWD\" ]\nshift 9\n\
         [ \"$1\" = registry.example/imagecustomizer:1.7.0 ]\nshift\n\
         echo \"args $*\"\nwhile [ \"$1\" != --config-file ]; do shift; done\n\
         # Mounted is the folder alone, so the config has to be a path below it.\n\
         case $2 in \"$PWD\"/*) ;; *) exit 9 ;; esac\n\
         grep -c sysext-enable \"$2\"\nexit 7\n",
    );
    let wrapper = examples().join("container/imagecustomizer");
    let mut command = workspace.command(
        "customize --rootfs ../rootfs --build-dir build --output-image-file out.raw".split(' '),
    );
    command
        .env("PRISM_IMAGECUSTOMIZER", wrapper)
        .env("PRISM_CONTAINER", "registry.example/imagecustomizer:1.7.0")
        .env("PRISM_ENGINE", workspace.path("docker"));
    let said = Said::of(&mut command);
    assert_eq!(said.status, Some(7), "{said:?}");
    let first = said.out.lines().next().unwrap();
    let start = "args customize --build-dir build --output-image-file out.raw --config-file /";
    assert!(first.starts_with(start), "{first}");
    assert!(said.out.ends_with("\n1\n"), "{said:?}");
}
