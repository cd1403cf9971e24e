//! Images that other tools made are read right, and damaged ones are told apart.
//!
//! Needs mkfs.erofs, mksquashfs, mkfs.ext4 and systemd-repart (the last one as
//! root, with loop devices).

mod verified;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use prism_sysext::image::dissect;
use prism_sysext::image::dissect::{Ddi, Layout, SignatureState, Strict};
use prism_sysext::image::read::{FileKind, FsKind, Xattr};
use prism_sysext::systemd::kind::ExtensionKind;
use tempfile::TempDir;

use crate::harness::tools::{self, command, have};

fn run(program: &str, args: &[&str], dir: &Path) -> String {
    tools::run(command(program).args(args).current_dir(dir))
}

const RELEASE: &str = "ID=azurelinux\nVERSION_ID=3.0\nARCHITECTURE=x86-64\n";

/// A folder `tree` with a bit of everything.
fn tree(dir: &Path) {
    let usr = dir.join("tree/usr");
    let releases = usr.join("lib/extension-release.d");
    fs::create_dir_all(&releases).unwrap();
    fs::create_dir_all(usr.join("lib/systemd/system/x.service.d")).unwrap();
    fs::create_dir_all(usr.join("bin")).unwrap();
    fs::create_dir_all(dir.join("tree/var")).unwrap();
    fs::write(releases.join("extension-release.demo"), RELEASE).unwrap();
    fs::write(releases.join("extension-release.loose"), "ID=_any\n").unwrap();
    symlink("nowhere", releases.join("extension-release.gone")).unwrap();
    fs::write(usr.join("lib/systemd/system/demo.service"), "[Service]\n").unwrap();
    fs::write(usr.join("lib/systemd/system/README"), "").unwrap();
    // Compressible, several blocks, with a tail; and incompressible.
    fs::write(usr.join("bin/words"), "what it says ".repeat(30_001)).unwrap();
    fs::write(usr.join("bin/noise"), noise(1_000_003)).unwrap();
    symlink("/usr/bin", usr.join("sbin")).unwrap();
    symlink("../../../../usr/bin/words", usr.join("bin/climber")).unwrap();
    symlink("loop", usr.join("bin/loop")).unwrap();
    for number in 0..500 {
        let name = format!("a-rather-long-name-for-a-small-file-{number}");
        fs::create_dir_all(usr.join("share/many")).unwrap();
        fs::write(usr.join("share/many").join(name), format!("{number}")).unwrap();
    }
}

/// Bytes that no algorithm makes shorter (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn read_all(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// Compares an image without partition table with the folder that it was made from.
fn check_naked(dir: &Path, image: &str, kind: FsKind, compression: &[&str]) -> Ddi {
    let ddi = dissect::open(&dir.join(image)).unwrap();
    assert_eq!(ddi.layout, Layout::Naked, "{image}");
    assert!(ddi.problems.is_empty(), "{image}: {:?}", ddi.problems);
    assert_eq!(ddi.fs_kind, Some(kind), "{image}");
    assert_eq!(ddi.fs.as_ref().unwrap().compression, compression, "{image}");
    assert_eq!(ddi.signature, SignatureState::Absent);

    let content = ddi.content.as_ref().unwrap();
    let suffixes: Vec<&str> = content
        .releases
        .iter()
        .map(|release| release.suffix.as_str())
        .collect();
    assert_eq!(suffixes, ["demo", "gone", "loose"], "{image}");
    assert!(
        content
            .releases
            .iter()
            .all(|release| release.kind == ExtensionKind::Sysext)
    );
    let fields = content.releases[0].fields.as_ref().unwrap();
    assert_eq!(fields.get("VERSION_ID"), Some("3.0"), "{image}");
    assert!(content.releases[1].is_symlink && content.releases[1].problem.is_some());
    assert!(!content.has_os_release);
    assert_eq!(content.outside, ["var"], "{image}");
    assert_eq!(content.units, ["demo.service"], "{image}");

    let fs = ddi.file_system().unwrap();
    for path in [
        "usr/bin/words",
        "usr/bin/noise",
        "usr/lib/systemd/system/README",
    ] {
        let expected = read_all(&dir.join("tree").join(path));
        assert!(
            fs.read(path, 2_000_000).unwrap() == expected,
            "{image}: {path}"
        );
    }
    let through_links = fs.read("usr/sbin/climber", 2_000_000).unwrap();
    assert!(through_links.starts_with(b"what it says"), "{image}");
    assert!(fs.read("usr/bin/loop", 10).is_err());
    assert!(
        fs.read("usr/bin/words", 10)
            .unwrap_err()
            .to_string()
            .contains("at most 10")
    );
    assert!(fs.read("usr/bin", 10).is_err());
    assert!(fs.metadata("usr/bin/words/x").unwrap().is_none());
    assert_eq!(
        fs.symlink_metadata("usr/sbin").unwrap().unwrap().kind,
        FileKind::Symlink
    );
    assert_eq!(fs.read_link("usr/sbin").unwrap(), Path::new("/usr/bin"));

    let walked: Vec<PathBuf> = fs
        .walk(10_000)
        .unwrap()
        .into_iter()
        .map(|(path, _)| path.strip_prefix("/").unwrap().to_owned())
        .filter(|path| path != Path::new("lost+found"))
        .collect();
    let mut expected: Vec<PathBuf> = walkdir::WalkDir::new(dir.join("tree"))
        .sort_by_file_name()
        .min_depth(1)
        .into_iter()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .strip_prefix(dir.join("tree"))
                .unwrap()
                .to_owned()
        })
        .collect();
    expected.sort();
    let mut sorted = walked.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "{image}");
    assert!(fs.walk(100).is_err());
    ddi
}

/// Lets the release file `loose` count for any image name, where the file system
/// of the tests has attributes; returns what an image of it should say.
fn mark_loose(dir: &Path) -> Strict {
    let attribute = rustix::fs::setxattr(
        dir.join("tree/usr/lib/extension-release.d/extension-release.loose"),
        "user.extension-release.strict",
        b"0",
        rustix::fs::XattrFlags::empty(),
    );
    match attribute {
        Ok(()) => Strict::No,
        Err(_) => Strict::Unset,
    }
}

#[test]
fn erofs_of_mkfs_is_read() {
    if !have(&["mkfs.erofs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    tree(dir.path());
    let expected = mark_loose(dir.path());
    run("mkfs.erofs", &["plain.raw", "tree"], dir.path());
    run("mkfs.erofs", &["-zlz4hc", "lz4.raw", "tree"], dir.path());
    run(
        "mkfs.erofs",
        &["-zlz4hc", "-C65536", "-Efragments", "big.raw", "tree"],
        dir.path(),
    );
    for (image, compression) in [
        ("plain.raw", &[][..]),
        ("lz4.raw", &["lz4"]),
        ("big.raw", &["lz4"]),
    ] {
        let ddi = check_naked(dir.path(), image, FsKind::Erofs, compression);
        let releases = &ddi.content.as_ref().unwrap().releases;
        assert_eq!(releases[2].strict, expected);
        assert_eq!(releases[0].strict, Strict::Unset);
        let fs = ddi.file_system().unwrap();
        assert_eq!(
            fs.xattr("usr/bin/words", "user.none").unwrap(),
            Xattr::Absent
        );
    }
}

#[test]
fn squashfs_of_mksquashfs_is_read() {
    if !have(&["mksquashfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    tree(dir.path());
    let expected = mark_loose(dir.path());
    for compressor in ["gzip", "zstd", "xz", "lz4"] {
        let image = format!("{compressor}.raw");
        run(
            "mksquashfs",
            &["tree", &image, "-comp", compressor, "-quiet"],
            dir.path(),
        );
        let ddi = check_naked(dir.path(), &image, FsKind::Squashfs, &[compressor]);
        let releases = &ddi.content.as_ref().unwrap().releases;
        assert_eq!(releases[2].strict, expected);
        assert_eq!(releases[0].strict, Strict::Unset);
    }
}

#[test]
fn ext4_of_mkfs_is_read() {
    if !have(&["mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    tree(dir.path());
    run(
        "mkfs.ext4",
        &["-q", "-d", "tree", "ext4.raw", "16M"],
        dir.path(),
    );
    check_naked(dir.path(), "ext4.raw", FsKind::Ext4, &[]);
}

#[test]
fn cut_and_scrambled_file_systems_are_errors() {
    if !have(&["mkfs.erofs", "mksquashfs", "mkfs.ext4"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    tree(dir.path());
    run("mkfs.erofs", &["-zlz4hc", "erofs", "tree"], dir.path());
    run(
        "mksquashfs",
        &["tree", "squashfs", "-comp", "zstd", "-quiet"],
        dir.path(),
    );
    run(
        "mkfs.ext4",
        &["-q", "-d", "tree", "ext4", "16M"],
        dir.path(),
    );
    let scrambled = dir.path().join("scrambled");
    for image in ["erofs", "squashfs", "ext4"] {
        let good = read_all(&dir.path().join(image));
        let random = noise(8 * 200);
        for round in random.as_chunks::<8>().0 {
            let number = u64::from_le_bytes(*round);
            let mut bytes = good.clone();
            // Metadata is in front (erofs, ext4) or at the end (squashfs).
            let near = usize::try_from(number % 20_000).unwrap();
            let at = if image == "squashfs" && number & 1 == 0 {
                bytes.len() - 1 - near
            } else {
                near
            };
            bytes[at] ^= 1 << (number >> 60 & 7);
            if number >> 40 & 7 == 0 {
                bytes.truncate(usize::try_from(number >> 8).unwrap() % good.len());
            }
            fs::write(&scrambled, &bytes).unwrap();
            // Whatever comes out, it comes out.
            if let Ok(ddi) = dissect::open(&scrambled)
                && let Ok(fs) = ddi.file_system()
                && let Ok(entries) = fs.walk(10_000)
            {
                for (path, _) in entries.iter().take(50) {
                    let _ = fs.read(path, 2_000_000);
                }
            }
        }
    }
}
