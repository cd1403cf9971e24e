//! On-disk formats: partition table, hash tree, signature, file systems.

pub mod certificate;
pub mod ddi;
pub(crate) mod der;
pub mod erofs;
pub mod ext4;
pub mod filesystem;
pub mod gpt;
pub mod gpt_types;
pub mod health;
pub mod hex;
pub mod program;
pub mod sidecar;
pub mod signature;
pub mod squashfs;
pub mod verity;
pub mod wrapped;
