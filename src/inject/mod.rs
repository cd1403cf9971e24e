//! Places what the plan lists in a root file system.
//!
//! Everything that can be known to fail is found before the first change;
//! every file is then written completely under no name, and only when all of
//! them are, they get their names one after the other. So a full disk loses
//! nothing that was there.

pub mod record;
pub mod remove;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::base::root::{EntryKind, RootDir, RootError};
use crate::base::unit::{self, UNIT, WANTS};
use crate::finding::{Finding, Findings};
use crate::image::hex;
use crate::pending::PendingFile;
use record::{Record, RecordedFile};

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Room that is left free beside what is placed, in bytes, for directories and the record.
const RESERVE: u64 = 1 << 20;

/// Everything to place.
#[derive(Debug)]
pub struct Placements {
    /// The files, in the order in which they get their names.
    pub files: Vec<Placement>,
    /// Whether the service is enabled.
    pub enable: bool,
}

/// One file to place.
#[derive(Debug)]
pub struct Placement {
    /// What it is.
    pub kind: FileKind,
    /// The extension it belongs to; none for what belongs to all.
    pub extension: Option<String>,
    /// Absolute path in the root file system.
    pub destination: String,
    /// Where the bytes come from.
    pub source: FileSource,
    /// SHA-256 that they must have, lower-case hex.
    pub sha256: String,
}

/// What a placed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A trusted certificate.
    Certificate,
    /// A drop-in of the service.
    DropIn,
    /// An extension image.
    Image,
}

/// Where bytes come from.
#[derive(Debug)]
pub enum FileSource {
    /// A file of this machine.
    Path(PathBuf),
    /// Bytes made by us.
    Bytes(Vec<u8>),
}

/// What the caller takes on, and who the caller is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Replace files that an earlier apply did not place.
    pub force: bool,
    /// Effective user id of this process.
    pub uid: u32,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Every file and what became of it.
    pub files: Vec<AppliedFile>,
    /// What became of the link that enables the service.
    pub service: Action,
    /// Who owns what was placed: `root`, or `caller` where the caller is not root.
    pub ownership: &'static str,
    /// What was noticed on the way.
    pub findings: Vec<Finding>,
}

/// One file and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedFile {
    /// Absolute path in the root file system.
    pub path: String,
    /// What became of it.
    pub action: Action,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is new.
    Placed,
    /// It replaced what was there.
    Replaced,
    /// It was there already.
    Unchanged,
    /// It was taken out.
    Removed,
    /// It was not asked for.
    None,
}

impl Action {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Action::Placed => "placed",
            Action::Replaced => "replaced",
            Action::Unchanged => "unchanged",
            Action::Removed => "removed",
            Action::None => "none",
        }
    }
}

/// Mode of everything that is placed: Prism's for these files, whatever the umask.
const MODE: u32 = 0o644;

/// Places everything, or changes nothing and says why.
pub fn apply(
    root: &RootDir,
    placements: &Placements,
    options: &Options,
) -> Result<Applied, Findings> {
    let ownership = ownership(root, options)?;
    let old = record::read(root)?;
    let mut errors = Vec::new();
    let mut findings = Vec::new();
    let mut actions = Vec::new();
    for placement in &placements.files {
        match intended(root, placement, &old, options) {
            Ok(action) => actions.push(action),
            Err(finding) => {
                errors.push(finding);
                actions.push(Action::None);
            }
        }
    }
    let link = if placements.enable {
        match service_link(root) {
            Ok(link) => link,
            Err(finding) => {
                errors.push(finding);
                None
            }
        }
    } else {
        None
    };
    if errors.is_empty()
        && let Err(finding) = room(root, placements, &actions)
    {
        errors.push(finding);
    }
    if !errors.is_empty() {
        return Err(Findings(errors));
    }
    let stale: Vec<&RecordedFile> = old
        .files
        .iter()
        .filter(|old| {
            !placements
                .files
                .iter()
                .any(|new| new.destination == old.path)
        })
        .collect();
    let record = Record {
        enabled_by_us: link.is_some() || (placements.enable && old.enabled_by_us),
        files: placements.files.iter().map(recorded).collect(),
        ..Record::default()
    };
    write_all(root, placements, &actions, &record, &old, options)?;
    let service = match &link {
        Some(target) => {
            root.symlink(target, &format!("{WANTS}/{UNIT}"))
                .map_err(failed)?;
            Action::Placed
        }
        None if placements.enable => Action::Unchanged,
        None => Action::None,
    };
    let mut files: Vec<AppliedFile> = placements
        .files
        .iter()
        .zip(actions)
        .map(|(placement, action)| AppliedFile {
            path: placement.destination.clone(),
            action,
        })
        .collect();
    for old in stale {
        match remove::take_out(root, old, options.force) {
            Ok(true) => files.push(AppliedFile {
                path: old.path.clone(),
                action: Action::Removed,
            }),
            Ok(false) => {}
            Err(finding) => findings.push(finding),
        }
    }
    Ok(Applied {
        files,
        service,
        ownership,
        findings,
    })
}

fn failed(error: RootError) -> Findings {
    let full = error.source.kind() == std::io::ErrorKind::StorageFull;
    let read_only = error.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem;
    let finding = Finding::error("rootfs-io", error.to_string());
    let finding = match (full, read_only) {
        (true, _) => finding.help("make room in the root file system; nothing was changed"),
        (_, true) => finding.help("mount the root file system read-write; nothing was changed"),
        _ => finding,
    };
    finding.into()
}

/// Root gives everything to root; anybody else may only write to what is theirs.
fn ownership(root: &RootDir, options: &Options) -> Result<&'static str, Findings> {
    if options.uid == 0 {
        return Ok("root");
    }
    let owner = root.owner().map_err(failed)?;
    if owner == options.uid {
        return Ok("caller");
    }
    Err(Finding::error(
        "rootfs-not-owned",
        format!(
            "{} belongs to user {owner}, not to you (user {})",
            root.path().display(),
            options.uid
        ),
    )
    .help("run as root, or use a root file system of your own")
    .into())
}

fn recorded(placement: &Placement) -> RecordedFile {
    RecordedFile {
        path: placement.destination.clone(),
        kind: placement.kind,
        extension: placement.extension.clone(),
        sha256: placement.sha256.clone(),
    }
}

/// What placing this file would do, or why it must not be done.
fn intended(
    root: &RootDir,
    placement: &Placement,
    old: &Record,
    options: &Options,
) -> Result<Action, Finding> {
    let path = &placement.destination;
    let looked = |error: RootError| Finding::error("rootfs-io", error.to_string());
    let taken = |what: &str| {
        Finding::error(
            "would-overwrite",
            format!("{path} in the root file system is {what}"),
        )
        .help("remove it, or use --force to replace it")
    };
    match root.kind(path).map_err(looked)? {
        None => Ok(Action::Placed),
        Some(EntryKind::File(_)) => {
            let Some(mut file) = root.open_file(path).map_err(looked)? else {
                return Ok(Action::Placed);
            };
            let found = digest(&mut file).map_err(|error| {
                Finding::error(
                    "rootfs-io",
                    format!("reading {path} in the root file system: {error}"),
                )
            })?;
            if found == placement.sha256 && root.mode(path).map_err(looked)? == Some(MODE) {
                return Ok(Action::Unchanged);
            }
            let ours = old
                .files
                .iter()
                .any(|old| old.path == *path && old.sha256 == found);
            if ours || options.force {
                Ok(Action::Replaced)
            } else {
                Err(taken("another file, which prism-sysext did not place"))
            }
        }
        Some(EntryKind::Directory) => Err(Finding::error(
            "would-overwrite",
            format!("{path} in the root file system is a folder"),
        )
        .help("remove it; --force does not replace folders")),
        Some(_) if options.force => Ok(Action::Replaced),
        Some(EntryKind::Symlink) => Err(taken("a link")),
        Some(_) => Err(taken("no regular file")),
    }
}

/// The target of the enablement link that `systemctl enable` would make; none if there is one.
fn service_link(root: &RootDir) -> Result<Option<String>, Finding> {
    let state = unit::read(root).map_err(|error| Finding::error("rootfs-io", error.to_string()))?;
    match (state.path, state.masked, state.enabled) {
        (None, ..) => Err(Finding::error(
            "unit-missing",
            format!("the root file system has no {UNIT}"),
        )
        .help("install the package that holds systemd-sysext, or write `enable: none`")),
        (_, true, _) => Err(Finding::error(
            "unit-masked",
            format!("{UNIT} is masked in the root file system"),
        )
        .help(format!(
            "remove /etc/systemd/system/{UNIT}, or write `enable: none`"
        ))),
        (Some(_), false, true) => Ok(None),
        (Some(path), false, false) => Ok(Some(path)),
    }
}

fn room(root: &RootDir, placements: &Placements, actions: &[Action]) -> Result<(), Finding> {
    let mut needed = RESERVE;
    for (placement, _) in placements
        .files
        .iter()
        .zip(actions)
        .filter(|(_, action)| matches!(action, Action::Placed | Action::Replaced))
    {
        needed += match &placement.source {
            FileSource::Bytes(bytes) => bytes.len() as u64,
            FileSource::Path(path) => std::fs::metadata(path)
                .map_err(|error| {
                    Finding::error(
                        "image-unreadable",
                        format!("reading {}: {error}", path.display()),
                    )
                })?
                .len(),
        };
    }
    // The images are nearly all of it, so their folder stands for all.
    let folder = placements
        .files
        .iter()
        .filter(|placement| placement.kind == FileKind::Image)
        .filter_map(|placement| placement.destination.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .next()
        .unwrap_or("/etc");
    let free = root
        .free_bytes(folder)
        .map_err(|error| Finding::error("rootfs-io", error.to_string()))?;
    if free >= needed {
        return Ok(());
    }
    Err(Finding::error(
        "no-room",
        format!("{needed} bytes are needed below {folder}, the file system has {free} free"),
    )
    .help("make the root file system larger, or place fewer extensions"))
}

fn write_all(
    root: &RootDir,
    placements: &Placements,
    actions: &[Action],
    record: &Record,
    old: &Record,
    options: &Options,
) -> Result<(), Findings> {
    let mut folders = Vec::new();
    let result = prepare(
        root,
        placements,
        actions,
        record,
        old,
        options,
        &mut folders,
    )
    .and_then(|pending| {
        let mut placed: Vec<String> = Vec::new();
        for (path, file) in pending {
            if let Err(error) = file.commit() {
                for path in &placed {
                    // What was new goes again; the error that led here is the one to report.
                    let _ = root.remove(path);
                }
                return Err(Finding::error(
                    "rootfs-io",
                    format!("writing {path} in the root file system: {error}"),
                )
                .into());
            }
            let new = placements
                .files
                .iter()
                .zip(actions)
                .any(|(placement, action)| {
                    placement.destination == path && *action == Action::Placed
                });
            if new {
                placed.push(path);
            }
        }
        Ok(())
    });
    if result.is_err() {
        for folder in folders.iter().rev() {
            // Only folders that this run made and that are empty again.
            let _ = root.remove_folder(folder);
        }
    }
    result
}

type Pending = Vec<(String, PendingFile)>;

fn prepare(
    root: &RootDir,
    placements: &Placements,
    actions: &[Action],
    record: &Record,
    old: &Record,
    options: &Options,
    folders: &mut Vec<String>,
) -> Result<Pending, Findings> {
    let mut pending = Vec::new();
    let mut start = |path: &str| -> Result<PendingFile, Findings> {
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        folders.extend(root.make_dirs(folder).map_err(failed)?);
        root.create(path, MODE).map_err(failed)
    };
    for (placement, action) in placements.files.iter().zip(actions) {
        if *action == Action::Unchanged {
            continue;
        }
        let mut file = start(&placement.destination)?;
        fill(
            &placement.source,
            file.file(),
            &placement.sha256,
            &placement.destination,
        )?;
        if options.uid == 0 {
            root.give_to_root(file.file(), &placement.destination)
                .map_err(failed)?;
        }
        pending.push((placement.destination.clone(), file));
    }
    if record != old {
        let mut file = start(record::PATH)?;
        let text = record
            .to_text()
            .map_err(|error| Findings::from(Finding::error("rootfs-io", error.to_string())))?;
        file.file().write_all(text.as_bytes()).map_err(|error| {
            Findings::from(Finding::error(
                "rootfs-io",
                format!("writing {}: {error}", record::PATH),
            ))
        })?;
        if options.uid == 0 {
            root.give_to_root(file.file(), record::PATH)
                .map_err(failed)?;
        }
        pending.push((record::PATH.to_owned(), file));
    }
    if record.enabled_by_us {
        folders.extend(root.make_dirs(WANTS).map_err(failed)?);
    }
    Ok(pending)
}

/// Copies the bytes and makes sure that they are the ones that were judged.
fn fill(
    source: &FileSource,
    out: &mut File,
    sha256: &str,
    destination: &str,
) -> Result<(), Findings> {
    let writing = |error: std::io::Error| {
        let finding = Finding::error(
            "rootfs-io",
            format!("writing {destination} in the root file system: {error}"),
        );
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        Findings::from(if full {
            finding.help("make room in the root file system; nothing was changed")
        } else {
            finding
        })
    };
    let found = match source {
        FileSource::Bytes(bytes) => {
            out.write_all(bytes).map_err(writing)?;
            hex::encode(&Sha256::digest(bytes))
        }
        FileSource::Path(path) => {
            let reading = |error: std::io::Error| {
                Findings::from(Finding::error(
                    "image-unreadable",
                    format!("reading {}: {error}", path.display()),
                ))
            };
            let mut file = File::open(path).map_err(reading)?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; CHUNK];
            loop {
                let read = file.read(&mut buffer).map_err(reading)?;
                let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
                    break;
                };
                hash.update(piece);
                out.write_all(piece).map_err(writing)?;
            }
            hex::encode(&hash.finalize())
        }
    };
    if found == sha256 {
        return Ok(());
    }
    Err(Finding::error(
        "changed-meanwhile",
        format!("the bytes for {destination} changed since they were checked"),
    )
    .help("run the command again")
    .into())
}

/// SHA-256 of a file from its beginning, lower-case hex.
pub(crate) fn digest(file: &mut File) -> std::io::Result<String> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(piece) if !piece.is_empty() => hash.update(piece),
            _ => return Ok(hex::encode(&hash.finalize())),
        }
    }
}
