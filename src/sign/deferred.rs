//! Signatures that are made later and elsewhere: what to sign, and putting the answer into the image.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::finding::Finding;
use crate::image::dissect::{Ddi, SignatureState};
use crate::image::signature::{
    SignaturePartition, SignerVerdict, check, envelope, signer_identity,
};
use crate::image::verity::RootHash;
use crate::image::x509::Certificate;
use crate::io::atomic_file::{AtomicFile, write_whole};
use crate::io::digest::digest;
use crate::io::progress::Progress;
use crate::io::{hex, open};

/// Folder below the output directory where attached signatures are kept for later builds.
pub(crate) const SIGNATURES: &str = "signatures";

/// Longest signature file that is read, in bytes.
const MAX_SIGNATURE: u64 = 1 << 20;

/// What a signing service has to sign: `NAME.sign-request.json`, or one file for many images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignRequest {
    /// Version of this format.
    pub schema_version: u32,
    /// One per image.
    pub requests: Vec<Request>,
}

/// What is to be signed for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    /// Name of the extension.
    pub name: String,
    /// File name of the image.
    pub image: String,
    /// Root hash, hex.
    pub root_hash: String,
    /// The bytes to sign, all of them ASCII: no line break, nothing added.
    pub data: String,
    /// SHA-256 of these bytes, hex, for services that sign a digest.
    pub data_sha256: String,
    /// SHA-256 of the certificate in DER whose key is to sign, hex; where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// SHA-256 of the image as it is now, hex.
    pub image_sha256: String,
}

impl SignRequest {
    /// The file's text.
    pub(crate) fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// What is to be signed for an image with a hash tree.
pub(crate) fn request(
    image: &Ddi,
    certificate: Option<&Certificate>,
    progress: &Progress,
) -> Result<Request, Finding> {
    let root = root_hash(image)?;
    let file_name = image.path.file_name().unwrap_or_default();
    let file_name = file_name.to_string_lossy().into_owned();
    progress.begin(format!("digesting {file_name}"), image.size);
    let image_sha256 = digest::<Sha256>(image.file(), image.size, progress).map_err(|error| {
        let message = format!("reading {}: {error}", image.path.display());
        Finding::error("image-unreadable", message)
    })?;
    let data = root.to_string();
    Ok(Request {
        name: file_name
            .strip_suffix(".raw")
            .unwrap_or(&file_name)
            .to_owned(),
        image: file_name,
        root_hash: data.clone(),
        data_sha256: hex::encode(&Sha256::digest(data.as_bytes())),
        data,
        certificate_sha256: certificate.map(|it| it.fingerprint_sha256_hex.clone()),
        image_sha256,
    })
}

/// The root hash of an image that has room for a signature.
pub(crate) fn root_hash(image: &Ddi) -> Result<&RootHash, Finding> {
    let missing = |what: &str, help: &str| {
        let message = format!("{} has no {what}", image.path.display());
        Finding::error("not-signable", message).help(help)
    };
    let root = image.root_hash.as_ref();
    let root = root.ok_or_else(|| missing("hash tree", "build it with `verity: defer`"))?;
    if image.signature_partition.is_none() {
        let help = "build it with `verity: defer`, which leaves room for a signature";
        return Err(missing("room for a signature", help));
    }
    Ok(root)
}

/// What an attach did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attachment {
    /// The image has the signature now.
    Attached,
    /// It had another one before.
    Replaced,
    /// It had this one already.
    Unchanged,
}

/// Makes of what a signing service returned the signature of this image, or says what is wrong:
/// PKCS#7 in DER or PEM, or a raw signature, for which the certificate is needed.
pub(crate) fn read_signature(
    image: &Ddi,
    path: &Path,
    certificate: Option<&Certificate>,
) -> Result<SignaturePartition, Finding> {
    let root = root_hash(image)?;
    let text = root.to_string();
    let refused = |message: String| {
        Finding::error("signature-refused", message)
            .in_file(path)
            .because("systemd checks the signature of the lower-case hex text of the root hash (validate_signature_userspace, src/shared/dissect-image.c)")
            .help(format!("sign the {} bytes `{text}` and give the certificate of that key with --certificate", text.len()))
    };
    let bytes = open::read(path, MAX_SIGNATURE).map_err(|error| {
        Finding::error(
            "signature-unreadable",
            format!("reading the signature: {error}"),
        )
        .in_file(path)
    })?;
    let der = pem_content(&bytes).unwrap_or(bytes);
    if let Ok(signers) = signer_identity(&der) {
        let own = signers.into_iter().filter_map(|signer| signer.certificate);
        let known: Vec<Certificate> = match certificate {
            Some(certificate) => vec![certificate.clone()],
            None => own.collect(),
        };
        return match check(&der, &text, &known) {
            SignerVerdict::Trusted(signer) => Ok(partition(root, &signer, der)),
            SignerVerdict::WrongSignature(_) => Err(refused(format!(
                "the signature is not one of the root hash of {}",
                image.path.display()
            ))),
            SignerVerdict::UnknownSigner(_) => Err(refused(
                "the signature was not made with the key of the given certificate".to_owned(),
            )),
            SignerVerdict::Malformed(why) => {
                Err(refused(format!("the signature can't be read: {why}")))
            }
        };
    }
    let Some(certificate) = certificate else {
        return Err(refused(
            "it is no PKCS#7 signature, and for a raw one the certificate is needed".to_owned(),
        ));
    };
    let made = envelope(certificate, &text, &der).map_err(|error| refused(format!("{error:#}")))?;
    Ok(partition(root, certificate, made))
}

fn partition(root: &RootHash, signer: &Certificate, signature: Vec<u8>) -> SignaturePartition {
    SignaturePartition {
        root_hash: root.as_bytes().to_vec(),
        certificate_fingerprint: Some(signer.fingerprint_sha256_hex.clone()),
        signature,
    }
}

/// The content of the first PEM block, whatever it is called.
fn pem_content(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (_, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let compact: String = body.split_whitespace().collect();
    openssl::base64::decode_block(&compact).ok()
}

/// Puts a signature into an image, which is replaced as a whole or not at all, and keeps it in
/// `signatures/` beside the image, where later builds find it.
pub(crate) fn attach(image: &Ddi, signature: &SignaturePartition) -> anyhow::Result<Attachment> {
    let part = image
        .signature_partition
        .context("the image has no room for a signature")?;
    let kept = keep(&image.path, signature);
    let outcome = match &image.signature {
        SignatureState::Present { partition, .. } if partition == signature => {
            kept?;
            return Ok(Attachment::Unchanged);
        }
        SignatureState::Present { .. } => Attachment::Replaced,
        _ => Attachment::Attached,
    };
    kept?;
    let write = || -> anyhow::Result<()> {
        let bytes = signature.to_bytes()?;
        anyhow::ensure!(
            bytes.len() as u64 <= part.size,
            "the room for the signature has {} bytes, {} are needed",
            part.size,
            bytes.len()
        );
        let mut from: &File = image.file();
        let mode = from.metadata()?.mode() & 0o7777;
        let mut pending = AtomicFile::create(&image.path, mode)?;
        from.seek(SeekFrom::Start(0))?;
        // Shares the blocks where the file system can.
        std::io::copy(&mut from, pending.file())?;
        pending.file().write_all_at(&bytes, part.offset)?;
        pending.file().flush()?;
        Ok(pending.commit()?)
    };
    write().with_context(|| format!("signing {}", image.path.display()))?;
    Ok(outcome)
}

fn keep(image: &Path, signature: &SignaturePartition) -> anyhow::Result<PathBuf> {
    let folder = image.parent().unwrap_or(Path::new("")).join(SIGNATURES);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(format!("{}.p7s", hex::encode(&signature.root_hash)));
    write_whole(&path, &signature.signature, 0o644)?;
    Ok(path)
}

/// The signature that was attached to an earlier build of the same content, if one of `trusted`
/// made it.
pub(crate) fn stored(
    output_directory: &Path,
    root: &RootHash,
    trusted: &[Certificate],
) -> anyhow::Result<Option<SignaturePartition>> {
    let text = root.to_string();
    let path = output_directory
        .join(SIGNATURES)
        .join(format!("{text}.p7s"));
    let signature = match open::read(&path, MAX_SIGNATURE) {
        Ok(signature) => signature,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    Ok(match check(&signature, &text, trusted) {
        SignerVerdict::Trusted(signer) => Some(partition(root, &signer, signature)),
        // By a key that is no longer trusted: as if it were not there.
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::image::dissect;
    use crate::image::gpt::types::Designator;
    use crate::image::signature::{Signer, sign_root_hash};
    use crate::image::testing::{Protection, disk, erofs, signer, tree};
    use crate::inspect::verify::verify;

    fn image(dir: &Path, protection: Protection<'_>) -> Ddi {
        let fs = erofs(&tree(&[("usr/share/x", "x")]));
        let path = dir.join("x.raw");
        fs::write(&path, disk(&fs, Designator::Root, protection)).unwrap();
        dissect::open(&path).unwrap()
    }

    fn text(image: &Ddi) -> String {
        image.root_hash.unwrap().to_string()
    }

    #[test]
    fn only_an_image_with_room_for_a_signature_can_be_signed() {
        let dir = tempfile::tempdir().unwrap();
        for (protection, expected) in [
            (Protection::Nothing, Err("hash tree")),
            (Protection::Hash, Err("room for a signature")),
            (Protection::Room(b""), Ok(())),
            (Protection::Room(b"{}"), Ok(())),
        ] {
            let image = image(dir.path(), protection);
            match (root_hash(&image), expected) {
                (Ok(root), Ok(())) => assert_eq!(root.to_string(), text(&image)),
                (Err(finding), Err(what)) => {
                    assert_eq!(finding.id, "not-signable");
                    assert!(finding.message.ends_with(what), "{}", finding.message);
                }
                (found, _) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_request_is_for_the_text_of_the_root_hash() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path(), Protection::Room(b""));
        let (_, certificate) = signer("a");
        let made = request(&image, Some(&certificate), &Progress::new()).unwrap();
        let digest = |bytes: &[u8]| hex::encode(&Sha256::digest(bytes));
        let file = fs::read(dir.path().join("x.raw")).unwrap();
        assert_eq!(
            made,
            Request {
                name: "x".to_owned(),
                image: "x.raw".to_owned(),
                root_hash: text(&image),
                data: text(&image),
                data_sha256: digest(text(&image).as_bytes()),
                certificate_sha256: Some(digest(&certificate.der)),
                image_sha256: digest(&file),
            }
        );
        let file = SignRequest {
            schema_version: 1,
            requests: vec![made],
        };
        assert_eq!(
            serde_json::from_str::<SignRequest>(&file.to_text().unwrap()).unwrap(),
            file
        );
        let unnamed = request(&image, None, &Progress::new()).unwrap();
        assert_eq!(unnamed.certificate_sha256, None);
    }

    #[test]
    fn what_a_service_returns_becomes_a_signature_of_this_image_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path(), Protection::Room(b""));
        let ((own, certificate), (_, other)) = (signer("a"), signer("b"));
        let root = text(&image);
        let der = sign_root_hash(&own, &root).unwrap();
        let pem = format!(
            "-----BEGIN PKCS7-----\n{}\n-----END PKCS7-----\n",
            openssl::base64::encode_block(&der)
        );
        let raw = own.sign(root.as_bytes()).unwrap();
        let of_line = own.sign(format!("{root}\n").as_bytes()).unwrap();
        let of_other = sign_root_hash(&own, &"0".repeat(64)).unwrap();
        let none = None::<&Certificate>;
        let refused = Err("signature-refused");
        for (what, bytes, certificate, expected) in [
            ("DER", der.as_slice(), Some(&certificate), Ok(())),
            ("DER, by the certificate in it", &der, none, Ok(())),
            ("DER, by another key", &der, Some(&other), refused),
            ("PEM", pem.as_bytes(), Some(&certificate), Ok(())),
            ("raw", &raw, Some(&certificate), Ok(())),
            ("raw, of nobody", &raw, none, refused),
            ("raw, by another key", &raw, Some(&other), refused),
            ("raw, of a line", &of_line, Some(&certificate), refused),
            (
                "of another root hash",
                &of_other,
                Some(&certificate),
                refused,
            ),
            ("of another root hash, by itself", &of_other, none, refused),
            ("nothing", b"", Some(&certificate), refused),
            ("something else", b"hello", none, refused),
        ] {
            let path = dir.path().join("signature");
            fs::write(&path, bytes).unwrap();
            match read_signature(&image, &path, certificate) {
                Ok(made) => {
                    assert_eq!(expected, Ok(()), "{what}");
                    assert_eq!(hex::encode(&made.root_hash), root, "{what}");
                    let known = std::slice::from_ref(certificate.unwrap_or(&other));
                    let verdict = check(&made.signature, &root, known);
                    let trusted = matches!(verdict, SignerVerdict::Trusted(_));
                    assert_eq!(trusted, certificate.is_some(), "{what}");
                }
                Err(finding) => assert_eq!(Err(finding.id), expected, "{what}"),
            }
        }
        let missing = read_signature(&image, &dir.path().join("none"), none);
        assert_eq!(missing.unwrap_err().id, "signature-unreadable");
    }

    #[test]
    fn an_attached_signature_is_in_the_image_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.raw");
        let (own, certificate) = signer("a");
        let first = image(dir.path(), Protection::Room(b""));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let root = first.root_hash.unwrap();
        let made = |tag: &str| {
            let mut signature = partition(
                &root,
                &certificate,
                sign_root_hash(&own, &root.to_string()).unwrap(),
            );
            signature.certificate_fingerprint = Some(tag.to_owned());
            signature
        };
        let (one, two) = (made("one"), made("two"));
        for (signature, expected) in [
            (&one, Attachment::Attached),
            (&one, Attachment::Unchanged),
            (&two, Attachment::Replaced),
        ] {
            let image = dissect::open(&path).unwrap();
            assert_eq!(attach(&image, signature).unwrap(), expected);
            let report = verify(&path, std::slice::from_ref(&certificate)).unwrap();
            assert!(report.signer.is_some(), "{report:?}");
            let SignatureState::Present { partition, .. } = dissect::open(&path).unwrap().signature
            else {
                panic!("there is no signature");
            };
            assert_eq!(partition, *signature);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
            let kept = fs::read_dir(dir.path().join(SIGNATURES)).unwrap();
            assert_eq!(kept.count(), 1);
            let kept = dir.path().join(SIGNATURES).join(format!("{root}.p7s"));
            assert_eq!(fs::read(kept).unwrap(), signature.signature);
        }
    }

    #[test]
    fn without_room_nothing_is_attached() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(dir.path(), Protection::Hash);
        let (_, certificate) = signer("a");
        let signature = partition(&image.root_hash.unwrap(), &certificate, vec![1]);
        let before = fs::read(&image.path).unwrap();
        assert!(attach(&image, &signature).is_err());
        assert_eq!(fs::read(&image.path).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_later_build_finds_the_signature_of_whom_it_trusts() {
        let dir = tempfile::tempdir().unwrap();
        let ((own, certificate), (_, other)) = (signer("a"), signer("b"));
        let image = image(dir.path(), Protection::Room(b""));
        let root = image.root_hash.unwrap();
        let signature = sign_root_hash(&own, &root.to_string()).unwrap();
        let stored = |trusted: &[Certificate]| stored(dir.path(), &root, trusted);
        let trusted = [other.clone(), certificate.clone()];
        assert_eq!(stored(&trusted).unwrap(), None);
        let made = partition(&root, &certificate, signature);
        keep(&image.path, &made).unwrap();
        assert_eq!(stored(&trusted).unwrap(), Some(made));
        assert_eq!(stored(&[other]).unwrap(), None);
        assert_eq!(stored(&[]).unwrap(), None);
        let path = dir.path().join(SIGNATURES).join(format!("{root}.p7s"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(stored(&trusted).is_err());
    }
}
