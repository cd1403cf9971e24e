//! What the tests with other people's programs share.
//!
//! They need programs that are not everywhere, most of them root, and a Debian 13 root that is
//! made once. Where something is missing a test fails if `CI` is set and is skipped with a line on
//! stderr elsewhere: a referee that silently stays at home is none.

pub(crate) mod again;
pub(crate) mod bad;
pub(crate) mod builders;
pub(crate) mod cases;
pub(crate) mod debian;
pub(crate) mod guest;
pub(crate) mod language_server;
pub(crate) mod namespace;
pub(crate) mod nobody;
pub(crate) mod placing;
pub(crate) mod probe;
pub(crate) mod repart;
pub(crate) mod report;
pub(crate) mod said;
pub(crate) mod sample;
pub(crate) mod scenario;
pub(crate) mod secret;
pub(crate) mod seen;
pub(crate) mod signer;
pub(crate) mod smime;
pub(crate) mod snapshot;
pub(crate) mod tools;
pub(crate) mod trixie;
pub(crate) mod workshop;
pub(crate) mod workspace;
