//! `repair: auto`: what keeps a prebuilt image from being merged, where a rebuild mends it.
//!
//! Nothing is changed in place: [`examine`] says what would be changed, the
//! plan then holds a build whose content is that of the image ([`tree_of`]),
//! and the manifest records the changes and the original's digest.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::kernel::{KernelFeatures, Support};
use crate::check::Sidecars;
use crate::config::model::{RepairChange, RepairKind, VerityMode};
use crate::finding::Finding;
use crate::image::dissect::{Ddi, Layout, ReleaseFile, SignatureState};
use crate::image::gpt::types::Designator;
use crate::image::read::{FileKind, FileSystem, FsError, FsKind, Metadata};
use crate::image::verity::RootHash;
use crate::inspect::verify::{Outcome, verify_ddi};
use crate::io::bomb;
use crate::io::progress::Progress;
use crate::plan::content::RepairedImage;
use crate::systemd::arch::Arch;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::collect::{changes_an_overlay, is_kept};
use crate::tree::{Inode, InodeId, Kind, Packed, Source, Tree, TreeError};

/// Most entries of an image.
const MAX_ENTRIES: usize = 1_000_000;
/// A forbidden file (`extension_has_forbidden_content`, systemd src/shared/extension-util.c).
const OS_RELEASE: &str = "usr/lib/os-release";

/// What the repaired image is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal<'a> {
    /// Its name, if the config gives one.
    pub name: Option<&'a str>,
    /// Which hierarchies it adds to.
    pub kind: ExtensionKind,
    /// What all kernels of the base can do, if they are known.
    pub kernel: Option<KernelFeatures>,
    /// How it is to be protected; none is at least as it was.
    pub verity: Option<VerityMode>,
    /// What is left as it is.
    pub except: &'a [RepairKind],
    /// What lies beside the image.
    pub beside: &'a Sidecars,
}

/// A repair that has not been made yet.
#[derive(Debug, Clone)]
pub(crate) struct Repair {
    /// Name of the new image.
    pub name: String,
    /// Its release file.
    pub release: ReleaseFields,
    /// How it is protected.
    pub verity: VerityMode,
    /// Whether the image has a signature, which goes.
    pub was_signed: bool,
    /// What is changed; at least one is a reason for it.
    pub changes: Vec<RepairChange>,
}

/// Finds what a rebuild would mend; nothing if nothing needs it. The image is read for names and
/// attributes, not for content.
pub(crate) fn examine(
    ddi: &Ddi,
    release: &ReleaseFile,
    goal: Goal<'_>,
) -> Result<Option<Repair>, Finding> {
    let Some(mut fields) = release.fields.clone() else {
        return Ok(None);
    };
    let mut changes = Vec::new();
    let mut left = Vec::new();
    let wanted = |what| !goal.except.contains(&what);
    let mut change = |what, detail: String| match wanted(what) {
        true => changes.push(RepairChange { what, detail }),
        false => left.push(what),
    };
    // `name` may be that without the version.
    let other = |name: &&str| {
        let rest = release.suffix.strip_prefix(*name);
        !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    let name = goal
        .name
        .filter(|name| other(name) && wanted(RepairKind::ReleaseFile))
        .unwrap_or(&release.suffix)
        .to_owned();
    if name != release.suffix {
        let detail = format!(
            "extension-release.{} became extension-release.{name}",
            release.suffix
        );
        change(RepairKind::ReleaseFile, detail);
    }
    let beside = &goal.beside.signature;
    let was_signed = beside.is_some() || matches!(ddi.signature, SignatureState::Present { .. });
    let id = format!("{}_ID", goal.kind.key_prefix());
    // systemd does without; that alone is no reason to break a signature.
    if fields.filled(&id).is_none() && !was_signed {
        change(RepairKind::Id, format!("{id}={name} was added"));
    }
    if let Some(spelled) = fields.filled("ARCHITECTURE").map(str::to_owned)
        && let Some(arch) = Arch::parse(&spelled)
        && arch.name() != spelled
    {
        let detail = format!("ARCHITECTURE={spelled} became {}", arch.name());
        change(RepairKind::Architecture, detail);
        if wanted(RepairKind::Architecture) {
            fields.set("ARCHITECTURE", arch.name());
        }
    }
    let was = protection(ddi);
    let verity = goal.verity.filter(|_| wanted(RepairKind::Protection));
    let verity = verity.unwrap_or(was);
    if rank(verity) > rank(was) {
        let mut detail = format!("verity: {} became {}", was.word(), verity.word());
        if goal.beside.root_hash.is_some() {
            detail.push_str(", and what lies beside the image is of no use any more");
        }
        change(RepairKind::Protection, detail);
    }
    if ddi.designator == Designator::Usr {
        change(
            RepairKind::UsrPartition,
            "the partition for /usr became one for the root".to_owned(),
        );
    }
    if let Some(what) = not_mounted(ddi, goal.kernel) {
        change(
            RepairKind::FileSystem,
            format!("{what}, which the base can't mount, was replaced"),
        );
    }
    let found = look(ddi, goal.kind).map_err(|error| refused(error.to_string()))?;
    let content = ddi.content.as_ref();
    if content.is_some_and(|content| content.has_os_release) {
        change(RepairKind::OsRelease, format!("/{OS_RELEASE} was removed"));
    }
    if !found.whiteouts.is_empty() {
        change(
            RepairKind::Whiteouts,
            format!("removed: {}", list(&found.whiteouts)),
        );
    }
    if changes.is_empty() {
        return Ok(None);
    }
    // A new image has a partition for the root and a file system of ours, whatever is wanted.
    if let Some(what) = left
        .iter()
        .find(|what| matches!(what, RepairKind::UsrPartition | RepairKind::FileSystem))
    {
        let details: Vec<&str> = changes
            .iter()
            .map(|change| change.detail.as_str())
            .collect();
        let message = format!(
            "{} can't be left as it is when the image is rebuilt, and it would be for: {}",
            what.word(),
            details.join("; ")
        );
        return Err(refused(message));
    }
    if !found.outside.is_empty() {
        let detail = format!("left out: {}", list(&found.outside));
        changes.push(RepairChange {
            what: RepairKind::Outside,
            detail,
        });
    }
    if fields.filled(&id).is_none() && wanted(RepairKind::Id) {
        fields.set(&id, name.as_str());
    }
    Ok(Some(Repair {
        name,
        release: fields,
        verity,
        was_signed,
        changes,
    }))
}

/// The root hash of an image that becomes a signed one when the hash tree and the signature beside it
/// are put into it; nothing where they are not complete, do not fit, or are in it already.
pub(crate) fn joinable(ddi: &Ddi, beside: &Sidecars) -> Option<RootHash> {
    let Some((Designator::Root, hash)) = &beside.root_hash else {
        return None;
    };
    let signed = beside.unusable.is_none() && beside.signature.is_some();
    let own = match (&ddi.layout, &beside.hash_tree) {
        (Layout::Naked, Some(Ok(root))) => Some(*root),
        (Layout::Gpt(_), None) if ddi.designator == Designator::Root && ddi.hash.is_some() => {
            ddi.root_hash
        }
        _ => None,
    };
    let apart = !matches!(ddi.signature, SignatureState::Present { .. });
    own.filter(|own| signed && apart && own.as_bytes() == hash.as_slice())
}

/// What [`joinable`] changes.
pub(crate) fn joined() -> RepairChange {
    let detail = "the signature beside it, with the hash tree, was put into it";
    RepairChange {
        what: RepairKind::Protection,
        detail: detail.to_owned(),
    }
}

fn protection(ddi: &Ddi) -> VerityMode {
    match (&ddi.signature, &ddi.root_hash) {
        (SignatureState::Present { .. }, _) => VerityMode::Signed,
        (SignatureState::Empty, _) => VerityMode::Defer,
        (_, Some(_)) => VerityMode::Hash,
        (_, None) => VerityMode::None,
    }
}

fn rank(verity: VerityMode) -> u8 {
    match verity {
        VerityMode::None => 0,
        VerityMode::Hash => 1,
        VerityMode::Defer => 2,
        VerityMode::Signed => 3,
    }
}

/// What of an image's file system the base surely can't mount.
fn not_mounted(ddi: &Ddi, kernel: Option<KernelFeatures>) -> Option<String> {
    let (kind, kernel) = (ddi.fs_kind?, kernel?);
    let whole = match kind {
        FsKind::Erofs => kernel.erofs,
        FsKind::Squashfs => kernel.squashfs,
        FsKind::Ext4 => kernel.ext4,
        // systemd takes neither since 253 (`dissect_fstype_ok`, src/shared/dissect-image.c).
        FsKind::Ext2 | FsKind::Ext3 => Support::No,
        _ => Support::Unknown,
    };
    if whole == Support::No {
        return Some(kind.name().to_owned());
    }
    let algorithms = ddi.fs.iter().flat_map(|details| &details.compression);
    let missing =
        algorithms.filter(|algorithm| kernel.decompresses(kind, algorithm) == Support::No);
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    (!missing.is_empty()).then(|| format!("{} with {}", kind.name(), missing.join(", ")))
}

/// What the names in an image tell.
#[derive(Debug, Default)]
struct Seen {
    /// Top-level names that are never merged.
    outside: Vec<String>,
    /// What deletes or replaces files of the base.
    whiteouts: Vec<String>,
}

fn look(ddi: &Ddi, kind: ExtensionKind) -> Result<Seen, FsError> {
    let fs = ddi.file_system()?;
    let mut seen = Seen::default();
    for (path, found) in fs.walk(MAX_ENTRIES)? {
        let place = placed(ddi, &path);
        if !inside(&place, kind) {
            let top = place.components().count() == 1;
            // Every ext4 has one.
            if top && place != Path::new("lost+found") {
                seen.outside.push(place.display().to_string());
            }
            continue;
        }
        let opaque = found.kind == FileKind::Directory
            && fs
                .xattrs(&path)?
                .is_some_and(|all| all.keys().any(|name| changes_an_overlay(name)));
        if opaque || is_whiteout(&found) {
            seen.whiteouts.push(format!("/{}", place.display()));
        }
    }
    Ok(seen)
}

/// Where something of the image is merged, without a slash in front.
fn placed(ddi: &Ddi, path: &Path) -> PathBuf {
    let inner = path.strip_prefix("/").unwrap_or(path);
    match ddi.designator {
        Designator::Usr => Path::new("usr").join(inner),
        Designator::Root => inner.to_owned(),
    }
}

fn inside(place: &Path, kind: ExtensionKind) -> bool {
    let top = place.iter().next();
    kind.hierarchies()
        .iter()
        .any(|known| top == Some(known.as_ref()))
}

/// A character device 0:0 (Linux Documentation/filesystems/overlayfs.rst).
fn is_whiteout(found: &Metadata) -> bool {
    found.kind == FileKind::CharDevice && found.device == Some((0, 0))
}

fn list(names: &[String]) -> String {
    let mut shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = format!("and {} more", names.len().saturating_sub(shown.len()));
    if names.len() > shown.len() {
        shown.push(&more);
    }
    shown.join(", ")
}

fn refused(why: impl Into<String>) -> Finding {
    Finding::error("repair-refused", why)
        .help("take the image as it is with `repair: never`, or build it anew from its sources")
}

/// The content of an image, without what the repair removes. Data under a hash tree is checked
/// against it first: what was tampered with must not get a new one.
pub(crate) fn tree_of(
    image: &RepairedImage,
    kind: ExtensionKind,
) -> Result<(Tree, Vec<Finding>), Finding> {
    let ddi = &image.ddi;
    let name = ddi.path.display();
    let refused_io = |error: io::Error| refused(format!("reading {name}: {error}"));
    if ddi.hash.is_some() {
        let report = verify_ddi(ddi, &[], &Progress::new());
        let tree = report.check("hash-tree").map(|check| check.outcome);
        let uuids = [
            "data-partition-uuid",
            "hash-partition-uuid",
            "signed-root-hash",
        ];
        let mut uuids = uuids.iter().filter_map(|id| report.check(id));
        if tree != Some(Outcome::Ok) || uuids.any(|check| check.outcome == Outcome::Bad) {
            return Err(refused(format!(
                "the content of {name} is not what its hash tree says"
            )));
        }
    }
    let beside = &image.beside;
    let fits = match (&beside.root_hash, &beside.hash_tree) {
        (Some((_, hash)), Some(Ok(root))) => root.as_bytes() == hash.as_slice(),
        (_, Some(Err(_))) => false,
        _ => true,
    };
    if !fits {
        return Err(refused(format!(
            "the content of {name} is not what the hash tree beside it says"
        )));
    }
    let keeps = |what| image.keep.contains(&what);
    let in_fs = |error: FsError| refused(format!("reading {name}: {error}"));
    let in_tree = |error: TreeError| refused(format!("reading {name}: {error}"));
    let fs = ddi.file_system().map_err(in_fs)?;
    let mut unpacked = Unpacked {
        file: Arc::new(tempfile::tempfile().map_err(refused_io)?),
        end: 0,
        left: bomb::allowance(ddi.size),
        image: &ddi.path,
    };
    let mut tree = Tree::new();
    let mut links: HashMap<u64, InodeId> = HashMap::new();
    let mut dropped: Vec<String> = Vec::new();
    for (path, found) in fs.walk(MAX_ENTRIES).map_err(in_fs)? {
        let place = placed(ddi, &path);
        let removed = place == Path::new(&image.release_file)
            || (place == Path::new(OS_RELEASE) && !keeps(RepairKind::OsRelease))
            || (is_whiteout(&found) && !keeps(RepairKind::Whiteouts));
        if !inside(&place, kind) || removed {
            continue;
        }
        let place = place.as_os_str().as_bytes();
        let number = fs.hard_link(&path).map_err(in_fs)?;
        if let Some(first) = number.and_then(|number| links.get(&number)) {
            tree.insert_link(place, *first).map_err(in_tree)?;
            continue;
        }
        let mut inode = Inode::new(found.mode & 0o7777, unpacked.kind(&fs, &path, &found)?);
        (inode.uid, inode.gid) = (found.uid, found.gid);
        let Some(xattrs) = fs.xattrs(&path).map_err(in_fs)? else {
            let message = format!(
                "the extended attributes of {name} can't be told, so a new image could lack some"
            );
            return Err(refused(message));
        };
        for (attribute, value) in xattrs {
            let marks = changes_an_overlay(&attribute);
            if is_kept(&attribute) || (marks && keeps(RepairKind::Whiteouts)) {
                inode.xattrs.insert(attribute, value);
            } else if !marks {
                dropped.push(String::from_utf8_lossy(&attribute).into_owned());
            }
        }
        let id = tree.insert(place, inode).map_err(in_tree)?;
        links.extend(number.map(|number| (number, id)));
    }
    dropped.sort();
    dropped.dedup();
    let notes = dropped.iter().map(|attribute| {
        let message = format!("the extended attribute {attribute} is left out");
        Finding::note("xattr-dropped", message)
    });
    Ok((tree, notes.collect()))
}

/// Where the files of an image wait for the new one.
struct Unpacked<'a> {
    /// Has no name.
    file: Arc<File>,
    end: u64,
    /// Bytes that may still come.
    left: u64,
    image: &'a Path,
}

impl Unpacked<'_> {
    fn kind(&mut self, fs: &FileSystem, path: &Path, found: &Metadata) -> Result<Kind, Finding> {
        let failed = |error: String| {
            refused(format!(
                "reading {} of {}: {error}",
                path.display(),
                self.image.display()
            ))
        };
        Ok(match found.kind {
            FileKind::Directory => Kind::Directory(Default::default()),
            FileKind::Symlink => {
                let target = fs
                    .read_link(path)
                    .map_err(|error| failed(error.to_string()))?;
                Kind::Symlink(target.as_os_str().as_bytes().to_vec())
            }
            FileKind::Fifo => Kind::Fifo,
            FileKind::Socket => Kind::Socket,
            FileKind::CharDevice if is_whiteout(found) => Kind::CharDevice(0, 0),
            FileKind::CharDevice | FileKind::BlockDevice => {
                return Err(failed("it is a device node".to_owned()));
            }
            FileKind::File => {
                self.left = self.left.checked_sub(found.size).ok_or_else(|| {
                    failed("its files are larger than such an image can hold".to_owned())
                })?;
                let offset = self.end;
                let mut to = Appended {
                    file: &self.file,
                    at: offset,
                };
                let copied = fs
                    .copy(path, &mut to)
                    .map_err(|error| failed(error.to_string()))?;
                if copied != found.size || to.at != offset.saturating_add(copied) {
                    return Err(failed(format!("expected {} bytes", found.size)));
                }
                self.end = to.at;
                Kind::File {
                    size: found.size,
                    source: Source::Packed(Packed {
                        file: self.file.clone(),
                        offset,
                        path: self.image.to_owned(),
                    }),
                }
            }
        })
    }
}

/// Writes behind what is there.
struct Appended<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Appended<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_all_at(self.file, bytes, self.at)?;
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
