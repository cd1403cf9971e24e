//! On-disk formats: partition table, hash tree, signature, file systems.

pub mod erofs;
pub mod gpt;
pub mod gpt_types;
pub mod verity;
