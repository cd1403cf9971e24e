//! Images with hash tree, root hash and signature in files of their own, as `veritysetup` and
//! `openssl` make them: all of it is placed, or put into the image.

use std::fs;
use std::path::Path;

use crate::harness::said::Said;
use crate::harness::snapshot::Snapshot;
use crate::harness::tools;
use crate::harness::workspace::Workspace;

const PLACED: [&str; 4] = [
    "demo.raw",
    "demo.roothash",
    "demo.roothash.p7s",
    "demo.verity",
];

/// A file system without partitions as `project/vendor/NAME.raw`, and the rest beside it, signed by
/// `other`.
fn make(workspace: &Workspace, name: &str) {
    workspace.config("sysext:\n  extensions:\n  - {name: demo, layout: bare, verity: none, files: ['bin/tool:/usr/bin/tool'], release: {id: _any}}\n  outputDirectory: made\n");
    workspace.run("build --rootfs ../rootfs").succeeded();
    fs::create_dir_all(workspace.path("project/vendor")).unwrap();
    let at = |ending: &str| workspace.path(&format!("project/vendor/{name}.{ending}"));
    fs::copy(workspace.path("project/made/demo.raw"), at("raw")).unwrap();
    let mut format = tools::command("veritysetup");
    let format = format.arg("format").arg(at("raw")).arg(at("verity"));
    let said = tools::run(format);
    let hash = said
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"));
    fs::write(at("roothash"), hash.unwrap().trim()).unwrap();
    let mut sign = tools::command("openssl");
    let sign = sign
        .args([
            "smime", "-sign", "-nocerts", "-noattr", "-binary", "-outform", "der",
        ])
        .arg("-in")
        .arg(at("roothash"))
        .arg("-inkey")
        .arg(workspace.path("keys/other.pem"))
        .arg("-signer")
        .arg(workspace.path("keys/other.crt"))
        .arg("-out")
        .arg(at("roothash.p7s"));
    tools::run(sign);
}

fn config(more: &str) -> String {
    format!(
        "os:\n  hostname: a\nsysext:\n  imagePolicy: signed\n  certificates: [../keys/other.crt]\n  extensions:\n  - {{image: vendor/demo.raw{more}}}\n"
    )
}

fn verdict(said: &Said) -> (String, Vec<String>) {
    let of = said.json()["extensions"][0].clone();
    let reasons = of["reasons"].as_array().unwrap().iter();
    let ids = reasons.map(|it| it["id"].as_str().unwrap().to_owned());
    (of["verdict"].as_str().unwrap().to_owned(), ids.collect())
}

fn placed(workspace: &Workspace) -> Vec<String> {
    let Ok(found) = fs::read_dir(workspace.path("rootfs/var/lib/extensions")) else {
        return Vec::new();
    };
    let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn all_that_lies_beside_an_image_is_placed_and_taken_out_with_it() {
    if !tools::have(&["veritysetup", "openssl"]) {
        return;
    }
    let workspace = Workspace::new();
    // The release file inside decides the name of all of it.
    make(&workspace, "vendor");
    workspace.config(&config("").replace("demo.raw", "vendor.raw"));
    let planned = workspace.run("apply --rootfs ../rootfs --dry-run --output json");
    let beside = &planned.succeeded().json()["extensions"][0]["beside"];
    assert_eq!(beside.as_array().unwrap().len(), 3, "{planned:?}");
    assert_eq!(beside[0], "/var/lib/extensions/demo.roothash");
    let untouched = workspace.snapshot();

    workspace.run("apply --rootfs ../rootfs").succeeded();
    assert_eq!(placed(&workspace), PLACED);
    for name in PLACED {
        let from = workspace.read(&format!(
            "project/vendor/{}",
            name.replace("demo", "vendor")
        ));
        let to = workspace.read(&format!("rootfs/var/lib/extensions/{name}"));
        assert!(from == to, "{name}");
    }
    let entry = workspace.manifest_entry();
    assert_eq!(entry["origin"], "taken-in");
    let hash = workspace.read("project/vendor/vendor.roothash");
    assert_eq!(entry["rootHash"], String::from_utf8(hash).unwrap());
    assert_eq!(entry["beside"].as_array().unwrap().len(), 3, "{entry:#}");
    let said = workspace.run("check --rootfs ../rootfs --output json");
    assert_eq!(
        verdict(said.succeeded()),
        ("merges-signed".to_owned(), Vec::new())
    );

    // Nothing to do a second time, and nothing is left of it after all.
    let said = workspace.run("apply --rootfs ../rootfs --output json");
    let json = said.succeeded().json();
    let files = json["applied"]["files"].as_array().unwrap();
    assert!(
        files.iter().all(|file| file["action"] == "unchanged"),
        "{said:?}"
    );
    workspace.run("remove demo --rootfs ../rootfs").succeeded();
    let rootfs = |snapshot: &Snapshot| {
        let within = snapshot
            .iter()
            .filter(|(path, _)| path.starts_with("rootfs"));
        let entries = within.map(|(path, entry)| (path.clone(), entry.mode, entry.content.clone()));
        entries.collect::<Vec<_>>()
    };
    assert!(rootfs(&workspace.snapshot()) == rootfs(&untouched));

    // What goes away at its source goes away on the target.
    workspace.run("apply --rootfs ../rootfs").succeeded();
    for ending in ["roothash", "roothash.p7s", "verity"] {
        fs::remove_file(workspace.path(&format!("project/vendor/vendor.{ending}"))).unwrap();
    }
    workspace.config("sysext: {extensions: [vendor/vendor.raw]}\n");
    workspace.run("apply --rootfs ../rootfs").succeeded();
    assert_eq!(placed(&workspace), ["demo.raw"]);
}

#[test]
fn the_expanded_config_brings_it_along_and_is_judged_alike() {
    if !tools::have(&["veritysetup", "openssl"]) {
        return;
    }
    let workspace = Workspace::new();
    make(&workspace, "demo");
    workspace.config(&config(""));
    workspace.run("expand --rootfs ../rootfs").succeeded();
    let text = String::from_utf8(workspace.read("project/config.prism.yaml")).unwrap();
    for name in PLACED {
        let item = format!("source: vendor/{name}\n    destination: /var/lib/extensions/{name}\n");
        assert!(text.contains(&item), "{name}: {text}");
    }
    let said =
        workspace.run("check --config-file config.prism.yaml --rootfs ../rootfs --output json");
    let extensions = said.json()["extensions"].clone();
    assert_eq!(extensions.as_array().unwrap().len(), 1, "{said:?}");
    assert_eq!(verdict(&said).0, "merges-signed", "{said:?}");
    assert!(!said.err.contains("signatures-not-enforced"), "{said:?}");

    // Without the tree it is not protected, and the policy would refuse it.
    let cut = text.replace("/var/lib/extensions/demo.verity", "/opt/demo.verity");
    workspace.write("project/config.prism.yaml", cut, 0o644);
    let said =
        workspace.run("check --config-file config.prism.yaml --rootfs ../rootfs --output json");
    assert_eq!(verdict(&said).0, "blocks-all", "{said:?}");
}

#[test]
fn what_would_not_be_used_stays_where_it_is() {
    if !tools::have(&["veritysetup", "openssl"]) {
        return;
    }
    let workspace = Workspace::new();
    make(&workspace, "demo");
    fs::remove_file(workspace.path("project/vendor/demo.verity")).unwrap();
    workspace.config("sysext: {extensions: [vendor/demo.raw]}\n");
    let said = workspace.run("apply --rootfs ../rootfs");
    said.succeeded()
        .names(&["warning[sidecar-incomplete]", "`.verity`"]);
    assert_eq!(placed(&workspace), ["demo.raw"]);
    workspace.config(&config(""));
    workspace.refused("apply --rootfs ../rootfs", "policy-refuses-image");
}

#[test]
fn a_root_hash_beside_a_disk_image_makes_systemd_use_its_hash_tree() {
    let workspace = Workspace::new();
    let built = "sysext:\n  extensions:\n  - {name: demo, verity: hash, files: ['bin/tool:/usr/bin/tool'], release: {id: _any}}\n  outputDirectory: vendor\n";
    workspace.config(built);
    workspace.run("build --rootfs ../rootfs").succeeded();
    let alone = "sysext: {extensions: [vendor/demo.raw]}\n";
    workspace.config(alone);
    let check = || verdict(&workspace.run("check --rootfs ../rootfs --output json"));
    assert_eq!(check().0, "merges-unprotected");
    let inspected = workspace
        .run("inspect vendor/demo.raw --output json")
        .json();
    let hash = inspected["rootHash"].as_str().unwrap();
    workspace.write("project/vendor/demo.roothash", hash, 0o644);
    assert_eq!(check().0, "merges-verity");
    workspace.run("apply --rootfs ../rootfs").succeeded();
    assert_eq!(placed(&workspace), ["demo.raw", "demo.roothash"]);
    workspace.run("remove demo --rootfs ../rootfs").succeeded();

    // One that the base has already, of another image, counts as well: it would stop everything.
    fs::remove_file(workspace.path("project/vendor/demo.roothash")).unwrap();
    workspace.write(
        "rootfs/var/lib/extensions/demo.roothash",
        "ab".repeat(32),
        0o644,
    );
    assert_eq!(
        check(),
        (
            "blocks-all".to_owned(),
            vec!["sidecar-root-hash".to_owned()]
        )
    );
    workspace.refused("apply --rootfs ../rootfs", "sidecar-root-hash");
}

#[test]
fn a_repair_puts_it_into_the_image_and_keeps_the_signature() {
    if !tools::have(&["veritysetup", "openssl", "sgdisk"]) {
        return;
    }
    let workspace = Workspace::new();
    make(&workspace, "demo");
    let apart = workspace.snapshot();
    workspace.config(&config(", repair: auto"));
    let said = workspace.run("apply --rootfs ../rootfs");
    said.succeeded().names(&["note[repaired]"]);
    assert_eq!(placed(&workspace), ["demo.raw"]);
    let of = workspace.manifest_entry();
    assert_eq!(
        (&of["origin"], &of["repaired"]["changes"][0]["what"]),
        (&"repaired".into(), &"protection".into())
    );
    assert!(of["beside"].is_null(), "{of:#}");
    // The signature brings no certificate along.
    let fingerprint = of["certificateFingerprint"].as_str().unwrap();
    let mut x509 = tools::command("openssl");
    let x509 = x509.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let said = tools::run(x509.arg(workspace.path("keys/other.crt")));
    let said = said.trim().to_lowercase().replace(':', "");
    assert!(said.ends_with(fingerprint), "{said} {fingerprint}");
    assert_eq!(of["verity"], "signed", "{of:#}");
    let said = workspace.run("check --rootfs ../rootfs --output json");
    assert_eq!(verdict(&said), ("merges-signed".to_owned(), Vec::new()));
    let verify = "verify .sysext/demo.raw --certificate ../keys/other.crt";
    workspace.run(verify).succeeded();

    // The same bytes in the places of the table, and the same image again.
    let image = workspace.path("project/.sysext/demo.raw");
    tools::run(tools::command("sgdisk").arg("-v").arg(&image));
    let bytes = fs::read(&image).unwrap();
    let vendor = |ending: &str| &apart[Path::new(&format!("project/vendor/demo.{ending}"))].content;
    let (data, tree) = (vendor("raw"), vendor("verity"));
    assert!(bytes[1 << 20..].starts_with(data));
    assert!(bytes[(1 << 20) + data.len()..].starts_with(tree));
    workspace.run("build --rootfs ../rootfs").succeeded();
    assert!(fs::read(&image).unwrap() == bytes);
    for (path, before) in &apart {
        if path.starts_with("project/vendor") {
            assert!(
                workspace.snapshot().get(path) == Some(before),
                "{}",
                path.display()
            );
        }
    }

    // Trident takes an image and nothing beside it.
    workspace
        .run("expand --rootfs ../rootfs --trident host.yaml")
        .succeeded();
    workspace.config(&config(""));
    workspace.refused(
        "expand --rootfs ../rootfs --trident host.yaml",
        "trident-sidecars",
    );
    workspace.config(&config(", repair: {except: [protection]}"));
    workspace.run("build --rootfs ../rootfs").succeeded();
    assert_eq!(workspace.manifest_entry()["origin"], "taken-in");

    workspace.config(&config(", repair: auto, maxSize: 64K"));
    workspace.refused("build --rootfs ../rootfs", "too-large");

    // A compressed one has the same names beside it.
    let packed = zstd::encode_all(data.as_slice(), 3).unwrap();
    workspace.write("project/vendor/demo.raw.zst", packed, 0o644);
    fs::remove_file(workspace.path("project/vendor/demo.raw")).unwrap();
    workspace.config(&config(", repair: auto").replace("demo.raw", "demo.raw.zst"));
    workspace.run("build --rootfs ../rootfs").succeeded();
    assert!(fs::read(&image).unwrap() == bytes);
    workspace.config(&config("").replace("demo.raw", "demo.raw.zst"));
    workspace.run("remove demo --rootfs ../rootfs").succeeded();
    workspace.run("apply --rootfs ../rootfs").succeeded();
    assert_eq!(placed(&workspace), PLACED);
}

#[test]
fn what_does_not_fit_is_not_joined_and_not_merged() {
    if !tools::have(&["veritysetup", "openssl"]) {
        return;
    }
    // Bytes of data and tree that are not padding, and a digit.
    for (ending, at) in [("raw", 1024), ("verity", 4096), ("roothash", 0)] {
        let workspace = Workspace::new();
        make(&workspace, "demo");
        let path = format!("project/vendor/demo.{ending}");
        let mut bytes = workspace.read(&path);
        bytes[at] ^= 1;
        workspace.write(&path, bytes, 0o644);
        workspace.config(&config(", repair: auto"));
        let said = workspace.run("apply --rootfs ../rootfs");
        assert_eq!(said.status, Some(1), "{ending}: {said:?}");
        assert!(placed(&workspace).is_empty(), "{ending}");
    }
}
