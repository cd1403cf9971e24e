//! What the tests with other people's programs share.
//!
//! They need programs that are not everywhere, most of them root, and a Debian 13 root that is
//! made once. Where something is missing a test fails if `CI` is set and is skipped with a line on
//! stderr elsewhere: a referee that silently stays at home is none.

#![allow(
    dead_code,
    reason = "every test program compiles the whole module and uses its part of it"
)]
#![allow(clippy::print_stderr, clippy::unwrap_used, unreachable_pub)]

pub mod builders;
pub mod guest;
pub mod language_server;
pub mod namespace;
pub mod project;
pub mod repart;
pub mod report;
#[allow(
    clippy::duplicate_mod,
    reason = "some test programs have both harnesses"
)]
#[path = "../program/secret.rs"]
mod secret;
pub mod seen;
pub mod signer;
pub mod smime;
pub mod tools;
pub mod trixie;
pub mod workshop;
