//! Where output goes: the result to standard output, everything else to standard error.

use std::cell::{Cell, RefCell};
use std::io;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::args::Output;
use super::text::findings;
use crate::config::source::{Refused, Source};
use crate::finding::{Finding, Findings, Severity};
use crate::output::report::{Row, junit, sarif};
use crate::output::{Failed, Located, Told, versioned};
use crate::session::{Cause, Noticed, Stopped};

/// What the user asked of the output.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Form of the result.
    pub output: Output,
    /// Only errors.
    pub quiet: bool,
    /// No result either, for steps inside another verb.
    silent: bool,
    /// Whether standard error takes colours.
    color: bool,
    /// Whether the result has been written.
    written: Cell<bool>,
    /// What was found on the way: the result of some forms, and of a failure that has no other.
    said: RefCell<Vec<Row>>,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A step of the library stopped.
    Stopped(Box<Stopped>),
    /// It has been said already; only the status is left.
    Said(u8),
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        Failure::Stopped(Box::new(stopped))
    }
}

impl From<Finding> for Failure {
    fn from(cause: Finding) -> Failure {
        Stopped::from(cause).into()
    }
}

impl From<Findings> for Failure {
    fn from(cause: Findings) -> Failure {
        Stopped::from(cause).into()
    }
}

impl From<Refused> for Failure {
    fn from(cause: Refused) -> Failure {
        Stopped::from(cause).into()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Failure {
        Stopped::from(cause).into()
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Failure {
        Stopped::from(cause).into()
    }
}

impl Screen {
    /// Reads what the environment says about colours (no-color.org).
    pub(crate) fn new(output: Output, quiet: bool) -> Screen {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen {
            output,
            quiet,
            silent: false,
            color: wanted && io::stderr().is_terminal(),
            written: Cell::new(false),
            said: RefCell::default(),
        }
    }

    /// The same streams with text as the result.
    pub(crate) fn for_people(&self) -> Screen {
        Screen {
            color: self.color,
            ..Screen::new(Output::Text, self.quiet)
        }
    }

    /// The same streams without results and notes.
    pub(crate) fn silent(&self) -> Screen {
        Screen {
            silent: true,
            color: self.color,
            ..Screen::new(self.output, true)
        }
    }

    /// Whether the result is JSON.
    pub(crate) fn json_wanted(&self) -> bool {
        self.output == Output::Json
    }

    /// Writes the result: `text` for people, `value` for programs.
    pub(crate) fn result(&self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        if self.is_form() {
            // More may be found yet; [`Screen::finish`] writes it.
            Ok(())
        } else if self.json_wanted() {
            let mut json = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
            json.push('\n');
            self.raw(&json)
        } else {
            self.raw(text)
        }
    }

    /// Whether what was found is the result.
    fn is_form(&self) -> bool {
        match self.output {
            Output::Sarif | Output::Junit => true,
            Output::Text | Output::Json => false,
        }
    }

    /// Writes what is known only at the end: all that was found, where that is the result.
    pub(crate) fn finish(&self) {
        if self.written.get() {
            return;
        }
        if let Some(form) = self.form_of_findings() {
            // The status tells how it ended already.
            let _ = self.raw(&form);
        }
    }

    /// All that was found, where that is the result.
    fn form_of_findings(&self) -> Option<String> {
        match self.output {
            Output::Sarif => Some(sarif(&self.said.borrow())),
            Output::Junit => Some(junit(&self.said.borrow())),
            Output::Text | Output::Json => None,
        }
    }

    /// Writes to standard output; a reader that has left is not an error.
    pub(crate) fn raw(&self, text: &str) -> Result<(), Failure> {
        if self.silent {
            return Ok(());
        }
        self.written.set(true);
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Said(0)),
            other => Ok(other?),
        }
    }

    /// Lets bytes be written to standard output as they come. What the writer itself has to say is
    /// handed on.
    pub(crate) fn stream<E>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<Result<(), E>, Failure> {
        struct Out<W> {
            to: W,
            error: Option<io::Error>,
        }
        impl<W: Write> Write for Out<W> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.to.write(bytes).map_err(|error| {
                    let kind = error.kind();
                    self.error = Some(error);
                    kind.into()
                })
            }
            fn flush(&mut self) -> io::Result<()> {
                self.to.flush()
            }
        }
        self.written.set(true);
        let to = io::BufWriter::new(io::stdout().lock());
        let mut out = Out { to, error: None };
        let result = write(&mut out);
        let flushed = out.flush();
        match out.error.map_or(flushed, Err) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Said(0)),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(result),
        }
    }

    /// Says what is being done.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.error_text(&format!("{text}\n"));
        }
    }

    /// Shows findings; warnings and notes only if not quiet.
    pub(crate) fn findings(&self, source: Option<&Source>, findings: &[Finding]) {
        if self.output != Output::Text {
            let config = source.map(|source| source.path.clone());
            // They are made of texts and numbers alone, which JSON takes.
            let rows = located(source, findings).map(|it| Row {
                config: config.clone(),
                value: serde_json::to_value(it).unwrap_or_default(),
            });
            self.said.borrow_mut().extend(rows);
        }
        let shown: Vec<Finding> = findings
            .iter()
            .filter(|finding| !self.quiet || finding.is_error())
            .cloned()
            .collect();
        if !shown.is_empty() {
            self.error_text(&findings::findings(source, &shown, self.color));
        }
    }

    /// Shows what a step noticed.
    pub(crate) fn noticed(&self, noticed: &Noticed) {
        for (about, findings) in noticed.groups() {
            self.findings(about, findings);
        }
    }

    /// Shows why a command failed and gives its exit status.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        let stopped = match failure {
            Failure::Stopped(stopped) => stopped,
            Failure::Said(status) => {
                self.failure_json();
                return ExitCode::from(*status);
            }
        };
        self.noticed(&stopped.noticed);
        match &stopped.cause {
            Cause::Findings(findings) => self.findings(stopped.about.as_deref(), findings),
            Cause::Error(error) => {
                let text = format!("{error:#}");
                self.error_text(&format!("error: {text}\n"));
                let told = Told::Error {
                    severity: Severity::Error,
                    message: text,
                };
                self.said.borrow_mut().push(Row {
                    config: None,
                    value: serde_json::to_value(told).unwrap_or_default(),
                });
            }
        }
        self.failure_json();
        ExitCode::FAILURE
    }

    /// A program that asked for JSON gets some, also where no result has come about.
    fn failure_json(&self) {
        let said = self.said.borrow();
        let error = said
            .iter()
            .any(|row| row.value.get("severity").is_some_and(|it| it == "error"));
        if self.json_wanted() && error && !self.written.get() {
            let findings: Vec<_> = said.iter().map(|row| &row.value).collect();
            let failed = versioned(Failed { findings });
            let text = serde_json::to_string_pretty(&failed).unwrap_or_default();
            // The status tells of the failure already.
            let _ = self.raw(&format!("{text}\n"));
        }
    }

    fn error_text(&self, text: &str) {
        // Nobody is left to tell if this fails.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Findings for programs, with line and column where the config has them.
pub(crate) fn located<'a>(
    source: Option<&'a Source>,
    findings: &'a [Finding],
) -> impl Iterator<Item = Located> + 'a {
    findings.iter().map(move |it| Located::new(it, source))
}
