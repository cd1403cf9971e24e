//! EROFS through `erofs-rs`.
//!
//! Its asynchronous half is used because that one reads through a trait, where
//! the other wants the whole image as one slice. Our reads never wait, so each
//! future is done when it is first polled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use erofs_rs::r#async::EroFS;
use erofs_rs::backend::AsyncImage;
use erofs_rs::types::Inode;
use rustix::fs::FileType;

use super::blocks::Blocks;
use super::error::FsError;
use super::limits::{MAX_ENTRIES, MAX_PATH};
use super::metadata::{Details, FileKind, Found, Metadata, Xattrs, uuid_text};
use super::reader::{Folders, Reader, check_directory, copy_pieces};
use super::window::Window;

/// Bits of `feature_incompat` (Linux `fs/erofs/erofs_fs.h`); two bits have two meanings each.
const FEATURES: &[(u32, &str)] = &[
    (0x01, "zero-padding"),
    (0x02, "compression-configs"),
    (0x04, "chunked-files"),
    (0x08, "device-table"),
    (0x10, "tail-packing"),
    (0x20, "fragments"),
    (0x40, "xattr-prefixes"),
    (0x80, "48-bit"),
];
const ZERO_PADDING: u32 = 0x01;
const COMPRESSION_CONFIGS: u32 = 0x02;
/// Bits of the compression algorithms in the superblock, from bit 0 (`Z_EROFS_COMPRESSION_*`).
const ALGORITHMS: &[&str] = &["lz4", "lzma", "deflate", "zstd"];

impl AsyncImage for Blocks {
    async fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> erofs_rs::Result<()> {
        Ok(Blocks::read_exact_at(self, buffer, offset)?)
    }
}

/// Runs a future that never waits.
fn ready<T>(future: impl Future<Output = erofs_rs::Result<T>>) -> Result<T, FsError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => Err(FsError::Damaged("the reader waits for nothing".to_owned())),
    }
}

impl From<erofs_rs::Error> for FsError {
    fn from(error: erofs_rs::Error) -> FsError {
        match error {
            erofs_rs::Error::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                FsError::Io(error)
            }
            other => FsError::Damaged(other.to_string()),
        }
    }
}

/// A directory, sorted by name.
type Directory = Rc<Vec<(Vec<u8>, Inode)>>;

/// After so many entries what was not asked for since is forgotten.
const KEPT: usize = 2 << 10;

/// The directories that were read last: paths are resolved from the root, and the reader looks at
/// the inodes of all names on the way.
#[derive(Default)]
struct Kept {
    young: HashMap<Vec<u8>, Directory>,
    /// Entries of the young ones together.
    entries: usize,
    old: HashMap<Vec<u8>, Directory>,
}

impl Kept {
    fn get(&mut self, path: &[u8]) -> Option<Directory> {
        if let Some(directory) = self.young.get(path) {
            return Some(directory.clone());
        }
        let (path, directory) = self.old.remove_entry(path)?;
        self.insert(path, directory.clone());
        Some(directory)
    }

    fn insert(&mut self, path: Vec<u8>, directory: Directory) {
        if self.entries > KEPT {
            self.old = std::mem::take(&mut self.young);
            self.entries = 0;
        }
        self.entries += directory.len() + 1;
        self.young.insert(path, directory);
    }
}

pub(super) struct Erofs {
    reader: EroFS<Blocks>,
    kept: RefCell<Kept>,
}

impl Erofs {
    pub(super) fn open(window: Window) -> Result<Erofs, FsError> {
        Ok(Erofs {
            reader: ready(EroFS::new(Blocks::new(window)))?,
            kept: RefCell::default(),
        })
    }

    fn inode(&self, path: &Path) -> Result<Inode, FsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let root = self.reader.super_block().root_inode_id();
            return ready(self.reader.get_inode(root));
        };
        self.find(parent, name)?
            .ok_or_else(|| FsError::NotFound(path.to_owned()))
    }

    fn find(&self, dir: &Path, name: &OsStr) -> Result<Option<Inode>, FsError> {
        let directory = self.directory(dir)?;
        let found = directory.binary_search_by(|(entry, _)| entry.as_slice().cmp(name.as_bytes()));
        let entry = found.ok().and_then(|index| directory.get(index));
        Ok(entry.map(|(_, inode)| *inode))
    }

    fn directory(&self, dir: &Path) -> Result<Directory, FsError> {
        let path = dir.as_os_str().as_bytes();
        if let Some(directory) = self.kept.borrow_mut().get(path) {
            return Ok(directory);
        }
        let mut entries = Vec::new();
        self.entries(dir, |name, inode| {
            entries.push((name.to_vec(), inode));
            true
        })?;
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let directory = Rc::new(entries);
        let mut kept = self.kept.borrow_mut();
        kept.insert(path.to_vec(), directory.clone());
        Ok(directory)
    }

    /// Calls `each` with name and inode of the entries until it says false.
    fn entries(
        &self,
        dir: &Path,
        mut each: impl FnMut(&[u8], Inode) -> bool,
    ) -> Result<(), FsError> {
        let mut walk = ready(self.reader.read_dir(dir.as_os_str().as_bytes()))?;
        for _ in 0..MAX_ENTRIES {
            let next = ready(async {
                match walk.next_entry().await {
                    Some(entry) => Ok(Some(entry?)),
                    None => Ok(None),
                }
            })?;
            let Some(entry) = next else { return Ok(()) };
            if !each(entry.dir_entry.file_name(), entry.inode) {
                return Ok(());
            }
        }
        Err(FsError::TooManyEntries(MAX_ENTRIES))
    }
}

fn metadata(inode: &Inode) -> Metadata {
    let kind = match inode.file_type() {
        FileType::Directory => FileKind::Directory,
        FileType::RegularFile | FileType::Unknown => FileKind::File,
        FileType::Symlink => FileKind::Symlink,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
    };
    Metadata {
        kind,
        mode: u16::try_from(inode.permissions().mode() & 0o7777).unwrap_or(0),
        uid: inode.uid(),
        gid: inode.gid(),
        size: inode.data_size(),
        mtime: inode.modified_unix().0,
        mtime_nanos: inode.modified_unix().1,
        device: inode.device(),
    }
}

impl Reader for Erofs {
    fn details(&self) -> Details {
        let superblock = self.reader.super_block();
        let incompat = superblock.feature_incompat;
        let used = |(_, name): (usize, &&str)| (*name).to_owned();
        let compression = if incompat & COMPRESSION_CONFIGS != 0 {
            let bit = |(number, _): &(usize, &&str)| superblock.compr_algs >> number & 1 == 1;
            ALGORITHMS
                .iter()
                .enumerate()
                .filter(bit)
                .map(used)
                .collect()
        } else if incompat & ZERO_PADDING != 0 {
            // mkfs.erofs sets it only when it compresses, and then with LZ4.
            vec!["lz4".to_owned()]
        } else {
            Vec::new()
        };
        Details {
            block_size: 1u32.checked_shl(u32::from(superblock.blk_size_bits)),
            uuid: uuid_text(superblock.uuid),
            features: FEATURES
                .iter()
                .filter(|(bit, _)| incompat & bit != 0)
                .map(|(_, name)| (*name).to_owned())
                .collect(),
            compression,
        }
    }

    fn root(&self) -> Result<Metadata, FsError> {
        Ok(metadata(&self.inode(Path::new("/"))?))
    }

    fn child(&self, dir: &Path, name: &OsStr) -> Result<Option<Metadata>, FsError> {
        Ok(self.find(dir, name)?.as_ref().map(metadata))
    }

    fn list(&self, dir: &Path) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let directory = self.directory(dir)?;
        let entries = directory.iter().map(|(name, inode)| {
            let name = OsString::from_vec(name.clone());
            (name, metadata(inode))
        });
        Ok(entries.collect())
    }

    /// Path by path the reader would look through every folder on the way again.
    fn all(&self, folder: &Path, limit: usize) -> Result<Option<Vec<Found>>, FsError> {
        let mut walk = ready(self.reader.walk_dir(folder.as_os_str().as_bytes()))?;
        let mut all = Vec::new();
        let mut folders = Folders::default();
        folders.enter(folder, self.identity(folder)?)?;
        loop {
            let next = ready(async {
                match walk.next_entry().await {
                    Some(entry) => Ok(Some(entry?)),
                    None => Ok(None),
                }
            })?;
            let Some(entry) = next else {
                return Ok(Some(all));
            };
            let path = PathBuf::from(OsString::from_vec(entry.dir_entry.path().into_vec()));
            let found = metadata(&entry.inode);
            if all.len() >= limit {
                return Err(FsError::TooManyEntries(limit));
            }
            if path.as_os_str().len() > MAX_PATH {
                let reason = "a folder holds folders without end".to_owned();
                return Err(FsError::Damaged(reason));
            }
            check_directory(&path, found)?;
            if found.kind == FileKind::Directory {
                folders.enter(&path, Some((entry.inode.id(), 1)))?;
            }
            all.push((path, found));
        }
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        let inode = self.inode(path)?;
        let target = ready(self.reader.read_link_inode(inode))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_vec())))
    }

    fn read(&self, path: &Path, size: usize) -> Result<Vec<u8>, FsError> {
        let mut file = self.reader.open_inode_file(self.inode(path)?)?;
        let mut content = vec![0; size];
        let mut filled = 0;
        while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match ready(file.read(rest))? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        content.truncate(filled);
        Ok(content)
    }

    fn copy(&self, path: &Path, size: u64, out: &mut dyn Write) -> Result<(), FsError> {
        let mut file = self.reader.open_inode_file(self.inode(path)?)?;
        copy_pieces(path, size, out, |piece| ready(file.read(piece)))
    }

    fn identity(&self, path: &Path) -> Result<Option<(u64, u32)>, FsError> {
        let inode = self.inode(path)?;
        Ok(Some((inode.id(), inode.nlink())))
    }

    fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        let inode = self.inode(path)?;
        Ok(Some(ready(self.reader.xattrs_inode(inode))?))
    }
}
