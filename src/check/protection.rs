//! What dm-verity, the signature and the image policy do to an image.

use super::rules;
use super::{Case, Host, Verdict};
use crate::base::kernel::Support;
use crate::image::ddi::{Ddi, SignatureState};
use crate::image::gpt_types::Designator;
use crate::image::hex;
use crate::image::signature::{SignerVerdict, check};
use crate::release::SystemdVersion;
use crate::verify::{Outcome, Report};

/// The policy that `imagePolicy: signed` sets.
const SIGNED_POLICY: &str = "root=signed+absent:usr=signed+absent";

/// How an image is protected on this base.
enum Protection {
    Signed,
    Verity,
    None,
}

pub(super) fn judge(
    host: &Host<'_>,
    systemd: SystemdVersion,
    ddi: &Ddi,
    report: &Report,
    case: &mut Case<'_>,
) {
    let before = case.verdict;
    let Some(protection) = protection(host, systemd, ddi, report, case) else {
        return;
    };
    let verdict = match protection {
        Protection::Signed => Verdict::MergesSigned,
        Protection::Verity => Verdict::MergesVerity,
        Protection::None => Verdict::MergesUnprotected,
    };
    case.verdict = before.max(verdict).max(case.verdict);
    policy(host, systemd, ddi, &protection, case);
}

fn protection(
    host: &Host<'_>,
    systemd: SystemdVersion,
    ddi: &Ddi,
    report: &Report,
    case: &mut Case<'_>,
) -> Option<Protection> {
    if ddi.hash.is_none() {
        return Some(Protection::None);
    }
    match &ddi.signature {
        SignatureState::Absent if systemd.major < 258 => {
            case.worsen(
                Verdict::MergesUnprotected,
                "verity-not-activated",
                format!("the hash tree is not used: systemd {systemd} takes a root hash only from a signature"),
                rules::NOT_ACTIVATED,
                "sign the image (`verity: signed`), or accept that nothing checks its content",
            );
            Some(Protection::None)
        }
        SignatureState::Absent => {
            verity_works(host, report, case);
            Some(Protection::Verity)
        }
        SignatureState::Empty => {
            case.worsen(
                Verdict::BlocksAll,
                "signature-missing",
                "the room for the signature is still empty",
                rules::SIGNATURE,
                "sign the image, or build it with `verity: signed`",
            );
            None
        }
        SignatureState::Unusable(why) => {
            case.worsen(
                Verdict::BlocksAll,
                "signature-unusable",
                why.clone(),
                rules::SIGNATURE,
                "sign the image again",
            );
            None
        }
        SignatureState::Present { .. }
            if ddi.designator == Designator::Usr && systemd.major < 258 =>
        {
            case.worsen(
                Verdict::MergesUnprotected,
                "usr-not-verified",
                format!(
                    "systemd {systemd} mounts a usr-type partition without looking at its signature"
                ),
                rules::USR_TYPE,
                "build the image with a root-type partition, as prism-sysext does",
            );
            Some(Protection::None)
        }
        SignatureState::Present { partition, .. } => {
            let root_hash = hex::encode(&partition.root_hash);
            let verdict = check(&partition.signature, &root_hash, host.trusted);
            if let SignerVerdict::Trusted(_) = verdict {
                verity_works(host, report, case);
                return Some(Protection::Signed);
            }
            let message = untrusted(&verdict);
            // From 259 on a hash tree is enough where the policy allows it (commit d20dff2814).
            if systemd.major >= 259 && host.image_policy.is_none() {
                case.worsen(
                    Verdict::MergesVerity,
                    "signer-not-trusted",
                    message,
                    rules::SIGNATURE,
                    "list the signer's certificate under `certificates`",
                );
                verity_works(host, report, case);
                return Some(Protection::Verity);
            }
            case.worsen(
                Verdict::BlocksAll,
                "signer-not-trusted",
                message,
                rules::SIGNATURE,
                "list the signer's certificate under `certificates`",
            );
            None
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

/// A tree that does not fit its data fails when the data is read; a kernel without dm-verity at once.
fn verity_works(host: &Host<'_>, report: &Report, case: &mut Case<'_>) {
    for bad in report
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
            rules::VERITY,
            "the image is damaged; build or fetch it again",
        );
    }
    match host.kernel.dm_verity {
        Support::Yes | Support::Module => {}
        Support::No => case.worsen(
            Verdict::BlocksAll,
            "kernel-without-dm-verity",
            "the kernel of the base has no dm-verity",
            rules::VERITY,
            "use a kernel with CONFIG_DM_VERITY",
        ),
        Support::Unknown => case.unknown(
            "kernel-unknown",
            "it can't be told whether the kernel of the base has dm-verity",
            "give a base that holds its kernel's configuration (boot/config-*), or --target PROFILE",
        ),
    }
}

fn policy(
    host: &Host<'_>,
    systemd: SystemdVersion,
    ddi: &Ddi,
    protection: &Protection,
    case: &mut Case<'_>,
) {
    let Some(policy) = host.image_policy else {
        return;
    };
    if systemd.major < 254 {
        return case.worsen(
            Verdict::BlocksAll,
            "image-policy-unsupported",
            format!("systemd {systemd} knows no image policy, its service would fail"),
            rules::POLICY_OPTION,
            "use `imagePolicy: default`",
        );
    }
    if policy != SIGNED_POLICY {
        return case.unknown(
            "policy-not-evaluated",
            format!("what the policy `{policy}` admits is not judged"),
            "use `imagePolicy: signed` or `default`, or go on with --allow-unknown",
        );
    }
    // A usr-type image has both partitions that the policy asks for, so it passes unverified.
    let passes_by_shape = ddi.designator == Designator::Usr && ddi.signature_partition.is_some();
    if !matches!(protection, Protection::Signed) && !passes_by_shape {
        case.worsen(
            Verdict::BlocksAll,
            "policy-refuses-image",
            "the policy admits signed images only, this one is not signed",
            rules::POLICY,
            "sign it, or use `imagePolicy: default`",
        );
    }
}
