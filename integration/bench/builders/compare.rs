//! Whether a mounted image holds the tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Mode with kind, and the digest of the content or the target.
type Listing = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// `equal`, or how many paths are missing, added or different. What a builder adds of its own (the
/// release file) does not count.
pub fn compare(tree: &Path, image: &Path) -> String {
    let (expected, found) = (listing(tree), listing(image));
    let missing = expected
        .keys()
        .filter(|path| !found.contains_key(*path))
        .count();
    let added = found
        .keys()
        .filter(|path| !expected.contains_key(*path))
        .count();
    let different = expected
        .iter()
        .filter(|(path, entry)| found.get(*path).is_some_and(|found| found != *entry))
        .count();
    match (missing, added, different) {
        (0, 0, 0) => "equal".to_owned(),
        _ => format!("{missing} missing, {added} added, {different} different"),
    }
}

fn listing(root: &Path) -> Listing {
    let below = root.join("usr");
    let walk = walkdir::WalkDir::new(&below).sort_by_file_name();
    walk.into_iter()
        .map(Result::unwrap)
        .filter(|entry| !entry.path().to_string_lossy().contains("extension-release"))
        .map(|entry| {
            let metadata = entry.path().symlink_metadata().unwrap();
            let content = if metadata.is_file() {
                Sha256::digest(fs::read(entry.path()).unwrap()).to_vec()
            } else if metadata.is_symlink() {
                fs::read_link(entry.path())
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                Vec::new()
            };
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            (path, (metadata.mode(), content))
        })
        .collect()
}
