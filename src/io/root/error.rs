//! What can go wrong in a root file system, in words.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::EntryKind;
use crate::finding::{Finding, Findings};

/// Why a root file system could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The kernel refused.
    #[error("could not {action} {}: {}", path.display(), explain(*errno))]
    Io {
        /// What we were doing, such as `read`.
        action: &'static str,
        /// The folder and the path inside it.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// A disk image is damaged, or more than this program reads.
    #[error("could not {action} {}: {source}", path.display())]
    Image {
        /// What we were doing, such as `read`.
        action: &'static str,
        /// The image and the path inside it.
        path: PathBuf,
        /// What was wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something else stands where a regular file was expected.
    #[error("{} is a {found}, expected a regular file", path.display())]
    NotAFile {
        /// The folder and the path inside it.
        path: PathBuf,
        /// What it is.
        found: EntryKind,
    },
    /// More than this program is willing to read.
    #[error("{} has {size} bytes, expected at most {limit}", path.display())]
    TooLarge {
        /// The folder and the path inside it.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// `openat2` is missing.
    #[error(
        "could not open {} safely: this kernel has no openat2 (or a sandbox forbids it), \
         which is what keeps links inside the root file system; use Linux 5.6 or later",
        path.display()
    )]
    NoOpenat2 {
        /// The folder.
        path: PathBuf,
    },
    /// Files in it would get a wrong owner.
    #[error(
        "{} belongs to user {owner}, but this program runs as user {caller}; \
         run it as root or as the owner of the root file system",
        path.display()
    )]
    NotOwned {
        /// The folder.
        path: PathBuf,
        /// Who owns the folder.
        owner: u32,
        /// Who runs this program.
        caller: u32,
    },
    /// A path that names no place inside a root file system.
    #[error("`{}` is not a plain path inside a root file system", path.display())]
    BadPath {
        /// The path as given.
        path: PathBuf,
    },
}

impl From<RootError> for Finding {
    fn from(error: RootError) -> Finding {
        let id = match &error {
            RootError::NotOwned { .. } => "rootfs-not-owned",
            _ => "rootfs-io",
        };
        Finding::error(id, error.to_string())
    }
}

impl From<RootError> for Findings {
    fn from(error: RootError) -> Findings {
        Finding::from(error).into()
    }
}

impl RootError {
    /// What the kernel said, when it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            RootError::Io { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// The errors that a user of root file systems meets, in words.
fn explain(errno: Errno) -> String {
    match errno {
        Errno::LOOP => "a link leads in a circle or into /proc".to_owned(),
        Errno::ROFS => "the file system is mounted read-only; mount it read-write".to_owned(),
        Errno::NOSPC | Errno::DQUOT => {
            "No space left in this file system; enlarge it or free space".to_owned()
        }
        Errno::NOTDIR => "a part of the path is not a directory".to_owned(),
        Errno::NOENT => {
            "a part of the path does not exist or is a link that leads nowhere".to_owned()
        }
        other => io::Error::from(other).to_string(),
    }
}
