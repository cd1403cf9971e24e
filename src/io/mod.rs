//! This machine: opening files, writing them whole or not at all, digests, progress, and a root that no path can leave.

pub mod atomic_file;
pub mod atomic_folder;
pub mod bomb;
pub mod digest;
pub mod hex;
mod hidden_name;
pub mod open;
pub mod progress;
pub mod root;
pub mod secret;
