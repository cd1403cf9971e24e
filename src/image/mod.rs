//! On-disk formats: partition table, hash tree, signature, file systems.

pub mod compressed;
pub mod dissect;
pub mod erofs;
pub mod gpt;
pub mod mkfs;
pub mod read;
pub mod sidecar;
pub mod signature;
pub mod verity;
pub mod x509;
