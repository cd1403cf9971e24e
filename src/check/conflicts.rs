//! What the layers of a merge hide from each other and from the base.
//!
//! In an overlay the upper layer wins for everything but folders, which are joined; a file over a
//! folder hides all of it, and a character device 0:0 hides what is below
//! (kernel `Documentation/filesystems/overlayfs.rst`). Nothing is mounted: names are compared.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use glob::Pattern;

use crate::finding::Finding;
use crate::image::read::view::FileView;
use crate::image::read::{FileKind, FsError};
use crate::systemd::kind::ExtensionKind;

/// Most entries that are looked at in one layer.
const MAX_ENTRIES: usize = 2_000_000;
/// Longest path that is followed (Linux PATH_MAX).
const MAX_PATH: usize = 4096;
/// Paths that a finding names; it counts the others.
const SHOWN: usize = 4;
/// Longest file whose content is compared, in bytes.
const COMPARED: u64 = 4 << 20;

/// Files that list what all packages brought along, so that one layer's copy hides the entries of
/// all others.
const INDEXES: &[&str] = &[
    "usr/lib/modules/*/modules.*",
    "usr/share/applications/mimeinfo.cache",
    "usr/share/glib-2.0/schemas/gschemas.compiled",
    "usr/share/icons/*/icon-theme.cache",
    "usr/share/info/dir",
    "usr/share/mime/mime.cache",
    "usr/lib/udev/hwdb.bin",
];

/// One layer.
pub(crate) struct Layer<'a> {
    /// The name of the extension.
    pub name: &'a str,
    /// Where the config lists it, if it does.
    pub at: Option<&'a str>,
    /// Where it lies on the target.
    pub path: &'a str,
    /// What it holds.
    pub files: Box<dyn FileView + 'a>,
    /// Whether its root is what others have in `usr`.
    pub is_usr: bool,
}

impl Layer<'_> {
    fn finding(&self, finding: Finding) -> Finding {
        match self.at {
            Some(at) => finding.at(at),
            None => finding.in_file(self.path),
        }
    }

    /// Where a path of the merged system is in this layer.
    fn inside(&self, path: &Path) -> PathBuf {
        match self.is_usr {
            true => path.strip_prefix("usr").unwrap_or(path).to_owned(),
            false => path.to_owned(),
        }
    }
}

/// Compares layers, the lowest first, with each other and with the base.
pub(crate) fn find(
    class: ExtensionKind,
    layers: &[Layer<'_>],
    base: Option<&dyn FileView>,
    allow: &[Pattern],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut comparison = Comparison::new(layers, base);
    for (index, layer) in layers.iter().enumerate() {
        let mut found = Found::default();
        let walked = walk(class, layer, |path, kind| {
            let full = Path::new("/").join(path);
            if !allow.iter().any(|glob| glob.matches_path(&full)) {
                comparison.add(path, kind, index, &mut found);
            }
        });
        if let Err(error) = walked {
            let message = format!("what `{}` hides can't be told: {error}", layer.name);
            findings.push(layer.finding(Finding::note("conflicts-unknown", message)));
            continue;
        }
        findings.extend(found.findings(layer, layers));
    }
    findings
}

/// What one layer hides.
#[derive(Default)]
struct Found {
    /// Of other layers, by their number.
    layers: BTreeMap<usize, Vec<PathBuf>>,
    kinds: Vec<PathBuf>,
    indexes: Vec<PathBuf>,
    base: Vec<PathBuf>,
    whiteouts: Vec<PathBuf>,
}

/// All layers so far.
struct Comparison<'a> {
    layers: &'a [Layer<'a>],
    base: Option<&'a dyn FileView>,
    /// What is visible: its kind and the layer it is from.
    visible: HashMap<Vec<u8>, (FileKind, usize)>,
    /// Folders of the base that layers have as well; nothing for those that are not there.
    in_base: HashMap<Vec<u8>, Option<Names>>,
    indexes: Vec<Pattern>,
}

impl<'a> Comparison<'a> {
    fn new(layers: &'a [Layer<'a>], base: Option<&'a dyn FileView>) -> Comparison<'a> {
        let indexes = INDEXES.iter().filter_map(|glob| Pattern::new(glob).ok());
        Comparison {
            layers,
            base,
            visible: HashMap::new(),
            in_base: HashMap::new(),
            indexes: indexes.collect(),
        }
    }

    /// Puts something of layer `index` on top.
    fn add(&mut self, path: &Path, kind: FileKind, index: usize, found: &mut Found) {
        let is_folder = kind == FileKind::Directory;
        if kind == FileKind::CharDevice {
            found.whiteouts.push(path.to_owned());
        }
        let below = match self.visible.entry(bytes(path).to_vec()) {
            Entry::Vacant(place) => {
                place.insert((kind, index));
                None
            }
            Entry::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), (kind, index))),
        };
        match below {
            Some((other, _)) if is_folder && other == FileKind::Directory => {}
            Some((other, _)) if is_folder || other == FileKind::Directory => {
                found.kinds.push(path.to_owned());
            }
            Some((other, of)) => {
                let pair = self.layers.get(of).zip(self.layers.get(index));
                if kind != other || !pair.is_some_and(|(a, b)| is_same(a, b, path)) {
                    found.layers.entry(of).or_default().push(path.to_owned());
                }
            }
            None => match self.of_base(path).map(|there| there == FileKind::Directory) {
                None => {}
                Some(true) if is_folder => {}
                Some(false) if !is_folder => {
                    match self.indexes.iter().any(|glob| glob.matches_path(path)) {
                        true => found.indexes.push(path.to_owned()),
                        false => found.base.push(path.to_owned()),
                    }
                }
                Some(_) => found.kinds.push(path.to_owned()),
            },
        }
    }

    /// What the base has at a path. Each of its folders is read once, and nothing is asked for in
    /// folders that it has not: most of an extension's are its own.
    fn of_base(&mut self, path: &Path) -> Option<FileKind> {
        let base = self.base?;
        let kind = |path: &Path| base.kind(path).ok().flatten();
        let (parent, name) = (path.parent()?, path.file_name()?);
        let folder = match self.in_base.get(bytes(parent)) {
            Some(folder) => folder,
            None => {
                let is_there = kind(parent) == Some(FileKind::Directory);
                let names = is_there.then(|| Names::read(base, parent));
                self.in_base.entry(bytes(parent).to_vec()).or_insert(names)
            }
        };
        match folder.as_ref()? {
            Names::Known(names) => match names.get(name)? {
                FileKind::Symlink => kind(path),
                known => Some(*known),
            },
            Names::TooMany => kind(path),
        }
    }
}

/// What a folder of the base holds.
enum Names {
    Known(HashMap<OsString, FileKind>),
    /// More than is read at once, or something that can't be read.
    TooMany,
}

impl Names {
    fn read(base: &dyn FileView, folder: &Path) -> Names {
        match base.entries(folder) {
            Ok(entries) => Names::Known(entries.into_iter().collect()),
            Err(_) => Names::TooMany,
        }
    }
}

/// Paths are compared as they are: taking them apart costs more than all the rest.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn is_same(a: &Layer<'_>, b: &Layer<'_>, path: &Path) -> bool {
    let read = |layer: &Layer<'_>| layer.files.bytes(&layer.inside(path), COMPARED);
    matches!((read(a), read(b)), (Ok(a), Ok(b)) if a == b)
}

impl Found {
    fn findings(self, layer: &Layer<'_>, layers: &[Layer<'_>]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let name = layer.name;
        for (of, paths) in &self.layers {
            let other = layers.get(*of).map_or("?", |layer| layer.name);
            let message = format!(
                "`{name}` hides files of `{other}` that are different: {}",
                list(paths)
            );
            findings.push(
                layer.finding(Finding::warning("layer-conflict", message))
                    .because("the upper layer wins, and layers are ordered by name (strverscmp_improved)")
                    .help("leave the files out of one of both, or list them under `allow`"),
            );
        }
        let kinds =
            "a folder stands where a lower layer has something else, or the other way round";
        let groups = [
            ("kind-conflict", kinds, &self.kinds, true),
            (
                "index-hidden",
                "it replaces an index of the base, so that what the base and others listed there is gone",
                &self.indexes,
                true,
            ),
            (
                "whiteout",
                "a character device hides what the layers below have",
                &self.whiteouts,
                true,
            ),
            (
                "base-file-hidden",
                "it replaces files of the base",
                &self.base,
                false,
            ),
        ];
        for (id, what, paths, warns) in groups {
            if paths.is_empty() {
                continue;
            }
            let message = format!("`{name}`: {what}: {}", list(paths));
            let finding = match warns {
                true => Finding::warning(id, message),
                false => Finding::note(id, message),
            };
            let finding = layer.finding(finding);
            findings.push(
                finding.help("leave them out, or list them under `allow` if that is intended"),
            );
        }
        findings
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .take(SHOWN)
        .map(|path| format!("/{}", path.display()))
        .collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Calls for everything in the hierarchies of a layer, folders before what is in them.
fn walk(
    class: ExtensionKind,
    layer: &Layer<'_>,
    mut each: impl FnMut(&Path, FileKind),
) -> Result<(), FsError> {
    let release_dir = Path::new(class.release_dir());
    if layer.files.walks_fast() {
        for (path, found) in layer.files.walk(MAX_ENTRIES)? {
            let path = path.strip_prefix("/").unwrap_or(&path);
            let merged = match layer.is_usr {
                true => Path::new("usr").join(path),
                false => path.to_owned(),
            };
            let mut tops = class.hierarchies().iter();
            // The hierarchies themselves are everybody's.
            let is_inside = tops.any(|top| merged.starts_with(top) && merged.as_os_str() != *top);
            if is_inside && merged.parent() != Some(release_dir) {
                each(&merged, found.kind);
            }
        }
        return Ok(());
    }
    let mut waiting: Vec<PathBuf> = Vec::new();
    for top in class.hierarchies() {
        if layer.is_usr && *top != "usr" {
            continue;
        }
        let inside = layer.inside(Path::new(top));
        let root = Path::new("/").join(inside);
        if layer.files.kind(&root)? == Some(FileKind::Directory) {
            waiting.push(PathBuf::from(top));
        }
    }
    let mut seen = 0_usize;
    while let Some(folder) = waiting.pop() {
        let inside = Path::new("/").join(layer.inside(&folder));
        for (name, kind) in layer.files.entries(&inside)? {
            seen += 1;
            let path = folder.join(name);
            if seen > MAX_ENTRIES || path.as_os_str().len() > MAX_PATH {
                return Err(FsError::TooManyEntries(MAX_ENTRIES));
            }
            if folder == release_dir {
                continue;
            }
            each(&path, kind);
            if kind == FileKind::Directory {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::open::testing::write;
    use crate::io::root::RootDir;

    fn found(files: &[(&str, &str)], allow: &[&str]) -> Vec<(&'static str, String)> {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["base", "a", "b"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for (path, text) in files {
            write(dir.path(), path, text);
        }
        let open = |name: &str| RootDir::open(&dir.path().join(name)).unwrap();
        let layer = |name: &'static str| Layer {
            name,
            at: None,
            path: name,
            files: Box::new(open(name)),
            is_usr: false,
        };
        let layers = [layer("a"), layer("b")];
        let allow: Vec<Pattern> = allow
            .iter()
            .map(|glob| Pattern::new(glob).unwrap())
            .collect();
        let findings = find(ExtensionKind::Sysext, &layers, Some(&open("base")), &allow);
        findings
            .into_iter()
            .map(|finding| (finding.id, finding.message))
            .collect()
    }

    fn ids(files: &[(&str, &str)], allow: &[&str]) -> Vec<&'static str> {
        found(files, allow).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn different_files_of_two_layers_are_told_and_equal_ones_are_not() {
        let files = [
            ("a/usr/x", "1"),
            ("b/usr/x", "2"),
            ("a/usr/same", "s"),
            ("b/usr/same", "s"),
        ];
        let all = found(&files, &[]);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].0, "layer-conflict");
        assert!(all[0].1.contains("`b` hides files of `a`") && all[0].1.ends_with(": /usr/x"));
        assert!(ids(&files, &["/usr/x"]).is_empty());
    }

    #[test]
    fn folders_are_joined_and_other_kinds_hide() {
        assert!(
            ids(
                &[("a/usr/d/1", ""), ("b/usr/d/2", ""), ("base/usr/d/3", "")],
                &[]
            )
            .is_empty()
        );
        assert_eq!(
            ids(&[("a/usr/d/1", ""), ("b/usr/d", "")], &[]),
            ["kind-conflict"]
        );
        assert_eq!(
            ids(&[("base/usr/d/1", ""), ("b/usr/d", "")], &[]),
            ["kind-conflict"]
        );
    }

    #[test]
    fn files_of_the_base_and_its_indexes() {
        let files = [
            ("base/usr/bin/x", ""),
            ("b/usr/bin/x", "1"),
            ("b/usr/bin/new", ""),
        ];
        assert_eq!(ids(&files, &[]), ["base-file-hidden"]);
        let index = "usr/lib/modules/6.6/modules.dep";
        let files = [(format!("base/{index}"), ""), (format!("a/{index}"), "")];
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        assert_eq!(ids(&files, &[]), ["index-hidden"]);
        // Release files lie in one folder by design, and what is not merged hides nothing.
        let release = "usr/lib/extension-release.d/extension-release";
        let files = [
            (format!("a/{release}.a"), "1"),
            (format!("b/{release}.a"), "2"),
            ("b/etc/x".to_owned(), ""),
            ("base/etc/x".to_owned(), "1"),
        ];
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        assert!(ids(&files, &[]).is_empty());
    }
}
