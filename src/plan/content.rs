//! What goes into an extension that is built, as far as it is known before anything is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::limits::Limits;
use crate::check::sidecars::Sidecars;
use crate::config::model::{LinkEntry, Reload, RepairKind};
use crate::image::dissect::Ddi;
use crate::systemd::arch::Arch;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::pick::Pick;

/// What the config asks to put in.
#[derive(Debug, Clone)]
pub struct ContentPlan {
    /// Path in the config, for findings.
    pub at: String,
    /// Name of the image and of the release file.
    pub name: String,
    /// Which hierarchies it may add to.
    pub kind: ExtensionKind,
    /// What the content is taken from.
    pub source: ContentSource,
    /// Single files that are added.
    pub files: Vec<FilePlan>,
    /// Whether owners of the tree are kept.
    pub keep_owners: bool,
    /// Fields of the release file, in the order in which they are written.
    pub release: ReleaseFields,
    /// Whether systemd reloads its units.
    pub reload: Reload,
    /// Programs that get a link in `/usr/bin`.
    pub path_links: Vec<String>,
    /// Symbolic links that are added.
    pub links: Vec<LinkEntry>,
    /// What it must hold, must not hold, and may weigh.
    pub limits: Limits,
}

impl ContentPlan {
    /// Content from one source and nothing added to it; the owners of a tree are not kept, and
    /// nothing is demanded.
    pub fn new(
        at: String,
        name: String,
        kind: ExtensionKind,
        source: ContentSource,
    ) -> ContentPlan {
        ContentPlan {
            at,
            name,
            kind,
            source,
            files: Vec::new(),
            keep_owners: false,
            release: ReleaseFields::new(),
            reload: Reload::Auto,
            path_links: Vec::new(),
            links: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What the content is taken from, before single files are added.
#[derive(Debug, Clone)]
pub enum ContentSource {
    /// Nothing else than the files.
    FilesOnly,
    /// A folder with `usr/` and/or `opt/`, or `etc/`.
    Tree(PathBuf),
    /// A tar archive.
    Archive(ArchivePlan),
    /// A container image; of several the one for this architecture.
    Oci(ArchivePlan, Option<Arch>),
    /// A prebuilt image that is repaired.
    Image(RepairedImage),
}

impl ContentSource {
    /// Where it lies on this machine, if it is anything.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ContentSource::FilesOnly => None,
            ContentSource::Tree(path) => Some(path),
            ContentSource::Archive(archive) | ContentSource::Oci(archive, _) => Some(&archive.path),
            ContentSource::Image(image) => Some(&image.ddi.path),
        }
    }
}

/// An archive whose content is taken.
#[derive(Debug, Clone)]
pub struct ArchivePlan {
    /// Where it lies.
    pub path: PathBuf,
    /// What of it is taken.
    pub pick: Pick,
}

/// What a single file consists of.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// A file on this machine.
    Path(PathBuf),
    /// The bytes, as the config holds them.
    Bytes(Vec<u8>),
}

/// One file to add.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// What it consists of.
    pub content: FileContent,
    /// Absolute path in the extension.
    pub destination: String,
    /// Mode, or that of the source.
    pub permissions: Option<u16>,
}

/// An image whose content a build takes.
#[derive(Debug, Clone)]
pub struct RepairedImage {
    /// The image, open.
    pub ddi: Arc<Ddi>,
    /// Path in the tree of its release file, which gets a new name.
    pub release_file: String,
    /// What is left as it is.
    pub keep: Vec<RepairKind>,
    /// What lies beside it and must fit, too.
    pub beside: Sidecars,
}
