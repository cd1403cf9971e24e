//! What lies beside an image of this machine.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::Finding;
use crate::image::sidecar;
use crate::image::sidecar::{MAX_BYTES, MIN_HASH, SidecarKind};
use crate::io::{hex, open};

/// A file beside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub kind: SidecarKind,
    /// Bytes.
    pub size: u64,
    /// The root hash that it holds, hex; nothing if systemd would refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What the files beside an image hold, for the checks that need it.
#[derive(Debug, Default)]
pub struct SidecarSet {
    /// The root hash, hex; or why systemd would refuse it.
    pub root_hash: Option<Result<String, String>>,
    /// Its signature, PKCS#7 in DER; systemd looks for one only where there is a root hash.
    pub signature: Option<Vec<u8>>,
    /// The hash tree; systemd uses it for an image without a partition table.
    pub hash_tree: Option<File>,
}

impl SidecarSet {
    /// Reads them. Of two root hashes that of a root file system counts, and of an attribute of the
    /// image and a file beside it the attribute.
    ///
    /// # Errors
    /// If the image or a file beside it is there and can't be read as a regular file of the size
    /// that systemd reads. A text that is no root hash is no error: see [`SidecarSet::root_hash`].
    pub fn of(image: &Path) -> io::Result<SidecarSet> {
        use SidecarKind::{HashTree, RootHash, RootHashSignature, UsrHash, UsrHashSignature};
        let mut found = SidecarSet {
            hash_tree: open(&HashTree.beside(image))?,
            ..SidecarSet::default()
        };
        for (hash, signature) in [(RootHash, RootHashSignature), (UsrHash, UsrHashSignature)] {
            let path = hash.beside(image);
            let name = format!("user.verity.{}", hash.ending());
            found.root_hash = match open::attribute(&open::open(image)?, &name)? {
                Some(text) => {
                    let hash = sidecar::root_hash(&text).map(|hash| hex::encode(&hash));
                    let none = || format!("the attribute {name} holds no root hash");
                    Some(hash.ok_or_else(none))
                }
                None if open(&path)?.is_none() => continue,
                None => Some(root_hash(&path)?.ok_or_else(|| no_hash(&path))),
            };
            let path = signature.beside(image);
            found.signature = match open(&path)? {
                Some(_) => Some(open::read(&path, MAX_BYTES)?),
                None => None,
            };
            break;
        }
        Ok(found)
    }
}

/// What lies beside the image at `path`; what systemd would stumble over, and names that it passes
/// over, are told as problems.
pub(super) fn beside(path: &Path, problems: &mut Vec<Finding>) -> Vec<Sidecar> {
    use SidecarKind::{RootHash, UsrHash};
    let mut found = Vec::new();
    for kind in SidecarKind::ALL {
        let beside = kind.beside(path);
        match describe(&beside, kind) {
            Ok(None) => {}
            Ok(Some(sidecar)) => {
                if sidecar.hash.is_none() && matches!(kind, RootHash | UsrHash) {
                    problems.push(unusable(no_hash(&beside), &beside));
                }
                found.push(sidecar);
            }
            Err(error) => {
                let message = format!("reading {}: {error}", beside.display());
                problems.push(unusable(message, &beside));
            }
        }
        // With `.raw` left in the name it is passed over without a word.
        let mut odd = path.as_os_str().to_owned();
        odd.push(".");
        odd.push(kind.ending());
        let odd = PathBuf::from(odd);
        if odd != beside && odd.is_file() {
            let finding = Finding::warning(
                "sidecar-misnamed",
                format!("{} is not looked at by systemd", odd.display()),
            );
            problems.push(
                finding
                    .in_file(&odd)
                    .because("`.raw` is replaced in names of files beside an image (verity_settings_load, src/shared/dissect-image.c)")
                    .help(format!("call it {}", beside.display())),
            );
        }
    }
    found
}

fn unusable(message: String, path: &Path) -> Finding {
    Finding::error("sidecar-unusable", message)
        .in_file(path)
        .because("systemd refuses an image when a file beside it can't be used (verity_settings_load, src/shared/dissect-image.c)")
        .help("write it anew, or remove it")
}

fn describe(path: &Path, kind: SidecarKind) -> io::Result<Option<Sidecar>> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let hash = match kind {
        SidecarKind::RootHash | SidecarKind::UsrHash => root_hash(path)?,
        _ => None,
    };
    Ok(Some(Sidecar {
        path: path.to_owned(),
        kind,
        size: file.metadata()?.len(),
        hash,
    }))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match open::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// The root hash in a file, hex; nothing if systemd would refuse it.
fn root_hash(path: &Path) -> io::Result<Option<String>> {
    let text = open::read(path, MAX_BYTES)?;
    Ok(sidecar::root_hash(&text).map(|hash| hex::encode(&hash)))
}

fn no_hash(path: &Path) -> String {
    format!(
        "{} holds no root hash, expected {MIN_HASH} bytes or more in hex",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_looks_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a.roothash"), "aB".repeat(32) + "\nmore").unwrap();
        std::fs::write(at("a.roothash.p7s"), "x").unwrap();
        std::fs::write(at("a.usrhash"), "short").unwrap();
        std::fs::write(at("a.raw.verity"), "x").unwrap();
        let mut problems = Vec::new();
        let found = beside(&at("a.raw"), &mut problems);
        let kinds: Vec<_> = found.iter().map(|it| it.kind).collect();
        use SidecarKind::{RootHash, RootHashSignature, UsrHash};
        assert_eq!(kinds, [RootHash, UsrHash, RootHashSignature]);
        assert_eq!(found[0].hash.as_deref(), Some("ab".repeat(32).as_str()));
        let ids: Vec<_> = problems.iter().map(|it| it.id).collect();
        assert_eq!(ids, ["sidecar-unusable", "sidecar-misnamed"]);
        std::fs::create_dir(at("b.verity")).unwrap();
        problems.clear();
        assert!(beside(&at("b.raw"), &mut problems).is_empty());
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn an_attribute_of_the_image_goes_before_a_file_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("a.raw");
        std::fs::write(&image, "x").unwrap();
        std::fs::write(dir.path().join("a.roothash"), "ab".repeat(32)).unwrap();
        let hash = || SidecarSet::of(&image).unwrap().root_hash.unwrap();
        assert_eq!(hash(), Ok("ab".repeat(32)));
        let set = |text: &str| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&image, "user.verity.roothash", text.as_bytes(), flags).unwrap();
        };
        set(&"cd".repeat(32));
        assert_eq!(hash(), Ok("cd".repeat(32)));
        set("x");
        assert!(hash().is_err());
    }
}
