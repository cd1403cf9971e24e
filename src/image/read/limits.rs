//! What one image may cost those who read it, whatever it claims.

/// Most entries of one directory.
pub(super) const MAX_ENTRIES: usize = 1_000_000;
/// Longest directory in bytes; stops directories that describe one block over and over.
pub(super) const MAX_DIRECTORY: u64 = 64 * 1024 * 1024;
/// Largest file that is copied through memory, in bytes.
pub(super) const MAX_COPY: u64 = 256 << 20;
/// Largest file that is copied at all, in bytes: holes make a file long on paper that takes days.
pub(super) const MAX_FILE: u64 = 64 << 30;
/// Most symbolic links on the way to one file, as in Linux `fs/namei.c` (MAXSYMLINKS).
pub(super) const MAX_SYMLINKS: u32 = 40;
/// Longest path (Linux PATH_MAX), which ends directories that contain themselves.
pub(super) const MAX_PATH: usize = 4096;
