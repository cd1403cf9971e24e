//! Images and folders as the prediction takes them: of this machine, and of a base.

use std::path::Path;

use crate::base::Base;
use crate::base::folder::folder_content;
use crate::base::rootfs::RootFs;
use crate::check::discover::{What, discover};
use crate::check::sidecars::{Coming, Sidecars};
use crate::check::{Candidate, Image, sidecars};
use crate::finding::Finding;
use crate::image::dissect;
use crate::image::dissect::Ddi;
use crate::inspect::verify::verify_ddi;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::systemd::changes::SystemdBuild;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CONFEXT_DIRS, SYSEXT_DIRS};

/// Largest image of a base whose hash tree is recomputed, in bytes; a sparse file can claim any
/// size, and reading it must end.
const MAX_PRESENT_BYTES: u64 = 64 << 30;

/// An image with its hash tree recomputed; its signature is judged with the base, which says whom to
/// trust.
pub(super) fn disk(ddi: Ddi, sidecars: Sidecars, progress: &Progress) -> Image {
    let report = verify_ddi(&ddi, &[], progress);
    Image::Disk(Box::new(ddi), Box::new(report), sidecars)
}

/// An image of this machine that is going to be placed.
pub(super) fn coming_image(
    path: &Path,
    coming: &Coming<'_>,
    base: &Base,
    progress: &Progress,
) -> Image {
    match dissect::open_for(path, base.arch) {
        Ok(ddi) => {
            let beside = sidecars::of_coming(coming, &ddi, progress);
            disk(ddi, beside, progress)
        }
        Err(error) => Image::Unreadable(error.to_string()),
    }
}

/// An image of this machine with what lies beside it.
pub(super) fn image_and_beside(path: &Path, base: &Base, progress: &Progress) -> Image {
    let ddi = match dissect::open_for(path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Image::Unreadable(error.to_string()),
    };
    let beside = sidecars::beside_on_this_machine(path, &ddi, progress);
    disk(ddi, beside, progress)
}

/// A folder of this machine.
pub(super) fn local_folder(path: &Path) -> Image {
    let image = match RootDir::open(path) {
        Ok(root) => folder(&root, Path::new("/"), false),
        Err(error) => Image::Unreadable(error.to_string()),
    };
    match image {
        Image::Folder {
            content, in_usr, ..
        } => Image::Folder {
            content,
            in_usr,
            local: Some(path.to_owned()),
        },
        other => other,
    }
}

/// A folder of a root file system.
fn folder(root: &dyn RootFs, path: &Path, in_usr: bool) -> Image {
    match folder_content(root, path) {
        Ok(Some(content)) => Image::Folder {
            content: Box::new(content),
            in_usr,
            local: None,
        },
        Ok(None) => Image::Unreadable("there is nothing".to_owned()),
        // Not systemd's trouble, but ours.
        Err(_) => Image::Other("a folder that can't be read"),
    }
}

pub(super) fn present(
    root: &dyn RootFs,
    base: &Base,
    skip: impl Fn(&str) -> bool,
    listed: impl Fn(&str) -> Option<String>,
    progress: &Progress,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let systemd = base.systemd_build().unwrap_or(SystemdBuild::NEWEST);
    for entry in &base.extensions {
        let Some(found) = discover(entry, systemd, base.arch) else {
            continue;
        };
        if skip(&found.path) {
            continue;
        }
        let path = Path::new(&found.path);
        let image = match found.what {
            What::Image => match image(root, path, base, progress) {
                Some(image) => image,
                None => continue,
            },
            What::Folder | What::FolderInUsr => folder(root, path, found.what == What::FolderInUsr),
            What::Stack => Image::Unreadable("systemd takes no .mstack folders here".to_owned()),
            What::Circle => Image::Unreadable("the link leads in a circle".to_owned()),
            What::Device => Image::Other("a block device"),
        };
        candidates.push(Candidate {
            class: entry.class,
            at: listed(&found.path),
            path: found.path,
            name: found.name,
            image,
        });
    }
    candidates
}

/// An image of a root file system; nothing when it is gone meanwhile.
fn image(root: &dyn RootFs, path: &Path, base: &Base, progress: &Progress) -> Option<Image> {
    let (file, metadata) = match root.open_file(path) {
        Ok(found) => found?,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    if metadata.size > MAX_PRESENT_BYTES {
        return Some(Image::Other("an image of more than 64 GiB"));
    }
    let ddi = match dissect::describe(file, path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    let beside = sidecars::read(root, path, &ddi, progress);
    Some(disk(ddi, beside, progress))
}

pub(super) fn in_search_order(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|candidate| {
        let dirs = match candidate.class {
            ExtensionKind::Sysext => SYSEXT_DIRS,
            ExtensionKind::Confext => CONFEXT_DIRS,
        };
        let lies_in = |folder: &&str| {
            let rest = candidate.path.strip_prefix(*folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        (candidate.class, dirs.iter().position(lies_in))
    });
}

/// An image of this machine, also a compressed one.
///
/// # Errors
/// `image-unreadable`.
pub fn open_any(path: &Path) -> Result<Ddi, Finding> {
    dissect::open_wrapped(path)
        .map_err(|error| Finding::error("image-unreadable", error.to_string()))
}

/// An image of this machine.
///
/// # Errors
/// `image-unreadable`.
pub fn open_image(path: &Path) -> Result<Ddi, Finding> {
    dissect::open(path).map_err(|error| Finding::error("image-unreadable", error.to_string()))
}
