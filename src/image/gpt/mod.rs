//! GUID partition tables: writing ours, reading anyone's.
//!
//! The `gpt` crate does the encoding. Its reader asserts on crafted headers
//! and follows offsets from the header without looking, so [`read()`] vets the
//! header and reads the entries only after that; this module also checks what
//! the crate does not (ranges, order, overlap). Nothing read from an image is
//! ever written back.
//!
//! Rules for reading follow libblkid (`libblkid/src/partitions/gpt.c`), which
//! systemd dissects images with: a protective MBR must be there, the backup
//! header is used when the primary is damaged, checksums must be right. Sector
//! sizes are found as systemd does (`src/shared/dissect-image.c`,
//! `probe_sector_size`), but only 512 and 4096.

mod error;
mod read;
mod table;
pub mod types;
mod write;

pub use error::GptError;
pub use read::read;
pub use table::{Entry, GROW_FS, NO_AUTO, READ_ONLY, Table};
pub use write::{Partition, SECTOR, write};
