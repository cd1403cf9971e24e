//! A prebuilt image with hash tree and signature in files of their own becomes a disk image.

use anyhow::Context as _;
use sha2::Sha256;

use super::measured;
use crate::build::assemble::parts::{Parts, Piece, assemble_parts};
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
use crate::plan::ingest::{ImageFromParts, PrebuiltImage};
use crate::sign::trust::Trusted;

/// Puts what lies beside an image into a new one.
pub(super) fn from_parts(
    extension: &Planned,
    taken: &PrebuiltImage,
    plan: &ImageFromParts,
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
    let mut files = taken.sidecars.files.iter();
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
    let signature = taken.sidecars.signature.clone();
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
    assemble_parts(&parts, &extension.image)
        .map_err(|error| measured(error, std::iter::empty(), extension))?;
    progress.begin(format!("digesting {}", ddi.path.display()), ddi.size);
    Ok(Repaired {
        original_sha256: digest::<Sha256>(ddi.file(), ddi.size, progress).with_context(reading)?,
        changes: plan.changes.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::build::manifest::Origin;
    use crate::build::testing::{built, ids, planned};
    use crate::image::dissect;
    use crate::image::gpt::types::Designator;
    use crate::image::signature::{Signer, sign_root_hash};
    use crate::image::testing::{Protection, disk, erofs, signer, tree};
    use crate::image::verity::leaves::LeafHashes;
    use crate::image::x509::Certificate;
    use crate::inspect::verify::verify;
    use crate::io::open::testing::write;

    /// An image with root hash and signature beside it, a bare one with its hash tree, too.
    fn lay(dir: &Path, bare: bool, signer: &dyn Signer, certificate: &Certificate) -> String {
        let release = "usr/lib/extension-release.d/extension-release.a";
        let fs = erofs(&tree(&[(release, "ID=azurelinux\nVERSION_ID=3.0\n")]));
        let leaves = LeafHashes::new([7; 32], tempfile::tempfile().unwrap());
        leaves.feed(0, &fs).unwrap();
        let area = leaves.hash_area([8; 16]).unwrap();
        let root = area.root_hash().to_string();
        if bare {
            let mut hashes = Vec::new();
            area.write(&mut hashes).unwrap();
            write(dir, "a.verity", hashes);
            write(dir, "a.raw", fs);
        } else {
            write(dir, "a.raw", disk(&fs, Designator::Root, Protection::Hash));
        }
        write(dir, "a.roothash", &root);
        write(
            dir,
            "a.roothash.p7s",
            sign_root_hash(signer, &root).unwrap(),
        );
        write(dir, "cert.pem", certificate.pem());
        root
    }

    const SECTION: &str =
        "  certificates: [cert.pem]\n  extensions: [{image: a.raw, repair: auto}]\n";

    #[test]
    fn an_image_and_what_lies_beside_it_become_one_signed_image() {
        let (own, certificate) = signer("a");
        for bare in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let root = lay(dir.path(), bare, &own, &certificate);
            let made = built(&planned(dir.path(), SECTION)).unwrap();
            let (path, entry) = (&made.images[0].path, &made.images[0].entry);
            assert_eq!(*path, dir.path().join("out/a.raw"));
            let report = verify(path, std::slice::from_ref(&certificate)).unwrap();
            assert!(report.is_signed(), "{report:#?}");
            assert_eq!(report.root_hash, Some(root.clone()));
            assert_eq!(entry.origin, Origin::Repaired);
            assert_eq!(entry.root_hash, Some(root));
            let fingerprint = &certificate.fingerprint_sha256_hex;
            assert_eq!(entry.certificate_fingerprint.as_ref(), Some(fingerprint));
            assert!(entry.beside.is_empty());
            let first = fs::read(path).unwrap();
            built(&planned(dir.path(), SECTION)).unwrap();
            assert!(first == fs::read(path).unwrap());
            let seed = SECTION.replace("auto", &format!("auto, seed: \"{}\"", "5".repeat(64)));
            built(&planned(dir.path(), &seed)).unwrap();
            let (one, two) = (first, fs::read(path).unwrap());
            assert!(one != two);
            let ddi = dissect::open(path).unwrap();
            assert_eq!(ddi.root_hash.map(|it| it.to_string()), entry.root_hash);
        }
    }

    #[test]
    fn a_joined_image_may_be_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let (own, certificate) = signer("a");
        lay(dir.path(), true, &own, &certificate);
        let section = SECTION.replace("auto", "auto, maxSize: 8K");
        let error = built(&planned(dir.path(), &section)).unwrap_err();
        assert_eq!(ids(error), ["too-large"]);
        assert!(!dir.path().join("out/a.raw").exists());
    }
}
