//! What an extension image is: its partitions, file system, verity data and release files.
//!
//! The choice of partitions is that of systemd `src/shared/dissect-image.c`
//! (`dissect_image`). Nothing is judged against a base OS, and no hash or
//! signature is checked here; what no version of systemd would take is listed
//! as a problem. Sidecar files beside the image are not looked at.

mod choose;
mod content;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::compressed::{Codec, Compressed, CompressedError, decompressed};
use super::gpt;
use super::gpt::types::Designator;
use super::gpt::{GptError, Table};
use super::read::{Details, FileSystem, FsError, FsKind, Window};
use super::signature::{MAX_PARTITION_SIZE, SignaturePartition, SignerIdentity, signer_identity};
use super::verity::RootHash;
use super::verity::superblock::{Algorithm, SUPERBLOCK_SIZE, Superblock};
use crate::finding::Finding;
use crate::io::{hex, open};
use crate::systemd::arch::Arch;
use choose::{Parts, choose};

pub use content::{Content, Fault, ReleaseFile, Strict, content};

/// An image, described.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ddi {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes in the file.
    pub size: u64,
    /// What was around it; nothing for an image that is as systemd takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "wrapped")]
    pub compressed: Option<Compressed>,
    /// With or without a partition table.
    pub layout: Layout,
    /// Root or `/usr`.
    #[serde(serialize_with = "designator_name")]
    #[schemars(with = "String")]
    pub designator: Designator,
    /// Architecture of the partition type; nothing for naked images and generic partitions.
    #[serde(serialize_with = "optional_text")]
    #[schemars(with = "Option<String>")]
    pub arch: Option<Arch>,
    /// The file system.
    pub data: Option<Part>,
    /// The hash tree.
    pub hash: Option<Part>,
    /// The signature.
    pub signature_partition: Option<Part>,
    /// What kind of file system the data is.
    pub fs_kind: Option<FsKind>,
    /// What the superblock of the file system tells.
    pub fs: Option<Details>,
    /// The superblock of the hash tree.
    #[serde(serialize_with = "superblock_fields")]
    #[schemars(with = "Option<SuperblockView>")]
    pub superblock: Option<Superblock>,
    /// The root hash that the UUIDs of data and hash partition spell out.
    #[serde(serialize_with = "optional_text")]
    #[schemars(with = "Option<String>")]
    pub root_hash: Option<RootHash>,
    /// What the signature partition holds.
    #[schemars(with = "SignatureView<'static>")]
    pub signature: SignatureState,
    /// What the file system holds, unless it could not be read.
    pub content: Option<Content>,
    /// What no systemd would take, and what could not be read.
    pub problems: Vec<Finding>,
    #[serde(skip)]
    file: Arc<File>,
}

/// With or without a partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A GPT.
    Gpt(Table),
    /// A file system from the first byte on.
    Naked,
}

/// A range of bytes of the image that has one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Position in the partition table, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Id of the partition, in the byte order of its text.
    #[serde(skip)]
    pub uuid: Option<[u8; 16]>,
}

/// What the signature partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureState {
    /// There is no such partition.
    Absent,
    /// The partition was kept free for a later signature.
    Empty,
    /// A signature, not checked yet.
    Present {
        /// What stands in the partition.
        partition: SignaturePartition,
        /// Who signed, as the signature says; empty if that cannot be read.
        signers: Vec<SignerIdentity>,
    },
    /// Something that systemd does not take; the reason.
    Unusable(String),
}

/// How programs see [`SignatureState`].
#[derive(Serialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
struct SignatureView<'a> {
    /// `absent`, `empty` (kept free), `present` or `unusable`.
    state: &'static str,
    /// Why it is unusable.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// The root hash that was signed, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_hash: Option<String>,
    /// SHA-256 of the signer's certificate, hex, as the partition says.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_fingerprint: Option<&'a str>,
    /// Who signed, as the signature says.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    signers: &'a [SignerIdentity],
}

impl Serialize for SignatureState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let state = |state| SignatureView {
            state,
            ..SignatureView::default()
        };
        match self {
            SignatureState::Absent => state("absent"),
            SignatureState::Empty => state("empty"),
            SignatureState::Unusable(reason) => SignatureView {
                reason: Some(reason),
                ..state("unusable")
            },
            SignatureState::Present { partition, signers } => SignatureView {
                root_hash: Some(hex::encode(&partition.root_hash)),
                certificate_fingerprint: partition.certificate_fingerprint.as_deref(),
                signers,
                ..state("present")
            },
        }
        .serialize(serializer)
    }
}

/// Why a file is not an image at all.
#[derive(Debug, thiserror::Error)]
pub enum DdiError {
    /// The file cannot be read.
    #[error("opening {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a device or the like.
    #[error("{} is not a regular file, expected an extension image", .0.display())]
    NotAFile(PathBuf),
    /// A compressed image that can't be unpacked.
    #[error("unpacking {}: {source}", path.display())]
    Compressed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: CompressedError,
    },
    /// A partition table that systemd would refuse.
    #[error("reading the partition table of {}: {source}", path.display())]
    Gpt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: GptError,
    },
    /// A partition table of the old kind; systemd takes it, no tool makes extensions so.
    #[error("{} has an MBR partition table, expected a GPT or a bare file system", .0.display())]
    Mbr(PathBuf),
    /// Nothing known in it.
    #[error(
        "{} holds neither a partition table nor a file system, expected an extension image; \
         it may be compressed or cut",
        .0.display()
    )]
    NotAnImage(PathBuf),
}

/// Describes the image at `path`.
///
/// # Errors
/// [`DdiError::Io`] if it can't be opened, else those of [`describe`].
pub fn open(path: &Path) -> Result<Ddi, DdiError> {
    open_for(path, None)
}

/// Describes the image at `path` as a machine of architecture `native` would see it,
/// which matters for images with partitions for several architectures.
///
/// # Errors
/// Those of [`open()`].
pub fn open_for(path: &Path, native: Option<Arch>) -> Result<Ddi, DdiError> {
    let failed = |source| DdiError::Io {
        path: path.to_owned(),
        source,
    };
    // A named pipe must not make us wait.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(failed)?;
    describe(file, path, native)
}

/// Describes the image at `path`, which may be compressed as a whole by gzip, xz or zstd: it is then
/// unpacked into a temporary file without a name.
///
/// # Errors
/// Those of [`open()`], and [`DdiError::Compressed`] if it can't be unpacked.
pub fn open_compressed(path: &Path) -> Result<Ddi, DdiError> {
    let failed = |source| DdiError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match open::open(path) {
        Ok(file) => file,
        // In the words for an image that is not compressed.
        Err(_) => return open(path),
    };
    let Some(codec) = Codec::of(&file) else {
        return describe(file, path, None);
    };
    let size = file.metadata().map_err(failed)?.len();
    let inside = decompressed(&file, codec).map_err(|source| DdiError::Compressed {
        path: path.to_owned(),
        source,
    })?;
    let mut ddi = describe(inside, path, None)?;
    ddi.compressed = Some(Compressed { codec, size });
    Ok(ddi)
}

/// Describes an open image; `path` is what messages call it.
///
/// # Errors
/// [`DdiError::NotAFile`], [`DdiError::Gpt`] for a partition table that is damaged or contradicts
/// itself, [`DdiError::Mbr`], [`DdiError::NotAnImage`], and [`DdiError::Io`]. A damaged file
/// system, hash tree or signature is no error: see [`Ddi::problems`].
pub fn describe(file: File, path: &Path, native: Option<Arch>) -> Result<Ddi, DdiError> {
    let failed = |source| DdiError::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(DdiError::NotAFile(path.to_owned()));
    }
    let size = metadata.len();
    let file = Arc::new(file);
    let whole = Window::new(file.clone(), 0, size);
    let table = gpt::read(&mut whole.reader(), size).map_err(|source| DdiError::Gpt {
        path: path.to_owned(),
        source,
    })?;
    if table.is_none() && FsKind::identify(&whole).is_none() {
        if whole.peek(510) == Some([0x55, 0xaa]) {
            return Err(DdiError::Mbr(path.to_owned()));
        }
        return Err(DdiError::NotAnImage(path.to_owned()));
    }
    let mut problems = Vec::new();
    let parts = match &table {
        Some(table) => choose(table, native, &mut problems),
        None => Parts {
            designator: Designator::Root,
            arch: None,
            data: Some(Part {
                number: None,
                offset: 0,
                size,
                uuid: None,
            }),
            hash: None,
            signature: None,
        },
    };
    let mut ddi = Ddi {
        path: path.to_owned(),
        size,
        compressed: None,
        layout: table.map_or(Layout::Naked, Layout::Gpt),
        designator: parts.designator,
        arch: parts.arch,
        data: parts.data,
        hash: parts.hash,
        signature_partition: parts.signature,
        fs_kind: None,
        fs: None,
        superblock: None,
        root_hash: None,
        signature: SignatureState::Absent,
        content: None,
        problems,
        file,
    };
    ddi.read_verity();
    ddi.read_signature();
    ddi.read_content();
    Ok(ddi)
}

impl Ddi {
    /// The open file, for checks that read all of it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The bytes of one part.
    pub fn window(&self, part: Part) -> Window {
        Window::new(self.file.clone(), part.offset, part.size)
    }

    /// Whether this program can look into such a file system, intact ones at least.
    pub fn is_readable_here(&self) -> bool {
        use FsKind::{Erofs, Ext2, Ext3, Ext4, Squashfs};
        let kind = self.fs_kind;
        kind.is_none_or(|kind| matches!(kind, Erofs | Squashfs | Ext4 | Ext3 | Ext2))
    }

    /// Opens the file system for looking around.
    ///
    /// # Errors
    /// [`FsError::Unrecognized`] if there is no data partition, else those of [`FileSystem::open`].
    pub fn file_system(&self) -> Result<FileSystem, FsError> {
        let data = self.data.ok_or(FsError::Unrecognized)?;
        FileSystem::open(self.window(data))
    }

    fn problem(&mut self, id: &'static str, message: impl Into<String>) {
        self.problems
            .push(Finding::error(id, message).in_file(&self.path));
    }

    fn read_verity(&mut self) {
        let Some(hash) = self.hash else { return };
        let bytes = self
            .window(hash)
            .peek::<SUPERBLOCK_SIZE>(0)
            .unwrap_or([0; SUPERBLOCK_SIZE]);
        match Superblock::parse(&bytes) {
            Ok(superblock) => {
                let uuids = (self.data.and_then(|data| data.uuid), hash.uuid);
                if let (Algorithm::Sha256, (Some(first), Some(last))) =
                    (superblock.algorithm, uuids)
                {
                    let mut digest = [0; 32];
                    digest
                        .iter_mut()
                        .zip(first.into_iter().chain(last))
                        .for_each(|(to, from)| *to = from);
                    self.root_hash = Some(RootHash::from(digest));
                }
                self.superblock = Some(superblock);
            }
            Err(error) => self.problem("verity-superblock", error.to_string()),
        }
    }

    fn read_signature(&mut self) {
        let Some(part) = self.signature_partition else {
            return;
        };
        self.signature = match self.parse_signature(part) {
            Ok(None) => SignatureState::Empty,
            Ok(Some(partition)) => {
                let signers = signer_identity(&partition.signature);
                if let Err(error) = &signers {
                    self.problem("signature-malformed", format!("{error:#}"));
                }
                let signers = signers.unwrap_or_default();
                SignatureState::Present { partition, signers }
            }
            Err(reason) => {
                self.problem("signature-unusable", reason.clone());
                SignatureState::Unusable(reason)
            }
        };
    }

    fn parse_signature(&self, part: Part) -> Result<Option<SignaturePartition>, String> {
        if part.size > MAX_PARTITION_SIZE {
            return Err(format!(
                "the signature partition has {} bytes, systemd reads at most {MAX_PARTITION_SIZE}",
                part.size
            ));
        }
        let mut bytes = vec![0; usize::try_from(part.size).map_err(|error| error.to_string())?];
        self.window(part)
            .read_exact_at(&mut bytes, 0)
            .map_err(|error| format!("reading the signature partition: {error}"))?;
        SignaturePartition::parse(&bytes).map_err(|error| error.to_string())
    }

    fn read_content(&mut self) {
        let Some(data) = self.data else { return };
        let window = self.window(data);
        self.fs_kind = FsKind::identify(&window);
        let claimed = self.fs_kind.and_then(|kind| kind.claimed_size(&window));
        if let Some(claimed) = claimed.filter(|claimed| *claimed > data.size) {
            let message = format!(
                "the file system has {claimed} bytes, but only {} are there; the image was cut",
                data.size
            );
            return self.problem("file-system-cut", message);
        }
        let read = self.file_system().and_then(|fs| {
            self.fs = Some(fs.details());
            content(&fs, self.designator)
        });
        match read {
            Ok(content) => self.content = Some(content),
            Err(error) => self.problem("file-system-unreadable", error.to_string()),
        }
    }
}

fn designator_name<S: Serializer>(value: &Designator, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

fn optional_text<T: std::fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// How programs see the superblock of the hash tree.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SuperblockView {
    /// Name of the digest.
    algorithm: &'static str,
    /// Bytes.
    data_block_size: u32,
    /// Bytes.
    hash_block_size: u32,
    /// How many blocks are protected.
    data_blocks: u64,
    /// Hex.
    salt: String,
    /// Id of the hash tree.
    uuid: String,
}

fn superblock_fields<S: Serializer>(
    value: &Option<Superblock>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let view = value.as_ref().map(|superblock| SuperblockView {
        algorithm: superblock.algorithm.name(),
        data_block_size: superblock.data_block_size,
        hash_block_size: superblock.hash_block_size,
        data_blocks: superblock.data_blocks,
        salt: hex::encode(&superblock.salt),
        uuid: uuid::Uuid::from_bytes(superblock.uuid).to_string(),
    });
    view.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(open(dir.path()), Err(DdiError::NotAFile(_))));
        assert!(matches!(
            open(&dir.path().join("x")),
            Err(DdiError::Io { .. })
        ));
        let path = dir.path().join("garbage.raw");
        std::fs::write(&path, [7; 10_000]).unwrap();
        assert!(matches!(open(&path), Err(DdiError::NotAnImage(_))));
        std::fs::write(&path, []).unwrap();
        assert!(matches!(open(&path), Err(DdiError::NotAnImage(_))));
        let mut mbr = [0; 4096];
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&path, mbr).unwrap();
        assert!(matches!(open(&path), Err(DdiError::Mbr(_))));
    }
}
