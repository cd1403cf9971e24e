//! Images of every kind that a description may ask for.

use std::fs::{self, File, OpenOptions};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use prism_sysext::build::assemble::{Assembled, Protection};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::dissect;
use prism_sysext::image::gpt;
use prism_sysext::image::gpt::Partition;
use prism_sysext::image::gpt::types::{Designator, LINUX_GENERIC, PartitionType, Role};
use prism_sysext::image::mkfs::squashfs::Compression;
use prism_sysext::image::signature::KeyFile;
use prism_sysext::image::x509::Certificate;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::{Inode, Kind, Source, Tree};
use uuid::Uuid;

use super::{Content, Node};
use crate::harness::sample;

const EROFS: ImageFormat = ImageFormat::Erofs {
    compression: None,
    share_compressed: false,
};
/// A partition that no extension has: home.
const HOME: Uuid = Uuid::from_u128(0x933a_c7e1_2eb4_4f13_b844_0e14_e2ae_f915);

/// Makes an image; of an unknown kind it panics.
pub(crate) fn make(kind: &str, path: &Path, content: &Content) {
    let types = |designator| move |role| PartitionType::new(Arch::X86_64, designator, role);
    match kind {
        "garbage" => fs::write(path, b"garbage ".repeat(9000)).unwrap(),
        "zeros" => fs::write(path, vec![0; 1 << 20]).unwrap(),
        "empty-file" => fs::write(path, b"").unwrap(),
        "raw-naked-erofs" => naked(path, content, EROFS),
        "raw-naked-squashfs" => naked(path, content, ImageFormat::Squashfs(Compression::Gzip)),
        "raw-naked-ext4" => naked(path, content, ImageFormat::Ext4),
        "raw-naked-vfat" => vfat(path),
        "raw-naked-erofs-cut" | "raw-naked-ext4-cut" => {
            let mut content = content.clone();
            let filler = Node::File("filler\n".repeat(20_000));
            content.nodes.insert("usr/share/zzz".to_owned(), filler);
            let is_ext4 = kind.contains("ext4");
            naked(
                path,
                &content,
                if is_ext4 { ImageFormat::Ext4 } else { EROFS },
            );
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length - 64 * 1024).unwrap();
        }
        "raw-naked-erofs-padded" => {
            naked(path, content, EROFS);
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length + 512 * 1024).unwrap();
        }
        "raw-gpt-erofs" => drop(partitioned(path, content, EROFS, Protection::None)),
        "raw-gpt-squashfs" => {
            let format = ImageFormat::Squashfs(Compression::Gzip);
            partitioned(path, content, format, Protection::None);
        }
        "raw-gpt-ext4" => drop(partitioned(
            path,
            content,
            ImageFormat::Ext4,
            Protection::None,
        )),
        "raw-gpt-hash" => drop(partitioned(path, content, EROFS, Protection::Hash)),
        "raw-gpt-signed" => drop(signed(path, content)),
        "raw-gpt-signed-flipped" => {
            let made = signed(path, content);
            let at = made.partitions[0].first_lba * 512 + 1500;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
        "raw-gpt-usr" => {
            let made = partitioned(path, &of_usr(content), EROFS, Protection::None);
            retyped(path, made, types(Designator::Usr));
        }
        "raw-gpt-usr-signed" => {
            let made = signed(path, &of_usr(content));
            retyped(path, made, types(Designator::Usr));
        }
        "raw-gpt-arm64" => {
            let made = partitioned(path, content, EROFS, Protection::None);
            let of = |role| PartitionType::new(Arch::ARM64, Designator::Root, role);
            retyped(path, made, of);
        }
        "raw-gpt-generic" => edited(path, content, |partitions| {
            partitions[0].type_guid = LINUX_GENERIC;
        }),
        "raw-gpt-two-generic" => edited(path, content, |partitions| {
            partitions[0].type_guid = LINUX_GENERIC;
            let second = Partition {
                guid: Uuid::from_u128(77),
                first_lba: partitions[0].last_lba,
                ..partitions[0].clone()
            };
            partitions[0].last_lba -= 1;
            partitions.push(second);
        }),
        "gpt-empty" => edited(path, content, Vec::clear),
        "gpt-without-root" => edited(path, content, |partitions| {
            partitions[0].type_guid = HOME;
        }),
        "raw-gpt-erofs-readonly-flag" => edited(path, content, |partitions| {
            partitions[0].read_only = true;
        }),
        "raw-gpt-noauto" => {
            partitioned(path, content, EROFS, Protection::None);
            attribute(path, 63);
        }
        "raw-gpt-erofs-nobackup" => {
            partitioned(path, content, EROFS, Protection::None);
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            file.write_all_at(&[0; 512], length - 512).unwrap();
        }
        "raw-mbr-plain" => {
            let mut disk = vec![0; 2 << 20];
            // One entry: not bootable, type 0x83, from sector 2048 on.
            disk[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
            disk[510..512].copy_from_slice(&[0x55, 0xaa]);
            fs::write(path, disk).unwrap();
        }
        other => panic!("kind {other}"),
    }
}

/// Writes what lies beside an image with a hash tree.
pub(crate) fn sidecar(kind: &str, path: &Path) {
    let image = dissect::open(path).unwrap();
    let hash = image.root_hash.unwrap().to_string();
    match kind {
        "roothash" | "roothash+p7s" => fs::write(path.with_extension("roothash"), &hash).unwrap(),
        "roothash-xattr" => {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, "user.verity.roothash", hash.as_bytes(), flags).unwrap();
        }
        other => panic!("sidecar {other}"),
    }
    if kind.ends_with("p7s") {
        let signature = prism_sysext::image::signature::sign_root_hash(signer(), &hash).unwrap();
        fs::write(path.with_extension("roothash.p7s"), signature).unwrap();
    }
}

fn built(content: &Content) -> Tree {
    let mut tree = Tree::new();
    for (path, node) in &content.nodes {
        let name = path.as_bytes();
        match node {
            Node::File(text) => {
                let kind = Kind::File {
                    size: text.len() as u64,
                    source: Source::Bytes(text.clone().into_bytes()),
                };
                let id = tree.insert(name, Inode::new(0o644, kind)).unwrap();
                if let Some(strict) = content.strict.get(path) {
                    let name = b"user.extension-release.strict".to_vec();
                    let inode = tree.get_mut(id).unwrap();
                    inode.xattrs.insert(name, strict.clone().into_bytes());
                }
            }
            Node::Symlink(target) => drop(tree.insert_symlink(name, target.as_bytes()).unwrap()),
            Node::Dir(mode) => {
                let id = tree.make_dirs(name).unwrap();
                if let Some(mode) = mode {
                    tree.get_mut(id).unwrap().mode = u16::try_from(*mode).unwrap();
                }
            }
            Node::Whiteout => {
                tree.insert(name, Inode::new(0o644, Kind::CharDevice(0, 0)))
                    .unwrap();
            }
            Node::Opaque => {
                let id = tree.make_dirs(name).unwrap();
                let opaque = b"trusted.overlay.opaque".to_vec();
                tree.get_mut(id)
                    .unwrap()
                    .xattrs
                    .insert(opaque, b"y".to_vec());
            }
            Node::Fifo => drop(tree.insert(name, Inode::new(0o644, Kind::Fifo)).unwrap()),
            Node::Absent => panic!("{path} of an extension is absent"),
        }
    }
    tree
}

/// A usr-type image holds what is below `usr`.
fn of_usr(content: &Content) -> Content {
    let below = |path: &String| path.strip_prefix("usr/").map(str::to_owned);
    Content {
        nodes: content
            .nodes
            .iter()
            .filter_map(|(path, node)| Some((below(path)?, node.clone())))
            .collect(),
        strict: content
            .strict
            .iter()
            .filter_map(|(path, value)| Some((below(path)?, value.clone())))
            .collect(),
    }
}

fn partitioned(
    path: &Path,
    content: &Content,
    format: ImageFormat,
    verity: Protection<'_>,
) -> Assembled {
    let tree = built(content);
    sample::assembled(&tree, format, verity, NonZero::<usize>::MIN, path)
}

fn naked(path: &Path, content: &Content, format: ImageFormat) {
    partitioned(path, content, format, Protection::Bare);
}

fn signer() -> &'static KeyFile {
    static SIGNER: OnceLock<KeyFile> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_prism-sysext"))
            .args(["sign", "keygen", "--key", "k.pem", "--certificate", "c.crt"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let read = |name| fs::read(dir.path().join(name)).unwrap();
        let certificate = prism_sysext::image::x509::load(&read("c.crt")).unwrap();
        let certificate: &Certificate = &certificate[0];
        KeyFile::from_pem(&read("k.pem"), certificate).unwrap()
    })
}

fn signed(path: &Path, content: &Content) -> Assembled {
    partitioned(path, content, EROFS, Protection::Signed(signer()))
}

/// Gives the partitions other types.
fn retyped(path: &Path, made: Assembled, of: impl Fn(Role) -> PartitionType) {
    let mut partitions = made.partitions;
    for partition in &mut partitions {
        let role = PartitionType::from_guid(partition.type_guid).unwrap().role;
        partition.type_guid = of(role).guid().unwrap();
    }
    write_table(path, &partitions);
}

/// An image of one root partition whose table is changed before it is written.
fn edited(path: &Path, content: &Content, change: impl Fn(&mut Vec<Partition>)) {
    let mut partitions = partitioned(path, content, EROFS, Protection::None).partitions;
    change(&mut partitions);
    write_table(path, &partitions);
}

fn write_table(path: &Path, partitions: &[Partition]) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let sectors = file.metadata().unwrap().len() / 512;
    gpt::write(&mut file, Uuid::from_u128(9), partitions, sectors).unwrap();
}

/// Sets an attribute of the first partition, with sgdisk.
fn attribute(path: &Path, bit: u32) {
    let set = format!("--attributes=1:set:{bit}");
    let path_text = path.to_str().unwrap();
    let done = Command::new("/usr/sbin/sgdisk")
        .args([&set, path_text])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// No more than what it takes to be known as FAT.
fn vfat(path: &Path) {
    let mut disk = vec![0; 1 << 20];
    disk[54..62].copy_from_slice(b"FAT16   ");
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    File::create(path).unwrap().write_all_at(&disk, 0).unwrap();
}
