//! EROFS through `erofs-rs`.
//!
//! Its asynchronous half is used because that one reads through a trait, where
//! the other wants the whole image as one slice. Our reads never wait, so each
//! future is done when it is first polled.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use erofs_rs::r#async::EroFS;
use erofs_rs::backend::AsyncImage;
use erofs_rs::types::Inode;
use rustix::fs::FileType;

use super::{Details, FileKind, FsError, MAX_ENTRIES, Metadata, Reader, Window, Xattrs, uuid_text};

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

impl AsyncImage for Window {
    async fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> erofs_rs::Result<()> {
        Ok(Window::read_exact_at(self, buffer, offset)?)
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

pub(super) struct Erofs(EroFS<Window>);

impl Erofs {
    pub(super) fn open(window: Window) -> Result<Erofs, FsError> {
        Ok(Erofs(ready(EroFS::new(window))?))
    }

    fn inode(&self, path: &Path) -> Result<Inode, FsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let root = self.0.super_block().root_inode_id();
            return ready(self.0.get_inode(root));
        };
        self.find(parent, name)?
            .ok_or_else(|| FsError::NotFound(path.to_owned()))
    }

    fn find(&self, dir: &Path, name: &OsStr) -> Result<Option<Inode>, FsError> {
        let mut found = None;
        self.entries(dir, |entry, inode| {
            if entry == name.as_bytes() {
                found = Some(inode);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Calls `each` with name and inode of the entries until it says false.
    fn entries(
        &self,
        dir: &Path,
        mut each: impl FnMut(&[u8], Inode) -> bool,
    ) -> Result<(), FsError> {
        let mut walk = ready(self.0.read_dir(dir.as_os_str().as_bytes()))?;
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
        device: inode.device(),
    }
}

impl Reader for Erofs {
    fn details(&self) -> Details {
        let superblock = self.0.super_block();
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
        let mut entries = Vec::new();
        self.entries(dir, |name, inode| {
            entries.push((OsString::from_vec(name.to_vec()), metadata(&inode)));
            true
        })?;
        Ok(entries)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        let inode = self.inode(path)?;
        let target = ready(self.0.read_link_inode(inode))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_vec())))
    }

    fn read(&self, path: &Path, size: usize) -> Result<Vec<u8>, FsError> {
        let mut file = self.0.open_inode_file(self.inode(path)?)?;
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

    fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        let inode = self.inode(path)?;
        Ok(Some(ready(self.0.xattrs_inode(inode))?))
    }
}
