//! `mkosi: FILE`, the block that `import-mkosi` prints, and our own keys build the same bytes.

use crate::harness::said::Said;
use crate::harness::workspace::Workspace;

/// The config of Prism's documentation, with paths of this folder.
const SEED: &str = concat!(
    "[Output]\n",
    "Format=sysext\n",
    "ImageId=kubernetes\n",
    "ImageVersion=1.30.7\n",
    "OutputDirectory=mkosi.output\n",
    "\n",
    "[Validation]\n",
    "Verity=signed\n",
    "VerityKey=../../keys/key.pem\n",
    "VerityCertificate=../../keys/cert.crt\n",
    "\n",
    "[Content]\n",
    "ExtraTrees=bin/kubectl:/usr/local/bin/kubectl, bin/kubelet:/usr/local/bin/kubelet\n",
);

const IMAGE: &str = "project/.sysext/kubernetes_1.30.7.raw";

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("project/k/bin/kubectl", "#!/bin/sh\necho kubectl\n", 0o755);
    workspace.write("project/k/bin/kubelet", "#!/bin/sh\necho kubelet\n", 0o755);
    workspace.write("project/k/mkosi.conf", SEED, 0o644);
    workspace
}

fn with(extension: &str) -> String {
    format!("sysext:\n  extensions:\n  - {extension}\n")
}

/// Builds the config and returns the image.
fn built(workspace: &Workspace, config: &str, image: &str) -> Vec<u8> {
    workspace.config(config);
    workspace.run("build --rootfs ../rootfs").succeeded();
    workspace.read(image)
}

#[test]
fn the_documented_config_builds_what_our_own_keys_build() {
    let workspace = workspace();
    let native = built(&workspace, &with("mkosi: k/mkosi.conf"), IMAGE);
    let folder = built(&workspace, &with("mkosi: k"), IMAGE);
    let own = built(
        &workspace,
        &with(
            "{name: kubernetes, version: 1.30.7, versionedName: true, verityKey: ../keys/key.pem, \
             verityCertificate: ../keys/cert.crt, files: ['k/bin/kubectl:/usr/local/bin/kubectl', \
             'k/bin/kubelet:/usr/local/bin/kubelet']}",
        ),
        IMAGE,
    );
    assert!(native == own && native == folder);
    let said = workspace.run("import-mkosi k/mkosi.conf");
    said.succeeded();
    assert!(
        said.out.starts_with("# mkosi would write SYSEXT_SCOPE"),
        "{}",
        said.out
    );
    let imported = built(
        &workspace,
        &said.out,
        "project/k/mkosi.output/kubernetes_1.30.7.raw",
    );
    assert!(native == imported, "{}", said.out);
}

#[test]
fn folders_drop_ins_seed_and_time_are_taken_over() {
    let workspace = workspace();
    workspace.write(
        "project/k/mkosi.conf",
        "[Output]\nFormat=sysext\nOutput=tools\nImageId=tools\nImageVersion=2\nSeed=0123456789abcdef0123456789abcdef\n\
         [Distribution]\nArchitecture=x86-64\nDistribution=custom\n\
         [Content]\nSourceDateEpoch=1234567890\nExtraTrees=gone:/usr/gone\nExtraTrees=\nExtraTrees=tree\n  share:/usr/share/tools\n",
        0o644,
    );
    workspace.write(
        "project/k/mkosi.conf.d/10-more.conf",
        "[Content]\nExtraTrees=bin/kubectl:/opt/%i/run\n",
        0o644,
    );
    workspace.write("project/k/tree/usr/bin/tool", "#!/bin/sh\n", 0o755);
    workspace.write("project/k/share/a/b", "b", 0o640);
    workspace.write(
        "project/k/mkosi.conf.d/20-more/mkosi.extra/usr/lib/tools/x",
        "x",
        0o644,
    );
    let image = "project/.sysext/tools.raw";
    let native = built(&workspace, &with("mkosi: k"), image);
    let said = workspace.run("import-mkosi k");
    let imported = built(&workspace, &said.succeeded().out, image);
    assert!(native == imported, "{}", said.out);

    let list = workspace.run("inspect .sysext/tools.raw --list");
    let paths = [
        "/usr/bin/tool",
        "/usr/share/tools/a/b",
        "/opt/tools/run",
        "/usr/lib/tools/x",
    ];
    if list.status == Some(0) {
        for path in paths {
            assert!(list.out.contains(path), "{path}: {}", list.out);
        }
    }
    let expect = paths.map(|path| format!("'{path}'")).join(", ");
    workspace.config(&with(&format!(
        "{{mkosi: k, expect: [{expect}], forbid: [/usr/gone]}}"
    )));
    workspace.run("build --rootfs ../rootfs").succeeded();

    // Another seed and another time make another image.
    for key in [
        "seed: '00000000000000000000000000000000000000000000000000000000000000ff'",
        "sourceDateEpoch: 7",
    ] {
        let other = built(&workspace, &with(&format!("{{mkosi: k, {key}}}")), image);
        assert!(native != other, "{key}");
    }
}

#[test]
fn keys_beside_it_win() {
    let workspace = workspace();
    let config = "{mkosi: k, name: other, version: '9', verity: hash, arch: any}";
    built(&workspace, &with(config), "project/.sysext/other.raw");
    let manifest: serde_json::Value =
        serde_json::from_slice(&workspace.read("project/.sysext/sysext-manifest.json")).unwrap();
    let entry = &manifest["extensions"][0];
    assert_eq!(entry["verity"], "hash");
    assert_eq!(entry["release"]["SYSEXT_VERSION_ID"], "9");
    assert_eq!(entry["release"]["ARCHITECTURE"], serde_json::Value::Null);

    workspace.config(&with("{mkosi: k, tree: k}"));
    workspace.refused("build --rootfs ../rootfs", "one-source");
    workspace.config(&with("{mkosi: k, kind: confext}"));
    workspace.refused("build --rootfs ../rootfs", "wrong-value");
}

#[test]
fn what_only_mkosi_can_do_is_refused_with_its_lines() {
    let workspace = workspace();
    let conf = format!("{SEED}Packages=curl\n[Build]\nToolsTree=default\n");
    workspace.write("project/k/mkosi.conf", conf, 0o644);
    workspace.config(&with("mkosi: k"));
    for command in [
        "build --rootfs ../rootfs",
        "validate-config",
        "check --rootfs ../rootfs",
    ] {
        // This machine may have a mkosi.
        let before = workspace.snapshot();
        let mut program = workspace.command(command.split_whitespace());
        let said = Said::of(program.env("PATH", "/nowhere"));
        said.is_refused("mkosi-needed");
        workspace.is_unchanged(&before, command);
        for text in ["Packages=curl (k/mkosi.conf:14)", "ToolsTree=default"] {
            assert!(said.err.contains(text), "{command}: {}", said.err);
        }
    }
    let said = workspace.run("import-mkosi k");
    said.is_refused("mkosi-needed");
    assert!(
        said.out
            .contains("# NOT COVERED, k/mkosi.conf:14: Packages=curl\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("name: kubernetes"), "{}", said.out);

    for (conf, id) in [
        ("[Output]\nFormat=disk\n", "mkosi-format"),
        ("[Output\n", "mkosi-syntax"),
        (
            "[Output]\nFormat=sysext\n[Content]\nExtraTrees=gone:/usr/x\n",
            "file-unreadable",
        ),
        (
            "[Output]\nFormat=sysext\n[Content]\nExtraTrees=bin:/etc\n",
            "outside-hierarchy",
        ),
        (
            "[Output]\nFormat=sysext\n[Content]\nExtraTrees=bin/kubectl:/usr\n",
            "outside-hierarchy",
        ),
        (
            "[Output]\nFormat=sysext\n[Content]\nExtraTrees=.:/\n",
            "outside-hierarchy",
        ),
    ] {
        workspace.write("project/k/mkosi.conf", conf, 0o644);
        workspace.refused("build --rootfs ../rootfs", id);
    }
}

#[test]
fn import_is_read_by_programs_too() {
    let workspace = workspace();
    let said = workspace.run("import-mkosi k/mkosi.conf --output json");
    let value: serde_json::Value = serde_json::from_str(&said.succeeded().out).unwrap();
    let extension = &value["config"]["sysext"]["extensions"][0];
    assert_eq!(extension["name"], "kubernetes");
    assert_eq!(extension["files"][1]["source"], "k/bin/kubelet");
    assert_eq!(value["notCovered"], serde_json::json!([]));
    assert!(!value["remarks"].as_array().unwrap().is_empty());
}

/// Stands in for mkosi: tells how it was called, and brings an image that lies ready.
const STAND_IN: &str = concat!(
    "#!/bin/sh\n",
    "[ \"$1 $2 $3\" = '--directory k --output-directory' ] || exit 3\n",
    "case $4 in /*) ;; *) exit 4 ;; esac\n",
    "[ \"$5 $6\" = '--force build' ] || exit 5\n",
    "echo this is mkosi\n",
    "[ -e ready.raw ] || exit 6\n",
    "cp ready.raw \"$4/$(cat name)\"\n",
);

#[test]
fn an_installed_mkosi_does_what_only_it_can() {
    let workspace = workspace();
    built(&workspace, &with("mkosi: k"), IMAGE);
    let conf = format!("{SEED}Packages=curl\n");
    workspace.write("project/k/mkosi.conf", conf, 0o644);
    workspace.program("tools/mkosi", STAND_IN);
    let path = format!("{}:/usr/bin:/bin", workspace.path("tools").display());
    let run = |args: &str| {
        let mut command = workspace.command(args.split_whitespace());
        Said::of(command.env("PATH", &path))
    };
    let build = "build --rootfs ../rootfs --output json";
    run("build --rootfs ../rootfs").is_refused("mkosi-failed");
    workspace.write("project/ready.raw", workspace.read(IMAGE), 0o644);
    workspace.write("project/name", "other.raw", 0o644);
    run("build --rootfs ../rootfs").is_refused("mkosi-failed");
    let left = std::fs::read_dir(workspace.path("project/.sysext/mkosi")).unwrap();
    assert_eq!(left.count(), 0, "nothing is left of what failed");

    workspace.write("project/name", "kubernetes_1.30.7.raw", 0o644);
    let said = run(build);
    assert!(said.succeeded().err.contains("this is mkosi"), "{said:?}");
    assert_eq!(said.json()["extensions"][0]["origin"], "taken-in");
    let image = "project/.sysext/mkosi/kubernetes_1.30.7.raw";
    assert!(workspace.read(image) == workspace.read(IMAGE));
    // What was made is used by those that make nothing; the certificate is mkosi's.
    workspace.write("project/ready.raw", "", 0o644);
    let checked = run("check --rootfs ../rootfs --output json");
    assert_eq!(
        checked.succeeded().json()["extensions"][0]["verdict"],
        "merges-signed"
    );
    // Keys that say how to build have no effect on what mkosi builds.
    workspace.config(&with("{mkosi: k, compression: zstd}"));
    run("build --rootfs ../rootfs").is_refused("key-without-effect");
}
