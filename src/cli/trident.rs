//! `--trident`: the snippet for hosts that Trident manages, beside what a verb does anyway.

use super::args::TridentArgs;
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::findings;
use crate::io::atomic_file::write_whole;
use crate::session::Session;

/// Writes the snippet if it was asked for; says where it is.
pub(crate) fn trident(
    screen: &Screen,
    session: &Session,
    args: &TridentArgs,
) -> Result<String, Failure> {
    let Some(path) = &args.trident else {
        return Ok(String::new());
    };
    let url = args.trident_url.as_deref();
    let text = watch(screen, |progress| session.trident(url, progress))?;
    write_whole(path, text.as_bytes(), 0o644)?;
    Ok(format!("trident snippet: {}\n", findings::path(path)))
}
