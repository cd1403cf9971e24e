//! What dm-verity, the signature and the image policy do to an image.

use std::ops::ControlFlow;

use super::policy::{Admitted, Policy, PolicyError, Shape};
use super::{Case, Host, Sidecars, Verdict};
use crate::base::kernel::Support;
use crate::image::dissect::{Ddi, Layout, SignatureState};
use crate::image::gpt::types::Designator;
use crate::image::read::FsKind;
use crate::image::signature::{SignerVerdict, check};
use crate::inspect::verify::{Outcome, Report};
use crate::io::hex;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::citations;

/// Whether systemd takes the option at all; if not, the command fails and nothing is merged,
/// folders included.
pub(super) fn option(systemd: SystemdBuild, case: &mut Case<'_>) {
    let Some(text) = case.service.image_policy else {
        return;
    };
    if !systemd.has(Change::ImagePolicy) {
        return case.worsen(
            Verdict::BlocksAll,
            "image-policy-unsupported",
            format!("systemd {systemd} knows no image policy, its service would fail"),
            Change::ImagePolicy.source(),
            "use `imagePolicy: default`",
        );
    }
    if let Err(PolicyError::Invalid(why)) = Policy::parse(text) {
        case.worsen(
            Verdict::BlocksAll,
            "image-policy-syntax",
            format!("systemd does not take the image policy `{text}`: {why}"),
            citations::POLICY_SYNTAX,
            "write `imagePolicy: signed`, or a policy of systemd.image-policy(7)",
        );
    }
}

/// A folder, of which no policy says anything: told where the policy would refuse an image that is as
/// unprotected.
pub(super) fn folder(systemd: SystemdBuild, case: &mut Case<'_>) {
    let policy = case.service.image_policy.map(Policy::parse);
    let naked = Shape {
        partitioned: false,
        designator: Designator::Root,
        hash: false,
        signature: false,
        encrypted: false,
    };
    if systemd.has(Change::ImagePolicy)
        && case.verdict.merges()
        && let Some(Ok(policy)) = policy
        && policy.rule(naked, systemd).is_err()
    {
        case.worsen(
            Verdict::MergesUnprotected,
            "policy-passes-over-folder",
            "the image policy demands protection, and this folder is merged without any",
            citations::POLICY_IS_FOR_IMAGES,
            "make it a signed image, or accept that nothing checks its content",
        );
    }
}

pub(super) fn judge(
    host: &Host<'_>,
    systemd: SystemdBuild,
    ddi: &Ddi,
    report: &Report,
    sidecars: &Sidecars,
    case: &mut Case<'_>,
) {
    let none = Sidecars::default();
    let sidecars = match case.service.is_off("SYSTEMD_DISSECT_VERITY_SIDECAR") {
        true => &none,
        false => sidecars,
    };
    if beside(systemd, ddi, sidecars, case).is_break() {
        return;
    }
    let Some(admitted) = policy(systemd, ddi, sidecars, case) else {
        return;
    };
    let mut image = Protection {
        host,
        systemd,
        ddi,
        report,
        sidecars,
        admitted,
    };
    if case.service.is_off("SYSTEMD_DISSECT_VERITY_EMBEDDED") {
        image.admitted.signature = false;
    }
    image.read_metadata(case);
    let verdict = image.mounted(case);
    case.verdict = case.verdict.max(verdict);
}

/// What lies beside an image and is at odds with it; `Break` where systemd gives up, or does what is
/// not known.
fn beside(
    systemd: SystemdBuild,
    ddi: &Ddi,
    sidecars: &Sidecars,
    case: &mut Case<'_>,
) -> ControlFlow<()> {
    let mut stops = |id, message: &str, help| {
        case.worsen(Verdict::BlocksAll, id, message, citations::SIDECARS, help);
        ControlFlow::Break(())
    };
    let replace = "remove the files beside the image, or write them anew";
    if let Some(why) = &sidecars.unusable {
        return stops("sidecar-unusable", why, replace);
    }
    let partitioned = matches!(ddi.layout, Layout::Gpt(_));
    if partitioned && sidecars.hash_tree.is_some() {
        let message =
            "a hash tree lies beside the image, which is for images without a partition table";
        return stops("sidecar-hash-tree", message, "remove the `.verity` file");
    }
    match &sidecars.root_hash {
        // `dissect_image` ends with EADDRNOTAVAIL where the partitions of a root hash are not there.
        Some((designator, _)) if partitioned && *designator != ddi.designator => {
            let message = format!(
                "the file beside the image is for a {} partition, the image has one of {}",
                designator.name(),
                ddi.designator.name()
            );
            return stops("sidecar-other-partition", &message, replace);
        }
        Some(_) if partitioned && ddi.hash.is_none() => {
            let message = "a root hash lies beside the image, which has no hash tree";
            return stops("sidecar-root-hash", message, replace);
        }
        // `dissect_image` looks for the partition whose UUID is the first half.
        Some((_, hash)) if partitioned => {
            let uuid = ddi.data.and_then(|data| data.uuid);
            if uuid.is_none_or(|uuid| !hash.starts_with(&uuid)) {
                let message = "the root hash beside the image is not that of its partitions";
                return stops("sidecar-root-hash", message, replace);
            }
        }
        _ if !partitioned && !sidecars.is_empty() && !sidecars.cover() => {
            let message = "what lies beside the image is not used: it takes a `.roothash` and a `.verity` file";
            let help = "put both beside the image, or make it a disk image with a signature";
            let not_used = Verdict::MergesUnprotected;
            case.worsen(
                not_used,
                "sidecar-incomplete",
                message,
                citations::SIDECARS,
                help,
            );
        }
        _ => {}
    }
    if sidecars.signature.is_some() && !systemd.has(Change::UserspaceSignature) {
        let message = "systemd 249 leaves signatures to the kernel, whose keyring is not seen here";
        case.unknown(
            "sidecar-signature",
            message,
            "use a newer systemd, or leave out the signature",
        );
    }
    ControlFlow::Continue(())
}

fn policy(
    systemd: SystemdBuild,
    ddi: &Ddi,
    sidecars: &Sidecars,
    case: &mut Case<'_>,
) -> Option<Admitted> {
    let partitioned = matches!(ddi.layout, Layout::Gpt(_));
    let covered = !partitioned && sidecars.cover();
    let shape = Shape {
        partitioned,
        designator: ddi.designator,
        hash: ddi.hash.is_some() || covered,
        signature: ddi.signature_partition.is_some() || (covered && sidecars.signature.is_some()),
        encrypted: ddi.fs_kind == Some(FsKind::Luks),
    };
    let everything = Admitted {
        hash: shape.hash,
        signature: shape.signature,
        verity_suffices: true,
    };
    if !systemd.has(Change::ImagePolicy) {
        return Some(everything);
    }
    let text = case.service.image_policy;
    let policy = match text.map(Policy::parse) {
        None => Policy::default_of(case.candidate.kind),
        Some(Ok(policy)) => policy,
        // `option` has told.
        Some(Err(PolicyError::Invalid(_))) => return None,
        Some(Err(PolicyError::NotJudged(what))) => {
            case.unknown(
                "policy-not-evaluated",
                format!("what {what} in the image policy admits is not judged"),
                "leave it out of the policy, or go on with --allow-unknown",
            );
            return None;
        }
    };
    match policy.rule(shape, systemd) {
        Ok(admitted) => Some(admitted),
        Err(why) => {
            let own = "systemd's own policy";
            let shown = text.map_or(own.to_owned(), |text| format!("`{text}`"));
            case.worsen(
                Verdict::BlocksAll,
                "policy-refuses-image",
                format!("{shown} refuses the image: {why}"),
                citations::POLICY,
                "sign it, or change `imagePolicy`",
            );
            None
        }
    }
}

/// Where a root hash comes from, by which a hash tree can be used.
enum RootHash<'a> {
    /// From a file or an attribute beside the image, perhaps with a signature.
    Sidecar(&'a [u8], Option<&'a [u8]>),
    /// From the signature partition, with its signature.
    Signed(&'a [u8], &'a [u8]),
    /// From the ids of the partitions.
    Guessed,
}

struct Protection<'a> {
    host: &'a Host<'a>,
    systemd: SystemdBuild,
    ddi: &'a Ddi,
    report: &'a Report,
    sidecars: &'a Sidecars,
    admitted: Admitted,
}

impl<'a> Protection<'a> {
    /// Where metadata is read through dm-verity, under systemd's own policy, a hash tree has to work
    /// even if the unit's policy passes over it.
    fn read_metadata(&self, case: &mut Case<'_>) {
        let through_verity = self.systemd.has(Change::MetadataThroughVerity);
        if !through_verity || self.ddi.hash.is_none() {
            return;
        }
        // Booted on 262: a deferred image fails under a policy that passes over signatures, too.
        if !self.admitted.signature && self.has_bad_signature(case) {
            return;
        }
        if !self.admitted.hash {
            self.verity_works(case);
        }
    }

    /// Whether systemd fails to read the signature partition.
    fn has_bad_signature(&self, case: &mut Case<'_>) -> bool {
        let (id, why, help) = match &self.ddi.signature {
            SignatureState::Present { .. } | SignatureState::Absent => return false,
            SignatureState::Empty => (
                "signature-missing",
                "the room for the signature is still empty",
                "sign the image, or build it with `verity: signed`",
            ),
            SignatureState::Unusable(why) => {
                ("signature-unusable", why.as_str(), "sign the image again")
            }
        };
        case.worsen(
            Verdict::BlocksAll,
            id,
            why,
            Change::VeritySuffices.source(),
            help,
        );
        true
    }

    /// What becomes of an image once it is mounted.
    fn mounted(&self, case: &mut Case<'_>) -> Verdict {
        if self.ddi.layout == Layout::Naked {
            return self.covered(case);
        }
        if self.ddi.hash.is_none() {
            return Verdict::MergesUnprotected;
        }
        if !self.admitted.hash {
            self.not_used(case, "the image policy passes over it");
            return Verdict::MergesUnprotected;
        }
        match self.root_hash(case) {
            Err(verdict) => verdict,
            Ok(None) => Verdict::MergesUnprotected,
            Ok(Some(RootHash::Guessed)) => {
                self.verity_works(case);
                Verdict::MergesVerity
            }
            Ok(Some(RootHash::Sidecar(hash, signature))) => {
                let own = self
                    .ddi
                    .root_hash
                    .as_ref()
                    .map(|own| own.as_bytes().to_vec());
                if own.as_deref() != Some(hash) {
                    case.worsen(
                        Verdict::BlocksAll,
                        "sidecar-root-hash",
                        "the root hash beside the image is not that of its partitions",
                        citations::VERITY,
                        "remove the file beside the image, or write it anew",
                    );
                    return Verdict::BlocksAll;
                }
                match signature {
                    Some(signature) => self.signed(signature, &hex::encode(hash), case),
                    None => {
                        self.verity_works(case);
                        Verdict::MergesVerity
                    }
                }
            }
            Ok(Some(RootHash::Signed(hash, signature))) => {
                self.signed(signature, &hex::encode(hash), case)
            }
        }
    }

    /// What becomes of a bare file system, for which hash tree and signature lie beside it.
    fn covered(&self, case: &mut Case<'_>) -> Verdict {
        let (Some((_, hash)), Some(tree), true) = (
            &self.sidecars.root_hash,
            &self.sidecars.hash_tree,
            self.sidecars.cover(),
        ) else {
            return Verdict::MergesUnprotected;
        };
        let damage = match tree {
            Ok(root) if root.as_bytes() == hash.as_slice() => None,
            Ok(root) => Some(format!(
                "the root hash beside the image is {}, data and hash tree give {root}",
                hex::encode(hash)
            )),
            Err(why) => Some(why.clone()),
        };
        if let Some(message) = damage {
            case.worsen(
                Verdict::BlocksAll,
                "verity-mismatch",
                message,
                citations::VERITY,
                "the image is damaged, or belongs to other files; build or fetch it again",
            );
        }
        match &self.sidecars.signature {
            Some(signature) => self.signed(signature, &hex::encode(hash), case),
            None => {
                self.verity_works(case);
                Verdict::MergesVerity
            }
        }
    }

    /// Where the root hash comes from; `Err` where systemd fails to read it.
    fn root_hash(&self, case: &mut Case<'_>) -> Result<Option<RootHash<'a>>, Verdict> {
        if let Some((_, hash)) = &self.sidecars.root_hash {
            // Without a signature of its own that of the partition counts.
            let embedded = match &self.ddi.signature {
                SignatureState::Present { partition, .. } => Some(&partition.signature),
                _ => None,
            };
            let looked_at = self.admitted.signature && self.systemd.has(Change::SignaturePartition);
            if self.sidecars.signature.is_none() && looked_at && self.has_bad_signature(case) {
                return Err(Verdict::BlocksAll);
            }
            let signature = self.sidecars.signature.as_ref();
            let signature = signature.or(embedded.filter(|_| looked_at));
            return Ok(Some(RootHash::Sidecar(hash, signature.map(Vec::as_slice))));
        }
        let usr = self.ddi.designator == Designator::Usr;
        let knows_signatures = self.systemd.has(Change::SignaturePartition);
        let reads_signature = self.admitted.signature
            && knows_signatures
            && (!usr || self.systemd.has(Change::UsrSignature));
        if reads_signature {
            if self.has_bad_signature(case) {
                return Err(Verdict::BlocksAll);
            }
            if let SignatureState::Present { partition, .. } = &self.ddi.signature {
                let signature = &partition.signature;
                return Ok(Some(RootHash::Signed(&partition.root_hash, signature)));
            }
        }
        let guesses = self.systemd.has(Change::RootHashGuessed);
        if guesses && !case.service.is_off("SYSTEMD_DISSECT_VERITY_GUESS") {
            return Ok(Some(RootHash::Guessed));
        }
        if usr && self.ddi.signature_partition.is_some() && knows_signatures {
            case.worsen(
                Verdict::MergesUnprotected,
                "usr-not-verified",
                format!(
                    "systemd {} mounts a usr-type partition without looking at its signature",
                    self.systemd
                ),
                Change::UsrSignature.source(),
                "build the image with a root-type partition, as prism-sysext does",
            );
        } else {
            let why = format!(
                "systemd {} takes a root hash only from a signature",
                self.systemd
            );
            self.not_used(case, &why);
        }
        Ok(None)
    }

    fn not_used(&self, case: &mut Case<'_>, why: &str) {
        case.worsen(
            Verdict::MergesUnprotected,
            "verity-not-activated",
            format!("the hash tree is not used: {why}"),
            Change::RootHashGuessed.source(),
            "sign the image (`verity: signed`), or accept that nothing checks its content",
        );
    }

    fn signed(&self, signature: &[u8], root_hash: &str, case: &mut Case<'_>) -> Verdict {
        let verdict = check(signature, root_hash, case.service.trusted);
        if let SignerVerdict::Trusted(_) = verdict {
            self.verity_works(case);
            return Verdict::MergesSigned;
        }
        let enough = self.systemd.has(Change::VeritySuffices) && self.admitted.verity_suffices;
        let outcome = match enough {
            true => Verdict::MergesVerity,
            false => Verdict::BlocksAll,
        };
        case.worsen(
            outcome,
            "signer-not-trusted",
            untrusted(&verdict),
            Change::VeritySuffices.source(),
            "list the signer's certificate under `certificates`",
        );
        if enough {
            self.verity_works(case);
        }
        outcome
    }

    /// A tree that does not fit its data fails when the data is read; a kernel without dm-verity at once.
    fn verity_works(&self, case: &mut Case<'_>) {
        for bad in self
            .report
            .checks
            .iter()
            .filter(|check| check.outcome == Outcome::Bad && check.id != "signature")
        {
            let expected = bad.expected.as_deref().unwrap_or("something else");
            let found = bad.found.as_deref().unwrap_or("nothing");
            case.worsen(
                Verdict::BlocksAll,
                "verity-mismatch",
                format!("{}: expected {expected}, found {found}", bad.id),
                citations::VERITY,
                "the image is damaged; build or fetch it again",
            );
        }
        if self.host.has_cryptsetup == Some(false) {
            case.worsen(
                Verdict::BlocksAll,
                "libcryptsetup-missing",
                "the base has no libcryptsetup.so.12, which systemd loads to check the content",
                citations::CRYPTSETUP,
                "install it in the base (libcryptsetup12 in Debian and Ubuntu, cryptsetup-libs in Azure Linux and Fedora)",
            );
        }
        match self.host.kernel.dm_verity {
            Support::Yes | Support::Module => {}
            Support::No => case.worsen(
                Verdict::BlocksAll,
                "kernel-without-dm-verity",
                "the kernel of the base has no dm-verity",
                citations::VERITY,
                "use a kernel with CONFIG_DM_VERITY",
            ),
            Support::Unknown => case.unknown(
                "kernel-unknown",
                "it can't be told whether the kernel of the base has dm-verity",
                "give a base that holds its kernel's configuration (boot/config-*), or --target PROFILE",
            ),
        }
    }
}

fn untrusted(verdict: &SignerVerdict) -> String {
    match verdict {
        SignerVerdict::UnknownSigner(signers) => {
            let names: Vec<String> = signers
                .iter()
                .map(|signer| match &signer.certificate {
                    Some(certificate) => certificate.subject.clone(),
                    None => format!("issuer {}, serial {}", signer.issuer, signer.serial),
                })
                .collect();
            format!(
                "the image is signed by {}, whose certificate is not among the trusted ones",
                names.join(" and ")
            )
        }
        SignerVerdict::WrongSignature(_) => {
            "the signature was not made for this root hash".to_owned()
        }
        SignerVerdict::Malformed(why) => format!("the signature can't be read: {why}"),
        SignerVerdict::Trusted(certificate) => {
            format!("the image is signed by {}", certificate.subject)
        }
    }
}

#[cfg(test)]
mod tests;
