//! A folder with a file of every kind, and what can be seen of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

pub(super) fn pattern(size: usize) -> Vec<u8> {
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
pub(super) fn every_kind(root: &Path) {
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
pub(super) fn all(root: &Path) -> Vec<PathBuf> {
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
pub(super) struct Seen {
    pub(super) kind: &'static str,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) links: u64,
    pub(super) content: Vec<u8>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    pub(super) same_as: OsString,
}

/// Looks at a folder without the library.
pub(super) fn look(root: &Path) -> BTreeMap<OsString, Seen> {
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
