//! Our images before other people's tools: veritysetup, fsck.erofs, openssl,
//! sgdisk, systemd-dissect and the kernel.
//!
//! A missing tool fails the test where `CI` is set and skips it with a line on
//! stderr elsewhere. Mounting and file capabilities need root.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::tools::{command, have, output, root};
use crate::harness::{again, trixie};
use prism_sysext::build::assemble::{Assembled, Ids, Recipe, Verity, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::erofs::compress::Compression;
use prism_sysext::image::gpt::SECTOR;
use prism_sysext::image::mkfs::squashfs;
use prism_sysext::image::signature::{KeyFile, SignaturePartition};
use prism_sysext::image::x509;
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::collect::{Options, collect};
use prism_sysext::tree::{Inode, Kind, Source, Tree};
use rustix::fs::XattrFlags;
use tempfile::TempDir;

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

fn pattern(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0])
        .collect()
}

/// Bytes that no compressor makes shorter.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// A POSIX ACL as the kernel takes it: owner rw, user 1000 r, group r, mask r, others nothing.
fn acl() -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (0x01_u16, 6_u16, none),
        (0x02, 4, 1000),
        (0x04, 4, none),
        (0x10, 4, none),
        (0x20, 0, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// One of every kind; the same whatever the umask.
fn every_kind(root: &Path) {
    let usr = root.join("usr");
    fs::create_dir_all(usr.join("lib/extension-release.d")).unwrap();
    fs::create_dir_all(usr.join("empty/deeper")).unwrap();
    fs::create_dir_all(usr.join("many")).unwrap();
    fs::write(
        usr.join("lib/extension-release.d/extension-release.x"),
        "ID=_any\n",
    )
    .unwrap();
    for size in [
        0, 1, 31, 2047, 2048, 2049, 4031, 4064, 4095, 4096, 4097, 8191, 8192,
    ] {
        fs::write(usr.join(format!("size-{size}")), pattern(size)).unwrap();
    }
    fs::write(usr.join("large"), pattern(5_000_001)).unwrap();
    fs::write(usr.join("large-again"), pattern(5_000_001)).unwrap();
    fs::write(usr.join("text"), "much the same\n".repeat(150_000)).unwrap();
    fs::write(usr.join("text-again"), "much the same\n".repeat(150_000)).unwrap();
    let mut mixed = pattern(900_001);
    mixed.splice(200_000..200_000, vec![0; 800_000]);
    mixed.splice(800_000..800_000, noise(700_000));
    fs::write(usr.join("mixed"), mixed).unwrap();
    fs::write(usr.join("noise"), noise(600_003)).unwrap();
    let zeros = fs::File::create(usr.join("zeros")).unwrap();
    zeros.set_len((3 << 20) + 5).unwrap();
    zeros.write_all_at(b"end", 3 << 20).unwrap();
    for i in 0..3000 {
        let name = format!("{i}-{}", "n".repeat(i % 90));
        fs::write(usr.join("many").join(name), i.to_string()).unwrap();
    }
    for name in [
        &[b'x'; 255][..],
        b"\xff\xfe\x01",
        b"new\nline",
        b"!before-dot",
        b"..dots",
    ] {
        fs::write(usr.join(OsStr::from_bytes(name)), "odd name").unwrap();
    }
    symlink("size-1", usr.join("short-link")).unwrap();
    symlink("l/".repeat(2000), usr.join("long-link")).unwrap();
    symlink("/nowhere", usr.join("dangling")).unwrap();
    fs::hard_link(usr.join("large"), usr.join("empty/hard")).unwrap();
    fs::hard_link(usr.join("size-0"), usr.join("hard-empty")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        usr.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    set(&usr.join("size-1"), "user.note", b"kept");
    set(&usr.join("size-1"), "user.empty", b"");
    set(&usr.join("large"), "user.big", &pattern(2000));
    set(&usr.join("empty"), "user.folder", b"kept too");

    for path in all(root) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = if metadata.is_dir() { 0o755 } else { 0o644 };
        if !metadata.is_symlink() {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
    }
    for (name, mode) in [
        ("size-31", 0o4755),
        ("size-4095", 0o2711),
        ("size-4096", 0o000),
        ("many", 0o1777),
        ("empty/deeper", 0o700),
    ] {
        fs::set_permissions(usr.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    set(&usr.join("size-2047"), "system.posix_acl_access", &acl());
    set(&usr.join("many"), "system.posix_acl_default", &acl());
    if rustix::process::geteuid().is_root() {
        // cap_net_raw=ep, revision 2.
        let capability: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        set(&usr.join("size-2049"), "security.capability", &capability);
        set(&usr.join("size-2049"), "trusted.gone", b"not kept");
        let (owner, group) = (Some(1234), Some(100_000));
        std::os::unix::fs::lchown(usr.join("size-8192"), owner, group).unwrap();
    }
}

/// All paths below a folder.
fn all(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// What a user of the file system can see of one file.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    same_as: OsString,
}

/// Looks at a folder without the library.
fn look(root: &Path) -> BTreeMap<OsString, Seen> {
    let mut paths = all(root);
    paths.sort();
    let mut inodes = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let file_type = metadata.file_type();
        let (kind, content) = if file_type.is_dir() {
            ("folder", Vec::new())
        } else if file_type.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            ("link", target.into_os_string().into_encoded_bytes())
        } else if file_type.is_fifo() {
            ("fifo", Vec::new())
        } else {
            ("file", fs::read(&path).unwrap())
        };
        let mut list = vec![0; 65536];
        let size = rustix::fs::llistxattr(&path, &mut list).unwrap();
        let mut xattrs = BTreeMap::new();
        for name in list[..size]
            .split(|byte| *byte == 0)
            .filter(|n| !n.is_empty())
        {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 65536];
            let size = rustix::fs::lgetxattr(&path, &name, &mut value).unwrap();
            value.truncate(size);
            xattrs.insert(name, value);
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().to_owned();
        let first = inodes
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| name.clone());
        let links = match kind {
            // Whether folders count their subfolders is up to the file system.
            "folder" => 0,
            _ => metadata.nlink(),
        };
        let same_as = first.clone();
        let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
        seen.insert(
            name,
            Seen {
                kind,
                mode,
                owner,
                links,
                content,
                xattrs,
                same_as,
            },
        );
    }
    seen
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

    fn build(&self, verity: Verity<'_>) -> Assembled {
        self.try_build(verity).unwrap()
    }

    fn try_build(&self, verity: Verity<'_>) -> anyhow::Result<Assembled> {
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
        fs::create_dir_all(&target).unwrap();
        let options = format!("loop,ro,offset={offset}");
        let image = self.path("x.raw");
        let kind = match self.file_system {
            ImageFormat::Erofs { .. } => "erofs",
            ImageFormat::Squashfs(_) => "squashfs",
            ImageFormat::Ext4 => "ext4",
        };
        let mut all = args(&["-t", kind, "-o", &options]);
        all.extend([image.as_os_str(), target.as_os_str()]);
        run("mount", &all);
        Mounted(target)
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

/// A mounted partition, released when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn the_kernel_shows_the_source_tree() {
    if !root() || !have(&["mount"]) {
        return;
    }
    let mut bench = Bench::new();
    for file_system in EROFS {
        bench.file_system = file_system;
        shows_the_source_tree(&bench);
    }
}

#[test]
fn the_kernel_shows_the_source_tree_in_squashfs() {
    if !root() || !have(&["mount"]) || !have(&["mksquashfs"]) {
        return;
    }
    let mut bench = Bench::new();
    bench.file_system = ImageFormat::Squashfs(squashfs::Compression::Gzip);
    let error = bench.try_build(Verity::None).unwrap_err();
    let error = format!("{error:#}");
    for expected in ["squashfs", "system.posix_acl_", "/usr/", "format: erofs"] {
        assert!(error.contains(expected), "{error}");
    }
    let usr = bench.path("source/usr");
    for (name, attribute) in [("size-2047", "access"), ("many", "default")] {
        let attribute = format!("system.posix_acl_{attribute}");
        rustix::fs::lremovexattr(usr.join(name), attribute).unwrap();
    }
    for compression in [
        squashfs::Compression::None,
        squashfs::Compression::Gzip,
        squashfs::Compression::Lz4,
        squashfs::Compression::Lz4hc,
        squashfs::Compression::Zstd { level: 3 },
    ] {
        bench.file_system = ImageFormat::Squashfs(compression);
        shows_the_source_tree(&bench);
        let first = fs::read(bench.path("x.raw")).unwrap();
        bench.build(Verity::None);
        assert!(
            first == fs::read(bench.path("x.raw")).unwrap(),
            "{compression:?}"
        );
    }
    let made = bench.build(Verity::Hash);
    bench.check_table();
    bench.check_hash_tree(&made);
}

#[test]
fn the_kernel_shows_the_source_tree_in_ext4() {
    if !root() || !have(&["mount"]) || !have(&["mkfs.ext4"]) || !have(&["debugfs"]) {
        return;
    }
    let mut bench = Bench::new();
    bench.file_system = ImageFormat::Ext4;
    let error = bench.try_build(Verity::None).unwrap_err();
    let error = format!("{error:#}");
    for expected in ["line break", "new\\nline", "format: erofs"] {
        assert!(error.contains(expected), "{error}");
    }
    let usr = bench.path("source/usr");
    fs::remove_file(usr.join("new\nline")).unwrap();
    for name in ["<12>", "a \"quoted\" name", "-f", "#comment", "tab\there"] {
        fs::write(usr.join(name), name).unwrap();
        fs::set_permissions(usr.join(name), PermissionsExt::from_mode(0o640)).unwrap();
    }
    shows_the_source_tree(&bench);
    let first = fs::read(bench.path("x.raw")).unwrap();
    let made = bench.build(Verity::Hash);
    let data = bench.cut(&made, 0);
    let second = fs::read(&data).unwrap();
    assert!(first[1 << 20..].starts_with(&second));
    run("e2fsck", &[OsStr::new("-fn"), data.as_os_str()]);
    bench.check_table();
    bench.check_hash_tree(&made);
}

fn shows_the_source_tree(bench: &Bench) {
    let made = bench.build(Verity::None);
    bench.check_table();
    let mounted = bench.mount(&made);
    let target = mounted.0.as_path();

    let mut expected = look(&bench.path("source"));
    for seen in expected.values_mut() {
        seen.owner = (0, 0);
        seen.xattrs.remove("trusted.gone");
    }
    let mut found = look(target);
    // Part of every ext4.
    found.remove(OsStr::new("lost+found"));
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>()
    );
    for (path, expected) in &expected {
        assert!(
            *expected == found[path],
            "{path:?}: {expected:?} {:?}",
            found[path]
        );
    }
    assert_eq!(found[OsStr::new("usr/large")].links, 2);
    assert!(
        found[OsStr::new("usr/size-2049")]
            .xattrs
            .contains_key("security.capability")
    );
    for path in all_and(target) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.mtime().unsigned_abs(), EPOCH, "{}", path.display());
        if metadata.is_dir() {
            let folders = fs::read_dir(&path)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir());
            assert_eq!(metadata.nlink(), 2 + folders.count() as u64);
        }
    }
}

fn all_and(root: &Path) -> Vec<PathBuf> {
    let mut paths = all(root);
    paths.push(root.to_owned());
    paths
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
        let made = bench.build(Verity::None);
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

/// What no folder is collected from but an archive may bring: devices, sockets, large ids,
/// attributes over several blocks.
#[test]
fn the_kernel_reads_what_archives_bring() {
    if !root() || !have(&["mount"]) {
        return;
    }
    let bench = Bench::new();
    let mut tree = Tree::new();
    let devices = [
        ("null", Kind::CharDevice(1, 3)),
        ("disk", Kind::BlockDevice(259, 70_000)),
        ("socket", Kind::Socket),
    ];
    for (name, kind) in devices {
        tree.insert(name.as_bytes(), Inode::new(0o600, kind))
            .unwrap();
    }
    for i in 0..40_u32 {
        let size = u64::from(i * 100);
        let source = Source::Bytes(pattern(i as usize * 100));
        let path = format!("files/{i}");
        let id = tree.insert_file(path.as_bytes(), source, size, 0o644);
        let inode = tree.get_mut(id.unwrap()).unwrap();
        (inode.uid, inode.gid) = (i * 5000, 70_000);
        for x in 0..i {
            let name = format!("user.attribute-{x}");
            let value = pattern(x as usize * 37);
            inode.xattrs.insert(name.into_bytes(), value);
        }
    }
    let (format, progress) = (erofs(Some(Compression::Lz4)), Progress::new());
    let recipe = Recipe {
        epoch_seconds: EPOCH,
        threads: std::num::NonZero::<usize>::MIN,
        ..Recipe::new(&tree, Arch::X86_64, format, IDS, &progress)
    };
    let made = assemble(&recipe, &bench.path("x.raw")).unwrap();
    if have(&["fsck.erofs"]) {
        run("fsck.erofs", &[bench.cut(&made, 0).as_os_str()]);
    }
    let mounted = bench.mount(&made);
    let stat = |name: &str| fs::symlink_metadata(mounted.0.join(name)).unwrap();
    assert!(stat("null").file_type().is_char_device());
    assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(stat("disk").file_type().is_block_device());
    assert_eq!(stat("disk").rdev(), rustix::fs::makedev(259, 70_000));
    assert!(stat("socket").file_type().is_socket());
    let found = look(&mounted.0.join("files"));
    for i in 0..40_u32 {
        let seen = &found[OsStr::new(&i.to_string())];
        assert_eq!(seen.owner, (i * 5000, 70_000));
        assert!(seen.content == pattern(i as usize * 100), "{i}");
        assert_eq!(seen.xattrs.len(), i as usize);
        for (name, value) in &seen.xattrs {
            let x: usize = name["user.attribute-".len()..].parse().unwrap();
            assert!(*value == pattern(x * 37), "{i}: {name}");
        }
        let metadata = stat(&format!("files/{i}"));
        assert_eq!(metadata.mtime().unsigned_abs(), EPOCH);
    }
}

#[test]
fn the_hash_tree_verifies() {
    let bench = Bench::new();
    let made = bench.build(Verity::Hash);
    assert_eq!(made.partitions.len(), 2);
    bench.check_table();
    bench.check_hash_tree(&made);
    bench.check_dissection("root=verity");
}

#[test]
fn room_for_a_signature_is_empty() {
    let bench = Bench::new();
    let made = bench.build(Verity::Defer(&|_| Ok(None)));
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
    let made = bench.build(Verity::Signed(&signer));
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
    let again = bench.build(Verity::Signed(&signer));
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
    let made = second.build(Verity::Defer(&stored));
    rustix::process::umask(before);
    assert_eq!(first.build(Verity::Defer(&stored)), made);
    let image = |bench: &Bench| fs::read(bench.path("x.raw")).unwrap();
    assert!(image(&first) == image(&second));
    let mode = fs::metadata(second.path("x.raw")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o644);
}
