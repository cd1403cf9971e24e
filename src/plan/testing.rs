//! Configs and images for tests, made on the spot.

use std::io::Cursor;
use std::path::Path;

use openssl::nid::Nid;
use uuid::Uuid;

use super::{BaseIdentity, Environment, Plan, plan};
use crate::base::profile::by_name;
use crate::config::Config;
use crate::config::source::Source;
use crate::finding::Finding;
use crate::image::gpt::types::{Designator, PartitionType, Role};
use crate::image::gpt::{Partition, SECTOR, write};
use crate::image::signature::testing::signer;
use crate::image::signature::{KeyFile, PARTITION_SIZE, SignaturePartition, sign_root_hash};
use crate::image::testing::erofs;
use crate::image::verity::RootHash;
use crate::image::verity::leaves::LeafHashes;
use crate::image::x509::Certificate;
use crate::image::x509::testing::ec_key;
use crate::systemd::arch::Arch;
use crate::tree::{Source as Bytes, Tree};

/// A config in a folder.
pub(crate) fn config(dir: &Path, text: &str) -> Config {
    let source = Source::parse(&dir.join("c.yaml"), text.to_owned()).unwrap();
    Config::from_source(source).unwrap()
}

/// The plan for a config in a folder and a profile, if one is given.
pub(crate) fn planned_for(
    profile: Option<&str>,
    dir: &Path,
    text: &str,
) -> Result<Plan, Vec<Finding>> {
    let base = profile.map(|name| by_name(name).unwrap());
    let identity = base.as_ref().map(BaseIdentity::of);
    plan(
        &config(dir, text),
        identity.as_ref(),
        &Environment::default(),
    )
}

/// The plan for a config in a folder and Azure Linux 3.0.
pub(crate) fn planned(dir: &Path, text: &str) -> Result<Plan, Vec<Finding>> {
    planned_for(Some("azurelinux-3.0"), dir, text)
}

/// Ids and places.
pub(crate) fn said(findings: &[Finding]) -> Vec<String> {
    let said = findings.iter().map(|finding| {
        let place = finding.place.as_ref().map(ToString::to_string);
        format!("{} {}", finding.id, place.unwrap_or_default())
    });
    said.collect()
}

/// Files by path, with their texts.
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (path, text) in files {
        let bytes = Bytes::Bytes(text.as_bytes().to_vec());
        tree.insert_file(path.as_bytes(), bytes, text.len() as u64, 0o644)
            .unwrap();
    }
    tree
}

/// The path of the release file of a system extension.
pub(crate) fn release_path(name: &str) -> String {
    format!("usr/lib/extension-release.d/extension-release.{name}")
}

/// A system extension without a partition table: a release file that says `fields`, and a file.
pub(crate) fn bare(name: &str, fields: &str) -> Vec<u8> {
    erofs(&tree(&[
        (&release_path(name), fields),
        ("usr/bin/x", "hello"),
    ]))
}

/// A hash tree with its root hash.
pub(crate) fn hash_tree(data: &[u8]) -> (Vec<u8>, RootHash) {
    let leaves = LeafHashes::new([7; 32], tempfile::tempfile().unwrap());
    leaves.feed(0, data).unwrap();
    let area = leaves.hash_area([5; 16]).unwrap();
    let mut bytes = Vec::new();
    area.write(&mut bytes).unwrap();
    (bytes, area.root_hash())
}

/// A key and its certificate, which lies in a folder as `NAME.crt`.
pub(crate) fn key_pair(dir: &Path, name: &str) -> (KeyFile, Certificate) {
    let (key, certificate) = signer(&ec_key(Nid::X9_62_PRIME256V1), name);
    std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
    (key, certificate)
}

/// How a disk image is protected.
pub(crate) enum Protected<'a> {
    Not,
    ByHash,
    WithRoom,
    Signed(&'a KeyFile, &'a Certificate),
}

/// A disk image for x86-64 around a file system.
pub(crate) fn disk(designator: Designator, data: &[u8], protected: &Protected<'_>) -> Vec<u8> {
    let (tree, root) = hash_tree(data);
    let mut parts = vec![(Role::Data, data.to_vec())];
    if !matches!(protected, Protected::Not) {
        parts.push((Role::Verity, tree));
    }
    match protected {
        Protected::Not | Protected::ByHash => {}
        Protected::WithRoom => parts.push((Role::Signature, vec![0; PARTITION_SIZE as usize])),
        Protected::Signed(key, certificate) => {
            let partition = SignaturePartition {
                root_hash: root.as_bytes().to_vec(),
                certificate_fingerprint: Some(certificate.fingerprint_sha256_hex.clone()),
                signature: sign_root_hash(*key, &root.to_string()).unwrap(),
            };
            parts.push((Role::Signature, partition.to_bytes().unwrap()));
        }
    }
    let (first, last) = root.uuid_halves();
    let mut next = 2048;
    let mut bytes = vec![0; 2048 * SECTOR as usize];
    let mut partitions = Vec::new();
    for (role, content) in &parts {
        let kind = PartitionType::new(Arch::X86_64, designator, *role);
        let sectors = content.len() as u64 / SECTOR;
        partitions.push(Partition {
            type_guid: kind.guid().unwrap(),
            guid: Uuid::from_bytes(match role {
                Role::Data => first,
                Role::Verity => last,
                Role::Signature => [3; 16],
            }),
            first_lba: next,
            last_lba: next + sectors - 1,
            read_only: true,
            label: kind.to_string(),
        });
        bytes.extend(content);
        next += sectors;
    }
    let mut out = Cursor::new(bytes);
    write(&mut out, Uuid::from_u128(1), &partitions, next + 2048).unwrap();
    out.into_inner()
}
