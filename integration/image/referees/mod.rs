//! Our images before other people's tools: veritysetup, fsck.erofs, openssl,
//! sgdisk, systemd-dissect and the kernel.
//!
//! A missing tool fails the test where `CI` is set and skips it with a line on
//! stderr elsewhere. Mounting and file capabilities need root.

mod content;
mod kernel;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use prism_sysext::build::assemble::{Assembled, Ids, Protection, Recipe, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::erofs::compress::Compression;
use prism_sysext::image::gpt::SECTOR;
use prism_sysext::image::signature::{KeyFile, SignaturePartition};
use prism_sysext::image::x509;
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::collect::{Options, collect};
use tempfile::TempDir;

use crate::harness::seen::Mounted;
use crate::harness::tools::{command, have, output};
use crate::harness::{again, trixie};
use content::{all, every_kind, look};

const EPOCH: u64 = 1_700_000_000;

const IDS: Ids = Ids {
    disk: [0x11; 16],
    root: [0x22; 16],
    signature: [0x33; 16],
    file_system: [0x44; 16],
    verity: [0x55; 16],
    salt: [0x66; 32],
};

/// Runs a tool that must succeed, and returns its output.
fn run(tool: &str, args: &[&OsStr]) -> String {
    let mut command = command(tool);
    let output = output(command.args(args));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn args<'a>(parts: &[&'a str]) -> Vec<&'a OsStr> {
    parts.iter().map(|part| OsStr::new(*part)).collect()
}

/// All the ways to write EROFS.
const EROFS: [ImageFormat; 4] = [
    erofs(None),
    erofs(Some(Compression::Lz4)),
    erofs(Some(Compression::Lz4hc)),
    erofs(Some(Compression::Zstd { level: 3 })),
];

const fn erofs(compression: Option<Compression>) -> ImageFormat {
    ImageFormat::Erofs {
        compression,
        share_compressed: true,
    }
}

/// A source tree and where images of it go.
struct Bench {
    dir: TempDir,
    file_system: ImageFormat,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        every_kind(&dir.path().join("source"));
        let file_system = erofs(None);
        Bench { dir, file_system }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self, verity: Protection<'_>) -> Assembled {
        self.try_build(verity).unwrap()
    }

    fn try_build(&self, verity: Protection<'_>) -> anyhow::Result<Assembled> {
        let collected = collect(&self.path("source"), &Options::default()).unwrap();
        let (tree, progress) = (&collected.tree, Progress::new());
        let recipe = Recipe {
            verity,
            epoch_seconds: EPOCH,
            ..Recipe::new(tree, Arch::X86_64, self.file_system, IDS, &progress)
        };
        assemble(&recipe, &self.path("x.raw"))
    }

    /// Copies a partition into a file of its own.
    fn cut(&self, made: &Assembled, number: usize) -> PathBuf {
        let partition = &made.partitions[number];
        let sectors = partition.last_lba - partition.first_lba + 1;
        let mut bytes = vec![0; usize::try_from(sectors * SECTOR).unwrap()];
        let image = fs::File::open(self.path("x.raw")).unwrap();
        image
            .read_exact_at(&mut bytes, partition.first_lba * SECTOR)
            .unwrap();
        let path = self.path(&format!("partition-{number}"));
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A key pair from openssl.
    fn signer(&self) -> KeyFile {
        let (key, certificate) = (self.path("key.pem"), self.path("certificate.pem"));
        let mut all = args(&["req", "-x509", "-newkey", "rsa:2048", "-nodes"]);
        all.extend(args(&["-subj", "/CN=referee", "-days", "1"]));
        all.extend([OsStr::new("-keyout"), key.as_os_str()]);
        all.extend([OsStr::new("-out"), certificate.as_os_str()]);
        run("openssl", &all);
        let certificates = x509::load(&fs::read(certificate).unwrap()).unwrap();
        KeyFile::from_pem(&fs::read(key).unwrap(), &certificates[0]).unwrap()
    }

    /// Mounts the first partition at its offset.
    fn mount(&self, made: &Assembled) -> Mounted {
        let offset = made.partitions[0].first_lba * SECTOR;
        let target = self.path("mounted");
        Mounted::new(&self.path("x.raw"), offset, &target).unwrap()
    }

    fn check_table(&self) {
        if have(&["sgdisk"]) {
            let image = self.path("x.raw");
            let text = run("sgdisk", &[OsStr::new("-v"), image.as_os_str()]);
            assert!(text.contains("No problems found"), "{text}");
        }
    }

    fn check_hash_tree(&self, made: &Assembled) {
        if have(&["veritysetup"]) {
            let (data, hash) = (self.cut(made, 0), self.cut(made, 1));
            let root = made.root_hash.unwrap().to_string();
            let mut all = args(&["verify"]);
            all.extend([data.as_os_str(), hash.as_os_str(), OsStr::new(&root)]);
            run("veritysetup", &all);
        }
    }

    /// Needs systemd 254, which Debian 12 lacks.
    fn check_dissection(&self, policy: &str) {
        let policy = format!("--image-policy={policy}");
        run_in_trixie(
            &self.path("x.raw"),
            &["systemd-dissect", "--validate", &policy],
        );
    }
}

/// Runs a tool of Debian 13 on a file.
fn run_in_trixie(file: &Path, command: &[&str]) {
    let Some(system) = trixie::rootfs() else {
        return;
    };
    system.write("/referee/file", fs::read(file).unwrap());
    let mut all = vec![system.path().into_os_string()];
    all.extend(command.iter().map(OsString::from));
    all.push("/referee/file".into());
    let all: Vec<&OsStr> = all.iter().map(OsString::as_os_str).collect();
    run("chroot", &all);
}

/// By erofs-utils 1.8: 1.5 knows neither shared clusters nor Zstandard, and puts other data into
/// holes.
#[test]
fn fsck_accepts_and_extracts_everything() {
    let mut bench = Bench::new();
    let Some(system) = trixie::rootfs() else {
        return;
    };
    for file_system in EROFS {
        bench.file_system = file_system;
        let made = bench.build(Protection::None);
        system.write("/referee/file", fs::read(bench.cut(&made, 0)).unwrap());
        let out = format!("/referee/{file_system:?}").replace(' ', "");
        let root = system.path();
        let extract = format!("--extract={out}");
        let mut all = vec![root.as_os_str()];
        all.extend(args(&["fsck.erofs", &extract, "/referee/file"]));
        run("chroot", &all);
        is_the_source(&bench, &system.at(&out));
    }
}

fn is_the_source(bench: &Bench, target: &Path) {
    let found = look(target);
    for (path, expected) in look(&bench.path("source")) {
        let found = &found[&path];
        assert!(expected.content == found.content, "{path:?}");
        assert_eq!(expected.kind, found.kind, "{path:?}");
        // fsck.erofs 1.5 sets the owner after the mode, which clears setuid and setgid.
        assert_eq!(expected.mode & 0o777, found.mode & 0o777, "{path:?}");
    }
}

#[test]
fn the_hash_tree_verifies() {
    let bench = Bench::new();
    let made = bench.build(Protection::Hash);
    assert_eq!(made.partitions.len(), 2);
    bench.check_table();
    bench.check_hash_tree(&made);
    bench.check_dissection("root=verity");
}

#[test]
fn room_for_a_signature_is_empty() {
    let bench = Bench::new();
    let made = bench.build(Protection::Defer(&|_| Ok(None)));
    bench.check_table();
    bench.check_hash_tree(&made);
    let content = fs::read(bench.cut(&made, 2)).unwrap();
    assert_eq!(content, vec![0; 16384]);
}

#[test]
fn openssl_and_systemd_accept_the_signature() {
    if !have(&["openssl"]) {
        return;
    }
    let bench = Bench::new();
    let signer = bench.signer();
    let made = bench.build(Protection::Signed(&signer));
    bench.check_table();
    bench.check_hash_tree(&made);
    bench.check_dissection("root=signed+absent");
    let content = fs::read(bench.cut(&made, 2)).unwrap();
    let partition = SignaturePartition::parse(&content).unwrap().unwrap();
    let root = made.root_hash.unwrap();
    assert_eq!(partition.root_hash, root.as_bytes());
    let text = bench.path("root-hash");
    fs::write(&text, root.to_string()).unwrap();
    let signature = bench.path("signature");
    fs::write(&signature, &partition.signature).unwrap();
    let certificate = bench.path("certificate.pem");
    // systemd's own check (src/shared/dissect-image.c, validate_signature_userspace).
    let mut all = args(&["smime", "-verify", "-inform", "DER", "-binary"]);
    all.extend(args(&["-nointern", "-noverify", "-in"]));
    all.extend([
        signature.as_os_str(),
        OsStr::new("-content"),
        text.as_os_str(),
    ]);
    all.extend([OsStr::new("-certfile"), certificate.as_os_str()]);
    run("openssl", &all);
    let again = bench.build(Protection::Signed(&signer));
    assert_eq!(made, again);
}

#[test]
fn place_time_and_umask_do_not_show() {
    if !again::apart(place_time_and_umask_do_not_show) {
        return;
    }
    let first = Bench::new();
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let second = Bench::new();
    for path in all(&second.path("source")) {
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec {
                tv_sec: 5,
                tv_nsec: 6,
            },
            last_modification: rustix::fs::Timespec {
                tv_sec: 7,
                tv_nsec: 8,
            },
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).unwrap();
    }
    let stored = |_: &_| Ok(None);
    let made = second.build(Protection::Defer(&stored));
    rustix::process::umask(before);
    assert_eq!(first.build(Protection::Defer(&stored)), made);
    let image = |bench: &Bench| fs::read(bench.path("x.raw")).unwrap();
    assert!(image(&first) == image(&second));
    let mode = fs::metadata(second.path("x.raw")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o644);
}
