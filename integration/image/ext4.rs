//! ext2, ext3 and ext4: attributes and device numbers, held against the tree that mkfs.ext4 took in
//! and against debugfs; and disk images as a base, held against the folder they were made from.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use prism_sysext::image::read::{FileSystem, Window, Xattr};
use prism_sysext::io::hex;

use crate::harness::tools::{command, have, run};
use crate::harness::workspace::Workspace;

fn open(image: &Path) -> FileSystem {
    let file = File::open(image).unwrap();
    let length = file.metadata().unwrap().len();
    FileSystem::open(Window::new(Arc::new(file), 0, length)).unwrap()
}

/// Files with attributes in their inode, in a block of their own, in both; in a large folder.
fn tree(root: &Path) -> Vec<(String, String, Vec<u8>)> {
    let folder = root.join("usr/lib/extension-release.d");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for index in 0..1200 {
        let name = format!("many/{index}-{}", "n".repeat(40));
        fs::write(root.join(name), "").unwrap();
    }
    let mut set = Vec::new();
    let mut attribute = |path: &str, name: &str, value: &[u8]| {
        let full = root.join(path);
        if !full.exists() {
            fs::write(&full, "x").unwrap();
        }
        let value_text = format!(
            "0x{}",
            value.iter().map(|b| format!("{b:02x}")).collect::<String>()
        );
        run(command("setfattr")
            .args(["-n", name, "-v", &value_text])
            .arg(&full));
        set.push((format!("/{path}"), name.to_owned(), value.to_vec()));
    };
    let release = "usr/lib/extension-release.d/extension-release.x";
    attribute(release, "user.extension-release.strict", b"false");
    attribute("usr/long", "user.long", &[7; 900]);
    attribute("usr/both", "user.a", b"\0\n=");
    attribute("usr/both", "user.b", &[9; 700]);
    attribute("usr/both", "user.c", b"");
    attribute("usr", "user.of-a-folder", b"yes");
    let last = format!("many/1199-{}", "n".repeat(40));
    attribute(&last, "user.z", b"far down");
    set
}

#[test]
fn attributes_are_those_of_the_tree() {
    if !have(&["mkfs.ext4", "setfattr", "setfacl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    let set = tree(&root);
    run(command("setfacl")
        .args(["-m", "u:1234:r-x,g:77:--x"])
        .arg(root.join("usr/long")));
    for (name, options) in [
        ("ext4", &["-t", "ext4", "-b", "4096"][..]),
        ("small blocks", &["-t", "ext4", "-b", "1024", "-I", "256"]),
        ("narrow", &["-t", "ext4", "-O", "^64bit,^metadata_csum"]),
        ("flexible", &["-t", "ext4", "-O", "bigalloc"]),
        ("ext3", &["-t", "ext3", "-b", "1024"]),
        ("ext2", &["-t", "ext2", "-b", "1024"]),
    ] {
        let image = dir.path().join("image");
        let _ = fs::remove_file(&image);
        run(command("mkfs.ext4")
            .args(options)
            .args(["-q", "-d"])
            .arg(&root)
            .arg(&image)
            .arg("64M"));
        let fs = open(&image);
        for (path, attribute, value) in &set {
            let found = fs.xattr(path, attribute).unwrap();
            let expected = Xattr::Value(value.clone());
            assert_eq!(found, expected, "{name}: {path} {attribute}");
        }
        assert_eq!(fs.xattr("/usr/long", "user.other").unwrap(), Xattr::Absent);
        let acl = fs.xattr("/usr/long", "system.posix_acl_access").unwrap();
        let Xattr::Value(acl) = acl else {
            panic!("{name}: {acl:?}")
        };
        assert_eq!(acl, kernels_acl(&root.join("usr/long")), "{name}");
    }
}

/// As getxattr(2) gives it.
fn kernels_acl(path: &Path) -> Vec<u8> {
    let text = run(command("getfattr")
        .args(["-n", "system.posix_acl_access", "-e", "hex"])
        .args(["--absolute-names"])
        .arg(path));
    let (_, digits) = text.trim().split_once("=0x").unwrap();
    hex::decode(digits).unwrap()
}

#[test]
fn devices_have_their_numbers() {
    if !have(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    run(command("mkfs.ext4").args(["-q"]).arg(&image).arg("16M"));
    // debugfs makes the old form only; the new one is `new_encode_dev(300, 70000)`.
    let new = (70000 & 0xff) | (300 << 8) | ((70000 & !0xff) << 12);
    for line in [
        "mknod whiteout c 0 0",
        "mknod old b 8 17",
        "mknod new c 1 1",
        "set_inode_field new block[0] 0",
        &format!("set_inode_field new block[1] {new}"),
    ] {
        run(command("debugfs").args(["-w", "-R", line]).arg(&image));
    }
    let fs = open(&image);
    for (path, device) in [
        ("/whiteout", (0, 0)),
        ("/old", (8, 17)),
        ("/new", (300, 70000)),
    ] {
        let found = fs.metadata(path).unwrap().unwrap();
        assert_eq!(found.device, Some(device), "{path}");
    }
}

const CONFIG: &str = "sysext:
  verityKey: ../keys/key.pem
  verityCertificate: ../keys/cert.crt
  extensions:
  - {name: tool, files: ['bin/tool:/usr/local/bin/tool']}
";

/// The root file system of the workspace: alone, and as a partition beside others.
fn images(workspace: &Workspace) -> [&'static str; 2] {
    let (root, naked) = (workspace.path("rootfs"), workspace.path("naked.raw"));
    run(command("mkfs.ext4")
        .args(["-q", "-d"])
        .arg(&root)
        .arg(&naked)
        .arg("48M"));
    let disk = workspace.path("disk.raw");
    File::create(&disk).unwrap().set_len(80 << 20).unwrap();
    let partitions = [
        "--new=1:2048:+8M",
        "--typecode=1:ef00",
        "--new=2:20480:+48M",
    ];
    run(command("sgdisk").args(partitions).arg(&disk));
    let mut bytes = fs::read(&naked).unwrap();
    let mut whole = fs::read(&disk).unwrap();
    whole[20480 * 512..][..bytes.len()].swap_with_slice(&mut bytes);
    fs::write(&disk, whole).unwrap();
    ["naked.raw", "disk.raw"]
}

#[test]
fn a_disk_image_is_a_base_like_its_folder() {
    if !have(&["mkfs.ext4", "sgdisk"]) {
        return;
    }
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    workspace.run("apply --rootfs ../rootfs").succeeded();
    let folder = "usr/lib/extension-release.d";
    let release = format!("rootfs/var/lib/extensions/plain/{folder}/extension-release.plain");
    workspace.write(&release, "ID=azurelinux\nVERSION_ID=3.0\n", 0o644);
    workspace.write("rootfs/var/lib/extensions/plain/usr/bin/x", "", 0o755);
    for image in images(&workspace) {
        for verb in ["list", "check --config-file none.yaml", "check"] {
            let said = |base: &str| {
                let said = workspace.run(&format!("{verb} {base} --output json"));
                said.succeeded().json()
            };
            let of_folder = said("--rootfs ../rootfs");
            let of_image = said(&format!("--image-file ../{image}"));
            assert_eq!(of_folder, of_image, "{verb} {image}");
        }
        let built = |base: &str| {
            workspace.run(&format!("build {base}")).succeeded();
            workspace.read("project/.sysext/tool.raw")
        };
        assert!(built("--rootfs ../rootfs") == built(&format!("--image-file ../{image}")));
    }
    let refused = workspace.refused("apply --image-file ../disk.raw", "apply-to-image");
    assert!(refused.err.contains("customize"), "{refused:?}");
}

#[test]
fn the_image_that_prism_customizes_is_the_base_where_it_can_be_read() {
    if !have(&["mkfs.ext4", "sgdisk", "qemu-img"]) {
        return;
    }
    let workspace = Workspace::new();
    workspace.write("rootfs/etc/fstab", "UUID=1 /var ext4 defaults 0 0\n", 0o644);
    images(&workspace);
    let with_input = |path: &str| format!("input: {{image: {{path: {path}}}}}\n{CONFIG}");
    workspace.config(&with_input("../disk.raw"));
    let said = workspace.run("build");
    said.succeeded();
    assert!(
        said.err.contains("warning[other-partition]"),
        "{}",
        said.err
    );
    workspace.config(&with_input("../disk.qcow2"));
    for format in ["qcow2", "vpc", "vhdx"] {
        run(command("qemu-img")
            .args(["convert", "-f", "raw", "-O", format])
            .args([workspace.path("disk.raw"), workspace.path("disk.qcow2")]));
        let said = workspace.run("build");
        said.is_refused("no-base");
        let warned = said.err.contains("warning[image-file-unreadable]");
        assert!(
            warned && said.err.contains("qemu-img convert"),
            "{}",
            said.err
        );
        workspace.refused("list --image-file ../disk.qcow2", "image-file-unreadable");
    }
}

#[test]
fn a_root_that_dm_verity_protects_has_to_be_made_anew() {
    if !have(&["mkfs.ext4", "sgdisk", "veritysetup"]) {
        return;
    }
    let workspace = Workspace::new();
    images(&workspace);
    let (disk, tree) = (workspace.path("disk.raw"), workspace.path("tree"));
    run(command("veritysetup")
        .arg("format")
        .arg(workspace.path("naked.raw"))
        .arg(&tree));
    let more = ["--new=3:126976:+4M", "--typecode=3:8300"];
    run(command("sgdisk").args(more).arg(&disk));
    let (mut whole, tree) = (fs::read(&disk).unwrap(), fs::read(&tree).unwrap());
    whole[126_976 * 512..][..tree.len()].copy_from_slice(&tree);
    fs::write(&disk, &whole).unwrap();
    let told = |storage: &str| {
        workspace.config(&format!(
            "input: {{image: {{path: ../disk.raw}}}}\n{storage}{CONFIG}"
        ));
        let said = workspace.run("build");
        said.succeeded().err.contains("warning[verity-read-only]")
    };
    assert!(told(""));
    assert!(told("storage: {reinitializeVerity: none}\n"));
    assert!(!told("storage: {reinitializeVerity: all}\n"));
    // It may be that of /usr.
    workspace.write("rootfs/etc/fstab", "UUID=1 /usr ext4 defaults 0 0\n", 0o644);
    images(&workspace);
    run(command("sgdisk").args(more).arg(&disk));
    let mut whole = fs::read(&disk).unwrap();
    whole[126_976 * 512..][..tree.len()].copy_from_slice(&tree);
    fs::write(&disk, whole).unwrap();
    assert!(!told(""));
}

#[test]
fn a_disk_image_without_one_os_is_refused_with_the_way_out() {
    if !have(&["mkfs.ext4", "sgdisk", "mkfs.btrfs"]) {
        return;
    }
    let workspace = Workspace::new();
    let refused = |what: &str| {
        let said = workspace.refused("list --image-file ../bad.raw", "image-file-unreadable");
        assert!(
            said.err.contains(what) && said.err.contains("help:"),
            "{}",
            said.err
        );
    };
    workspace.write("bad.raw", "no image", 0o644);
    refused("holds no file system of an OS");
    run(command("mkfs.ext4")
        .args(["-q"])
        .arg(workspace.path("other.raw"))
        .arg("16M"));
    fs::rename(workspace.path("other.raw"), workspace.path("bad.raw")).unwrap();
    refused("ext4 without an OS");
    File::create(workspace.path("bad.raw"))
        .unwrap()
        .set_len(128 << 20)
        .unwrap();
    run(command("mkfs.btrfs")
        .args(["-q"])
        .arg(workspace.path("bad.raw")));
    refused("btrfs");
    images(&workspace);
    let mut bytes = fs::read(workspace.path("naked.raw")).unwrap();
    bytes.truncate(bytes.len() / 3);
    workspace.write("bad.raw", bytes, 0o644);
    refused("end is missing");
}
