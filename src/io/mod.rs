//! This machine: opening files, writing them whole or not at all, digests, progress, and a root that no path can leave.

pub(crate) mod atomic_file;
pub(crate) mod atomic_folder;
pub(crate) mod bomb;
pub(crate) mod digest;
pub mod hex;
mod hidden_name;
pub(crate) mod open;
pub mod progress;
pub mod root;
pub(crate) mod secret;
