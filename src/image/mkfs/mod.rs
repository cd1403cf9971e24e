//! File systems that are made by their own programs.

pub(crate) mod ext4;
pub(crate) mod program;
pub mod squashfs;
