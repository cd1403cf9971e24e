//! File systems that are made by their own programs.

pub mod ext4;
pub mod program;
pub mod squashfs;
