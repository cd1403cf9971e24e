//! Signed images, ours and those of systemd-repart: verified whole and with every damage.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use prism_sysext::build::assemble::{Ids, Protection, Recipe, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::dissect;
use prism_sysext::image::dissect::{Ddi, DdiError, Layout, SignatureState};
use prism_sysext::image::gpt;
use prism_sysext::image::gpt::Partition;
use prism_sysext::image::gpt::types::Designator;
use prism_sysext::image::read::FsKind;
use prism_sysext::image::signature::{KeyFile, SignaturePartition};
use prism_sysext::image::verity::RootHash;
use prism_sysext::image::x509;
use prism_sysext::image::x509::Certificate;
use prism_sysext::inspect::verify::{Outcome, Report, verify};
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::collect::{Options, collect};
use tempfile::TempDir;
use uuid::Uuid;

use super::{read_all, run, tree};
use crate::harness::tools::have;

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
        (Protection::None, "none"),
        (Protection::Hash, "hash"),
        (Protection::Defer(&nothing_stored), "deferred"),
        (Protection::Signed(&signer), "signed"),
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
