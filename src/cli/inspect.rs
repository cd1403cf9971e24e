//! `inspect`: what an image is and holds.

use super::args::Inspect;
use super::output::{Failure, Screen};
use super::text::{findings, image};
use crate::finding::Finding;
use crate::image::dissect::Ddi;
use crate::image::read::{FileKind, FsError};
use crate::inspect;
use crate::inspect::{Entry, Listing};
use crate::session::open_any;

pub(crate) fn inspect(screen: &Screen, args: &Inspect) -> Result<(), Failure> {
    let image = open_any(&args.image)?;
    if args.list || args.mtree || args.cat.is_some() || args.extract.is_some() {
        return look_into(screen, args, &image);
    }
    let inspection = inspect::inspect(image);
    screen.findings(None, &inspection.image.problems);
    screen.result(&image::image(&inspection), &inspection)
}

/// `--list`, `--mtree`, `--cat`, `--extract`.
fn look_into(screen: &Screen, args: &Inspect, image: &Ddi) -> Result<(), Failure> {
    let unreadable = |error: FsError| {
        let finding = Finding::error("file-system-unreadable", error.to_string());
        Failure::from(finding.in_file(&args.image))
    };
    let fs = image.file_system().map_err(unreadable)?;
    if let Some(path) = &args.cat {
        let found = fs.metadata(path).map_err(unreadable)?;
        if found.is_none_or(|found| found.kind != FileKind::File) {
            let message = format!("{} is no file in the image", findings::path(path));
            let finding = Finding::error("path-not-in-image", message);
            return Err(finding
                .help("`inspect IMAGE --list` shows all paths")
                .into());
        }
        let copied = screen.stream(|out| fs.copy(path, out).map(|_| ()))?;
        return copied.map_err(unreadable);
    }
    let entries = inspect::list(&fs).map_err(unreadable)?;
    if args.mtree {
        let written = screen.stream(|out| inspect::mtree(&fs, &entries, out))?;
        return written.map_err(unreadable);
    }
    let Some(into) = &args.extract else {
        let rows: Vec<_> = entries.iter().map(Entry::columns).collect();
        return screen.result(&findings::table(&rows), &Listing::new(entries));
    };
    let done = inspect::extract(&fs, &entries, &args.paths, into, args.force)?;
    let mut notes = Vec::new();
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            notes.push(Finding::note("not-extracted", format!("{count} {what}")).in_file(into));
        }
    };
    note(
        done.devices_left_out,
        "devices were left out, because only root can make them",
    );
    note(
        done.attributes_left_out,
        "attributes were left out, because they could not be set",
    );
    screen.findings(None, &notes);
    let owners = match done.owners {
        true => "",
        false => "; owners and set-id bits are not kept, which takes root",
    };
    let text = format!(
        "{}: {} entries, {}{owners}\n",
        findings::path(into),
        done.entries,
        findings::size(done.bytes)
    );
    screen.result(&text, &done)
}
