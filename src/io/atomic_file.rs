//! Files that appear complete or not at all.
//!
//! The bytes go to an unnamed file (`O_TMPFILE`), so that a kill at any moment
//! leaves nothing behind; file systems without it get a hidden named file that
//! is removed when dropped. `commit` syncs, renames over the final name and
//! syncs the directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::io::hidden_name::temporary_name;
use crate::io::open;
use crate::io::open::folder_of;

/// A file under construction beside its final name.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: File,
    dir: OwnedFd,
    name: OsString,
    temporary: Option<OsString>,
}

impl AtomicFile {
    /// Starts a file that [`commit`](Self::commit) will place at `path`.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<AtomicFile> {
        let (dir, name) = place_of(path)?;
        AtomicFile::create_in(dir, name, mode)
    }

    /// Starts a file that [`commit`](Self::commit) will place as `name` in the open directory `dir`.
    pub(crate) fn create_in(dir: OwnedFd, name: &OsStr, mode: u32) -> io::Result<AtomicFile> {
        let access = OFlags::RDWR | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let (fd, temporary) = match rustix::fs::openat(&dir, ".", access | OFlags::TMPFILE, private)
        {
            Ok(fd) => (fd, None),
            // What file systems and kernels without O_TMPFILE answer (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let temporary = temporary_name(name, "tmp");
                let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let fd = rustix::fs::openat(&dir, &temporary, flags, private)?;
                (fd, Some(temporary))
            }
            Err(error) => return Err(error.into()),
        };
        // Explicit, because the umask of the caller must not show in what we write.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(AtomicFile {
            file: File::from(fd),
            dir,
            name: name.to_owned(),
            temporary,
        })
    }

    /// The open file, for reading back and writing.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the bytes and gives the file its final name, replacing what had it; the name is
    /// synced too.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.rename()?;
        Ok(rustix::fs::fsync(self.dir.as_fd())?)
    }

    /// [`commit`](Self::commit) but for the name: after a power cut the file is complete or not
    /// there. For one of several files in a folder, of which the last is committed.
    pub(crate) fn place(mut self) -> io::Result<()> {
        self.rename()
    }

    fn rename(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.temporary.is_none() && self.link(&self.name)? {
            return Ok(());
        }
        let temporary = match &self.temporary {
            Some(temporary) => temporary.clone(),
            None => {
                let temporary = temporary_name(&self.name, "tmp");
                if !self.link(&temporary)? {
                    // Left by a killed process that had our id; nobody else uses the name.
                    rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty())?;
                    self.link(&temporary)?;
                }
                self.temporary = Some(temporary.clone());
                temporary
            }
        };
        rustix::fs::renameat(&self.dir, &temporary, &self.dir, &self.name)?;
        self.temporary = None;
        Ok(())
    }

    /// Gives the unnamed file a free name; false if something has it. Only a name that is taken
    /// needs the detour over a temporary one, since a link never replaces.
    fn link(&self, name: &OsStr) -> io::Result<bool> {
        // linkat through /proc is the unprivileged way (open(2), O_TMPFILE).
        let unnamed = open::by_descriptor(&self.file);
        match rustix::fs::linkat(CWD, unnamed, &self.dir, name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The folder of what is to be written, opened, and the name in it.
pub(crate) fn place_of(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let no_name = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file or folder",
        )
    };
    let name = path.file_name().ok_or_else(no_name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, folder_of(path), flags, Mode::empty())?;
    Ok((folder, name))
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Best effort: the error that led here is the one to report.
            let _ = rustix::fs::unlinkat(&self.dir, temporary, AtFlags::empty());
        }
    }
}

/// Writes a small file that appears complete or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut pending = AtomicFile::create(path, mode)?;
        std::io::Write::write_all(pending.file(), bytes)?;
        pending.commit()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn appears_only_on_commit_and_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let mut pending = AtomicFile::create(&path, 0o640).unwrap();
        pending.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        pending.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_leftover_of_a_killed_process_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "old").unwrap();
        std::fs::write(
            dir.path().join(temporary_name(OsStr::new("x"), "tmp")),
            "left",
        )
        .unwrap();
        let mut pending = AtomicFile::create(&path, 0o644).unwrap();
        pending.file().write_all(b"new").unwrap();
        pending.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut pending = AtomicFile::create(&dir.path().join("x"), 0o644).unwrap();
        pending.file().write_all(b"half").unwrap();
        drop(pending);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert!(AtomicFile::create(Path::new("/"), 0o644).is_err());
    }
}
