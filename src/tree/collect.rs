//! A folder on this machine as a [`Tree`].
//!
//! Only metadata is read here; the bytes of files stay where they are until an
//! image is written. Symbolic links are content and never followed.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use walkdir::{DirEntry, WalkDir};

use super::{Inode, InodeId, Kind, Source, Tree};
use crate::finding::{Finding, Findings};

/// How to take in a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Keep users and groups instead of giving everything to root.
    pub keep_owners: bool,
}

/// A folder's content and what has to be said about it.
#[derive(Debug)]
pub struct Collected {
    /// The content. The root directory itself is always 0755 of root: it is no content.
    pub tree: Tree,
    /// What was left out, as notes.
    pub findings: Vec<Finding>,
}

/// Reads names, types, modes, extended attributes and hard links below `root`.
///
/// Kept are `user.*`, `security.capability` and POSIX ACLs; other extended attributes are dropped
/// and noted (`xattr-dropped`).
///
/// # Errors
/// All at once: `unreadable-input`, and what an extension cannot carry: `device-node`,
/// `overlay-whiteout`, `overlay-marker`, `bad-path`.
pub fn collect(root: &Path, options: &Options) -> Result<Collected, Findings> {
    let mut collector = Collector {
        options,
        tree: Tree::new(),
        seen: HashMap::new(),
        dropped: BTreeMap::new(),
        errors: Vec::new(),
    };
    match std::fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let message = "expected a folder, found something else";
            return Err(Finding::error("unreadable-input", message)
                .in_file(root)
                .into());
        }
        Err(error) => return Err(unreadable(root, &error)),
    }
    // Sorted, so that the same tree is numbered and reported alike on every file system.
    for entry in WalkDir::new(root).min_depth(1).sort_by_file_name() {
        match entry {
            Ok(entry) => {
                if let Err(findings) = collector.take(root, &entry) {
                    collector.errors.extend(findings.0);
                }
            }
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                let error = error.into();
                collector.errors.extend(unreadable(&path, &error).0);
            }
        }
    }
    if !collector.errors.is_empty() {
        return Err(Findings(collector.errors));
    }
    let findings = collector.dropped.iter().map(note_dropped).collect();
    Ok(Collected {
        tree: collector.tree,
        findings,
    })
}

struct Collector<'a> {
    options: &'a Options,
    tree: Tree,
    /// Files with more than one link, by device and inode number.
    seen: HashMap<(u64, u64), InodeId>,
    /// Names of extended attributes that were dropped: how often, and one example.
    dropped: BTreeMap<String, (u64, std::path::PathBuf)>,
    errors: Vec<Finding>,
}

impl Collector<'_> {
    fn take(&mut self, root: &Path, entry: &DirEntry) -> Result<(), Findings> {
        let path = entry.path();
        let inside = path.strip_prefix(root).unwrap_or(path);
        let inside = inside.as_os_str().as_bytes();
        let placed = |error: super::TreeError| -> Findings {
            Finding::error("bad-path", error.to_string())
                .in_file(path)
                .into()
        };
        let metadata = entry
            .metadata()
            .map_err(|error| unreadable(path, &error.into()))?;
        let link = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1
            && !metadata.is_dir()
            && let Some(id) = self.seen.get(&link)
        {
            return self.tree.insert_link(inside, *id).map_err(placed);
        }
        let kind = kind_of(path, &metadata)?;
        let (uid, gid) = match self.options.keep_owners {
            true => (metadata.uid(), metadata.gid()),
            false => (0, 0),
        };
        let inode = Inode {
            mode: u16::try_from(metadata.mode() & 0o7777).unwrap_or_default(),
            uid,
            gid,
            xattrs: self.xattrs(path)?,
            kind,
        };
        let id = self.tree.insert(inside, inode).map_err(placed)?;
        if metadata.nlink() > 1 && !metadata.is_dir() {
            self.seen.insert(link, id);
        }
        Ok(())
    }

    fn xattrs(&mut self, path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Findings> {
        let mut kept = BTreeMap::new();
        let list = xattr_list(path).map_err(|errno| unreadable(path, &errno.into()))?;
        for name in list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            if changes_an_overlay(name) {
                return Err(Finding::error(
                    "overlay-marker",
                    format!(
                        "this is half of an overlay: the attribute {} changes what lower layers show",
                        name.escape_ascii()
                    ),
                )
                .in_file(path)
                .because("kernel Documentation/filesystems/overlayfs.rst")
                .help("collect the merged view of the overlay instead of its upper folder")
                .into());
            }
            if is_kept(name) {
                let value =
                    xattr_value(path, name).map_err(|errno| unreadable(path, &errno.into()))?;
                kept.insert(name.to_vec(), value);
            } else {
                let name = name.escape_ascii().to_string();
                let first = || (0, path.to_owned());
                self.dropped.entry(name).or_insert_with(first).0 += 1;
            }
        }
        Ok(kept)
    }
}

/// Attributes that mean the same on every machine. SELinux labels come from the target's
/// policy and `trusted.*` belongs to the machine that set it.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    let acls: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name == b"security.capability"
        || acls.contains(&name)
}

/// Attributes by which an upper folder of overlayfs hides or replaces what is below it.
pub(crate) fn changes_an_overlay(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
    let markers: [&[u8]; 4] = [b"opaque", b"whiteout", b"redirect", b"metacopy"];
    prefixes.iter().any(|prefix| {
        name.strip_prefix(*prefix)
            .is_some_and(|rest| markers.contains(&rest))
    })
}

fn kind_of(path: &Path, metadata: &Metadata) -> Result<Kind, Findings> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        return Ok(Kind::Directory(BTreeMap::new()));
    }
    if file_type.is_file() {
        // Now rather than in the middle of writing an image.
        rustix::fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS)
            .map_err(|errno| unreadable(path, &errno.into()))?;
        return Ok(Kind::File {
            size: metadata.len(),
            source: Source::Path(path.to_owned()),
        });
    }
    if file_type.is_symlink() {
        let target = std::fs::read_link(path).map_err(|error| unreadable(path, &error))?;
        return Ok(Kind::Symlink(target.into_os_string().into_encoded_bytes()));
    }
    if file_type.is_fifo() {
        return Ok(Kind::Fifo);
    }
    if file_type.is_socket() {
        return Ok(Kind::Socket);
    }
    if file_type.is_char_device() && metadata.rdev() == 0 {
        let message = "this is an overlayfs whiteout: it would delete a file of the base OS";
        return Err(Finding::error("overlay-whiteout", message)
            .in_file(path)
            .because("kernel Documentation/filesystems/overlayfs.rst")
            .help("remove it; an extension adds files and cannot take any away")
            .into());
    }
    let message = "a device node does nothing in an extension: systemd mounts extensions nodev";
    Err(Finding::error("device-node", message)
        .in_file(path)
        .because("systemd src/shared/dissect-image.c, mount_partition")
        .help("remove it; let udev or tmpfiles.d make the device")
        .into())
}

fn xattr_list(path: &Path) -> Result<Vec<u8>, Errno> {
    // Again when the list grew between the question for its size and the reading.
    loop {
        let size = match rustix::fs::llistxattr_query(path) {
            Ok(size) => size,
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        };
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut list = vec![0; size];
        match rustix::fs::llistxattr(path, &mut list) {
            Ok(size) => {
                list.truncate(size);
                return Ok(list);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn xattr_value(path: &Path, name: &[u8]) -> Result<Vec<u8>, Errno> {
    loop {
        let size = rustix::fs::lgetxattr_query(path, name)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut value = vec![0; size];
        match rustix::fs::lgetxattr(path, name, &mut value) {
            Ok(size) => {
                value.truncate(size);
                return Ok(value);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Findings {
    let mut finding =
        Finding::error("unreadable-input", format!("cannot be read: {error}")).in_file(path);
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        finding = finding.help("make it readable or run as its owner");
    }
    finding.into()
}

fn note_dropped((name, (count, path)): (&String, &(u64, std::path::PathBuf))) -> Finding {
    let files = if *count == 1 { "file" } else { "files" };
    let message = format!("the extended attribute {name} of {count} {files} is left out");
    Finding::note("xattr-dropped", message).in_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn names_types_modes_and_links_are_taken_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("usr/empty")).unwrap();
        let weird = std::ffi::OsStr::from_bytes(b"usr/\xff\xfe");
        std::fs::write(root.join(weird), "12345").unwrap();
        std::fs::set_permissions(root.join(weird), std::fs::Permissions::from_mode(0o4751))
            .unwrap();
        std::fs::hard_link(root.join(weird), root.join("usr/again")).unwrap();
        symlink("/nowhere", root.join("usr/link")).unwrap();
        let tree = collect(root, &Options::default()).unwrap().tree;
        let id = tree.lookup(b"usr/\xff\xfe").unwrap();
        let inode = tree.get(id).unwrap();
        assert_eq!((inode.mode, inode.uid, inode.gid), (0o4751, 0, 0));
        assert!(matches!(inode.kind, Kind::File { size: 5, .. }));
        assert_eq!(tree.lookup(b"usr/again"), Some(id));
        let link = tree.get(tree.lookup(b"usr/link").unwrap()).unwrap();
        assert_eq!(link.kind, Kind::Symlink(b"/nowhere".to_vec()));
        let empty = tree.get(tree.lookup(b"usr/empty").unwrap()).unwrap();
        assert!(empty.entries().unwrap().is_empty());
        assert_eq!(tree.walk().count(), 5);
    }

    #[test]
    fn only_portable_attributes_are_kept() {
        for name in ["user.x", "security.capability", "system.posix_acl_access"] {
            assert!(is_kept(name.as_bytes()), "{name}");
        }
        for name in [
            "security.selinux",
            "trusted.x",
            "user.overlay.origin",
            "system.nfs4_acl",
            "security.capability2",
        ] {
            assert!(!is_kept(name.as_bytes()), "{name}");
        }
        assert!(changes_an_overlay(b"trusted.overlay.opaque"));
        assert!(changes_an_overlay(b"user.overlay.redirect"));
        assert!(!changes_an_overlay(b"trusted.overlay.origin"));
    }

    #[test]
    fn all_refusals_come_at_once() {
        if !rustix::process::geteuid().is_root() {
            return; // mknod and trusted attributes need root
        }
        let dir = tempfile::tempdir().unwrap();
        let mknod = |name: &str, device| {
            let (kind, mode) = (
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::RUSR,
            );
            rustix::fs::mknodat(CWD, dir.path().join(name), kind, mode, device).unwrap();
        };
        mknod("null", rustix::fs::makedev(1, 3));
        mknod("whiteout", 0);
        let opaque = dir.path().join("opaque");
        std::fs::create_dir(&opaque).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(&opaque, "trusted.overlay.opaque", b"y", flags).unwrap();
        let error = collect(dir.path(), &Options::default()).unwrap_err();
        let ids: Vec<_> = error.0.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["device-node", "overlay-marker", "overlay-whiteout"]);
    }

    #[test]
    fn what_is_dropped_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, "").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        // Stands for any attribute that belongs to this machine; settable without privilege.
        rustix::fs::lsetxattr(&file, "user.overlay.origin", b"y", flags).unwrap();
        let collected = collect(dir.path(), &Options::default()).unwrap();
        let [finding] = collected.findings.as_slice() else {
            panic!("{:?}", collected.findings);
        };
        assert_eq!(finding.id, "xattr-dropped");
        assert!(finding.message.contains("user.overlay.origin"));
    }

    #[test]
    fn what_is_no_folder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = collect(file.path(), &Options::default()).unwrap_err();
        assert_eq!(error.0[0].id, "unreadable-input");
        let error = collect(Path::new("/no/such"), &Options::default()).unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
}
