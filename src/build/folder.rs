//! Extensions that are folders: built, or taken as they are.

use std::path::Path;

use anyhow::Context as _;
use rustix::fs::Mode;

use super::fields;
use crate::build::content::Content;
use crate::build::manifest::{Entry, Origin};
use crate::config::model::Delivery;
use crate::finding::{Finding, Findings};
use crate::io::atomic_folder::AtomicFolder;
use crate::io::progress::Progress;
use crate::plan::content::FileContent;
use crate::plan::ingest::PrebuiltFolder;
use crate::plan::{BuildStep, Plan, Planned};
use crate::systemd::release_file::ReleaseFields;
use crate::tree::collect::{Collected, Options, collect};
use crate::tree::folder;
use crate::tree::folder::{FolderError, owners};

/// Writes a folder beside its final name and gives it that name when it is complete.
pub(super) fn build_folder(
    plan: &Plan,
    extension: &Planned,
    step: &BuildStep,
    content: &Content,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let size = content.tree.content_size();
    may_replace(extension, step).map_err(Findings::from)?;
    let limits = &step.content.limits;
    if let Some(finding) = limits.size(size, || content.tree.files(), &extension.at) {
        return Err(Findings::from(finding).into());
    }
    progress.begin(format!("building {}", extension.name), size);
    let writing = || format!("writing the folder {}", extension.image.display());
    let staged = AtomicFolder::create(&extension.image).with_context(writing)?;
    let epoch = step.epoch.unwrap_or(plan.epoch);
    let written = folder::write(&content.tree, staged.folder(), epoch, progress);
    written.map_err(|error| match error {
        FolderError::Owner { .. } => Findings::from(owners(&error).at(&extension.at)).into(),
        other => anyhow::Error::from(other).context(writing()),
    })?;
    rustix::fs::fchmod(staged.folder(), Mode::from_raw_mode(0o755)).with_context(writing)?;
    staged.commit().with_context(writing)?;
    Ok(folder_entry(
        extension,
        Origin::Built,
        size,
        &content.release,
    ))
}

/// What is replaced goes with all that is in it, so it must be the folder of an earlier build, and
/// nothing of what is built now may lie in it.
fn may_replace(extension: &Planned, step: &BuildStep) -> Result<(), Finding> {
    let Ok(there) = extension.image.canonicalize() else {
        return Ok(());
    };
    let wanted = &step.content;
    let files = wanted.files.iter().filter_map(|file| match &file.content {
        FileContent::Path(path) => Some(path.as_path()),
        FileContent::Bytes(_) => None,
    });
    let mut sources = wanted.source.path().into_iter().chain(files);
    let holds = |source: &Path| {
        let source = source.canonicalize();
        source.is_ok_and(|source| source.starts_with(&there))
    };
    let release = wanted.kind.release_dir();
    let release = there
        .join(release)
        .join(format!("extension-release.{}", wanted.name));
    let is_empty = || std::fs::read_dir(&there).is_ok_and(|mut entries| entries.next().is_none());
    if !sources.any(holds) && (release.symlink_metadata().is_ok() || is_empty()) {
        return Ok(());
    }
    let message = format!(
        "{} is there already and was not built as this extension",
        extension.image.display()
    );
    let finding = Finding::error("would-overwrite", message).at(&extension.at);
    Err(finding.help("remove or move it, or name another folder with `outputDirectory`"))
}

/// What a folder that is taken as it is holds, or all that is wrong with it.
pub(super) fn gather_folder(taken: &PrebuiltFolder, at: &str) -> Result<Collected, Vec<Finding>> {
    let options = Options {
        keep_owners: taken.keep_owners,
    };
    let collected = collect(&taken.path, &options).map_err(|found| found.0)?;
    let paths = collected.tree.walk();
    let paths = paths.map(|(path, ..)| format!("/{}", String::from_utf8_lossy(&path)));
    let mut unmet = taken.limits.paths(paths, at);
    let size = collected.tree.content_size();
    unmet.extend(taken.limits.size(size, || collected.tree.files(), at));
    match unmet.is_empty() {
        true => Ok(collected),
        false => Err(unmet),
    }
}

pub(super) fn folder_entry(
    extension: &Planned,
    origin: Origin,
    size: u64,
    release: &ReleaseFields,
) -> Entry {
    Entry {
        name: extension.name.clone(),
        kind: extension.kind,
        image: extension.name.clone(),
        layout: Delivery::Directory,
        destination: extension.destination.clone(),
        origin,
        size,
        sha256: None,
        sha384: None,
        beside: Vec::new(),
        unpacked_from: None,
        format: None,
        verity: None,
        root_hash: None,
        certificate_fingerprint: None,
        repaired: None,
        release: fields(release),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use crate::build::manifest::Origin;
    use crate::build::testing::{built, ids, planned};
    use crate::io::open::testing::write;

    const SECTION: &str = "  extensions:\n  - {name: a, layout: directory, files: [{content: hello, destination: /usr/share/a}]}\n";

    #[test]
    fn a_folder_replaces_that_of_an_earlier_build_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(dir.path(), SECTION);
        let out = dir.path().join("out/a");
        for _ in 0..2 {
            let made = built(&plan).unwrap();
            let entry = &made.images[0].entry;
            assert_eq!((entry.origin, entry.image.as_str()), (Origin::Built, "a"));
            assert_eq!(
                (entry.root_hash.is_some(), entry.sha256.is_some()),
                (false, false)
            );
            assert_eq!(fs::read(out.join("usr/share/a")).unwrap(), b"hello");
            assert!(
                out.join("usr/lib/extension-release.d/extension-release.a")
                    .is_file()
            );
            assert!(!out.join("old").exists());
            assert_eq!(
                fs::metadata(&out).unwrap().permissions().mode() & 0o7777,
                0o755
            );
            write(&out, "old", "of an earlier build");
        }
        assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_was_not_built_is_not_replaced() {
        let release = "usr/lib/extension-release.d/extension-release.";
        for (there, in_the_way) in [
            (None, false),
            (Some(("a", "x")), true),
            (Some((&*format!("{release}a"), "ID=x")), false),
            (Some((&*format!("{release}b"), "ID=x")), true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("out/a")).unwrap();
            if let Some((path, text)) = there {
                write(&dir.path().join("out/a"), path, text);
            }
            match built(&planned(dir.path(), SECTION)) {
                Ok(_) => assert!(!in_the_way, "{there:?}"),
                Err(error) => {
                    assert_eq!((ids(error), in_the_way), (vec!["would-overwrite"], true));
                    let (path, text) = there.unwrap();
                    assert_eq!(
                        fs::read_to_string(dir.path().join("out/a").join(path)).unwrap(),
                        text
                    );
                }
            }
        }
    }

    #[test]
    fn a_folder_is_not_replaced_by_what_is_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out/a");
        write(
            &out,
            "usr/lib/extension-release.d/extension-release.a",
            "ID=x",
        );
        write(&out, "usr/share/a", "x");
        write(&out, "inner/usr/share/a", "x");
        for source in [
            "tree: out/a/inner",
            "files: [{source: out/a/usr/share/a, destination: /usr/share/b}]",
        ] {
            let section = format!("  extensions:\n  - {{name: a, layout: directory, {source}}}\n");
            let error = built(&planned(dir.path(), &section)).unwrap_err();
            assert_eq!(ids(error), ["would-overwrite"], "{source}");
            assert_eq!(fs::read(out.join("usr/share/a")).unwrap(), b"x");
        }
    }

    #[test]
    fn limits_hold_for_folders_that_are_built_or_taken() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        write(
            &taken,
            "usr/lib/extension-release.d/extension-release.a",
            "ID=azurelinux\n",
        );
        write(&taken, "usr/share/a", "hello");
        for (limit, expected) in [
            ("maxSize: 1M", None),
            ("maxSize: 3", Some("too-large")),
            ("expect: [/usr/share/a]", None),
            ("expect: [/opt/*]", Some("expected-path-missing")),
            ("forbid: [/opt/*]", None),
            ("forbid: [/usr/share/*]", Some("forbidden-path")),
        ] {
            for extension in [
                "name: a, layout: directory, files: [{content: hello, destination: /usr/share/a}]",
                "image: taken",
            ] {
                let section = format!("  extensions:\n  - {{{extension}, {limit}}}\n");
                let found = built(&planned(dir.path(), &section)).err().map(ids);
                assert_eq!(found, expected.map(|id| vec![id]), "{extension} {limit}");
            }
        }
        let plan = planned(dir.path(), "  extensions: [{image: taken}]\n");
        let entry = &built(&plan).unwrap().images[0].entry;
        assert_eq!((entry.origin, entry.size), (Origin::TakenIn, 5 + 14));
        assert_eq!(entry.release["ID"], "azurelinux");
    }
}
