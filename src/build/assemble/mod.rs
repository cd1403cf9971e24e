//! One image out of a tree: file system, hash tree, signature and partition table.
//!
//! The layout is that of systemd-repart's `--make-ddi=sysext` (systemd
//! `src/repart/definitions/sysext.repart.d`): partitions root, root-verity and
//! root-verity-sig at multiples of 4 KiB, the first at 1 MiB. Partition types
//! are always those of a root: usr-type partitions are mounted unverified
//! before systemd 258.
//!
//! For EROFS every file is read once and goes straight to its place in the image;
//! the threads that write the blocks hash them on the way. Other file systems are
//! written to the same place by programs of others, and read back for the hash
//! tree. The image appears
//! complete or not at all, and the same recipe gives the same bytes, however
//! many threads there are.

pub(crate) mod parts;
mod root;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use thiserror::Error;
use uuid::Uuid;

use crate::image::erofs::compress::Compression;
use crate::image::erofs::format::BLOCK_SIZE;
use crate::image::gpt::types::{Designator, PartitionType, Role};
use crate::image::gpt::{Partition, SECTOR};
use crate::image::signature::{SignaturePartition, Signer};
use crate::image::verity::RootHash;
use crate::image::x509::Certificate;
use crate::image::{ImageFormat, gpt, signature};
use crate::io::atomic_file::AtomicFile;
use crate::io::hex;
use crate::io::progress::Progress;
use crate::systemd::arch::Arch;
use crate::tree::Tree;

/// Where the first partition begins, in bytes.
const FIRST_OFFSET: u64 = 1 << 20;
/// Sectors of the backup table at the end: 128 entries of 128 bytes and the header.
const BACKUP_SECTORS: u64 = 33;
/// More threads than this would need more memory than we promise.
const MOST_THREADS: usize = 8;
/// The same where Zstandard takes some 9 MiB a thread.
const MOST_SLOW_THREADS: usize = 5;
/// The level of Zstandard from which on it does.
const SLOW_LEVEL: i32 = 10;

/// Looks for a signature that was made earlier for a root hash.
pub type StoredSignature<'a> = dyn Fn(&RootHash) -> Result<Option<SignaturePartition>> + 'a;

/// How the content is protected.
pub enum Protection<'a> {
    /// No partition table either: the file system is the whole image.
    Bare,
    /// Only the root partition.
    None,
    /// Root and hash tree.
    Hash,
    /// Root, hash tree and room for a signature, which is filled if one was stored.
    Defer(&'a StoredSignature<'a>),
    /// Root, hash tree and signature.
    Signed(&'a dyn Signer),
}

/// Ids that would otherwise be random, in the byte order of their text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Of the partition table.
    pub disk: [u8; 16],
    /// Of the root partition without a hash tree; with one it is half of the root hash.
    pub root: [u8; 16],
    /// Of the signature partition.
    pub signature: [u8; 16],
    /// Of the file system.
    pub file_system: [u8; 16],
    /// Of the verity superblock.
    pub verity: [u8; 16],
    /// Goes into every digest of the hash tree.
    pub salt: [u8; 32],
}

/// All that decides the bytes of an image.
pub struct Recipe<'a> {
    /// The content, release file included.
    pub tree: &'a Tree,
    /// Decides the partition types.
    pub arch: Arch,
    /// How the content is protected.
    pub verity: Protection<'a>,
    /// Ids and salt.
    pub ids: Ids,
    /// The modification time of everything, in seconds since 1970.
    pub epoch_seconds: u64,
    /// The file system that holds the content.
    pub file_system: ImageFormat,
    /// How many threads read and compress; as many, up to four, hash and write.
    pub threads: NonZero<usize>,
    /// Most bytes that the image may have.
    pub max_size: Option<u64>,
    /// Counts the bytes of files that have been read.
    pub progress: &'a Progress,
}

/// The image would have more bytes than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the image has {size} bytes, at most {most} are allowed")]
pub struct TooLarge {
    /// Bytes that it would have.
    pub size: u64,
    /// Bytes that it may have.
    pub most: u64,
}

impl TooLarge {
    fn check(size: u64, most: Option<u64>) -> Result<(), TooLarge> {
        match most.filter(|most| size > *most) {
            Some(most) => Err(TooLarge { size, most }),
            None => Ok(()),
        }
    }
}

impl<'a> Recipe<'a> {
    /// An image without protection, dated 1970, of any size, made by as many threads as help.
    pub fn new(
        tree: &'a Tree,
        arch: Arch,
        file_system: ImageFormat,
        ids: Ids,
        progress: &'a Progress,
    ) -> Recipe<'a> {
        Recipe {
            tree,
            arch,
            verity: Protection::None,
            ids,
            epoch_seconds: 0,
            file_system,
            threads: threads(file_system),
            max_size: None,
            progress,
        }
    }

    /// Where the file system begins, in bytes.
    fn first_offset(&self) -> u64 {
        match self.verity {
            Protection::Bare => 0,
            _ => FIRST_OFFSET,
        }
    }
}

/// As many threads as there are processors, within what our memory allows.
pub fn threads(file_system: ImageFormat) -> NonZero<usize> {
    let most = match file_system {
        ImageFormat::Erofs {
            compression:
                Some(Compression::Zstd {
                    level: SLOW_LEVEL..,
                }),
            ..
        } => MOST_SLOW_THREADS,
        _ => MOST_THREADS,
    };
    let processors = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    NonZero::new(processors.get().min(most)).unwrap_or(NonZero::<usize>::MIN)
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The digest above the content, unless there is no hash tree.
    pub root_hash: Option<RootHash>,
    /// Whether the signature partition holds a signature.
    pub signed: bool,
    /// Bytes of the image.
    pub size: u64,
    /// The partitions in the order of the table.
    pub partitions: Vec<Partition>,
}

/// Makes the image and places it at `out`, replacing what was there. Its name is not synced: the
/// manifest, which comes last, does that for all images.
///
/// # Errors
/// [`TooLarge`] (by `downcast_ref`) above `max_size`; else in words: a file of the tree that can't
/// be read or has changed, a missing or failing `mkfs` program, no signature, a failed write. `out`
/// is as it was before.
pub fn assemble(recipe: &Recipe<'_>, out: &Path) -> Result<Assembled> {
    make(recipe, out).with_context(|| format!("making the image {}", out.display()))
}

fn make(recipe: &Recipe<'_>, out: &Path) -> Result<Assembled> {
    let mut pending = AtomicFile::create(out, 0o644).context("creating the file")?;
    let file = pending.file();
    let scratch = out.parent().unwrap_or(Path::new(""));
    let (blocks, leaves) = root::write(recipe, file, scratch)?;
    let root_size = blocks * BLOCK_SIZE as u64;
    if matches!(recipe.verity, Protection::Bare) {
        TooLarge::check(root_size, recipe.max_size)?;
        // Zeros at the end may never have been written.
        file.set_len(root_size).context("sizing the file")?;
        pending.place().context("placing the file")?;
        return Ok(Assembled {
            root_hash: None,
            signed: false,
            size: root_size,
            partitions: Vec::new(),
        });
    }
    let mut table = Table::new(recipe.arch);
    let mut root_hash = None;
    let mut signed = false;
    match leaves {
        None => table.add(Role::Data, Uuid::from_bytes(recipe.ids.root), root_size)?,
        Some(leaves) => {
            let area = leaves.hash_area(recipe.ids.verity)?;
            let root = area.root_hash();
            let (data_half, hash_half) = root.uuid_halves();
            table.add(Role::Data, Uuid::from_bytes(data_half), root_size)?;
            file.seek(SeekFrom::Start(table.end))?;
            area.write(file).context("writing the hash tree")?;
            table.add(Role::Verity, Uuid::from_bytes(hash_half), area.size())?;
            let content = match &recipe.verity {
                Protection::Bare | Protection::None | Protection::Hash => None,
                Protection::Defer(stored) => Some(stored(&root)?),
                Protection::Signed(signer) => Some(Some(sign(*signer, &root)?)),
            };
            if let Some(content) = content {
                // An empty partition stays a hole, which reads as the zeros that it needs.
                if let Some(content) = &content {
                    // systemd refuses such an image (dissected_image_load_verity_sig_partition).
                    if content.root_hash != root.as_bytes() {
                        bail!(
                            "the stored signature is for the root hash {}, the image has {root}",
                            hex::encode(&content.root_hash)
                        );
                    }
                    let bytes = content
                        .to_bytes()
                        .context("making the signature partition")?;
                    file.write_all_at(&bytes, table.end)?;
                }
                signed = content.is_some();
                let guid = Uuid::from_bytes(recipe.ids.signature);
                table.add(Role::Signature, guid, signature::PARTITION_SIZE)?;
            }
            root_hash = Some(root);
        }
    }
    let size = table.write(file, Uuid::from_bytes(recipe.ids.disk), recipe.max_size)?;
    pending.place().context("placing the file")?;
    Ok(Assembled {
        root_hash,
        signed,
        size,
        partitions: table.partitions,
    })
}

fn sign(signer: &dyn Signer, root: &RootHash) -> Result<SignaturePartition> {
    let certificate = Certificate::from_der(signer.certificate_der())?;
    Ok(SignaturePartition {
        root_hash: root.as_bytes().to_vec(),
        certificate_fingerprint: Some(certificate.fingerprint_sha256_hex),
        signature: signature::sign_root_hash(signer, &root.to_string())?,
    })
}

/// The partitions so far and where the next one begins.
struct Table {
    arch: Arch,
    partitions: Vec<Partition>,
    /// In bytes.
    end: u64,
}

impl Table {
    fn new(arch: Arch) -> Table {
        Table {
            arch,
            partitions: Vec::new(),
            end: FIRST_OFFSET,
        }
    }

    /// Writes the table around its partitions; returns the length of the image in bytes.
    fn write(&self, file: &mut File, disk: Uuid, max_size: Option<u64>) -> Result<u64> {
        // A whole number of blocks, so that loop devices of any sector size show all of it.
        let size = (self.end + BACKUP_SECTORS * SECTOR).next_multiple_of(BLOCK_SIZE as u64);
        TooLarge::check(size, max_size)?;
        gpt::write(file, disk, &self.partitions, size / SECTOR)
            .context("writing the partition table")?;
        Ok(size)
    }

    /// Appends a partition of `size` bytes, a multiple of 4096.
    fn add(&mut self, role: Role, guid: Uuid, size: u64) -> Result<()> {
        let kind = PartitionType::new(self.arch, Designator::Root, role);
        let type_guid = kind
            .guid()
            .ok_or_else(|| anyhow!("there is no partition type {kind}"))?;
        let first_lba = self.end / SECTOR;
        self.end += size;
        self.partitions.push(Partition {
            type_guid,
            guid,
            first_lba,
            last_lba: self.end / SECTOR - 1,
            read_only: role != Role::Signature,
            label: kind.to_string(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::verity::verify;
    use crate::tree::Source;
    use sha2::{Digest, Sha256};
    use std::fs;
    use std::io;

    const IDS: Ids = Ids {
        disk: [1; 16],
        root: [2; 16],
        signature: [3; 16],
        file_system: [4; 16],
        verity: [5; 16],
        salt: [6; 32],
    };

    const PLAIN: ImageFormat = ImageFormat::Erofs {
        compression: None,
        share_compressed: false,
    };

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let release = b"ID=_any\n".to_vec();
        let path = b"usr/lib/extension-release.d/extension-release.x";
        tree.insert_file(path, Source::Bytes(release), 8, 0o644)
            .unwrap();
        let big = vec![0x5a; 3 << 20];
        tree.insert_file(b"usr/big", Source::Bytes(big), 3 << 20, 0o644)
            .unwrap();
        tree
    }

    fn recipe<'a>(tree: &'a Tree, verity: Protection<'a>, progress: &'a Progress) -> Recipe<'a> {
        Recipe {
            verity,
            ..Recipe::new(tree, Arch::X86_64, PLAIN, IDS, progress)
        }
    }

    fn build(verity: Protection<'_>) -> (Assembled, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.raw");
        let assembled = assemble(&recipe(&tree(), verity, &Progress::new()), &out).unwrap();
        (assembled, fs::read(&out).unwrap())
    }

    #[test]
    fn the_parts_are_where_the_table_says() {
        let stored = |_: &RootHash| Ok(None);
        let (made, bytes) = build(Protection::Defer(&stored));
        assert_eq!(made.size, bytes.len() as u64);
        assert!(!made.signed);
        let mut cursor = io::Cursor::new(&bytes);
        let table = gpt::read(&mut cursor, made.size).unwrap().unwrap();
        let [data, hash, signature] = table.entries.as_slice() else {
            panic!("{table:?}");
        };
        assert_eq!(data.offset, FIRST_OFFSET);
        for entry in &table.entries {
            assert_eq!((entry.offset % 4096, entry.size % 4096), (0, 0));
        }
        let root = made.root_hash.unwrap();
        let (data_half, hash_half) = root.uuid_halves();
        assert_eq!(data.guid.into_bytes(), data_half);
        assert_eq!(hash.guid.into_bytes(), hash_half);
        assert_eq!(data.attributes, gpt::READ_ONLY);
        assert_eq!(hash.attributes, gpt::READ_ONLY);
        assert_eq!((signature.attributes, signature.size), (0, 16384));
        assert_eq!(signature.label, "root-x86-64-verity-sig");
        let start = usize::try_from(signature.offset).unwrap();
        assert!(bytes[start..start + 16384].iter().all(|byte| *byte == 0));
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let (data, hash) = (
            (&file, data.offset, data.size),
            (&file, hash.offset, hash.size),
        );
        let found = verify::verify(data, hash, &Progress::new()).unwrap();
        assert_eq!(found, root);
    }

    #[test]
    fn the_modes_differ_only_in_what_follows_the_root() {
        let (none, plain) = build(Protection::None);
        assert_eq!((none.root_hash, none.partitions.len()), (None, 1));
        let (hash, hashed) = build(Protection::Hash);
        assert_eq!(hash.partitions.len(), 2);
        let stored = |root: &RootHash| {
            Ok(Some(SignaturePartition {
                root_hash: root.as_bytes().to_vec(),
                certificate_fingerprint: None,
                signature: b"made earlier".to_vec(),
            }))
        };
        let (joined, _) = build(Protection::Defer(&stored));
        assert!(joined.signed);
        assert_eq!(joined.root_hash, hash.root_hash);
        let root = 1 << 20..(1 << 20) + 3 * (1 << 20);
        assert!(plain[root.clone()] == hashed[root]);
        let (bare, alone) = build(Protection::Bare);
        assert_eq!((bare.size, bare.partitions.len()), (alone.len() as u64, 0));
        assert!(plain[1 << 20..].starts_with(&alone));
        let (_, again) = build(Protection::Hash);
        assert!(again == hashed);
        // Whoever changes these bytes changes the root hash of every image that is rebuilt.
        assert_eq!(
            hex::encode(&Sha256::digest(&hashed)),
            "7b2f5069e35f567145b05adcd8fa7b8baf51ec5fab76232ad37f44662042e1b1"
        );
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = tree();
        let gone = Source::Path(dir.path().join("gone"));
        tree.insert_file(b"usr/gone", gone, 1, 0o644).unwrap();
        for verity in [Protection::None, Protection::Hash] {
            let progress = Progress::new();
            let recipe = Recipe {
                arch: Arch::ARM64,
                ..recipe(&tree, verity, &progress)
            };
            let error = assemble(&recipe, &dir.path().join("x.raw")).unwrap_err();
            assert!(format!("{error:#}").contains("gone"), "{error:#}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
