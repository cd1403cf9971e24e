//! Folders that appear complete or not at all.
//!
//! The content is made in a folder beside the final name. Its name begins with `.#`, which systemd
//! passes over (`image_name_is_valid`, src/basic/os-util.c), and is the same every time, so that
//! what a killed process left goes with the next one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::io::atomic_file::place_of;
use crate::io::hidden_name::hidden_name;
use crate::io::open;

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A folder under construction beside its final name; unless it is committed, it goes when this does.
#[derive(Debug)]
pub(crate) struct AtomicFolder {
    parent: OwnedFd,
    name: OsString,
    folder: OwnedFd,
    is_placed: bool,
}

impl AtomicFolder {
    /// Starts a folder that [`commit`](Self::commit) will place at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<AtomicFolder> {
        let (parent, name) = place_of(path)?;
        AtomicFolder::create_in(parent, name)
    }

    /// Starts a folder that will be `name` in an open one.
    pub(crate) fn create_in(parent: OwnedFd, name: &OsStr) -> io::Result<AtomicFolder> {
        let staged = beside(name, "new");
        clear(parent.as_fd(), &staged)?;
        rustix::fs::mkdirat(&parent, &staged, Mode::RWXU)?;
        let folder = rustix::fs::openat(&parent, &staged, OPEN, Mode::empty())?;
        Ok(AtomicFolder {
            parent,
            name: name.to_owned(),
            folder,
            is_placed: false,
        })
    }

    /// The folder, to write into.
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Syncs the content and gives the folder its final name; a folder or file that had it goes.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        rustix::fs::syncfs(&self.folder)?;
        let (parent, staged) = (self.parent.as_fd(), beside(&self.name, "new"));
        let rename = |flags| rustix::fs::renameat_with(parent, &staged, parent, &self.name, flags);
        match rename(RenameFlags::NOREPLACE) {
            Ok(()) => self.is_placed = true,
            // At once, so that there is always one of both.
            Err(Errno::EXIST) => rename(RenameFlags::EXCHANGE)?,
            Err(errno) => return Err(errno.into()),
        }
        rustix::fs::fsync(parent)?;
        if !self.is_placed {
            self.is_placed = true;
            clear(parent, &staged)?;
        }
        Ok(())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.is_placed {
            // Best effort: the error that led here is the one to report.
            let _ = clear(self.parent.as_fd(), &beside(&self.name, "new"));
        }
    }
}

/// The name of what is under construction or on its way out.
fn beside(name: &OsStr, what: &str) -> OsString {
    hidden_name(".#", name, &format!(".{what}"))
}

/// Takes a folder away with all that is in it: at once under its name, then piece by piece.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let old = beside(name, "old");
    clear(parent, &old)?;
    rustix::fs::renameat(parent, name, parent, &old)?;
    rustix::fs::fsync(parent)?;
    clear(parent, &old)
}

/// Removes whatever has a name; nothing may have it. Links are not followed.
fn clear(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    std::fs::remove_dir_all(open::by_descriptor(&parent).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn appears_whole_replaces_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        // What a killed process left.
        std::fs::create_dir_all(dir.path().join(".#x.new/deep")).unwrap();
        for text in ["one", "two"] {
            let staged = AtomicFolder::create(&path).unwrap();
            let file = dir.path().join(".#x.new/file");
            std::fs::write(&file, text).unwrap();
            if text == "two" {
                assert_eq!(std::fs::read(path.join("file")).unwrap(), b"one");
            }
            staged.commit().unwrap();
            assert_eq!(std::fs::read(path.join("file")).unwrap(), text.as_bytes());
            assert_eq!(names(dir.path()), ["x"]);
        }
        drop(AtomicFolder::create(&path).unwrap());
        assert_eq!(names(dir.path()), ["x"]);
        let parent: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        remove(parent.as_fd(), OsStr::new("x")).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::os::unix::fs::symlink(&canary, dir.path().join("x")).unwrap();
        std::os::unix::fs::symlink(&canary, dir.path().join(".#x.new")).unwrap();
        AtomicFolder::create(&dir.path().join("x"))
            .unwrap()
            .commit()
            .unwrap();
        assert_eq!(names(dir.path()), ["canary", "x"]);
        assert!(!dir.path().join("x").is_symlink());
    }
}
