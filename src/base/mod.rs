//! What the base OS is: facts read from a root file system, or from a profile.
//!
//! Facts only, no judgement. What can't be told is `None` or `Unknown`, never
//! guessed; a profile fills what a root file system of the same OS leaves open.

pub mod kernel;
pub mod profile;
pub mod root;
pub mod systemd;
pub mod unit;

use std::path::PathBuf;

use serde::Serialize;

use crate::arch::Arch;
use crate::finding::Finding;
use crate::image::certificate::{Certificate, first_pem_as_systemd};
use crate::release::{ReleaseFields, SystemdVersion};
use kernel::Kernel;
use root::{EntryKind, RootDir, RootError};
use unit::UnitState;

/// Folders in which systemd 254 and newer look for system extensions, first one wins
/// (`image_search_path`, src/shared/discover-image.c).
pub const SEARCH_PATH: &[&str] = &["/etc/extensions", "/run/extensions", "/var/lib/extensions"];

/// Those that 253 and older search as well.
pub const OLD_SEARCH_PATH: &[&str] = &["/usr/local/lib/extensions", "/usr/lib/extensions"];

/// Folders of trusted certificates, first one of a file name wins
/// (`validate_signature_userspace`, src/shared/dissect-image.c).
pub const CERTIFICATE_PATH: &[&str] = &[
    "/etc/verity.d",
    "/run/verity.d",
    "/usr/local/lib/verity.d",
    "/usr/lib/verity.d",
];

/// Largest release or certificate file that is read, in bytes.
const MAX_SMALL_FILE: u64 = 1 << 20;

/// Everything known of a base.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where the facts come from.
    pub origin: Origin,
    /// The OS's identity.
    pub os_release: ReleaseFields,
    /// The version of systemd.
    pub systemd: Option<SystemdVersion>,
    /// Architecture of its programs.
    pub arch: Option<Arch>,
    /// What its kernels can do.
    pub kernel: Kernel,
    /// `systemd-sysext.service`.
    pub unit: UnitState,
    /// What lies in the search folders, in the order in which systemd looks.
    pub extensions: Vec<Present>,
    /// Certificates that systemd would read.
    pub certificates: Vec<PresentCertificate>,
    /// What was noticed while reading.
    pub findings: Vec<Finding>,
}

/// Where facts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// A root file system folder.
    Rootfs(PathBuf),
    /// A built-in profile.
    Profile(String),
    /// Facts written in the config.
    Config,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Rootfs(path) => write!(f, "{}", path.display()),
            Origin::Profile(name) => write!(f, "the profile {name}"),
            Origin::Config => f.write_str("the facts in the config"),
        }
    }
}

/// An entry of a search folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// Folder that it lies in.
    pub folder: String,
    /// File name.
    pub file_name: String,
    /// What systemd takes it for.
    pub kind: PresentKind,
}

/// What systemd takes an entry of a search folder for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PresentKind {
    /// A disk image.
    Image,
    /// A folder with an OS tree; an empty one masks.
    Folder,
    /// A block device, or a link that leads out of what can be seen here.
    Other,
}

/// A certificate of the base.
#[derive(Debug, Clone)]
pub struct PresentCertificate {
    /// Path in the root file system.
    pub path: String,
    /// The first certificate of the file.
    pub certificate: Certificate,
}

impl Base {
    /// Reads the facts of a root file system.
    pub fn read(root: &RootDir) -> Result<Base, Finding> {
        let unreadable = |error: RootError| Finding::error("base-unreadable", format!("{error}"));
        let os_release = os_release(root)?;
        let known = profile::of(&os_release);
        let mut findings = Vec::new();
        let mut kernel = kernel::read(root).map_err(unreadable)?;
        if let Some(profile) = &known {
            kernel.fill_from(&profile.kernel);
        }
        let systemd = systemd::version(root).map_err(unreadable)?;
        let extensions = extensions(root, systemd).map_err(unreadable)?;
        let certificates = certificates(root, &mut findings).map_err(unreadable)?;
        Ok(Base {
            origin: Origin::Rootfs(root.path().to_owned()),
            arch: systemd::architecture(root).map_err(unreadable)?,
            unit: unit::read(root).map_err(unreadable)?,
            os_release,
            systemd,
            kernel,
            extensions,
            certificates,
            findings,
        })
    }
}

/// `parse_os_release`, src/basic/os-util.c: the first of the two that exists.
fn os_release(root: &RootDir) -> Result<ReleaseFields, Finding> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        let bytes = root
            .read(path, MAX_SMALL_FILE)
            .map_err(|error| Finding::error("base-unreadable", format!("{error}")))?;
        let Some(bytes) = bytes else { continue };
        let fields = ReleaseFields::parse(&bytes).map_err(|error| {
            Finding::error(
                "base-os-release",
                format!("reading {path} of the base: {error}"),
            )
            .because("systemd then merges nothing")
        })?;
        return if fields.filled("ID").is_some() {
            Ok(fields)
        } else {
            Err(Finding::error("base-os-release", format!("{path} of the base has no ID"))
                .because("systemd then merges nothing (extension_release_validate, src/shared/extension-util.c)"))
        };
    }
    Err(Finding::error(
        "base-without-os-release",
        format!(
            "{} holds neither etc/os-release nor usr/lib/os-release",
            root.path().display()
        ),
    )
    .help("name the folder that holds the root file system of the base"))
}

fn extensions(root: &RootDir, systemd: Option<SystemdVersion>) -> Result<Vec<Present>, RootError> {
    let old = if systemd.is_some_and(|version| version.major < 254) {
        OLD_SEARCH_PATH
    } else {
        &[]
    };
    let mut present = Vec::new();
    for folder in SEARCH_PATH.iter().chain(old) {
        for name in root.list(folder)? {
            let Some(file_name) = name.to_str() else {
                continue;
            };
            let path = format!("{folder}/{file_name}");
            let is_link = root.kind(&path)? == Some(EntryKind::Symlink);
            let kind = match root.target_kind(&path) {
                Ok(Some(EntryKind::File(_))) if file_name.ends_with(".raw") => PresentKind::Image,
                Ok(Some(EntryKind::Directory)) => PresentKind::Folder,
                Ok(Some(EntryKind::BlockDevice)) => PresentKind::Other,
                // A loop makes systemd fail for all; a dangling link may lead to a mount of the booted system.
                Err(_) => PresentKind::Other,
                Ok(None) if is_link => PresentKind::Other,
                Ok(_) => continue,
            };
            present.push(Present {
                folder: (*folder).to_owned(),
                file_name: file_name.to_owned(),
                kind,
            });
        }
    }
    Ok(present)
}

fn certificates(
    root: &RootDir,
    findings: &mut Vec<Finding>,
) -> Result<Vec<PresentCertificate>, RootError> {
    let mut seen: Vec<String> = Vec::new();
    let mut certificates = Vec::new();
    for folder in CERTIFICATE_PATH {
        for name in root.list(folder)? {
            let Some(name) = name.to_str().filter(|name| name.ends_with(".crt")) else {
                continue;
            };
            if seen.iter().any(|known| known == name) {
                continue;
            }
            seen.push(name.to_owned());
            let path = format!("{folder}/{name}");
            // systemd skips what it can't read (src/shared/dissect-image.c); a link to /dev/null masks.
            let bytes = match root.read(&path, MAX_SMALL_FILE) {
                Ok(Some(bytes)) if !bytes.is_empty() => bytes,
                _ => continue,
            };
            match first_pem_as_systemd(&bytes) {
                Ok(certificate) => certificates.push(PresentCertificate { path, certificate }),
                Err(error) => findings.push(
                    Finding::warning(
                        "certificate-unused",
                        format!("{path} of the base is not trusted: {error}"),
                    )
                    .because("systemd skips certificates that it can't read")
                    .help("convert it to PEM"),
                ),
            }
        }
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root file system with the given files; a value `-> x` makes a link.
    fn base(files: &[(&str, &str)]) -> Result<Base, Finding> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => std::fs::write(path, text).unwrap(),
            }
        }
        Base::read(&RootDir::open(dir.path()).unwrap())
    }

    #[test]
    fn the_first_os_release_that_exists_counts() {
        let id = |files: &[(&str, &str)]| {
            base(files).map(|base| base.os_release.get("ID").unwrap().to_owned())
        };
        let usr = ("usr/lib/os-release", "ID=usr\n");
        assert_eq!(id(&[usr, ("etc/os-release", "ID=etc\n")]).unwrap(), "etc");
        assert_eq!(
            id(&[usr, ("etc/os-release", "-> ../usr/lib/os-release")]).unwrap(),
            "usr"
        );
        assert_eq!(
            id(&[usr, ("etc/os-release", "-> /nowhere")]).unwrap(),
            "usr"
        );
        assert_eq!(
            id(&[("etc/hostname", "x")]).unwrap_err().id,
            "base-without-os-release"
        );
        assert_eq!(
            id(&[("etc/os-release", "NAME=x\n")]).unwrap_err().id,
            "base-os-release"
        );
    }

    #[test]
    fn entries_and_certificates_are_found() {
        let pair = crate::key::generate("a", 1_700_000_000, 1).unwrap();
        let pem = String::from_utf8(pair.certificate).unwrap();
        let base = base(&[
            ("etc/os-release", "ID=debian\nVERSION_ID=13\n"),
            ("var/lib/extensions/a.raw", "x"),
            ("var/lib/extensions/b.txt", "x"),
            ("var/lib/extensions/c/usr/x", ""),
            ("etc/extensions/d.raw", "-> /mnt/d.raw"),
            ("etc/verity.d/a.crt", &pem),
            ("etc/verity.d/b.pem", &pem),
            ("usr/lib/verity.d/a.crt", "masked by the one in etc"),
            ("usr/lib/verity.d/c.crt", "not a certificate"),
        ])
        .unwrap();
        let found: Vec<_> = base
            .extensions
            .iter()
            .map(|entry| (entry.file_name.as_str(), entry.kind))
            .collect();
        assert_eq!(
            found,
            [
                ("d.raw", PresentKind::Other),
                ("a.raw", PresentKind::Image),
                ("c", PresentKind::Folder)
            ]
        );
        let paths: Vec<_> = base
            .certificates
            .iter()
            .map(|present| present.path.as_str())
            .collect();
        assert_eq!(paths, ["/etc/verity.d/a.crt"]);
        assert_eq!(base.findings[0].id, "certificate-unused");
    }
}
