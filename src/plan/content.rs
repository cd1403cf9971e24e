//! What goes into an extension that is built, as far as it is known before anything is read.

use std::path::PathBuf;
use std::sync::Arc;

use crate::check::sidecars::Sidecars;
use crate::config::model::{Reload, RepairKind};
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
    /// Folder with `usr/` and/or `opt/`, or `etc/`.
    pub tree: Option<PathBuf>,
    /// An archive or a container image instead of a folder.
    pub archive: Option<ArchivePlan>,
    /// A prebuilt image that is repaired.
    pub image: Option<RepairedImage>,
    /// Single files.
    pub files: Vec<FilePlan>,
    /// Whether owners of the tree are kept.
    pub keep_owners: bool,
    /// Fields of the release file, in the order in which they are written.
    pub release: ReleaseFields,
    /// Whether systemd reloads its units.
    pub reload: Reload,
    /// Programs that get a link in `/usr/bin`.
    pub path_links: Vec<String>,
    /// Globs that must match.
    pub expect: Vec<String>,
    /// Globs that must not match.
    pub forbid: Vec<String>,
}

/// An archive whose content is taken.
#[derive(Debug, Clone)]
pub struct ArchivePlan {
    /// Where it lies.
    pub path: PathBuf,
    /// What of it is taken.
    pub pick: Pick,
    /// Whether it is a container image, and for which architecture.
    pub container: Option<Option<Arch>>,
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
