//! What of the environment counts: the time, the keys, and where programs are.

use std::time::{SystemTime, UNIX_EPOCH};

use super::output::{Failure, Screen};
use super::progress::watch;
use super::prompt::prompt;
use crate::build::Built;
use crate::finding::Finding;
use crate::plan::Environment;
use crate::session::Session;
use crate::sign::passphrase::Secrets;

/// What every verb that plans begins with.
pub(crate) fn environment() -> Result<Environment, Finding> {
    Ok(Environment {
        epoch: epoch()?,
        now: Some(now()),
        search_path: std::env::var_os("PATH"),
        ..Environment::default()
    })
}

/// The time in Unix seconds.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(0)
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), else 0.
fn epoch() -> Result<u64, Finding> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(0),
        Ok(text) => text.parse().map_err(|_| {
            Finding::error(
                "source-date-epoch",
                format!("SOURCE_DATE_EPOCH is `{text}`, expected Unix seconds"),
            )
            .help("unset it, or set it to a whole number")
        }),
    }
}

/// Builds with the keys of the environment, and shows how far that is.
pub(crate) fn build(screen: &Screen, session: &Session) -> Result<Built, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let secrets = Secrets::new(&variable, &prompt);
    // Before anything moves on the screen.
    for (key, passphrase) in session.plan.keys() {
        secrets.prepare(key, passphrase);
    }
    Ok(watch(screen, |progress| session.build(&secrets, progress))?)
}
