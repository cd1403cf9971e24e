//! Content that is merged and then does not work, or should not be there: findings, never verdicts.
//!
//! One finding for each kind of trouble of an extension; it names the first paths and counts the
//! rest.

mod links;
mod programs;
mod secrets;
mod units;

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::Base;
use crate::base::rootfs::RootFs;
use crate::finding::Finding;
use crate::image::read::view::FileView;
use crate::image::read::{FileKind, FsError, Metadata};
use crate::systemd::kind::ExtensionKind;

/// Most entries of an image that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// How many paths a finding names.
const NAMED: usize = 3;

/// Where the extension will be merged.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// What is known of the base.
    pub base: &'a Base,
    /// Its root file system, if there is one.
    pub root: Option<&'a dyn RootFs>,
}

/// An extension to look at.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Its file system.
    pub fs: &'a dyn FileView,
    /// Which hierarchies it adds to.
    pub kind: ExtensionKind,
    /// Whether that file system is what comes to lie at `/usr`.
    pub is_usr: bool,
}

/// The files of an extension by the path that they will have.
struct Contents<'a> {
    subject: Subject<'a>,
    entries: BTreeMap<String, Metadata>,
}

impl Contents<'_> {
    fn read(subject: Subject<'_>) -> Result<Contents<'_>, FsError> {
        let prefix = if subject.is_usr { "/usr" } else { "" };
        let merged = |path: &str| {
            let tops = subject.kind.hierarchies().iter();
            let mut below = tops.filter_map(|top| path.strip_prefix('/')?.strip_prefix(top));
            below.any(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entries = subject.fs.walk(MAX_ENTRIES)?.into_iter();
        // A name that is no text is not one that anything here asks for.
        let entries = entries.filter_map(|(path, found)| {
            let path = format!("{prefix}{}", path.to_str()?);
            merged(&path).then_some((path, found))
        });
        Ok(Contents {
            entries: entries.collect(),
            subject,
        })
    }

    /// Regular files.
    fn files(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        let entries = self.entries.iter();
        let files = entries.filter(|(_, found)| found.kind == FileKind::File);
        files.map(|(path, found)| (path.as_str(), found))
    }

    /// Symbolic links.
    fn links(&self) -> impl Iterator<Item = &str> {
        let entries = self.entries.iter();
        let links = entries.filter(|(_, found)| found.kind == FileKind::Symlink);
        links.map(|(path, _)| path.as_str())
    }

    /// What lies below a folder, by path.
    fn below<'b>(&'b self, folder: &'b str) -> impl Iterator<Item = (&'b str, &'b Metadata)> {
        let from = self.entries.range(format!("{folder}/")..);
        from.map(|(path, found)| (path.as_str(), found))
            .take_while(move |(path, _)| path.starts_with(folder))
            .filter(move |(path, _)| path.as_bytes().get(folder.len()) == Some(&b'/'))
    }

    fn start(&self, path: &str, count: u64) -> Vec<u8> {
        let start = self.subject.fs.start(self.inside(path), count);
        // What can't be read is told when the image is verified.
        start.unwrap_or_default()
    }

    fn link_target(&self, path: &str) -> Option<String> {
        let target = self.subject.fs.target(self.inside(path)).ok()?;
        target.into_os_string().into_string().ok()
    }

    /// The path in the image.
    fn inside<'b>(&self, path: &'b str) -> &'b Path {
        let path = match self.subject.is_usr {
            true => path.strip_prefix("/usr").unwrap_or(path),
            false => path,
        };
        Path::new(path)
    }
}

/// Everything that is to be said about the content of an extension.
pub(crate) fn lint(subject: Subject<'_>, target: Target<'_>) -> Vec<Finding> {
    let contents = match Contents::read(subject) {
        Ok(contents) => contents,
        Err(error) => {
            let message = format!("the content can't be looked through: {error}");
            return vec![Finding::warning("content-unreadable", message)];
        }
    };
    [
        programs::wrong_architecture(&contents, target),
        programs::not_in_path(&contents, target),
        programs::modules_without_kernel(&contents, target),
        units::not_started(&contents),
        units::applied_before(&contents),
        links::dangling(&contents, target),
        secrets::secrets(&contents),
        secrets::set_id(&contents),
        secrets::world_writable(&contents),
        secrets::package_database(&contents),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The first of some paths and how many more there are.
fn named<'a>(paths: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut paths = paths.into_iter();
    let first: Vec<&str> = paths.by_ref().take(NAMED).collect();
    let more = paths.count();
    match (first.as_slice(), more) {
        ([], _) => None,
        (first, 0) => Some(first.join(", ")),
        (first, more) => Some(format!("{} and {more} more", first.join(", "))),
    }
}

/// The folder and the name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests;
