//! The link that starts a unit at boot, as `systemctl enable` makes it.

use std::path::Path;

use serde::Serialize;

use super::apply::Outcome;
use super::record::{Record, RecordedLink};
use super::{Options, Placements};
use crate::base;
use crate::base::unit::{Enablement, enablement_link};
use crate::finding::Finding;
use crate::io::root::{EntryKind, RootDir, RootError};

/// A link to start a unit at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLink {
    /// The path inside the root file system.
    pub path: String,
    /// Where it points.
    pub target: String,
    /// What was done about it.
    pub outcome: Outcome,
}

/// Finds out which links are needed; findings that are errors stop the apply.
pub(super) fn plan_links(
    root: &RootDir,
    placements: &Placements,
    options: Options,
    findings: &mut Vec<Finding>,
) -> Result<Vec<AppliedLink>, RootError> {
    let mut kinds = placements.enable.clone();
    kinds.sort_by_key(|kind| kind.name());
    kinds.dedup();
    let mut links = Vec::new();
    for kind in kinds {
        let (unit, odd) = base::read_unit_state(root, kind);
        findings.extend(odd);
        if let Some(mask) = &unit.masked {
            findings.push(
                Finding::error("unit-masked", format!("{} is masked by {mask}", unit.name))
                    .in_file(mask.as_str())
                    .help("remove the mask, or write `enable: none`"),
            );
            continue;
        }
        let Some(target) = unit.file else {
            findings.push(
                Finding::error(
                    "unit-missing",
                    format!("the base has no unit {}", unit.name),
                )
                .because("systemd ships the unit since 248 (confext: 254)")
                .help("install the package of the base that holds it, or write `enable: none`"),
            );
            continue;
        };
        let path = enablement_link(unit.name);
        let outcome = match unit.enablement {
            Enablement::Enabled(by) => {
                let target = root.read_link(Path::new(&by))?.unwrap_or_default();
                links.push(AppliedLink {
                    path: by,
                    target: target.to_string_lossy().into_owned(),
                    outcome: Outcome::Unchanged,
                });
                continue;
            }
            Enablement::Disabled => Outcome::Created,
            Enablement::Blocked(by) => {
                let directory = root
                    .lmetadata(Path::new(&path))?
                    .is_some_and(|metadata| metadata.kind == EntryKind::Directory);
                if !options.force || directory {
                    let message = format!("{by} keeps {} from being started at boot", unit.name);
                    findings.push(
                        Finding::error("would-overwrite", message)
                            .in_file(by.as_str())
                            .help("remove it, or use --force to replace it"),
                    );
                    continue;
                }
                // The block may be in /usr, which the link in /etc overrules.
                match by == path {
                    true => Outcome::Replaced,
                    false => Outcome::Created,
                }
            }
        };
        links.push(AppliedLink {
            path,
            target,
            outcome,
        });
    }
    Ok(links)
}

/// Links of an earlier apply that are still as it made them.
pub(super) fn intact_links<'a>(
    root: &RootDir,
    record: &'a Record,
) -> Result<Vec<&'a RecordedLink>, RootError> {
    let mut intact = Vec::new();
    for link in &record.links {
        let target = root.read_link(Path::new(&link.path))?;
        if target.is_some_and(|target| target.as_path() == Path::new(&link.target)) {
            intact.push(link);
        }
    }
    Ok(intact)
}
