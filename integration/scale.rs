//! Content of unusual size and shape, judged by mounting the image.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[path = "harness/tools.rs"]
mod tools;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use prism_sysext::build::assemble::{Assembled, Ids, Protection, Recipe, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::erofs::compress::Compression;
use prism_sysext::image::gpt::SECTOR;
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::collect::{Options, collect};
use prism_sysext::tree::{Source, Tree};
use tempfile::TempDir;

use tools::{command, have, output, root, run};

const IDS: Ids = Ids {
    disk: [1; 16],
    root: [2; 16],
    signature: [3; 16],
    file_system: [4; 16],
    verity: [5; 16],
    salt: [6; 32],
};

const PLAIN: ImageFormat = erofs(None);
const LZ4: ImageFormat = erofs(Some(Compression::Lz4));

const fn erofs(compression: Option<Compression>) -> ImageFormat {
    ImageFormat::Erofs {
        compression,
        share_compressed: true,
    }
}

fn possible() -> bool {
    root() && have(&["mount", "umount"])
}

/// A folder with an image and the place where it is mounted.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("mounted")).unwrap();
        Place(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn try_build(
        &self,
        tree: &Tree,
        file_system: ImageFormat,
        threads: usize,
    ) -> anyhow::Result<Assembled> {
        let progress = Progress::new();
        let recipe = Recipe {
            verity: Protection::Hash,
            threads: threads.try_into().unwrap(),
            ..Recipe::new(tree, Arch::X86_64, file_system, IDS, &progress)
        };
        assemble(&recipe, &self.path("x.raw"))
    }

    fn build(&self, tree: &Tree, file_system: ImageFormat) -> Assembled {
        self.try_build(tree, file_system, 2).unwrap()
    }

    /// Mounts the image's file system, which stays until the result is dropped.
    fn mount(&self) -> Mounted {
        let target = self.path("mounted");
        let options = format!("ro,loop,offset={}", 2048 * SECTOR);
        run(command("mount")
            .args(["-t", "erofs", "-o", &options])
            .arg(self.path("x.raw"))
            .arg(&target));
        Mounted(target)
    }
}

struct Mounted(PathBuf);

impl Mounted {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(command("umount").arg(&self.0));
    }
}

fn bytes(text: &str) -> Source {
    Source::Bytes(text.into())
}

#[test]
fn a_folder_with_200_000_entries() {
    if !possible() {
        return;
    }
    let mut tree = Tree::new();
    for index in 0..200_000 {
        let text = index.to_string();
        let path = format!("usr/share/wide/entry-{index:06}");
        tree.insert_file(path.as_bytes(), bytes(&text), text.len() as u64, 0o644)
            .unwrap();
    }
    let place = Place::new();
    place.build(&tree, PLAIN);
    let mounted = place.mount();
    let mut count = 0;
    for entry in fs::read_dir(mounted.at("usr/share/wide")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("entry-"));
        count += 1;
    }
    assert_eq!(count, 200_000);
    // The kernel finds names by bisection, so their order counts.
    for index in (0..200_000).step_by(997) {
        let text = fs::read_to_string(mounted.at(&format!("usr/share/wide/entry-{index:06}")));
        assert_eq!(text.unwrap(), index.to_string());
    }
    assert!(!mounted.at("usr/share/wide/entry-200000").exists());
}

#[test]
fn a_file_with_60_000_names() {
    if !possible() {
        return;
    }
    let mut tree = Tree::new();
    let id = tree
        .insert_file(b"usr/share/many/0", bytes("one"), 3, 0o644)
        .unwrap();
    for index in 1..60_000 {
        let path = format!("usr/share/many/{index}");
        tree.insert_link(path.as_bytes(), id).unwrap();
    }
    let place = Place::new();
    let made = place.build(&tree, LZ4);
    let mounted = place.mount();
    let first = fs::metadata(mounted.at("usr/share/many/0")).unwrap();
    assert_eq!(first.nlink(), 60_000);
    for index in [1, 33_333, 59_999] {
        let other = fs::metadata(mounted.at(&format!("usr/share/many/{index}"))).unwrap();
        assert_eq!(other.ino(), first.ino());
    }
    // Names cost some 17 bytes each, inodes nothing.
    assert!(made.size < 4 << 20, "{}", made.size);
}

#[test]
fn a_path_as_deep_as_linux_has() {
    if !possible() {
        return;
    }
    // PATH_MAX is 4096 bytes, the terminating NUL and the mount point included.
    let deep = "d/".repeat(1900);
    let mut tree = Tree::new();
    let path = format!("usr/{deep}file");
    tree.insert_file(path.as_bytes(), bytes("deep"), 4, 0o644)
        .unwrap();
    let place = Place::new();
    place.build(&tree, PLAIN);
    let mounted = place.mount();
    assert_eq!(fs::read_to_string(mounted.at(&path)).unwrap(), "deep");
}

#[test]
fn a_sparse_file_of_20_gib() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(source.join("usr/share")).unwrap();
    let sparse = File::create(source.join("usr/share/sparse")).unwrap();
    let size = 20 << 30;
    let places = [0, (7 << 30) + 12_345, size - 5];
    sparse.set_len(size).unwrap();
    for offset in places {
        sparse.write_all_at(b"here!", offset).unwrap();
    }
    let tree = collect(&source, &Options::default()).unwrap().tree;
    // Chunks of a hole are an index entry each, compressed segments an index entry and one cluster
    // for all.
    for (file_system, most) in [(PLAIN, 8 << 20), (LZ4, 64 << 20)] {
        let made = place.build(&tree, file_system);
        assert!(made.size < most, "{file_system:?}: {} bytes", made.size);
        let mounted = place.mount();
        let file = File::open(mounted.at("usr/share/sparse")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size);
        let mut piece = vec![0; 1 << 20];
        for offset in places {
            let mut found = [0; 5];
            file.read_exact_at(&mut found, offset).unwrap();
            assert_eq!(&found, b"here!", "{file_system:?} at {offset}");
        }
        for offset in [1 << 20, 3 << 30, 19 << 30] {
            file.read_exact_at(&mut piece, offset).unwrap();
            assert!(
                piece.iter().all(|byte| *byte == 0),
                "{file_system:?} at {offset}"
            );
        }
    }
}

#[test]
fn attributes_up_to_what_linux_takes() {
    if !possible() {
        return;
    }
    // XATTR_SIZE_MAX and XATTR_NAME_MAX of the kernel's include/uapi/linux/limits.h.
    let longest = vec![b'v'; 65_536];
    let name = format!("user.{}", "n".repeat(250));
    let mut tree = Tree::new();
    let id = tree
        .insert_file(b"usr/file", bytes("content"), 7, 0o644)
        .unwrap();
    let inode = tree.get_mut(id).unwrap();
    inode
        .xattrs
        .insert(b"user.long".to_vec(), longest[..65_535].to_vec());
    inode
        .xattrs
        .insert(name.clone().into_bytes(), b"short".to_vec());
    let place = Place::new();
    place.build(&tree, PLAIN);
    let mounted = place.mount();
    let value = |name: &str| {
        let mut value = vec![0; 65_536];
        let count = rustix::fs::getxattr(mounted.at("usr/file"), name, &mut value).unwrap();
        value.truncate(count);
        value
    };
    assert!(value("user.long") == longest[..65_535]);
    assert_eq!(value(&name), b"short");
    drop(mounted);

    // Lengths have 16 bits on disk (struct erofs_xattr_entry).
    let inode = tree.get_mut(id).unwrap();
    inode.xattrs.insert(b"user.long".to_vec(), longest);
    let error = place.try_build(&tree, PLAIN, 2).unwrap_err();
    let error = format!("{error:#}");
    for expected in ["user.long", "65535"] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn owners_beyond_16_bits_are_kept_if_wanted() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let file = place.path("source/usr/share/file");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "x").unwrap();
    chown(&file, Some(70_000), Some(4_000_000_000)).unwrap();
    for (keep_owners, owners) in [(true, (70_000, 4_000_000_000)), (false, (0, 0))] {
        let tree = collect(&place.path("source"), &Options { keep_owners })
            .unwrap()
            .tree;
        place.build(&tree, LZ4);
        let mounted = place.mount();
        let found = fs::metadata(mounted.at("usr/share/file")).unwrap();
        assert_eq!((found.uid(), found.gid()), owners);
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let place = Place::new();
    let tree = collect(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(),
        &Options::default(),
    )
    .unwrap()
    .tree;
    let mut whole = Tree::new();
    whole.merge(tree).unwrap();
    let mixed: Vec<u8> = (0..6_000_000_u32)
        .flat_map(|index| (index / 7).wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect();
    let size = mixed.len() as u64;
    for name in ["one", "two"] {
        let path = format!("usr/{name}");
        whole
            .insert_file(path.as_bytes(), Source::Bytes(mixed.clone()), size, 0o644)
            .unwrap();
    }
    for compression in [
        None,
        Some(Compression::Lz4),
        Some(Compression::Lz4hc),
        Some(Compression::Zstd { level: 1 }),
    ] {
        let images: Vec<Vec<u8>> = [1, 2, 3, 8]
            .map(|threads| {
                place
                    .try_build(&whole, erofs(compression), threads)
                    .unwrap();
                fs::read(place.path("x.raw")).unwrap()
            })
            .to_vec();
        assert!(
            images.windows(2).all(|pair| pair[0] == pair[1]),
            "{compression:?}"
        );
    }
}

/// Takes a minute and prints what README says of it.
#[test]
#[ignore = "a million files; by .ci/full"]
fn a_million_small_files() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let source = place.path("source/usr/share/million");
    for index in 0..1_000_000_u32 {
        let folder = source.join(format!("{:04}", index / 1000));
        if index % 1000 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("file-{index}")), index.to_string()).unwrap();
    }
    let config = "sysext:\n  extensions:\n  - {name: t, tree: source, arch: x86-64, verity: hash, \
                  release: {id: _any}}\n";
    fs::write(place.path("config.yaml"), config).unwrap();
    let start = Instant::now();
    let said = output(
        command(env!("CARGO_BIN_EXE_prism-sysext"))
            .args(["build", "--output-dir", "out"])
            .current_dir(place.0.path()),
    );
    assert!(said.status.success(), "{said:?}");
    let elapsed = start.elapsed();
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    fs::rename(place.path("out/t.raw"), place.path("x.raw")).unwrap();
    let size = fs::metadata(place.path("x.raw")).unwrap().len();
    println!(
        "1 000 000 files: {elapsed:.1?}, peak {} MiB, image {size} bytes",
        peak / 1024
    );
    let mounted = place.mount();
    let mut count = 0;
    for folder in fs::read_dir(mounted.at("usr/share/million")).unwrap() {
        for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if count % 1009 == 0 {
                let text = fs::read_to_string(entry.path()).unwrap();
                assert_eq!(name, format!("file-{text}"));
            }
            count += 1;
        }
    }
    assert_eq!(count, 1_000_000);
}
