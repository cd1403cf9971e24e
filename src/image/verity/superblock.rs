//! The 512 bytes at the start of the hash area.

/// Bytes of the superblock; the rest of its hash block is zero.
pub const SUPERBLOCK_SIZE: usize = 512;

/// The first bytes of a hash tree.
pub const SIGNATURE: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const LONGEST_SALT: usize = 256;
/// Smallest and largest block that cryptsetup loads (`lib/verity/verity.h`, VERITY_MAX_BLOCK_SIZE).
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=512 * 1024;

/// The digest of a hash tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 32-byte digests; what systemd-repart makes.
    Sha256,
    /// 64-byte digests.
    Sha512,
}

impl Algorithm {
    /// The name that stands in the superblock.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Bytes of one digest, which is also its room in a hash block.
    pub fn digest_size(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// Where the salt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashType {
    /// Type 0: block, then salt.
    ChromeOs,
    /// Type 1: salt, then block.
    Normal,
}

/// All that is needed to rebuild the hash tree from the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Where the salt goes.
    pub hash_type: HashType,
    /// The UUID in RFC 4122 byte order.
    pub uuid: [u8; 16],
    /// The digest.
    pub algorithm: Algorithm,
    /// Bytes per data block, a power of two.
    pub data_block_size: u32,
    /// Bytes per hash block, a power of two.
    pub hash_block_size: u32,
    /// Number of data blocks, at least 1.
    pub data_blocks: u64,
    /// At most 256 bytes that go into every digest.
    pub salt: Vec<u8>,
}

/// Why 512 bytes are not a superblock that the loader takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// The hash area is shorter than a superblock.
    #[error("the hash area is shorter than the {SUPERBLOCK_SIZE} bytes of a verity superblock")]
    Short,
    /// The magic is missing.
    #[error("the hash area does not start with a verity superblock")]
    Signature,
    /// A version other than 1.
    #[error("expected verity superblock version {VERSION}, found {0}")]
    Version(u32),
    /// A hash type other than 0 and 1.
    #[error("expected verity hash type 0 or 1, found {0}")]
    HashType(u32),
    /// A digest that we do not compute.
    #[error("expected hash algorithm sha256 or sha512, found {0:?}")]
    Algorithm(String),
    /// A block size that is no power of two or out of range.
    #[error(
        "expected a {which} block size that is a power of two from 512 to 524288, found {size}"
    )]
    BlockSize {
        /// `data` or `hash`.
        which: &'static str,
        /// What stands there.
        size: u32,
    },
    /// A salt that does not fit.
    #[error("expected a salt of at most {LONGEST_SALT} bytes, found {0}")]
    SaltSize(u16),
    /// A tree over nothing.
    #[error("the verity superblock covers no data block")]
    NoData,
}

impl Superblock {
    /// What systemd-repart makes since 255: sha256 over 4096-byte blocks.
    pub fn new(uuid: [u8; 16], salt: [u8; 32], data_blocks: u64) -> Superblock {
        Superblock {
            hash_type: HashType::Normal,
            uuid,
            algorithm: Algorithm::Sha256,
            data_block_size: 4096,
            hash_block_size: 4096,
            data_blocks,
            salt: salt.to_vec(),
        }
    }

    /// The on-disk form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let hash_type: u32 = match self.hash_type {
            HashType::ChromeOs => 0,
            HashType::Normal => 1,
        };
        let salt = self.salt.get(..LONGEST_SALT).unwrap_or(&self.salt);
        let salt_size = u16::try_from(salt.len()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(SUPERBLOCK_SIZE);
        bytes.extend(SIGNATURE); // 0
        bytes.extend(VERSION.to_le_bytes()); // 8
        bytes.extend(hash_type.to_le_bytes()); // 12
        bytes.extend(self.uuid); // 16
        bytes.extend(self.algorithm.name().as_bytes());
        bytes.resize(64, 0); // 32: the algorithm, NUL padded
        bytes.extend(self.data_block_size.to_le_bytes()); // 64
        bytes.extend(self.hash_block_size.to_le_bytes()); // 68
        bytes.extend(self.data_blocks.to_le_bytes()); // 72
        bytes.extend(salt_size.to_le_bytes()); // 80
        bytes.resize(88, 0);
        bytes.extend(salt); // 88
        bytes.resize(SUPERBLOCK_SIZE, 0);
        bytes
    }

    /// Reads the start of a hash area with the checks of cryptsetup's loader
    /// (`lib/verity/verity.c`, `VERITY_read_sb`).
    ///
    /// # Errors
    /// The [`SuperblockError`] of the first check that fails, in the order of its variants but for
    /// `NoData`, which comes before `SaltSize`.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, SuperblockError> {
        let bytes: &[u8; SUPERBLOCK_SIZE] = bytes.first_chunk().ok_or(SuperblockError::Short)?;
        if field(bytes, 0) != *SIGNATURE {
            return Err(SuperblockError::Signature);
        }
        let version = u32::from_le_bytes(field(bytes, 8));
        if version != VERSION {
            return Err(SuperblockError::Version(version));
        }
        let hash_type = match u32::from_le_bytes(field(bytes, 12)) {
            0 => HashType::ChromeOs,
            1 => HashType::Normal,
            other => return Err(SuperblockError::HashType(other)),
        };
        let name: [u8; 32] = field(bytes, 32);
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let algorithm = match name {
            b"sha256" => Algorithm::Sha256,
            b"sha512" => Algorithm::Sha512,
            other => {
                let name = String::from_utf8_lossy(other).into_owned();
                return Err(SuperblockError::Algorithm(name));
            }
        };
        let data_block_size = block_size("data", field(bytes, 64))?;
        let hash_block_size = block_size("hash", field(bytes, 68))?;
        let data_blocks = u64::from_le_bytes(field(bytes, 72));
        if data_blocks == 0 {
            return Err(SuperblockError::NoData);
        }
        let salt_size = u16::from_le_bytes(field(bytes, 80));
        let salt: [u8; LONGEST_SALT] = field(bytes, 88);
        let salt = salt
            .get(..usize::from(salt_size))
            .ok_or(SuperblockError::SaltSize(salt_size))?
            .to_vec();
        Ok(Superblock {
            hash_type,
            uuid: field(bytes, 16),
            algorithm,
            data_block_size,
            hash_block_size,
            data_blocks,
            salt,
        })
    }
}

/// The `N` bytes at `offset`; zeros where the array ends, which no caller reaches.
fn field<const N: usize>(bytes: &[u8; SUPERBLOCK_SIZE], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

fn block_size(which: &'static str, bytes: [u8; 4]) -> Result<u32, SuperblockError> {
    let size = u32::from_le_bytes(bytes);
    if size.is_power_of_two() && BLOCK_SIZES.contains(&size) {
        Ok(size)
    } else {
        Err(SuperblockError::BlockSize { which, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock::new([0xab; 16], [7; 32], 129)
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = sample().to_bytes();
        assert_eq!(bytes.len(), SUPERBLOCK_SIZE);
        assert_eq!(Superblock::parse(&bytes), Ok(sample()));
        let other = Superblock {
            hash_type: HashType::ChromeOs,
            algorithm: Algorithm::Sha512,
            salt: Vec::new(),
            ..sample()
        };
        assert_eq!(Superblock::parse(&other.to_bytes()), Ok(other));
    }

    #[test]
    fn every_loader_check_has_its_error() {
        let with = |offset: usize, patch: &[u8]| {
            let mut bytes = sample().to_bytes();
            bytes[offset..offset + patch.len()].copy_from_slice(patch);
            Superblock::parse(&bytes).unwrap_err()
        };
        assert_eq!(Superblock::parse(&[0; 511]), Err(SuperblockError::Short));
        assert_eq!(with(0, b"V"), SuperblockError::Signature);
        assert_eq!(with(8, &[2]), SuperblockError::Version(2));
        assert_eq!(with(12, &[2]), SuperblockError::HashType(2));
        assert_eq!(
            with(32, b"md5\0"),
            SuperblockError::Algorithm("md5".to_owned())
        );
        for size in [0_u32, 256, 4097, 1 << 20] {
            let (patch, which) = (size.to_le_bytes(), "hash");
            assert_eq!(with(68, &patch), SuperblockError::BlockSize { which, size });
        }
        assert_eq!(with(72, &[0; 8]), SuperblockError::NoData);
        assert_eq!(with(80, &[1, 1]), SuperblockError::SaltSize(257));
    }
}
