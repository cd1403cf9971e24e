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
pub struct ImageFromParts {
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
pub struct PlacedSidecars {
    /// The files, no two of one kind.
    pub files: Vec<SidecarFile>,
    /// The root hash in one of them.
    pub root_hash: Option<Vec<u8>>,
    /// Its signature, PKCS#7 in DER.
    pub signature: Option<Vec<u8>>,
}

impl PlacedSidecars {
    /// What is placed with the image at `path`, and what would be of no use there. An image that
    /// holds its signature needs nothing else.
    pub fn with(path: &Path, ddi: &Ddi) -> Result<(PlacedSidecars, Option<Finding>), Finding> {
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
            return Ok((PlacedSidecars::default(), None));
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
            return Ok((PlacedSidecars::default(), Some(finding)));
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
            PlacedSidecars {
                files,
                root_hash,
                signature,
            },
            None,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::dissect;
    use crate::image::testing::{Protection, disk};
    use crate::plan::testing::{bare, key_pair};

    const HASH: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn what_lies_beside_goes_along_when_systemd_would_use_it() {
        let dir = tempfile::tempdir().unwrap();
        let (key, _) = key_pair(dir.path(), "c");
        let data = bare("p", "ID=x\n");
        let image = |designator, protected| disk(&data, designator, protected);
        let (root, usr) = (Designator::Root, Designator::Usr);
        let gpt_hash = image(root, Protection::Hash);
        let gpt_usr = image(usr, Protection::Hash);
        let gpt_plain = image(root, Protection::Nothing);
        let gpt_signed = image(root, Protection::Signed(&key));
        let gpt_room = image(root, Protection::Room(b""));
        const INCOMPLETE: &[&str] = &["incomplete"];
        for (what, image, beside, expected) in [
            ("bare", &data, &[][..], &[][..]),
            (
                "bare",
                &data,
                &["roothash", "verity"],
                &["roothash", "verity"],
            ),
            (
                "bare",
                &data,
                &[
                    "roothash",
                    "roothash.p7s",
                    "verity",
                    "usrhash",
                    "usrhash.p7s",
                ],
                &["roothash", "roothash.p7s", "verity"],
            ),
            ("bare", &data, &["roothash"], INCOMPLETE),
            ("bare", &data, &["verity"], INCOMPLETE),
            ("bare", &data, &["roothash.p7s", "verity"], INCOMPLETE),
            ("bare", &data, &["usrhash", "verity"], INCOMPLETE),
            ("hash", &gpt_hash, &["roothash"], &["roothash"]),
            (
                "hash",
                &gpt_hash,
                &["roothash", "verity", "roothash.p7s"],
                &["roothash", "roothash.p7s"],
            ),
            ("hash", &gpt_hash, &["usrhash"], INCOMPLETE),
            ("hash", &gpt_hash, &["verity"], INCOMPLETE),
            (
                "usr",
                &gpt_usr,
                &["usrhash", "usrhash.p7s", "roothash"],
                &["usrhash", "usrhash.p7s"],
            ),
            ("usr", &gpt_usr, &["roothash"], INCOMPLETE),
            ("plain", &gpt_plain, &["roothash"], INCOMPLETE),
            ("signed", &gpt_signed, &["roothash", "roothash.p7s"], &[]),
            ("signed", &gpt_signed, &["verity"], &[]),
            (
                "room",
                &gpt_room,
                &["roothash", "roothash.p7s"],
                &["roothash", "roothash.p7s"],
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("p.raw");
            std::fs::write(&path, image).unwrap();
            for ending in beside {
                std::fs::write(dir.path().join(format!("p.{ending}")), HASH).unwrap();
            }
            let ddi = dissect::open(&path).unwrap();
            let (along, finding) = PlacedSidecars::with(&path, &ddi).unwrap();
            let mut found: Vec<&str> = along.files.iter().map(|file| file.kind.ending()).collect();
            if let Some(finding) = finding {
                assert_eq!(finding.id, "sidecar-incomplete");
                assert!(found.is_empty());
                found.push("incomplete");
            }
            found.sort();
            assert_eq!(found, expected, "{what} {beside:?}");
            let has = |ending: &str| expected.contains(&ending);
            let hash = has("roothash") || has("usrhash");
            assert_eq!(along.root_hash.is_some(), hash, "{what} {beside:?}");
            let signature = has("roothash.p7s") || has("usrhash.p7s");
            assert_eq!(along.signature.is_some(), signature, "{what} {beside:?}");
        }
    }

    #[test]
    fn a_text_that_is_no_root_hash_is_left_to_the_check() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.raw");
        std::fs::write(&path, bare("p", "ID=x\n")).unwrap();
        std::fs::write(dir.path().join("p.verity"), "").unwrap();
        std::fs::write(dir.path().join("p.roothash"), "no hash").unwrap();
        let ddi = dissect::open(&path).unwrap();
        let (along, finding) = PlacedSidecars::with(&path, &ddi).unwrap();
        assert_eq!(
            (along.files.len(), along.root_hash, finding),
            (2, None, None)
        );
        std::fs::remove_file(dir.path().join("p.roothash")).unwrap();
        std::fs::create_dir(dir.path().join("p.roothash")).unwrap();
        assert_eq!(
            PlacedSidecars::with(&path, &ddi).unwrap_err().id,
            "sidecar-unusable"
        );
    }
}
