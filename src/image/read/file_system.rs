//! One file system: paths resolved inside of it, and whatever its reader says checked.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::error::{FsError, wrong};
use super::kind::FsKind;
use super::limits::{MAX_FILE, MAX_PATH, MAX_SYMLINKS};
use super::metadata::{Details, FileKind, Metadata, Xattr, Xattrs};
use super::reader::{Folders, Reader, check_directory, guarded};
use super::window::Window;
use super::{erofs, ext4, squashfs};

/// A file system in an image, open for reading.
///
/// Whatever looks up a path can fail with [`FsError::Io`], [`FsError::Damaged`], and
/// [`FsError::Loop`] for a path through more than 40 links.
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

impl FileSystem {
    /// Opens the file system that fills the window from its start.
    ///
    /// # Errors
    /// [`FsError::Unrecognized`], [`FsError::Unsupported`] for a kind that is only known by name,
    /// [`FsError::Codec`], [`FsError::Damaged`], [`FsError::Io`].
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
    ///
    /// # Errors
    /// [`FsError::WrongKind`] if something other than a directory is there, and those of any
    /// lookup.
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

    /// Writes the content of a regular file, and returns its length in bytes.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::WrongKind`], [`FsError::TooBig`] above 64 GiB (256 MiB
    /// where the reader needs it in memory), [`FsError::Io`] also of `out`, and those of any
    /// lookup. `out` may have got a part.
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

    /// The first bytes of a regular file, at most `count` of them.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::WrongKind`], and those of any lookup.
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
    ///
    /// # Errors
    /// Those of any lookup. A path through something that is no directory leads to nothing, which
    /// is no error.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>, FsError> {
        Ok(self
            .walk_path(path.as_ref(), true)?
            .map(|(_, metadata)| metadata))
    }

    /// What is at a path, which may itself be a symbolic link; `None` if there is nothing.
    ///
    /// # Errors
    /// Those of [`FileSystem::metadata`].
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>, FsError> {
        Ok(self
            .walk_path(path.as_ref(), false)?
            .map(|(_, metadata)| metadata))
    }

    /// The target of the symbolic link at a path.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::WrongKind`] if it is no link, and those of any lookup.
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
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::WrongKind`], [`FsError::Damaged`] also for a name that no
    /// file can have, and those of any lookup.
    pub fn list(&self, dir: impl AsRef<Path>) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let dir = dir.as_ref();
        let (real, found) = self.existing(dir)?;
        if found.kind != FileKind::Directory {
            return Err(wrong(dir, FileKind::Directory));
        }
        self.list_real(&real)
    }

    /// The content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::WrongKind`], [`FsError::TooBig`], [`FsError::Damaged`]
    /// also if it ends too early, and those of any lookup.
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
    ///
    /// # Errors
    /// [`FsError::NotFound`], and those of any lookup.
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
    ///
    /// # Errors
    /// [`FsError::NotFound`], and those of any lookup.
    pub fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        match self.walk_path(path, false)? {
            None => Err(FsError::NotFound(path.to_owned())),
            Some((real, _)) => guarded(|| self.reader.xattrs(&real)),
        }
    }

    /// An extended attribute, by its full name such as `user.x`, links followed.
    ///
    /// # Errors
    /// [`FsError::NotFound`], and those of any lookup. That there is no such attribute is
    /// [`Xattr::Absent`].
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
    ///
    /// # Errors
    /// [`FsError::TooManyEntries`] above `limit`, [`FsError::Damaged`] also for a directory in two
    /// places or a path of more than 4096 bytes, and those of any lookup.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::read::window::testing::with;

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
