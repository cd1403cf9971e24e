//! Prebuilt images: digested, unpacked where they are compressed, joined with what lies beside them.

use std::path::Path;

use anyhow::Context as _;
use sha2::Sha256;

use super::sidecars::from_parts;
use super::{fields, make_folder, wanted};
use crate::build::manifest::{Entry, Origin, SidecarEntry, UnpackedFrom};
use crate::config::model::VerityMode;
use crate::image::compressed::{Compressed, unwrap};
use crate::io::atomic_file::AtomicFile;
use crate::io::digest::{digest, digest_file};
use crate::io::open;
use crate::io::progress::Progress;
use crate::plan::ingest::PrebuiltImage;
use crate::plan::{PlacedSidecar, Plan, Planned, Step};

pub(super) fn prebuilt_one(
    plan: &Plan,
    extension: &Planned,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let Step::PrebuiltImage(taken) = &extension.step else {
        anyhow::bail!("{} was not gathered", extension.name)
    };
    if taken.ddi.compressed.is_some() || taken.from_parts.is_some() {
        make_folder(open::folder_of(&extension.image))?;
    }
    let compressed = match (taken.ddi.compressed, &taken.from_parts) {
        (Some(compressed), None) => Some(decompress_one(extension, taken, compressed)?),
        (Some(compressed), Some(_)) => Some(compressed_file(&taken.ddi.path, compressed)?),
        (None, _) => None,
    };
    let repaired = match &taken.from_parts {
        Some(join) => Some(from_parts(
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
        false if compressed.is_some() => {
            progress.begin(format!("digesting {}", extension.name), size);
            let sha256 = digest::<Sha256>(&file, size, progress).with_context(reading)?;
            (Some(sha256), None)
        }
        false => (None, None),
    };
    // The image was described from what was read then; it must still be the same.
    if let Some(expected) = &taken.sha256 {
        let found = match compressed.as_ref().map(|it| &it.sha256).or(sha256.as_ref()) {
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
            .map(sidecar_entry)
            .collect::<anyhow::Result<_>>()?,
        unpacked_from: compressed,
        format: None,
        verity: repaired.as_ref().map(|_| VerityMode::Signed),
        root_hash: taken.root_hash(),
        certificate_fingerprint: taken.signer_fingerprint(&plan.certificates),
        repaired,
        release: fields(taken.release()),
    })
}

/// Unpacks a compressed image to where the plan wants it.
fn decompress_one(
    extension: &Planned,
    taken: &PrebuiltImage,
    compressed: Compressed,
) -> anyhow::Result<UnpackedFrom> {
    let path = &taken.ddi.path;
    let reading = || format!("reading {}", path.display());
    let file = open::open(path).with_context(reading)?;
    let from = compressed_file(path, compressed)?;
    let writing = || format!("writing {}", extension.image.display());
    let mut pending = AtomicFile::create(&extension.image, 0o644).with_context(writing)?;
    unwrap(&file, compressed.codec, pending.file()).with_context(reading)?;
    pending.commit().with_context(writing)?;
    Ok(from)
}

/// What the manifest says of a compressed file.
pub(super) fn compressed_file(path: &Path, compressed: Compressed) -> anyhow::Result<UnpackedFrom> {
    let (sha256, size) = sha256_of(path)?;
    Ok(UnpackedFrom {
        codec: compressed.codec,
        size,
        sha256,
    })
}

fn sidecar_entry(beside: &PlacedSidecar) -> anyhow::Result<SidecarEntry> {
    let (sha256, _) = sha256_of(&beside.file.path)?;
    Ok(SidecarEntry {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use sha2::Digest;

    use super::*;
    use crate::build::testing::{built, planned};
    use crate::image::compressed::Codec;
    use crate::image::gpt::types::Designator;
    use crate::image::sidecar::SidecarKind;
    use crate::image::testing::{Protection, disk, erofs, signer, tree};
    use crate::io::hex;
    use crate::io::open::testing::write;

    fn image(protection: Protection<'_>) -> Vec<u8> {
        let release = "usr/lib/extension-release.d/extension-release.a";
        let fs = erofs(&tree(&[(release, "ID=azurelinux\nVERSION_ID=3.0\n")]));
        disk(&fs, Designator::Root, protection)
    }

    fn sha256(bytes: &[u8]) -> String {
        hex::encode(&Sha256::digest(bytes))
    }

    #[test]
    fn an_image_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (own, certificate) = signer("a");
        for (bytes, hash, signed) in [
            (image(Protection::Nothing), false, false),
            (image(Protection::Hash), true, false),
            (image(Protection::Room(b"")), true, false),
            (image(Protection::Signed(&own)), true, true),
        ] {
            write(dir.path(), "a.raw", &bytes);
            write(dir.path(), "cert.pem", certificate.pem());
            let section = "  certificates: [cert.pem]\n  extensions: [a.raw]\n";
            let made = built(&planned(dir.path(), section)).unwrap();
            let entry = &made.images[0].entry;
            assert_eq!(made.images[0].path, dir.path().join("a.raw"));
            assert_eq!(entry.origin, Origin::TakenIn);
            assert_eq!(entry.sha256, Some(sha256(&bytes)));
            assert_eq!(entry.size, bytes.len() as u64);
            assert_eq!(entry.root_hash.is_some(), hash);
            assert_eq!(entry.release["VERSION_ID"], "3.0");
            assert!(entry.unpacked_from.is_none() && entry.beside.is_empty());
            let fingerprint = signed.then(|| certificate.fingerprint_sha256_hex.clone());
            assert_eq!(entry.certificate_fingerprint, fingerprint);
            assert!(fs::read(dir.path().join("a.raw")).unwrap() == bytes);
            assert!(!dir.path().join("out").exists());
        }
    }

    #[test]
    fn an_image_that_changed_since_it_was_planned_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = image(Protection::Nothing);
        for digests in [true, false] {
            write(dir.path(), "a.raw", &bytes);
            let section = format!(
                "  extensions: [{{image: {{path: a.raw, sha256: {}}}}}]\n",
                sha256(&bytes)
            );
            let mut plan = planned(dir.path(), &section);
            plan.digests = digests;
            assert!(built(&plan).is_ok());
            write(dir.path(), "a.raw", image(Protection::Hash));
            let error = built(&plan).unwrap_err();
            assert!(
                error.to_string().contains("changed while it was read"),
                "{error:#}"
            );
        }
    }

    #[test]
    fn a_compressed_image_is_unpacked_and_both_digests_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = image(Protection::Hash);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&bytes).unwrap();
        let packed = packed.finish().unwrap();
        write(dir.path(), "a.raw.gz", &packed);
        for digests in [true, false] {
            let mut plan = planned(dir.path(), "  extensions: [a.raw.gz]\n");
            plan.digests = digests;
            let made = built(&plan).unwrap();
            let entry = &made.images[0].entry;
            let from = UnpackedFrom {
                codec: Codec::Gzip,
                size: packed.len() as u64,
                sha256: sha256(&packed),
            };
            assert_eq!(entry.unpacked_from, Some(from));
            assert_eq!(entry.sha256, Some(sha256(&bytes)));
            assert_eq!(entry.sha384.is_some(), digests);
            assert_eq!(made.images[0].path, dir.path().join("out/a.raw"));
            assert!(fs::read(dir.path().join("out/a.raw")).unwrap() == bytes);
        }
    }

    #[test]
    fn what_goes_with_an_image_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = image(Protection::Hash);
        write(dir.path(), "a.raw", &bytes);
        let root = crate::image::dissect::open(&dir.path().join("a.raw")).unwrap();
        let root = root.root_hash.unwrap().to_string();
        write(dir.path(), "a.roothash", &root);
        let made = built(&planned(dir.path(), "  extensions: [a.raw]\n")).unwrap();
        let expected = SidecarEntry {
            kind: SidecarKind::RootHash,
            destination: "/var/lib/extensions/a.roothash".to_owned(),
            sha256: sha256(root.as_bytes()),
        };
        assert_eq!(made.images[0].entry.beside, [expected]);
    }
}
