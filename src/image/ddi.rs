//! What an extension image is: its partitions, file system, verity data and release files.
//!
//! The choice of partitions is that of systemd `src/shared/dissect-image.c`
//! (`dissect_image`). Nothing is judged against a base OS, and no hash or
//! signature is checked here; what no version of systemd would take is listed
//! as a problem. Sidecar files beside the image are not looked at.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::{Serialize, Serializer};

use super::filesystem::{Details, FileKind, FileSystem, FsError, FsKind, Window, Xattr};
use super::gpt::{self, Entry, GptError, Table};
use super::gpt_types::{Designator, LINUX_GENERIC, PartitionType, Role};
use super::hex;
use super::signature::{MAX_PARTITION_SIZE, SignaturePartition, SignerIdentity, signer_identity};
use super::verity::RootHash;
use super::verity::superblock::{Algorithm, SUPERBLOCK_SIZE, Superblock};
use crate::arch::Arch;
use crate::finding::Finding;
use crate::release::{ExtensionKind, MAX_SIZE, ReleaseFields};

/// Endings of unit files (systemd `src/basic/unit-def.c`).
const UNIT_SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

/// An image, described.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ddi {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes in the file.
    pub size: u64,
    /// With or without a partition table.
    pub layout: Layout,
    /// Root or `/usr`.
    #[serde(serialize_with = "designator_name")]
    pub designator: Designator,
    /// Architecture of the partition type; nothing for naked images and generic partitions.
    #[serde(serialize_with = "optional_text")]
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
    pub superblock: Option<Superblock>,
    /// The root hash that the UUIDs of data and hash partition spell out.
    #[serde(serialize_with = "optional_text")]
    pub root_hash: Option<RootHash>,
    /// What the signature partition holds.
    pub signature: SignatureState,
    /// What the file system holds, unless it could not be read.
    pub content: Option<Content>,
    /// What no systemd would take, and what could not be read.
    pub problems: Vec<Finding>,
    #[serde(skip)]
    file: Arc<File>,
}

/// With or without a partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A GPT.
    Gpt(Table),
    /// A file system from the first byte on.
    Naked,
}

/// A range of bytes of the image that has one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

impl Serialize for SignatureState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct View<'a> {
            state: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            root_hash: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            certificate_fingerprint: Option<&'a str>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            signers: &'a [SignerIdentity],
        }
        let state = |state| View {
            state,
            ..View::default()
        };
        match self {
            SignatureState::Absent => state("absent"),
            SignatureState::Empty => state("empty"),
            SignatureState::Unusable(reason) => View {
                reason: Some(reason),
                ..state("unusable")
            },
            SignatureState::Present { partition, signers } => View {
                root_hash: Some(hex::encode(&partition.root_hash)),
                certificate_fingerprint: partition.certificate_fingerprint.as_deref(),
                signers,
                ..state("present")
            },
        }
        .serialize(serializer)
    }
}

/// What the file system of an image holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// All release files, also those that fit no name.
    pub releases: Vec<ReleaseFile>,
    /// Whether `usr/lib/os-release` leads to something, which is forbidden in a sysext.
    pub has_os_release: bool,
    /// Whether `etc/os-release` leads to something, which makes it look like an OS.
    pub has_etc_os_release: bool,
    /// What is at the top.
    pub top_level: Vec<String>,
    /// What of that is never merged.
    pub outside: Vec<String>,
    /// Unit files in `usr/lib/systemd/system`.
    pub units: Vec<String>,
}

/// One `extension-release.SUFFIX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFile {
    /// By the folder it is in.
    pub kind: ExtensionKind,
    /// What follows `extension-release.` in its name.
    pub suffix: String,
    /// Whether it is a symbolic link; then only its exact name counts.
    pub is_symlink: bool,
    /// What it says, unless systemd would reject it as a whole.
    pub fields: Option<ReleaseFields>,
    /// Why there are no fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The attribute `user.extension-release.strict`.
    pub strict: Strict,
}

/// The attribute that decides whether an image may have another name than its release file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strict {
    /// Not set, which counts as strict.
    Unset,
    /// Set to a true value, or one that is no boolean, which counts as true.
    Yes,
    /// Set to a false value: the file counts for any image name.
    No,
    /// The reader of this file system knows no attributes.
    Unknown,
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
pub fn open(path: &Path) -> Result<Ddi, DdiError> {
    open_for(path, None)
}

/// Describes the image at `path` as a machine of architecture `native` would see it,
/// which matters for images with partitions for several architectures.
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

/// Describes an open image; `path` is what messages call it.
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

    /// Opens the file system for looking around.
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
        self.fs_kind = FsKind::identify(&self.window(data));
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

struct Parts {
    designator: Designator,
    arch: Option<Arch>,
    data: Option<Part>,
    hash: Option<Part>,
    signature: Option<Part>,
}

/// Chooses the partitions that systemd would use.
fn choose(table: &Table, native: Option<Arch>, problems: &mut Vec<Finding>) -> Parts {
    // Label `_empty` since 258; nobody calls a partition in use that.
    let usable = |entry: &&Entry| entry.attributes & gpt::NO_AUTO == 0 && entry.label != "_empty";
    let entries: Vec<&Entry> = table.entries.iter().filter(usable).collect();
    let best = |designator, role| {
        let candidates = entries.iter().filter_map(|entry| {
            let kind = entry.partition_type()?;
            let fits = kind.designator == designator && kind.role == role;
            fits.then_some((*entry, kind))
        });
        candidates.min_by_key(|(entry, kind)| (rank(kind.arch, native), entry.number))
    };
    let of = |wanted: PartitionType| {
        let found = entries
            .iter()
            .find(|entry| entry.partition_type() == Some(wanted));
        found.map(|entry| part(entry))
    };
    let mut problem = |id, message: &str| problems.push(Finding::error(id, message));

    let root = best(Designator::Root, Role::Data);
    let usr = best(Designator::Usr, Role::Data);
    let Some((entry, kind)) = root.or(usr) else {
        if [Designator::Root, Designator::Usr]
            .iter()
            .any(|it| best(*it, Role::Verity).is_some())
        {
            problem(
                "verity-without-data",
                "there is a verity partition but no data partition",
            );
        }
        let generic: Vec<_> = entries
            .iter()
            .filter(|entry| entry.type_guid == LINUX_GENERIC)
            .collect();
        match generic.as_slice() {
            [_] => {}
            [] => problem(
                "no-data-partition",
                "there is no root, usr or generic Linux partition",
            ),
            _ => problem(
                "several-generic-partitions",
                "there are several generic Linux partitions and no root",
            ),
        }
        let only = generic.first().filter(|_| generic.len() == 1);
        return Parts {
            designator: Designator::Root,
            arch: None,
            data: only.map(|entry| part(entry)),
            hash: None,
            signature: None,
        };
    };
    let same = entries
        .iter()
        .filter(|other| other.type_guid == entry.type_guid)
        .count();
    if same > 1 {
        problem(
            "several-data-partitions",
            "there are several data partitions of one type; systemd chooses by label, \
             the description is of the first",
        );
    }
    let hash = of(PartitionType {
        role: Role::Verity,
        ..kind
    });
    let signature = of(PartitionType {
        role: Role::Signature,
        ..kind
    });
    if signature.is_some() && hash.is_none() {
        problem(
            "signature-without-hash",
            "there is a signature partition but no verity partition",
        );
    }
    let other_verity = best(Designator::Usr, Role::Verity).is_some();
    if kind.designator == Designator::Root && hash.is_some() && (usr.is_some() || other_verity) {
        problem(
            "root-and-usr-verity",
            "there is a root verity partition together with usr partitions",
        );
    }
    if kind.designator == Designator::Usr && best(Designator::Root, Role::Verity).is_some() {
        problem(
            "verity-without-data",
            "there is a root verity partition but no root partition",
        );
    }
    if hash.is_none() && best(kind.designator, Role::Verity).is_some() {
        problem(
            "verity-without-data",
            "the verity partition is of another architecture than the data",
        );
    }
    Parts {
        designator: kind.designator,
        arch: Some(kind.arch),
        data: Some(part(entry)),
        hash,
        signature,
    }
}

/// Native before the 32-bit relative of the native before anything else; without a native
/// architecture all are alike.
fn rank(arch: Arch, native: Option<Arch>) -> u8 {
    const SECONDARY: &[(&str, &str)] = &[
        ("x86-64", "x86"),
        ("arm64", "arm"),
        ("mips64", "mips"),
        ("mips64-le", "mips-le"),
        ("ppc64", "ppc"),
        ("s390x", "s390"),
    ];
    match native {
        Some(native) if native == arch => 0,
        Some(native) if SECONDARY.contains(&(native.name(), arch.name())) => 1,
        _ => 2,
    }
}

fn part(entry: &Entry) -> Part {
    Part {
        number: Some(entry.number),
        offset: entry.offset,
        size: entry.size,
        uuid: Some(*entry.guid.as_bytes()),
    }
}

/// Looks at everything in the file system that decides how systemd treats it.
fn content(fs: &FileSystem, designator: Designator) -> Result<Content, FsError> {
    // A usr file system is mounted at /usr, so its paths lack that part.
    let inside = |path: &str| match designator {
        Designator::Root => Some(PathBuf::from(path)),
        Designator::Usr => path.strip_prefix("usr/").map(PathBuf::from),
    };
    let exists = |path: &str| -> Result<bool, FsError> {
        Ok(match inside(path) {
            Some(path) => fs.metadata(path)?.is_some(),
            None => false,
        })
    };
    let mut releases = Vec::new();
    for kind in [ExtensionKind::Sysext, ExtensionKind::Confext] {
        if let Some(dir) = inside(kind.release_dir()) {
            releases.extend(release_files(fs, kind, &dir)?);
        }
    }
    let top_level = names(fs.list("/")?.iter().map(|(name, _)| name.as_os_str()));
    let has_confext = releases
        .iter()
        .any(|release| release.kind == ExtensionKind::Confext);
    let merged = |name: &str| match name {
        "usr" | "opt" => true,
        "etc" => has_confext,
        // mkfs.ext4 makes it.
        "lost+found" => true,
        _ => false,
    };
    let outside = match designator {
        Designator::Root => top_level
            .iter()
            .filter(|name| !merged(name))
            .cloned()
            .collect(),
        Designator::Usr => Vec::new(),
    };
    let mut units = Vec::new();
    if let Some(dir) = inside("usr/lib/systemd/system") {
        let found = list_if_there(fs, &dir)?;
        let files = found
            .iter()
            .filter(|(_, it)| it.kind != FileKind::Directory);
        units = names(files.map(|(name, _)| name.as_os_str()));
        units.retain(|name| {
            name.rsplit_once('.')
                .is_some_and(|(_, suffix)| UNIT_SUFFIXES.contains(&suffix))
        });
    }
    Ok(Content {
        releases,
        has_os_release: exists("usr/lib/os-release")?,
        has_etc_os_release: exists("etc/os-release")?,
        top_level,
        outside,
        units,
    })
}

fn names<'a>(found: impl Iterator<Item = &'a OsStr>) -> Vec<String> {
    found
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

type Listing = Vec<(std::ffi::OsString, super::filesystem::Metadata)>;

fn list_if_there(fs: &FileSystem, dir: &Path) -> Result<Listing, FsError> {
    match fs.metadata(dir)? {
        Some(found) if found.kind == FileKind::Directory => fs.list(dir),
        _ => Ok(Vec::new()),
    }
}

fn release_files(
    fs: &FileSystem,
    kind: ExtensionKind,
    dir: &Path,
) -> Result<Vec<ReleaseFile>, FsError> {
    let mut files = Vec::new();
    for (name, metadata) in list_if_there(fs, dir)? {
        // A name that is not UTF-8 is no valid image name.
        let Some(suffix) = name
            .to_str()
            .and_then(|name| name.strip_prefix("extension-release."))
        else {
            continue;
        };
        if !matches!(metadata.kind, FileKind::File | FileKind::Symlink) {
            continue;
        }
        let path = dir.join(&name);
        let is_symlink = metadata.kind == FileKind::Symlink;
        let parsed = match fs.read(&path, MAX_SIZE) {
            Ok(bytes) => ReleaseFields::parse(&bytes).map_err(|error| error.to_string()),
            // A link may lead nowhere; a damaged file system is another matter.
            Err(
                error @ (FsError::NotFound(_)
                | FsError::WrongKind { .. }
                | FsError::Loop(_)
                | FsError::TooBig { .. }),
            ) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        let strict = match is_symlink {
            true => Strict::Unset,
            false => strict(fs.xattr(&path, "user.extension-release.strict")?),
        };
        let problem = parsed.as_ref().err().cloned();
        files.push(ReleaseFile {
            kind,
            suffix: suffix.to_owned(),
            is_symlink,
            fields: parsed.ok(),
            problem,
            strict,
        });
    }
    Ok(files)
}

/// systemd `src/basic/parse-util.c`, `parse_boolean`.
fn strict(value: Xattr) -> Strict {
    match value {
        Xattr::Unknown => Strict::Unknown,
        Xattr::Absent => Strict::Unset,
        Xattr::Value(bytes) => {
            let word = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            match word.as_str() {
                "0" | "no" | "n" | "false" | "f" | "off" => Strict::No,
                _ => Strict::Yes,
            }
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

fn superblock_fields<S: Serializer>(
    value: &Option<Superblock>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct View {
        algorithm: &'static str,
        data_block_size: u32,
        hash_block_size: u32,
        data_blocks: u64,
        salt: String,
        uuid: String,
    }
    let view = value.as_ref().map(|superblock| View {
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
    use uuid::Uuid;

    fn entry(number: u32, kind: PartitionType) -> Entry {
        Entry {
            number,
            type_guid: kind.guid().unwrap(),
            guid: Uuid::from_u128(u128::from(number)),
            offset: u64::from(number) * 4096,
            size: 4096,
            attributes: 0,
            label: String::new(),
        }
    }

    fn chosen(entries: Vec<Entry>, native: Option<Arch>) -> (Parts, Vec<&'static str>) {
        let table = Table {
            sector_size: 512,
            disk_guid: Uuid::nil(),
            entries,
            from_backup: false,
        };
        let mut problems = Vec::new();
        let parts = choose(&table, native, &mut problems);
        (parts, problems.iter().map(|problem| problem.id).collect())
    }

    fn kind(arch: Arch, designator: Designator, role: Role) -> PartitionType {
        PartitionType::new(arch, designator, role)
    }

    #[test]
    fn root_wins_over_usr_and_native_over_foreign() {
        use Designator::{Root, Usr};
        let (parts, problems) = chosen(
            vec![
                entry(1, kind(Arch::X86_64, Usr, Role::Data)),
                entry(2, kind(Arch::ARM64, Root, Role::Data)),
                entry(3, kind(Arch::X86_64, Root, Role::Data)),
                entry(4, kind(Arch::ARM64, Root, Role::Verity)),
            ],
            Some(Arch::ARM64),
        );
        assert_eq!(parts.designator, Root);
        assert_eq!(parts.data.unwrap().number, Some(2));
        assert_eq!(parts.hash.unwrap().number, Some(4));
        assert_eq!(problems, ["root-and-usr-verity"]);
    }

    #[test]
    fn the_parts_of_a_usr_image_are_found() {
        use Designator::Usr;
        let (parts, problems) = chosen(
            vec![
                entry(1, kind(Arch::X86_64, Usr, Role::Data)),
                entry(2, kind(Arch::X86_64, Usr, Role::Verity)),
                entry(3, kind(Arch::X86_64, Usr, Role::Signature)),
            ],
            None,
        );
        assert_eq!(parts.designator, Usr);
        assert!(parts.hash.is_some() && parts.signature.is_some() && problems.is_empty());
    }

    #[test]
    fn partitions_that_do_not_go_together_are_problems() {
        use Designator::Root;
        let of = |role| kind(Arch::X86_64, Root, role);
        assert_eq!(chosen(vec![], None).1, ["no-data-partition"]);
        let (_, problems) = chosen(vec![entry(1, of(Role::Verity))], None);
        assert_eq!(problems, ["verity-without-data", "no-data-partition"]);
        let data = entry(1, of(Role::Data));
        let (_, problems) = chosen(vec![data.clone(), entry(2, of(Role::Signature))], None);
        assert_eq!(problems, ["signature-without-hash"]);
        let (_, problems) = chosen(vec![data.clone(), entry(2, of(Role::Data))], None);
        assert_eq!(problems, ["several-data-partitions"]);
        let skipped = Entry {
            attributes: gpt::NO_AUTO,
            ..data
        };
        assert_eq!(chosen(vec![skipped], None).1, ["no-data-partition"]);
    }

    #[test]
    fn the_strict_attribute_is_a_boolean_of_systemd() {
        let of = |text: &str| strict(Xattr::Value(text.as_bytes().to_vec()));
        assert_eq!(of("FALSE"), Strict::No);
        assert_eq!(of("0"), Strict::No);
        assert_eq!(of("1"), Strict::Yes);
        assert_eq!(of(""), Strict::Yes);
        assert_eq!(strict(Xattr::Absent), Strict::Unset);
    }

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
