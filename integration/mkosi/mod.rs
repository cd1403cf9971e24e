//! Configs and images of mkosi.

mod builds;
mod import;
