//! `repair: auto`: every image is bad before, and merged after; the real systemd-sysext agrees.

mod merged;
mod original;

use std::fs::{self};
use std::path::Path;

use prism_sysext::build::assemble::Protection;
use prism_sysext::image::ImageFormat;
use prism_sysext::image::dissect;
use prism_sysext::image::erofs::compress::Compression;
use prism_sysext::image::mkfs::squashfs;
use prism_sysext::tree::{Inode, Kind};

use crate::harness::cases::each;
use crate::harness::workspace::Workspace;
use crate::harness::{namespace, tools, trixie};
use original::{FILE, Original, key_of, make_apart, make_ext2};

/// A row of the table: how it is made, what the config says beside it, before, after, what changes.
struct Case {
    what: &'static str,
    make: fn(&Workspace, &Path),
    keys: &'static str,
    before: &'static str,
    after: &'static str,
    changes: &'static [&'static str],
}

const SIGNED: &str = "verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt";

fn cases() -> Vec<Case> {
    let case = |what, make, keys, (before, after), changes| Case {
        what,
        make,
        keys,
        before,
        after,
        changes,
    };
    let of = |make: fn(&Workspace, &Path)| make;
    vec![
        case(
            "a release file of another name",
            of(|_, path| {
                drop(
                    Original {
                        name: "other",
                        ..Original::default()
                    }
                    .make(path),
                )
            }),
            "name: demo",
            ("blocks-all", "merges-unprotected"),
            &["release-file"],
        ),
        case(
            "no id",
            of(|_, path| {
                drop(
                    Original {
                        release: "ID=_any\n",
                        ..Original::default()
                    }
                    .make(path),
                )
            }),
            "",
            ("merges-unprotected", "merges-unprotected"),
            &["id"],
        ),
        case(
            "an architecture by uname's name",
            of(|_, path| {
                let release = "ID=_any\nSYSEXT_ID=demo\nARCHITECTURE=x86_64\n";
                Original {
                    release,
                    ..Original::default()
                }
                .make(path);
            }),
            "",
            ("ignored", "merges-unprotected"),
            &["architecture"],
        ),
        case(
            "a hash tree that is not used",
            of(|_, path| {
                drop(
                    Original {
                        verity: Protection::Hash,
                        ..Original::default()
                    }
                    .make(path),
                )
            }),
            SIGNED,
            ("merges-unprotected", "merges-signed"),
            &["protection"],
        ),
        case(
            "a file system alone",
            of(|_, path| Original::default().make_naked(path)),
            SIGNED,
            ("merges-unprotected", "merges-signed"),
            &["protection"],
        ),
        case(
            "squashfs alone",
            of(|_, path| {
                let gzip = squashfs::Compression::Gzip;
                Original::of(ImageFormat::Squashfs(gzip)).make_naked(path);
            }),
            SIGNED,
            ("merges-unprotected", "merges-signed"),
            &["protection"],
        ),
        case(
            "ext4 alone",
            of(|_, path| Original::of(ImageFormat::Ext4).make_naked(path)),
            SIGNED,
            ("merges-unprotected", "merges-signed"),
            &["protection"],
        ),
        case(
            "a partition for /usr, signed by a stranger",
            of(|workspace, path| {
                let key = key_of(workspace, "other");
                Original {
                    verity: Protection::Signed(&key),
                    ..Original::default()
                }
                .make_usr(path);
            }),
            "resign: true, verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt",
            ("merges-unprotected", "merges-signed"),
            &["usr-partition"],
        ),
        case(
            "a compression that the kernel lacks",
            of(|_, path| {
                let compression = Some(Compression::Zstd { level: 3 });
                let format = ImageFormat::Erofs {
                    compression,
                    share_compressed: false,
                };
                let text = "ID=_any\nSYSEXT_ID=demo\n# ".to_owned() + &"long ".repeat(4000) + "\n";
                Original {
                    format,
                    release: &text,
                    ..Original::default()
                }
                .make(path);
            }),
            "",
            ("blocks-all", "merges-unprotected"),
            &["file-system"],
        ),
        case(
            "an os-release file, and files that are never merged",
            of(|_, path| {
                let files = &["usr/lib/os-release", "var/lib/x", "etc/x"];
                Original {
                    files,
                    ..Original::default()
                }
                .make(path);
            }),
            "",
            ("ignored", "merges-unprotected"),
            &["os-release", "outside"],
        ),
        case(
            "whiteouts",
            of(|_, path| {
                let original = Original::default();
                let mut tree = original.tree();
                let whiteout = Inode::new(0, Kind::CharDevice(0, 0));
                tree.insert(b"usr/bin/gone", whiteout).unwrap();
                let id = tree.make_dirs(b"usr/share/opaque").unwrap();
                let marks = &mut tree.get_mut(id).unwrap().xattrs;
                marks.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
                original.make_of(&tree, path);
            }),
            "",
            ("merges-unprotected", "merges-unprotected"),
            &["whiteouts"],
        ),
    ]
}

fn config(keys: &str) -> String {
    let keys = if keys.is_empty() {
        String::new()
    } else {
        format!(", {keys}")
    };
    format!("sysext:\n  extensions: [{{image: demo.raw, repair: auto{keys}}}]\n")
}

fn verdict(workspace: &Workspace, args: &str) -> String {
    let said = workspace.run(&format!("check {args} --rootfs ../rootfs --output json"));
    said.json()["extensions"][0]["verdict"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn each_repair_makes_an_image_that_is_merged() {
    if !tools::have(&["mksquashfs", "mkfs.ext4", "debugfs"]) {
        return;
    }
    each(&cases(), |case| {
        let what = case.what;
        let workspace = Workspace::new();
        let original = workspace.path("project/demo.raw");
        (case.make)(&workspace, &original);
        let bytes = workspace.read("project/demo.raw");
        assert_eq!(verdict(&workspace, "demo.raw"), case.before, "{what}");

        workspace.config(&config(case.keys));
        let said = workspace.run("build --rootfs ../rootfs");
        assert!(
            said.succeeded().err.contains("note[repaired]"),
            "{what}: {said:?}"
        );
        assert_eq!(verdict(&workspace, ""), case.after, "{what}");
        assert!(
            workspace.read("project/demo.raw") == bytes,
            "{what}: the original stays"
        );

        let entry = workspace.manifest_entry();
        assert_eq!(entry["origin"], "repaired", "{what}");
        let changes = entry["repaired"]["changes"].as_array().unwrap();
        let changes: Vec<&str> = changes
            .iter()
            .map(|it| it["what"].as_str().unwrap())
            .collect();
        assert_eq!(changes, case.changes, "{what}");
        let digest = tools::run(tools::command("sha256sum").arg(&original));
        let sha256 = entry["repaired"]["originalSha256"].as_str().unwrap();
        assert!(digest.starts_with(sha256), "{what}");

        // All that was not to be changed is as it was.
        let image = dissect::open(&workspace.path("project/.sysext/demo.raw")).unwrap();
        let fs = image.file_system().unwrap();
        let found = fs.metadata(FILE).unwrap().unwrap();
        assert_eq!((found.mode, found.uid, found.size), (0o640, 7, 5), "{what}");
        assert_eq!(fs.read(FILE, 9).unwrap(), b"text\n");
        let same = |path: &str| fs.hard_link(Path::new(path)).unwrap();
        assert!(
            same(FILE).is_some() && same(FILE) == same("/usr/share/demo/same"),
            "{what}"
        );
        assert_eq!(
            fs.read_link("/usr/share/demo/link").unwrap(),
            Path::new("../demo/file")
        );
        let notes = fs.xattrs(Path::new(FILE)).unwrap().unwrap();
        assert_eq!(
            notes.get(b"user.note".as_slice()).unwrap(),
            b"kept",
            "{what}"
        );
        let top: Vec<_> = fs
            .list("/")
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(top, ["usr"], "{what}");
        for gone in ["/usr/lib/os-release", "/usr/bin/gone"] {
            assert!(
                fs.symlink_metadata(gone).unwrap().is_none(),
                "{what}: {gone}"
            );
        }

        // The same again.
        let first = workspace.read("project/.sysext/demo.raw");
        workspace.run("build --rootfs ../rootfs").succeeded();
        assert!(
            workspace.read("project/.sysext/demo.raw") == first,
            "{what}"
        );
    });
}

#[test]
fn what_needs_no_repair_or_must_not_change_is_taken_as_it_is() {
    let workspace = Workspace::new();
    let image = workspace.path("project/demo.raw");
    Original::default().make(&image);
    workspace.config(&config(""));
    workspace.run("build --rootfs ../rootfs").succeeded();
    assert_eq!(workspace.manifest_entry()["origin"], "taken-in");

    // A signature is not broken unless that is written.
    let key = key_of(&workspace, "other");
    let release = "ID=_any\nARCHITECTURE=amd64\n";
    let signed = Original {
        release,
        verity: Protection::Signed(&key),
        ..Original::default()
    };
    signed.make(&image);
    let said = workspace.run("build --rootfs ../rootfs");
    assert!(said.err.contains("warning[repair-left-out]"), "{said:?}");
    assert_eq!(workspace.manifest_entry()["origin"], "taken-in");
    workspace.config(&config("resign: true"));
    workspace.refused("build --rootfs ../rootfs", "key-missing");
    workspace.config(&config(&format!("resign: true, {SIGNED}")));
    workspace.run("build --rootfs ../rootfs").succeeded();
    assert_eq!(verdict(&workspace, ""), "merges-signed");

    let pin = "0".repeat(64);
    workspace.config(&format!(
        "sysext: {{extensions: [{{image: {{path: demo.raw, sha256: '{pin}'}}, repair: auto}}]}}\n"
    ));
    workspace.refused("build --rootfs ../rootfs", "repair-pinned");
}

#[test]
fn tampered_content_gets_no_new_hash_tree() {
    let workspace = Workspace::new();
    let image = workspace.path("project/demo.raw");
    let made = Original {
        verity: Protection::Hash,
        ..Original::default()
    }
    .make(&image);
    let mut bytes = workspace.read("project/demo.raw");
    let end = usize::try_from((made.partitions[0].last_lba + 1) * 512).unwrap();
    let at = bytes[..end]
        .windows(5)
        .rposition(|it| it == b"text\n")
        .unwrap();
    bytes[at] = b'T';
    workspace.write("project/demo.raw", &bytes, 0o644);
    workspace.config(&config(SIGNED));
    let said = workspace.refused("build --rootfs ../rootfs", "repair-refused");
    assert!(said.err.contains("hash tree"), "{said:?}");
}

#[test]
fn the_original_is_never_replaced() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("project/.sysext")).unwrap();
    let original = Original {
        release: "ID=_any\n",
        ..Original::default()
    };
    original.make(&workspace.path("project/.sysext/demo.raw"));
    workspace.config("sysext: {extensions: [{image: .sysext/demo.raw, repair: auto}]}\n");
    workspace.refused("build --rootfs ../rootfs", "repair-refused");
}

#[test]
fn each_repair_can_be_left_out() {
    if !tools::have(&["mksquashfs", "mkfs.ext4", "debugfs"]) {
        return;
    }
    each(&cases(), |case| {
        let what = case.what;
        let workspace = Workspace::new();
        (case.make)(&workspace, &workspace.path("project/demo.raw"));
        let config = config(case.keys).replace(
            "repair: auto",
            &format!("repair: {{except: [{}]}}", case.changes[0]),
        );
        workspace.config(&config);
        if case.changes[0] == "release-file" {
            workspace.refused("build --rootfs ../rootfs", "name-disagrees");
            return;
        }
        workspace.run("build --rootfs ../rootfs").succeeded();
        assert_eq!(workspace.manifest_entry()["origin"], "taken-in", "{what}");
    });

    // What is left out stays as it is while the rest is repaired.
    let workspace = Workspace::new();
    let image = workspace.path("project/demo.raw");
    let original = Original {
        release: "ID=_any\nARCHITECTURE=amd64\n",
        ..Original::default()
    };
    let mut tree = original.tree();
    let whiteout = Inode::new(0, Kind::CharDevice(0, 0));
    tree.insert(b"usr/bin/gone", whiteout).unwrap();
    original.make_of(&tree, &image);
    workspace.config(&config("").replace("auto", "{except: [id, whiteouts]}"));
    workspace.run("build --rootfs ../rootfs").succeeded();
    let entry = workspace.manifest_entry();
    assert_eq!(entry["repaired"]["changes"].as_array().unwrap().len(), 1);
    assert_eq!(entry["release"]["ARCHITECTURE"], "x86-64");
    assert!(entry["release"]["SYSEXT_ID"].is_null(), "{entry:#}");
    let built = dissect::open(&workspace.path("project/.sysext/demo.raw")).unwrap();
    let gone = built.file_system().unwrap();
    assert!(gone.symlink_metadata("/usr/bin/gone").unwrap().is_some());

    original.make_usr(&image);
    workspace.config(&config("").replace("auto", "{except: [usr-partition]}"));
    workspace.refused("build --rootfs ../rootfs", "repair-refused");
    workspace.config(&config("").replace("auto", "{except: [outside]}"));
    workspace.refused("build --rootfs ../rootfs", "wrong-value");
}

#[test]
fn a_compressed_image_is_repaired_too() {
    let workspace = Workspace::new();
    let image = workspace.path("project/demo.raw");
    let original = Original {
        release: "ID=_any\n",
        ..Original::default()
    };
    original.make(&image);
    let bytes = workspace.read("project/demo.raw");
    let packed = zstd::encode_all(bytes.as_slice(), 3).unwrap();
    workspace.write("project/demo.raw.zst", &packed, 0o644);
    workspace.config(&config("").replace("demo.raw", "demo.raw.zst"));
    workspace.run("build --rootfs ../rootfs").succeeded();
    let entry = workspace.manifest_entry();
    assert_eq!(entry["origin"], "repaired", "{entry:#}");
    assert_eq!(entry["unpackedFrom"]["size"], packed.len(), "{entry:#}");
    let digest = tools::run(tools::command("sha256sum").arg(&image));
    let sha256 = entry["repaired"]["originalSha256"].as_str().unwrap();
    assert!(digest.starts_with(sha256), "{entry:#}");
    assert_eq!(verdict(&workspace, ""), "merges-unprotected");
}

#[test]
fn what_lies_beside_an_image_goes_into_it() {
    let workspace = Workspace::new();
    let image = workspace.path("project/demo.raw");
    // Its signature is not broken unless that is written.
    make_apart(&workspace, &image, "demo", "ID=_any\nARCHITECTURE=amd64\n");
    workspace.config(&config(SIGNED));
    let said = workspace.run("build --rootfs ../rootfs");
    said.succeeded().names(&["warning[repair-left-out]"]);
    workspace.config(&config(&format!("resign: true, {SIGNED}")));
    workspace.run("build --rootfs ../rootfs").succeeded();
    assert_eq!(workspace.manifest_entry()["origin"], "repaired");
    assert_eq!(verdict(&workspace, ""), "merges-signed");
    // What does not fit to what lies beside it gets no new hash tree.
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes.windows(5).rposition(|it| it == b"text\n").unwrap();
    bytes[at] = b'T';
    fs::write(&image, bytes).unwrap();
    workspace.refused("build --rootfs ../rootfs", "repair-refused");
}

#[test]
fn a_file_system_that_systemd_does_not_take_is_replaced() {
    if !(tools::root() && tools::have(&["unshare", "mount", "chroot", "mkfs.ext2"])) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let workspace = Workspace::new();
    let original = workspace.path("project/demo.raw");
    make_ext2(&original);
    let place = rootfs.at("/var/lib/extensions/demo.raw");
    rootfs.write("/var/lib/extensions/demo.raw", fs::read(&original).unwrap());
    let before = namespace::merge(&rootfs.path(), &[FILE]);
    assert!(before.merged("/usr").is_empty(), "{before:?}");
    fs::remove_file(place).unwrap();
    workspace.config(&config(""));
    let said = workspace.run(&format!("apply --rootfs {}", rootfs.path().display()));
    said.succeeded();
    let changes = &workspace.manifest_entry()["repaired"]["changes"];
    assert_eq!(changes[0]["what"], "file-system", "{changes:#}");
    let after = namespace::merge(&rootfs.path(), &[FILE]);
    assert_eq!(after.file(FILE), Some("text\n"), "{after:?}");
}
