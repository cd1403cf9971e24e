//! What a step of a session has to say: what was noticed, and why it stopped.

use std::fmt;

use crate::config::source::{Refused, Source};
use crate::finding::{Finding, Findings};

/// What was noticed, in the order in which it was, each part with the config that it is about.
#[derive(Debug, Clone, Default)]
pub struct Noticed(Vec<(Option<Source>, Vec<Finding>)>);

impl Noticed {
    /// Adds findings about a config, or about none.
    pub(crate) fn add(&mut self, about: Option<&Source>, findings: Vec<Finding>) {
        if !findings.is_empty() {
            self.0.push((about.cloned(), findings));
        }
    }

    /// Adds what was noticed later.
    pub(crate) fn extend(&mut self, later: Noticed) {
        self.0.extend(later.0);
    }

    /// The findings, with the config whose text they have places in.
    pub fn groups(&self) -> impl Iterator<Item = (Option<&Source>, &[Finding])> {
        let groups = self.0.iter();
        groups.map(|(about, findings)| (about.as_ref(), findings.as_slice()))
    }

    /// The findings alone.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().flat_map(|(_, findings)| findings)
    }
}

/// Why a step stopped, and what was noticed before it did.
#[derive(Debug)]
pub struct Stopped {
    /// What was noticed until then.
    pub noticed: Noticed,
    /// The config that the cause is about.
    pub about: Option<Box<Source>>,
    /// Why.
    pub cause: Cause,
}

/// Why a step stopped.
#[derive(Debug)]
pub enum Cause {
    /// Findings, of which at least one is an error.
    Findings(Vec<Finding>),
    /// What has no id of its own, such as a full disk.
    Error(anyhow::Error),
}

impl Stopped {
    /// Findings about a config.
    pub(crate) fn about(source: &Source, findings: Vec<Finding>) -> Stopped {
        Stopped {
            about: Some(Box::new(source.clone())),
            ..Stopped::from(Findings(findings))
        }
    }

    /// The same, with what was noticed before.
    pub(crate) fn after(self, mut before: Noticed) -> Stopped {
        before.extend(self.noticed);
        Stopped {
            noticed: before,
            ..self
        }
    }

    /// The errors by id, for programs that look for one.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        let findings = match &self.cause {
            Cause::Findings(findings) => findings.as_slice(),
            Cause::Error(_) => &[],
        };
        let errors = findings.iter();
        errors.filter(|finding| finding.is_error())
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.about {
            write!(f, "{}: ", source.path.display())?;
        }
        match &self.cause {
            Cause::Findings(findings) => Findings(findings.clone()).fmt(f),
            Cause::Error(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Stopped {}

impl From<Findings> for Stopped {
    fn from(findings: Findings) -> Stopped {
        Stopped {
            noticed: Noticed::default(),
            about: None,
            cause: Cause::Findings(findings.0),
        }
    }
}

impl From<Finding> for Stopped {
    fn from(finding: Finding) -> Stopped {
        Findings(vec![finding]).into()
    }
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Stopped {
        Stopped::about(&refused.source, refused.findings)
    }
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Stopped {
        match error.downcast::<Findings>() {
            Ok(findings) => findings.into(),
            Err(error) => Stopped {
                noticed: Noticed::default(),
                about: None,
                cause: Cause::Error(error),
            },
        }
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        anyhow::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stay_findings_on_their_way_through_other_errors() {
        let finding = Finding::error("no-base", "the base OS is not known");
        let stopped = Stopped::from(anyhow::Error::from(Findings(vec![finding])));
        let ids: Vec<&str> = stopped.errors().map(|finding| finding.id).collect();
        assert_eq!(ids, ["no-base"]);
        let other = Stopped::from(anyhow::anyhow!("disk full").context("writing a.raw"));
        assert_eq!(other.to_string(), "writing a.raw: disk full");
        assert_eq!(other.errors().count(), 0);
    }

    #[test]
    fn what_was_noticed_first_is_told_first() {
        let note = |message: &str| Finding::note("no-base", message);
        let mut before = Noticed::default();
        before.add(None, vec![note("one")]);
        before.add(None, Vec::new());
        let mut stopped = Stopped::from(note("three"));
        stopped.noticed.add(None, vec![note("two")]);
        let stopped = stopped.after(before);
        let order: Vec<&str> = stopped
            .noticed
            .findings()
            .map(|it| it.message.as_str())
            .collect();
        assert_eq!(order, ["one", "two"]);
        assert_eq!(stopped.noticed.groups().count(), 2);
    }
}
