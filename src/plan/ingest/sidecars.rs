//! Files beside an image that go where it goes, or into it.

use std::path::Path;

use crate::config::model::RepairChange;
use crate::finding::Finding;
use crate::image::dissect::{Ddi, Layout, SignatureState};
use crate::image::gpt::types::Designator;
use crate::image::sidecar::{MAX_BYTES, SidecarFile, SidecarKind, root_hash};
use crate::image::verity::RootHash;
use crate::io::open;
use crate::systemd::arch::Arch;

/// A disk image out of an image and the hash tree and signature beside it, all of them as they are.
#[derive(Debug)]
pub struct Join {
    /// The root hash of both.
    pub root_hash: RootHash,
    /// Decides the partition types.
    pub arch: Arch,
    /// Replaces the seed of its ids, 64 hex digits.
    pub seed: Option<String>,
    /// Most bytes that the image may have.
    pub max_size: Option<u64>,
    /// For the manifest.
    pub changes: Vec<RepairChange>,
}

/// Files beside an image by which systemd uses a hash tree and a signature.
#[derive(Debug, Default)]
pub struct Along {
    /// The files, no two of one kind.
    pub files: Vec<SidecarFile>,
    /// The root hash in one of them.
    pub root_hash: Option<Vec<u8>>,
    /// Its signature, PKCS#7 in DER.
    pub signature: Option<Vec<u8>>,
}

impl Along {
    /// What is placed with the image at `path`, and what would be of no use there. An image that
    /// holds its signature needs nothing else.
    pub fn with(path: &Path, ddi: &Ddi) -> Result<(Along, Option<Finding>), Finding> {
        use SidecarKind::{HashTree, RootHash, RootHashSignature, UsrHash, UsrHashSignature};
        let unreadable = |error: std::io::Error| {
            let message = format!("reading what lies beside {}: {error}", path.display());
            Finding::error("sidecar-unusable", message).help("write it anew, or remove it")
        };
        let (hash, signature) = match ddi.designator {
            Designator::Root => (RootHash, RootHashSignature),
            Designator::Usr => (UsrHash, UsrHashSignature),
        };
        let mut files = SidecarFile::all(path).map_err(unreadable)?;
        let has = |kind| files.iter().any(|file: &SidecarFile| file.kind == kind);
        let naked = ddi.layout == Layout::Naked;
        let complete = has(hash)
            && match naked {
                true => has(HashTree),
                false => ddi.hash.is_some(),
            };
        let of_use = |kind| kind == hash || kind == signature || (naked && kind == HashTree);
        if matches!(ddi.signature, SignatureState::Present { .. }) || files.is_empty() {
            return Ok((Along::default(), None));
        }
        if !complete {
            let message = format!(
                "what lies beside {} is not placed with it: it would not be used",
                path.display()
            );
            let needs = match naked {
                true => "a bare file system takes a `.roothash` and a `.verity` file",
                false => "a disk image takes a `.roothash` file if it has a hash tree",
            };
            let finding = Finding::warning("sidecar-incomplete", message).help(needs);
            return Ok((Along::default(), Some(finding)));
        }
        files.retain(|file| of_use(file.kind));
        let read = |kind| match files.iter().find(|file| file.kind == kind) {
            Some(file) => open::read(&file.path, MAX_BYTES)
                .map(Some)
                .map_err(unreadable),
            None => Ok(None),
        };
        // What is wrong with them is for the check to say.
        let root_hash = read(hash)?.and_then(|text| root_hash(&text));
        let signature = read(signature)?;
        Ok((
            Along {
                files,
                root_hash,
                signature,
            },
            None,
        ))
    }
}
