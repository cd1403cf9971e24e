//! `diff`: what two images differ in.

use super::args::Diff;
use super::output::{Failure, Screen};
use super::text::image;
use crate::finding::Finding;
use crate::inspect;
use crate::session::open_any;

pub(crate) fn diff(screen: &Screen, args: &Diff) -> Result<(), Failure> {
    let (one, other) = (open_any(&args.one)?, open_any(&args.other)?);
    let difference = inspect::diff(&one, &other)
        .map_err(|error| Finding::error("file-system-unreadable", error.to_string()))?;
    screen.result(&image::difference(&difference), &difference)?;
    match difference.equal {
        true => Ok(()),
        false => Err(Failure::Said(1)),
    }
}
