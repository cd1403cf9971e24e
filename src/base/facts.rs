//! Reading optional facts: what cannot be read is left out and told, never fatal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::rootfs::RootFs;
use crate::finding::Finding;
use crate::io::root::{EntryKind, Metadata, RootError};

/// Most names that are read of one directory.
pub(super) const NAME_LIMIT: usize = 4096;

/// A root file system and what was odd about it so far.
pub(super) struct Facts<'a> {
    /// The root file system.
    pub(super) root: &'a dyn RootFs,
    /// What could not be read, or was strange.
    pub(super) findings: Vec<Finding>,
}

impl Facts<'_> {
    /// The bytes of a regular file; nothing when it is missing or unreadable.
    pub(super) fn read(&mut self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let bytes = self.root.read(Path::new(path), limit);
        self.keep(path, bytes)
    }

    /// The text of a regular file; bytes that are not UTF-8 become U+FFFD.
    pub(super) fn read_text(&mut self, path: &str, limit: u64) -> Option<String> {
        let bytes = self.read(path, limit)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first bytes of a regular file.
    pub(super) fn read_start(&mut self, path: &str, count: u64) -> Option<Vec<u8>> {
        let bytes = self.root.read_start(Path::new(path), count);
        self.keep(path, bytes)
    }

    /// What is there after following links.
    pub(super) fn metadata(&mut self, path: &str) -> Option<Metadata> {
        let metadata = self.root.metadata(Path::new(path));
        self.keep(path, metadata)
    }

    /// What is there itself.
    pub(super) fn lmetadata(&mut self, path: &str) -> Option<Metadata> {
        // A parent that leads in a circle was told when the folder was listed.
        let metadata = self.root.lmetadata(Path::new(path));
        self.keep(path, metadata)
    }

    /// The target of a link.
    pub(super) fn read_link(&mut self, path: &str) -> Option<PathBuf> {
        let target = self.root.read_link(Path::new(path));
        self.keep(path, target)
    }

    /// The names in a directory that are UTF-8; systemd skips all others.
    pub(super) fn list(&mut self, path: &str) -> Vec<String> {
        let names = match self.root.list(Path::new(path), NAME_LIMIT) {
            Ok(names) => names,
            Err(error) => {
                self.unreadable(path, &error);
                return Vec::new();
            }
        };
        if names.truncated {
            let message = format!(
                "{} holds more than {NAME_LIMIT} names, the rest was not looked at",
                self.root.shown(Path::new(path)).display()
            );
            self.findings.push(
                Finding::warning("base-folder-too-full", message)
                    .help("clear the folder out, so that all of it can be checked"),
            );
        }
        names
            .names
            .into_iter()
            .map(OsString::into_string)
            .filter_map(Result::ok)
            .collect()
    }

    /// What a path leads to and, for a link, where it points.
    pub(super) fn entry(&mut self, path: &str) -> Option<(Metadata, Option<String>)> {
        let own = self.lmetadata(path)?;
        if own.kind != EntryKind::Link {
            return Some((own, None));
        }
        let target = self.read_link(path)?.to_string_lossy().into_owned();
        // Where the link leads nowhere or in a circle, the link itself is the fact.
        let metadata = self
            .root
            .metadata(Path::new(path))
            .ok()
            .flatten()
            .unwrap_or(own);
        Some((metadata, Some(target)))
    }

    /// Whether a link leads in a circle.
    pub(super) fn is_circular(&self, path: &str) -> bool {
        let led = self.root.metadata(Path::new(path));
        matches!(led, Err(RootError::Io { errno, .. }) if errno == Errno::LOOP)
    }

    fn keep<T>(&mut self, path: &str, result: Result<Option<T>, RootError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.unreadable(path, &error);
            None
        })
    }

    fn unreadable(&mut self, path: &str, error: &RootError) {
        let finding = Finding::warning("base-unreadable", error.to_string())
            .in_file(format!("/{}", path.trim_start_matches('/')));
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}
