//! The command line: what was typed, and how results are shown.

pub mod args;
pub mod render;
