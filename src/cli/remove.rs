//! `remove`: what an earlier apply placed goes.

use super::args::Remove;
use super::output::{Failure, Screen};
use super::text::changes;
use crate::output::{Application, Changes, versioned};
use crate::place;
use crate::session::open_root;

pub(crate) fn remove(screen: &Screen, args: &Remove) -> Result<(), Failure> {
    let root = open_root(&args.rootfs)?;
    let options = place::Options {
        force: args.force,
        ..place::Options::default()
    };
    let removed = place::remove(&root, &args.name, &options)?;
    screen.findings(None, &removed.findings);
    let changes = Changes::from(&removed);
    screen.result(
        &changes::text(&changes),
        &versioned(Application {
            prediction: None,
            applied: changes,
        }),
    )
}
