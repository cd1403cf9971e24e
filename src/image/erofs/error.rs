//! Why a file system was not finished.

use std::io;

use super::layout::LayoutError;
use crate::tree::read::ReadError;

/// Why a file system was not finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The tree does not fit into the format.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file could not be read.
    #[error(transparent)]
    Source(#[from] ReadError),
    /// The compressor did not do its work.
    #[error("compressing the content: {0}")]
    Compress(#[source] io::Error),
    /// The blocks could not be written.
    #[error("writing the file system: {0}")]
    Write(#[source] io::Error),
}
