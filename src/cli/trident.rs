//! `--trident`: the snippet for hosts that Trident manages, beside what a verb does anyway.

use sha2::Sha384;

use super::args::TridentArgs;
use super::predict::open_image;
use super::progress::watch;
use super::render;
use super::screen::{Failure, Screen};
use super::session::Session;
use super::{apply::refuse_unsigned, expand::write};
use crate::digest::digest_file;
use crate::finding::Finding;
use crate::image::ddi::Ddi;
use crate::trident::{Entry, Listed, PLACEHOLDER, check, check_url, snippet};

/// Writes the snippet if it was asked for; says where it is.
pub(super) fn trident(
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
            let message = format!("reading {}: {error}", render::path(&planned.image));
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
    Ok(format!("trident snippet: {}\n", render::path(path)))
}
