//! `check` of a config without a `sysext` section, that brings extensions in with `os.additionalFiles`.

use std::path::{Path, PathBuf};

use super::candidates::{future_image, in_search_order, present};
use super::inside::look_inside;
use super::place::not_enforced;
use super::services::{TrustedBy, host, service};
use crate::base::Base;
use crate::base::rootfs::RootFs;
use crate::base::unit::DropIn;
use crate::check::sidecars::FutureSidecars;
use crate::check::{Candidate, Prediction, Service, Verdict, predict};
use crate::config::Config;
use crate::config::pitfalls::scripts;
use crate::config::prism::AdditionalFile;
use crate::finding::Finding;
use crate::image::sidecar::{SidecarFile, SidecarKind};
use crate::image::x509::Certificate;
use crate::io::open;
use crate::io::progress::Progress;
use crate::sign::trust;
use crate::systemd::changes::Change;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CERTIFICATE_DIRS, CERTIFICATE_STORE, CONFEXT_DIRS, SYSEXT_DIRS};

/// Longest drop-in that is read, in bytes.
const DROP_IN_LIMIT: u64 = 1 << 20;

/// What becomes of the extensions that a config without a section lets Prism copy, and what was
/// noticed of the config; `None` if there are none.
pub fn predict_plain(
    config: &Config,
    base: &Base,
    root: Option<&dyn RootFs>,
    progress: &Progress,
) -> Option<(Prediction, Vec<Finding>)> {
    let placements = placements(config);
    if placements.is_empty() {
        return None;
    }
    let mut findings = scripts::pitfalls(&config.prism);
    let placed = certificates(config, &mut findings);
    let trusted = |kind| {
        let mut trusted = base.trusted(kind);
        let counting = placed.iter().filter(|it| it.counts_for(config, kind));
        trusted.extend(counting.map(|it| it.certificate.clone()));
        trusted
    };
    let policy = |kind| base.unit(kind).image_policy_with(&drop_ins(config, kind));
    let (sysext, confext) = (
        policy(ExtensionKind::Sysext),
        policy(ExtensionKind::Confext),
    );
    let policy = |kind| match kind {
        ExtensionKind::Sysext => sysext.as_deref(),
        ExtensionKind::Confext => confext.as_deref(),
    };
    let trusted = TrustedBy::each(trusted);
    let service = |kind| {
        service(
            base,
            kind,
            policy(kind),
            trusted.of(kind),
            enables(config, kind),
        )
    };
    let prediction = predict_placed(base, root, &placements, service, progress);
    let listed = || prediction.extensions.iter().filter(|it| it.listed);
    let newer = base
        .systemd_build()
        .is_some_and(|systemd| systemd.has(Change::ImagePolicy));
    let any = placements.iter().any(|it| policy(it.kind).is_none());
    if newer && any && listed().all(|judgement| judgement.verdict <= Verdict::MergesVerity) {
        findings.push(not_enforced());
    }
    Some((prediction, findings))
}

/// A file of this machine that Prism copies to where systemd looks for extensions.
struct Copied {
    /// By the folder that it lands in.
    kind: ExtensionKind,
    /// Where the config says so.
    at: String,
    /// The file.
    source: PathBuf,
    /// Where it lands.
    destination: String,
    /// What lands beside it.
    beside: Vec<SidecarFile>,
}

/// What becomes of such files, together with what the base already has.
fn predict_placed<'a>(
    base: &'a Base,
    root: Option<&dyn RootFs>,
    placements: &[Copied],
    service: impl Fn(ExtensionKind) -> Service<'a>,
    progress: &Progress,
) -> Prediction {
    let replaced = |path: &str| placements.iter().any(|it| it.destination == path);
    let mut candidates = match root {
        Some(root) => present(root, base, replaced, |_| None, progress),
        None => Vec::new(),
    };
    for placement in placements {
        let coming = FutureSidecars {
            files: &placement.beside,
            root,
            destination: Path::new(&placement.destination),
            goes: &|_| false,
        };
        let image = future_image(&placement.source, &coming, base, progress);
        candidates.push(Candidate::placed(
            placement.kind,
            placement.at.clone(),
            placement.destination.clone(),
            image,
            base.systemd_build(),
        ));
    }
    in_search_order(&mut candidates);
    let mut prediction = predict(&host(base, service), &candidates);
    look_inside(&mut prediction, &candidates, base, root, &[]);
    prediction
}

/// Files that land where systemd looks for extensions, with what lands beside them.
fn placements(config: &Config) -> Vec<Copied> {
    let files = || {
        let files = config.prism.os.iter().flat_map(|os| &os.additional_files);
        files.flatten().enumerate()
    };
    let is_beside = |path: &Path| {
        files().any(|(_, other)| {
            let other = other.destination.as_deref().map(Path::new);
            let images = other.filter(|it| it.extension().is_some_and(|ending| ending == "raw"));
            images.is_some_and(|image| SidecarKind::ALL.iter().any(|it| it.beside(image) == path))
        })
    };
    let beside = |image: &Path| {
        let found = SidecarKind::ALL.into_iter().filter_map(|kind| {
            let place = kind.beside(image);
            let lands = |to: Option<&str>| to.is_some_and(|to| Path::new(to) == place);
            let (_, file) = files().find(|(_, file)| lands(file.destination.as_deref()))?;
            let path = config.resolve(Path::new(file.source.as_deref()?));
            Some(SidecarFile { kind, path })
        });
        found.collect()
    };
    let placed = files().filter_map(|(index, file)| {
        let destination = file.destination.as_deref()?;
        let path = Path::new(destination);
        let folder = path.parent()?.to_str()?;
        let kind = match () {
            () if SYSEXT_DIRS.contains(&folder) => ExtensionKind::Sysext,
            () if CONFEXT_DIRS.contains(&folder) => ExtensionKind::Confext,
            () => return None,
        };
        if is_beside(path) {
            return None;
        }
        Some(Copied {
            kind,
            at: format!("os.additionalFiles[{index}].destination"),
            source: config.resolve(Path::new(file.source.as_deref()?)),
            destination: destination.to_owned(),
            beside: beside(path),
        })
    });
    placed.collect()
}

/// Drop-ins that Prism copies, for the unit of a kind.
fn drop_ins(config: &Config, kind: ExtensionKind) -> Vec<DropIn> {
    let files = beside_unit(config, kind).filter(|(path, _)| path.ends_with(".conf"));
    let found = files.filter_map(|(path, file)| {
        let text = match (&file.content, &file.source) {
            (Some(text), _) => text.clone(),
            (None, Some(source)) => {
                let bytes = open::read(&config.resolve(Path::new(source)), DROP_IN_LIMIT).ok()?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            (None, None) => return None,
        };
        Some(DropIn {
            path: path.to_owned(),
            text,
        })
    });
    found.collect()
}

/// Files that Prism copies into the folder of drop-ins of a unit, with their destinations.
fn beside_unit(
    config: &Config,
    kind: ExtensionKind,
) -> impl Iterator<Item = (&str, &AdditionalFile)> {
    let folder = format!("/etc/systemd/system/{}.d/", kind.unit());
    let files = config.prism.os.iter().flat_map(|os| &os.additional_files);
    files.flatten().filter_map(move |file| {
        let path = file.destination.as_deref()?;
        path.starts_with(&folder).then_some((path, file))
    })
}

/// A certificate that Prism copies.
struct Placed {
    certificate: Certificate,
    /// Where to, if that is only the store from which a unit copies it on.
    stored: Option<String>,
}

impl Placed {
    /// Whether systemd finds it when it merges extensions of a kind: at once, or because a drop-in of
    /// the unit copies it.
    fn counts_for(&self, config: &Config, kind: ExtensionKind) -> bool {
        let Some(stored) = &self.stored else {
            return true;
        };
        let mut texts = beside_unit(config, kind).filter_map(|(_, file)| file.content.as_deref());
        texts.any(|text| text.split_whitespace().any(|word| word == stored))
    }
}

/// Certificates that land where systemd looks for them under a name that it reads.
fn certificates(config: &Config, findings: &mut Vec<Finding>) -> Vec<Placed> {
    let files = config.prism.os.iter().flat_map(|os| &os.additional_files);
    let mut certificates = Vec::new();
    for (index, file) in files.flatten().enumerate() {
        let at = format!("os.additionalFiles[{index}]");
        let Some(destination) = &file.destination else {
            continue;
        };
        let destination = Path::new(destination);
        let folder = destination.parent().and_then(Path::to_str);
        let is_stored = folder == Some(CERTIFICATE_STORE);
        if !is_stored && !folder.is_some_and(|folder| CERTIFICATE_DIRS.contains(&folder)) {
            continue;
        }
        if destination.extension().is_none_or(|ending| ending != "crt") {
            let message = format!("systemd does not read {}", destination.display());
            findings.push(
                Finding::warning("certificate-not-read", message)
                    .because("only files that end in .crt are read (`validate_signature_userspace`, src/shared/dissect-image.c)")
                    .help(format!("name it {}", destination.with_extension("crt").display()))
                    .at(format!("{at}.destination")),
            );
            continue;
        }
        if folder == Some("/run/verity.d") {
            let message = format!("{} is not there at boot", destination.display());
            findings.push(
                Finding::warning("certificate-not-taken", message)
                    .because("/run is a file system in memory that begins empty")
                    .help("copy it to /etc/verity.d")
                    .at(format!("{at}.destination")),
            );
            continue;
        }
        let (read, key) = match (&file.source, &file.content) {
            (Some(source), _) => (
                trust::read_one(&config.resolve(Path::new(source))),
                "source",
            ),
            (None, Some(text)) => (trust::one_of(text.as_bytes(), "the text"), "content"),
            (None, None) => continue,
        };
        match read {
            Ok(certificate) => certificates.push(Placed {
                certificate,
                stored: is_stored.then(|| destination.display().to_string()),
            }),
            Err(finding) => findings.push(finding.at(format!("{at}.{key}"))),
        }
    }
    certificates
}

fn enables(config: &Config, kind: ExtensionKind) -> bool {
    let unit = kind.unit();
    let stem = unit.trim_end_matches(".service");
    let services = config.prism.os.as_ref().and_then(|os| os.services.as_ref());
    let enabled = services.and_then(|services| services.enable.as_ref());
    let mut enabled = enabled.into_iter().flatten().flatten();
    enabled.any(|name| name == unit || name == stem) || scripts::enables(&config.prism, stem)
}
