//! One read-only view of the file systems that extensions come in.
//!
//! EROFS, SquashFS and ext4 are read without mounting; others are only named.
//! Paths are resolved here, inside the image: symbolic links, also absolute
//! ones, never lead out of it. Whatever the image claims, a directory has at
//! most a million entries and 64 MiB, a file is read up to a given length, and
//! damage is an error. The crates underneath have panicked on crafted images,
//! so every call into them is caught.

mod blocks;
mod erofs;
mod error;
mod ext4;
mod file_system;
mod kind;
mod limits;
mod metadata;
mod reader;
mod squashfs;
pub(crate) mod view;
mod window;

pub use error::FsError;
pub use file_system::FileSystem;
pub use kind::FsKind;
pub use metadata::{Details, FileKind, Metadata, Xattr, Xattrs};
pub use window::{Window, WindowReader};
