//! `inspect` and `verify`: one image.

use super::args::{Inspect, Verify};
use super::progress::watch;
use super::screen::{Failure, Screen};
use super::session::open_image;
use super::sign::now;
use super::{portrait, render, show};
use crate::finding::Finding;
use crate::image::certificate::first_pem_as_systemd;
use crate::image::signature::KeyFile;
use crate::verify::{add_negative_control, verify_ddi};
use crate::{inspect, key, trust};

pub(super) fn inspect(screen: &Screen, args: &Inspect) -> Result<(), Failure> {
    let inspection = inspect::inspect(open_image(&args.image)?);
    screen.findings(None, &inspection.image.problems);
    screen.result(&portrait::image(&inspection), &inspection)
}

pub(super) fn verify(screen: &Screen, args: &Verify) -> Result<(), Failure> {
    let mut trusted = Vec::new();
    for path in &args.certificate {
        trusted.push(trust::read_one(path)?);
    }
    let ddi = open_image(&args.image)?;
    let mut report = watch(screen, |progress| verify_ddi(&ddi, &trusted, progress));
    if args.negative_control {
        let stranger = key::generate("negative control", now(), 1)?;
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
    let mut value = serde_json::to_value(&report).map_err(anyhow::Error::from)?;
    if let Some(map) = value.as_object_mut() {
        map.insert("schemaVersion".to_owned(), 1.into());
        map.insert("good".to_owned(), good.into());
    }
    screen.result(&show::report(&report), &value)?;
    if good {
        if trusted.is_empty() && ddi.signature_partition.is_some() {
            screen.say("the signature was not checked; name the signer with --certificate FILE");
        }
        return Ok(());
    }
    let finding = Finding::error(
        "not-verified",
        format!("{} does not verify", render::path(&args.image)),
    )
    .help("see the lines marked BAD; a line with `-` has nothing to check");
    Err(finding.into())
}
