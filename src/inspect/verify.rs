//! The full cryptographic check of one image.
//!
//! Everything is recomputed from the bytes: the hash tree, what the partition
//! UUIDs, the signature partition and the files beside the image say of it, and
//! the signature. Whether a certain base OS would merge the image is not asked here.

use std::path::Path;

use serde::Serialize;

use crate::image::dissect::{Ddi, DdiError, Layout, Part, SignatureState};
use crate::image::signature::{Signer, SignerIdentity, SignerVerdict, sign_root_hash};
use crate::image::verity::{RootHash, verify};
use crate::image::x509::Certificate;
use crate::image::{dissect, signature};
use crate::inspect::SidecarSet;
use crate::io::hex;
use crate::io::progress::Progress;

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is as it should be.
    Ok,
    /// It is not.
    Bad,
    /// There is nothing to check, or what it needs is missing.
    Absent,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Stable name.
    pub id: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What should be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// All checks of one image, always the same ones in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `partition-table`, `file-system`, `hash-tree`, `data-partition-uuid`,
    /// `hash-partition-uuid`, `sidecar-root-hash`, `signed-root-hash`, `certificate-fingerprint`, `signature`; and
    /// `negative-control`, if that was asked for.
    pub checks: Vec<Check>,
    /// The recomputed root hash, if the tree is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// The trusted certificate that the signature was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<Certificate>,
}

impl Report {
    /// Whether no check is bad. An image without verity has nothing to be bad.
    pub fn is_good(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.outcome != Outcome::Bad)
    }

    /// Whether everything is good and signed by a trusted certificate.
    pub fn is_signed(&self) -> bool {
        self.is_good() && self.root_hash.is_some() && self.signer.is_some()
    }

    /// A check by its id.
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }

    fn push(&mut self, id: &'static str, result: Verdict) {
        let (outcome, expected, found) = match result {
            Verdict::Ok(found) => (Outcome::Ok, None, Some(found)),
            Verdict::Bad(expected, found) => (Outcome::Bad, Some(expected), Some(found)),
            Verdict::Absent(found) => (Outcome::Absent, None, Some(found.to_owned())),
        };
        self.checks.push(Check {
            id,
            outcome,
            expected,
            found,
        });
    }
}

enum Verdict {
    Ok(String),
    Bad(String, String),
    Absent(&'static str),
}

impl Verdict {
    fn compare(expected: String, found: String) -> Verdict {
        match expected == found {
            true => Verdict::Ok(found),
            false => Verdict::Bad(expected, found),
        }
    }
}

/// Opens and checks the image at `path`.
///
/// The signer must be among `trusted`, as for systemd's userspace check. Reads
/// the whole image once; memory stays small. What lies beside it counts as well.
///
/// # Errors
/// Those of [`dissect::open`]; [`DdiError::Io`] also for a file beside the image. A check that
/// fails is no error: see [`Report::is_good`].
pub fn verify(path: &Path, trusted: &[Certificate]) -> Result<Report, DdiError> {
    let ddi = dissect::open(path)?;
    let beside = SidecarSet::of(path).map_err(|source| DdiError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(verify_set(&ddi, &beside, trusted, &Progress::new()))
}

/// Adds the check that a signature of the same root hash by `stranger`, who is not trusted, is
/// refused: without it, a good result might mean that everything is taken.
///
/// # Errors
/// If `stranger` can't sign or has no usable certificate; the report is then as before.
pub fn add_negative_control(
    report: &mut Report,
    stranger: &dyn Signer,
    trusted: &[Certificate],
) -> anyhow::Result<()> {
    let Some(root) = report.root_hash.clone() else {
        report.push("negative-control", Verdict::Absent("no root hash to sign"));
        return Ok(());
    };
    let forged = sign_root_hash(stranger, &root)?;
    let own = [Certificate::from_der(stranger.certificate_der())?];
    let refused = !matches!(
        signature::check(&forged, &root, trusted),
        SignerVerdict::Trusted(_)
    );
    // Refused for its signer and nothing else: whoever trusts the stranger takes it.
    let taken = matches!(
        signature::check(&forged, &root, &own),
        SignerVerdict::Trusted(_)
    );
    let expected = "a signature by a stranger is refused".to_owned();
    report.push(
        "negative-control",
        match (refused, taken) {
            (true, true) => Verdict::Ok(expected),
            (false, _) => Verdict::Bad(expected, "it is taken".to_owned()),
            (true, false) => Verdict::Bad(expected, "it is refused by everybody".to_owned()),
        },
    );
    Ok(())
}

/// Checks an image that is already open, and nothing beside it.
pub fn verify_ddi(ddi: &Ddi, trusted: &[Certificate], progress: &Progress) -> Report {
    verify_set(ddi, &SidecarSet::default(), trusted, progress)
}

/// The same with what lies beside it; recomputing the hash tree is a stage of `progress`.
pub fn verify_set(
    ddi: &Ddi,
    beside: &SidecarSet,
    trusted: &[Certificate],
    progress: &Progress,
) -> Report {
    let mut report = Report {
        checks: Vec::new(),
        root_hash: None,
        signer: None,
    };
    report.push("partition-table", partition_table(ddi));
    report.push("file-system", file_system(ddi));
    let root = hash_tree(ddi, beside, &mut report, progress);
    let (first, last) = match &root {
        Some(root) => {
            let (first, last) = root.uuid_halves();
            (Some(first), Some(last))
        }
        None => (None, None),
    };
    let data = ddi.data.and_then(|part| part.uuid);
    let hash = ddi.hash.and_then(|part| part.uuid);
    report.push("data-partition-uuid", half(first, data));
    report.push("hash-partition-uuid", half(last, hash));
    report.push("sidecar-root-hash", sidecar(beside, root));
    signature(ddi, beside, root, trusted, &mut report);
    report
}

fn partition_table(ddi: &Ddi) -> Verdict {
    const OURS: [&str; 4] = [
        "verity-superblock",
        "signature-malformed",
        "signature-unusable",
        "file-system-unreadable",
    ];
    let broken = ddi
        .problems
        .iter()
        .find(|problem| !OURS.contains(&problem.id));
    match (&ddi.layout, broken) {
        (Layout::Naked, _) => Verdict::Absent("no partition table"),
        (Layout::Gpt(_), Some(problem)) => Verdict::Bad(
            "partitions that belong together".to_owned(),
            problem.message.clone(),
        ),
        (Layout::Gpt(table), None) if table.from_backup => Verdict::Bad(
            "a good primary header".to_owned(),
            "only the backup header is good".to_owned(),
        ),
        (Layout::Gpt(table), None) => Verdict::Ok(format!("{} partitions", table.entries.len())),
    }
}

fn file_system(ddi: &Ddi) -> Verdict {
    let unreadable = ddi
        .problems
        .iter()
        .find(|problem| problem.id == "file-system-unreadable");
    match (ddi.fs_kind, unreadable) {
        (Some(kind), None) => Verdict::Ok(kind.name().to_owned()),
        (_, Some(problem)) => {
            Verdict::Bad("a readable file system".to_owned(), problem.message.clone())
        }
        (None, None) => Verdict::Absent("no data partition"),
    }
}

fn hash_tree(
    ddi: &Ddi,
    beside: &SidecarSet,
    report: &mut Report,
    progress: &Progress,
) -> Option<RootHash> {
    let part = |part: Part| (ddi.file(), part.offset, part.size);
    let areas = match (ddi.data, ddi.hash, &beside.hash_tree) {
        (Some(data), Some(hash), _) => Ok(Some((part(data), part(hash)))),
        (Some(data), None, Some(file)) if ddi.layout == Layout::Naked => {
            let length = file.metadata().map(|it| it.len());
            length.map(|length| Some((part(data), (file, 0, length))))
        }
        _ => Ok(None),
    };
    let name = ddi.path.file_name().unwrap_or_default();
    let computed = match areas {
        Ok(None) => {
            report.push("hash-tree", Verdict::Absent("no hash tree"));
            return None;
        }
        Ok(Some((data, hash))) => {
            progress.begin(format!("verifying {}", name.display()), data.2);
            verify::verify(data, hash, progress).map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("reading the hash tree beside it: {error}")),
    };
    match computed {
        Ok(root) => {
            report.root_hash = Some(root.to_string());
            report.push("hash-tree", Verdict::Ok(root.to_string()));
            Some(root)
        }
        Err(error) => {
            let expected = "a hash tree that matches the data".to_owned();
            report.push("hash-tree", Verdict::Bad(expected, error));
            None
        }
    }
}

fn half(expected: Option<[u8; 16]>, found: Option<[u8; 16]>) -> Verdict {
    let text = |bytes| uuid::Uuid::from_bytes(bytes).to_string();
    match (expected, found) {
        (Some(expected), Some(found)) => Verdict::compare(text(expected), text(found)),
        _ => Verdict::Absent("no root hash to compare with"),
    }
}

/// A root hash beside the image goes before what its partitions spell out
/// (`verity_settings_load`, systemd `src/shared/dissect-image.c`).
fn sidecar(beside: &SidecarSet, root: Option<RootHash>) -> Verdict {
    match (&beside.root_hash, root) {
        (None, _) => Verdict::Absent("no root hash beside the image"),
        (Some(Err(reason)), _) => Verdict::Bad("a root hash".to_owned(), reason.clone()),
        (Some(Ok(hash)), Some(root)) => Verdict::compare(root.to_string(), hash.clone()),
        (Some(Ok(_)), None) => Verdict::Absent("no root hash to compare with"),
    }
}

fn signature(
    ddi: &Ddi,
    beside: &SidecarSet,
    root: Option<RootHash>,
    trusted: &[Certificate],
    report: &mut Report,
) {
    let (pkcs7, signed, claimed) = match (&beside.signature, &ddi.signature) {
        (Some(pkcs7), _) => (pkcs7, None, None),
        (None, SignatureState::Present { partition, .. }) => (
            &partition.signature,
            Some(hex::encode(&partition.root_hash)),
            partition.certificate_fingerprint.as_deref(),
        ),
        (None, other) => {
            let verdict = || match other {
                SignatureState::Unusable(reason) => Verdict::Bad(
                    "a signature as systemd writes it".to_owned(),
                    reason.clone(),
                ),
                SignatureState::Empty => Verdict::Absent("the signature partition is empty"),
                _ => Verdict::Absent("no signature"),
            };
            report.push("signed-root-hash", verdict());
            report.push("certificate-fingerprint", Verdict::Absent("no signature"));
            report.push("signature", verdict());
            return;
        }
    };
    report.push(
        "signed-root-hash",
        match (root, &signed) {
            (Some(root), Some(signed)) => Verdict::compare(root.to_string(), signed.clone()),
            (None, Some(_)) => Verdict::Absent("no root hash to compare with"),
            (_, None) => Verdict::Absent("a signature beside the image names none"),
        },
    );
    // With a damaged tree it is still worth knowing whose signature this is.
    let said = signed.or_else(|| beside.root_hash.clone()?.ok());
    let text = root.map_or(said.unwrap_or_default(), |root| root.to_string());
    let verdict = signature::check(pkcs7, &text, trusted);
    if trusted.is_empty() && matches!(verdict, SignerVerdict::UnknownSigner(_)) {
        report.push(
            "certificate-fingerprint",
            Verdict::Absent("no certificate to compare with"),
        );
        report.push(
            "signature",
            Verdict::Absent("no certificate to check it with"),
        );
        return;
    }
    report.push("certificate-fingerprint", fingerprint(claimed, &verdict));
    let expected = format!(
        "a signature by one of {} trusted certificates",
        trusted.len()
    );
    let verdict = match verdict {
        SignerVerdict::Trusted(certificate) => {
            let found = format!(
                "{} ({})",
                certificate.subject, certificate.fingerprint_sha256_hex
            );
            report.signer = Some(certificate);
            Verdict::Ok(found)
        }
        SignerVerdict::UnknownSigner(signers) => Verdict::Bad(
            expected,
            format!("signed by {}, not trusted", named(&signers)),
        ),
        SignerVerdict::WrongSignature(signers) => Verdict::Bad(
            format!("a signature of {text}"),
            format!("by {}, but of something else", named(&signers)),
        ),
        SignerVerdict::Malformed(reason) => Verdict::Bad(expected, reason),
    };
    report.push("signature", verdict);
}

fn named(signers: &[SignerIdentity]) -> String {
    let names: Vec<String> = signers
        .iter()
        .map(|signer| match &signer.certificate {
            Some(certificate) => {
                format!(
                    "{} ({})",
                    certificate.subject, certificate.fingerprint_sha256_hex
                )
            }
            None => format!("the certificate {} of {}", signer.serial, signer.issuer),
        })
        .collect();
    names.join(" and ")
}

/// systemd ignores the fingerprint; tools choose certificates by it.
fn fingerprint(claimed: Option<&str>, verdict: &SignerVerdict) -> Verdict {
    let Some(claimed) = claimed else {
        return Verdict::Absent("no fingerprint beside the signature");
    };
    let actual = match verdict {
        SignerVerdict::Trusted(certificate) => Some(certificate),
        SignerVerdict::UnknownSigner(signers) | SignerVerdict::WrongSignature(signers) => signers
            .first()
            .and_then(|signer| signer.certificate.as_ref()),
        SignerVerdict::Malformed(_) => None,
    };
    match actual {
        Some(certificate) => Verdict::compare(
            certificate.fingerprint_sha256_hex.clone(),
            claimed.to_ascii_lowercase(),
        ),
        None => Verdict::Absent("no certificate to compare with"),
    }
}
