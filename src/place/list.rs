//! What a root file system carries, and what of it is ours.

use serde::Serialize;

use super::record::Record;
use crate::base::Base;
use crate::base::extensions::TakenAs;
use crate::base::rootfs::RootFs;
use crate::base::unit::UnitState;
use crate::finding::{Finding, Severity};
use crate::systemd::kind::ExtensionKind;

/// What a root file system carries.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// System extensions in the order in which systemd finds them.
    pub extensions: Vec<Listed>,
    /// Configuration extensions, likewise.
    pub confexts: Vec<Listed>,
    /// Certificates that systemd trusts.
    pub certificates: Vec<ListedCertificate>,
    /// The service that merges system extensions.
    pub service: ListedService,
    /// The service that merges configuration extensions.
    pub confext_service: ListedService,
    /// What could not be read, or was strange.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// One extension that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The path inside the root file system.
    pub path: String,
    /// What systemd takes it for.
    pub kind: TakenAs,
    /// Whether the record of earlier applies lists it.
    pub ours: bool,
}

/// One trusted certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedCertificate {
    /// The path inside the root file system.
    pub path: String,
    /// Whom it belongs to.
    pub subject: String,
    /// The SHA-256 of its DER form, in lower-case hex.
    pub fingerprint: String,
    /// Whether the record of earlier applies lists it.
    pub ours: bool,
}

/// The service that merges at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedService {
    /// The unit file; none when it is missing or masked.
    pub path: Option<String>,
    /// Whether it is started at boot.
    pub enabled: bool,
    /// Whether it is masked.
    pub masked: bool,
    /// The image policy that it asks for.
    pub image_policy: Option<String>,
}

impl From<&UnitState> for ListedService {
    fn from(unit: &UnitState) -> ListedService {
        ListedService {
            path: unit.file.clone(),
            enabled: unit.is_enabled(),
            masked: unit.masked.is_some(),
            image_policy: unit.image_policy.clone(),
        }
    }
}

/// Lists extensions, certificates and the service of a root file system, whose facts are `base`.
pub fn list(root: &dyn RootFs, base: &Base) -> Listing {
    let mut findings = base.findings.clone();
    let record = Record::read(root).unwrap_or_else(|damaged| {
        // Listing goes on without it.
        findings.extend(damaged.0.into_iter().map(|finding| Finding {
            severity: Severity::Warning,
            ..finding
        }));
        None
    });
    let ours = |path: &str| record.as_ref().is_some_and(|record| record.lists(path));
    let of_kind = |wanted: ExtensionKind| {
        let entries = base.extensions.iter().filter(|entry| entry.class == wanted);
        let listed = entries.filter_map(|entry| {
            let (kind, path) = (entry.taken_as()?, entry.path());
            Some(Listed {
                ours: ours(&path),
                kind,
                path,
            })
        });
        listed.collect()
    };
    Listing {
        extensions: of_kind(ExtensionKind::Sysext),
        confexts: of_kind(ExtensionKind::Confext),
        certificates: base
            .certificates
            .iter()
            .map(|file| ListedCertificate {
                ours: ours(&file.path),
                path: file.path.clone(),
                subject: file.certificate.subject.clone(),
                fingerprint: file.certificate.fingerprint_sha256_hex.clone(),
            })
            .collect(),
        service: (&base.sysext_unit).into(),
        confext_service: (&base.confext_unit).into(),
        findings,
    }
}
