//! What is looked at before anything is written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::apply::{AppliedFile, Outcome};
use super::record::Record;
use super::{Options, PlacedFile, PlacedKind, Placements, Present, would_overwrite};
use crate::base;
use crate::base::mounts::SelinuxMode;
use crate::finding::{Finding, Findings, Severity};
use crate::io::hex;
use crate::io::root::{RootDir, RootError};

/// What a file may take beside its bytes: its last block, its inode, its directory entry.
const OVERHEAD: u64 = 8 * 1024;

/// Paths that are outside the few places for files of their kind, or taken twice.
pub(super) fn check_destinations(placements: &Placements) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut taken = BTreeSet::new();
    for file in &placements.files {
        let path = &file.destination;
        if !file.kind.may_be_at(path) {
            let (folders, endings) = file.kind.places();
            let message = format!(
                "`{}` is no place for this file, expected a name ending in {} in one of {}",
                path.escape_debug(),
                endings.join(" or "),
                folders.join(", ")
            );
            findings.push(Finding::error("bad-destination", message));
        } else if !taken.insert(path) {
            let message = format!("two files are to be placed at {path}");
            findings.push(Finding::error("bad-destination", message));
        }
    }
    findings
}

/// Compares a file with what is at its destination.
pub(super) fn survey(
    root: &RootDir,
    file: &PlacedFile,
    options: Options,
    known: &Record,
    findings: &mut Vec<Finding>,
) -> Result<AppliedFile, Findings> {
    let path = &file.destination;
    let (size, entries) = file.extent()?;
    let is_folder = file.kind == PlacedKind::Folder;
    let mut sizes = known.sizes(path);
    sizes.push(size);
    let present = Present::look(root, path, &sizes)?;
    let same = present.digest() == Some(file.sha256);
    let outcome = match present {
        Present::Nothing => Outcome::Created,
        Present::File { mode, .. } if same && mode == file.mode => Outcome::Unchanged,
        Present::File { digest, .. } if same || known.owns(path, digest) => Outcome::Replaced,
        Present::Folder { .. } if same => Outcome::Unchanged,
        Present::Folder { digest } if is_folder && known.owns(path, digest) => Outcome::Replaced,
        Present::Folder { .. } if !is_folder => {
            findings.push(
                Finding::error(
                    "would-overwrite",
                    format!("{path} is a directory, expected a file"),
                )
                .in_file(path.as_str())
                .help("remove the directory, or choose another name"),
            );
            Outcome::Unchanged
        }
        other => {
            let mut finding = would_overwrite(path, known.lists(path), other);
            // Whole folders of others are not for a flag that is meant for files.
            if options.force && !matches!(other, Present::Folder { .. }) {
                finding.severity = Severity::Warning;
                finding.help = Some("it is replaced because of --force".to_owned());
            }
            findings.push(finding);
            Outcome::Replaced
        }
    };
    let mut extensions = file.extensions.clone();
    extensions.sort();
    extensions.dedup();
    Ok(AppliedFile {
        path: path.clone(),
        kind: file.kind,
        extensions,
        size,
        entries,
        sha256: hex::encode(&file.sha256),
        outcome,
    })
}

/// All files must fit beside what they replace.
pub(super) fn check_space(
    root: &RootDir,
    files: &[(AppliedFile, &PlacedFile)],
    findings: &mut Vec<Finding>,
) -> Result<(), RootError> {
    let mut needed: BTreeMap<u64, (u64, u64, &str)> = BTreeMap::new();
    for (file, _) in files
        .iter()
        .filter(|(file, _)| file.outcome != Outcome::Unchanged)
    {
        let space = root.free_space(Path::new(&file.path))?;
        let Some(free) = space.bytes else { continue };
        let entry = needed
            .entry(space.device)
            .or_insert((0, free, file.path.as_str()));
        let overhead = OVERHEAD.saturating_mul(file.entries);
        entry.0 = entry.0.saturating_add(file.size).saturating_add(overhead);
    }
    for (need, free, path) in needed.into_values().filter(|(need, free, _)| need > free) {
        let message = format!(
            "the file system that is to hold {} needs {need} bytes for what is placed in it and has {free} free",
            root.shown(Path::new(path)).display()
        );
        findings.push(
            Finding::error("no-room", message)
                .in_file(path)
                .help("enlarge the file system or free space; nothing was written"),
        );
    }
    Ok(())
}

/// Files of an earlier apply that are no longer listed; those that changed since are only
/// given up by force.
pub(super) fn stale_files(
    root: &RootDir,
    known: &Record,
    placements: &Placements,
    options: Options,
    findings: &mut Vec<Finding>,
) -> Result<Vec<String>, RootError> {
    let wanted: BTreeSet<&str> = placements
        .files
        .iter()
        .map(|file| file.destination.as_str())
        .collect();
    // Images first: none may be left without its certificate.
    let listed: BTreeSet<_> = known
        .files
        .iter()
        .filter(|file| !wanted.contains(file.path.as_str()))
        .map(|file| (Reverse(file.kind), file.path.as_str()))
        .collect();
    let mut stale = Vec::new();
    for (_, path) in listed {
        let present = Present::look(root, path, &known.sizes(path))?;
        if present == Present::Nothing {
            continue;
        }
        let ours = known.owns(path, present.digest());
        if ours || may_remove_changed(path, present, options, findings) {
            stale.push(path.to_owned());
        }
    }
    Ok(stale)
}

/// Says that a file is not what was placed there, and whether it may be removed all the same.
pub(super) fn may_remove_changed(
    path: &str,
    present: Present,
    options: Options,
    findings: &mut Vec<Finding>,
) -> bool {
    let is_folder = matches!(present, Present::Folder { .. });
    let force = options.force && !is_folder;
    let message = format!("{path} was changed since it was placed");
    let finding = Finding {
        severity: if force {
            Severity::Warning
        } else {
            Severity::Error
        },
        ..Finding::error("changed-since", message).in_file(path)
    };
    findings.push(finding.help(match (is_folder, force) {
        (true, _) => "it is a folder; remove it by hand",
        (_, true) => "it is removed because of --force",
        _ => "remove it by hand, or use --force",
    }));
    force
}

/// New files carry no SELinux label; only the target's own policy could tell which.
pub(super) fn unlabelled(root: &RootDir) -> Option<Finding> {
    let mode = base::read_selinux(root).filter(|mode| *mode != SelinuxMode::Disabled)?;
    let mode = match mode {
        SelinuxMode::Enforcing => "enforcing",
        _ => "permissive",
    };
    Some(
        Finding::warning(
            "selinux-unlabelled",
            format!("SELinux is {mode} in the base, and the placed files carry no label"),
        )
        .help("relabel the image (Prism does), or run setfiles on the root file system"),
    )
}
