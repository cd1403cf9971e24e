//! A prebuilt image with hash tree and signature in files of their own becomes a disk image.

use anyhow::Context as _;
use sha2::Sha256;

use super::measured;
use crate::build::assemble::join::{Parts, Piece, join};
use crate::build::identity::Seed;
use crate::build::manifest::Repaired;
use crate::image::dissect::Part;
use crate::image::gpt::types::{Designator, PartitionType, Role};
use crate::image::sidecar::SidecarKind;
use crate::image::signature::SignaturePartition;
use crate::io::digest::digest;
use crate::io::open;
use crate::io::progress::Progress;
use crate::plan::Planned;
use crate::plan::ingest::{Join, TakenIn};
use crate::sign::trust::Trusted;

/// Puts what lies beside an image into a new one.
pub(super) fn join_one(
    extension: &Planned,
    taken: &TakenIn,
    plan: &Join,
    trusted: &[Trusted],
    progress: &Progress,
) -> anyhow::Result<Repaired> {
    let ddi = &taken.ddi;
    let reading = || format!("reading {}", ddi.path.display());
    let of_image = |part: Part| Piece {
        file: ddi.file(),
        offset: part.offset,
        size: part.size,
    };
    let data = ddi.data.map(of_image).context("there is no file system")?;
    let mut files = taken.along.files.iter();
    let tree = files.find(|file| file.kind == SidecarKind::HashTree);
    let tree = tree.map(|file| open::open_sized(&file.path));
    let tree = tree
        .transpose()
        .context("reading the hash tree beside it")?;
    let beside = tree.as_ref().map(|(file, size)| Piece {
        file,
        offset: 0,
        size: *size,
    });
    let hash = ddi.hash.map(of_image).or(beside);
    let hash = hash.context("there is no hash tree")?;
    let seed = match &plan.seed {
        Some(text) => Seed::parse(text).context("reading the seed")?,
        None => Seed::of_root_hash(&plan.root_hash),
    };
    let signature_type = PartitionType::new(plan.arch, Designator::Root, Role::Signature);
    let signature_type = signature_type.guid();
    let signature_type = signature_type
        .with_context(|| format!("{} has no partition type for extensions", plan.arch))?;
    let signature = taken.along.signature.clone();
    let signature = signature.context("there is no signature")?;
    let parts = Parts {
        data,
        hash,
        root_hash: plan.root_hash,
        signature: &SignaturePartition {
            root_hash: plan.root_hash.as_bytes().to_vec(),
            certificate_fingerprint: taken.signer_fingerprint(trusted),
            signature,
        },
        arch: plan.arch,
        disk: seed.disk_guid()?,
        signature_id: seed.partition_guid(signature_type)?,
        max_size: plan.max_size,
        progress,
    };
    progress.begin(
        format!("joining {}", extension.name),
        data.size.saturating_add(hash.size),
    );
    join(&parts, &extension.image)
        .map_err(|error| measured(error, std::iter::empty(), extension))?;
    progress.begin(format!("digesting {}", ddi.path.display()), ddi.size);
    Ok(Repaired {
        original_sha256: digest::<Sha256>(ddi.file(), ddi.size, progress).with_context(reading)?,
        changes: plan.changes.clone(),
    })
}
