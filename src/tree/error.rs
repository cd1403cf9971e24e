//! Why a tree cannot take a change.

/// Why a tree cannot take a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path is not one that can stand in a tree.
    #[error("{path} cannot stand in an extension: {reason}")]
    BadPath {
        /// The path as given, invalid UTF-8 replaced.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is there already.
    #[error("{path} is there twice; leave out one of the two")]
    Exists {
        /// Path in the tree.
        path: String,
    },
    /// A directory is needed where something else is.
    #[error("{path} is needed as a folder but is something else")]
    NotADirectory {
        /// Path in the tree.
        path: String,
    },
    /// Two directories of the same path differ in mode, owner or extended attributes.
    #[error("the folder {path} is there twice with different {what}; make them equal")]
    Differs {
        /// Path in the tree.
        path: String,
        /// `modes`, `owners` or `extended attributes`.
        what: &'static str,
    },
    /// Nothing is there.
    #[error("{path} is not there")]
    NotFound {
        /// Path in the tree.
        path: String,
    },
    /// More inodes than an [`InodeId`](super::InodeId) counts.
    #[error("more than 4294967295 files")]
    TooMany,
}
