//! What two images differ in: what they say of themselves, then their content path by path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::listing::{Entry, digest, list};
use super::{SCHEMA_VERSION, lossy};
use crate::image::dissect::{Ddi, Layout, SignatureState};
use crate::image::read::{FileKind, FileSystem, FsError};
use crate::io::hex;

/// What two images differ in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Version of this format.
    pub schema_version: u32,
    /// Whether nothing differs.
    pub equal: bool,
    /// What differs of layout, identifiers, file system, hash tree, signature and release files.
    pub fields: Vec<Field>,
    /// Paths, sorted, that differ or that only one of them has.
    pub paths: Vec<Changed>,
}

/// Something that an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// What it is, such as `root hash` or `release x VERSION_ID`.
    pub name: String,
    /// In the first image, if there.
    pub one: Option<String>,
    /// In the second image, if there.
    pub other: Option<String>,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Path in the images.
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// In which of them.
    pub change: Change,
    /// What differs where both have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<What>,
}

/// Which image has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second.
    Added,
    /// Only the first.
    Removed,
    /// Both.
    Changed,
}

/// One thing about a path that differs, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct What {
    /// `type`, `mode`, `owner`, `size`, `content`, `target`, `device`, `time`, `names` (hard links)
    /// or `attribute NAME`.
    pub name: String,
    /// In the first image; of contents the SHA-256.
    pub one: Option<String>,
    /// In the second image.
    pub other: Option<String>,
}

/// Compares two images whose file systems can be read. No hash and no signature is checked.
///
/// # Errors
/// [`FsError`] of the first thing in either image that can't be read.
pub fn diff(one: &Ddi, other: &Ddi) -> Result<Difference, FsError> {
    let (a, b) = (said(one), said(other));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let fields = names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name));
    let fields: Vec<Field> = fields
        .map(|name| Field {
            name: name.clone(),
            one: a.get(name).cloned(),
            other: b.get(name).cloned(),
        })
        .collect();
    let paths = paths(&Side::new(one)?, &Side::new(other)?)?;
    Ok(Difference {
        schema_version: SCHEMA_VERSION,
        equal: fields.is_empty() && paths.is_empty(),
        fields,
        paths,
    })
}

/// What an image says of itself, by name.
fn said(ddi: &Ddi) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            said.insert(name.to_owned(), value);
        }
    };
    say("size", Some(ddi.size.to_string()));
    match &ddi.layout {
        Layout::Naked => say("layout", Some("naked".to_owned())),
        Layout::Gpt(gpt) => {
            say("layout", Some("gpt".to_owned()));
            say("disk id", Some(gpt.disk_guid.to_string()));
            for entry in &gpt.entries {
                let name = |what| format!("partition {} {what}", entry.number);
                let kind = entry.partition_type();
                let kind = kind.map_or(entry.type_guid.to_string(), |it| it.display_name());
                say(&name("type"), Some(kind));
                say(&name("id"), Some(entry.guid.to_string()));
                say(&name("offset"), Some(entry.offset.to_string()));
                say(&name("size"), Some(entry.size.to_string()));
                say(&name("label"), Some(entry.label.clone()));
                say(&name("flags"), Some(format!("{:#x}", entry.attributes)));
            }
        }
    }
    say(
        "file system",
        ddi.fs_kind.map(|kind| kind.name().to_owned()),
    );
    if let Some(fs) = &ddi.fs {
        say("file system id", fs.uuid.clone());
        say("block size", fs.block_size.map(|size| size.to_string()));
        say("compression", Some(fs.compression.join(" ")));
        say("features", Some(fs.features.join(" ")));
    }
    if let Some(superblock) = &ddi.superblock {
        let id = uuid::Uuid::from_bytes(superblock.uuid);
        say("verity id", Some(id.to_string()));
        say("verity salt", Some(hex::encode(&superblock.salt)));
        let (data, hash) = (superblock.data_block_size, superblock.hash_block_size);
        let blocks = superblock.data_blocks;
        let name = superblock.algorithm.name();
        say(
            "verity",
            Some(format!("{name}, {blocks} blocks, {data}, {hash}")),
        );
    }
    say("root hash", ddi.root_hash.as_ref().map(ToString::to_string));
    let signature = match &ddi.signature {
        SignatureState::Absent => None,
        SignatureState::Empty => Some("empty".to_owned()),
        SignatureState::Unusable(why) => Some(format!("unusable: {why}")),
        SignatureState::Present { partition, signers } => {
            let certificates = signers.iter().filter_map(|it| it.certificate.as_ref());
            let subjects: Vec<&str> = certificates.map(|it| it.subject.as_str()).collect();
            say("signed by", Some(subjects.join("; ")));
            say("certificate", partition.certificate_fingerprint.clone());
            Some(hex::encode(&partition.signature))
        }
    };
    say("signature", signature);
    for release in ddi.content.iter().flat_map(|content| &content.releases) {
        let name = format!("release {}", release.suffix);
        say(&name, Some(release.kind.name().to_owned()));
        for (key, value) in release.fields.iter().flat_map(|fields| fields.iter()) {
            say(&format!("{name} {key}"), Some(value.to_owned()));
        }
    }
    said
}

/// One image with all its entries.
struct Side {
    fs: FileSystem,
    entries: BTreeMap<PathBuf, Entry>,
    /// First name of each file with several.
    first: HashMap<u64, PathBuf>,
}

impl Side {
    fn new(image: &Ddi) -> Result<Side, FsError> {
        let fs = image.file_system()?;
        let listed = list(&fs)?;
        let mut first: HashMap<u64, PathBuf> = HashMap::new();
        for entry in &listed {
            if let Some(inode) = entry.hard_link {
                let name = first.entry(inode).or_insert_with(|| entry.path.clone());
                if entry.path < *name {
                    name.clone_from(&entry.path);
                }
            }
        }
        let entries = listed.into_iter().map(|entry| (entry.path.clone(), entry));
        Ok(Side {
            fs,
            entries: entries.collect(),
            first,
        })
    }

    /// The first name of a file that has several.
    fn first(&self, entry: &Entry) -> Option<String> {
        let first = entry.hard_link.and_then(|inode| self.first.get(&inode));
        first.map(|path| path.display().to_string())
    }

    fn attributes(&self, path: &Path) -> Result<BTreeMap<String, String>, FsError> {
        let shown = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(|c| !c.is_control()) => text.to_owned(),
            _ => format!("0x{}", hex::encode(bytes)),
        };
        let Some(found) = self.fs.xattrs(path)? else {
            return Ok(BTreeMap::from([("?".to_owned(), "unknown".to_owned())]));
        };
        let found = found
            .iter()
            .map(|(name, value)| (shown(name), shown(value)));
        Ok(found.collect())
    }
}

fn paths(one: &Side, other: &Side) -> Result<Vec<Changed>, FsError> {
    let all: BTreeSet<&PathBuf> = one.entries.keys().chain(other.entries.keys()).collect();
    let mut changed = Vec::new();
    for path in all {
        let (change, what) = match (one.entries.get(path), other.entries.get(path)) {
            (Some(a), Some(b)) => (Change::Changed, compare((one, a), (other, b))?),
            (Some(_), None) => (Change::Removed, Vec::new()),
            _ => (Change::Added, Vec::new()),
        };
        if change != Change::Changed || !what.is_empty() {
            changed.push(Changed {
                path: path.clone(),
                change,
                what,
            });
        }
    }
    Ok(changed)
}

fn compare(one: (&Side, &Entry), other: (&Side, &Entry)) -> Result<Vec<What>, FsError> {
    let ((side, a), (other_side, b)) = (one, other);
    let mut what = Vec::new();
    let mut note = |name: &str, one: Option<String>, other: Option<String>| {
        if one != other {
            let name = name.to_owned();
            what.push(What { name, one, other });
        }
    };
    let text = |kind: FileKind| Some(format!("{kind:?}").to_lowercase());
    note("type", text(a.kind), text(b.kind));
    let mode = |entry: &Entry| Some(format!("{:04o}", entry.mode));
    note("mode", mode(a), mode(b));
    let owner = |entry: &Entry| Some(format!("{}:{}", entry.uid, entry.gid));
    note("owner", owner(a), owner(b));
    let time = |entry: &Entry| Some(format!("{}.{:09}", entry.mtime, entry.mtime_nanos));
    note("time", time(a), time(b));
    let device = |entry: &Entry| {
        entry
            .device
            .map(|(major, minor)| format!("{major},{minor}"))
    };
    note("device", device(a), device(b));
    let target = |entry: &Entry| Some(entry.target.as_ref()?.display().to_string());
    note("target", target(a), target(b));
    note("names", side.first(a), other_side.first(b));
    if a.kind == FileKind::File && b.kind == FileKind::File {
        note("size", Some(a.size.to_string()), Some(b.size.to_string()));
        // Of another size they differ for sure, and need not be read.
        if a.size == b.size {
            let one = digest(&side.fs, &a.path)?;
            let other = digest(&other_side.fs, &b.path)?;
            note(
                "content",
                Some(hex::encode(&one)),
                Some(hex::encode(&other)),
            );
        }
    }
    let (one, other) = (side.attributes(&a.path)?, other_side.attributes(&b.path)?);
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for name in names {
        let name_here = format!("attribute {name}");
        note(&name_here, one.get(name).cloned(), other.get(name).cloned());
    }
    Ok(what)
}
