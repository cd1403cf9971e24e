//! What the content of an extension is taken from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::editor::Permissions;
use crate::config::shorthand;

/// A prebuilt image.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSource {
    /// Path of the image, relative to the config file.
    pub path: PathBuf,
    /// SHA-256 that the image must have, 64 hex digits.
    #[serde(default)]
    pub sha256: Option<String>,
}

impl From<String> for ImageSource {
    fn from(path: String) -> ImageSource {
        ImageSource {
            path: path.into(),
            sha256: None,
        }
    }
}

/// An archive and what of it is taken.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveSource {
    /// Path of the archive, relative to the config file.
    pub path: PathBuf,
    /// Path globs of what is taken, with all below; everything if there is none.
    #[serde(default)]
    #[schemars(example = vec!["/usr", "/opt"])]
    pub include: Vec<String>,
    /// Path globs of what is left out, with all below.
    #[serde(default)]
    #[schemars(example = vec!["/usr/share/doc"])]
    pub exclude: Vec<String>,
    /// How many folders are taken off the front of each path.
    #[serde(default)]
    pub strip: u8,
}

impl From<String> for ArchiveSource {
    fn from(path: String) -> ArchiveSource {
        ArchiveSource {
            path: path.into(),
            ..ArchiveSource::default()
        }
    }
}

/// A symbolic link of an extension.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkEntry {
    /// Absolute path of the link inside the extension.
    #[schemars(example = &"/usr/bin/tool")]
    pub path: String,
    /// What it leads to, as it is written into the link; a relative one begins at the link's folder.
    #[schemars(example = &"../lib/tool/tool")]
    pub target: String,
}

/// One file of an extension.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileEntry {
    /// File or folder to copy, relative to the config file.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// Content of the file.
    #[serde(default)]
    pub content: Option<String>,
    /// Absolute path inside the extension. That of a folder may be `/`.
    #[serde(default)]
    pub destination: Option<String>,
    /// Octal mode. Default: 755 if the source is executable, else 644.
    #[serde(default, deserialize_with = "shorthand::permissions")]
    #[schemars(with = "Option<Permissions>")]
    pub permissions: Option<u16>,
}

impl From<String> for FileEntry {
    /// mkosi's `ExtraTrees=` form: `SOURCE:DESTINATION`, or a source alone that is refused later
    /// because it has no destination below `/usr` or `/opt`.
    fn from(text: String) -> FileEntry {
        let (source, destination) = match text.split_once(':') {
            Some((source, destination)) => (source.to_owned(), Some(destination.to_owned())),
            None => (text, None),
        };
        FileEntry {
            source: Some(source.into()),
            content: None,
            destination,
            permissions: None,
        }
    }
}
