//! dm-verity: the superblock, the hash tree and the full check of both.
//!
//! The format is that of cryptsetup (`lib/verity/verity.c`, `verity_hash.c`)
//! and the kernel (`Documentation/admin-guide/device-mapper/verity.rst`).
//! Nothing here knows partitions or signatures.

pub(crate) mod blocks;
pub(crate) mod leaves;
pub mod superblock;
pub(crate) mod verify;

use std::fmt;
use std::str::FromStr;

use crate::io::hex;

/// What a hash tree comes down to: the digest that is signed and that names the partitions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash {
    bytes: [u8; RootHash::LONGEST],
    len: usize,
}

impl RootHash {
    /// Bytes of a sha512 digest, the longest that we know.
    const LONGEST: usize = 64;

    /// The digest itself: 32 bytes for sha256, 64 for sha512.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The partition UUIDs of data and hash, in the byte order of their text: the first
    /// and the last 16 bytes of the hash (systemd `src/shared/dissect-image.c`).
    pub fn uuid_halves(&self) -> ([u8; 16], [u8; 16]) {
        let bytes = self.as_bytes();
        let first = bytes.first_chunk().copied().unwrap_or_default();
        let last = bytes.last_chunk().copied().unwrap_or_default();
        (first, last)
    }

    /// Takes a digest of 32 or 64 bytes.
    fn from_digest(digest: &[u8]) -> Option<RootHash> {
        if !matches!(digest.len(), 32 | 64) {
            return None;
        }
        let mut bytes = [0; RootHash::LONGEST];
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(RootHash {
            bytes,
            len: digest.len(),
        })
    }
}

impl From<[u8; 32]> for RootHash {
    fn from(digest: [u8; 32]) -> RootHash {
        let mut bytes = [0; RootHash::LONGEST];
        bytes
            .iter_mut()
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        RootHash { bytes, len: 32 }
    }
}

impl fmt::Display for RootHash {
    /// Lower-case hex without separators, exactly what gets signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

/// A text that is not a root hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a root hash of 64 or 128 hexadecimal digits, found {found:?}")]
pub struct NotARootHash {
    found: String,
}

impl FromStr for RootHash {
    type Err = NotARootHash;

    /// Upper and lower case are read alike, as systemd does.
    fn from_str(text: &str) -> Result<RootHash, NotARootHash> {
        hex::decode(text)
            .and_then(|bytes| RootHash::from_digest(&bytes))
            .ok_or_else(|| NotARootHash {
                found: text.chars().take(2 * RootHash::LONGEST + 1).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "452addea32c48fb76d3fdb21c53d6a1d1f5bc7a13fa2d3676e2fe91a8637a71e";

    #[test]
    fn the_text_form_reads_back() {
        let hash: RootHash = TEXT.parse().unwrap();
        assert_eq!(hash.to_string(), TEXT);
        assert_eq!(TEXT.to_uppercase().parse(), Ok(hash));
        let long: RootHash = TEXT.repeat(2).parse().unwrap();
        assert_eq!(long.as_bytes().len(), 64);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "12", &TEXT[1..], &TEXT[2..], "zz", "ää"] {
            assert!(text.parse::<RootHash>().is_err(), "{text}");
        }
        assert!(format!("{}é", &TEXT[2..]).parse::<RootHash>().is_err());
        assert!(TEXT.repeat(3).parse::<RootHash>().is_err());
    }

    #[test]
    fn the_halves_name_the_partitions() {
        let (data, hash) = TEXT.parse::<RootHash>().unwrap().uuid_halves();
        assert_eq!(data[..4], [0x45, 0x2a, 0xdd, 0xea]);
        assert_eq!(hash[..4], [0x1f, 0x5b, 0xc7, 0xa1]);
        assert_eq!(hash[15], 0x1e);
    }
}
