//! What goes into an extension that is built: the user's tree and files, the
//! release file, links for PATH; and the rules that content must keep.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::model::Reload;
use crate::config::validate::{could_take_folder, inside_hierarchy};
use crate::finding::Finding;
use crate::io::open;
use crate::plan::content::{ArchivePlan, ContentPlan, FileContent, FilePlan};
use crate::plan::limits::unmet;
use crate::plan::repair::tree_of;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::collect::collect;
use crate::tree::read::Reader;
use crate::tree::tar_read::Layers;
use crate::tree::{Inode, Kind, Source, Tree, TreeError, collect, oci};

/// Folders in which systemd looks for units, as far as they lie in an extension.
const UNIT_DIRS: &[&str] = &[
    "usr/lib/systemd/system/",
    "usr/lib/systemd/user/",
    "usr/local/lib/systemd/system/",
    "etc/systemd/system/",
    "etc/systemd/user/",
];

/// Largest release file of the content that is read, in bytes.
const MAX_RELEASE_FILE: u64 = 1 << 20;

/// The tree of an extension, complete.
#[derive(Debug, Clone)]
pub struct Content {
    /// Everything, release file included.
    pub tree: Tree,
    /// The release file as it stands in the tree.
    pub release: ReleaseFields,
    /// Whether the content holds units.
    pub has_units: bool,
    /// What was noticed on the way.
    pub findings: Vec<Finding>,
}

/// Brings everything together, or says all that is wrong with it.
pub fn gather(wanted: &ContentPlan) -> Result<Content, Vec<Finding>> {
    let mut errors = Vec::new();
    let mut findings = Vec::new();
    let mut tree = match (&wanted.tree, &wanted.archive, &wanted.image) {
        (Some(folder), ..) => {
            let at_tree = format!("{}.tree", wanted.at);
            check_tree(folder, wanted.kind).map_err(|finding| vec![finding.at(&at_tree)])?;
            let options = collect::Options {
                keep_owners: wanted.keep_owners,
            };
            let collected = collect(folder, &options).map_err(|found| at(found.0, &at_tree))?;
            findings.extend(at(collected.findings, &at_tree));
            collected.tree
        }
        (None, Some(archive), _) => {
            let (tree, notes) = unpack(archive).map_err(|finding| vec![finding])?;
            findings.extend(at(notes, &wanted.at));
            tree
        }
        (None, None, Some(image)) => {
            let found = tree_of(image, wanted.kind);
            let (tree, notes) = found.map_err(|finding| at(vec![finding], &wanted.at))?;
            findings.extend(at(notes, &wanted.at));
            tree
        }
        (None, None, None) => Tree::new(),
    };
    // The folder's own mode is not content: a private 0700 would be the mode of the image's root.
    if let Some(root) = tree.get_mut(Tree::ROOT) {
        root.mode = 0o755;
        root.xattrs.clear();
        (root.uid, root.gid) = (0, 0);
    }
    for (index, file) in wanted.files.iter().enumerate() {
        let at_file = format!("{}.files[{index}]", wanted.at);
        match add_file(&mut tree, file, wanted) {
            Ok(notes) => findings.extend(at(notes, &at_file)),
            Err(found) => errors.extend(at(found, &at_file)),
        }
    }
    errors.extend(at(forbidden(&tree, wanted.kind, &wanted.name), &wanted.at));
    if errors.is_empty() && tree.walk().all(|(.., inode)| inode.entries().is_some()) {
        errors.push(
            Finding::error("empty-extension", "the extension holds no file")
                .at(&wanted.at)
                .help(format!("put something below {}", tops(wanted.kind))),
        );
    }
    for (index, program) in wanted.path_links.iter().enumerate() {
        if let Err(finding) = link_program(&mut tree, program) {
            errors.push(finding.at(format!("{}.pathLinks[{index}]", wanted.at)));
        }
    }
    let has_units = tree.walk().any(|(path, _, inode)| {
        inode.entries().is_none()
            && UNIT_DIRS
                .iter()
                .any(|folder| path.starts_with(folder.as_bytes()))
    });
    let mut release = wanted.release.clone();
    if wanted.reload == Reload::Always || (wanted.reload == Reload::Auto && has_units) {
        // systemd >= 255 then reloads its units after the merge (src/sysext/sysext.c, need_reload).
        release.set("EXTENSION_RELOAD_MANAGER", "1");
    }
    match place_release(&mut tree, wanted.kind, &wanted.name, release) {
        Ok(complete) => release = complete,
        Err(finding) => {
            errors.push(finding.at(&wanted.at));
            release = ReleaseFields::new();
        }
    }
    let paths = tree
        .walk()
        .map(|(path, ..)| format!("/{}", String::from_utf8_lossy(&path)));
    errors.extend(unmet(paths, &wanted.expect, &wanted.forbid, &wanted.at));
    if errors.is_empty() {
        Ok(Content {
            tree,
            release,
            has_units,
            findings,
        })
    } else {
        Err(errors)
    }
}

fn unpack(archive: &ArchivePlan) -> Result<(Tree, Vec<Finding>), Finding> {
    if let Some(arch) = archive.container {
        return oci::read(&archive.path, arch, &archive.pick);
    }
    let unreadable = |error: std::io::Error| {
        let message = format!("reading the archive: {error}");
        Finding::error("archive-unreadable", message)
            .in_file(&archive.path)
            .help("name a tar archive, plain or compressed by gzip, xz or zstd")
    };
    let file = open::open(&archive.path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut layers = Layers::default();
    let file = std::sync::Arc::new(file);
    layers.add(&file, (0, size), &archive.path, &archive.pick, false)?;
    Ok(layers.finish())
}

/// Whether the folder of an extension's content is there.
pub fn check_tree(folder: &Path, kind: ExtensionKind) -> Result<(), Finding> {
    let why = match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "it is not a folder".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("reading the tree {}: {why}", folder.display());
    let help = format!("name a folder with {}", tops(kind));
    Err(Finding::error("tree-unreadable", message).help(help))
}

/// The folders at the top of an extension, for a sentence.
fn tops(kind: ExtensionKind) -> String {
    let tops = kind.hierarchies().iter().map(|top| format!("{top}/"));
    tops.collect::<Vec<_>>().join(" or ")
}

fn at(findings: Vec<Finding>, yaml_path: &str) -> Vec<Finding> {
    findings
        .into_iter()
        .map(|finding| {
            // A file is the better place to show; the message then names it.
            if finding.place.is_some() {
                finding
            } else {
                finding.at(yaml_path)
            }
        })
        .collect()
}

/// Adds a file, or a folder with all that is in it; what was left out comes back as notes.
fn add_file(
    tree: &mut Tree,
    file: &FilePlan,
    wanted: &ContentPlan,
) -> Result<Vec<Finding>, Vec<Finding>> {
    let conflict = |error: TreeError| Finding::error("content-conflict", error.to_string());
    if let FileContent::Path(path) = &file.content
        && path.is_dir()
    {
        if file.permissions.is_some() {
            let message = format!(
                "{} is a folder, whose files have modes of their own",
                path.display()
            );
            let finding = Finding::error("key-without-effect", message);
            return Err(vec![finding.help("leave `permissions` out")]);
        }
        let options = collect::Options {
            keep_owners: wanted.keep_owners,
        };
        let collected = collect(path, &options).map_err(|found| found.0)?;
        let below = collected.tree.below(file.destination.as_bytes());
        below
            .and_then(|below| tree.merge(below))
            .map_err(|error| vec![conflict(error)])?;
        return Ok(collected.findings);
    }
    add_single(tree, file, wanted.kind).map_err(|finding| vec![finding])?;
    Ok(Vec::new())
}

fn add_single(tree: &mut Tree, file: &FilePlan, kind: ExtensionKind) -> Result<(), Finding> {
    let taken_by_folders =
        !inside_hierarchy(&file.destination, kind) && could_take_folder(&file.destination, kind);
    let (source, size, mode) = match &file.content {
        FileContent::Bytes(bytes) => (Source::Bytes(bytes.clone()), bytes.len() as u64, 0o644),
        FileContent::Path(path) => {
            let unreadable = |message: String| {
                Finding::error(
                    "file-unreadable",
                    format!("reading {}: {message}", path.display()),
                )
                .help("name a regular file or a folder that you may read, relative to the config file")
            };
            // Links are followed here, as Prism does for additionalFiles; the writer opens
            // without following them, so it gets the real file.
            let real = path.canonicalize();
            let real = real.map_err(|error| unreadable(error.to_string()))?;
            let metadata = std::fs::metadata(&real);
            let metadata = metadata.map_err(|error| unreadable(error.to_string()))?;
            if !metadata.is_file() {
                return Err(unreadable("it is not a regular file".to_owned()));
            }
            if taken_by_folders {
                let message = format!(
                    "`{}` can be the destination of a folder only",
                    file.destination
                );
                return Err(Finding::error("outside-hierarchy", message)
                    .help("add the name that the file is to have"));
            }
            let executable = metadata.permissions().mode() & 0o111 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            (Source::Path(real), metadata.len(), mode)
        }
    };
    tree.insert_file(
        file.destination.trim_start_matches('/').as_bytes(),
        source,
        size,
        file.permissions.unwrap_or(mode),
    )
    .map(|_| ())
    .map_err(|error| Finding::error("content-conflict", error.to_string()))
}

/// What systemd refuses or never merges.
fn forbidden(tree: &Tree, kind: ExtensionKind, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let top = tree.get(Tree::ROOT).and_then(Inode::entries);
    let outside: Vec<String> = top
        .into_iter()
        .flat_map(|entries| entries.keys())
        .filter(|name| {
            !kind
                .hierarchies()
                .iter()
                .any(|top| top.as_bytes() == **name)
        })
        .map(|name| format!("/{}", String::from_utf8_lossy(name)))
        .collect();
    if !outside.is_empty() {
        let (places, what) = (kind.places(), kind.noun());
        let help = match kind {
            ExtensionKind::Sysext => {
                "leave it out; files for /etc make a `kind: confext`, defaults belong in /usr/share/factory/etc with a tmpfiles.d line"
            }
            ExtensionKind::Confext => {
                "leave it out; what belongs in /usr or /opt makes an extension of `kind: sysext`"
            }
        };
        findings.push(
            Finding::error(
                "outside-hierarchy",
                format!(
                    "the content reaches outside {places}: {}",
                    outside.join(", ")
                ),
            )
            .because(format!(
                "systemd merges {places} of a {what} and nothing else (src/sysext/sysext.c)"
            ))
            .help(help),
        );
    }
    for hierarchy in kind.hierarchies() {
        if let Some(inode) = tree
            .lookup(hierarchy.as_bytes())
            .and_then(|id| tree.get(id))
            && inode.entries().is_none()
        {
            findings.push(
                Finding::error(
                    "hierarchy-not-a-folder",
                    format!("/{hierarchy} is not a folder"),
                )
                .help(format!("make {hierarchy} a folder of the tree")),
            );
        }
    }
    if tree.lookup(b"usr/lib/os-release").is_some() {
        findings.push(
            Finding::error("os-release-inside", "the content holds /usr/lib/os-release")
                .because("systemd refuses an extension that replaces the OS's identity (extension_has_forbidden_content, src/shared/extension-util.c)")
                .help("leave it out"),
        );
    }
    let entries = tree
        .lookup(kind.release_dir().as_bytes())
        .and_then(|id| tree.get(id))
        .and_then(Inode::entries);
    let own = format!("extension-release.{name}");
    for other in entries
        .into_iter()
        .flat_map(|entries| entries.keys())
        .filter(|entry| **entry != own.as_bytes())
    {
        findings.push(
            Finding::error(
                "foreign-release-file",
                format!(
                    "the content holds /{}/{}, expected only {own}",
                    kind.release_dir(),
                    String::from_utf8_lossy(other)
                ),
            )
            .help("leave it out; the release file is written for you"),
        );
    }
    findings
}

/// Adds the release file; fields that the content's own one has must agree.
fn place_release(
    tree: &mut Tree,
    kind: ExtensionKind,
    name: &str,
    wanted: ReleaseFields,
) -> Result<ReleaseFields, Finding> {
    let path = format!("{}/extension-release.{name}", kind.release_dir());
    let mut release = wanted;
    if let Some(inode) = tree.lookup(path.as_bytes()).and_then(|id| tree.get(id)) {
        let bytes = match &inode.kind {
            Kind::File { source, size } if *size <= MAX_RELEASE_FILE => {
                let mut bytes = Vec::new();
                let count = usize::try_from(*size).unwrap_or(0);
                Reader::new(source, *size)
                    .and_then(|reader| reader.append(0, count, &mut bytes))
                    .map_err(|error| Finding::error("file-unreadable", error.to_string()))?;
                bytes
            }
            _ => {
                return Err(Finding::error(
                    "release-file-refused",
                    format!("/{path} is not a small regular file"),
                )
                .help("leave it out; the release file is written for you"));
            }
        };
        let own = ReleaseFields::parse(&bytes).map_err(|error| {
            Finding::error("release-file-refused", format!("reading /{path}: {error}"))
        })?;
        for (key, value) in own.iter() {
            match release.get(key) {
                Some(expected) if expected != value => {
                    return Err(Finding::error(
                        "release-file-disagrees",
                        format!(
                            "/{path} says {key}={value}, the config and the base say {expected}"
                        ),
                    )
                    .help("make them agree, or leave the file out"));
                }
                Some(_) => {}
                None => release.set(key, value),
            }
        }
        tree.remove(path.as_bytes())
            .map_err(|error| Finding::error("content-conflict", error.to_string()))?;
    }
    let text = release.to_text().map_err(|error| {
        Finding::error("release-file-refused", format!("writing /{path}: {error}"))
    })?;
    let bytes = text.into_bytes();
    let size = bytes.len() as u64;
    tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, 0o644)
        .map_err(|error| Finding::error("content-conflict", error.to_string()))?;
    Ok(release)
}

/// A relative link in `/usr/bin` to the one program of that name elsewhere.
fn link_program(tree: &mut Tree, program: &str) -> Result<(), Finding> {
    let suffix = format!("/{program}");
    let mut found: Vec<Vec<u8>> = tree
        .walk()
        .filter(|(path, _, inode)| {
            path.ends_with(suffix.as_bytes())
                && !path.starts_with(b"usr/bin/")
                && matches!(inode.kind, Kind::File { .. })
                && inode.mode & 0o111 != 0
        })
        .map(|(path, ..)| path.to_vec())
        .collect();
    let target = match (found.pop(), found.is_empty()) {
        (Some(target), true) => target,
        (None, _) => {
            return Err(Finding::error(
                "program-missing",
                format!("no executable file named `{program}` lies outside /usr/bin"),
            )
            .help("check the name, or remove the link"));
        }
        (Some(_), false) => {
            return Err(Finding::error(
                "program-ambiguous",
                format!("several executable files are named `{program}`"),
            )
            .help("keep one, or add the link to the tree yourself"));
        }
    };
    let relative: Vec<u8> = match target.strip_prefix(b"usr/".as_slice()) {
        Some(below_usr) => [b"../".as_slice(), below_usr].concat(),
        None => [b"../../".as_slice(), &target].concat(),
    };
    tree.insert_symlink(format!("usr/bin/{program}").as_bytes(), &relative)
        .map(|_| ())
        .map_err(|error| Finding::error("content-conflict", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(files: &[(&str, &str)]) -> ContentPlan {
        let mut release = ReleaseFields::new();
        release.set("ID", "azurelinux");
        release.set("VERSION_ID", "3.0");
        ContentPlan {
            at: "sysext.extensions[0]".into(),
            name: "tools".into(),
            kind: ExtensionKind::Sysext,
            tree: None,
            archive: None,
            image: None,
            files: files
                .iter()
                .map(|(destination, text)| FilePlan {
                    content: FileContent::Bytes(text.as_bytes().to_vec()),
                    destination: (*destination).to_owned(),
                    permissions: Some(0o755),
                })
                .collect(),
            keep_owners: false,
            release,
            reload: Reload::Auto,
            path_links: Vec::new(),
            expect: Vec::new(),
            forbid: Vec::new(),
        }
    }

    fn refusal(wanted: &ContentPlan) -> &'static str {
        gather(wanted).unwrap_err()[0].id
    }

    #[test]
    fn adds_the_release_file_and_links() {
        let mut wanted = wanted(&[("/usr/local/bin/kubectl", "x"), ("/opt/t/run", "y")]);
        wanted.path_links = vec!["kubectl".into(), "run".into()];
        let content = gather(&wanted).unwrap();
        let target = |path: &str| match &content
            .tree
            .get(content.tree.lookup(path.as_bytes()).unwrap())
            .unwrap()
            .kind
        {
            Kind::Symlink(target) => String::from_utf8(target.clone()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(target("usr/bin/kubectl"), "../local/bin/kubectl");
        assert_eq!(target("usr/bin/run"), "../../opt/t/run");
        assert!(
            content
                .tree
                .lookup(b"usr/lib/extension-release.d/extension-release.tools")
                .is_some()
        );
        assert_eq!(content.release.get("EXTENSION_RELOAD_MANAGER"), None);
    }

    #[test]
    fn units_ask_for_a_reload() {
        let mut wanted = wanted(&[("/usr/lib/systemd/system/a.service", "[Unit]")]);
        assert_eq!(
            gather(&wanted)
                .unwrap()
                .release
                .get("EXTENSION_RELOAD_MANAGER"),
            Some("1")
        );
        wanted.reload = Reload::Never;
        assert_eq!(
            gather(&wanted)
                .unwrap()
                .release
                .get("EXTENSION_RELOAD_MANAGER"),
            None
        );
    }

    #[test]
    fn refuses_what_systemd_would_not_merge() {
        assert_eq!(refusal(&wanted(&[("/etc/x", "")])), "outside-hierarchy");
        assert_eq!(
            refusal(&wanted(&[("/usr/lib/os-release", "")])),
            "os-release-inside"
        );
        assert_eq!(refusal(&wanted(&[])), "empty-extension");
        let other = wanted(&[(
            "/usr/lib/extension-release.d/extension-release.x",
            "ID=_any",
        )]);
        assert_eq!(refusal(&other), "foreign-release-file");
        assert_eq!(refusal(&wanted(&[("/opt", "")])), "hierarchy-not-a-folder");
        assert_eq!(
            refusal(&wanted(&[("/usr/a", "1"), ("/usr/a", "2")])),
            "content-conflict"
        );
    }

    #[test]
    fn a_configuration_extension_is_etc_and_nothing_else() {
        let confext = |path| ContentPlan {
            kind: ExtensionKind::Confext,
            ..wanted(&[(path, "")])
        };
        let content = gather(&confext("/etc/systemd/system/a.service")).unwrap();
        let release = b"etc/extension-release.d/extension-release.tools";
        assert!(content.tree.lookup(release).is_some());
        assert_eq!(content.release.get("EXTENSION_RELOAD_MANAGER"), Some("1"));
        assert_eq!(refusal(&confext("/usr/lib/x")), "outside-hierarchy");
        assert_eq!(refusal(&confext("/etc")), "hierarchy-not-a-folder");
        let foreign = confext("/etc/extension-release.d/extension-release.x");
        assert_eq!(refusal(&foreign), "foreign-release-file");
    }

    #[test]
    fn a_release_file_of_the_content_must_agree() {
        let path = "/usr/lib/extension-release.d/extension-release.tools";
        let agreeing = wanted(&[
            ("/usr/a", ""),
            (path, "ID=azurelinux\nSYSEXT_IMAGE_ID=mine\n"),
        ]);
        let release = gather(&agreeing).unwrap().release;
        assert_eq!(release.get("SYSEXT_IMAGE_ID"), Some("mine"));
        assert_eq!(release.get("VERSION_ID"), Some("3.0"));
        assert_eq!(
            refusal(&wanted(&[("/usr/a", ""), (path, "ID=debian\n")])),
            "release-file-disagrees"
        );
    }

    #[test]
    fn expect_and_forbid() {
        let mut wanted = wanted(&[("/usr/local/bin/a", "")]);
        wanted.expect = vec!["/usr/local/bin/*".into()];
        assert!(gather(&wanted).is_ok());
        wanted.expect = vec!["/usr/bin/*".into()];
        assert_eq!(refusal(&wanted), "expected-path-missing");
        wanted.expect.clear();
        wanted.forbid = vec!["/usr/local/**".into()];
        assert_eq!(refusal(&wanted), "forbidden-path");
        wanted.forbid.clear();
        wanted.path_links = vec!["b".into()];
        assert_eq!(refusal(&wanted), "program-missing");
    }
}
