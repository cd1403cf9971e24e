//! Our images mounted by the kernel.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use prism_sysext::build::assemble::{Protection, Recipe, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::erofs::compress::Compression;
use prism_sysext::image::mkfs::squashfs;
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::{Inode, Kind, Source, Tree};

use super::content::{all, look, pattern};
use super::{Bench, EPOCH, EROFS, IDS, erofs, run};
use crate::harness::tools::{have, root};

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
    let error = bench.try_build(Protection::None).unwrap_err();
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
        bench.build(Protection::None);
        assert!(
            first == fs::read(bench.path("x.raw")).unwrap(),
            "{compression:?}"
        );
    }
    let made = bench.build(Protection::Hash);
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
    let error = bench.try_build(Protection::None).unwrap_err();
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
    let made = bench.build(Protection::Hash);
    let data = bench.cut(&made, 0);
    let second = fs::read(&data).unwrap();
    assert!(first[1 << 20..].starts_with(&second));
    run("e2fsck", &[OsStr::new("-fn"), data.as_os_str()]);
    bench.check_table();
    bench.check_hash_tree(&made);
}

fn shows_the_source_tree(bench: &Bench) {
    let made = bench.build(Protection::None);
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
