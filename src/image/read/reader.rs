//! What each kind of file system provides, and what all of them are held to.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::error::FsError;
use super::limits::{MAX_COPY, MAX_DIRECTORY};
use super::metadata::{Details, FileKind, Found, Metadata, Xattrs};

/// What each kind of file system provides. Paths are absolute, lead through no
/// symbolic link, and every directory on them was found to be of sane size.
pub(super) trait Reader {
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

/// Bytes of a file that are copied at a time.
const PIECE: usize = 1 << 20;

/// Writes all of a file of `size` bytes, as `read` gives them piece by piece.
pub(super) fn copy_pieces(
    path: &Path,
    size: u64,
    out: &mut dyn Write,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, FsError>,
) -> Result<(), FsError> {
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let count = read(piece.get_mut(..wanted).unwrap_or_default())?;
        if count == 0 {
            let reason = format!("{} ends {left} bytes too early", path.display());
            return Err(FsError::Damaged(reason));
        }
        out.write_all(piece.get(..count).unwrap_or_default())?;
        left = left.saturating_sub(u64::try_from(count).unwrap_or(left));
    }
    Ok(())
}

/// Turns a panic of a reader into an error. Nothing of ours is changed inside.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(FsError::Damaged(
            "its reader gave up on inconsistent data".to_owned(),
        ))
    })
}

/// The folders that a walk has come through. One of them in two places, which no tool makes, would
/// let a few blocks describe a tree without end.
#[derive(Default)]
pub(super) struct Folders(HashMap<u64, PathBuf>);

impl Folders {
    pub(super) fn enter(
        &mut self,
        path: &Path,
        identity: Option<(u64, u32)>,
    ) -> Result<(), FsError> {
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

pub(super) fn check_directory(path: &Path, metadata: Metadata) -> Result<(), FsError> {
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
