//! What the verbs print with `--output json`, as types, so that what is printed and the schema of it
//! are one.

pub(crate) mod report;
pub mod schema;
pub(crate) mod schema_merge;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::build::manifest::Entry;
use crate::check::Prediction;
use crate::config::model::Enable;
use crate::config::source::{Position, Source};
use crate::finding::{Finding, Severity};
use crate::inspect::verify::Report;
use crate::io::root::Ownership;
use crate::mkosi::settings::Foreign;
use crate::place::{Applied, Outcome, Removed};
use crate::plan::{Plan, Step};
use crate::systemd::kind::ExtensionKind;

/// Version of all these formats.
pub const SCHEMA_VERSION: u32 = 1;

/// A result with the version of its format.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Versioned<T> {
    /// Version of this format.
    pub schema_version: u32,
    /// The result.
    #[serde(flatten)]
    pub result: T,
}

/// Puts the version before a result.
pub fn versioned<T>(result: T) -> Versioned<T> {
    Versioned {
        schema_version: SCHEMA_VERSION,
        result,
    }
}

/// A finding with its place in the config.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Located {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The config that it stands in, where that is one that the given config builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Line in the config, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Located {
    /// Looks a finding's place up in the config that it is about.
    pub fn new(finding: &Finding, source: Option<&Source>) -> Located {
        let place = finding.place.as_ref();
        let position = place.and_then(|place| Position::of(place, source));
        Located {
            finding: finding.clone(),
            config: None,
            line: position.as_ref().map(|it| it.line),
            column: position.as_ref().map(|it| it.column),
        }
    }
}

/// What `validate-config` found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Validation {
    /// Whether no finding is an error.
    pub valid: bool,
    /// Everything that was found, in the order of the config.
    pub findings: Vec<Located>,
}

/// What `import-mkosi` makes of a configuration.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Import<'a> {
    /// A config with nothing but the `sysext` section that is the same.
    pub config: serde_json::Value,
    /// What mkosi's image would have otherwise, a sentence each.
    pub remarks: &'a [String],
    /// What only mkosi can do.
    pub not_covered: &'a [Foreign],
}

/// What `check` predicts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checked<'a> {
    /// Whether every listed extension is merged for sure, with the protection that is asked for.
    pub good: bool,
    /// What becomes of each extension, and of all together.
    #[serde(flatten)]
    pub prediction: &'a Prediction,
}

/// What `build` made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Built<'a> {
    /// The extensions as the manifest has them.
    pub extensions: Vec<&'a Entry>,
}

/// What `expand` wrote.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expansion<'a> {
    /// The plain config.
    pub expanded_config: &'a Path,
    /// The plain configs that it builds on and that were made as well, in the order in which Prism reads them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expanded_bases: Vec<&'a Path>,
    /// With `--check`: that it is what would be written. Where it is not, the command fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_date: Option<bool>,
}

/// What `verify` found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Verified<'a> {
    /// Whether nothing is bad, and where certificates are named, signed by one of them.
    pub good: bool,
    /// The checks.
    #[serde(flatten)]
    pub report: &'a Report,
}

/// Why a command failed that has no other result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failed<T = Told> {
    /// What was found until then; at least one is an error.
    pub findings: Vec<T>,
}

/// A finding, or an error without an id.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Told {
    /// A finding.
    Finding(Box<Located>),
    /// What went wrong, in words.
    Error {
        /// Always an error.
        severity: Severity,
        /// What went wrong.
        message: String,
    },
}

/// What `apply --dry-run` would do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planned<'a> {
    /// The extensions, in the order of the config.
    pub extensions: Vec<PlannedImage<'a>>,
    /// Paths on the target of the certificates that are placed.
    pub certificates: Vec<String>,
    /// The policy that a drop-in sets, in systemd's syntax.
    pub image_policy: Option<&'a str>,
    /// How the service is enabled.
    pub enable: Enable,
}

/// An extension of the plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlannedImage<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it adds to.
    pub kind: ExtensionKind,
    /// How the image comes about.
    pub action: Origin,
    /// The image on this machine.
    pub image: &'a Path,
    /// Where it is placed.
    pub destination: &'a str,
    /// What is placed with a prebuilt image: root hash, signature, hash tree.
    pub beside: Vec<&'a str>,
}

/// How an image comes about.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It is built.
    Build,
    /// It is there already.
    TakeIn,
}

impl<'a> Planned<'a> {
    /// What a plan would do.
    pub fn new(plan: &'a Plan) -> Planned<'a> {
        let extensions = plan.extensions.iter().map(|planned| PlannedImage {
            name: &planned.name,
            kind: planned.kind,
            action: match planned.step {
                Step::Build(_) => Origin::Build,
                Step::PrebuiltImage(_) | Step::PrebuiltFolder(_) => Origin::TakeIn,
            },
            image: &planned.image,
            destination: &planned.destination,
            beside: planned
                .beside
                .iter()
                .map(|it| it.destination.as_str())
                .collect(),
        });
        let certificates = plan.certificates.iter();
        Planned {
            extensions: extensions.collect(),
            certificates: certificates.map(|it| plan.certificate_path(it)).collect(),
            image_policy: plan.image_policy.as_deref(),
            enable: plan.enable,
        }
    }
}

/// What `apply` did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Application<'a> {
    /// What becomes of the extensions at boot, unless that was not asked for.
    pub prediction: Option<&'a Prediction>,
    /// What was written.
    pub applied: Changes<'a>,
}

/// What an apply or a remove did.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changes<'a> {
    /// The files, in the order of writing.
    pub files: Vec<ChangedFile<'a>>,
    /// The link that starts `systemd-sysext.service` at boot.
    pub service: Action,
    /// The link that starts `systemd-confext.service` at boot.
    pub confext_service: Action,
    /// Who owns what was written.
    pub ownership: Ownership,
    /// What else is to be told.
    pub findings: &'a [Finding],
}

/// A file that was written or taken out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedFile<'a> {
    /// The path inside the root file system.
    pub path: &'a str,
    /// What became of it.
    pub action: Action,
}

/// What became of a file or of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
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
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
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
    link.rsplit('/').next() == Some(kind.unit())
}

fn taken_out(paths: &[String]) -> impl Iterator<Item = ChangedFile<'_>> {
    paths.iter().map(|path| ChangedFile {
        path,
        action: Action::Removed,
    })
}
