//! What lies beside an image and makes systemd use a hash tree.
//!
//! `verity_settings_load`, systemd src/shared/dissect-image.c: the root hash from an attribute, else
//! from a file; its signature; and the hash tree of an image without a partition table.

use std::path::Path;

use crate::base::root::{RootDir, RootError};
use crate::base::rootfs::RootFs;
use crate::image::ddi::Ddi;
use crate::image::gpt_types::Designator;
use crate::image::sidecar::{MAX_BYTES, SidecarKind, root_hash};
use crate::image::verity::{self, verify::verify_apart};
use crate::progress::Progress;

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

/// Reads what lies beside the image at `path` and recomputes a hash tree.
pub fn read(root: &dyn RootFs, path: &Path, ddi: &Ddi, progress: &Progress) -> Sidecars {
    let mut found = Sidecars::default();
    if let Err(why) = fill(&mut found, root, path, ddi, progress) {
        found.unusable = Some(why);
    }
    found
}

/// The same for an image of this machine.
pub fn beside_on_this_machine(path: &Path, ddi: &Ddi, progress: &Progress) -> Sidecars {
    match (RootDir::open(Path::new("/")), std::path::absolute(path)) {
        (Ok(machine), Ok(path)) => read(&machine, &path, ddi, progress),
        _ => Sidecars::default(),
    }
}

fn fill(
    found: &mut Sidecars,
    root: &dyn RootFs,
    path: &Path,
    ddi: &Ddi,
    progress: &Progress,
) -> Result<(), String> {
    use SidecarKind::{HashTree, RootHash, RootHashSignature, UsrHash, UsrHashSignature};
    let told = |error: RootError| error.to_string();
    for (designator, hash, signature) in [
        (Designator::Root, RootHash, RootHashSignature),
        (Designator::Usr, UsrHash, UsrHashSignature),
    ] {
        let attribute = format!("user.verity.{}", hash.ending());
        let text = match root.value_of(path, &attribute).map_err(told)? {
            Some(text) => Some(text),
            None => root.read(&hash.beside(path), MAX_BYTES).map_err(told)?,
        };
        let Some(text) = text else { continue };
        let value = root_hash(&text).ok_or_else(|| {
            let place = hash.beside(path);
            format!("{} holds no root hash", root.shown(&place).display())
        })?;
        found.root_hash = Some((designator, value));
        let place = signature.beside(path);
        found.signature = root.read(&place, MAX_BYTES).map_err(told)?;
        if found.signature.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{} is empty", root.shown(&place).display()));
        }
        break;
    }
    let place = HashTree.beside(path);
    let Some((tree, metadata)) = root.open_file(&place).map_err(told)? else {
        return Ok(());
    };
    progress.begin(format!("verifying {}", path.display()), ddi.size);
    let data = (ddi.file(), 0, ddi.size);
    let computed = verify_apart(data, (&tree, 0, metadata.size), progress);
    found.hash_tree = Some(computed.map_err(|error| error.to_string()));
    Ok(())
}
