//! ext2, ext3 and ext4 through `ext4-view`; extended attributes and device numbers, which it has
//! not, by [`inodes`] and [`attributes`].

mod attributes;
mod inodes;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ext4_view::{Ext4Error, Ext4Read, FileType};

use super::error::FsError;
use super::limits::MAX_ENTRIES;
use super::metadata::{Details, FileKind, Metadata, Xattrs, uuid_text};
use super::reader::{Reader, copy_pieces};
use super::window::Window;
use inodes::{Inode, Inodes};

pub(super) struct Ext4 {
    reader: ext4_view::Ext4,
    block_size: Option<u32>,
    features: Vec<String>,
    /// Nothing where their layout is not covered.
    inodes: Option<Inodes>,
}

impl Ext4Read for Window {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.read_exact_at(buffer, start)?)
    }
}

impl From<Ext4Error> for FsError {
    fn from(error: Ext4Error) -> FsError {
        FsError::Damaged(error.to_string())
    }
}

/// Names of feature bits as `dumpe2fs` prints them (e2fsprogs `lib/e2p/feature.c`), by the place of
/// their word in the superblock (s_feature_compat, s_feature_incompat, s_feature_ro_compat).
const FEATURES: &[(u64, &[(u32, &str)])] = &[
    (
        0x5c,
        &[
            (0x1, "dir_prealloc"),
            (0x4, "has_journal"),
            (0x8, "ext_attr"),
            (0x10, "resize_inode"),
            (0x20, "dir_index"),
            (0x200, "sparse_super2"),
            (0x800, "stable_inodes"),
        ],
    ),
    (
        0x60,
        &[
            (0x2, "filetype"),
            (0x4, "needs_recovery"),
            (0x8, "journal_dev"),
            (0x10, "meta_bg"),
            (0x40, "extent"),
            (0x80, "64bit"),
            (0x100, "mmp"),
            (0x200, "flex_bg"),
            (0x400, "ea_inode"),
            (0x2000, "metadata_csum_seed"),
            (0x4000, "large_dir"),
            (0x8000, "inline_data"),
            (0x1_0000, "encrypt"),
            (0x2_0000, "casefold"),
        ],
    ),
    (
        0x64,
        &[
            (0x1, "sparse_super"),
            (0x2, "large_file"),
            (0x8, "huge_file"),
            (0x10, "uninit_bg"),
            (0x20, "dir_nlink"),
            (0x40, "extra_isize"),
            (0x100, "quota"),
            (0x200, "bigalloc"),
            (0x400, "metadata_csum"),
            (0x1000, "read-only"),
            (0x2000, "project"),
            (0x4000, "shared_blocks"),
            (0x8000, "verity"),
            (0x1_0000, "orphan_file"),
        ],
    ),
];

/// The features that the superblock names.
fn features(window: &Window) -> Vec<String> {
    let word = |at| window.peek(1024 + at).map_or(0, u32::from_le_bytes);
    FEATURES
        .iter()
        .flat_map(|(at, bits)| bits.iter().map(move |(bit, name)| (word(*at) & bit, *name)))
        .filter(|(bit, _)| *bit != 0)
        .map(|(_, name)| name.to_owned())
        .collect()
}

impl Ext4 {
    pub(super) fn open(window: Window) -> Result<Ext4, FsError> {
        // s_log_block_size, at 24 in the superblock, counts from 1 KiB.
        let shift = window.peek(1024 + 24).map(u32::from_le_bytes);
        let block_size = shift.and_then(|shift| 1024u32.checked_shl(shift));
        let features = features(&window);
        let reader = ext4_view::Ext4::load(Box::new(window.clone()))?;
        Ok(Ext4 {
            reader,
            block_size,
            features,
            inodes: Inodes::open(window),
        })
    }

    /// A file by block map, as ext2 and ext3 have them: `ext4-view` does not read their holes.
    fn mapped(&self, path: &Path) -> Result<Option<(&Inodes, Inode)>, FsError> {
        let Some(inodes) = &self.inodes else {
            return Ok(None);
        };
        let inode = inodes.find(path)?;
        Ok(inode.has_map().then_some((inodes, inode)))
    }

    /// What is at a path, with the number of a device.
    fn metadata(&self, path: &Path, found: &ext4_view::Metadata) -> Result<Metadata, FsError> {
        let found = metadata(found);
        let device = match (found.kind, &self.inodes) {
            (FileKind::CharDevice | FileKind::BlockDevice, Some(inodes)) => {
                Some(inodes.find(path)?.device())
            }
            _ => None,
        };
        Ok(Metadata { device, ..found })
    }
}

fn path_of(path: &Path) -> Result<ext4_view::Path<'_>, FsError> {
    ext4_view::Path::try_from(path.as_os_str().as_bytes())
        .map_err(|_| FsError::NotFound(path.to_owned()))
}

fn metadata(found: &ext4_view::Metadata) -> Metadata {
    let kind = match found.file_type() {
        FileType::Directory => FileKind::Directory,
        FileType::Regular => FileKind::File,
        FileType::Symlink => FileKind::Symlink,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
    };
    Metadata {
        kind,
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        size: found.len(),
        mtime: found.modified().seconds(),
        mtime_nanos: found.modified().nanoseconds(),
        device: None,
    }
}

impl Reader for Ext4 {
    fn details(&self) -> Details {
        Details {
            block_size: self.block_size,
            uuid: uuid_text(*self.reader.uuid().as_bytes()),
            features: self.features.clone(),
            compression: Vec::new(),
        }
    }

    fn root(&self) -> Result<Metadata, FsError> {
        Ok(metadata(&self.reader.symlink_metadata("/")?))
    }

    fn child(&self, dir: &Path, name: &OsStr) -> Result<Option<Metadata>, FsError> {
        let path = dir.join(name);
        match self.reader.symlink_metadata(path_of(&path)?) {
            Ok(found) => self.metadata(&path, &found).map(Some),
            Err(Ext4Error::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<(OsString, Metadata)>, FsError> {
        let mut entries = Vec::new();
        for entry in self.reader.read_dir(path_of(dir)?)? {
            let entry = entry?;
            let name = entry.file_name();
            let name: &[u8] = name.as_ref();
            if name == b"." || name == b".." {
                continue;
            }
            if entries.len() >= MAX_ENTRIES {
                return Err(FsError::TooManyEntries(MAX_ENTRIES));
            }
            let name = OsString::from_vec(name.to_vec());
            let found = self.metadata(&dir.join(&name), &entry.metadata()?)?;
            entries.push((name, found));
        }
        Ok(entries)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        let target = self.reader.read_link(path_of(path)?)?;
        let bytes: &[u8] = target.as_ref();
        Ok(PathBuf::from(OsStr::from_bytes(bytes)))
    }

    fn read(&self, path: &Path, size: usize) -> Result<Vec<u8>, FsError> {
        if let Some((inodes, inode)) = self.mapped(path)? {
            let mut content = Vec::new();
            inodes.copy(&inode, size as u64, &mut content)?;
            return Ok(content);
        }
        let mut file = self.reader.open(path_of(path)?)?;
        let mut content = vec![0; size];
        let mut filled = 0;
        while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_bytes(rest)? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        content.truncate(filled);
        Ok(content)
    }

    fn copy(&self, path: &Path, size: u64, out: &mut dyn Write) -> Result<(), FsError> {
        if let Some((inodes, inode)) = self.mapped(path)? {
            return inodes.copy(&inode, size, out);
        }
        let mut file = self.reader.open(path_of(path)?)?;
        copy_pieces(path, size, out, |piece| Ok(file.read_bytes(piece)?))
    }

    fn identity(&self, path: &Path) -> Result<Option<(u64, u32)>, FsError> {
        match &self.inodes {
            Some(inodes) => inodes.identity(path).map(Some),
            None => Ok(None),
        }
    }

    fn xattrs(&self, path: &Path) -> Result<Option<Xattrs>, FsError> {
        match &self.inodes {
            Some(inodes) => attributes::read(inodes, &inodes.find(path)?),
            None => Ok(None),
        }
    }
}
