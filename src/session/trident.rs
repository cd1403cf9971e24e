//! What Trident needs to know of a session's images.

use sha2::Sha384;

use super::{Session, Stopped, open_image};
use crate::finding::Finding;
use crate::finding::text::path;
use crate::image::dissect::Ddi;
use crate::io::digest::digest_file;
use crate::io::progress::Progress;
use crate::place::trident::{Entry, Listed, PLACEHOLDER, check, check_url, snippet};

impl Session {
    /// The `os.sysexts` and `os.confexts` of a Trident host configuration for the images as they lie
    /// there; `url` is a template with `{file}`, `{name}` or `{sha384}` in it.
    ///
    /// # Errors
    /// What Trident would refuse, and images that await a signature, which would change their bytes.
    pub fn trident(&self, url: Option<&str>, progress: &Progress) -> Result<String, Stopped> {
        let template = url.unwrap_or(PLACEHOLDER);
        check_url(template)?;
        self.only_images()?;
        self.all_signed()?;
        let planned = || self.plan.extensions.iter();
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
            return Err(self.refuse(findings));
        }
        let mut entries = Vec::new();
        for planned in planned() {
            let stage = format!("digesting {}", planned.name);
            let digest = digest_file::<Sha384>(&planned.image, stage, progress);
            let (sha384, _) = digest.map_err(|error| {
                let message = format!("reading {}: {error}", path(&planned.image));
                Finding::error("image-unreadable", message).at(&planned.at)
            })?;
            entries.push((
                planned.kind,
                Entry::new(template, &planned.destination, &sha384),
            ));
        }
        let mut text = snippet(&entries).map_err(anyhow::Error::from)?;
        if url.is_none() {
            text.insert_str(
                0,
                "# Replace HOST/PATH by where the images are served, or give --trident-url.\n",
            );
        }
        Ok(text)
    }
}
