//! Keys, passphrases, signer commands, deferred signatures, and the certificates that a base is to trust.

pub(crate) mod command;
pub(crate) mod deferred;
pub(crate) mod key;
pub mod passphrase;
pub(crate) mod trust;
