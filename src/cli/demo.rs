//! demo
use super::args::Demo;
use super::screen::{Failure, Screen};
pub(super) fn demo(_s: &Screen, _a: &Demo) -> Result<(), Failure> {
    Ok(())
}
