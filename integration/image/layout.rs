//! Bare file systems and plain folders: built, taken in, placed, checked, listed, taken out, and merged
//! by the real systemd-sysext and systemd-confext of Debian 13.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use prism_sysext::image::dissect;
use serde_json::Value;

use crate::harness::cases::each;
use crate::harness::nobody::{as_nobody, give_to_nobody};
use crate::harness::said::Said;
use crate::harness::workspace::{PROGRAM, Workspace};
use crate::harness::{namespace, tools, trixie};

/// A folder with all that a folder can lose when it is copied.
fn content(workspace: &Workspace) {
    workspace.write("project/root/usr/bin/tool", "#!/bin/sh\n", 0o4755);
    let tool = workspace.path("project/root/usr/bin/tool");
    fs::hard_link(&tool, workspace.path("project/root/usr/bin/again")).unwrap();
    symlink("tool", workspace.path("project/root/usr/bin/link")).unwrap();
    workspace.write("project/root/usr/share/demo/file", "text\n", 0o640);
    let file = workspace.path("project/root/usr/share/demo/file");
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "user.note", b"kept", none).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(&file, Some(7), Some(8)).unwrap();
    }
}

fn config(workspace: &Workspace, extension: &str) {
    workspace.config(&format!("sysext:\n  extensions:\n  - {{{extension}}}\n"));
}

fn verdict(said: &Said) -> String {
    let said = said.json();
    said["extensions"][0]["verdict"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_bare_file_system_is_built_placed_and_expanded() {
    let formats: &[&str] = match tools::have(&["mksquashfs", "mkfs.ext4", "debugfs"]) {
        true => &["erofs", "squashfs", "ext4"],
        false => &["erofs"],
    };
    each(formats, |format| {
        let workspace = Workspace::new();
        content(&workspace);
        config(
            &workspace,
            &format!("name: demo, tree: root, layout: bare, format: {format}"),
        );
        let said = workspace.run("apply --rootfs ../rootfs --output json");
        said.succeeded().names(&["note[layout-unprotected]"]);
        let image = workspace.read("rootfs/var/lib/extensions/demo.raw");
        assert!(image == workspace.read("project/.sysext/demo.raw"));
        assert_eq!(image.len() % 4096, 0, "{format}");
        let entry = workspace.manifest_entry();
        assert_eq!(
            (&entry["layout"], &entry["verity"]),
            (&"bare".into(), &"none".into())
        );
        let inspected = workspace.run("inspect .sysext/demo.raw --output json");
        let inspected = inspected.succeeded().json();
        assert_eq!(inspected["layout"], "naked", "{inspected:#}");

        // The same as a prebuilt image, and for Prism.
        fs::rename(
            workspace.path("project/.sysext/demo.raw"),
            workspace.path("project/demo.raw"),
        )
        .unwrap();
        config(&workspace, "image: demo.raw");
        let said = workspace.run("check --rootfs ../rootfs --output json");
        assert_eq!(verdict(said.succeeded()), "merges-unprotected");
        said.names(&["note[layout-unprotected]"]);
        workspace.run("expand --rootfs ../rootfs").succeeded();
        let policy = "imagePolicy: signed, extensions: [demo.raw]";
        workspace.config(&format!("sysext: {{{policy}}}\n"));
        let said = workspace.run("check --rootfs ../rootfs");
        assert_eq!(said.status, Some(1), "{said:?}");
        said.names(&["error[policy-refuses-image]"]);
    });
}

#[test]
fn what_has_no_room_for_verity_is_asked_for_none() {
    let workspace = Workspace::new();
    content(&workspace);
    let keys = "verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt";
    for layout in ["bare", "directory"] {
        let one = format!("name: demo, tree: root, layout: {layout}");
        for verity in ["signed", "hash", "defer", "true"] {
            let extension = format!("{one}, verity: {verity}");
            workspace.config(&format!(
                "sysext:\n  {keys}\n  extensions:\n  - {{{extension}}}\n"
            ));
            workspace.refused("build --rootfs ../rootfs", "layout-without-verity");
        }
        // The key is for the others.
        let other = one.replace("demo", "other");
        workspace.config(&format!(
            "sysext:\n  {keys}\n  extensions:\n  - {{{one}}}\n  - {{{other}, verity: false}}\n"
        ));
        if rustix::process::geteuid().is_root() || layout == "bare" {
            workspace.run("build --rootfs ../rootfs").succeeded();
        }
        config(&workspace, &format!("{one}, verityKey: ../keys/key.pem"));
        workspace.refused("build --rootfs ../rootfs", "key-without-effect");
    }
    workspace.config(
        "sysext: {imagePolicy: signed, extensions: [{name: demo, tree: root, layout: bare}]}\n",
    );
    workspace.refused("build --rootfs ../rootfs", "policy-refuses-extension");
    config(
        &workspace,
        "name: demo, tree: root, layout: directory, compression: lz4",
    );
    workspace.refused("build --rootfs ../rootfs", "key-without-effect");
}

#[test]
fn more_than_it_may_have_is_refused_in_every_form() {
    let workspace = Workspace::new();
    workspace.write("project/root/usr/share/big", vec![7; 200_000], 0o644);
    // It is made before the first image.
    fs::create_dir(workspace.path("project/.sysext")).unwrap();
    let folder = match rustix::process::geteuid().is_root() {
        true => "directory",
        false => "bare",
    };
    for layout in ["image", "bare", folder] {
        let built = |most: &str| {
            let image = match layout {
                "directory" => "",
                _ => "verity: none, compression: none, ",
            };
            format!(
                "name: demo, layout: {layout}, {image}tree: root, release: {{id: _any}}, maxSize: {most}"
            )
        };
        config(&workspace, &built("100K"));
        let said = workspace.refused("build --rootfs ../rootfs", "too-large");
        said.names(&[
            "/usr/share/big (200000 bytes)",
            "expected 102400 at most",
            "config.yaml:3:",
        ]);
        config(&workspace, &built("4M"));
        workspace.run("build --rootfs ../rootfs").succeeded();
    }
    for there in [".sysext/demo.raw", ".sysext/demo"] {
        if !workspace.path(&format!("project/{there}")).exists() {
            continue;
        }
        config(&workspace, &format!("image: {there}, maxSize: 102400"));
        let said = workspace.refused("build --rootfs ../rootfs", "too-large");
        said.names(&["/usr/share/big (200000 bytes)"]);
        config(&workspace, &format!("image: {there}, maxSize: 1G"));
        workspace.run("build --rootfs ../rootfs").succeeded();
    }
}

#[test]
fn a_folder_is_placed_whole_replaced_and_taken_out() {
    if !tools::root() {
        return;
    }
    each(&["sysext", "confext"], |kind| {
        let workspace = Workspace::new();
        let (source, top, location) = match *kind {
            "sysext" => {
                content(&workspace);
                ("project/root/usr/share/demo/file", "usr", "extensions")
            }
            _ => {
                workspace.write("project/root/etc/demo/file", "text\n", 0o640);
                ("project/root/etc/demo/file", "etc", "confexts")
            }
        };
        let extension = format!("name: demo, kind: {kind}, tree: root, layout: directory");
        config(&workspace, &extension);
        let apply = "apply --rootfs ../rootfs --output json";
        let action = |said: &Said| {
            let said = said.succeeded().json();
            let files = said["applied"]["files"].as_array().unwrap();
            assert_eq!(files.len(), 1, "{said:#}");
            assert_eq!(files[0]["path"], format!("/var/lib/{location}/demo"));
            files[0]["action"].as_str().unwrap().to_owned()
        };
        let said = workspace.run(apply);
        assert_eq!(action(&said), "placed");
        assert!(said.errors().is_empty(), "{said:?}");
        said.names(&["note[layout-unprotected]"]);
        assert_eq!(
            said.json()["prediction"]["extensions"][0]["verdict"],
            "merges-unprotected"
        );
        let placed = workspace.path(&format!("rootfs/var/lib/{location}/demo"));
        if *kind == "sysext" {
            is_whole(&placed, 0);
        }
        if *kind == "sysext" {
            said.names(&["[set-id-inside]"]);
        }
        assert_eq!(workspace.manifest_entry()["layout"], "directory");
        assert_eq!(action(&workspace.run(apply)), "unchanged");

        // Another content, at once in the place of the old one.
        workspace.write(source, "other\n", 0o640);
        assert_eq!(action(&workspace.run(apply)), "replaced");
        let inside = source.strip_prefix("project/root/").unwrap();
        assert_eq!(fs::read(placed.join(inside)).unwrap(), b"other\n");
        let names = fs::read_dir(placed.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside");

        let listed = workspace.run("list --rootfs ../rootfs --output json");
        let listed = listed.succeeded().json();
        let key = if *kind == "sysext" {
            "extensions"
        } else {
            "confexts"
        };
        assert_eq!(listed[key][0]["kind"], "folder", "{listed:#}");
        assert_eq!(listed[key][0]["ours"], true, "{listed:#}");
        let check =
            workspace.run("check --rootfs ../rootfs --config-file /nonexistent --output json");
        assert_eq!(verdict(check.succeeded()), "merges-unprotected");

        // What changed since is not ours any more; not even by force, for it may be anybody's.
        fs::write(placed.join(top).join("new"), "mine").unwrap();
        workspace.refused("remove demo --rootfs ../rootfs", "changed-since");
        workspace.refused("remove demo --force --rootfs ../rootfs", "changed-since");
        workspace.refused(apply, "would-overwrite");
        fs::remove_file(placed.join(top).join("new")).unwrap();
        workspace.run("remove demo --rootfs ../rootfs").succeeded();
        assert!(!placed.exists());
    });
}

/// Modes, owners, links and attributes are those of [`content`].
fn is_whole(placed: &Path, owner: u32) {
    let at = |path: &str| fs::symlink_metadata(placed.join(path)).unwrap();
    let (tool, file) = (at("usr/bin/tool"), at("usr/share/demo/file"));
    assert_eq!(tool.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(tool.ino(), at("usr/bin/again").ino());
    assert_eq!(
        fs::read_link(placed.join("usr/bin/link")).unwrap(),
        Path::new("tool")
    );
    assert_eq!(
        (file.permissions().mode() & 0o7777, file.uid()),
        (0o640, owner)
    );
    assert_eq!(
        (at("").permissions().mode() & 0o7777, at("").uid()),
        (0o755, 0)
    );
    let mut value = [0; 8];
    let path = placed.join("usr/share/demo/file");
    let length = rustix::fs::getxattr(&path, "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"kept");
}

#[test]
fn a_folder_that_was_not_built_is_never_replaced() {
    if !tools::root() {
        return;
    }
    let workspace = Workspace::new();
    content(&workspace);
    let here = |name: &str| {
        workspace.config(&format!(
            "sysext: {{outputDirectory: ., extensions: [{{name: {name}, tree: root, layout: directory}}]}}\n"
        ));
    };
    // Its own source, also one that looks like an extension; and any other.
    here("root");
    workspace.refused("build --rootfs ../rootfs", "would-overwrite");
    let release = "project/root/usr/lib/extension-release.d/extension-release.root";
    workspace.write(release, "ID=azurelinux\nVERSION_ID=3.0\n", 0o644);
    workspace.refused("build --rootfs ../rootfs", "would-overwrite");
    fs::remove_file(workspace.path(release)).unwrap();
    here("bin");
    workspace.refused("build --rootfs ../rootfs", "would-overwrite");
    here("new");
    workspace.run("build --rootfs ../rootfs").succeeded();
    workspace.run("build --rootfs ../rootfs").succeeded();
}

#[test]
fn a_folder_of_others_is_taken_as_it_is() {
    if !tools::root() {
        return;
    }
    let workspace = Workspace::new();
    content(&workspace);
    let release = "project/root/usr/lib/extension-release.d/extension-release.demo";
    workspace.write(release, "ID=_any\n", 0o644);
    config(&workspace, "image: root, keepOwners: true");
    let said = workspace.run("apply --rootfs ../rootfs");
    said.succeeded();
    said.names(&["root is placed as demo", "note[layout-unprotected]"]);
    is_whole(&workspace.path("rootfs/var/lib/extensions/demo"), 7);
    assert_eq!(workspace.manifest_entry()["origin"], "taken-in");
    config(&workspace, "image: root");
    workspace.run("apply --rootfs ../rootfs").succeeded();
    is_whole(&workspace.path("rootfs/var/lib/extensions/demo"), 0);

    workspace.refused("expand --rootfs ../rootfs", "folder-needs-apply");
    workspace.refused("customize --rootfs ../rootfs", "folder-needs-apply");
    config(&workspace, "image: root, expect: [/usr/bin/other]");
    workspace.refused("build --rootfs ../rootfs", "expected-path-missing");
    config(&workspace, "image: root, kind: confext");
    workspace.refused("build --rootfs ../rootfs", "release-file-missing");
    config(&workspace, "image: root, repair: auto");
    workspace.refused("build --rootfs ../rootfs", "repair-refused");
    config(&workspace, "image: root, name: other");
    workspace.refused("build --rootfs ../rootfs", "name-disagrees");
    config(&workspace, "image: {path: root, sha256: '00'}");
    workspace.refused("build --rootfs ../rootfs", "wrong-value");
}

#[test]
fn without_the_right_to_give_files_away_there_is_a_way_out() {
    let workspace = Workspace::new();
    content(&workspace);
    config(&workspace, "name: demo, tree: root, layout: directory");
    give_to_nobody(workspace.root());
    let command = workspace.command(["build", "--rootfs", "../rootfs"]);
    let Some(mut command) = as_nobody(&command) else {
        return;
    };
    let before = workspace.snapshot();
    let said = Said::of(&mut command);
    said.is_refused("owners-not-settable")
        .names(&["layout: bare"]);
    fs::remove_dir(workspace.path("project/.sysext")).unwrap();
    workspace.is_unchanged(&before, "build");
}

#[test]
fn debian_13_merges_all_forms_and_a_policy_stops_the_bare_ones_only() {
    if !(tools::root() && tools::have(&["unshare", "mount", "chroot", "mksquashfs", "mkfs.ext4"])) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let workspace = Workspace::new();
    let release = "usr/lib/extension-release.d/extension-release.taken";
    workspace.write(&format!("project/taken/{release}"), "ID=_any\n", 0o644);
    workspace.write("project/taken/usr/share/taken/probe", "taken", 0o644);
    let mut text = "sysext:\n  extensions:\n  - {image: taken}\n".to_owned();
    let own = |name: &str, more: &str| {
        format!(
            "  - {{name: {name}, {more}, files: [{{content: {name}, destination: /usr/share/{name}/probe}}]}}\n"
        )
    };
    text += &own("folder", "layout: directory");
    for format in ["erofs", "squashfs", "ext4"] {
        text += &own(format, &format!("layout: bare, format: {format}"));
    }
    for (name, layout) in [("settings", "directory"), ("more", "bare")] {
        text += &format!(
            "  - {{name: {name}, kind: confext, layout: {layout}, files: [{{content: {name}, destination: /etc/{name}/probe}}]}}\n"
        );
    }
    workspace.config(&text);
    let root = rootfs.path();
    let root = root.to_str().unwrap();
    let apply = ["apply", "--allow-unknown", "--rootfs", root];
    Said::of(&mut workspace.command(apply)).succeeded();

    let names = ["erofs", "ext4", "folder", "squashfs", "taken"];
    let probes = names.map(|name| format!("/usr/share/{name}/probe"));
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    let report = namespace::merge(&rootfs.path(), &probes);
    assert_eq!(report.merged("/usr"), names, "{report:#?}");
    for (name, probe) in names.iter().zip(&probes) {
        assert_eq!(report.file(probe), Some(*name), "{report:#?}");
    }
    let report = namespace::merge_confexts(&rootfs.path(), &["/etc/settings/probe"]);
    assert_eq!(report.merged("/etc"), ["more", "settings"], "{report:#?}");
    assert_eq!(
        report.file("/etc/settings/probe"),
        Some("settings"),
        "{report:#?}"
    );

    // Under a policy that wants signatures a bare one stops all; folders alone are merged.
    let policy = "root=signed+absent:usr=signed+absent";
    let drop_in = format!(
        "[Service]\nExecStart=\nExecStart=systemd-sysext refresh --image-policy={policy}\n"
    );
    rootfs.write(
        "/etc/systemd/system/systemd-sysext.service.d/policy.conf",
        drop_in,
    );
    let predicted = || {
        let config = "/nonexistent";
        let said = Said::of(&mut workspace.command([
            "check",
            "--allow-unknown",
            "--output",
            "json",
            "--config-file",
            config,
            "--rootfs",
            root,
        ]));
        (said.json()["stack"]["merged"].as_bool().unwrap(), said.out)
    };
    let strict = || {
        let report =
            namespace::merge_with(&rootfs.path(), 257, &[&format!("--image-policy={policy}")]);
        report
            .merged("/usr")
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let (merged, said) = predicted();
    assert!(!merged && said.contains("policy-refuses-image"), "{said}");
    assert!(strict().is_empty());
    for format in ["erofs", "squashfs", "ext4"] {
        fs::remove_file(rootfs.at(&format!("/var/lib/extensions/{format}.raw"))).unwrap();
    }
    let (merged, said) = predicted();
    assert!(
        merged && said.contains("policy-passes-over-folder"),
        "{said}"
    );
    assert_eq!(strict(), ["folder", "taken"]);
}

#[test]
fn a_subvolume_is_a_folder() {
    if !(tools::root() && tools::have(&["mkfs.btrfs", "mount", "btrfs"])) {
        return;
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.contains("btrfs") && !tools::skip("this kernel has no btrfs") {
        return;
    }
    let workspace = Workspace::new();
    content(&workspace);
    let disk = workspace.path("disk");
    fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
    tools::run(tools::command("mkfs.btrfs").arg("-q").arg(&disk));
    let location = workspace.path("rootfs/var/lib/extensions");
    fs::create_dir_all(&location).unwrap();
    // A mount of its own, which goes with the process.
    let script = r#"set -e
mount --make-rprivate /
mount -o loop "$1" "$2"
btrfs -q subvolume create "$2/demo"
cp -a root/usr "$2/demo/"
mkdir -p "$2/demo/usr/lib/extension-release.d"
printf "ID=_any\nARCHITECTURE=_any\n" > "$2/demo/usr/lib/extension-release.d/extension-release.demo"
"$3" apply --rootfs ../rootfs --config-file take.yaml
test -d "$2/taken/usr"
"$3" check --rootfs ../rootfs --config-file /nonexistent --output json > ../check.json
"$3" list --rootfs ../rootfs --output json > ../list.json
umount "$2"
"#;
    let take = "sysext: {extensions: [{name: taken, tree: root, layout: directory}]}\n";
    workspace.write("project/take.yaml", take, 0o644);
    let mut unshare = tools::command("unshare");
    unshare
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&disk)
        .arg(&location)
        .arg(PROGRAM)
        .current_dir(workspace.path("project"));
    tools::run(&mut unshare);
    let json = |name: &str| -> Value { serde_json::from_slice(&workspace.read(name)).unwrap() };
    let check = json("check.json");
    assert_eq!(
        check["extensions"][0]["verdict"], "merges-unprotected",
        "{check:#}"
    );
    let list = json("list.json");
    assert_eq!(list["extensions"][0]["kind"], "folder", "{list:#}");
}

#[test]
fn a_named_image_is_judged_with_what_lies_beside_it() {
    let workspace = Workspace::new();
    content(&workspace);
    config(
        &workspace,
        "name: demo, tree: root, compression: none, verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt",
    );
    workspace.run("apply --rootfs ../rootfs").succeeded();
    let path = workspace.path("project/.sysext/demo.raw");
    let image = dissect::open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let of = |part: Option<dissect::Part>| {
        let part = part.unwrap();
        let start = usize::try_from(part.offset).unwrap();
        bytes[start..start + usize::try_from(part.size).unwrap()].to_vec()
    };
    let dissect::SignatureState::Present { partition, .. } = &image.signature else {
        panic!("not signed");
    };
    let check = || {
        let said = workspace.run("check demo.raw --rootfs ../rootfs --output json");
        (verdict(&said), said)
    };
    let put = |ending: &str, bytes: &[u8]| {
        workspace.write(&format!("project/demo.{ending}"), bytes, 0o644)
    };
    put("raw", &of(image.data));
    assert_eq!(check().0, "merges-unprotected");
    put("verity", &of(image.hash));
    let (verdict, said) = check();
    assert_eq!(verdict, "merges-unprotected");
    said.names(&["warning[sidecar-incomplete]"]);
    put("roothash", image.root_hash.unwrap().to_string().as_bytes());
    assert_eq!(check().0, "merges-verity");
    put("roothash.p7s", &partition.signature);
    assert_eq!(check().0, "merges-signed");
    fs::remove_file(workspace.path("rootfs/etc/verity.d/cert.crt")).unwrap();
    workspace.refused("check demo.raw --rootfs ../rootfs", "signer-not-trusted");
    put("roothash.p7s", b"");
    workspace.refused("check demo.raw --rootfs ../rootfs", "sidecar-unusable");
}
