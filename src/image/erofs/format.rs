//! The structures on disk, by the kernel's `fs/erofs/erofs_fs.h`.

use crc::{CRC_32_ISCSI, Crc};

use crate::tree::Kind;

/// Bytes per block; 4096 is mounted by kernels of every page size since 6.4 and by x86-64 and
/// 4 KiB arm64 kernels since EROFS exists.
pub(crate) const BLOCK_SIZE: usize = 4096;
/// log2 of [`BLOCK_SIZE`].
const BLOCK_BITS: u8 = 12;
/// Inodes stand at multiples of this many bytes; their number (nid) counts such slots.
pub(crate) const SLOT_SIZE: usize = 32;

const SUPERBLOCK_OFFSET: usize = 1024;
const SUPERBLOCK_SIZE: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// The checksum field is filled.
const COMPAT_CHECKSUM: u32 = 1;
/// The time of inodes is mtime, not ctime.
const COMPAT_MTIME: u32 = 2;
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Address of data that is not there: of an inode without blocks, and of a chunk that is a hole
/// (`EROFS_NULL_ADDR`).
pub(crate) const NO_ADDRESS: u32 = u32::MAX;

/// What a kernel must know to read the image (`EROFS_FEATURE_INCOMPAT_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// What compressed files are compressed with, and the blocks of the longest cluster. Linux
    /// 5.13 for LZ4 in clusters of more than one block, 6.10 for Zstandard.
    pub compressed: Option<(Algorithm, u16)>,
    /// Files with holes are there (Linux 5.15).
    pub chunks: bool,
    /// Several files or places share compressed clusters (Linux 6.1).
    pub shared_clusters: bool,
}

/// Compressed data ends where its blocks end (`LZ4_0PADDING`).
const INCOMPAT_ZERO_PADDING: u32 = 0x1;
/// The superblock is followed by a record for each algorithm, and clusters may have more than one
/// block (`COMPR_CFGS`, `BIG_PCLUSTER`).
const INCOMPAT_CONFIGURED: u32 = 0x2;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEDUPE: u32 = 0x20;

/// A compression algorithm, by its number on disk (`Z_EROFS_COMPRESSION_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// LZ4 blocks.
    Lz4,
    /// Zstandard frames.
    Zstd {
        /// log2 of the window in bytes; the kernel allows 10 to 20 (`fs/erofs/decompressor_zstd.c`).
        window_log: u8,
    },
}

impl Algorithm {
    fn number(self) -> u8 {
        match self {
            Algorithm::Lz4 => 0,
            Algorithm::Zstd { .. } => 3,
        }
    }

    /// The record behind the superblock, after its length
    /// (`struct z_erofs_lz4_cfgs`, `struct z_erofs_zstd_cfgs`).
    fn configuration(self, longest_cluster: u16) -> Vec<u8> {
        match self {
            Algorithm::Lz4 => {
                // The longest distance that LZ4 can express.
                let mut bytes = u16::MAX.to_le_bytes().to_vec();
                bytes.extend(longest_cluster.to_le_bytes());
                bytes.resize(14, 0);
                bytes
            }
            Algorithm::Zstd { window_log } => vec![0, window_log.saturating_sub(10), 0, 0, 0, 0],
        }
    }
}

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Slot of the root directory.
    pub root_nid: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// Seconds since 1970; the time of every compact inode.
    pub epoch_seconds: u64,
    /// Number of blocks.
    pub blocks: u32,
    /// File system UUID in text order.
    pub uuid: [u8; 16],
    /// Label, NUL padded.
    pub volume_name: [u8; 16],
    /// What the files need.
    pub features: Features,
}

impl Superblock {
    /// Block 0: zeros up to byte 1024 and after the superblock.
    pub(crate) fn to_block(&self) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK_OFFSET];
        block.extend(MAGIC.to_le_bytes());
        block.extend([0; 4]); // checksum, below
        block.extend((COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        block.extend([BLOCK_BITS, 0]); // no extension slots
        block.extend(self.root_nid.to_le_bytes());
        block.extend(self.inodes.to_le_bytes());
        block.extend(self.epoch_seconds.to_le_bytes());
        block.extend([0; 4]); // nanoseconds
        block.extend(self.blocks.to_le_bytes());
        block.extend([0; 4]); // meta_blkaddr 0: a nid counts from the start of the image
        block.extend([0; 4]); // xattr_blkaddr: no shared attributes
        block.extend(self.uuid);
        block.extend(self.volume_name);
        let Features {
            compressed,
            chunks,
            shared_clusters,
        } = self.features;
        let mut incompatible = 0;
        let mut algorithms: u16 = 0;
        if let Some((algorithm, _)) = compressed {
            incompatible |= INCOMPAT_ZERO_PADDING | INCOMPAT_CONFIGURED;
            algorithms = 1 << algorithm.number();
        }
        if chunks {
            incompatible |= INCOMPAT_CHUNKED_FILE;
        }
        if shared_clusters {
            incompatible |= INCOMPAT_DEDUPE;
        }
        block.extend(incompatible.to_le_bytes());
        block.extend(algorithms.to_le_bytes());
        // No further device, no shared name prefix, no packed inode.
        block.resize(SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE, 0);
        if let Some((algorithm, longest)) = compressed {
            let record = algorithm.configuration(longest);
            block.extend(
                u16::try_from(record.len())
                    .unwrap_or_default()
                    .to_le_bytes(),
            );
            block.extend(record);
        }
        block.resize(BLOCK_SIZE, 0);
        // The kernel's crc32c() neither inverts its result nor covers the boot area
        // (fs/erofs/super.c, erofs_superblock_csum_verify).
        let covered = block.get(SUPERBLOCK_OFFSET..).unwrap_or_default();
        let checksum = !CRC32C.checksum(covered);
        let field = SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8;
        if let Some(field) = block.get_mut(field) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        block
    }
}

/// How the bytes of an inode lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLayout {
    /// All in whole blocks (`EROFS_INODE_FLAT_PLAIN`).
    Plain,
    /// Whole blocks, and the rest right after the inode (`EROFS_INODE_FLAT_INLINE`).
    Inline,
    /// Chunks with an address each, or a hole; the addresses follow the inode
    /// (`EROFS_INODE_CHUNK_BASED`).
    Chunks,
    /// Compressed clusters, and an index of them after the inode
    /// (`EROFS_INODE_COMPRESSED_FULL`).
    Compressed,
}

/// An inode without the attributes and the tail that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InodeRecord {
    /// 64 bytes instead of 32, see [`fits_compact`].
    pub extended: bool,
    /// How its bytes lie.
    pub layout: DataLayout,
    /// Bytes of attributes as [`xattr_bytes`] makes them, 0 or at least 16.
    pub xattr_size: usize,
    /// Type and permission bits.
    pub mode: u16,
    /// Number of names.
    pub links: u32,
    /// Bytes of the file, directory or link target.
    pub size: u64,
    /// First data block, the device number of a device node, [`chunk_format`] of a file in chunks,
    /// or the number of blocks of a compressed file.
    pub address: u32,
    /// Number for 32-bit stat.
    pub number: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of an extended inode; a compact one has that of the superblock.
    pub epoch_seconds: u64,
}

/// Whether the 32-byte form holds these values.
pub(crate) fn fits_compact(size: u64, links: u32, uid: u32, gid: u32) -> bool {
    u32::try_from(size).is_ok() && [links, uid, gid].iter().all(|n| u16::try_from(*n).is_ok())
}

/// Bytes of an inode.
pub(crate) const fn inode_size(extended: bool) -> usize {
    if extended { 64 } else { 32 }
}

impl InodeRecord {
    /// 32 or 64 bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let layout: u16 = match self.layout {
            DataLayout::Plain => 0,
            DataLayout::Compressed => 1,
            DataLayout::Inline => 2,
            DataLayout::Chunks => 4,
        };
        let format = layout << 1 | u16::from(self.extended);
        // A header of 12 bytes counts as one, then every four bytes (erofs_xattr_ibody_size).
        let xattr_count = match self.xattr_size.checked_sub(XATTR_HEADER_SIZE) {
            Some(entries) => u16::try_from(entries / 4 + 1).unwrap_or(u16::MAX),
            None => 0,
        };
        // Only asked for when it fits: `extended` is the answer of `fits_compact`.
        let short = |value: u32| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(format.to_le_bytes());
        bytes.extend(xattr_count.to_le_bytes());
        bytes.extend(self.mode.to_le_bytes());
        if self.extended {
            bytes.extend([0; 2]);
            bytes.extend(self.size.to_le_bytes());
            bytes.extend(self.address.to_le_bytes());
            bytes.extend(self.number.to_le_bytes());
            bytes.extend(self.uid.to_le_bytes());
            bytes.extend(self.gid.to_le_bytes());
            bytes.extend(self.epoch_seconds.to_le_bytes());
            bytes.extend([0; 4]); // nanoseconds
            bytes.extend(self.links.to_le_bytes());
        } else {
            bytes.extend(short(self.links));
            let size = u32::try_from(self.size).unwrap_or(u32::MAX);
            bytes.extend(size.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(self.address.to_le_bytes());
            bytes.extend(self.number.to_le_bytes());
            bytes.extend(short(self.uid));
            bytes.extend(short(self.gid));
        }
        bytes.resize(inode_size(self.extended), 0);
        bytes
    }
}

/// Type bits of a mode (`S_IFMT`) and the type in a directory entry (`EROFS_FT_*`).
pub(crate) fn type_codes(kind: &Kind) -> (u16, u8) {
    match kind {
        Kind::File { .. } => (0o100_000, 1),
        Kind::Directory(_) => (0o040_000, 2),
        Kind::CharDevice(..) => (0o020_000, 3),
        Kind::BlockDevice(..) => (0o060_000, 4),
        Kind::Fifo => (0o010_000, 5),
        Kind::Socket => (0o140_000, 6),
        Kind::Symlink(_) => (0o120_000, 7),
    }
}

/// `i_u` of a file in chunks of `chunk_size` bytes, a power of two and at least a block, whose
/// addresses have four bytes each (`struct erofs_inode_chunk_info`).
pub(crate) fn chunk_format(chunk_size: u64) -> u32 {
    chunk_size
        .trailing_zeros()
        .saturating_sub(BLOCK_BITS.into())
}

/// Bytes before the first entry of an index: the header and as many unused ones
/// (`Z_EROFS_FULL_INDEX_ALIGN`).
pub(crate) const INDEX_HEADER_SIZE: usize = 16;
/// Bytes of an entry of the index; one for each 4096 bytes of the file.
pub(crate) const INDEX_ENTRY_SIZE: usize = 8;
/// Where an index may begin after inode and attributes.
pub(crate) const INDEX_ALIGN: usize = 8;

/// Some blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// First block of its data.
    pub address: u32,
    /// Blocks of the file that it holds.
    pub blocks: u16,
    /// Blocks of its data when they are compressed; `None`: as they are.
    pub compressed: Option<u16>,
}

/// The header of an index (`struct z_erofs_map_header`).
pub(crate) fn index_header(algorithm: Algorithm) -> [u8; INDEX_HEADER_SIZE] {
    /// Clusters may have more than one block.
    const ADVISE_BIG_CLUSTERS: u16 = 2;
    let mut bytes = [0; INDEX_HEADER_SIZE];
    let [low, high] = ADVISE_BIG_CLUSTERS.to_le_bytes();
    (bytes[4], bytes[5], bytes[6]) = (low, high, algorithm.number());
    bytes
}

impl Cluster {
    /// The entries of its blocks (`struct z_erofs_lcluster_index`, read in `fs/erofs/zmap.c`).
    pub(crate) fn index_entries(&self) -> impl Iterator<Item = [u8; INDEX_ENTRY_SIZE]> {
        /// In the first entry after the head, in place of the distance to it: the blocks.
        const BLOCK_COUNT: u16 = 1 << 11;
        const PLAIN: u16 = 0;
        const HEAD: u16 = 1;
        const FOLLOWING: u16 = 2;
        let Cluster {
            address,
            blocks,
            compressed,
        } = *self;
        (0..blocks).map(move |at| {
            let (kind, [low, high]) = match (compressed, at) {
                (None, _) => (PLAIN, halves(address + u32::from(at))),
                (Some(_), 0) => (HEAD, halves(address)),
                (Some(count), 1) => (FOLLOWING, [BLOCK_COUNT | count, blocks - at]),
                (Some(_), _) => (FOLLOWING, [at, blocks - at]),
            };
            let mut bytes = [0; INDEX_ENTRY_SIZE];
            // Every cluster begins with a block of the file: the offset within it is 0.
            for (two, value) in bytes.chunks_exact_mut(2).zip([kind, 0, low, high]) {
                two.copy_from_slice(&value.to_le_bytes());
            }
            bytes
        })
    }
}

fn halves(address: u32) -> [u16; 2] {
    let [a, b, c, d] = address.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// A device number in the kernel's 32-bit form (`new_encode_dev`): 12 bits major, 20 bits minor.
pub(crate) fn device_number(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

const XATTR_HEADER_SIZE: usize = 12;
/// The longest attribute area that `i_xattr_icount` counts.
const XATTR_LONGEST: usize = XATTR_HEADER_SIZE + 4 * (u16::MAX as usize - 1);

/// Name prefixes and their numbers (`EROFS_XATTR_INDEX_*`).
const XATTR_PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
/// POSIX ACLs are a prefix with nothing after it.
const XATTR_ACLS: [(&[u8], u8); 2] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
];

/// The attribute area of an inode: empty without attributes, otherwise a header and all
/// attributes inline. The error says why an attribute has no place in EROFS.
pub(crate) fn xattr_bytes<'a>(
    xattrs: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
) -> Result<Vec<u8>, String> {
    // No name filter, no shared attributes.
    let mut bytes = vec![0; XATTR_HEADER_SIZE];
    for (name, value) in xattrs {
        let why = |reason: &str| format!("the extended attribute {} {reason}", name.escape_ascii());
        let (index, rest) = split_name(name).ok_or_else(|| why("has no place in EROFS"))?;
        let length = u8::try_from(rest.len()).map_err(|_| why("has a name that is too long"))?;
        let size = u16::try_from(value.len()).map_err(|_| why("is longer than 65535 bytes"))?;
        bytes.extend([length, index]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if bytes.len() > XATTR_LONGEST {
            return Err(why("and those before it need more than 262148 bytes"));
        }
    }
    if bytes.len() == XATTR_HEADER_SIZE {
        bytes.clear();
    }
    Ok(bytes)
}

fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    if let Some((_, index)) = XATTR_ACLS.iter().find(|(acl, _)| *acl == name) {
        return Some((*index, b""));
    }
    XATTR_PREFIXES.iter().find_map(|(prefix, index)| {
        let rest = name.strip_prefix(*prefix)?;
        (!rest.is_empty()).then_some((*index, rest))
    })
}

/// Bytes of a directory entry without its name.
pub(crate) const DIRENT_SIZE: usize = 12;

/// An entry of a directory block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dirent<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Slot of the inode.
    pub nid: u64,
    /// The type as in [`type_codes`].
    pub file_type: u8,
}

/// A directory block: all entries, then all names. Not padded, so that the last block of a
/// directory ends with its last name.
pub(crate) fn directory_block(entries: &[Dirent<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_SIZE);
    let mut name_offset = entries.len() * DIRENT_SIZE;
    for entry in entries {
        bytes.extend(entry.nid.to_le_bytes());
        // Below 4096, because the caller fills one block.
        bytes.extend(u16::try_from(name_offset).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend([entry.file_type, 0]);
        name_offset += entry.name.len();
    }
    entries.iter().for_each(|entry| bytes.extend(entry.name));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn structures_have_the_kernel_s_sizes() {
        let superblock = Superblock {
            root_nid: 128,
            inodes: 1,
            epoch_seconds: 0,
            blocks: 2,
            uuid: [0x11; 16],
            volume_name: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
            features: Features::default(),
        };
        let block = superblock.to_block();
        assert_eq!(block.len(), BLOCK_SIZE);
        assert_eq!(block[1024..1028], [0xe2, 0xe1, 0xf5, 0xe0]);
        assert_eq!(block[1024 + 48..1024 + 64], [0x11; 16]);
        assert!(block[1024 + 128..].iter().all(|byte| *byte == 0));
        for extended in [false, true] {
            let inode = InodeRecord {
                extended,
                layout: DataLayout::Inline,
                xattr_size: 16,
                mode: 0o100_644,
                links: 1,
                size: 5,
                address: NO_ADDRESS,
                number: 1,
                uid: 0,
                gid: 0,
                epoch_seconds: 0,
            };
            let bytes = inode.to_bytes();
            assert_eq!(bytes.len(), inode_size(extended));
            assert_eq!(bytes[..4], [4 | u8::from(extended), 0, 2, 0]);
        }
    }

    #[test]
    fn the_compact_form_is_for_small_values() {
        assert!(fits_compact(u64::from(u32::MAX), 65535, 65535, 65535));
        assert!(!fits_compact(1 << 32, 1, 0, 0));
        assert!(!fits_compact(0, 65536, 0, 0));
        assert!(!fits_compact(0, 1, 65536, 0));
        assert!(!fits_compact(0, 1, 0, 65536));
    }

    #[test]
    fn attributes_are_packed_in_fours() {
        let pack = |name: &str, value: &[u8]| {
            let xattrs = BTreeMap::from([(name.as_bytes().to_vec(), value.to_vec())]);
            xattr_bytes(xattrs.iter())
        };
        assert_eq!(xattr_bytes(BTreeMap::new().iter()), Ok(Vec::new()));
        let bytes = pack("user.ab", b"xyz").unwrap();
        assert_eq!(bytes[12..], *b"\x02\x01\x03\x00abxyz\0\0\0");
        let acl = pack("system.posix_acl_default", b"1234").unwrap();
        assert_eq!(acl[12..], *b"\x00\x03\x04\x001234");
        assert!(pack("system.other", b"").is_err());
        assert!(pack("user.", b"").is_err());
        assert!(pack("user.x", &vec![0; 65536]).is_err());
        assert!(pack(&format!("user.{}", "x".repeat(256)), b"").is_err());
    }

    #[test]
    fn device_numbers_split_the_minor() {
        assert_eq!(device_number(1, 3), Some(0x103));
        assert_eq!(device_number(0xfff, 0x12345), Some(0x123f_ff45));
        assert_eq!(device_number(4096, 0), None);
    }
}
