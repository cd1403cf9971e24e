//! The program's verbs, run as a user runs them.

mod apply;
mod cli;
mod customize;
mod enable;
mod examples;
mod place;
mod plain;
mod progress;
mod remove;
mod results;
mod trident;
