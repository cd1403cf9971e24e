//! What a root file system carries, and what of it is ours.

use serde::Serialize;

use super::record::Record;
use crate::base;
use crate::base::extensions::TakenAs;
use crate::base::root::RootDir;
use crate::base::unit::UnitState;
use crate::finding::{Finding, Severity};
use crate::release::ExtensionKind;

/// What a root file system carries.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// System extensions in the order in which systemd finds them.
    pub extensions: Vec<Listed>,
    /// Certificates that systemd trusts.
    pub certificates: Vec<ListedCertificate>,
    /// The service that merges.
    pub service: ListedService,
    /// What could not be read, or was strange.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// One extension that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

impl From<UnitState> for ListedService {
    fn from(unit: UnitState) -> ListedService {
        ListedService {
            enabled: unit.is_enabled(),
            masked: unit.masked.is_some(),
            path: unit.file,
            image_policy: unit.image_policy,
        }
    }
}

/// Lists extensions, certificates and the service; works on folders that hold no OS at all.
pub fn list(root: &RootDir) -> Listing {
    let (extensions, certificates, mut findings) = base::read_extensions(root);
    let (unit, odd) = base::read_unit_state(root, ExtensionKind::Sysext);
    findings.extend(odd);
    let record = Record::read(root).unwrap_or_else(|damaged| {
        // Listing goes on without it.
        findings.extend(damaged.0.into_iter().map(|finding| Finding {
            severity: Severity::Warning,
            ..finding
        }));
        None
    });
    let mut seen: Vec<Finding> = Vec::new();
    findings.retain(|finding| {
        let fresh = !seen.contains(finding);
        if fresh {
            seen.push(finding.clone());
        }
        fresh
    });
    let ours = |path: &str| record.as_ref().is_some_and(|record| record.lists(path));
    Listing {
        extensions: extensions
            .into_iter()
            .filter(|entry| entry.class == ExtensionKind::Sysext)
            .filter_map(|entry| {
                let (kind, path) = (entry.taken_as()?, entry.path());
                Some(Listed {
                    ours: ours(&path),
                    kind,
                    path,
                })
            })
            .collect(),
        certificates: certificates
            .into_iter()
            .map(|file| ListedCertificate {
                ours: ours(&file.path),
                path: file.path,
                subject: file.certificate.subject,
                fingerprint: file.certificate.fingerprint_sha256_hex,
            })
            .collect(),
        service: unit.into(),
        findings,
    }
}
