//! Files beside an image by which systemd uses a hash tree (`verity_settings_load`, systemd
//! `src/shared/dissect-image.c`): their names, and what a root hash in one looks like.

use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::io::hex;

/// Longest root hash or signature that is read, in bytes; systemd has no such limit, real ones have
/// some 1 KiB.
pub(crate) const MAX_BYTES: u64 = 4 << 20;
/// Shortest root hash that systemd takes, in bytes.
pub(crate) const MIN_HASH: usize = 16;
/// Endings of compressed images. systemd takes none of them, so what lies beside such a file is
/// named as if it were unpacked.
pub(crate) const WRAPPINGS: [&str; 3] = [".gz", ".xz", ".zst"];

/// What a file beside an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SidecarKind {
    /// Root hash of a root file system, hex.
    RootHash,
    /// Root hash of a `/usr` file system, hex.
    UsrHash,
    /// Signature of the root hash, PKCS#7 in DER.
    RootHashSignature,
    /// Signature of the hash of a `/usr` file system.
    UsrHashSignature,
    /// The hash tree, for an image without a partition table.
    HashTree,
}

impl SidecarKind {
    /// All of them.
    pub const ALL: [SidecarKind; 5] = [
        SidecarKind::RootHash,
        SidecarKind::UsrHash,
        SidecarKind::RootHashSignature,
        SidecarKind::UsrHashSignature,
        SidecarKind::HashTree,
    ];

    /// What stands in place of `.raw`.
    pub fn ending(self) -> &'static str {
        match self {
            SidecarKind::RootHash => "roothash",
            SidecarKind::UsrHash => "usrhash",
            SidecarKind::RootHashSignature => "roothash.p7s",
            SidecarKind::UsrHashSignature => "usrhash.p7s",
            SidecarKind::HashTree => "verity",
        }
    }

    /// Where it lies: only a last `.raw` is replaced (`build_auxiliary_path`).
    pub fn beside(self, image: &Path) -> PathBuf {
        let wrapped = image.to_str().and_then(|text| {
            let inner = WRAPPINGS.iter().find_map(|it| text.strip_suffix(it))?;
            inner.ends_with(".raw").then(|| Path::new(inner))
        });
        let image = wrapped.unwrap_or(image);
        match image.extension() {
            Some(raw) if raw == "raw" => image.with_extension(self.ending()),
            _ => {
                let mut name = image.as_os_str().to_owned();
                name.push(".");
                name.push(self.ending());
                PathBuf::from(name)
            }
        }
    }

    /// For people.
    pub fn noun(self) -> &'static str {
        match self {
            SidecarKind::RootHash => "root hash",
            SidecarKind::UsrHash => "hash of /usr",
            SidecarKind::RootHashSignature | SidecarKind::UsrHashSignature => "signature",
            SidecarKind::HashTree => "hash tree",
        }
    }
}

/// A file beside an image that goes where the image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarFile {
    /// What it is.
    pub kind: SidecarKind,
    /// Where it lies on this machine.
    pub path: PathBuf,
}

impl SidecarFile {
    /// Those beside an image of this machine.
    pub fn all(image: &Path) -> io::Result<Vec<SidecarFile>> {
        let mut found = Vec::new();
        for kind in SidecarKind::ALL {
            let path = kind.beside(image);
            match std::fs::metadata(&path) {
                Ok(_) => found.push(SidecarFile { kind, path }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// The root hash in such a file or attribute; nothing if systemd would refuse it.
pub(crate) fn root_hash(text: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(text);
    let hash = text
        .lines()
        .next()
        .and_then(|line| hex::decode(line.trim()));
    hash.filter(|hash| hash.len() >= MIN_HASH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_raw_is_replaced_and_a_wrapping_is_looked_through() {
        let beside = |image: &str| SidecarKind::HashTree.beside(Path::new(image));
        for (image, tree) in [
            ("/a/b.raw", "/a/b.verity"),
            ("b.raw.raw", "b.raw.verity"),
            ("b.img", "b.img.verity"),
            ("b.raw.zst", "b.verity"),
            ("b.img.xz", "b.img.xz.verity"),
        ] {
            assert_eq!(beside(image), Path::new(tree), "{image}");
        }
    }
}
