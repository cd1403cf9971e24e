//! `--trident`: the snippet for hosts that Trident manages, beside what a verb does anyway.

use sha2::Sha384;

use super::apply::refuse_unsigned;
use super::args::TridentArgs;
use super::expand::write;
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::findings;
use crate::finding::Finding;
use crate::image::dissect::Ddi;
use crate::io::digest::digest_file;
use crate::place::trident::{Entry, Listed, PLACEHOLDER, check, check_url, snippet};
use crate::session::Session;
use crate::session::predict::open_image;

/// Writes the snippet if it was asked for; says where it is.
pub(crate) fn trident(
    screen: &Screen,
    session: &Session,
    args: &TridentArgs,
) -> Result<String, Failure> {
    let Some(path) = &args.trident else {
        return Ok(String::new());
    };
    let template = args.trident_url.as_deref().unwrap_or(PLACEHOLDER);
    check_url(template)?;
    session.only_images()?;
    // A signature changes the bytes.
    refuse_unsigned(session, false)?;
    let planned = || session.plan.extensions.iter();
    let images = planned().map(|planned| open_image(&planned.image));
    let images = images.collect::<Result<Vec<Ddi>, Finding>>()?;
    let listed: Vec<Listed<'_>> = planned()
        .zip(&images)
        .map(|(planned, image)| Listed {
            kind: planned.kind,
            at: &planned.at,
            destination: &planned.destination,
            is_alone: planned.beside.is_empty(),
            image,
        })
        .collect();
    let findings = check(&listed);
    if !findings.is_empty() {
        return Err(session.refuse(findings));
    }
    let mut entries = Vec::new();
    for planned in planned() {
        let digest = watch(screen, |progress| {
            let stage = format!("digesting {}", planned.name);
            digest_file::<Sha384>(&planned.image, stage, progress)
        });
        let (sha384, _) = digest.map_err(|error| {
            let message = format!("reading {}: {error}", findings::path(&planned.image));
            Finding::error("image-unreadable", message).at(&planned.at)
        })?;
        entries.push((
            planned.kind,
            Entry::new(template, &planned.destination, &sha384),
        ));
    }
    let mut text = snippet(&entries).map_err(anyhow::Error::from)?;
    if args.trident_url.is_none() {
        text.insert_str(
            0,
            "# Replace HOST/PATH by where the images are served, or give --trident-url.\n",
        );
    }
    write(path, &text)?;
    Ok(format!("trident snippet: {}\n", findings::path(path)))
}
