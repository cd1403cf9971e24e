//! The full cryptographic check of one image.
//!
//! Everything is recomputed from the bytes: the hash tree, what the partition
//! UUIDs and the signature partition say of it, and the signature. Whether a
//! certain base OS would merge the image is not asked here.

use std::path::Path;

use serde::Serialize;

use crate::image::certificate::Certificate;
use crate::image::ddi::{self, Ddi, DdiError, Layout, SignatureState};
use crate::image::hex;
use crate::image::signature::{
    self, SignaturePartition, Signer, SignerIdentity, SignerVerdict, sign_root_hash,
};
use crate::image::verity::{self, RootHash};
use crate::progress::Progress;

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
    /// `hash-partition-uuid`, `signed-root-hash`, `certificate-fingerprint`, `signature`; and
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
/// the whole image once; memory stays small.
pub fn verify(path: &Path, trusted: &[Certificate]) -> Result<Report, DdiError> {
    Ok(verify_ddi(&ddi::open(path)?, trusted, &Progress::new()))
}

/// Adds the check that a signature of the same root hash by `stranger`, who is not trusted, is
/// refused: without it, a good result might mean that everything is taken.
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

/// Checks an image that is already open; recomputing the hash tree is a stage of `progress`.
pub fn verify_ddi(ddi: &Ddi, trusted: &[Certificate], progress: &Progress) -> Report {
    let mut report = Report {
        checks: Vec::new(),
        root_hash: None,
        signer: None,
    };
    report.push("partition-table", partition_table(ddi));
    report.push("file-system", file_system(ddi));
    let root = hash_tree(ddi, &mut report, progress);
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
    signature(ddi, root, trusted, &mut report);
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

fn hash_tree(ddi: &Ddi, report: &mut Report, progress: &Progress) -> Option<RootHash> {
    let (Some(data), Some(hash)) = (ddi.data, ddi.hash) else {
        report.push("hash-tree", Verdict::Absent("no verity partition"));
        return None;
    };
    let name = ddi.path.file_name().unwrap_or_default();
    progress.begin(format!("verifying {}", name.display()), data.size);
    let computed = verity::verify::verify(
        ddi.file(),
        data.offset,
        data.size,
        hash.offset,
        hash.size,
        progress,
    );
    match computed {
        Ok(root) => {
            report.root_hash = Some(root.to_string());
            report.push("hash-tree", Verdict::Ok(root.to_string()));
            Some(root)
        }
        Err(error) => {
            let expected = "a hash tree that matches the data".to_owned();
            report.push("hash-tree", Verdict::Bad(expected, error.to_string()));
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

fn signature(ddi: &Ddi, root: Option<RootHash>, trusted: &[Certificate], report: &mut Report) {
    let partition = match &ddi.signature {
        SignatureState::Present { partition, .. } => partition,
        other => {
            let verdict = || match other {
                SignatureState::Unusable(reason) => Verdict::Bad(
                    "a signature as systemd writes it".to_owned(),
                    reason.clone(),
                ),
                SignatureState::Empty => Verdict::Absent("the signature partition is empty"),
                _ => Verdict::Absent("no signature partition"),
            };
            report.push("signed-root-hash", verdict());
            report.push("certificate-fingerprint", Verdict::Absent("no signature"));
            report.push("signature", verdict());
            return;
        }
    };
    let signed = hex::encode(&partition.root_hash);
    report.push(
        "signed-root-hash",
        match root {
            Some(root) => Verdict::compare(root.to_string(), signed.clone()),
            None => Verdict::Absent("no root hash to compare with"),
        },
    );
    // With a damaged tree it is still worth knowing whose signature this is.
    let text = root.map_or(signed, |root| root.to_string());
    let verdict = signature::check(&partition.signature, &text, trusted);
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
    report.push("certificate-fingerprint", fingerprint(partition, &verdict));
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
fn fingerprint(partition: &SignaturePartition, verdict: &SignerVerdict) -> Verdict {
    let Some(claimed) = &partition.certificate_fingerprint else {
        return Verdict::Absent("no fingerprint in the signature partition");
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
