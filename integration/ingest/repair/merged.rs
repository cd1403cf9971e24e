//! What was repaired before a booted machine, and before systemd-sysext and systemd-confext.

use std::fs::{self};
use std::path::Path;

use prism_sysext::tree::{Source, Tree};

use super::original::{FILE, Original, RELEASE, make_apart};
use super::{cases, config};
use crate::harness::guest::{BOOTED, REMERGE, Stage, boot, possible};
use crate::harness::workspace::Workspace;
use crate::harness::{namespace, tools, trixie};

/// One boot: all repaired images are merged under a policy that admits signed ones with a root
/// partition only, and then none of the originals is, each alone.
#[test]
fn a_booted_machine_merges_all_repaired_images_and_none_of_the_originals() {
    if !(possible() && tools::root() && tools::have(&["mksquashfs", "mkfs.ext4", "debugfs"])) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let workspace = Workspace::new();
    let mut config = "sysext:\n  imagePolicy: root=signed+absent\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  extensions:\n".to_owned();
    let apart: fn(&Workspace, &Path) =
        |workspace, path| make_apart(workspace, path, "demo", RELEASE);
    // One file system alone is like another.
    let alike = ["squashfs alone", "ext4 alone"];
    let makers = cases().into_iter().map(|case| (case.what, case.make));
    let makers = makers.filter(|(what, _)| !alike.contains(what));
    let makers: Vec<_> = makers
        .chain([("all in files of their own", apart)])
        .collect();
    for (index, (_, make)) in makers.iter().enumerate() {
        let name = format!("project/{index}/demo.raw");
        fs::create_dir(workspace.path(&format!("project/{index}"))).unwrap();
        make(&workspace, &workspace.path(&name));
        // The name tells them apart once they are merged.
        config += &format!(
            "  - {{image: {index}/demo.raw, name: repaired{index}, repair: auto, resign: true}}\n"
        );
        rootfs.write(&format!("/referee/{index}.raw"), workspace.read(&name));
    }
    // Two keep the signature of their maker: inside the image, and beside it.
    for (name, keys) in [("joined", ", repair: auto"), ("beside", "")] {
        let image = workspace.path(&format!("project/{name}.raw"));
        let release = format!("ID=_any\nSYSEXT_ID={name}\n");
        make_apart(&workspace, &image, name, &release);
        config += &format!("  - {{image: {name}.raw{keys}}}\n");
    }
    config += "  certificates: [../keys/other.crt]\n";
    workspace.config(&config);
    let root = rootfs.path();
    let said = workspace.run(&format!(
        "apply --allow-unknown --rootfs {}",
        root.display()
    ));
    said.succeeded();
    let good = fs::read(rootfs.at("/var/lib/extensions/repaired0.raw")).unwrap();
    rootfs.write("/referee/good.raw", good);
    let alone = |from: String, name: &str| {
        format!(
            "systemctl stop systemd-sysext.service\nrm -f /var/lib/extensions/*\ncp /referee/{from}.raw /var/lib/extensions/{name}.raw\n{REMERGE}"
        )
    };
    let befores = (0..makers.len()).map(|index| alone(index.to_string(), "demo"));
    // The last tells that this way works.
    let commands: Vec<String> = befores
        .chain([alone("good".to_owned(), "repaired0")])
        .collect();
    let mut stages = vec![BOOTED];
    stages.extend(commands.iter().map(|before| Stage {
        name: "alone",
        before,
        log: false,
    }));
    let reports = boot(&rootfs, &stages, &[FILE]);
    let [after, befores @ .., again] = reports.as_slice() else {
        panic!("no reports");
    };
    let mut merged = after.merged("/usr");
    merged.sort_unstable();
    let mut expected: Vec<String> = (0..makers.len())
        .map(|it| format!("repaired{it}"))
        .collect();
    expected.extend(["beside", "joined"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(merged, expected, "{after:#?}");
    assert_eq!(after.verity.len(), expected.len(), "{after:#?}");
    assert_eq!(after.file(FILE), Some("text\n"));
    assert_eq!(again.merged("/usr"), ["repaired0"], "{again:#?}");
    assert_eq!(befores.len(), makers.len());
    for (before, (what, _)) in befores.iter().zip(&makers) {
        assert!(before.merged("/usr").is_empty(), "{what}: {before:#?}");
    }
}

#[test]
fn systemd_merges_what_it_did_not_merge() {
    if !(tools::root() && tools::have(&["unshare", "mount", "chroot"])) {
        return;
    }
    // Those that Debian's kernel and systemd 257 refuse, too; signatures need device-mapper.
    let wanted = [
        "a release file of another name",
        "an architecture by uname's name",
        "an os-release file, and files that are never merged",
    ];
    for case in cases().iter().filter(|case| wanted.contains(&case.what)) {
        let Some(rootfs) = trixie::rootfs() else {
            return;
        };
        let workspace = Workspace::new();
        let original = workspace.path("project/demo.raw");
        (case.make)(&workspace, &original);
        rootfs.write("/var/lib/extensions/demo.raw", fs::read(&original).unwrap());
        let before = namespace::merge(&rootfs.path(), &[FILE]);
        assert!(
            before.merged("/usr").is_empty(),
            "{}: {before:?}",
            case.what
        );

        fs::remove_file(rootfs.at("/var/lib/extensions/demo.raw")).unwrap();
        workspace.config(&config(case.keys));
        workspace
            .run(&format!("apply --rootfs {}", rootfs.path().display()))
            .succeeded();
        let after = namespace::merge(&rootfs.path(), &[FILE]);
        assert_eq!(after.merged("/usr"), ["demo"], "{}: {after:?}", case.what);
        assert_eq!(after.file(FILE), Some("text\n"), "{}", case.what);
    }
}

#[test]
fn a_configuration_extension_is_repaired_too() {
    if !(tools::root() && tools::have(&["unshare", "mount", "chroot"])) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let workspace = Workspace::new();
    let mut tree = Tree::new();
    for (path, text) in [
        (
            "etc/extension-release.d/extension-release.other",
            "ID=_any\nARCHITECTURE=amd64\n",
        ),
        ("etc/demo/file", "text\n"),
        ("usr/share/never/merged", "x"),
    ] {
        let source = Source::Bytes(text.as_bytes().to_vec());
        tree.insert_file(path.as_bytes(), source, text.len() as u64, 0o644)
            .unwrap();
    }
    let original = workspace.path("project/demo.raw");
    Original::default().make_of(&tree, &original);
    let place = "/var/lib/confexts/demo.raw";
    rootfs.write(place, fs::read(&original).unwrap());
    let probe = "/etc/demo/file";
    let before = namespace::merge_confexts(&rootfs.path(), &[probe]);
    assert!(before.merged("/etc").is_empty(), "{before:?}");
    fs::remove_file(rootfs.at(place)).unwrap();
    workspace.config(&config("kind: confext, name: demo"));
    let said = workspace.run(&format!("apply --rootfs {}", rootfs.path().display()));
    said.succeeded();
    let entry = workspace.manifest_entry();
    let changes = entry["repaired"]["changes"].as_array().unwrap();
    let changes: Vec<&str> = changes
        .iter()
        .map(|it| it["what"].as_str().unwrap())
        .collect();
    assert_eq!(changes, ["release-file", "id", "architecture", "outside"]);
    assert_eq!(entry["release"]["CONFEXT_ID"], "demo");
    let after = namespace::merge_confexts(&rootfs.path(), &[probe]);
    assert_eq!(after.merged("/etc"), ["demo"], "{after:?}");
    assert_eq!(after.file(probe), Some("text\n"), "{after:?}");
}
