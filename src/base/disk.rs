//! A root file system in a raw disk image, read without mounting.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::rootfs::RootFs;
use crate::finding::Finding;
use crate::image::gpt::Entry;
use crate::image::gpt::types::Role;
use crate::image::read::view::FileView;
use crate::image::read::{FileKind, FileSystem, FsError, FsKind, Window, Xattr};
use crate::image::verity::superblock::SIGNATURE;
use crate::image::{gpt, read};
use crate::io::open;
use crate::io::root::{EntryKind, Metadata, Names, RootError};

/// What tells that a file system is one of an OS (os-release(5)).
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Folders that may be mounts of their own and whose content is asked for here.
const NEEDED: [&str; 6] = ["/usr", "/opt", "/etc", "/var", "/var/lib", "/boot"];
/// Most of `/etc/fstab` that is read, in bytes.
const FSTAB_LIMIT: u64 = 1 << 20;
/// Largest partition table that is looked at, in entries.
const MAX_PARTITIONS: usize = 128;

/// The root file system of a disk image.
#[derive(Debug)]
pub(crate) struct DiskRoot {
    fs: FileSystem,
    /// The image, and a folder in it.
    path: PathBuf,
    /// Whether there is a hash tree, and nothing but the root for it.
    protected: bool,
}

fn on_another_partition(point: String) -> Finding {
    let message = format!("{point} lies on another partition, which is not looked at");
    Finding::warning("other-partition", message)
        .in_file("/etc/fstab")
        .help("mount all of the image and name the folder with --rootfs, if what lies there matters (extensions, units, the kernel's configuration)")
}

impl DiskRoot {
    /// Opens a raw image: a partition table (GPT) of which one partition holds an OS, or that file
    /// system alone. What else the OS needs and lies elsewhere is told.
    pub(crate) fn open(path: &Path) -> Result<(DiskRoot, Vec<Finding>), Finding> {
        let refused = |message: String, help: &str| {
            let message = format!("reading the disk image {}: {message}", path.display());
            Finding::error("image-file-unreadable", message).help(help)
        };
        let raw = "name a raw disk image; `qemu-img convert -O raw IN OUT` makes one of others";
        let (file, length) =
            open::open_sized(path).map_err(|error| refused(error.to_string(), raw))?;
        let file = Arc::new(file);
        let whole = Window::new(file.clone(), 0, length);
        if let Some(format) = other_format(&whole) {
            return Err(refused(format!("it is a {format} image"), raw));
        }
        let table = gpt::read(&mut whole.reader(), length)
            .map_err(|error| refused(error.to_string(), raw))?;
        let parts = match &table {
            None => vec![(None, whole)],
            Some(table) => {
                let entries = table.entries.iter().take(MAX_PARTITIONS);
                let part = |entry: &Entry| Window::new(file.clone(), entry.offset, entry.size);
                entries.map(|entry| (Some(entry), part(entry))).collect()
            }
        };
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        let mut has_tree = false;
        for (entry, window) in parts {
            let number = entry.map_or_else(String::new, |it| format!("partition {}: ", it.number));
            match FsKind::identify(&window) {
                None if window.peek(0) == Some(*SIGNATURE) => has_tree = true,
                Some(FsKind::Vfat) | None => {}
                Some(kind)
                    if kind
                        .claimed_size(&window)
                        .is_some_and(|size| size > window.length()) =>
                {
                    seen.push(format!("{number}{kind} whose end is missing"));
                }
                Some(kind) => match FileSystem::open(window) {
                    Ok(fs) if is_os(&fs) => found.push((is_root(entry), fs)),
                    Ok(_) => seen.push(format!("{number}{kind} without an OS")),
                    Err(error) => seen.push(format!("{number}{error}")),
                },
            }
        }
        // The type of a partition decides only where several hold an OS.
        if found.len() > 1 && found.iter().any(|(is_root, _)| *is_root) {
            found.retain(|(is_root, _)| *is_root);
        }
        let several = found.len();
        let (Some((_, fs)), 1) = (found.pop(), several) else {
            let what = match (several, seen.as_slice()) {
                (0, []) => "it holds no file system of an OS".to_owned(),
                (0, seen) => format!("it holds no readable OS ({})", seen.join("; ")),
                _ => format!("{several} partitions hold an OS"),
            };
            let help =
                "mount it (`systemd-dissect --mount IMAGE DIR`) and name the folder with --rootfs";
            return Err(refused(what, help));
        };
        let mut root = DiskRoot {
            fs,
            path: path.to_owned(),
            protected: false,
        };
        let elsewhere = root.elsewhere();
        root.protected = has_tree && !elsewhere.iter().any(|point| point == "/usr");
        let notes = elsewhere.into_iter().map(on_another_partition);
        Ok((root, notes.collect()))
    }

    /// Needed folders that `/etc/fstab` mounts from somewhere else.
    fn elsewhere(&self) -> Vec<String> {
        let fstab = RootFs::read(self, Path::new("etc/fstab"), FSTAB_LIMIT);
        let fstab = fstab.ok().flatten().unwrap_or_default();
        let fstab = String::from_utf8_lossy(&fstab);
        let mounts = fstab.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let source = fields.next().filter(|source| !source.starts_with('#'))?;
            let point = fields.next()?;
            let is_disk = source.contains('=') || source.starts_with("/dev/");
            (is_disk && NEEDED.contains(&point)).then(|| point.to_owned())
        });
        mounts.collect()
    }

    fn failed(&self, action: &'static str, path: &Path, error: FsError) -> RootError {
        let path = self.shown(path);
        let io = |errno| RootError::Io {
            action,
            path: path.clone(),
            errno,
        };
        match error {
            FsError::Loop(_) => io(Errno::LOOP),
            FsError::WrongKind {
                expected: FileKind::Directory,
                ..
            } => io(Errno::NOTDIR),
            FsError::TooBig { size, limit, .. } => RootError::TooLarge { path, size, limit },
            source => RootError::Image {
                action,
                path,
                source: source.into(),
            },
        }
    }

    /// What must be a regular file, if it is there.
    fn file(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        match RootFs::metadata(self, path)? {
            Some(found) if found.kind != EntryKind::File => Err(RootError::NotAFile {
                path: self.shown(path),
                found: found.kind,
            }),
            found => Ok(found),
        }
    }
}

fn is_os(fs: &FileSystem) -> bool {
    let mut names = OS_RELEASE.iter();
    // A link that leads nowhere still tells whose it is, but nothing can be read of it.
    names.any(|name| fs.metadata(name).is_ok_and(|found| found.is_some()))
}

fn is_root(entry: Option<&Entry>) -> bool {
    let kind = entry.and_then(Entry::partition_type);
    kind.is_some_and(|kind| kind.role == Role::Data)
}

/// Formats of virtual disks by their magic numbers.
fn other_format(image: &Window) -> Option<&'static str> {
    let starts = |magic: &[u8; 8]| image.peek(0) == Some(*magic);
    let footer = image.length().checked_sub(512);
    if image.peek(0) == Some(*b"QFI\xfb") {
        Some("qcow2")
    } else if starts(b"vhdxfile") {
        Some("vhdx")
    } else if starts(b"conectix") {
        Some("dynamic vhd")
    } else if footer.and_then(|at| image.peek(at)) == Some(*b"conectix") {
        // A fixed one is raw but for its last sector, which moves the backup table.
        Some("fixed vhd")
    } else {
        None
    }
}

fn metadata(found: &read::Metadata) -> Metadata {
    Metadata {
        kind: match found.kind {
            FileKind::File => EntryKind::File,
            FileKind::Directory => EntryKind::Directory,
            FileKind::Symlink => EntryKind::Link,
            FileKind::Fifo => EntryKind::Fifo,
            FileKind::Socket => EntryKind::Socket,
            FileKind::CharDevice => EntryKind::CharDevice,
            FileKind::BlockDevice => EntryKind::BlockDevice,
        },
        size: found.size,
        mode: found.mode.into(),
        uid: found.uid,
        gid: found.gid,
    }
}

impl RootFs for DiskRoot {
    fn is_protected(&self) -> bool {
        self.protected
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn enter(&self, path: &Path) -> Result<Option<Box<dyn RootFs>>, RootError> {
        let fs = self.fs.enter(path);
        let fs = fs.map_err(|error| self.failed("open the folder", path, error))?;
        let shown = self.shown(path);
        Ok(fs.map(|fs| {
            Box::new(DiskRoot {
                fs,
                path: shown,
                protected: self.protected,
            }) as Box<dyn RootFs>
        }))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        let found = self.fs.metadata(path);
        let found = found.map_err(|error| self.failed("examine", path, error))?;
        Ok(found.as_ref().map(metadata))
    }

    fn lmetadata(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        let found = self.fs.symlink_metadata(path);
        let found = found.map_err(|error| self.failed("examine", path, error))?;
        Ok(found.as_ref().map(metadata))
    }

    /// A copy without a name, as images in it are read at many places.
    fn open_file(&self, path: &Path) -> Result<Option<(File, Metadata)>, RootError> {
        let Some(found) = self.file(path)? else {
            return Ok(None);
        };
        let copy = || -> Result<File, FsError> {
            let mut file = tempfile::tempfile()?;
            self.fs.copy(path, &mut file)?;
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        };
        let file = copy().map_err(|error| self.failed("read", path, error))?;
        Ok(Some((file, found)))
    }

    fn read_start(&self, path: &Path, count: u64) -> Result<Option<Vec<u8>>, RootError> {
        if self.file(path)?.is_none() {
            return Ok(None);
        }
        let bytes = self.fs.read_start(path, count);
        bytes
            .map(Some)
            .map_err(|error| self.failed("read", path, error))
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RootError> {
        if self.file(path)?.is_none() {
            return Ok(None);
        }
        let bytes = self.fs.read(path, limit);
        bytes
            .map(Some)
            .map_err(|error| self.failed("read", path, error))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, RootError> {
        match RootFs::lmetadata(self, path)? {
            Some(found) if found.kind == EntryKind::Link => {
                let target = self.fs.read_link(path);
                let target = target.map_err(|error| self.failed("read the link", path, error))?;
                Ok(Some(target))
            }
            _ => Ok(None),
        }
    }

    fn list(&self, path: &Path, limit: usize) -> Result<Names, RootError> {
        if RootFs::metadata(self, path)?.is_none() {
            return Ok(Names::default());
        }
        let found = self.fs.list(path);
        let found = found.map_err(|error| self.failed("list", path, error))?;
        Ok(Names {
            truncated: found.len() > limit,
            names: found
                .into_iter()
                .map(|(name, _)| name)
                .take(limit)
                .collect(),
        })
    }

    fn value_of(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, RootError> {
        if self.file(path)?.is_none() {
            return Ok(None);
        }
        let value = self.fs.xattr(path, name);
        match value.map_err(|error| self.failed("read an attribute of", path, error))? {
            Xattr::Value(value) => Ok(Some(value)),
            Xattr::Absent | Xattr::Unknown => Ok(None),
        }
    }
}

impl FileView for DiskRoot {
    fn kind(&self, path: &Path) -> Result<Option<FileKind>, FsError> {
        FileView::kind(&self.fs, path)
    }

    fn entries(&self, folder: &Path) -> Result<Vec<(OsString, FileKind)>, FsError> {
        self.fs.entries(folder)
    }

    fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
        self.fs.bytes(path, limit)
    }

    fn start(&self, path: &Path, count: u64) -> Result<Vec<u8>, FsError> {
        self.fs.start(path, count)
    }

    fn target(&self, path: &Path) -> Result<PathBuf, FsError> {
        self.fs.target(path)
    }

    fn attribute(&self, path: &Path, name: &str) -> Result<Xattr, FsError> {
        self.fs.attribute(path, name)
    }

    fn walk(&self, limit: usize) -> Result<Vec<(PathBuf, read::Metadata)>, FsError> {
        self.fs.walk(limit)
    }
}
