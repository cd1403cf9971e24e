//! Extensions and certificates that a base already carries.

use std::collections::BTreeSet;

use serde::Serialize;

use super::facts::Facts;
use super::root::EntryKind;
use super::systemd::Systemd;
use crate::finding::Finding;
use crate::image::certificate::{Certificate, first_pem_as_systemd};
use crate::release::ExtensionKind;

/// Where systemd looks for system extensions, the earlier first
/// (systemd `src/shared/discover-image.c`; those below `/usr` only up to 253).
pub const SYSEXT_DIRS: &[&str] = &[
    "/etc/extensions",
    "/run/extensions",
    "/var/lib/extensions",
    "/usr/local/lib/extensions",
    "/usr/lib/extensions",
];

/// Where systemd looks for configuration extensions (same source, since 254).
pub const CONFEXT_DIRS: &[&str] = &[
    "/run/confexts",
    "/var/lib/confexts",
    "/usr/local/lib/confexts",
    "/usr/lib/confexts",
];

/// Where systemd looks for certificates, the earlier first
/// (systemd `src/shared/dissect-image.c`, `CONF_PATHS("verity.d")`).
pub const CERTIFICATE_DIRS: &[&str] = &[
    "/etc/verity.d",
    "/run/verity.d",
    "/usr/local/lib/verity.d",
    "/usr/lib/verity.d",
    "/lib/verity.d",
];

/// Most of one certificate file that is read.
const CERTIFICATE_LIMIT: u64 = 1024 * 1024;

/// Most that is read of all certificate files together.
const CERTIFICATES_LIMIT: usize = 16 * 1024 * 1024;

/// What systemd takes an entry of a search folder for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenAs {
    /// A disk image.
    Image,
    /// A folder with an OS tree; an empty one masks.
    Folder,
    /// A block device, or a link that leads out of what can be seen here.
    Other,
}

/// An entry of a search folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExistingExtension {
    /// For which merge it is found.
    pub class: ExtensionKind,
    /// The search folder, such as `/var/lib/extensions`.
    pub directory: String,
    /// The name in that folder, such as `tools.raw`.
    pub name: String,
    /// What it is, after following links; a link only when that leads nowhere.
    pub kind: EntryKind,
    /// Length in bytes.
    pub size: u64,
    /// Where it points, when it is a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether it is a link in a circle, at which systemd gives up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub circular: bool,
    /// The versions in a folder whose name ends in `.v`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// An entry of a `.v` folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it is, after following links.
    pub kind: EntryKind,
}

impl ExistingExtension {
    /// The full path inside the base.
    pub fn path(&self) -> String {
        format!("{}/{}", self.directory, self.name)
    }

    /// What systemd takes it for; nothing when it passes it over.
    pub fn taken_as(&self) -> Option<TakenAs> {
        match self.kind {
            EntryKind::File => self.name.ends_with(".raw").then_some(TakenAs::Image),
            EntryKind::Directory => Some(TakenAs::Folder),
            EntryKind::BlockDevice => Some(TakenAs::Other),
            EntryKind::Link if self.circular => Some(TakenAs::Other),
            _ => None,
        }
    }
}

/// A certificate file of the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFile {
    /// The path inside the base, such as `/etc/verity.d/key.crt`.
    pub path: String,
    /// The first certificate in it.
    pub certificate: Certificate,
}

/// All entries of all folders that this systemd searches.
pub(super) fn read_extensions(
    facts: &mut Facts<'_>,
    systemd: Option<&Systemd>,
) -> Vec<ExistingExtension> {
    let searches_usr = systemd.is_some_and(|systemd| systemd.version.major < 254);
    let classes = [
        (ExtensionKind::Sysext, SYSEXT_DIRS),
        (ExtensionKind::Confext, CONFEXT_DIRS),
    ];
    let mut found = Vec::new();
    for (class, dirs) in classes {
        for directory in dirs {
            if class == ExtensionKind::Sysext && directory.starts_with("/usr/") && !searches_usr {
                continue;
            }
            for name in facts.list(directory) {
                let path = format!("{directory}/{name}");
                let Some((metadata, link)) = facts.entry(&path) else {
                    continue;
                };
                let leads_nowhere = metadata.kind == EntryKind::Link;
                let circular = leads_nowhere && facts.is_circular(&path);
                if leads_nowhere && !circular {
                    let target = link.as_deref().unwrap_or_default();
                    let message =
                        format!("{path} of the base leads to {target}, which is not there");
                    facts
                        .findings
                        .push(Finding::note("dangling-extension", message).because(
                            "systemd passes over it, unless something is mounted there by then",
                        ));
                }
                let mut members = Vec::new();
                if metadata.kind == EntryKind::Directory && name.ends_with(".v") {
                    for name in facts.list(&path) {
                        if let Some((metadata, _)) = facts.entry(&format!("{path}/{name}")) {
                            let kind = metadata.kind;
                            members.push(Member { name, kind });
                        }
                    }
                }
                found.push(ExistingExtension {
                    class,
                    directory: (*directory).to_owned(),
                    name,
                    kind: metadata.kind,
                    size: metadata.size,
                    link,
                    circular,
                    members,
                });
            }
        }
    }
    found
}

/// The certificates that systemd would trust: of each file name the first.
pub(super) fn read_certificates(facts: &mut Facts<'_>) -> Vec<CertificateFile> {
    let mut names = BTreeSet::new();
    let mut left = CERTIFICATES_LIMIT;
    let mut found = Vec::new();
    for dir in CERTIFICATE_DIRS {
        for name in facts.list(dir) {
            let path = format!("{dir}/{name}");
            if !name.ends_with(".crt") || names.contains(&name) {
                continue;
            }
            let Some((metadata, link)) = facts.entry(&path) else {
                continue;
            };
            // A link to /dev/null or an empty file hides the name in later folders
            // (systemd `src/basic/conf-files.c`, CONF_FILES_FILTER_MASKED).
            let masks = metadata.size == 0 && metadata.kind == EntryKind::File
                || link.as_deref().is_some_and(super::unit::is_dev_null);
            if masks {
                names.insert(name);
                continue;
            }
            if metadata.kind != EntryKind::File {
                continue;
            }
            names.insert(name);
            let Some(bytes) = facts.read(&path, CERTIFICATE_LIMIT) else {
                continue;
            };
            let Some(rest) = left.checked_sub(bytes.len()) else {
                return found;
            };
            left = rest;
            match first_pem_as_systemd(&bytes) {
                Ok(certificate) => found.push(CertificateFile { path, certificate }),
                Err(error) => facts.findings.push(
                    Finding::warning(
                        "certificate-not-taken",
                        format!("{path} of the base is not trusted: {error}"),
                    )
                    .because("systemd skips certificates that it can't read")
                    .help("convert it to PEM"),
                ),
            }
        }
    }
    found
}
