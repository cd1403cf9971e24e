//! What goes into an extension that is built: the user's tree and files, the
//! release file, links for PATH; and the rules that content must keep.

mod files;
mod forbidden;
mod path_links;
mod release;

use crate::config::model::Reload;
use crate::finding::Finding;
use crate::io::open;
use crate::plan::content::{ArchivePlan, ContentPlan, ContentSource};
use crate::plan::repair::tree_of;
use crate::systemd::release_file::ReleaseFields;
use crate::tree::collect::collect;
use crate::tree::tar_read::Layers;
use crate::tree::{Tree, collect, oci};
use files::{add_file, tops};
use forbidden::forbidden;
use path_links::link_program;
use release::place_release;

pub(crate) use files::check_tree;

/// Folders in which systemd looks for units, as far as they lie in an extension.
const UNIT_DIRS: &[&str] = &[
    "usr/lib/systemd/system/",
    "usr/lib/systemd/user/",
    "usr/local/lib/systemd/system/",
    "etc/systemd/system/",
    "etc/systemd/user/",
];

/// The tree of an extension, complete.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// Everything, release file included.
    pub tree: Tree,
    /// The release file as it stands in the tree.
    pub release: ReleaseFields,
    /// What was noticed on the way.
    pub findings: Vec<Finding>,
}

/// Brings everything together, or says all that is wrong with it.
pub(crate) fn gather(wanted: &ContentPlan) -> Result<Content, Vec<Finding>> {
    let mut errors = Vec::new();
    let mut findings = Vec::new();
    let mut tree = match &wanted.source {
        ContentSource::Tree(folder) => {
            let at_tree = format!("{}.tree", wanted.at);
            check_tree(folder, wanted.kind).map_err(|finding| vec![finding.at(&at_tree)])?;
            let options = collect::Options {
                keep_owners: wanted.keep_owners,
            };
            let collected = collect(folder, &options).map_err(|found| at(found.0, &at_tree))?;
            findings.extend(at(collected.findings, &at_tree));
            collected.tree
        }
        ContentSource::Archive(archive) => {
            let (tree, notes) = unpack(archive).map_err(|finding| vec![finding])?;
            findings.extend(at(notes, &wanted.at));
            tree
        }
        ContentSource::Oci(archive, arch) => {
            let found = oci::read(&archive.path, *arch, &archive.pick);
            let (tree, notes) = found.map_err(|finding| vec![finding])?;
            findings.extend(at(notes, &wanted.at));
            tree
        }
        ContentSource::Image(image) => {
            let found = tree_of(image, wanted.kind);
            let (tree, notes) = found.map_err(|finding| at(vec![finding], &wanted.at))?;
            findings.extend(at(notes, &wanted.at));
            tree
        }
        ContentSource::FilesOnly => Tree::new(),
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
    for (index, link) in wanted.links.iter().enumerate() {
        let path = link.path.trim_start_matches('/');
        if let Err(error) = tree.insert_symlink(path.as_bytes(), link.target.as_bytes()) {
            let finding = Finding::error("content-conflict", error.to_string());
            errors.push(finding.at(format!("{}.links[{index}]", wanted.at)));
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
    errors.extend(wanted.limits.paths(paths, &wanted.at));
    if errors.is_empty() {
        Ok(Content {
            tree,
            release,
            findings,
        })
    } else {
        Err(errors)
    }
}

fn unpack(archive: &ArchivePlan) -> Result<(Tree, Vec<Finding>), Finding> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::LinkEntry;
    use crate::finding::Place;
    use crate::plan::content::{FileContent, FilePlan};
    use crate::systemd::kind::ExtensionKind;
    use crate::tree::Kind;

    fn wanted(files: &[(&str, &str)]) -> ContentPlan {
        let mut release = ReleaseFields::new();
        release.set("ID", "azurelinux");
        release.set("VERSION_ID", "3.0");
        let at = "sysext.extensions[0]".to_owned();
        let source = ContentSource::FilesOnly;
        ContentPlan {
            files: files
                .iter()
                .map(|(destination, text)| FilePlan {
                    content: FileContent::Bytes(text.as_bytes().to_vec()),
                    destination: (*destination).to_owned(),
                    permissions: Some(0o755),
                })
                .collect(),
            release,
            ..ContentPlan::new(at, "tools".to_owned(), ExtensionKind::Sysext, source)
        }
    }

    fn refusal(wanted: &ContentPlan) -> &'static str {
        gather(wanted).unwrap_err()[0].id
    }

    #[test]
    fn adds_the_release_file_and_links() {
        let mut wanted = wanted(&[("/usr/local/bin/kubectl", "x"), ("/opt/t/run", "y")]);
        wanted.path_links = vec!["kubectl".into(), "run".into()];
        let link = |path: &str, target: &str| LinkEntry {
            path: path.to_owned(),
            target: target.to_owned(),
        };
        wanted.links = vec![link("/usr/lib/t/newest", "../../../opt/t")];
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
        assert_eq!(target("usr/lib/t/newest"), "../../../opt/t");
        wanted.links = vec![link("/opt/t/run", "elsewhere")];
        let refused = gather(&wanted).unwrap_err();
        assert_eq!(refused[0].id, "content-conflict");
        let place = Place::Yaml("sysext.extensions[0].links[0]".to_owned());
        assert_eq!(refused[0].place, Some(place));
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
        wanted.limits.expect = vec!["/usr/local/bin/*".into()];
        assert!(gather(&wanted).is_ok());
        wanted.limits.expect = vec!["/usr/bin/*".into()];
        assert_eq!(refusal(&wanted), "expected-path-missing");
        wanted.limits.expect.clear();
        wanted.limits.forbid = vec!["/usr/local/**".into()];
        assert_eq!(refusal(&wanted), "forbidden-path");
        wanted.limits.forbid.clear();
        wanted.path_links = vec!["b".into()];
        assert_eq!(refusal(&wanted), "program-missing");
    }
}
