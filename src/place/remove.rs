//! Taking an extension out again, with what only it needed.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::enable::intact_links;
use super::preflight::may_remove_changed;
use super::record::{RECORD_PATH, Record, RecordedFile};
use super::{Options, PlacedKind, Present, kind_of, take_away};
use crate::base::unit::enablement_link;
use crate::finding::suggest::nearest;
use crate::finding::{Finding, Findings};
use crate::io::root::{Ownership, RootDir, RootError};
use crate::systemd::kind::ExtensionKind;

/// What was taken out (or, as a dry run, would be).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// The extension.
    pub name: String,
    /// Who may write to the root file system: root, or its owner.
    pub ownership: Ownership,
    /// Links that started units at boot and were removed, before all files.
    pub links: Vec<String>,
    /// Files that were removed, in the order of removal.
    pub files: Vec<String>,
    /// Files of this extension that stay because others need them.
    pub kept: Vec<String>,
    /// What else is to be told.
    pub findings: Vec<Finding>,
}

/// Removes what an earlier apply placed for the extension `name`.
///
/// # Errors
/// Before anything is removed: `rootfs-not-owned`, `record-unreadable`, `not-applied`,
/// `changed-since`. `rootfs-io` may come in the middle: what is removed stays removed, the record
/// still lists it, and another call goes on from there.
pub fn remove(root: &RootDir, name: &str, options: &Options) -> Result<Removed, Findings> {
    let ownership = root.ownership()?;
    let known = Record::read(root)?.unwrap_or_default();
    let extensions = known.extensions();
    if !extensions.iter().any(|extension| extension == name) {
        return Err(not_applied(root, name, &extensions).into());
    }
    let mut record = known.clone();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let mut stays = Vec::new();
    for mut file in std::mem::take(&mut record.files) {
        let before = file.extensions.len();
        file.extensions.retain(|extension| extension != name);
        match file.extensions.len() {
            0 if before > 0 => gone.push(file),
            now => {
                if now < before {
                    kept.push(file.path.clone());
                }
                stays.push(file);
            }
        }
    }
    let images = |kind| {
        stays
            .iter()
            .any(|file: &RecordedFile| file.kind.is_extension() && kind_of(&file.path) == kind)
    };
    use crate::systemd::kind::ExtensionKind::{Confext, Sysext};
    let idle: Vec<_> = [Sysext, Confext]
        .into_iter()
        .filter(|kind| !images(*kind))
        .map(ExtensionKind::unit)
        .collect();
    let unneeded: Vec<String> = idle.iter().map(|unit| enablement_link(unit)).collect();
    if !images(Sysext) && !images(Confext) {
        // What every extension needed, none needs.
        gone.append(&mut stays);
        kept.clear();
    }
    // A policy for the service of a kind that has no image any more is of no use either.
    let unused = |file: &RecordedFile| {
        let of = |unit: &&str| file.path.contains(&format!("/{unit}.d/"));
        file.kind == PlacedKind::DropIn && idle.iter().any(of)
    };
    let (unused, stays): (Vec<_>, Vec<_>) = stays.into_iter().partition(unused);
    kept.retain(|path| !unused.iter().any(|file| file.path == *path));
    gone.extend(unused);

    let mut findings = Vec::new();
    let links: Vec<String> = intact_links(root, &record)?
        .into_iter()
        .filter(|link| unneeded.contains(&link.path))
        .map(|link| link.path.clone())
        .collect();
    // Images first: none may be left without its certificate.
    gone.sort_by(|a, b| (b.kind, &a.path).cmp(&(a.kind, &b.path)));
    // A path is listed twice after an apply that was killed.
    gone.dedup_by(|a, b| a.path == b.path);
    let mut files = Vec::new();
    for file in &gone {
        if may_remove(root, &file.path, &known, *options, &mut findings)? {
            files.push(file.path.clone());
        }
    }
    Findings::stop_on_errors(&findings)?;
    let result = Removed {
        name: name.to_owned(),
        ownership,
        links,
        files,
        kept,
        findings,
    };
    for path in result.links.iter().chain(&result.files) {
        take_away(root, Path::new(path))?;
    }
    record.files = stays;
    record.links.retain(|link| !unneeded.contains(&link.path));
    if record.is_empty() {
        root.remove_file(Path::new(RECORD_PATH))?;
        let folders: Vec<PathBuf> = record.folders.iter().map(PathBuf::from).collect();
        root.remove_dirs(&folders);
    } else {
        record.tidy();
        record.write(root)?;
    }
    Ok(result)
}

/// Whether the file is there and may go; says so when it may not.
fn may_remove(
    root: &RootDir,
    path: &str,
    known: &Record,
    options: Options,
    findings: &mut Vec<Finding>,
) -> Result<bool, RootError> {
    let present = Present::look(root, path, &known.sizes(path))?;
    if present == Present::Nothing {
        let message = format!("{path} was placed by an earlier apply and is gone already");
        findings.push(Finding::note("already-gone", message));
        return Ok(false);
    }
    if known.owns(path, present.digest()) {
        return Ok(true);
    }
    Ok(may_remove_changed(path, present, options, findings))
}

fn not_applied(root: &RootDir, name: &str, known: &[String]) -> Finding {
    let shown = |name: &str| name.escape_debug().to_string();
    let message = format!(
        "prism-sysext has placed no extension `{}` in {}",
        shown(name),
        root.path().display()
    );
    let finding = Finding::error("not-applied", message);
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    match (nearest(name, &names), known) {
        (Some(near), _) => finding.help(format!("did you mean `{}`?", shown(near))),
        (None, []) => finding,
        (None, known) => {
            let known: Vec<String> = known.iter().map(|name| shown(name)).collect();
            finding.help(format!("it has placed: {}", known.join(", ")))
        }
    }
}
