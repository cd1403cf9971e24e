//! What systemd refuses in an extension, or never merges.

use crate::finding::Finding;
use crate::systemd::kind::ExtensionKind;
use crate::tree::{Inode, Tree};

/// What systemd refuses or never merges.
pub(super) fn forbidden(tree: &Tree, kind: ExtensionKind, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let top = tree.get(Tree::ROOT).and_then(Inode::entries);
    let outside: Vec<String> = top
        .into_iter()
        .flat_map(|entries| entries.keys())
        .filter(|name| {
            !kind
                .hierarchies()
                .iter()
                .any(|top| top.as_bytes() == **name)
        })
        .map(|name| format!("/{}", String::from_utf8_lossy(name)))
        .collect();
    if !outside.is_empty() {
        let (places, what) = (kind.places(), kind.noun());
        let help = match kind {
            ExtensionKind::Sysext => {
                "leave it out; files for /etc make a `kind: confext`, defaults belong in /usr/share/factory/etc with a tmpfiles.d line"
            }
            ExtensionKind::Confext => {
                "leave it out; what belongs in /usr or /opt makes an extension of `kind: sysext`"
            }
        };
        findings.push(
            Finding::error(
                "outside-hierarchy",
                format!(
                    "the content reaches outside {places}: {}",
                    outside.join(", ")
                ),
            )
            .because(format!(
                "systemd merges {places} of a {what} and nothing else (src/sysext/sysext.c)"
            ))
            .help(help),
        );
    }
    for hierarchy in kind.hierarchies() {
        if let Some(inode) = tree
            .lookup(hierarchy.as_bytes())
            .and_then(|id| tree.get(id))
            && inode.entries().is_none()
        {
            findings.push(
                Finding::error(
                    "hierarchy-not-a-folder",
                    format!("/{hierarchy} is not a folder"),
                )
                .help(format!("make {hierarchy} a folder of the tree")),
            );
        }
    }
    if tree.lookup(b"usr/lib/os-release").is_some() {
        findings.push(
            Finding::error("os-release-inside", "the content holds /usr/lib/os-release")
                .because("systemd refuses an extension that replaces the OS's identity (extension_has_forbidden_content, src/shared/extension-util.c)")
                .help("leave it out"),
        );
    }
    let entries = tree
        .lookup(kind.release_dir().as_bytes())
        .and_then(|id| tree.get(id))
        .and_then(Inode::entries);
    let own = format!("extension-release.{name}");
    for other in entries
        .into_iter()
        .flat_map(|entries| entries.keys())
        .filter(|entry| **entry != own.as_bytes())
    {
        findings.push(
            Finding::error(
                "foreign-release-file",
                format!(
                    "the content holds /{}/{}, expected only {own}",
                    kind.release_dir(),
                    String::from_utf8_lossy(other)
                ),
            )
            .help("leave it out; the release file is written for you"),
        );
    }
    findings
}
