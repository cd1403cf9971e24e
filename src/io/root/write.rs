//! Making folders, files and links inside a root file system.

use std::ffi::OsStr;
use std::io;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawMode, Uid};
use rustix::io::Errno;

use super::{EntryKind, Ownership, RootDir, RootError, plain_components, relative};
use crate::io::atomic_file::AtomicFile;
use crate::io::atomic_folder;
use crate::io::atomic_folder::AtomicFolder;
use crate::io::hidden_name::temporary_name;

/// Mode of folders that are made on the way to a file.
const FOLDER_MODE: RawMode = 0o755;

impl RootDir {
    /// Makes the folders of `path` that are missing, with mode 0755 whatever the umask.
    ///
    /// Returns those it made, outermost first.
    ///
    /// # Errors
    /// [`RootError::NotOwned`], [`RootError::BadPath`], [`RootError::Io`]. The directories made
    /// until then are removed again.
    pub fn make_dirs(&self, path: &Path) -> Result<Vec<PathBuf>, RootError> {
        let mut made = Vec::new();
        match self.make_missing_dirs(path, &mut made) {
            Ok(()) => Ok(made),
            Err(error) => {
                self.remove_dirs(&made);
                Err(error)
            }
        }
    }

    fn make_missing_dirs(&self, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), RootError> {
        let ownership = self.ownership()?;
        let mut done = PathBuf::new();
        for name in plain_components(path)? {
            let parent = done.clone();
            done.push(name);
            match self.lookup(&done, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.failed("open the folder", &done, errno)),
            }
            let failed = |errno| self.failed("make the folder", &done, errno);
            let parent = self.lookup(relative(&parent), OFlags::PATH | OFlags::DIRECTORY);
            let parent = parent.map_err(failed)?;
            let mode = Mode::from_raw_mode(FOLDER_MODE);
            rustix::fs::mkdirat(&parent, name, mode).map_err(|errno| match errno {
                // It exists, yet the lookup found nothing: a link that leads nowhere.
                Errno::EXIST => failed(Errno::NOENT),
                other => failed(other),
            })?;
            made.push(done.clone());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
            own(&fd, ownership).map_err(failed)?;
            rustix::fs::fchmod(&fd, mode).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes away folders that are empty, innermost first; folders in use stay.
    pub fn remove_dirs(&self, outermost_first: &[PathBuf]) {
        for path in outermost_first.iter().rev() {
            if let Ok((parent, name)) = self.parent_of(path) {
                // Best effort: a folder that something else uses by now must stay.
                let _ = rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR);
            }
        }
    }

    /// Starts a file that appears at `path` on [`AtomicFile::commit`], replacing a file or link there.
    ///
    /// The folder must exist; a link as last component is not followed.
    pub(crate) fn create(&self, path: &Path, mode: u32) -> Result<AtomicFile, RootError> {
        let ownership = self.ownership()?;
        let failed = |errno| self.failed("write", path, errno);
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if EntryKind::of(&stat) == EntryKind::Directory => {
                return Err(failed(Errno::ISDIR));
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let name = OsStr::from_bytes(name.as_bytes());
        let mut pending = AtomicFile::create_in(parent, name, mode)
            .map_err(|error| self.io_failed("write", path, &error))?;
        own(&pending.file(), ownership).map_err(failed)?;
        // Changing the owner takes set-id bits away (chown(2)).
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::fchmod(pending.file(), mode).map_err(failed)?;
        Ok(pending)
    }

    /// Starts a folder that appears at `path` on [`AtomicFolder::commit`], replacing what is there.
    pub(crate) fn stage(&self, path: &Path, mode: u32) -> Result<AtomicFolder, RootError> {
        let ownership = self.ownership()?;
        let (parent, name) = self.parent_of(path)?;
        let staged = AtomicFolder::create_in(parent, OsStr::from_bytes(name.as_bytes()))
            .map_err(|error| self.io_failed("write", path, &error))?;
        let failed = |errno| self.failed("write", path, errno);
        own(&staged.folder(), ownership).map_err(failed)?;
        rustix::fs::fchmod(staged.folder(), Mode::from_raw_mode(mode)).map_err(failed)?;
        Ok(staged)
    }

    /// Takes a folder away with all that is in it. A link is not followed.
    pub(crate) fn remove_folder(&self, path: &Path) -> Result<(), RootError> {
        self.ownership()?;
        let (parent, name) = self.parent_of(path)?;
        atomic_folder::remove(parent.as_fd(), OsStr::from_bytes(name.as_bytes()))
            .map_err(|error| self.io_failed("remove", path, &error))
    }

    /// Writes a whole file, or nothing: `content` is a file, a byte slice or any other reader.
    pub(crate) fn write_atomic(
        &self,
        path: &Path,
        mode: u32,
        content: &mut dyn Read,
    ) -> Result<(), RootError> {
        let mut pending = self.create(path, mode)?;
        io::copy(content, pending.file())
            .and_then(|_| pending.commit())
            .map_err(|error| self.io_failed("write", path, &error))
    }

    /// Makes a symbolic link, or replaces a file or link with one, in a single step.
    pub(crate) fn symlink_atomic(&self, target: &Path, path: &Path) -> Result<(), RootError> {
        let ownership = self.ownership()?;
        let failed = |errno| self.failed("make the link", path, errno);
        let (parent, name) = self.parent_of(path)?;
        let temporary = temporary_name(OsStr::from_bytes(name.as_bytes()), "link");
        rustix::fs::symlinkat(target, &parent, &temporary).map_err(failed)?;
        let finish = || {
            if ownership == Ownership::Root {
                let (user, group) = (Uid::ROOT, Gid::ROOT);
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&parent, &temporary, Some(user), Some(group), flags)?;
            }
            rustix::fs::renameat(&parent, &temporary, &parent, &name)?;
            sync_folder(&parent)
        };
        finish().map_err(|errno| {
            // Best effort: the error that led here is the one to report.
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
            failed(errno)
        })
    }

    /// Removes a file or link; `false` when there is nothing. A link is not followed.
    ///
    /// # Errors
    /// [`RootError::NotOwned`], [`RootError::BadPath`], [`RootError::Io`], also for a directory.
    /// The file may be gone if only syncing its directory failed.
    pub fn remove_file(&self, path: &Path) -> Result<bool, RootError> {
        self.ownership()?;
        let failed = |errno| self.failed("remove", path, errno);
        let (parent, name) = match self.parent_of(path) {
            Err(RootError::Io {
                errno: Errno::NOENT,
                ..
            }) => return Ok(false),
            other => other?,
        };
        match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
            Ok(()) => sync_folder(&parent).map_err(failed).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(errno)),
        }
    }
}

fn own<Fd: AsFd>(fd: &Fd, ownership: Ownership) -> rustix::io::Result<()> {
    match ownership {
        Ownership::Caller => Ok(()),
        Ownership::Root => rustix::fs::fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT)),
    }
}

fn sync_folder(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fsync(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::root::testing::root;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn written_files_have_exact_modes_and_do_not_follow() {
        let (dir, root) = root();
        symlink(dir.path().join("outside"), root.path().join("link")).unwrap();
        root.write_atomic(Path::new("/link"), 0o640, &mut b"new".as_slice())
            .unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("outside")).unwrap(),
            b"canary"
        );
        let path = root.path().join("link");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(
            path.symlink_metadata().unwrap().permissions().mode() & 0o7777,
            0o640
        );
        let made = root.make_dirs(Path::new("/a/b/c")).unwrap();
        assert_eq!(made, ["a", "a/b", "a/b/c"].map(PathBuf::from));
        let error = root
            .write_atomic(Path::new("a/b"), 0o644, &mut io::empty())
            .unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ISDIR));
        root.symlink_atomic(Path::new("/x"), Path::new("a/b/c/l"))
            .unwrap();
        assert!(root.remove_file(Path::new("a/b/c/l")).unwrap());
        assert!(!root.remove_file(Path::new("a/b/c/l")).unwrap());
        root.remove_dirs(&made);
        assert!(!root.path().join("a").exists());
    }

    #[test]
    fn folders_are_not_made_through_dead_links_or_dots() {
        let (dir, root) = root();
        symlink(dir.path().join("new"), root.path().join("var")).unwrap();
        assert!(root.make_dirs(Path::new("/var/lib")).is_err());
        assert!(!dir.path().join("new").exists());
        assert!(matches!(
            root.make_dirs(Path::new("/a/../b")),
            Err(RootError::BadPath { .. })
        ));
        assert!(!root.path().join("a").exists());
        std::fs::create_dir(root.path().join("data")).unwrap();
        symlink("/data", root.path().join("srv")).unwrap();
        root.make_dirs(Path::new("/srv/x")).unwrap();
        assert!(root.path().join("data/x").is_dir());
    }
}
