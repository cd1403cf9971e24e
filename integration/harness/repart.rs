//! Images by systemd's own tools, to prove the harness without anything of ours.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::signer::Signer;
use super::tools::{command, have, run};

/// A file that every image carries, below `/usr/share`, with its name as the text.
pub(crate) fn probe(name: &str) -> String {
    format!("/usr/share/{name}/probe")
}

/// Whether such images can be made here.
pub(crate) fn possible() -> bool {
    have(&["mkfs.erofs", "systemd-repart", "openssl"])
}

/// An extension for Debian 13 that is a file system and nothing else.
pub(crate) fn naked(name: &str, image: &Path) {
    let tree = TempDir::new().unwrap();
    let write = |path: &str, text: &str| {
        let file = tree.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write(&probe(name), name);
    write(
        &format!("/usr/lib/extension-release.d/extension-release.{name}"),
        "ID=debian\nVERSION_ID=13\n",
    );
    run(command("mkfs.erofs").arg(image).arg(tree.path()));
}

/// The same in a disk image with hash and signature partitions.
///
/// The file system is copied in: repart up to 252 cannot make EROFS.
pub(crate) fn signed(name: &str, signer: &Signer, image: &Path) {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    naked(name, &data);
    let partitions = [
        ("10.conf", "root-x86-64", "data"),
        ("20.conf", "root-x86-64-verity", "hash"),
        ("30.conf", "root-x86-64-verity-sig", "signature"),
    ];
    for (file, kind, verity) in partitions {
        let mut text = format!("[Partition]\nType={kind}\nVerity={verity}\nVerityMatchKey=root\n");
        if verity == "data" {
            text += &format!("CopyBlocks={}\n", data.display());
        }
        fs::write(dir.path().join(file), text).unwrap();
    }
    run(command("systemd-repart")
        .args([
            "--empty=create",
            "--size=auto",
            "--no-pager",
            "--definitions",
        ])
        .arg(dir.path())
        .arg("--private-key")
        .arg(signer.key())
        .arg("--certificate")
        .arg(signer.certificate())
        .arg(image));
}
