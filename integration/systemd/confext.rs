//! Configuration extensions: built, placed, expanded, taken out, and merged by the real
//! systemd-confext of Debian 13.

use std::fs;

use serde_json::Value;

use crate::harness::said::Said;
use crate::harness::workspace::Workspace;
use crate::harness::{namespace, tools, trixie};

const CONFIG: &str = r#"
sysext:
  imagePolicy: default
  extensions:
  - name: tool
    verity: none
    files: ["bin/tool:/usr/local/bin/tool"]
  - name: settings
    version: "2"
    kind: confext
    verity: none
    files:
    - {content: "answer=42\n", destination: /etc/tool/settings.conf}
"#;
const FILE: &str = "/etc/tool/settings.conf";

#[test]
fn each_kind_has_its_folder_its_release_file_and_its_service() {
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    let applied = workspace.run("apply --rootfs ../rootfs --output json");
    let applied = applied.succeeded().json();
    assert_eq!(applied["applied"]["service"], "placed");
    assert_eq!(applied["applied"]["confextService"], "placed");
    let manifest: Value =
        serde_json::from_slice(&workspace.read("project/.sysext/sysext-manifest.json")).unwrap();
    let entry = &manifest["extensions"][1];
    assert_eq!(entry["kind"], "confext");
    assert_eq!(entry["destination"], "/var/lib/confexts/settings.raw");
    let release = &entry["release"];
    assert_eq!(release["CONFEXT_ID"], "settings");
    assert_eq!(release["CONFEXT_VERSION_ID"], "2");
    assert_eq!(release["CONFEXT_SCOPE"], "system");
    assert!(release.get("SYSEXT_ID").is_none());

    let listed = workspace.run("list --rootfs ../rootfs --output json");
    let listed = listed.succeeded().json();
    assert_eq!(listed["extensions"].as_array().unwrap().len(), 1);
    assert_eq!(
        listed["confexts"][0]["path"],
        "/var/lib/confexts/settings.raw"
    );
    assert_eq!(listed["confextService"]["enabled"], true);

    workspace
        .run("remove settings --rootfs ../rootfs")
        .succeeded();
    let wants = |unit: &str| {
        let link = format!("rootfs/etc/systemd/system/sysinit.target.wants/{unit}");
        fs::symlink_metadata(workspace.path(&link)).is_ok()
    };
    assert!(wants("systemd-sysext.service") && !wants("systemd-confext.service"));
    assert!(
        !workspace
            .path("rootfs/var/lib/confexts/settings.raw")
            .exists()
    );
}

#[test]
fn the_policy_and_the_services_are_of_the_kinds_that_are_there() {
    let workspace = Workspace::new();
    let signed = CONFIG
        .replace("imagePolicy: default", "imagePolicy: signed\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  enable: service")
        .replace("    verity: none\n", "");
    workspace.config(&signed);
    workspace.run("build --target azurelinux-3.0").succeeded();
    let said = workspace.run("expand --target azurelinux-3.0 --output-file -");
    let expanded: Value = serde_yaml::from_str(&said.succeeded().out).unwrap();
    let files = expanded["os"]["additionalFiles"].as_array().unwrap();
    let policy = |kind: &str| {
        let path = format!("/etc/systemd/system/systemd-{kind}.service.d/50-image-policy.conf");
        let file = files.iter().find(|file| file["destination"] == *path);
        file.unwrap()["content"].as_str().unwrap().to_owned()
    };
    assert!(policy("sysext").contains("\nExecStart=systemd-sysext refresh --image-policy=root="));
    assert!(policy("confext").contains("\nExecStart=systemd-confext refresh --image-policy=root="));
    assert_eq!(
        expanded["os"]["services"]["enable"],
        serde_json::json!(["systemd-sysext.service", "systemd-confext.service"])
    );
}

#[test]
fn an_image_of_the_other_kind_is_refused_with_the_way_out() {
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    workspace.run("build --target azurelinux-3.0").succeeded();
    workspace.config("sysext:\n  extensions: [.sysext/settings.raw]\n");
    workspace
        .refused("apply --rootfs ../rootfs", "release-file-missing")
        .names(&["a configuration extension", "write `kind: confext`"]);
}

#[test]
fn debian_13_merges_it() {
    if !tools::have(&["unshare", "mount", "chroot"]) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    let target = rootfs.path();
    let apply = [
        "apply",
        "--allow-unknown",
        "--rootfs",
        target.to_str().unwrap(),
    ];
    let mut command = workspace.command(apply);
    Said::of(&mut command).succeeded();
    let report = namespace::merge_confexts(&target, &[FILE, "/etc/passwd"]);
    assert_eq!(report.merged("/etc"), ["settings"], "{report:?}");
    assert_eq!(report.file(FILE), Some("answer=42\n"), "{report:?}");
    assert!(report.file("/etc/passwd").is_some());
    assert!(!rootfs.at(FILE).exists(), "the namespace leaked");
}
