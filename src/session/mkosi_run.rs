//! Runs the real mkosi where a configuration asks for more than copying files.
//!
//! mkosi works in a fresh folder, so what it makes is told from what was there;
//! its image then gets its place at once. What it is made of is mkosi's affair:
//! neither its scripts nor the packages it fetches are known here.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::Config;
use crate::config::model::MadeByMkosi;
use crate::finding::Finding;

/// Whether an extension of the config is made by mkosi itself.
pub(super) fn is_needed(config: &Config) -> bool {
    made(config).next().is_some()
}

/// What is needed of mkosi for images that are not there.
pub(super) fn missing(config: &Config) -> Vec<Finding> {
    let all = made(config);
    all.filter(|(_, image, _)| !image.exists())
        .map(|(at, _, made)| made.needed.clone().at(at))
        .collect()
}

/// Builds all images that need mkosi, or those whose names are in `only`. `path` is a list of folders
/// like `PATH`.
pub(super) fn build(config: &Config, only: &[String], path: Option<&OsStr>) -> Result<(), Finding> {
    for (at, image, made) in made(config) {
        let name = image.file_stem().and_then(OsStr::to_str);
        if !only.is_empty() && !only.iter().any(|it| Some(it.as_str()) == name) {
            continue;
        }
        let found = path.into_iter().flat_map(std::env::split_paths);
        let program = found.map(|dir| dir.join("mkosi")).find(|it| it.is_file());
        let program = program.ok_or_else(|| made.needed.clone().at(&at))?;
        run(&program, made, &image).map_err(|message| {
            Finding::error("mkosi-failed", message)
                .at(&at)
                .help("what mkosi said stands above")
        })?;
    }
    Ok(())
}

/// Place in the config, image, and what makes it.
fn made(config: &Config) -> impl Iterator<Item = (String, PathBuf, &MadeByMkosi)> {
    let extensions = config.sysext.iter().flat_map(|sysext| &sysext.extensions);
    extensions.enumerate().filter_map(|(index, extension)| {
        let made = extension.made_by_mkosi.as_ref()?;
        let image = config.resolve(&extension.image.as_ref()?.path);
        Some((format!("sysext.extensions[{index}].mkosi"), image, made))
    })
}

fn run(program: &Path, made: &MadeByMkosi, image: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| format!("running mkosi: {error}");
    let folder = image.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(text)?;
    let fresh = tempfile::tempdir_in(folder).map_err(text)?;
    // It changes to its own folder, so this one can't be relative.
    let output = fresh.path().canonicalize().map_err(text)?;
    // Standard output is for our own result.
    let errors = std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map_err(text)?;
    let status = Command::new(program)
        .arg("--directory")
        .arg(&made.folder)
        .arg("--output-directory")
        .arg(&output)
        .args(["--force", "build"])
        .stdin(Stdio::null())
        .stdout(errors)
        .status()
        .map_err(text)?;
    if !status.success() {
        return Err(format!(
            "mkosi failed on {}: {status}",
            made.folder.display()
        ));
    }
    let name = image.file_name().unwrap_or_default();
    let expected = output.join(name);
    if !expected
        .symlink_metadata()
        .is_ok_and(|found| found.is_file())
    {
        return Err(format!("mkosi made no {}", name.to_string_lossy()));
    }
    std::fs::rename(&expected, image).map_err(text)
}
