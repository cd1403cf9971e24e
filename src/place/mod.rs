//! Writes extensions into a root file system, and takes them out again.
//!
//! [`apply`] checks everything first, prepares all files beside their final
//! names, and only then gives them these names: a full disk or a refusal loses
//! nothing. What it did stands in a record, so that later calls touch only
//! what was placed here.

mod apply;
mod enable;
mod list;
mod preflight;
pub(crate) mod record;
mod remove;
pub mod trident;

use std::fs::File;
use std::io;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::finding::{Finding, Findings};
use crate::image::sidecar::SidecarKind;
use crate::io::progress::Progress;
use crate::io::root::{EntryKind, RootDir, RootError};
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CERTIFICATE_DIRS, CERTIFICATE_STORE, CONFEXT_DIRS, SYSEXT_DIRS};
use crate::tree::collect::{Options as Collecting, collect};
use crate::tree::{Tree, folder};

pub use crate::plan::placements::PlacedKind;
pub use apply::{Applied, AppliedFile, Outcome, apply};
pub use enable::AppliedLink;
pub use list::{Listed, ListedCertificate, ListedService, Listing, list};
pub use remove::{Removed, remove};

/// Folders that may hold drop-ins for the units that merge.
const DROP_IN_DIRS: &[&str] = &[
    "/etc/systemd/system/systemd-sysext.service.d",
    "/etc/systemd/system/systemd-confext.service.d",
];

/// Bytes that are copied or hashed at a time.
const CHUNK: usize = 128 * 1024;

impl PlacedKind {
    /// The folders a file of this kind may be in, and the ends that its name may have.
    fn places(self) -> (Vec<&'static str>, Vec<String>) {
        let extensions = || [SYSEXT_DIRS, CONFEXT_DIRS].concat();
        let ending = |text: &str| vec![text.to_owned()];
        match self {
            PlacedKind::Certificate => {
                let folders = [CERTIFICATE_DIRS, &[CERTIFICATE_STORE]].concat();
                (folders, ending(".crt"))
            }
            PlacedKind::DropIn => (DROP_IN_DIRS.to_vec(), ending(".conf")),
            PlacedKind::Sidecar => {
                let endings = SidecarKind::ALL.map(|kind| format!(".{}", kind.ending()));
                (extensions(), endings.to_vec())
            }
            PlacedKind::Image => (extensions(), ending(".raw")),
            PlacedKind::Folder => (extensions(), ending("")),
        }
    }

    /// Whether it is an extension, and no part of what surrounds them.
    fn is_extension(self) -> bool {
        matches!(self, PlacedKind::Image | PlacedKind::Folder)
    }

    /// Whether a file of this kind may have this path; also asked of records, which are hostile.
    fn may_be_at(self, path: &str) -> bool {
        let (folders, endings) = self.places();
        let ends =
            |name: &str, ending: &String| name.len() > ending.len() && name.ends_with(ending);
        path.rsplit_once('/').is_some_and(|(folder, name)| {
            folders.contains(&folder)
                && endings.iter().any(|ending| ends(name, ending))
                && !name.contains('\0')
                && !matches!(name, "." | "..")
        })
    }
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub enum FileSource {
    /// A file outside the root file system.
    Path(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A folder outside the root file system, as it was collected.
    Tree(Box<PlacedTree>),
}

/// A folder to place.
#[derive(Debug, Clone)]
pub struct PlacedTree {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub tree: Tree,
    /// Time stamp of all of it, in seconds since 1970.
    pub epoch_seconds: u64,
}

impl FileSource {
    /// Bytes, and how many files and folders they are.
    fn extent(&self) -> io::Result<(u64, u64)> {
        match self {
            FileSource::Tree(placed) => {
                let entries = u64::try_from(placed.tree.inodes.len()).unwrap_or(u64::MAX);
                Ok((placed.tree.content_size(), entries))
            }
            file => file.open().map(|(_, size)| (size, 1)),
        }
    }

    fn open(&self) -> io::Result<(Box<dyn Read + '_>, u64)> {
        match self {
            FileSource::Tree(_) => Err(io::Error::other("it is a folder")),
            FileSource::Bytes(bytes) => Ok((
                Box::new(bytes.as_slice()),
                u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            )),
            FileSource::Path(path) => {
                // Asked before opening, which would wait at a fifo.
                if !std::fs::metadata(path)?.is_file() {
                    return Err(io::Error::other("expected a regular file"));
                }
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                Ok((Box::new(file), size))
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            FileSource::Path(path) => path.display().to_string(),
            FileSource::Tree(placed) => placed.path.display().to_string(),
            FileSource::Bytes(_) => "generated content".to_owned(),
        }
    }
}

/// One file to place.
#[derive(Debug, Clone)]
pub struct PlacedFile {
    /// What it is.
    pub kind: PlacedKind,
    /// The extensions that need it; none means that it is needed as long as any extension is.
    pub extensions: Vec<String>,
    /// The absolute path inside the root file system.
    pub destination: String,
    /// Where its bytes come from.
    pub source: FileSource,
    /// Its permission bits, such as `0o644`.
    pub mode: u32,
    /// The digest its bytes must have, so that nothing is placed that was not checked; of a folder
    /// that of `tree::folder`.
    pub sha256: [u8; 32],
}

impl PlacedFile {
    fn open(&self) -> Result<(Box<dyn Read + '_>, u64), Findings> {
        self.source.open().map_err(|error| self.unreadable(&error))
    }

    fn extent(&self) -> Result<(u64, u64), Findings> {
        let extent = self.source.extent();
        extent.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &io::Error) -> Findings {
        let message = format!("reading {}: {error}", self.source.shown());
        Finding::error("image-unreadable", message).into()
    }
}

/// All that one `apply` places.
#[derive(Debug, Clone, Default)]
pub struct Placements {
    /// The files.
    pub files: Vec<PlacedFile>,
    /// The kinds whose unit is to be started at boot.
    pub enable: Vec<ExtensionKind>,
    /// Name and version of this program, for the record.
    pub tool: String,
}

/// How to act on what is in the way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Replace and remove files that were not placed here, or changed since.
    pub force: bool,
    /// Where every file that is written is a stage.
    pub progress: Option<&'a Progress>,
}

/// The digest of a reader's bytes, copied on the way.
fn copy_hashed(
    from: &mut dyn Read,
    to: &mut dyn Write,
    progress: Option<&Progress>,
) -> io::Result<([u8; 32], u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut size: u64 = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize().into(), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        to.write_all(bytes)?;
        if let Some(progress) = progress {
            progress.add(bytes.len() as u64);
        }
        size = size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// What stands at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Present {
    Nothing,
    /// A regular file: its mode and, when its size is one of those asked for, its digest.
    File {
        mode: u32,
        digest: Option<[u8; 32]>,
    },
    /// A folder, and when a size is asked for its digest, if it can be had.
    Folder {
        digest: Option<[u8; 32]>,
    },
    Other(EntryKind),
}

impl Present {
    /// Looks at a path without following a link at its end; hashes only files of one of `sizes`
    /// bytes, and folders whose bytes are as many.
    fn look(root: &RootDir, path: &str, sizes: &[u64]) -> Result<Present, RootError> {
        let place = Path::new(path);
        let Some(metadata) = root.lmetadata(place)? else {
            return Ok(Present::Nothing);
        };
        match metadata.kind {
            EntryKind::File => {}
            EntryKind::Directory => {
                let digest = folder_digest(root, place, sizes)?;
                return Ok(Present::Folder { digest });
            }
            other => return Ok(Present::Other(other)),
        }
        let mut digest = None;
        if sizes.contains(&metadata.size)
            && let Some((file, _)) = root.open_file(place)?
        {
            // Bounded even if somebody appends meanwhile.
            let mut file = file.take(metadata.size.saturating_add(1));
            let hashed = copy_hashed(&mut file, &mut io::sink(), None)
                .map_err(|error| root.io_failed("read", place, &error))?;
            digest = Some(hashed.0);
        }
        Ok(Present::File {
            mode: metadata.mode,
            digest,
        })
    }

    fn digest(self) -> Option<[u8; 32]> {
        match self {
            Present::File { digest, .. } | Present::Folder { digest } => digest,
            _ => None,
        }
    }
}

/// The digest of a folder, unless something in it can't be part of an extension of ours.
fn folder_digest(
    root: &RootDir,
    path: &Path,
    sizes: &[u64],
) -> Result<Option<[u8; 32]>, RootError> {
    let Some(folder) = root.enter(path)?.filter(|_| !sizes.is_empty()) else {
        return Ok(None);
    };
    let options = Collecting { keep_owners: true };
    let Ok(collected) = collect(&folder.place(), &options) else {
        return Ok(None);
    };
    if !sizes.contains(&collected.tree.content_size()) {
        return Ok(None);
    }
    Ok(folder::digest(&collected.tree, &Progress::new()).ok())
}

/// Takes out what was placed, whatever it is; `false` when it is gone already.
fn take_away(root: &RootDir, path: &Path) -> Result<bool, RootError> {
    match root.lmetadata(path)?.map(|found| found.kind) {
        Some(EntryKind::Directory) => root.remove_folder(path).map(|()| true),
        _ => root.remove_file(path),
    }
}

/// The kind of an extension by the folder that its image is in.
fn kind_of(destination: &str) -> ExtensionKind {
    match destination.rsplit_once('/') {
        Some((folder, _)) if CONFEXT_DIRS.contains(&folder) => ExtensionKind::Confext,
        _ => ExtensionKind::Sysext,
    }
}

/// The refusal to touch what somebody else put there.
fn would_overwrite(path: &str, ours_before: bool, found: Present) -> Finding {
    let message = match (ours_before, found) {
        (_, Present::Other(kind)) => {
            format!("{path} is a {kind}, expected nothing or a file of ours")
        }
        (_, Present::Folder { .. }) => {
            format!("{path} is a folder, expected nothing or what we placed ourselves")
        }
        (true, _) => format!("{path} was placed by an earlier apply and was changed since"),
        (false, _) => format!("{path} is there already and was not placed by prism-sysext"),
    };
    Finding::error("would-overwrite", message)
        .in_file(path)
        .help("choose another name, remove the file, or use --force to replace it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few() {
        let image = PlacedKind::Image;
        assert!(image.may_be_at("/var/lib/extensions/a.raw"));
        assert!(image.may_be_at("/var/lib/confexts/a.raw"));
        for path in [
            "/var/lib/extensions/.raw",
            "/var/lib/extensions/../a.raw",
            "/var/lib/extensions//a.raw",
            "var/lib/extensions/a.raw",
            "/etc/passwd",
            "/var/lib/extensions/a.img",
        ] {
            assert!(!image.may_be_at(path), "{path}");
        }
        assert!(PlacedKind::Certificate.may_be_at("/etc/verity.d/k.crt"));
        let sidecar = PlacedKind::Sidecar;
        assert!(sidecar.may_be_at("/var/lib/extensions/a.roothash.p7s"));
        assert!(!sidecar.may_be_at("/var/lib/extensions/.verity"));
        assert!(!sidecar.may_be_at("/var/lib/extensions/a.raw"));
        assert!(!PlacedKind::DropIn.may_be_at("/etc/systemd/system/sshd.service.d/x.conf"));
    }

    #[test]
    fn sources_must_be_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileSource::Path(dir.path().to_owned()).open().is_err());
        let source = FileSource::Bytes(b"abc".to_vec());
        let (mut reader, size) = source.open().map_err(drop).unwrap();
        assert_eq!(size, 3);
        let (digest, copied) = copy_hashed(&mut reader, &mut io::sink(), None).unwrap();
        assert_eq!(copied, 3);
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(b"abc")));
    }
}
