//! Attributes and device numbers of ext2, ext3 and ext4, held against the tree that mkfs.ext4 took
//! in and against debugfs.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use prism_sysext::image::filesystem::{FileSystem, Window, Xattr};
use prism_sysext::image::hex;
use support::tools::{command, have, run};

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
