//! Keys, passphrases, signer commands, deferred signatures, and the certificates that a base is to trust.

pub mod command;
pub mod deferred;
pub mod key;
pub mod passphrase;
pub mod trust;
