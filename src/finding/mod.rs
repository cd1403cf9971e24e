//! What a check has to say: one fact, its place, and the way out.

pub(crate) mod catalog;
pub(crate) mod suggest;
pub(crate) mod text;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// How much a finding weighs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing to do.
    Note,
    /// Probably not what was meant; the command goes on.
    Warning,
    /// The command stops.
    Error,
}

/// Where in the input a finding stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// A path in the config such as `sysext.extensions[0].verityKey`.
    Yaml(String),
    /// A line and column (both from 1) of the config, where it could not be read as data.
    Position {
        /// Line.
        line: usize,
        /// Column in characters.
        column: usize,
    },
    /// A file, folder or image.
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Yaml(path) => f.write_str(path),
            Place::Position { line, column } => write!(f, "line {line}, column {column}"),
            Place::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One thing that was found, in words for the person who has to act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable lower-kebab name, for filters and documentation.
    pub id: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What was expected and found, in one sentence without a full stop.
    pub message: String,
    /// The systemd or Prism rule behind it: source and versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Finding {
    /// A finding that stops the command.
    pub fn error(id: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Error, message)
    }

    /// A finding that is shown while the command goes on.
    pub fn warning(id: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Warning, message)
    }

    /// A finding that only informs.
    pub fn note(id: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Note, message)
    }

    /// Whether it stops the command.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn new(id: &'static str, severity: Severity, message: impl Into<String>) -> Finding {
        debug_assert!(catalog::of(id).is_some(), "{id} has no long text");
        Finding {
            id,
            severity,
            place: None,
            message: message.into(),
            rule: None,
            help: None,
        }
    }

    /// Adds the place in the config, as a path such as `sysext.extensions[0].name`.
    #[must_use]
    pub fn at(mut self, yaml_path: impl Into<String>) -> Finding {
        self.place = Some(Place::Yaml(yaml_path.into()));
        self
    }

    /// Adds the file it is about.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<PathBuf>) -> Finding {
        self.place = Some(Place::File(path.into()));
        self
    }

    /// Adds the source of the rule.
    #[must_use]
    pub fn because(mut self, rule: impl Into<String>) -> Finding {
        self.rule = Some(rule.into());
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        write!(f, " [{}]", self.id)
    }
}

/// Findings that stopped a command; at least one is an error.
#[derive(Debug, Clone)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl Findings {
    /// Nothing, unless one of these is an error; then all of them.
    ///
    /// # Errors
    /// The findings as they are.
    pub(crate) fn stop_on_errors(findings: &[Finding]) -> Result<(), Findings> {
        match findings.iter().any(Finding::is_error) {
            true => Err(Findings(findings.to_vec())),
            false => Ok(()),
        }
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Findings {
        Findings(vec![finding])
    }
}
