//! `verify`: hash tree and signature of an image.

use super::args::Verify;
use super::environment::now;
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::{findings, plan};
use crate::finding::Finding;
use crate::image::signature::KeyFile;
use crate::image::x509::first_pem_as_systemd;
use crate::image::x509::key_pair::KeyPair;
use crate::inspect;
use crate::inspect::verify::{add_negative_control, verify_set};
use crate::output::{Verified, versioned};
use crate::session::open_any;
use crate::sign::trust;

pub(crate) fn verify(screen: &Screen, args: &Verify) -> Result<(), Failure> {
    let mut trusted = Vec::new();
    for path in &args.certificate {
        trusted.push(trust::read_one(path)?);
    }
    let ddi = open_any(&args.image)?;
    let beside = inspect::SidecarSet::of(&args.image).map_err(|error| {
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
