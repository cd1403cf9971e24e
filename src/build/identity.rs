//! The identifiers and the salt of an image, derived from what the image is.
//!
//! Nothing is random, so the same input gives the same bytes. The derivations
//! are those of systemd-repart (`derive_uuid`, src/repart/repart.c) with a
//! seed of 32 bytes.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::model::Format;
use crate::image::verity::RootHash;
use crate::systemd::kind::ExtensionKind;

/// What makes an extension this extension; the order of the fields is part of the format.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity<'a> {
    /// Name of the image without `.raw`.
    pub name: &'a str,
    /// Version, if any.
    pub version: Option<&'a str>,
    /// System or configuration extension.
    pub kind: ExtensionKind,
    /// Architecture by systemd's name, or `any`.
    pub arch: &'a str,
    /// The release file, pairs in the order in which they are written.
    pub release: &'a [(String, String)],
    /// File system.
    pub format: Format,
    /// Compression in effect.
    pub compression: &'a str,
}

/// Root of all derivations of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed([u8; 32]);

impl Seed {
    /// The seed of an identity.
    pub(crate) fn derive(identity: &Identity<'_>) -> serde_json::Result<Seed> {
        let mut hash = Sha256::new();
        hash.update(b"prism-sysext v1\0");
        hash.update(serde_json::to_vec(identity)?);
        Ok(Seed(hash.finalize().into()))
    }

    /// The seed of an image that is joined from the parts of another's.
    pub(crate) fn of_root_hash(root: &RootHash) -> Seed {
        let mut hash = Sha256::new();
        hash.update(b"prism-sysext joined v1\0");
        hash.update(root.as_bytes());
        Seed(hash.finalize().into())
    }

    /// A seed written by the user: 64 hex digits.
    pub(crate) fn parse(hex: &str) -> Option<Seed> {
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Seed(bytes))
    }

    /// GUID of the partition table.
    pub(crate) fn disk_guid(&self) -> Result<Uuid, ErrorStack> {
        self.uuid(b"disk-uuid")
    }

    /// GUID of the first partition of a type.
    pub(crate) fn partition_guid(&self, type_guid: Uuid) -> Result<Uuid, ErrorStack> {
        self.uuid(type_guid.as_bytes())
    }

    /// UUID of the file system in the partition of a type.
    pub(crate) fn file_system_uuid(&self, type_guid: Uuid) -> Result<Uuid, ErrorStack> {
        let partition = self.partition_guid(type_guid)?;
        Ok(version_4(hmac(partition.as_bytes(), b"file-system-uuid")?))
    }

    /// Salt of the hash tree.
    pub(crate) fn verity_salt(&self) -> Result<[u8; 32], ErrorStack> {
        hmac(&self.0, b"verity-salt")
    }

    /// UUID in the verity superblock.
    pub(crate) fn verity_uuid(&self) -> Result<Uuid, ErrorStack> {
        self.uuid(b"verity-uuid")
    }

    fn uuid(&self, what: &[u8]) -> Result<Uuid, ErrorStack> {
        Ok(version_4(hmac(&self.0, what)?))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Result<[u8; 32], ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    let mut digest = [0; 32];
    signer.sign_oneshot(&mut digest, data)?;
    Ok(digest)
}

/// The first half of a digest with the marks of a random UUID (RFC 9562, version 4).
fn version_4(digest: [u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    for (byte, digest) in bytes.iter_mut().zip(digest) {
        *byte = digest;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity<'a>(release: &'a [(String, String)]) -> Identity<'a> {
        Identity {
            name: "tools",
            version: Some("1.0"),
            kind: ExtensionKind::Sysext,
            arch: "x86-64",
            release,
            format: Format::Erofs,
            compression: "none",
        }
    }

    #[test]
    fn hmac_is_the_standard_one() {
        // RFC 4231, test case 2.
        let digest = hmac(b"Jefe", b"what do ya want for nothing?").unwrap();
        assert_eq!(digest[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    #[test]
    fn every_part_of_the_identity_counts() {
        let release = [("ID".to_owned(), "azurelinux".to_owned())];
        let seed = Seed::derive(&identity(&release)).unwrap();
        assert_eq!(seed, Seed::derive(&identity(&release)).unwrap());
        assert_ne!(seed, Seed::derive(&identity(&[])).unwrap());
        let other = Identity {
            name: "tool",
            ..identity(&release)
        };
        assert_ne!(seed, Seed::derive(&other).unwrap());
        let other = Identity {
            compression: "lz4",
            ..identity(&release)
        };
        assert_ne!(seed, Seed::derive(&other).unwrap());
    }

    #[test]
    fn identifiers_differ_and_are_version_4() {
        let seed = Seed([7; 32]);
        let ids = [
            seed.disk_guid().unwrap(),
            seed.verity_uuid().unwrap(),
            seed.partition_guid(Uuid::from_u128(1)).unwrap(),
            seed.partition_guid(Uuid::from_u128(2)).unwrap(),
            seed.file_system_uuid(Uuid::from_u128(1)).unwrap(),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(id.get_version_num(), 4);
            assert!(!ids[..i].contains(id));
        }
    }

    #[test]
    fn a_written_seed_is_64_hex_digits() {
        assert!(Seed::parse(&"0a".repeat(32)).is_some());
        assert!(Seed::parse(&"0".repeat(63)).is_none());
        assert!(Seed::parse(&"zz".repeat(32)).is_none());
        assert!(Seed::parse(&"ä".repeat(32)).is_none());
    }
}
