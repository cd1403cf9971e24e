//! Placing files: check all, prepare all, then commit all.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::enable::{AppliedLink, intact_links, plan_links};
use super::preflight::{check_destinations, check_space, stale_files, survey, unlabelled};
use super::record::{RECORD_PATH, Record, RecordedFile, RecordedLink};
use super::{
    FileSource, Options, PlacedFile, PlacedKind, PlacedTree, Placements, copy_hashed, take_away,
};
use crate::finding::{Finding, Findings};
use crate::io::atomic_file::AtomicFile;
use crate::io::atomic_folder::AtomicFolder;
use crate::io::hex;
use crate::io::progress::Progress;
use crate::io::root::{Ownership, RootDir};
use crate::tree::folder;
use crate::tree::folder::{FolderError, owners};

/// What was done about a file or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was there.
    Created,
    /// Something else was there.
    Replaced,
    /// It was there already.
    Unchanged,
}

/// A file that was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedFile {
    /// The path inside the root file system.
    pub path: String,
    /// What it is.
    pub kind: PlacedKind,
    /// The extensions that need it; none means all.
    pub extensions: Vec<String>,
    /// Its length in bytes; of a folder that of its files.
    pub size: u64,
    /// How many files and folders it is.
    #[serde(skip)]
    pub entries: u64,
    /// The SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
    /// What was done about it.
    pub outcome: Outcome,
}

/// What an apply did (or, as a dry run, would do).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Who owns what was written.
    pub ownership: Ownership,
    /// The files, in the order of writing.
    pub files: Vec<AppliedFile>,
    /// The links that start units at boot.
    pub links: Vec<AppliedLink>,
    /// Files of earlier applies that are no longer listed and were removed.
    pub removed: Vec<String>,
    /// Folders that were made.
    pub folders: Vec<String>,
    /// What else is to be told.
    pub findings: Vec<Finding>,
}

/// Places files in a root file system and switches the units on.
///
/// # Errors
/// Before anything is written: `rootfs-not-owned`, `record-unreadable`, `bad-destination`,
/// `would-overwrite`, `unit-missing`, `unit-masked`, `changed-since`, `no-room`,
/// `image-unreadable`. Later: `changed-meanwhile`, `owners-not-settable`, `rootfs-io`; new files,
/// links and directories are then removed again as far as possible, and the record is that of
/// before. What was replaced or removed until then stays so.
pub fn apply(
    root: &RootDir,
    placements: &Placements,
    options: &Options<'_>,
) -> Result<Applied, Findings> {
    let ownership = root.ownership()?;
    let old = Record::read(root)?;
    let known = old.clone().unwrap_or_else(|| Record::new(&placements.tool));
    let mut plan = Plan::new(root, placements, *options, &known)?;
    let mut applied = Applied {
        ownership,
        files: plan.files.iter().map(|(file, _)| file.clone()).collect(),
        links: plan.links.clone(),
        removed: plan.stale.clone(),
        folders: Vec::new(),
        findings: std::mem::take(&mut plan.findings),
    };
    let writes = applied
        .files
        .iter()
        .any(|file| file.outcome != Outcome::Unchanged);
    if writes {
        applied.findings.extend(unlabelled(root));
    }
    if !plan.has_work(old.as_ref()) {
        return Ok(applied);
    }
    let mut undo = Undo {
        root,
        created: Vec::new(),
        folders: Vec::new(),
        record: old.clone(),
    };
    match plan.carry_out(root, &known, &mut undo, options.progress) {
        Ok(()) => {
            applied.folders = undo.folders.iter().map(|folder| absolute(folder)).collect();
            Ok(applied)
        }
        Err(error) => {
            undo.run();
            Err(error)
        }
    }
}

/// All that is going to be done, checked.
struct Plan<'a> {
    files: Vec<(AppliedFile, &'a PlacedFile)>,
    links: Vec<AppliedLink>,
    stale: Vec<String>,
    record: Record,
    findings: Vec<Finding>,
}

impl<'a> Plan<'a> {
    fn new(
        root: &RootDir,
        placements: &'a Placements,
        options: Options<'_>,
        known: &Record,
    ) -> Result<Plan<'a>, Findings> {
        let mut findings = check_destinations(placements);
        Findings::stop_on_errors(&findings)?;
        let mut files = Vec::new();
        for file in &placements.files {
            files.push((survey(root, file, options, known, &mut findings)?, file));
        }
        files.sort_by(|(a, _), (b, _)| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
        let links = plan_links(root, placements, options, &mut findings)?;
        let stale = stale_files(root, known, placements, options, &mut findings)?;
        Findings::stop_on_errors(&findings)?;
        check_space(root, &files, &mut findings)?;
        Findings::stop_on_errors(&findings)?;
        let intact = intact_links(root, known)?;
        let record = new_record(placements, &files, &links, &intact, known);
        Ok(Plan {
            files,
            links,
            stale,
            record,
            findings,
        })
    }

    fn has_work(&self, old: Option<&Record>) -> bool {
        self.files
            .iter()
            .any(|(file, _)| file.outcome != Outcome::Unchanged)
            || self
                .links
                .iter()
                .any(|link| link.outcome != Outcome::Unchanged)
            || !self.stale.is_empty()
            || old.map_or(!self.record.is_empty(), |old| *old != self.record)
    }

    fn carry_out(
        mut self,
        root: &RootDir,
        known: &Record,
        undo: &mut Undo<'_>,
        progress: Option<&Progress>,
    ) -> Result<(), Findings> {
        let mut pending = Vec::new();
        for (applied, file) in &self.files {
            if applied.outcome != Outcome::Unchanged {
                let prepared = prepare(root, file, undo, progress)?;
                pending.push((applied, prepared));
            }
        }
        for link in self
            .links
            .iter()
            .filter(|link| link.outcome != Outcome::Unchanged)
        {
            if let Some(parent) = Path::new(&link.path).parent() {
                undo.folders.extend(root.make_dirs(parent)?);
            }
        }
        undo.folders.extend(Record::make_folder(root)?);
        self.record
            .folders
            .extend(undo.folders.iter().map(|folder| absolute(folder)));
        self.record.tidy();
        // Written ahead: after a kill the next apply still knows what is ours.
        known.union(&self.record).write(root)?;

        // Links first: making one may still fail for lack of room, naming a written file hardly.
        for link in self
            .links
            .iter()
            .filter(|link| link.outcome != Outcome::Unchanged)
        {
            if link.outcome == Outcome::Created {
                undo.created.push(link.path.clone());
            }
            root.symlink_atomic(Path::new(&link.target), Path::new(&link.path))?;
        }
        for (applied, prepared) in pending {
            let path = Path::new(&applied.path);
            if applied.outcome == Outcome::Created {
                undo.created.push(applied.path.clone());
            }
            prepared
                .commit()
                .map_err(|error| root.io_failed("write", path, &error))?;
        }
        for path in &self.stale {
            take_away(root, Path::new(path))?;
        }
        self.record.write(root)?;
        Ok(())
    }
}

/// What to take back when something fails midway.
struct Undo<'a> {
    root: &'a RootDir,
    created: Vec<String>,
    folders: Vec<PathBuf>,
    record: Option<Record>,
}

impl Undo<'_> {
    fn run(&self) {
        // Best effort throughout: the error that led here is the one to report.
        for path in self.created.iter().rev() {
            let _ = take_away(self.root, Path::new(path));
        }
        let _ = match &self.record {
            Some(record) => record.write(self.root),
            None => self.root.remove_file(Path::new(RECORD_PATH)).map(|_| ()),
        };
        self.root.remove_dirs(&self.folders);
    }
}

/// Writes the bytes beside the final name and makes sure that they are the expected ones.
fn prepare(
    root: &RootDir,
    file: &PlacedFile,
    undo: &mut Undo<'_>,
    progress: Option<&Progress>,
) -> Result<Prepared, Findings> {
    let path = Path::new(&file.destination);
    if let Some(parent) = path.parent() {
        undo.folders.extend(root.make_dirs(parent)?);
    }
    if let FileSource::Tree(placed) = &file.source {
        return prepare_folder(root, file, placed, progress);
    }
    let (mut reader, size) = file.open()?;
    if let Some(progress) = progress {
        progress.begin(format!("placing {}", file.destination), size);
    }
    let mut pending = root.create(path, file.mode)?;
    let (digest, _) = copy_hashed(&mut reader, pending.file(), progress)
        .map_err(|error| root.io_failed("write", path, &error))?;
    // Here, not on commit: a file system may find out only now that it is full.
    pending
        .file()
        .sync_all()
        .map_err(|error| root.io_failed("write", path, &error))?;
    match digest == file.sha256 {
        true => Ok(Prepared::File(pending)),
        false => Err(changed(file, digest)),
    }
}

/// The same for a folder.
fn prepare_folder(
    root: &RootDir,
    file: &PlacedFile,
    placed: &PlacedTree,
    progress: Option<&Progress>,
) -> Result<Prepared, Findings> {
    let path = Path::new(&file.destination);
    let quiet = Progress::new();
    let progress = progress.unwrap_or(&quiet);
    progress.begin(
        format!("placing {}", file.destination),
        placed.tree.content_size(),
    );
    let staged = root.stage(path, file.mode)?;
    let written = folder::write(
        &placed.tree,
        staged.folder(),
        placed.epoch_seconds,
        progress,
    );
    let digest = written.map_err(|error| {
        let message = format!("placing {}: {error}", file.destination);
        match error {
            FolderError::Owner { .. } => Findings::from(owners(&error)),
            FolderError::Read(_) => Finding::error("changed-meanwhile", message)
                .help("run the command again")
                .into(),
            FolderError::Write { .. } => Finding::error("rootfs-io", message).into(),
        }
    })?;
    match digest == file.sha256 {
        true => Ok(Prepared::Folder(staged)),
        false => Err(changed(file, digest)),
    }
}

/// Something that lies ready beside its final name.
enum Prepared {
    File(AtomicFile),
    Folder(AtomicFolder),
}

impl Prepared {
    fn commit(self) -> io::Result<()> {
        match self {
            Prepared::File(pending) => pending.commit(),
            Prepared::Folder(staged) => staged.commit(),
        }
    }
}

fn changed(file: &PlacedFile, digest: [u8; 32]) -> Findings {
    let message = format!(
        "{} changed since it was checked: expected SHA-256 {}, found {}",
        file.source.shown(),
        hex::encode(&file.sha256),
        hex::encode(&digest)
    );
    Finding::error("changed-meanwhile", message)
        .help("run the command again")
        .into()
}

/// What is ours afterwards: what is written now, and what was ours and stays.
fn new_record(
    placements: &Placements,
    files: &[(AppliedFile, &PlacedFile)],
    links: &[AppliedLink],
    intact: &[&RecordedLink],
    known: &Record,
) -> Record {
    let mut record = Record::new(&placements.tool);
    for (file, placed) in files {
        if file.outcome != Outcome::Unchanged || known.owns(&file.path, Some(placed.sha256)) {
            record.files.push(RecordedFile {
                path: file.path.clone(),
                kind: file.kind,
                extensions: file.extensions.clone(),
                size: file.size,
                sha256: file.sha256.clone(),
            });
        }
    }
    // A unit that is not to be enabled is left as it is, so a link of ours stays ours.
    record.links = intact.iter().copied().cloned().collect();
    let new = links
        .iter()
        .filter(|link| link.outcome != Outcome::Unchanged);
    record.links.extend(new.map(|link| RecordedLink {
        path: link.path.clone(),
        target: link.target.clone(),
    }));
    record.folders = known.folders.clone();
    record.tidy();
    record
}

fn absolute(path: &Path) -> String {
    Path::new("/").join(path).to_string_lossy().into_owned()
}
