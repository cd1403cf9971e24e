//! Small images for the tests of what looks at images.

use std::io::Cursor;
use std::num::NonZero;

use openssl::nid::Nid;
use uuid::Uuid;

use super::erofs::params::Params;
use super::erofs::stream::Spare;
use super::erofs::write::write;
use super::gpt;
use super::gpt::types::{Designator, PartitionType, Role};
use super::gpt::{Partition, SECTOR};
use super::signature::{KeyFile, PARTITION_SIZE, SignaturePartition, Signer, sign_root_hash};
use super::verity::RootHash;
use super::verity::leaves::LeafHashes;
use super::x509::Certificate;
use super::x509::testing::{certificate, ec_key};
use crate::io::progress::Progress;
use crate::systemd::arch::Arch;
use crate::tree::{Source, Tree};

/// Where the file system of a [`disk`] begins, in bytes: the first multiple of 4096 after the table.
pub(crate) const DATA_OFFSET: usize = 20480;

/// What protects the content.
#[derive(Clone, Copy)]
pub(crate) enum Protection<'a> {
    /// Nothing.
    Nothing,
    /// A hash tree.
    Hash,
    /// A hash tree, and a signature partition that begins with these bytes.
    Room(&'a [u8]),
    /// A hash tree and its signature.
    Signed(&'a dyn Signer),
}

/// A tree of files by path and text.
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (path, text) in files {
        let (source, size) = (Source::Bytes(text.as_bytes().to_vec()), text.len());
        tree.insert_file(path.as_bytes(), source, size as u64, 0o644)
            .unwrap();
    }
    tree
}

/// A bare file system.
pub(crate) fn erofs(tree: &Tree) -> Vec<u8> {
    let params = Params {
        uuid: [9; 16],
        epoch_seconds: 0,
        volume_name: [0; 16],
        compression: None,
        share_compressed: false,
        threads: NonZero::<usize>::MIN,
    };
    let mut bytes = Vec::new();
    write(
        tree,
        &params,
        &Spare::default(),
        &Progress::new(),
        &mut bytes,
    )
    .unwrap();
    bytes
}

/// A hash tree with its root hash.
pub(crate) fn hash_tree(data: &[u8]) -> (Vec<u8>, RootHash) {
    let leaves = LeafHashes::new([7; 32], tempfile::tempfile().unwrap());
    leaves.feed(0, data).unwrap();
    let area = leaves.hash_area([8; 16]).unwrap();
    let mut bytes = Vec::new();
    area.write(&mut bytes).unwrap();
    (bytes, area.root_hash())
}

/// A disk image for x86-64.
pub(crate) fn disk(fs: &[u8], designator: Designator, protection: Protection<'_>) -> Vec<u8> {
    let (hashes, root) = hash_tree(fs);
    let (first, last) = root.uuid_halves();
    let signature = match protection {
        Protection::Nothing | Protection::Hash => None,
        Protection::Room(text) => Some(text.to_vec()),
        Protection::Signed(signer) => {
            let certificate = Certificate::from_der(signer.certificate_der()).unwrap();
            let partition = SignaturePartition {
                root_hash: root.as_bytes().to_vec(),
                certificate_fingerprint: Some(certificate.fingerprint_sha256_hex),
                signature: sign_root_hash(signer, &root.to_string()).unwrap(),
            };
            Some(partition.to_bytes().unwrap())
        }
    };
    let mut parts = vec![(Role::Data, first, fs.to_vec())];
    if !matches!(protection, Protection::Nothing) {
        parts.push((Role::Verity, last, hashes));
    }
    parts.extend(signature.map(|mut bytes| {
        bytes.resize(PARTITION_SIZE.try_into().unwrap(), 0);
        (Role::Signature, [3; 16], bytes)
    }));
    let mut bytes = vec![0; DATA_OFFSET];
    let mut partitions = Vec::new();
    for (role, id, content) in parts {
        let kind = PartitionType::new(Arch::X86_64, designator, role);
        let first_lba = bytes.len() as u64 / SECTOR;
        bytes.extend(content);
        partitions.push(Partition {
            type_guid: kind.guid().unwrap(),
            guid: Uuid::from_bytes(id),
            first_lba,
            last_lba: bytes.len() as u64 / SECTOR - 1,
            read_only: true,
            label: kind.to_string(),
        });
    }
    let sectors = bytes.len() as u64 / SECTOR + 40;
    let mut out = Cursor::new(bytes);
    gpt::write(&mut out, Uuid::from_bytes([4; 16]), &partitions, sectors).unwrap();
    let mut bytes = out.into_inner();
    bytes.resize((sectors * SECTOR).try_into().unwrap(), 0);
    bytes
}

/// A key of its own and its certificate.
pub(crate) fn signer(name: &str) -> (impl Signer + Send + Sync + 'static, Certificate) {
    let (key, certificate) = pair(name);
    (KeyFile::from_pem(&key, &certificate).unwrap(), certificate)
}

/// The same as PEM text of the key.
pub(crate) fn pair(name: &str) -> (Vec<u8>, Certificate) {
    let key = ec_key(Nid::X9_62_PRIME256V1);
    let certificate = Certificate::from_x509(&certificate(&key, name, 0x1f0)).unwrap();
    (key.private_key_to_pem_pkcs8().unwrap(), certificate)
}
