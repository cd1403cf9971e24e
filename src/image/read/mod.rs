//! One read-only view of the file systems that extensions come in.
//!
//! EROFS, SquashFS and ext4 are read without mounting; others are only named.
//! Paths are resolved here, inside the image: symbolic links, also absolute
//! ones, never lead out of it. Whatever the image claims, a directory has at
//! most a million entries and 64 MiB, a file is read up to a given length, and
//! damage is an error. The crates underneath have panicked on crafted images,
//! so every call into them is caught.

mod blocks;
mod erofs;
mod ext4;
mod squashfs;
pub mod view;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::{fmt, io};

use schemars::JsonSchema;
use serde::Serialize;

pub use window::{Window, WindowReader};

/// Most entries of one directory.
const MAX_ENTRIES: usize = 1_000_000;
/// Longest directory in bytes; stops directories that describe one block over and over.
const MAX_DIRECTORY: u64 = 64 * 1024 * 1024;
/// Largest file that is copied through memory, in bytes.
const MAX_COPY: u64 = 256 << 20;
/// Largest file that is copied at all, in bytes: holes make a file long on paper that takes days.
const MAX_FILE: u64 = 64 << 30;
/// Most symbolic links on the way to one file, as in Linux `fs/namei.c` (MAXSYMLINKS).
const MAX_SYMLINKS: u32 = 40;
/// Longest path (Linux PATH_MAX), which ends directories that contain themselves.
const MAX_PATH: usize = 4096;

/// A kind of file system, by libblkid's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// Read here.
    Erofs,
    /// Read here.
    Squashfs,
    /// Read here.
    Ext4,
    /// Read here; systemd does not mount it since 253.
    Ext3,
    /// Read here; systemd does not mount it since 253.
    Ext2,
    /// Only named.
    Btrfs,
    /// Only named.
    Xfs,
    /// Only named.
    Vfat,
    /// Only named.
    F2fs,
    /// An encrypted volume; only named.
    #[serde(rename = "crypto_LUKS")]
    Luks,
}

impl FsKind {
    /// The name in libblkid and in systemd's messages.
    pub fn name(self) -> &'static str {
        match self {
            FsKind::Erofs => "erofs",
            FsKind::Squashfs => "squashfs",
            FsKind::Ext4 => "ext4",
            FsKind::Ext3 => "ext3",
            FsKind::Ext2 => "ext2",
            FsKind::Btrfs => "btrfs",
            FsKind::Xfs => "xfs",
            FsKind::Vfat => "vfat",
            FsKind::F2fs => "f2fs",
            FsKind::Luks => "crypto_LUKS",
        }
    }

    /// Bytes that its superblock lays claim to, for those kinds that the kernel refuses to mount
    /// from less (`ext4_fill_super`, `squashfs_fill_super`).
    pub fn claimed_size(self, window: &Window) -> Option<u64> {
        let number = |at: u64| window.peek(at).map(u32::from_le_bytes).map(u64::from);
        match self {
            FsKind::Squashfs => window.peek(40).map(u64::from_le_bytes),
            FsKind::Ext4 | FsKind::Ext3 | FsKind::Ext2 => {
                // s_blocks_count_lo, s_log_block_size; s_blocks_count_hi with INCOMPAT_64BIT.
                let block = 1024u64.checked_shl(window.peek(1024 + 24).map(u32::from_le_bytes)?)?;
                let wide = number(1024 + 0x60)? & 0x80 != 0;
                let high = if wide { number(1024 + 0x150)? } else { 0 };
                (number(1024 + 4)? | high << 32).checked_mul(block)
            }
            _ => None,
        }
    }

    /// Tells by the magic numbers what is in a window; nothing if it is none of these.
    pub fn identify(window: &Window) -> Option<FsKind> {
        if window.peek(1024) == Some(0xe0f5_e1e2_u32.to_le_bytes()) {
            return Some(FsKind::Erofs);
        }
        if window.peek(0) == Some(*b"hsqs") {
            return Some(FsKind::Squashfs);
        }
        if window.peek(1024 + 0x38) == Some([0x53, 0xef]) {
            return ext_generation(window);
        }
        if window.peek(0) == Some(*b"LUKS\xba\xbe") {
            return Some(FsKind::Luks);
        }
        if window.peek(0) == Some(*b"XFSB") {
            return Some(FsKind::Xfs);
        }
        if window.peek(64 * 1024 + 64) == Some(*b"_BHRfS_M") {
            return Some(FsKind::Btrfs);
        }
        if window.peek(1024) == Some(0xf2f5_2010_u32.to_le_bytes()) {
            return Some(FsKind::F2fs);
        }
        let fat = window.peek(54) == Some(*b"FAT") || window.peek(82) == Some(*b"FAT32");
        (fat && window.peek(510) == Some([0x55, 0xaa])).then_some(FsKind::Vfat)
    }
}

/// The distinction that libblkid makes (`superblocks/ext.c`).
fn ext_generation(window: &Window) -> Option<FsKind> {
    let field = |at: u64| window.peek(1024 + at).map(u32::from_le_bytes);
    let (compat, incompat, ro_compat) = (field(0x5c)?, field(0x60)?, field(0x64)?);
    // Not among filetype, recover, meta_bg; sparse_super, large_file, btree_dir.
    if incompat & !0x16 != 0 || ro_compat & !0x07 != 0 {
        return Some(FsKind::Ext4);
    }
    let has_journal = compat & 0x04 != 0;
    Some(if has_journal {
        FsKind::Ext3
    } else {
        FsKind::Ext2
    })
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What is known of an inode without reading its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes of files and links.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds after that; squashfs has none.
    pub mtime_nanos: u32,
    /// Major and minor number of a device, where the reader can tell.
    pub device: Option<(u32, u32)>,
}

/// What the superblock tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Bytes per block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// Id of the file system, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Features that its superblock names.
    pub features: Vec<String>,
    /// Algorithms that a kernel must have to read it.
    pub compression: Vec<String>,
}

/// The value of an extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xattr {
    /// The reader can't tell: an ext4 with a journal to replay, or values in inodes of their own.
    Unknown,
    /// There is none of this name.
    Absent,
    /// Its value.
    Value(Vec<u8>),
}

/// Why something in an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The image file itself.
    #[error("reading the image: {0}")]
    Io(#[from] io::Error),
    /// No known magic number.
    #[error("there is no file system that systemd could mount")]
    Unrecognized,
    /// Known by name only.
    #[error("the file system is {0}, expected erofs, squashfs or ext4 to look inside")]
    Unsupported(FsKind),
    /// Compressed by something that is not read here.
    #[error(
        "the file system is {0} compressed by {1}, expected gzip, xz, lz4 or zstd to look inside"
    )]
    Codec(FsKind, &'static str),
    /// It contradicts itself.
    #[error("the file system is damaged or uses something unknown: {0}")]
    Damaged(String),
    /// There is no such path.
    #[error("{} is not in the image", .0.display())]
    NotFound(PathBuf),
    /// Something else than what the operation needs.
    #[error("{} is not a {expected:?} in the image", path.display())]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// What was expected.
        expected: FileKind,
    },
    /// Too many symbolic links.
    #[error("{} leads through more than {MAX_SYMLINKS} symbolic links", .0.display())]
    Loop(PathBuf),
    /// Longer than the caller reads.
    #[error("{} has {size} bytes, at most {limit} are read", path.display())]
    TooBig {
        /// Which file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// More entries than are read.
    #[error("there are more than {0} files")]
    TooManyEntries(usize),
}

/// A path and what is there.
type Found = (PathBuf, Metadata);

/// Extended attributes by full name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What each kind of file system provides. Paths are absolute, lead through no
/// symbolic link, and every directory on them was found to be of sane size.
trait Reader {
    fn details(&self) -> Details;
    fn root(&self) -> Result<Metadata, FsError>;
    fn child(&self, dir: &Path, name: &OsStr) -> Result<Option<Metadata>, FsError>;
    fn list(&self, dir: &Path) -> Result<Vec<(OsString, Metadata)>, FsError>;
    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError>;
    /// Everything below a folder, folders before what is in them, at most `limit` entries; `None` if
    /// it is not faster than folder by folder.
    fn all(&self, _folder: &Path, _limit: usize) -> Result<Option<Vec<Found>>, FsError> {
        Ok(None)
    }
    /// The first `size` bytes.
    fn read(&self, path: &Path, size: usize) -> Result<Vec<u8>, FsError>;
    /// Writes all of a file of `size` bytes.
    fn copy(&self, path: &Path, size: u64, out: &mut dyn Write) -> Result<(), FsError> {
        let most = usize::try_from(size).ok().filter(|_| size <= MAX_COPY);
        let size = most.ok_or_else(|| FsError::TooBig {
            path: path.to_owned(),
            size,
            limit: MAX_COPY,
        })?;
        Ok(out.write_all(&self.read(path, size)?)?)
    }
    /// Number of the inode and how many names lead to it, or `None` if it has no means to tell.
    fn identity(&self, path: &Path) -> Result<Option<(u64, u32)>, FsError>;
    /// All extended attributes, or `None` if it has no means to read them.
    fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError>;
}

/// A file system in an image, open for reading.
pub struct FileSystem {
    kind: FsKind,
    reader: Rc<dyn Reader>,
    /// The folder that paths begin at, and that no link leads out of.
    root: PathBuf,
}

impl fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSystem({})", self.kind)
    }
}

/// Turns a panic of a reader into an error. Nothing of ours is changed inside.
fn guarded<T>(call: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(FsError::Damaged(
            "its reader gave up on inconsistent data".to_owned(),
        ))
    })
}

impl FileSystem {
    /// Opens the file system that fills the window from its start.
    pub fn open(window: Window) -> Result<FileSystem, FsError> {
        let kind = FsKind::identify(&window).ok_or(FsError::Unrecognized)?;
        let reader = guarded(|| {
            Ok(match kind {
                FsKind::Erofs => Rc::new(erofs::Erofs::open(window)?) as Rc<dyn Reader>,
                FsKind::Squashfs => Rc::new(squashfs::Squashfs::open(window)?),
                FsKind::Ext4 | FsKind::Ext3 | FsKind::Ext2 => Rc::new(ext4::Ext4::open(window)?),
                other => return Err(FsError::Unsupported(other)),
            })
        })?;
        Ok(FileSystem {
            kind,
            reader,
            root: PathBuf::from("/"),
        })
    }

    /// A folder as a file system of its own, as after a chroot; nothing if there is none.
    pub fn enter(&self, folder: &Path) -> Result<Option<FileSystem>, FsError> {
        match self.walk_path(folder, true)? {
            None => Ok(None),
            Some((root, found)) if found.kind == FileKind::Directory => Ok(Some(FileSystem {
                kind: self.kind,
                reader: self.reader.clone(),
                root,
            })),
            Some(_) => Err(wrong(folder, FileKind::Directory)),
        }
    }

    /// Writes the content of a regular file, and returns its length.
    pub fn copy(&self, path: &Path, out: &mut dyn Write) -> Result<u64, FsError> {
        let (real, found) = self.existing(path)?;
        if found.kind != FileKind::File {
            return Err(wrong(path, FileKind::File));
        }
        if found.size > MAX_FILE {
            return Err(FsError::TooBig {
                path: path.to_owned(),
                size: found.size,
                limit: MAX_FILE,
            });
        }
        guarded(|| self.reader.copy(&real, found.size, out))?;
        Ok(found.size)
    }

    /// The first bytes of a regular file, `count` at most.
    pub fn read_start(&self, path: &Path, count: u64) -> Result<Vec<u8>, FsError> {
        let (real, found) = self.existing(path)?;
        if found.kind != FileKind::File {
            return Err(wrong(path, FileKind::File));
        }
        let count = usize::try_from(found.size.min(count)).unwrap_or(0);
        guarded(|| self.reader.read(&real, count))
    }

    /// What it is.
    pub fn kind(&self) -> FsKind {
        self.kind
    }

    /// What its superblock tells.
    pub fn details(&self) -> Details {
        self.reader.details()
    }

    /// What is at a path, following symbolic links; `None` if there is nothing.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>, FsError> {
        Ok(self
            .walk_path(path.as_ref(), true)?
            .map(|(_, metadata)| metadata))
    }

    /// What is at a path, which may itself be a symbolic link; `None` if there is nothing.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>, FsError> {
        Ok(self
            .walk_path(path.as_ref(), false)?
            .map(|(_, metadata)| metadata))
    }

    /// The target of the symbolic link at a path.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf, FsError> {
        let path = path.as_ref();
        match self.walk_path(path, false)? {
            Some((real, found)) if found.kind == FileKind::Symlink => {
                self.link_target(&real, found)
            }
            Some(_) => Err(wrong(path, FileKind::Symlink)),
            None => Err(FsError::NotFound(path.to_owned())),
        }
    }

    /// Names and metadata in a directory, sorted; symbolic links are not followed.
    pub fn list(&self, dir: impl AsRef<Path>) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let dir = dir.as_ref();
        let (real, found) = self.existing(dir)?;
        if found.kind != FileKind::Directory {
            return Err(wrong(dir, FileKind::Directory));
        }
        self.list_real(&real)
    }

    /// The content of a regular file of at most `limit` bytes.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, FsError> {
        let path = path.as_ref();
        let (real, found) = self.existing(path)?;
        if found.kind != FileKind::File {
            return Err(wrong(path, FileKind::File));
        }
        let size = usize::try_from(found.size)
            .ok()
            .filter(|_| found.size <= limit);
        let size = size.ok_or_else(|| FsError::TooBig {
            path: path.to_owned(),
            size: found.size,
            limit,
        })?;
        let content = guarded(|| self.reader.read(&real, size))?;
        if content.len() != size {
            let reason = format!("{} ends after {} bytes", path.display(), content.len());
            return Err(FsError::Damaged(reason));
        }
        Ok(content)
    }

    /// The number of the inode of something other than a folder that has several names, links not
    /// followed; `None` also where the reader can't tell.
    pub fn hard_link(&self, path: &Path) -> Result<Option<u64>, FsError> {
        match self.walk_path(path, false)? {
            None => Err(FsError::NotFound(path.to_owned())),
            Some((_, found)) if found.kind == FileKind::Directory => Ok(None),
            Some((real, _)) => {
                let identity = guarded(|| self.reader.identity(&real))?;
                Ok(identity.and_then(|(number, names)| (names > 1).then_some(number)))
            }
        }
    }

    /// All extended attributes by full name, links not followed; `None` if the reader can't tell.
    pub fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        match self.walk_path(path, false)? {
            None => Err(FsError::NotFound(path.to_owned())),
            Some((real, _)) => guarded(|| self.reader.xattrs(&real)),
        }
    }

    /// An extended attribute, by its full name such as `user.x`.
    pub fn xattr(&self, path: impl AsRef<Path>, name: &str) -> Result<Xattr, FsError> {
        let (real, _) = self.existing(path.as_ref())?;
        let Some(mut attributes) = guarded(|| self.reader.xattrs(&real))? else {
            return Ok(Xattr::Unknown);
        };
        Ok(attributes
            .remove(name.as_bytes())
            .map_or(Xattr::Absent, Xattr::Value))
    }

    /// Everything in the image in the order of a sorted depth-first walk, at most
    /// `limit` entries. Paths are absolute; the root itself is left out.
    pub fn walk(&self, limit: usize) -> Result<Vec<(PathBuf, Metadata)>, FsError> {
        let (root, _) = self.existing(Path::new("/"))?;
        let below = |path: &Path| {
            let path = path.strip_prefix(&self.root).unwrap_or(path);
            Path::new("/").join(path)
        };
        if let Some(all) = guarded(|| self.reader.all(&root, limit))? {
            let odd = |path: &Path| {
                let path = path.as_os_str().as_encoded_bytes();
                let name = path.rsplit(|byte| *byte == b'/').next();
                name.is_none_or(|name| matches!(name, b"" | b"." | b".."))
            };
            if let Some((path, _)) = all.iter().find(|(path, _)| odd(path)) {
                let reason = format!("there is an entry named {}", path.display());
                return Err(FsError::Damaged(reason));
            }
            return Ok(match self.root.parent() {
                None => all,
                Some(_) => all
                    .into_iter()
                    .map(|(path, it)| (below(&path), it))
                    .collect(),
            });
        }
        let mut found: Vec<(PathBuf, Metadata)> = Vec::new();
        let mut folders = Folders::default();
        folders.enter(&root, guarded(|| self.reader.identity(&root))?)?;
        // Still to be reported, the next at the end.
        let mut pending: Vec<(PathBuf, Metadata)> = Vec::new();
        let push_children = |dir: &Path, pending: &mut Vec<_>| -> Result<(), FsError> {
            for (name, metadata) in self.list_real(dir)?.into_iter().rev() {
                let path = dir.join(name);
                if path.as_os_str().len() > MAX_PATH {
                    let reason = format!("{} is too long a path", dir.display());
                    return Err(FsError::Damaged(reason));
                }
                pending.push((path, metadata));
            }
            Ok(())
        };
        push_children(&root, &mut pending)?;
        while let Some((path, metadata)) = pending.pop() {
            if found.len().saturating_add(pending.len()) >= limit {
                return Err(FsError::TooManyEntries(limit));
            }
            if metadata.kind == FileKind::Directory {
                check_directory(&path, metadata)?;
                folders.enter(&path, guarded(|| self.reader.identity(&path))?)?;
                push_children(&path, &mut pending)?;
            }
            found.push((below(&path), metadata));
        }
        Ok(found)
    }

    fn list_real(&self, dir: &Path) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let mut entries = guarded(|| self.reader.list(dir))?;
        let odd = |name: &OsStr| {
            name.is_empty()
                || name == "."
                || name == ".."
                || name.as_encoded_bytes().contains(&b'/')
        };
        if let Some((name, _)) = entries.iter().find(|(name, _)| odd(name)) {
            let reason = format!("{} holds an entry named {name:?}", dir.display());
            return Err(FsError::Damaged(reason));
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }

    fn existing(&self, path: &Path) -> Result<(PathBuf, Metadata), FsError> {
        self.walk_path(path, true)?
            .ok_or_else(|| FsError::NotFound(path.to_owned()))
    }

    fn link_target(&self, real: &Path, found: Metadata) -> Result<PathBuf, FsError> {
        if found.size > MAX_PATH as u64 {
            return Err(FsError::Damaged(format!(
                "{} is too long a link",
                real.display()
            )));
        }
        guarded(|| self.reader.read_link(real))
    }

    fn root_metadata(&self) -> Result<Metadata, FsError> {
        let found = match (self.root.parent(), self.root.file_name()) {
            (Some(parent), Some(name)) => guarded(|| self.reader.child(parent, name))?
                .ok_or_else(|| FsError::NotFound(self.root.clone()))?,
            _ => guarded(|| self.reader.root())?,
        };
        check_directory(&self.root, found)?;
        Ok(found)
    }

    /// Resolves a path as if the image were the root of everything.
    fn walk_path(
        &self,
        path: &Path,
        follow_last: bool,
    ) -> Result<Option<(PathBuf, Metadata)>, FsError> {
        let mut pending: Vec<OsString> = steps(path);
        let mut links = 0;
        // The way so far, each with its metadata; the root is always there.
        let mut way = vec![(self.root.clone(), self.root_metadata()?)];
        while let Some(step) = pending.pop() {
            if step == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some((here, metadata)) = way.last() else {
                break;
            };
            if metadata.kind != FileKind::Directory {
                return Ok(None);
            }
            let Some(found) = guarded(|| self.reader.child(here, &step))? else {
                return Ok(None);
            };
            let next = here.join(&step);
            if next.as_os_str().len() > MAX_PATH {
                return Ok(None);
            }
            if found.kind == FileKind::Symlink && (follow_last || !pending.is_empty()) {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(FsError::Loop(path.to_owned()));
                }
                let target = self.link_target(&next, found)?;
                if target.is_absolute() {
                    way.truncate(1);
                }
                pending.extend(steps(&target));
                continue;
            }
            if found.kind == FileKind::Directory {
                check_directory(&next, found)?;
            }
            way.push((next, found));
        }
        Ok(way.pop())
    }
}

/// The folders that a walk has come through. One of them in two places, which no tool makes, would
/// let a few blocks describe a tree without end.
#[derive(Default)]
struct Folders(HashMap<u64, PathBuf>);

impl Folders {
    fn enter(&mut self, path: &Path, identity: Option<(u64, u32)>) -> Result<(), FsError> {
        let Some((inode, _)) = identity else {
            return Ok(());
        };
        match self.0.insert(inode, path.to_owned()) {
            None => Ok(()),
            Some(first) => Err(FsError::Damaged(format!(
                "the folders {} and {} are one (inode {inode})",
                first.display(),
                path.display()
            ))),
        }
    }
}

/// The components of a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn check_directory(path: &Path, metadata: Metadata) -> Result<(), FsError> {
    if metadata.kind == FileKind::Directory && metadata.size > MAX_DIRECTORY {
        let reason = format!(
            "the directory {} has {} bytes",
            path.display(),
            metadata.size
        );
        return Err(FsError::Damaged(reason));
    }
    Ok(())
}

fn wrong(path: &Path, expected: FileKind) -> FsError {
    FsError::WrongKind {
        path: path.to_owned(),
        expected,
    }
}

/// The text of a UUID; nothing if it is not set.
fn uuid_text(bytes: [u8; 16]) -> Option<String> {
    let uuid = uuid::Uuid::from_bytes(bytes);
    (!uuid.is_nil()).then(|| uuid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    fn window(bytes: &[u8]) -> Window {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Window::new(Arc::new(file), 0, bytes.len() as u64)
    }

    fn with(at: usize, magic: &[u8]) -> Window {
        let mut bytes = vec![0; 128 * 1024];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        window(&bytes)
    }

    #[test]
    fn magic_numbers_tell_the_kind() {
        for (at, magic, kind) in [
            (0, &b"XFSB"[..], FsKind::Xfs),
            (0, b"LUKS\xba\xbe", FsKind::Luks),
            (65536 + 64, b"_BHRfS_M", FsKind::Btrfs),
            (1024, &[0x10, 0x20, 0xf5, 0xf2], FsKind::F2fs),
            (54, b"FAT16", FsKind::Vfat),
            (82, b"FAT32", FsKind::Vfat),
            (1024 + 56, &[0x53, 0xef], FsKind::Ext2),
        ] {
            assert_eq!(FsKind::identify(&with(at, magic)), Some(kind));
        }
        assert!(matches!(
            FileSystem::open(window(&[])),
            Err(FsError::Unrecognized)
        ));
        let xfs = FileSystem::open(with(0, b"XFSB"));
        assert!(matches!(xfs, Err(FsError::Unsupported(FsKind::Xfs))));
    }

    #[test]
    fn superblocks_without_a_file_system_are_damage() {
        for (at, magic) in [
            (1024, &0xe0f5_e1e2_u32.to_le_bytes()[..]),
            (0, b"hsqs"),
            (1024 + 56, &[0x53, 0xef]),
        ] {
            let opened = FileSystem::open(with(at, magic)).and_then(|fs| fs.list("/"));
            assert!(opened.is_err());
        }
    }
}
