//! Links that lead nowhere once the extension is merged.

use std::path::{Component, Path, PathBuf};

use super::{Contents, Target, named, split};
use crate::finding::Finding;
use crate::image::read::FileKind;

/// Links to what neither the extension nor the base has. What lies outside of the hierarchies
/// (`/etc`, `/run`, `/var`) may come at run time, and without a root file system only what points
/// beside the link itself can be judged.
pub(super) fn dangling(contents: &Contents<'_>, target: Target<'_>) -> Option<Finding> {
    let tops = contents.subject.kind.hierarchies();
    let in_hierarchy = |path: &Path| {
        let top = path.components().nth(1);
        let top = top.and_then(|top| top.as_os_str().to_str());
        top.is_some_and(|top| tops.contains(&top))
    };
    let leads_nowhere = |link: &&str| {
        let Some(to) = contents.link_target(link) else {
            return false;
        };
        let Some(place) = resolved(split(link).0, &to) else {
            return true;
        };
        if !in_hierarchy(&place) || is_there(contents, &place) {
            return false;
        }
        match target.root {
            Some(root) => root.lmetadata(&place).is_ok_and(|found| found.is_none()),
            None => !to.contains('/'),
        }
    };
    let links = named(contents.links().filter(leads_nowhere))?;
    Some(
        Finding::warning("dangling-link", format!("links lead nowhere: {links}"))
            .because("a link is followed in the merged tree: what it names is in no layer")
            .help("bring what they lead to, or leave them out"),
    )
}

/// Whether the extension has something at a path or a link above it, which may lead anywhere.
fn is_there(contents: &Contents<'_>, path: &Path) -> bool {
    let mut above = path.ancestors();
    let known = |path: &Path| path.to_str().and_then(|path| contents.entries.get(path));
    known(path).is_some()
        || above.any(|path| known(path).is_some_and(|found| found.kind == FileKind::Symlink))
}

/// Where a link leads by its text; nothing if that is above the root.
fn resolved(folder: &str, to: &str) -> Option<PathBuf> {
    let mut place = PathBuf::from("/");
    for component in Path::new(folder).join(to).components() {
        match component {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => {
                place.pop();
            }
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(place)
}
