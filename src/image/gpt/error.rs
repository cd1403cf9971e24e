//! Why a partition table cannot be read or written.

use std::io;

/// Why a partition table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The file itself could not be read or written.
    #[error("accessing the partition table: {0}")]
    Io(#[from] io::Error),
    /// The header says something that no tool writes, or its checksum is wrong.
    #[error("the GPT header is not usable: {0}")]
    Header(String),
    /// An entry contradicts the header, the file or another entry.
    #[error("GPT partition {number} is not usable: {reason}")]
    Entry {
        /// Position in the table, from 1.
        number: u32,
        /// What was expected and found.
        reason: String,
    },
    /// libblkid, and so systemd, would not look at the GPT.
    #[error("the image has a GPT but no protective MBR, so systemd sees no partition table")]
    NoProtectiveMbr,
}
