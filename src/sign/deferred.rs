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
