//! `check` of a config without a `sysext` section, that brings extensions in with `os.additionalFiles`.

use std::path::Path;

use super::progress::watch;
use super::screen::{Failure, Screen};
use super::session::{Placement, predict_placed};
use crate::base::Base;
use crate::base::extensions::{CERTIFICATE_DIRS, CONFEXT_DIRS, SYSEXT_DIRS};
use crate::base::rootfs::RootFs;
use crate::base::unit::unit_name;
use crate::check::{Prediction, Verdict};
use crate::config::{Config, scripts};
use crate::finding::Finding;
use crate::image::certificate::Certificate;
use crate::release::ExtensionKind;
use crate::trust;

/// What becomes of the extensions that Prism will copy; `None` if there are none.
pub(super) fn check(
    screen: &Screen,
    config: &Config,
    base: &Base,
    root: Option<&dyn RootFs>,
) -> Result<Option<Prediction>, Failure> {
    let placements = placements(config);
    if placements.is_empty() {
        return Ok(None);
    }
    let mut findings = scripts::traps(&config.prism);
    let certificates = certificates(config, &mut findings);
    let enabled = |kind| enables(config, kind);
    let prediction = watch(screen, |progress| {
        predict_placed(base, root, &placements, &certificates, enabled, progress)
    });
    let listed = || prediction.extensions.iter().filter(|it| it.listed);
    let newer = base
        .systemd_version()
        .is_some_and(|version| version.major >= 254);
    if newer && listed().all(|judgement| judgement.verdict <= Verdict::MergesVerity) {
        findings.push(super::apply::not_enforced());
    }
    screen.findings(Some(&config.source), &findings);
    Ok(Some(prediction))
}

/// Files that land where systemd looks for extensions.
fn placements(config: &Config) -> Vec<Placement> {
    let files = config.prism.os.iter().flat_map(|os| &os.additional_files);
    let files = files.flatten().enumerate();
    let placed = files.filter_map(|(index, file)| {
        let destination = file.destination.as_deref()?;
        let folder = Path::new(destination).parent()?.to_str()?;
        let kind = match () {
            () if SYSEXT_DIRS.contains(&folder) => ExtensionKind::Sysext,
            () if CONFEXT_DIRS.contains(&folder) => ExtensionKind::Confext,
            () => return None,
        };
        Some(Placement {
            kind,
            at: format!("os.additionalFiles[{index}].destination"),
            source: config.resolve(Path::new(file.source.as_deref()?)),
            destination: destination.to_owned(),
        })
    });
    placed.collect()
}

/// Certificates that land where systemd looks for them under a name that it reads.
fn certificates(config: &Config, findings: &mut Vec<Finding>) -> Vec<Certificate> {
    let files = config.prism.os.iter().flat_map(|os| &os.additional_files);
    let mut certificates = Vec::new();
    for (index, file) in files.flatten().enumerate() {
        let at = format!("os.additionalFiles[{index}]");
        let (Some(source), Some(destination)) = (&file.source, &file.destination) else {
            continue;
        };
        let destination = Path::new(destination);
        let folder = destination.parent().and_then(Path::to_str);
        if !folder.is_some_and(|folder| CERTIFICATE_DIRS.contains(&folder)) {
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
        match trust::read_one(&config.resolve(Path::new(source))) {
            Ok(certificate) => certificates.push(certificate),
            Err(finding) => findings.push(finding.at(format!("{at}.source"))),
        }
    }
    certificates
}

fn enables(config: &Config, kind: ExtensionKind) -> bool {
    let unit = unit_name(kind);
    let stem = unit.trim_end_matches(".service");
    let services = config.prism.os.as_ref().and_then(|os| os.services.as_ref());
    let enabled = services.and_then(|services| services.enable.as_ref());
    let mut enabled = enabled.into_iter().flatten().flatten();
    enabled.any(|name| name == unit || name == stem) || scripts::enables(&config.prism, stem)
}
