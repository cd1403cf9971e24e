//! Images that other tools made are read right, and damaged ones are told apart.
//!
//! Needs mkfs.erofs, mksquashfs, mkfs.ext4 and systemd-repart (the last one as
//! root, with loop devices).

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use crate::harness::tools::{self, command, have};
use prism_sysext::build::assemble::{Ids, Recipe, Verity, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::dissect;
use prism_sysext::image::dissect::{Ddi, DdiError, Layout, SignatureState, Strict};
use prism_sysext::image::gpt;
use prism_sysext::image::gpt::Partition;
use prism_sysext::image::gpt::types::Designator;
use prism_sysext::image::read::{FileKind, FsKind, Xattr};
use prism_sysext::image::signature::{KeyFile, SignaturePartition};
use prism_sysext::image::verity::RootHash;
use prism_sysext::image::x509;
use prism_sysext::image::x509::Certificate;
use prism_sysext::inspect::verify::{Outcome, Report, verify};
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::systemd::kind::ExtensionKind;
use prism_sysext::tree::collect::{Options, collect};
use tempfile::TempDir;
use uuid::Uuid;

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

/// A signed image by systemd-repart, as its definitions for extensions have it.
struct Signed {
    dir: TempDir,
    image: PathBuf,
    certificate: Certificate,
    root_hash: String,
}

fn signed() -> Option<Signed> {
    if !have(&["systemd-repart", "mksquashfs", "openssl"]) {
        return None;
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "systemd-repart needs root and loop devices"
        );
        eprintln!("SKIPPED: systemd-repart needs root and loop devices");
        return None;
    }
    let dir = TempDir::new().unwrap();
    tree(dir.path());
    let definitions = dir.path().join("definitions");
    fs::create_dir(&definitions).unwrap();
    for (name, text) in [
        (
            "10-root.conf",
            "Type=root\nFormat=squashfs\nCopyFiles=/usr/\nVerity=data\n",
        ),
        ("20-root-verity.conf", "Type=root-verity\nVerity=hash\n"),
        (
            "30-root-verity-sig.conf",
            "Type=root-verity-sig\nVerity=signature\n",
        ),
    ] {
        let text = format!("[Partition]\n{text}VerityMatchKey=root\n");
        fs::write(definitions.join(name), text).unwrap();
    }
    key_pair(dir.path());
    let root = dir.path().join("tree");
    let json = run(
        "systemd-repart",
        &[
            "--empty=create",
            "--size=auto",
            "--definitions=definitions",
            &format!("--root={}", root.display()),
            "--private-key=key.pem",
            "--certificate=certificate.pem",
            "--no-pager",
            "--json=short",
            "demo.raw",
        ],
        dir.path(),
    );
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let root_hash = rows[1]["roothash"].as_str().unwrap().to_owned();
    let certificate = certificate_in(dir.path());
    let image = dir.path().join("demo.raw");
    Some(Signed {
        dir,
        image,
        certificate,
        root_hash,
    })
}

impl Signed {
    /// The report on a copy of the image after `change`.
    fn changed(&self, change: impl FnOnce(&fs::File, &Ddi)) -> Report {
        let copy = self.dir.path().join("changed.raw");
        fs::copy(&self.image, &copy).unwrap();
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&copy)
            .unwrap();
        change(&file, &dissect::open(&copy).unwrap());
        verify(&copy, std::slice::from_ref(&self.certificate)).unwrap()
    }
}

fn flip(file: &fs::File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn bad(report: &Report) -> Vec<&str> {
    let bad = report
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Bad);
    bad.map(|check| check.id).collect()
}

#[test]
fn an_image_of_repart_is_understood_and_verified() {
    let Some(signed) = signed() else { return };
    let ddi = dissect::open(&signed.image).unwrap();
    assert!(ddi.problems.is_empty(), "{:?}", ddi.problems);
    assert_eq!(ddi.designator, Designator::Root);
    assert_eq!(ddi.root_hash.unwrap().to_string(), signed.root_hash);
    assert_eq!(ddi.fs_kind, Some(FsKind::Squashfs));
    assert_eq!(ddi.content.as_ref().unwrap().releases[0].suffix, "demo");
    assert!(ddi.content.as_ref().unwrap().outside.is_empty());
    let SignatureState::Present { partition, signers } = &ddi.signature else {
        panic!("{:?}", ddi.signature)
    };
    let fingerprint = &signed.certificate.fingerprint_sha256_hex;
    assert_eq!(
        partition.certificate_fingerprint.as_ref(),
        Some(fingerprint)
    );
    assert_eq!(signers[0].certificate.as_ref(), Some(&signed.certificate));
    // What repart put into the partition is what we would have.
    let part = ddi.signature_partition.unwrap();
    let mut bytes = vec![0; usize::try_from(part.size).unwrap()];
    ddi.file().read_exact_at(&mut bytes, part.offset).unwrap();
    assert!(partition.to_bytes().unwrap() == bytes);

    let json = serde_json::to_value(&ddi).unwrap();
    assert_eq!(json["rootHash"], signed.root_hash.as_str());
    assert_eq!(json["signature"]["state"], "present");
    assert_eq!(json["layout"]["gpt"]["sectorSize"], 512);
    assert_eq!(json["arch"], "x86-64");

    let report = verify(&signed.image, std::slice::from_ref(&signed.certificate)).unwrap();
    assert!(bad(&report).is_empty(), "{report:?}");
    assert!(report.is_signed());
    assert_eq!(report.root_hash.as_ref(), Some(&signed.root_hash));
    assert_eq!(report.signer.as_ref(), Some(&signed.certificate));
    for check in &report.checks {
        // Nothing lies beside the image.
        let expected = match check.id {
            "sidecar-root-hash" => Outcome::Absent,
            _ => Outcome::Ok,
        };
        assert_eq!(check.outcome, expected, "{}", check.id);
    }

    let report = verify(&signed.image, &[]).unwrap();
    // Without a certificate nothing can be said of the signer, good or bad.
    assert!(bad(&report).is_empty(), "{report:?}");
    assert_eq!(report.check("signature").unwrap().outcome, Outcome::Absent);
    assert!(!report.is_signed());
}

#[test]
fn our_own_images_are_read_like_any_other() {
    if !have(&["openssl"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    tree(dir.path());
    let signer = key_pair(dir.path());
    let certificate = certificate_in(dir.path());
    let collected = collect(&dir.path().join("tree"), &Options::default()).unwrap();
    let image = dir.path().join("demo.raw");
    let nothing_stored = |_: &RootHash| -> anyhow::Result<Option<SignaturePartition>> { Ok(None) };
    for (verity, state) in [
        (Verity::None, "none"),
        (Verity::Hash, "hash"),
        (Verity::Defer(&nothing_stored), "deferred"),
        (Verity::Signed(&signer), "signed"),
    ] {
        let ids = Ids {
            disk: [1; 16],
            root: [2; 16],
            signature: [3; 16],
            file_system: [4; 16],
            verity: [5; 16],
            salt: [6; 32],
        };
        let plain = ImageFormat::Erofs {
            compression: None,
            share_compressed: false,
        };
        let (tree, progress) = (&collected.tree, Progress::new());
        let recipe = Recipe {
            verity,
            ..Recipe::new(tree, Arch::ARM64, plain, ids, &progress)
        };
        let made = assemble(&recipe, &image).unwrap();
        let ddi = dissect::open(&image).unwrap();
        assert!(ddi.problems.is_empty(), "{state}: {:?}", ddi.problems);
        assert_eq!(ddi.arch, Some(Arch::ARM64));
        assert_eq!(ddi.root_hash, made.root_hash, "{state}");
        assert_eq!(ddi.content.as_ref().unwrap().units, ["demo.service"]);
        let fs = ddi.file_system().unwrap();
        let noise = read_all(&dir.path().join("tree/usr/bin/noise"));
        assert!(fs.read("usr/bin/noise", 2_000_000).unwrap() == noise);

        let report = verify(&image, std::slice::from_ref(&certificate)).unwrap();
        assert!(bad(&report).is_empty(), "{state}: {report:?}");
        assert_eq!(report.is_signed(), state == "signed");
        assert_eq!(ddi.signature == SignatureState::Empty, state == "deferred");
    }
}

/// A key pair in the folder, by openssl.
fn key_pair(dir: &Path) -> KeyFile {
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=builder",
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
            "-days",
            "1",
        ],
        dir,
    );
    KeyFile::from_pem(&read_all(&dir.join("key.pem")), &certificate_in(dir)).unwrap()
}

fn certificate_in(dir: &Path) -> Certificate {
    x509::load(&read_all(&dir.join("certificate.pem")))
        .unwrap()
        .remove(0)
}

#[test]
fn every_damage_has_its_verdict() {
    let Some(signed) = signed() else { return };
    let report = signed.changed(|file, ddi| flip(file, ddi.data.unwrap().offset + 500_000));
    assert_eq!(bad(&report), ["hash-tree"]);
    // The signature is still one of the declared root hash, by a known signer.
    assert!(report.signer.is_some() && !report.is_signed());

    let ddi = dissect::open(&signed.image).unwrap();
    let superblock = ddi.superblock.as_ref().unwrap();
    let block = u64::from(superblock.hash_block_size);
    let mut blocks = superblock.data_blocks;
    let mut levels = Vec::new();
    while blocks > 1 {
        blocks = blocks.div_ceil(block / 32);
        levels.push(blocks);
    }
    assert!(
        levels.len() > 1,
        "the image is too small for a test of levels"
    );
    // The top level comes first, after the superblock's block.
    let mut offset = block;
    for blocks in levels.iter().rev() {
        let report = signed.changed(|file, ddi| flip(file, ddi.hash.unwrap().offset + offset + 5));
        assert_eq!(bad(&report)[0], "hash-tree", "level of {blocks} blocks");
        offset += blocks * block;
    }

    let report = signed.changed(|file, ddi| flip(file, ddi.hash.unwrap().offset));
    assert_eq!(bad(&report), ["hash-tree"]);
    let report = signed.changed(|file, ddi| flip(file, ddi.hash.unwrap().offset + 88));
    assert_eq!(bad(&report), ["hash-tree"]);

    // A digit of rootHash, a character of the base64, the brace.
    let report = signed.changed(|file, ddi| {
        let at = ddi.signature_partition.unwrap().offset + 20;
        let mut digit = [0];
        file.read_exact_at(&mut digit, at).unwrap();
        file.write_all_at(if digit == *b"0" { b"1" } else { b"0" }, at)
            .unwrap();
    });
    assert_eq!(bad(&report), ["signed-root-hash"]);
    let report = signed.changed(|file, ddi| {
        let at = ddi.signature_partition.unwrap().offset + 1500;
        let mut letter = [0];
        file.read_exact_at(&mut letter, at).unwrap();
        file.write_all_at(if letter == *b"A" { b"B" } else { b"A" }, at)
            .unwrap();
    });
    assert_eq!(bad(&report), ["signature"], "{report:?}");
    let report = signed.changed(|file, ddi| flip(file, ddi.signature_partition.unwrap().offset));
    assert_eq!(bad(&report), ["signed-root-hash", "signature"]);
    let report = signed.changed(|file, ddi| {
        let part = ddi.signature_partition.unwrap();
        file.write_all_at(&vec![0; 16384], part.offset).unwrap();
    });
    assert!(bad(&report).is_empty());
    assert!(!report.is_signed());

    let report = signed.changed(|file, ddi| {
        let Layout::Gpt(table) = &ddi.layout else {
            panic!()
        };
        let partitions: Vec<Partition> = table
            .entries
            .iter()
            .map(|entry| Partition {
                type_guid: entry.type_guid,
                guid: Uuid::from_u128(u128::from(entry.number)),
                first_lba: entry.offset / 512,
                last_lba: (entry.offset + entry.size) / 512 - 1,
                read_only: true,
                label: entry.label.clone(),
            })
            .collect();
        let mut file = file.try_clone().unwrap();
        gpt::write(&mut file, table.disk_guid, &partitions, ddi.size / 512).unwrap();
    });
    assert_eq!(bad(&report), ["data-partition-uuid", "hash-partition-uuid"]);

    let report = signed.changed(|file, ddi| {
        let zeros = vec![0; 1 << 20];
        file.write_all_at(&zeros, ddi.data.unwrap().offset).unwrap();
    });
    assert_eq!(bad(&report), ["file-system", "hash-tree"]);

    let cut = signed.dir.path().join("cut.raw");
    fs::copy(&signed.image, &cut).unwrap();
    fs::File::options()
        .write(true)
        .open(&cut)
        .unwrap()
        .set_len(12 << 20)
        .unwrap();
    assert!(matches!(verify(&cut, &[]), Err(DdiError::Gpt { .. })));
}
