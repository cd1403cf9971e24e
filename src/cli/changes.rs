//! What `apply` and `remove` did, for people and for programs.

use serde::Serialize;

use super::render::table;
use crate::base::root::Ownership;
use crate::base::unit::unit_name;
use crate::finding::Finding;
use crate::inject::{Applied, Outcome, Removed};
use crate::release::ExtensionKind;

/// What an apply or a remove did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changes<'a> {
    files: Vec<ChangedFile<'a>>,
    service: Action,
    confext_service: Action,
    ownership: Ownership,
    findings: &'a [Finding],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangedFile<'a> {
    path: &'a str,
    action: Action,
}

/// What became of a file or of the service.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    /// It is new.
    Placed,
    /// It replaced what was there.
    Replaced,
    /// It was there already.
    Unchanged,
    /// It was taken out.
    Removed,
    /// It was not asked for.
    None,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Placed => "placed",
            Action::Replaced => "replaced",
            Action::Unchanged => "unchanged",
            Action::Removed => "removed",
            Action::None => "none",
        }
    }
}

impl From<Outcome> for Action {
    fn from(outcome: Outcome) -> Action {
        match outcome {
            Outcome::Created => Action::Placed,
            Outcome::Replaced => Action::Replaced,
            Outcome::Unchanged => Action::Unchanged,
        }
    }
}

impl<'a> From<&'a Applied> for Changes<'a> {
    fn from(applied: &'a Applied) -> Changes<'a> {
        let placed = applied.files.iter().map(|file| ChangedFile {
            path: &file.path,
            action: file.outcome.into(),
        });
        let enabled = |kind| {
            let mut links = applied.links.iter();
            match links.find(|link| starts(&link.path, kind)) {
                Some(link) => link.outcome.into(),
                None => Action::None,
            }
        };
        Changes {
            files: placed.chain(taken_out(&applied.removed)).collect(),
            service: enabled(ExtensionKind::Sysext),
            confext_service: enabled(ExtensionKind::Confext),
            ownership: applied.ownership,
            findings: &applied.findings,
        }
    }
}

impl<'a> From<&'a Removed> for Changes<'a> {
    fn from(removed: &'a Removed) -> Changes<'a> {
        let disabled = |kind| match removed.links.iter().any(|link| starts(link, kind)) {
            true => Action::Removed,
            false => Action::None,
        };
        Changes {
            files: taken_out(&removed.files).collect(),
            service: disabled(ExtensionKind::Sysext),
            confext_service: disabled(ExtensionKind::Confext),
            ownership: removed.ownership,
            findings: &removed.findings,
        }
    }
}

/// Whether a link starts the service for extensions of a kind.
fn starts(link: &str, kind: ExtensionKind) -> bool {
    link.rsplit('/').next() == Some(unit_name(kind))
}

fn taken_out(paths: &[String]) -> impl Iterator<Item = ChangedFile<'_>> {
    paths.iter().map(|path| ChangedFile {
        path,
        action: Action::Removed,
    })
}

impl Changes<'_> {
    /// What was placed or taken out, for people.
    pub(super) fn text(&self) -> String {
        let mut rows: Vec<Vec<String>> = self
            .files
            .iter()
            .map(|file| vec![file.action.word().to_owned(), file.path.to_owned()])
            .collect();
        let services = [
            (ExtensionKind::Sysext, self.service),
            (ExtensionKind::Confext, self.confext_service),
        ];
        for (kind, action) in services {
            let word = match action {
                Action::None => continue,
                Action::Placed => "enabled",
                Action::Removed => "disabled",
                other => other.word(),
            };
            rows.push(vec![word.to_owned(), unit_name(kind).to_owned()]);
        }
        let mut text = table(&rows);
        if self.ownership == Ownership::Caller {
            text.push_str("ownership: caller (you are not root, so the files are yours)\n");
        }
        text
    }
}
