//! Prebuilt images: digested, unpacked where they are compressed, joined with what lies beside them.

use std::path::Path;

use anyhow::Context as _;
use sha2::Sha256;

use super::sidecars::join_one;
use super::{fields, make_folder, wanted};
use crate::build::manifest::{Companion, Entry, Origin, UnpackedFrom};
use crate::config::model::Verity;
use crate::image::compressed::{Wrapped, unwrap};
use crate::io::atomic_file::AtomicFile;
use crate::io::digest::{digest, digest_file};
use crate::io::open;
use crate::io::progress::Progress;
use crate::plan::ingest::TakenIn;
use crate::plan::{Beside, Plan, Planned, Step};

pub(super) fn take_in_one(
    plan: &Plan,
    extension: &Planned,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let Step::TakeIn(taken) = &extension.step else {
        anyhow::bail!("{} was not gathered", extension.name)
    };
    if taken.ddi.wrapped.is_some() || taken.join.is_some() {
        make_folder(open::folder_of(&extension.image))?;
    }
    let wrapped = match (taken.ddi.wrapped, &taken.join) {
        (Some(wrapped), None) => Some(unwrap_one(extension, taken, wrapped)?),
        (Some(wrapped), Some(_)) => Some(wrapper(&taken.ddi.path, wrapped)?),
        (None, _) => None,
    };
    let repaired = match &taken.join {
        Some(join) => Some(join_one(
            extension,
            taken,
            join,
            &plan.certificates,
            progress,
        )?),
        None => None,
    };
    let reading = || format!("reading {}", extension.image.display());
    let (file, size) = open::open_sized(&extension.image).with_context(reading)?;
    let (sha256, sha384) = match plan.digests {
        true => wanted(&file, size, &extension.name, progress).with_context(reading)?,
        // Both digests of what is no longer the same file are recorded.
        false if wrapped.is_some() => {
            progress.begin(format!("digesting {}", extension.name), size);
            let sha256 = digest::<Sha256>(&file, size, progress).with_context(reading)?;
            (Some(sha256), None)
        }
        false => (None, None),
    };
    // The image was described from what was read then; it must still be the same.
    if let Some(expected) = &taken.sha256 {
        let found = match wrapped.as_ref().map(|it| &it.sha256).or(sha256.as_ref()) {
            Some(found) => found.clone(),
            None => {
                progress.begin(format!("digesting {}", extension.name), size);
                digest::<Sha256>(&file, size, progress).with_context(reading)?
            }
        };
        if !expected.eq_ignore_ascii_case(&found) {
            anyhow::bail!(
                "{} changed while it was read; run the command again",
                extension.image.display()
            );
        }
    }
    Ok(Entry {
        name: extension.name.clone(),
        kind: extension.kind,
        image: format!("{}.raw", extension.name),
        layout: extension.layout(),
        destination: extension.destination.clone(),
        origin: match &repaired {
            Some(_) => Origin::Repaired,
            None => Origin::TakenIn,
        },
        size,
        sha256,
        sha384,
        beside: extension
            .beside
            .iter()
            .map(companion)
            .collect::<anyhow::Result<_>>()?,
        unpacked_from: wrapped,
        format: None,
        verity: repaired.as_ref().map(|_| Verity::Signed),
        root_hash: taken.root_hash(),
        certificate_fingerprint: taken.signer_fingerprint(&plan.certificates),
        repaired,
        release: fields(taken.release()),
    })
}

/// Unpacks a compressed image to where the plan wants it.
fn unwrap_one(
    extension: &Planned,
    taken: &TakenIn,
    wrapped: Wrapped,
) -> anyhow::Result<UnpackedFrom> {
    let path = &taken.ddi.path;
    let reading = || format!("reading {}", path.display());
    let file = open::open(path).with_context(reading)?;
    let from = wrapper(path, wrapped)?;
    let writing = || format!("writing {}", extension.image.display());
    let mut pending = AtomicFile::create(&extension.image, 0o644).with_context(writing)?;
    unwrap(&file, wrapped.codec, pending.file()).with_context(reading)?;
    pending.commit().with_context(writing)?;
    Ok(from)
}

/// What the manifest says of a compressed file.
pub(super) fn wrapper(path: &Path, wrapped: Wrapped) -> anyhow::Result<UnpackedFrom> {
    let (sha256, size) = sha256_of(path)?;
    Ok(UnpackedFrom {
        codec: wrapped.codec,
        size,
        sha256,
    })
}

fn companion(beside: &Beside) -> anyhow::Result<Companion> {
    let (sha256, _) = sha256_of(&beside.file.path)?;
    Ok(Companion {
        kind: beside.file.kind,
        destination: beside.destination.clone(),
        sha256,
    })
}

fn sha256_of(path: &Path) -> anyhow::Result<(String, u64)> {
    let stage = format!("digesting {}", path.display());
    digest_file::<Sha256>(path, stage, &Progress::new())
        .with_context(|| format!("reading {}", path.display()))
}
