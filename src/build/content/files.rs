//! The files and folders of the user in the tree of an extension.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::validate::{could_take_folder, inside_hierarchy};
use crate::finding::Finding;
use crate::plan::content::{ContentPlan, FileContent, FilePlan};
use crate::systemd::kind::ExtensionKind;
use crate::tree::collect::collect;
use crate::tree::{Source, Tree, TreeError, collect};

/// Whether the folder of an extension's content is there.
pub(crate) fn check_tree(folder: &Path, kind: ExtensionKind) -> Result<(), Finding> {
    let why = match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "it is not a folder".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("reading the tree {}: {why}", folder.display());
    let help = format!("name a folder with {}", tops(kind));
    Err(Finding::error("tree-unreadable", message).help(help))
}

/// Adds a file, or a folder with all that is in it; what was left out comes back as notes.
pub(super) fn add_file(
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

/// The folders at the top of an extension, for a sentence.
pub(super) fn tops(kind: ExtensionKind) -> String {
    let tops = kind.hierarchies().iter().map(|top| format!("{top}/"));
    tops.collect::<Vec<_>>().join(" or ")
}
