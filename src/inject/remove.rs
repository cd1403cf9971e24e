//! Takes out what an apply has placed, and shows what is there.

use serde::Serialize;

use super::record::{self, Record, RecordedFile};
use super::{Action, Applied, AppliedFile, FileKind, MODE, Options, digest, failed, ownership};
use crate::base::Base;
use crate::base::root::{EntryKind, RootDir};
use crate::base::unit::{UNIT, UnitState, WANTS};
use crate::config::nearest;
use crate::finding::{Finding, Findings};

/// Takes out the extension `name`; with the last one also certificates, drop-in and link.
pub fn remove(root: &RootDir, name: &str, options: &Options) -> Result<Applied, Findings> {
    let ownership = ownership(root, options)?;
    let record = record::read(root)?;
    let of_name = |file: &RecordedFile| file.extension.as_deref() == Some(name);
    if !record.files.iter().any(of_name) {
        return Err(unknown(&record, name).into());
    }
    let last = !record
        .files
        .iter()
        .any(|file| file.kind == FileKind::Image && !of_name(file));
    let (out, keep): (Vec<RecordedFile>, Vec<RecordedFile>) = record
        .files
        .iter()
        .cloned()
        .partition(|file| last || of_name(file));
    let changed: Vec<Finding> = out
        .iter()
        .filter_map(|file| is_ours(root, file, options.force).err())
        .collect();
    if !changed.is_empty() {
        return Err(Findings(changed));
    }
    let mut files = Vec::new();
    for file in &out {
        if take_out(root, file, options.force)? {
            files.push(AppliedFile {
                path: file.path.clone(),
                action: Action::Removed,
            });
        }
    }
    let mut service = Action::None;
    if last && record.enabled_by_us {
        let link = format!("{WANTS}/{UNIT}");
        if root.kind(&link).map_err(failed)? == Some(EntryKind::Symlink)
            && root.remove(&link).map_err(failed)?
        {
            service = Action::Removed;
        }
    }
    if last {
        root.remove(record::PATH).map_err(failed)?;
    } else {
        let text = Record {
            files: keep,
            ..record
        }
        .to_text()
        .map_err(io)?;
        let mut pending = root.create(record::PATH, MODE).map_err(failed)?;
        std::io::Write::write_all(pending.file(), text.as_bytes()).map_err(io)?;
        pending.commit().map_err(io)?;
    }
    Ok(Applied {
        files,
        service,
        ownership,
        findings: Vec::new(),
    })
}

fn io(error: impl std::fmt::Display) -> Findings {
    Finding::error("rootfs-io", format!("writing {}: {error}", record::PATH)).into()
}

fn unknown(record: &Record, name: &str) -> Finding {
    let known: Vec<&str> = record
        .files
        .iter()
        .filter_map(|file| file.extension.as_deref())
        .collect();
    let finding = Finding::error(
        "not-applied",
        format!("prism-sysext has placed no extension `{name}` there"),
    );
    match nearest(name, &known) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => finding,
        None => finding.help(format!("it has placed: {}", known.join(", "))),
    }
}

/// Whether the file is still what was placed; false if it is gone.
fn is_ours(root: &RootDir, file: &RecordedFile, force: bool) -> Result<bool, Finding> {
    let looked =
        |error: crate::base::root::RootError| Finding::error("rootfs-io", error.to_string());
    let changed = || {
        Finding::error(
            "changed-since",
            format!("{} is no longer what was placed", file.path),
        )
        .help("remove it yourself, or use --force")
    };
    match root.kind(&file.path).map_err(looked)? {
        None => Ok(false),
        Some(EntryKind::File(_)) if force => Ok(true),
        Some(EntryKind::File(_)) => {
            let Some(mut open) = root.open_file(&file.path).map_err(looked)? else {
                return Ok(false);
            };
            let found = digest(&mut open).map_err(|error| {
                Finding::error("rootfs-io", format!("reading {}: {error}", file.path))
            })?;
            if found == file.sha256 {
                Ok(true)
            } else {
                Err(changed())
            }
        }
        Some(_) => Err(changed()),
    }
}

/// Removes one file if it is ours; whether it was there.
pub(super) fn take_out(root: &RootDir, file: &RecordedFile, force: bool) -> Result<bool, Finding> {
    if !is_ours(root, file, force)? {
        return Ok(false);
    }
    root.remove(&file.path)
        .map_err(|error| Finding::error("rootfs-io", error.to_string()))
}

/// What a root file system carries.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Extensions in the search folders, in the order in which systemd finds them.
    pub extensions: Vec<Listed>,
    /// Paths and subjects of trusted certificates.
    pub certificates: Vec<ListedCertificate>,
    /// The service.
    pub service: UnitState,
}

/// One extension that is there.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Path in the root file system.
    pub path: String,
    /// What systemd takes it for.
    pub kind: crate::base::PresentKind,
    /// Whether prism-sysext placed it.
    pub ours: bool,
}

/// One trusted certificate.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedCertificate {
    /// Path in the root file system.
    pub path: String,
    /// Whom it belongs to.
    pub subject: String,
    /// SHA-256 of its DER form, hex.
    pub fingerprint: String,
    /// Whether prism-sysext placed it.
    pub ours: bool,
}

/// Shows what a root file system carries.
pub fn list(root: &RootDir, base: &Base) -> Result<Listing, Findings> {
    let record = record::read(root)?;
    let ours = |path: &str| record.files.iter().any(|file| file.path == path);
    Ok(Listing {
        extensions: base
            .extensions
            .iter()
            .map(|present| {
                let path = format!("{}/{}", present.folder, present.file_name);
                Listed {
                    ours: ours(&path),
                    kind: present.kind,
                    path,
                }
            })
            .collect(),
        certificates: base
            .certificates
            .iter()
            .map(|present| ListedCertificate {
                path: present.path.clone(),
                subject: present.certificate.subject.clone(),
                fingerprint: present.certificate.fingerprint_sha256_hex.clone(),
                ours: ours(&present.path),
            })
            .collect(),
        service: base.unit.clone(),
    })
}
