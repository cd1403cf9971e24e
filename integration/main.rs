//! Every test from outside but `scale`, in one program: what they share is compiled once, and what
//! none of them uses is reported.
//!
//! `cargo test --test integration NAME` runs those with `NAME` in their path, such as `forms` or
//! `verbs::apply`. They run beside each other in one process, so none of them may change what is the
//! process's: its environment, folder, umask or limits. `harness/again.rs` gives a test a process of
//! its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod config;
mod expand;
mod harness;
mod hostile;
mod image;
mod ingest;
mod mkosi;
mod sign;
mod systemd;
mod verbs;
