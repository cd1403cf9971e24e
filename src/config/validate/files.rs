//! Where files of an extension may go.

use std::path::{Component, Path};

use crate::config::model::FileEntry;
use crate::finding::Finding;
use crate::systemd::kind::ExtensionKind;

/// Whether a path leads below a hierarchy of an extension without `..` or repeated slashes.
pub fn inside_hierarchy(destination: &str, kind: ExtensionKind) -> bool {
    let path = Path::new(destination);
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && matches!(components.next(), Some(Component::Normal(top)) if kind.hierarchies().iter().any(|known| top == *known))
        && components.clone().count() > 0
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !destination.ends_with('/')
}

/// Whether a folder could be copied to a destination: also to a hierarchy itself, and to `/` if it
/// holds one.
pub fn could_take_folder(destination: &str, kind: ExtensionKind) -> bool {
    let below = destination.trim_end_matches('/');
    destination.starts_with('/')
        && (below.is_empty()
            || kind
                .hierarchies()
                .iter()
                .any(|top| below.strip_prefix('/') == Some(top))
            || inside_hierarchy(below, kind))
}

pub(super) fn one_file(
    file: &FileEntry,
    kind: ExtensionKind,
    at: &str,
    findings: &mut Vec<Finding>,
) {
    let places = kind.places();
    let has_source = file
        .source
        .as_ref()
        .is_some_and(|source| !source.as_os_str().is_empty());
    if has_source == file.content.is_some() {
        findings.push(
            Finding::error(
                "one-source",
                "expected exactly one of `source` and `content`",
            )
            .at(at),
        );
    }
    match &file.destination {
        None => findings.push(
            Finding::error("missing-key", "the file has no destination")
                .at(at)
                .help(format!(
                    "write `SOURCE:/{}/…`",
                    kind.hierarchies().first().unwrap_or(&"usr")
                )),
        ),
        Some(destination)
            if !(inside_hierarchy(destination, kind)
                || (has_source && could_take_folder(destination, kind))) =>
        {
            findings.push(
                Finding::error(
                    "outside-hierarchy",
                    format!("`{destination}` is not a file below {places}"),
                )
                .at(at)
                .because(format!(
                    "systemd merges {places} of a {} and nothing else",
                    kind.noun()
                ))
                .help(format!(
                    "choose an absolute destination below {places}, without `..`"
                )),
            );
        }
        Some(_) => {}
    }
}
