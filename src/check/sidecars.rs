//! What lies beside an image and makes systemd use a hash tree.
//!
//! `verity_settings_load`, systemd src/shared/dissect-image.c: the root hash from an attribute, else
//! from a file; its signature; and the hash tree of an image without a partition table.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::base::rootfs::RootFs;
use crate::image::dissect::Ddi;
use crate::image::gpt::types::Designator;
use crate::image::sidecar::{MAX_BYTES, SidecarFile, SidecarKind, root_hash};
use crate::image::verity;
use crate::image::verity::verify;
use crate::io::open;
use crate::io::progress::Progress;
use crate::io::root::{RootDir, RootError};

/// Files and attributes beside an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// The root hash (`NAME.roothash`, `NAME.usrhash` or an attribute), and of what it is.
    pub root_hash: Option<(Designator, Vec<u8>)>,
    /// Its signature (`NAME.roothash.p7s` or `NAME.usrhash.p7s`), PKCS#7 in DER.
    pub signature: Option<Vec<u8>>,
    /// `NAME.verity`: the root hash that tree and data give, or why they do not fit.
    pub hash_tree: Option<Result<verity::RootHash, String>>,
    /// Why systemd gives up when it reads them.
    pub unusable: Option<String>,
}

impl Sidecars {
    /// Whether a hash tree is used for an image without a partition table
    /// (`verity_settings_data_covers`, src/shared/dissect-image.h).
    pub(super) fn cover(&self) -> bool {
        matches!(self.root_hash, Some((Designator::Root, _))) && self.hash_tree.is_some()
    }

    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        *self == Sidecars::default()
    }
}

/// Where the files beside an image are looked for.
trait Place {
    /// An attribute of the image itself.
    fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, String>;
    /// A small file.
    fn read(&self, kind: SidecarKind) -> Result<Option<Vec<u8>>, String>;
    /// A large file and its length in bytes.
    fn open(&self, kind: SidecarKind) -> Result<Option<(File, u64)>, String>;
    /// How people know it.
    fn shown(&self, kind: SidecarKind) -> PathBuf;
}

/// Beside an image that lies in a root file system.
struct Lying<'a> {
    root: &'a dyn RootFs,
    image: &'a Path,
}

/// Beside an image that is going to be placed: what comes along, and what is there already.
pub(crate) struct FutureSidecars<'a> {
    /// What comes along.
    pub files: &'a [SidecarFile],
    /// The root file system, if it is known.
    pub root: Option<&'a dyn RootFs>,
    /// Where the image is going to be.
    pub destination: &'a Path,
    /// Paths of what is there and going to be taken away.
    pub goes: &'a dyn Fn(&str) -> bool,
}

impl Place for Lying<'_> {
    fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.root.value_of(self.image, name).map_err(told)
    }

    fn read(&self, kind: SidecarKind) -> Result<Option<Vec<u8>>, String> {
        let path = kind.beside(self.image);
        self.root.read(&path, MAX_BYTES).map_err(told)
    }

    fn open(&self, kind: SidecarKind) -> Result<Option<(File, u64)>, String> {
        let found = self
            .root
            .open_file(&kind.beside(self.image))
            .map_err(told)?;
        Ok(found.map(|(file, metadata)| (file, metadata.size)))
    }

    fn shown(&self, kind: SidecarKind) -> PathBuf {
        self.root.shown(&kind.beside(self.image))
    }
}

impl FutureSidecars<'_> {
    fn file(&self, kind: SidecarKind) -> Option<&Path> {
        let file = self.files.iter().find(|file| file.kind == kind);
        file.map(|file| file.path.as_path())
    }

    /// What is there and stays.
    fn there(&self, kind: SidecarKind) -> Option<Lying<'_>> {
        let path = kind.beside(self.destination);
        let goes = path.to_str().is_some_and(|path| (self.goes)(path));
        let root = self.root.filter(|_| !goes)?;
        Some(Lying {
            root,
            image: self.destination,
        })
    }
}

impl Place for FutureSidecars<'_> {
    /// The image is written anew, and has none.
    fn attribute(&self, _: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn read(&self, kind: SidecarKind) -> Result<Option<Vec<u8>>, String> {
        match (self.file(kind), self.there(kind)) {
            (Some(path), _) => {
                let bytes = open::read(path, MAX_BYTES);
                bytes.map(Some).map_err(|error| unread(path, &error))
            }
            (None, Some(there)) => there.read(kind),
            (None, None) => Ok(None),
        }
    }

    fn open(&self, kind: SidecarKind) -> Result<Option<(File, u64)>, String> {
        match (self.file(kind), self.there(kind)) {
            (Some(path), _) => {
                let opened = open::open_sized(path);
                opened.map(Some).map_err(|error| unread(path, &error))
            }
            (None, Some(there)) => there.open(kind),
            (None, None) => Ok(None),
        }
    }

    fn shown(&self, kind: SidecarKind) -> PathBuf {
        match (self.file(kind), self.there(kind)) {
            (None, Some(there)) => there.shown(kind),
            (path, _) => path.unwrap_or(self.destination).to_owned(),
        }
    }
}

fn told(error: RootError) -> String {
    error.to_string()
}

fn unread(path: &Path, error: &std::io::Error) -> String {
    format!("reading {}: {error}", path.display())
}

/// Reads what lies beside the image at `path` and recomputes a hash tree.
pub(crate) fn read(root: &dyn RootFs, path: &Path, ddi: &Ddi, progress: &Progress) -> Sidecars {
    gathered(&Lying { root, image: path }, ddi, progress)
}

/// The same of an image that is going to be placed.
pub(crate) fn of_future(coming: &FutureSidecars<'_>, ddi: &Ddi, progress: &Progress) -> Sidecars {
    gathered(coming, ddi, progress)
}

/// The same for an image of this machine.
pub(crate) fn beside_on_this_machine(path: &Path, ddi: &Ddi, progress: &Progress) -> Sidecars {
    match (RootDir::open(Path::new("/")), std::path::absolute(path)) {
        (Ok(machine), Ok(path)) => read(&machine, &path, ddi, progress),
        _ => Sidecars::default(),
    }
}

fn gathered(place: &dyn Place, ddi: &Ddi, progress: &Progress) -> Sidecars {
    let mut found = Sidecars::default();
    if let Err(why) = fill(&mut found, place, ddi, progress) {
        found.unusable = Some(why);
    }
    found
}

fn fill(
    found: &mut Sidecars,
    place: &dyn Place,
    ddi: &Ddi,
    progress: &Progress,
) -> Result<(), String> {
    use SidecarKind::{HashTree, RootHash, RootHashSignature, UsrHash, UsrHashSignature};
    for (designator, hash, signature) in [
        (Designator::Root, RootHash, RootHashSignature),
        (Designator::Usr, UsrHash, UsrHashSignature),
    ] {
        let attribute = format!("user.verity.{}", hash.ending());
        let text = match place.attribute(&attribute)? {
            Some(text) => Some(text),
            None => place.read(hash)?,
        };
        let Some(text) = text else { continue };
        let value = root_hash(&text)
            .ok_or_else(|| format!("{} holds no root hash", place.shown(hash).display()))?;
        found.root_hash = Some((designator, value));
        found.signature = place.read(signature)?;
        if found.signature.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{} is empty", place.shown(signature).display()));
        }
        break;
    }
    let Some((tree, size)) = place.open(HashTree)? else {
        return Ok(());
    };
    progress.begin(format!("verifying {}", ddi.path.display()), ddi.size);
    let data = (ddi.file(), 0, ddi.size);
    let computed = verify::verify(data, (&tree, 0, size), progress);
    found.hash_tree = Some(computed.map_err(|error| error.to_string()));
    Ok(())
}
