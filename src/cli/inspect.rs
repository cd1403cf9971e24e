//! `inspect` and `verify`: one image.

use super::args::{Diff, Inspect, Verify};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::sign::now;
use super::text::{findings, image, plan};
use crate::finding::Finding;
use crate::image::dissect::Ddi;
use crate::image::read::{FileKind, FsError};
use crate::image::signature::KeyFile;
use crate::image::x509::first_pem_as_systemd;
use crate::image::x509::key_pair::KeyPair;
use crate::inspect;
use crate::inspect::verify::{add_negative_control, verify_set};
use crate::inspect::{Entry, Listing};
use crate::output::{Verified, versioned};
use crate::session::predict::open_any;
use crate::sign::trust;

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

pub(crate) fn diff(screen: &Screen, args: &Diff) -> Result<(), Failure> {
    let (one, other) = (open_any(&args.one)?, open_any(&args.other)?);
    let difference = inspect::diff(&one, &other)
        .map_err(|error| Finding::error("file-system-unreadable", error.to_string()))?;
    screen.result(&image::difference(&difference), &difference)?;
    match difference.equal {
        true => Ok(()),
        false => Err(Failure::Said(1)),
    }
}

pub(crate) fn verify(screen: &Screen, args: &Verify) -> Result<(), Failure> {
    let mut trusted = Vec::new();
    for path in &args.certificate {
        trusted.push(trust::read_one(path)?);
    }
    let ddi = open_any(&args.image)?;
    let beside = inspect::Beside::of(&args.image).map_err(|error| {
        let message = format!(
            "reading what lies beside {}: {error}",
            findings::path(&args.image)
        );
        Finding::error("sidecar-unusable", message)
    })?;
    let mut report = watch(screen, |progress| {
        verify_set(&ddi, &beside, &trusted, progress)
    });
    if args.negative_control {
        let stranger = KeyPair::generate("negative control", now(), 1)?;
        let certificate =
            first_pem_as_systemd(&stranger.certificate).map_err(anyhow::Error::from)?;
        let stranger = KeyFile::from_pem(stranger.key.bytes(), &certificate)?;
        add_negative_control(&mut report, &stranger, &trusted)?;
    }
    // Without a certificate nothing can be said of the signer, so only damage counts.
    let good = if trusted.is_empty() {
        report.is_good()
    } else {
        report.is_signed()
    };
    let result = Verified {
        good,
        report: &report,
    };
    screen.result(&plan::report(&report), &versioned(result))?;
    if good {
        if trusted.is_empty() && ddi.signature_partition.is_some() {
            screen.say("the signature was not checked; name the signer with --certificate FILE");
        }
        return Ok(());
    }
    let finding = Finding::error(
        "not-verified",
        format!("{} does not verify", findings::path(&args.image)),
    )
    .help("see the lines marked BAD; a line with `-` has nothing to check");
    Err(finding.into())
}
