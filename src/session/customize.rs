//! Prism, run on the plain configs of a session.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::imagecustomizer::{Invocation, Run};
use super::{Session, Stopped};
use crate::config::Config;

impl Session {
    /// Runs Prism on the plain configs, each beside its source for as long, and returns how it ended.
    ///
    /// # Errors
    /// Where a config can't be expanded or written, or the program can't be started.
    pub fn run_prism(&self, invocation: &Invocation) -> Result<ExitStatus, Stopped> {
        let mut run = Run::begin()?;
        let mut names: BTreeMap<PathBuf, OsString> = BTreeMap::new();
        let links = self.chain.links();
        for (number, link) in links.iter().enumerate() {
            if self.chain.needs_expansion(link) || number + 1 == links.len() {
                let path = &link.config.source.path;
                names.insert(path.clone(), run.reserve(path)?);
            }
        }
        let name = |config: &Config| names.get(&config.source.path).cloned().unwrap_or_default();
        for (number, (_, text)) in self.plain_texts(name)?.iter().enumerate() {
            run.write(number, text)?;
        }
        Ok(run.start(invocation)?)
    }
}
