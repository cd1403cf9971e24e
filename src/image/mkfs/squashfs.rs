//! Writing squashfs through `mksquashfs` of squashfs-tools 4.5 or newer.
//!
//! The tree goes to it as an archive on a pipe, so nothing is copied to disk first and no rights
//! are needed for owners and attributes. With the times given and the archive in one order, it
//! makes the same bytes each time; another version of it may make others.

use std::ffi::OsString;
use std::fs::File;
use std::process::Stdio;

use anyhow::{Result, bail};

use super::program::{Program, path_of};
use crate::io::progress::Progress;
use crate::tree::tar_write::ArchiveError;
use crate::tree::{Inode, Tree, tar_write};

const MKSQUASHFS: Program = Program {
    name: "mksquashfs",
    package: "squashfs-tools",
    wanted_by: "format: squashfs",
};

/// How data and metadata are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib, which every kernel with squashfs reads unless told otherwise.
    Gzip,
    /// LZ4.
    Lz4,
    /// LZ4 after the longest search.
    Lz4hc,
    /// Zstandard.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

impl Compression {
    fn options(self) -> Vec<String> {
        let words: &[&str] = match self {
            Compression::None => &["-noI", "-noId", "-noD", "-noF", "-noX"],
            Compression::Gzip => &["-comp", "gzip"],
            Compression::Lz4 => &["-comp", "lz4"],
            Compression::Lz4hc => &["-comp", "lz4", "-Xhc"],
            Compression::Zstd { level } => {
                let level = level.to_string();
                let words = ["-comp", "zstd", "-Xcompression-level", &level];
                return words.map(str::to_owned).to_vec();
            }
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// Writes the tree into `file` from the byte `offset` on, everything dated `epoch_seconds` (seconds
/// since 1970); returns the bytes of the file system, a multiple of 4096. Everything after `offset`
/// is replaced. What is read is counted in `progress`.
///
/// # Errors
/// An attribute or a socket that the archive or squashfs can't hold, a file of the tree that can't
/// be read or has changed, `mksquashfs` missing, failing or leaving something out, a failed write.
/// What follows `offset` in `file` is then undefined.
pub fn write(
    tree: &Tree,
    compression: Compression,
    epoch_seconds: u64,
    progress: &Progress,
    file: &File,
    offset: u64,
) -> Result<u64> {
    if let Some((path, name)) = unsupported_attribute(tree) {
        bail!(
            "squashfs cannot hold the extended attribute {name} of /{path} (it has user, trusted and security attributes only); remove it or use `format: erofs`"
        );
    }
    let epoch = epoch_seconds.to_string();
    let target = path_of(file);
    let fixed = [
        "-",
        &target,
        "-tar",
        "-noappend",
        "-no-recovery",
        "-no-progress",
        "-quiet",
    ];
    let mut args: Vec<String> = fixed.map(str::to_owned).to_vec();
    args.extend(["-offset".to_owned(), offset.to_string()]);
    args.extend([
        "-mkfs-time".to_owned(),
        epoch.clone(),
        "-all-time".to_owned(),
        epoch,
    ]);
    args.extend(["-root-mode", "755", "-exit-on-error"].map(str::to_owned));
    args.extend(compression.options());
    let args = args.into_iter().map(OsString::from);
    let mut running = MKSQUASHFS.start(args, [], Stdio::piped())?;
    let fed = tar_write::write(tree, epoch_seconds, progress, running.input()?);
    match fed {
        // Its own words tell why it went away.
        Err(ArchiveError::Write(_)) | Ok(()) => {}
        Err(error) => {
            running.kill();
            return Err(error.into());
        }
    }
    let words = running.finish()?;
    // It goes on after what it calls a warning, such as an attribute that it leaves out.
    if !words.is_empty() {
        bail!("mksquashfs left something out: {words}");
    }
    fed?;
    let size = file.metadata()?.len().saturating_sub(offset);
    if size == 0 {
        bail!("mksquashfs wrote nothing");
    }
    let size = size.next_multiple_of(4096);
    file.set_len(offset + size)?;
    Ok(size)
}

/// The first attribute that squashfs has no place for (`SQUASHFS_XATTR_*` in the kernel's
/// `fs/squashfs/squashfs_fs.h`), such as a POSIX ACL.
fn unsupported_attribute(tree: &Tree) -> Option<(String, String)> {
    let attribute = |inode: &Inode| {
        let mut names = inode.xattrs.keys();
        let prefixes: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
        let name = names.find(|name| !prefixes.iter().any(|prefix| name.starts_with(prefix)))?;
        Some(String::from_utf8_lossy(name).into_owned())
    };
    tree.walk().find_map(|(path, _, inode)| {
        let name = attribute(inode)?;
        Some((path.escape_ascii().to_string(), name))
    })
}
