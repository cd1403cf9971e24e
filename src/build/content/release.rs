//! The release file in the tree of an extension.

use crate::finding::Finding;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::read::Reader;
use crate::tree::{Kind, Source, Tree};

/// Largest release file of the content that is read, in bytes.
const MAX_RELEASE_FILE: u64 = 1 << 20;

/// Adds the release file; fields that the content's own one has must agree.
pub(super) fn place_release(
    tree: &mut Tree,
    kind: ExtensionKind,
    name: &str,
    wanted: ReleaseFields,
) -> Result<ReleaseFields, Finding> {
    let path = format!("{}/extension-release.{name}", kind.release_dir());
    let mut release = wanted;
    if let Some(inode) = tree.lookup(path.as_bytes()).and_then(|id| tree.get(id)) {
        let bytes = match &inode.kind {
            Kind::File { source, size } if *size <= MAX_RELEASE_FILE => {
                let mut bytes = Vec::new();
                let count = usize::try_from(*size).unwrap_or(0);
                Reader::new(source, *size)
                    .and_then(|reader| reader.append(0, count, &mut bytes))
                    .map_err(|error| Finding::error("file-unreadable", error.to_string()))?;
                bytes
            }
            _ => {
                return Err(Finding::error(
                    "release-file-refused",
                    format!("/{path} is not a small regular file"),
                )
                .help("leave it out; the release file is written for you"));
            }
        };
        let own = ReleaseFields::parse(&bytes).map_err(|error| {
            Finding::error("release-file-refused", format!("reading /{path}: {error}"))
        })?;
        for (key, value) in own.iter() {
            match release.get(key) {
                Some(expected) if expected != value => {
                    return Err(Finding::error(
                        "release-file-disagrees",
                        format!(
                            "/{path} says {key}={value}, the config and the base say {expected}"
                        ),
                    )
                    .help("make them agree, or leave the file out"));
                }
                Some(_) => {}
                None => release.set(key, value),
            }
        }
        tree.remove(path.as_bytes())
            .map_err(|error| Finding::error("content-conflict", error.to_string()))?;
    }
    let text = release.to_text().map_err(|error| {
        Finding::error("release-file-refused", format!("writing /{path}: {error}"))
    })?;
    let bytes = text.into_bytes();
    let size = bytes.len() as u64;
    tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, 0o644)
        .map_err(|error| Finding::error("content-conflict", error.to_string()))?;
    Ok(release)
}
