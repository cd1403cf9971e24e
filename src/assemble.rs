//! One image out of a tree: file system, hash tree, signature and partition table.
//!
//! The layout is that of systemd-repart's `--make-ddi=sysext` (systemd
//! `src/repart/definitions/sysext.repart.d`): partitions root, root-verity and
//! root-verity-sig at multiples of 4 KiB, the first at 1 MiB. Partition types
//! are always those of a root: usr-type partitions are mounted unverified
//! before systemd 258.
//!
//! Every file is read once and goes straight to its place in the image; the
//! threads that write the blocks hash them on the way. The image appears
//! complete or not at all, and the same recipe gives the same bytes, however
//! many threads there are.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Advice, fadvise};
use uuid::Uuid;

use crate::arch::Arch;
use crate::image::certificate::Certificate;
use crate::image::erofs::compress::Compression;
use crate::image::erofs::format::BLOCK_SIZE;
use crate::image::erofs::write as erofs;
use crate::image::gpt::{self, Partition, SECTOR};
use crate::image::gpt_types::{Designator, PartitionType, Role};
use crate::image::hex;
use crate::image::signature::{self, SignaturePartition, Signer};
use crate::image::verity::RootHash;
use crate::image::verity::leaves::LeafHashes;
use crate::pending::PendingFile;
use crate::tree::Tree;

/// Where the first partition begins, in bytes.
const FIRST_OFFSET: u64 = 1 << 20;
/// Sectors of the backup table at the end: 128 entries of 128 bytes and the header.
const BACKUP_SECTORS: u64 = 33;
/// Pieces on their way to the threads that hash and write them; each has at most 1 MiB.
const PIECES: usize = 4;
/// More threads than this would need more memory than we promise.
const MOST_THREADS: usize = 8;

/// Looks for a signature that was made earlier for a root hash.
pub type StoredSignature<'a> = dyn Fn(&RootHash) -> Result<Option<SignaturePartition>> + 'a;

/// How the content is protected.
pub enum Verity<'a> {
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
    pub verity: Verity<'a>,
    /// Ids and salt.
    pub ids: Ids,
    /// The modification time of everything, in seconds since 1970.
    pub epoch_seconds: u64,
    /// How the content is compressed.
    pub compression: Option<Compression>,
    /// Whether equal compressed files share their data, see [`erofs::Params`].
    pub share_compressed: bool,
    /// How many threads read and compress, and how many hash and write.
    pub threads: NonZero<usize>,
}

/// As many threads as there are processors, within what our memory allows.
pub fn threads() -> NonZero<usize> {
    let processors = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    NonZero::new(processors.get().min(MOST_THREADS)).unwrap_or(NonZero::<usize>::MIN)
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

/// Makes the image and places it at `out`, replacing what was there.
pub fn assemble(recipe: &Recipe<'_>, out: &Path) -> Result<Assembled> {
    make(recipe, out).with_context(|| format!("making the image {}", out.display()))
}

fn make(recipe: &Recipe<'_>, out: &Path) -> Result<Assembled> {
    let mut pending = PendingFile::create(out, 0o644).context("creating the file")?;
    let file = pending.file();
    let scratch = out.parent().unwrap_or(Path::new(""));
    let (blocks, leaves) = write_root(recipe, file, scratch)?;
    let mut table = Table::new(recipe.arch);
    let root_size = blocks * BLOCK_SIZE as u64;
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
                Verity::None | Verity::Hash => None,
                Verity::Defer(stored) => Some(stored(&root)?),
                Verity::Signed(signer) => Some(Some(sign(*signer, &root)?)),
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
    // A whole number of blocks, so that loop devices of any sector size show all of it.
    let size = (table.end + BACKUP_SECTORS * SECTOR).next_multiple_of(BLOCK_SIZE as u64);
    let disk = Uuid::from_bytes(recipe.ids.disk);
    gpt::write(file, disk, &table.partitions, size / SECTOR)
        .context("writing the partition table")?;
    pending.commit().context("placing the file")?;
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

/// Writes the file system to its place; returns its size in blocks and, unless there is to be
/// no hash tree, the digests of all blocks, which wait in an unnamed file in `scratch`.
fn write_root(
    recipe: &Recipe<'_>,
    file: &File,
    scratch: &Path,
) -> Result<(u64, Option<LeafHashes>)> {
    let params = erofs::Params {
        uuid: recipe.ids.file_system,
        epoch_seconds: recipe.epoch_seconds,
        volume_name: [0; 16],
        compression: recipe.compression,
        share_compressed: recipe.share_compressed,
        threads: recipe.threads,
    };
    let leaves = match recipe.verity {
        Verity::None => None,
        _ => {
            let digests = tempfile_in(scratch).context("creating a temporary file")?;
            Some(LeafHashes::new(recipe.ids.salt, digests))
        }
    };
    let failure = OnceLock::new();
    let spare = erofs::Spare::default();
    let (pieces, waiting) = sync_channel(PIECES);
    let waiting = &Mutex::new(waiting);
    let written = thread::scope(|scope| {
        let root = Root {
            spare: &spare,
            file,
            leaves: leaves.as_ref(),
            failure: &failure,
        };
        let threads: Vec<_> = (0..recipe.threads.get())
            .map(|_| scope.spawn(move || root.write_all(waiting)))
            .collect();
        let mut sink = Pieces { pieces };
        let written = erofs::write(recipe.tree, &params, &spare, &mut sink);
        // The threads end when nobody can send any more.
        drop(sink);
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        written
    });
    match failure.into_inner() {
        Some(error) => Err(erofs::WriteError::Write(error).into()),
        None => Ok((written?, leaves)),
    }
}

/// An unnamed file; the empty path is the current directory.
fn tempfile_in(dir: &Path) -> io::Result<File> {
    match dir.as_os_str().is_empty() {
        true => tempfile::tempfile_in("."),
        false => tempfile::tempfile_in(dir),
    }
}

/// A piece of the file system: its first block and its bytes.
type Piece = (u64, Vec<u8>);

/// The way to the threads that hash and write.
struct Pieces {
    pieces: SyncSender<Piece>,
}

impl erofs::Sink for Pieces {
    fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()> {
        let gone = |_| io::Error::other("the threads that write are gone");
        self.pieces.send((first, blocks)).map_err(gone)
    }
}

/// The root partition as a place for blocks.
#[derive(Clone, Copy)]
struct Root<'a> {
    spare: &'a erofs::Spare,
    file: &'a File,
    leaves: Option<&'a LeafHashes>,
    /// The first error of any thread.
    failure: &'a OnceLock<io::Error>,
}

impl Root<'_> {
    /// Writes whatever comes, until nothing more can come. After an error pieces are only taken,
    /// so that nobody waits for room.
    fn write_all(self, waiting: &Mutex<Receiver<Piece>>) {
        loop {
            let piece = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok((first, blocks)) = piece else { return };
            if self.failure.get().is_none()
                && let Err(error) = self.write(first, &blocks)
            {
                // Another thread may have been first.
                let _ = self.failure.set(error);
            }
            self.spare.give(blocks);
        }
    }

    fn write(self, first: u64, blocks: &[u8]) -> io::Result<()> {
        if let Some(leaves) = self.leaves {
            leaves.feed(first, blocks)?;
        }
        let offset = FIRST_OFFSET + first * BLOCK_SIZE as u64;
        self.file.write_all_at(blocks, offset)?;
        // The disk begins now instead of waiting for the final sync: Linux starts to write what is
        // dirty and keeps it cached until then (mm/fadvise.c). Only advice, so it can't fail.
        let _ = fadvise(
            self.file,
            offset,
            NonZero::new(blocks.len() as u64),
            Advice::DontNeed,
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::verity::verify::verify;
    use crate::tree::Source;
    use sha2::{Digest, Sha256};
    use std::fs;

    const IDS: Ids = Ids {
        disk: [1; 16],
        root: [2; 16],
        signature: [3; 16],
        file_system: [4; 16],
        verity: [5; 16],
        salt: [6; 32],
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

    fn build(verity: Verity<'_>) -> (Assembled, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.raw");
        let recipe = Recipe {
            tree: &tree(),
            arch: Arch::X86_64,
            verity,
            ids: IDS,
            epoch_seconds: 0,
            compression: None,
            share_compressed: false,
            threads: threads(),
        };
        let assembled = assemble(&recipe, &out).unwrap();
        (assembled, fs::read(&out).unwrap())
    }

    #[test]
    fn the_parts_are_where_the_table_says() {
        let stored = |_: &RootHash| Ok(None);
        let (made, bytes) = build(Verity::Defer(&stored));
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
        let found = verify(&file, data.offset, data.size, hash.offset, hash.size).unwrap();
        assert_eq!(found, root);
    }

    #[test]
    fn the_modes_differ_only_in_what_follows_the_root() {
        let (none, plain) = build(Verity::None);
        assert_eq!((none.root_hash, none.partitions.len()), (None, 1));
        let (hash, hashed) = build(Verity::Hash);
        assert_eq!(hash.partitions.len(), 2);
        let stored = |root: &RootHash| {
            Ok(Some(SignaturePartition {
                root_hash: root.as_bytes().to_vec(),
                certificate_fingerprint: None,
                signature: b"made earlier".to_vec(),
            }))
        };
        let (joined, _) = build(Verity::Defer(&stored));
        assert!(joined.signed);
        assert_eq!(joined.root_hash, hash.root_hash);
        let root = 1 << 20..(1 << 20) + 3 * (1 << 20);
        assert!(plain[root.clone()] == hashed[root]);
        let (_, again) = build(Verity::Hash);
        assert!(again == hashed);
        // Whoever changes these bytes changes the root hash of every image that is rebuilt.
        assert_eq!(
            hex::encode(&Sha256::digest(&hashed)),
            "6428d49f7c421b182f1401dec6f124dd1ebb825144f25f64ea1c12b094226fca"
        );
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = tree();
        let gone = Source::Path(dir.path().join("gone"));
        tree.insert_file(b"usr/gone", gone, 1, 0o644).unwrap();
        for verity in [Verity::None, Verity::Hash] {
            let recipe = Recipe {
                tree: &tree,
                arch: Arch::ARM64,
                verity,
                ids: IDS,
                epoch_seconds: 0,
                compression: None,
                share_compressed: false,
                threads: threads(),
            };
            let error = assemble(&recipe, &dir.path().join("x.raw")).unwrap_err();
            assert!(format!("{error:#}").contains("gone"), "{error:#}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
