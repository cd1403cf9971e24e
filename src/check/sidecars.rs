//! What lies beside an image and makes systemd use a hash tree.
//!
//! `verity_settings_load`, systemd src/shared/dissect-image.c: the root hash from an attribute, else
//! from a file; its signature; and the hash tree of an image without a partition table.

use std::path::{Path, PathBuf};

use crate::base::root::{RootDir, RootError};
use crate::base::rootfs::RootFs;
use crate::image::ddi::Ddi;
use crate::image::gpt_types::Designator;
use crate::image::hex;
use crate::image::verity::RootHash;
use crate::image::verity::verify::verify_apart;
use crate::progress::Progress;

/// Longest root hash or signature that is read, in bytes; systemd has no such limit, real ones have
/// some 1 KiB.
const MAX_BYTES: u64 = 4 << 20;
/// Shortest root hash that systemd takes, in bytes.
const MIN_HASH: usize = 16;

/// Files and attributes beside an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// The root hash (`NAME.roothash`, `NAME.usrhash` or an attribute), and of what it is.
    pub root_hash: Option<(Designator, Vec<u8>)>,
    /// Its signature (`NAME.roothash.p7s` or `NAME.usrhash.p7s`), PKCS#7 in DER.
    pub signature: Option<Vec<u8>>,
    /// `NAME.verity`: the root hash that tree and data give, or why they do not fit.
    pub hash_tree: Option<Result<RootHash, String>>,
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
    let told = |error: RootError| error.to_string();
    let beside = |ending: &str| beside(path, ending);
    for (designator, name) in [(Designator::Root, "roothash"), (Designator::Usr, "usrhash")] {
        let attribute = format!("user.verity.{name}");
        let text = match root.value_of(path, &attribute).map_err(told)? {
            Some(text) => Some(text),
            None => root.read(&beside(name), MAX_BYTES).map_err(told)?,
        };
        let Some(text) = text else { continue };
        let text = String::from_utf8_lossy(&text);
        let hash = text
            .lines()
            .next()
            .and_then(|line| hex::decode(line.trim()));
        let hash = hash.filter(|hash| hash.len() >= MIN_HASH);
        let hash = hash.ok_or_else(|| {
            let place = beside(name);
            format!("{} holds no root hash", root.shown(&place).display())
        })?;
        found.root_hash = Some((designator, hash));
        let place = beside(&format!("{name}.p7s"));
        found.signature = root.read(&place, MAX_BYTES).map_err(told)?;
        if found.signature.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{} is empty", root.shown(&place).display()));
        }
        break;
    }
    let place = beside("verity");
    let Some((tree, metadata)) = root.open_file(&place).map_err(told)? else {
        return Ok(());
    };
    progress.begin(format!("verifying {}", path.display()), ddi.size);
    let data = (ddi.file(), 0, ddi.size);
    let computed = verify_apart(data, (&tree, 0, metadata.size), progress);
    found.hash_tree = Some(computed.map_err(|error| error.to_string()));
    Ok(())
}

/// The name of such a file: only a last `.raw` is replaced (`build_auxiliary_path`).
fn beside(image: &Path, ending: &str) -> PathBuf {
    match image.extension() {
        Some(raw) if raw == "raw" => image.with_extension(ending),
        _ => {
            let mut name = image.as_os_str().to_owned();
            name.push(".");
            name.push(ending);
            PathBuf::from(name)
        }
    }
}
