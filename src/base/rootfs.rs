//! What facts are read from: a root file system in a folder or in a disk image.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::image::read::view::FileView;
use crate::io::root::{EntryKind, Metadata, Names, RootDir, RootError};

/// A root file system, for reading. Paths begin at it, and no link leads out of it.
pub trait RootFs: FileView {
    /// Where it is on this machine, for messages.
    fn path(&self) -> &Path;
    /// A folder of it as a root file system of its own; nothing if there is none.
    fn enter(&self, path: &Path) -> Result<Option<Box<dyn RootFs>>, RootError>;
    /// What is at a path, links followed; nothing if there is nothing.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, RootError>;
    /// What is at a path, which may itself be a link.
    fn lmetadata(&self, path: &Path) -> Result<Option<Metadata>, RootError>;
    /// A regular file for reading at any place of it.
    fn open_file(&self, path: &Path) -> Result<Option<(File, Metadata)>, RootError>;
    /// The first bytes of a regular file, `count` at most.
    fn read_start(&self, path: &Path, count: u64) -> Result<Option<Vec<u8>>, RootError>;
    /// All bytes of a regular file of at most `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RootError>;
    /// Where a link leads; nothing for anything else.
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, RootError>;
    /// The names in a folder, `limit` at most; none if there is no folder.
    fn list(&self, path: &Path, limit: usize) -> Result<Names, RootError>;
    /// An extended attribute of a regular file.
    fn value_of(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, RootError>;

    /// Whether dm-verity protects it as a whole.
    fn is_protected(&self) -> bool {
        false
    }

    /// The same for several threads at once, where that can be.
    fn shared(&self) -> Option<&(dyn RootFs + Sync)> {
        None
    }

    /// A path in it, for messages.
    fn shown(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether there is a folder at a path.
    fn has_folder(&self, path: &Path) -> bool {
        let found = self.metadata(path).ok().flatten();
        found.is_some_and(|found| found.kind == EntryKind::Directory)
    }
}

impl RootFs for RootDir {
    fn shared(&self) -> Option<&(dyn RootFs + Sync)> {
        Some(self)
    }

    fn path(&self) -> &Path {
        RootDir::path(self)
    }

    fn enter(&self, path: &Path) -> Result<Option<Box<dyn RootFs>>, RootError> {
        let folder = RootDir::enter(self, path)?;
        Ok(folder.map(|folder| Box::new(folder) as Box<dyn RootFs>))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        RootDir::metadata(self, path)
    }

    fn lmetadata(&self, path: &Path) -> Result<Option<Metadata>, RootError> {
        RootDir::lmetadata(self, path)
    }

    fn open_file(&self, path: &Path) -> Result<Option<(File, Metadata)>, RootError> {
        RootDir::open_file(self, path)
    }

    fn read_start(&self, path: &Path, count: u64) -> Result<Option<Vec<u8>>, RootError> {
        RootDir::read_start(self, path, count)
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RootError> {
        RootDir::read(self, path, limit)
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, RootError> {
        RootDir::read_link(self, path)
    }

    fn list(&self, path: &Path, limit: usize) -> Result<Names, RootError> {
        RootDir::list(self, path, limit)
    }

    fn value_of(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, RootError> {
        RootDir::attribute(self, path, name)
    }
}
