//! Extensions and certificates that a base already carries.

use std::collections::BTreeSet;

use serde::Serialize;

use super::certificate_copies::Copies;
use super::facts::Facts;
use super::systemd::Systemd;
use crate::finding::Finding;
use crate::image::x509::{Certificate, first_pem_as_systemd};
use crate::io::root::EntryKind;
use crate::systemd::changes::Change;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CERTIFICATE_DIRS, CONFEXT_DIRS, SYSEXT_DIRS};

/// Most of one certificate file that is read.
const CERTIFICATE_LIMIT: u64 = 1024 * 1024;

/// Most that is read of all certificate files together.
const CERTIFICATES_LIMIT: usize = 16 * 1024 * 1024;

/// What systemd takes an entry of a search folder for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
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
    /// The only kind of extensions that can rely on it, where that is not both: its unit copies it
    /// there before it merges, and the other unit may be started earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_for: Option<ExtensionKind>,
    /// The file that it is copied from before the merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<String>,
}

/// All entries of all folders that this systemd searches.
pub(super) fn read_extensions(
    facts: &mut Facts<'_>,
    systemd: Option<&Systemd>,
) -> Vec<ExistingExtension> {
    let searches_usr = systemd.is_some_and(|systemd| !systemd.has(Change::UsrNotSearched));
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

/// A file in a folder for certificates.
struct Found {
    /// Where systemd finds it.
    path: String,
    /// Where its bytes are now.
    from: String,
    copied_for: Option<ExtensionKind>,
}

/// The certificates that systemd would trust: of each file name the first.
///
/// What an image has in `/run` is gone at boot, where something is mounted over it; only what a
/// unit copies there counts.
pub(super) fn read_certificates(
    facts: &mut Facts<'_>,
    units: [(ExtensionKind, &Copies); 2],
) -> Vec<CertificateFile> {
    let mut names = BTreeSet::new();
    let mut left = CERTIFICATES_LIMIT;
    let mut found = Vec::new();
    for file in certificate_files(facts, units) {
        let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
        let hidden = |kind| names.contains(&(name.clone(), kind));
        let mut kinds = match file.copied_for {
            Some(kind) => vec![kind],
            None => vec![ExtensionKind::Sysext, ExtensionKind::Confext],
        };
        kinds.retain(|kind| !hidden(*kind));
        if kinds.is_empty() {
            continue;
        }
        let Some((metadata, link)) = facts.entry(&file.from) else {
            continue;
        };
        // A link to /dev/null or an empty file hides the name in later folders
        // (systemd `src/basic/conf-files.c`, CONF_FILES_FILTER_MASKED).
        let masks = metadata.size == 0 && metadata.kind == EntryKind::File
            || link
                .as_deref()
                .is_some_and(crate::systemd::unit_file::is_dev_null);
        if !masks && metadata.kind != EntryKind::File {
            continue;
        }
        names.extend(kinds.iter().map(|kind| (name.clone(), *kind)));
        if masks {
            continue;
        }
        let Some(bytes) = facts.read(&file.from, CERTIFICATE_LIMIT) else {
            continue;
        };
        let Some(rest) = left.checked_sub(bytes.len()) else {
            return found;
        };
        left = rest;
        let only = match kinds.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        match first_pem_as_systemd(&bytes) {
            Ok(certificate) => found.push(CertificateFile {
                copied_from: (file.from != file.path).then_some(file.from),
                path: file.path,
                certificate,
                only_for: only,
            }),
            Err(error) => facts.findings.push(
                Finding::warning(
                    "certificate-not-taken",
                    format!("{} of the base is not trusted: {error}", file.from),
                )
                .because("systemd skips certificates that it can't read")
                .help("convert it to PEM"),
            ),
        }
    }
    found
}

/// Everything of the right name in the folders for certificates, in the order of the search.
fn certificate_files(facts: &mut Facts<'_>, units: [(ExtensionKind, &Copies); 2]) -> Vec<Found> {
    let mut files = Vec::new();
    for dir in CERTIFICATE_DIRS {
        for (kind, copies) in units {
            let copies = copies.files.iter();
            let here =
                copies.filter(|copy| copy.to.rsplit_once('/').is_some_and(|it| it.0 == *dir));
            files.extend(here.map(|copy| Found {
                path: copy.to.clone(),
                from: copy.from.clone(),
                copied_for: Some(kind),
            }));
        }
        let names = facts.list(dir).into_iter();
        for name in names.filter(|name| name.ends_with(".crt")) {
            let path = format!("{dir}/{name}");
            if dir.starts_with("/run/") {
                let message = format!("{path} of the base is not there at boot");
                facts.findings.push(
                    Finding::warning("certificate-not-taken", message)
                        .because("/run is a file system in memory that begins empty")
                        .help("move it to /etc/verity.d"),
                );
                continue;
            }
            files.push(Found {
                from: path.clone(),
                path,
                copied_for: None,
            });
        }
    }
    files
}
