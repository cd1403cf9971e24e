//! Which extensions systemd finds in its folders, and under which names.
//!
//! `image_discover` and `pick_image_search_path`, systemd `src/shared/discover-image.c`;
//! `path_pick`, `src/shared/vpick.c`.

use std::cmp::Ordering;

use crate::base::extensions::{ExistingExtension, Member};
use crate::io::root::EntryKind;
use crate::systemd::arch::Arch;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::extension_name;
use crate::systemd::kind::ExtensionKind;

/// An extension that systemd finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The name under which it is known.
    pub name: String,
    /// Where it is; in a `.v` folder the version that was picked.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// What systemd takes an entry for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A disk image.
    Image,
    /// A folder.
    Folder,
    /// A folder that lies in `/usr`, so that it can't be a layer over `/usr`.
    FolderInUsr,
    /// A `.mstack` folder, which 260 and newer know and do not take.
    Stack,
    /// A link in a circle, which ends the search for all.
    Circle,
    /// A block device, which is not looked into here.
    Device,
}

/// What systemd makes of an entry of one of its folders; `None` when it passes it over.
pub(crate) fn discover(
    entry: &ExistingExtension,
    systemd: SystemdBuild,
    native: Option<Arch>,
) -> Option<Found> {
    let found = |name: &str, path: String, what| {
        let (name, path) = (name.to_owned(), path);
        Some(Found { name, path, what })
    };
    if systemd.has(Change::SysupdateSkipped) && entry.name.starts_with(".sysupdate.") {
        return None;
    }
    let plain = |ending: &str| strip_class(&entry.name, ending, entry.class, systemd);
    match entry.kind {
        EntryKind::Link if entry.circular => found(&entry.name, entry.path(), What::Circle),
        EntryKind::File => found(plain(".raw")?, entry.path(), What::Image),
        EntryKind::BlockDevice => found(&entry.name, entry.path(), What::Device),
        EntryKind::Directory => {
            if systemd.has(Change::VersionFolders)
                && let Some(base) = entry.name.strip_suffix(".v")
            {
                return pick(entry, base, systemd, native);
            }
            if systemd.has(Change::Mstack)
                && let Some(name) = plain(".mstack")
            {
                return found(name, entry.path(), What::Stack);
            }
            found(plain("")?, entry.path(), folder(entry))
        }
        _ => None,
    }
}

/// The name of an entry without its ending and, since 255, without `.sysext` or `.confext`
/// before it (`extract_pretty`, since 258 `extract_image_basename`).
pub(super) fn strip_class<'a>(
    file: &'a str,
    ending: &str,
    class: ExtensionKind,
    systemd: SystemdBuild,
) -> Option<&'a str> {
    let name = file.strip_suffix(ending)?;
    if !systemd.has(Change::ClassSuffix) {
        return Some(name);
    }
    let stem = name.strip_suffix(&format!(".{}", class.name()));
    Some(stem.unwrap_or(name))
}

/// overlayfs takes no layer from within what it is mounted on (ELOOP).
fn folder(entry: &ExistingExtension) -> What {
    let real = match &entry.link {
        Some(target) if target.starts_with('/') => target.clone(),
        Some(target) => format!("{}/{target}", entry.directory),
        None => entry.path(),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in real.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    match parts.first() {
        Some(&"usr") if entry.class == ExtensionKind::Sysext => What::FolderInUsr,
        _ => What::Folder,
    }
}

/// Picks the version of a `.v` folder (`make_choice`).
fn pick(
    entry: &ExistingExtension,
    pattern: &str,
    systemd: SystemdBuild,
    native: Option<Arch>,
) -> Option<Found> {
    let class = format!(".{}", entry.class.name());
    let mut endings = vec![format!("{class}.raw"), ".raw".to_owned()];
    if systemd.has(Change::Mstack) {
        endings.extend([format!("{class}.mstack"), ".mstack".to_owned()]);
    }
    endings.extend([class, String::new()]);
    let (name, ending) = endings
        .iter()
        .find_map(|ending| Some((pattern.strip_suffix(ending)?, ending.as_str())))?;
    let is_image = ending.ends_with(".raw");
    let fits = |member: &&Member| match is_image {
        true => matches!(member.kind, EntryKind::File | EntryKind::BlockDevice),
        false => member.kind == EntryKind::Directory,
    };
    let choices = entry.members.iter().filter(fits).filter_map(|member| {
        let rest = member.name.strip_prefix(name)?.strip_prefix('_')?;
        let choice = Choice::parse(rest.strip_suffix(ending)?, systemd, native)?;
        Some((choice, member))
    });
    let (_, member) = choices
        .max_by(|(a, one), (b, other)| a.order(b).then_with(|| one.name.cmp(&other.name)))?;
    let path = format!("{}/{}", entry.path(), member.name);
    let what = match () {
        () if is_image => What::Image,
        () if ending.ends_with(".mstack") => What::Stack,
        () => folder(entry),
    };
    let name = name.to_owned();
    Some(Found { name, path, what })
}

/// What the name of a version says.
struct Choice<'a> {
    version: &'a str,
    /// Whether it names the host's architecture.
    is_native: bool,
    /// None is without end.
    tries_left: Option<u64>,
    tries_done: u64,
}

impl<'a> Choice<'a> {
    /// Reads `VERSION[_ARCH][+LEFT[-DONE]]`.
    fn parse(text: &'a str, systemd: SystemdBuild, native: Option<Arch>) -> Option<Choice<'a>> {
        let (text, tries_left, tries_done) = match text.rsplit_once('+') {
            Some((before, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                match (number(left), number(done)) {
                    (Some(left), Some(done)) => (before, Some(left), done),
                    _ => (text, None, 0),
                }
            }
            None => (text, None, 0),
        };
        let (version, is_native) = match text.rsplit_once('_') {
            Some((version, arch)) => match Arch::all().find(|known| known.name() == arch) {
                Some(arch) if Some(arch) == native || native.is_none() => (version, true),
                Some(_) => return None,
                None => (version, false),
            },
            None => (text, false),
        };
        version_is_valid(version, systemd).then_some(Choice {
            version,
            is_native,
            tries_left,
            tries_done,
        })
    }

    fn order(&self, other: &Choice<'_>) -> Ordering {
        let usable = |choice: &Choice<'_>| choice.tries_left != Some(0);
        let left = |choice: &Choice<'_>| choice.tries_left.unwrap_or(u64::MAX);
        usable(self)
            .cmp(&usable(other))
            .then_with(|| extension_name::compare(self.version, other.version))
            .then(self.is_native.cmp(&other.is_native))
            .then(left(self).cmp(&left(other)))
            .then(other.tries_done.cmp(&self.tries_done))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `version_is_valid`, systemd `src/basic/string-util.c`.
fn version_is_valid(version: &str, systemd: SystemdBuild) -> bool {
    let extra: &[char] = if systemd.has(Change::VersionCharacters) {
        &['^', '~', '-', '_', '.', '+']
    } else {
        &[',', '-', '_', '.', '+']
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || extra.contains(&c);
    !version.is_empty() && version.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::version::SystemdVersion;

    fn entry(name: &str, kind: EntryKind, members: &[(&str, EntryKind)]) -> ExistingExtension {
        ExistingExtension {
            class: ExtensionKind::Sysext,
            directory: "/var/lib/extensions".to_owned(),
            name: name.to_owned(),
            kind,
            size: 0,
            link: None,
            circular: false,
            members: members
                .iter()
                .map(|(name, kind)| Member {
                    name: (*name).to_owned(),
                    kind: *kind,
                })
                .collect(),
        }
    }

    fn found(entry: &ExistingExtension, major: u32) -> Option<(String, String)> {
        let systemd = SystemdVersion::new(major, 0).into();
        let found = discover(entry, systemd, Some(Arch::X86_64))?;
        let file = found.path.rsplit('/').next().unwrap().to_owned();
        Some((found.name, file))
    }

    #[test]
    fn names_of_files_and_folders() {
        use EntryKind::{Directory, Fifo, File};
        let name = |file, kind, major| found(&entry(file, kind, &[]), major).map(|(name, _)| name);
        assert_eq!(name("a.sysext.raw", File, 254).as_deref(), Some("a.sysext"));
        assert_eq!(name("a.sysext.raw", File, 255).as_deref(), Some("a"));
        assert_eq!(name("a.sysext", Directory, 255).as_deref(), Some("a"));
        assert_eq!(
            name("a.sysext.raw", Directory, 257).as_deref(),
            Some("a.sysext.raw")
        );
        assert_eq!(name("a.mstack", Directory, 262).as_deref(), Some("a"));
        assert_eq!(name("a.erofs", File, 257), None);
        assert_eq!(name("a.raw", Fifo, 257), None);
        assert_eq!(name(".sysupdate.a", Directory, 262), None);
    }

    #[test]
    fn the_newest_usable_version_is_picked() {
        use EntryKind::File;
        let picked = |members: &[&str], major| {
            let members: Vec<_> = members.iter().map(|name| (*name, File)).collect();
            found(&entry("a.raw.v", EntryKind::Directory, &members), major).map(|(name, file)| {
                assert_eq!(name, "a");
                file
            })
        };
        assert_eq!(
            picked(&["a_1.raw", "a_2+0-3.raw"], 257).as_deref(),
            Some("a_1.raw")
        );
        assert_eq!(
            picked(&["a_1.raw", "a_2_arm64.raw"], 257).as_deref(),
            Some("a_1.raw")
        );
        let native = ["a_1.raw", "a_1_x86-64.raw"];
        assert_eq!(picked(&native, 257).as_deref(), Some("a_1_x86-64.raw"));
        assert_eq!(picked(&["a_1^post.raw"], 259), None);
        assert_eq!(
            picked(&["a_1^post.raw"], 262).as_deref(),
            Some("a_1^post.raw")
        );
        assert_eq!(picked(&["a.raw", "b_1.raw", "a_2.img"], 262), None);
    }

    #[test]
    fn before_256_such_a_folder_is_a_plain_one() {
        let entry = entry(
            "a.v",
            EntryKind::Directory,
            &[("a_1", EntryKind::Directory)],
        );
        assert_eq!(
            found(&entry, 255),
            Some(("a.v".to_owned(), "a.v".to_owned()))
        );
        assert_eq!(found(&entry, 256), Some(("a".to_owned(), "a_1".to_owned())));
    }
}
