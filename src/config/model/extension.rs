//! One extension: where its content comes from and how it is built.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::content::{ArchiveSource, FileEntry, ImageSource, LinkEntry};
use super::format::Format;
use super::release::Release;
use super::repair::{Repair, RepairValue};
use super::signing::{KeyReference, Signer};
use crate::config::editor::{OrText, Size, WordOrSwitch};
use crate::config::model::format::Delivery;
use crate::config::model::signing::VerityMode;
use crate::config::shorthand;
use crate::config::shorthand::{scalar_or_map_option, scalars_or_maps};
use crate::finding::Finding;
use crate::systemd::kind::ExtensionKind;

/// One extension: exactly one of `image`, `tree`/`files`, `tar`, `oci`, `mkosi`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Extension {
    /// Name of the extension: `NAME.raw`, `extension-release.NAME` and `SYSEXT_ID`.
    #[serde(default)]
    #[schemars(example = &"custom-tools")]
    pub name: Option<String>,
    /// Version, recorded as `SYSEXT_VERSION_ID`.
    #[serde(default)]
    #[schemars(example = &"1.0.0")]
    pub version: Option<String>,
    /// Names image and release file `NAME_VERSION` instead of `NAME`.
    #[serde(default)]
    pub versioned_name: bool,
    /// A prebuilt image.
    #[serde(default, deserialize_with = "scalar_or_map_option")]
    #[schemars(with = "Option<OrText<ImageSource>>")]
    pub image: Option<ImageSource>,
    /// A folder that holds `usr/` and/or `opt/`.
    #[serde(default)]
    pub tree: Option<PathBuf>,
    /// Single files and folders: `SOURCE:DESTINATION`, or the fields of Prism's `additionalFiles`.
    #[serde(default, deserialize_with = "scalars_or_maps")]
    #[schemars(with = "Vec<OrText<FileEntry>>")]
    pub files: Vec<FileEntry>,
    /// A tar archive: plain, or compressed by gzip, xz or zstd.
    #[serde(default, deserialize_with = "scalar_or_map_option")]
    #[schemars(with = "Option<OrText<ArchiveSource>>", example = &"rootfs.tar.zst")]
    pub tar: Option<ArchiveSource>,
    /// A container image: an OCI layout, as a folder or as a tar archive of it.
    #[serde(default, deserialize_with = "scalar_or_map_option")]
    #[schemars(with = "Option<OrText<ArchiveSource>>", example = &"./layout")]
    pub oci: Option<ArchiveSource>,
    /// A `mkosi.conf`, or the folder that holds it; keys beside it win over its settings.
    #[serde(default)]
    pub mkosi: Option<PathBuf>,
    /// System extension (`/usr`, `/opt`) or configuration extension (`/etc`).
    #[serde(default)]
    pub kind: ExtensionKind,
    /// Architecture by systemd's name, or `any`. Default: the base's.
    #[serde(default)]
    #[schemars(example = &"x86-64", example = &"arm64", example = &"any")]
    pub arch: Option<String>,
    /// File system of the image.
    #[serde(default)]
    pub format: Format,
    /// Compression of the file system: `none`, `lz4` (smaller, mounted by every kernel that has
    /// EROFS with compression), `lz4hc` (the same after a longer search), `zstd` or `zstd:LEVEL`
    /// (smaller still, since Linux 6.10), or `auto`: `lz4` where the base mounts it, else `none`.
    #[serde(default)]
    #[schemars(extend("examples" = ["none", "lz4", "lz4hc", "zstd", "zstd:19"], "default" = "auto"), regex(pattern = r"^(auto|none|lz4|lz4hc|zstd(:([1-9]|1[0-9]|2[0-2]))?)$"))]
    pub compression: Option<String>,
    /// In which form it is delivered. `bare` and `directory` have no room for a hash tree.
    #[serde(default)]
    pub layout: Delivery,
    /// How the image is protected. Default: `signed` when there is a key.
    #[serde(default)]
    #[schemars(with = "WordOrSwitch")]
    pub verity: Option<VerityMode>,
    /// Private key for this extension alone.
    #[serde(default)]
    pub verity_key: Option<KeyReference>,
    /// Passphrase of that key.
    #[serde(default)]
    pub verity_key_passphrase: Option<KeyReference>,
    /// Certificate for this extension alone.
    #[serde(default)]
    pub verity_certificate: Option<PathBuf>,
    /// Signing command for this extension alone.
    #[serde(default)]
    pub signer: Option<Signer>,
    /// What the extension declares to be compatible with. Default: the base.
    #[serde(default)]
    pub release: Release,
    /// Whether systemd reloads its units after the merge. `auto`: when the content holds units.
    #[serde(default)]
    pub reload: Reload,
    /// Programs of this extension that get a relative link in `/usr/bin`.
    #[serde(default)]
    #[schemars(example = vec!["kubectl"])]
    pub path_links: Vec<String>,
    /// Symbolic links that are added.
    #[serde(default)]
    pub links: Vec<LinkEntry>,
    /// Path globs that must match something in the extension.
    #[serde(default)]
    #[schemars(example = vec!["/usr/local/bin/*"])]
    pub expect: Vec<String>,
    /// Path globs that must match nothing in the extension.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Most bytes that the image may have; K, M and G are for 1024 of the smaller.
    #[serde(default, deserialize_with = "shorthand::size")]
    #[schemars(with = "Option<Size>", example = &"64M")]
    pub max_size: Option<u64>,
    /// Whether a prebuilt image may be rebuilt to make it work: `auto`, or `{except: […]}` for all but
    /// some changes. One pinned by `sha256` never is.
    #[serde(default)]
    #[schemars(with = "RepairValue", example = &"auto")]
    pub repair: Repair,
    /// Whether `repair: auto` may replace the signature of a signed image.
    #[serde(default)]
    pub resign: bool,
    /// Keeps the owners of `tree` instead of 0:0.
    #[serde(default)]
    pub keep_owners: bool,
    /// Replaces the seed from which all identifiers derive: 64 hex digits.
    #[serde(default)]
    pub seed: Option<String>,
    /// Time stamp of its files, in seconds since 1970. Default: that of the run.
    #[serde(default)]
    pub source_date_epoch: Option<u64>,
    /// Set where `mkosi` asks for more than can be read, so that mkosi has to make `image`.
    #[serde(skip)]
    pub made_by_mkosi: Option<MadeByMkosi>,
}

/// A configuration that only mkosi itself can build.
#[derive(Debug, Clone)]
pub struct MadeByMkosi {
    /// The folder of its `mkosi.conf`, on this machine.
    pub folder: PathBuf,
    /// Why mkosi is needed, as an error for when it is not there.
    pub needed: Finding,
}

impl Extension {
    /// Name of the image and of the release file that are built, if there is a name.
    pub fn full_name(&self) -> Option<String> {
        let name = self.name.as_deref()?;
        Some(match (&self.version, self.versioned_name) {
            (Some(version), true) => format!("{name}_{version}"),
            _ => name.to_owned(),
        })
    }

    /// Everything that content is taken from; a valid extension has exactly one source.
    pub fn sources(&self) -> Vec<SourceKey<'_>> {
        let files = match &self.tree {
            Some(tree) => Some(SourceKey::Tree(tree)),
            None => (!self.files.is_empty()).then_some(SourceKey::Files),
        };
        let sources = [
            self.image.as_ref().map(SourceKey::Image),
            files,
            self.tar.as_ref().map(SourceKey::Tar),
            self.oci.as_ref().map(SourceKey::Oci),
            self.mkosi.as_ref().map(|_| SourceKey::Mkosi),
        ];
        sources.into_iter().flatten().collect()
    }
}

/// What the content of an extension is taken from.
#[derive(Debug, Clone, Copy)]
pub enum SourceKey<'a> {
    /// A prebuilt image.
    Image(&'a ImageSource),
    /// A folder, to which `files` may be added.
    Tree(&'a Path),
    /// Nothing but `files`.
    Files,
    /// A tar archive.
    Tar(&'a ArchiveSource),
    /// A container image.
    Oci(&'a ArchiveSource),
    /// A configuration of mkosi; its reading becomes one of the others.
    Mkosi,
}

impl SourceKey<'_> {
    /// The key, or keys, that name it.
    pub fn key(self) -> &'static str {
        match self {
            SourceKey::Image(_) => "image",
            SourceKey::Tree(_) | SourceKey::Files => "tree/files",
            SourceKey::Tar(_) => "tar",
            SourceKey::Oci(_) => "oci",
            SourceKey::Mkosi => "mkosi",
        }
    }
}

impl From<String> for Extension {
    fn from(path: String) -> Extension {
        Extension {
            image: Some(ImageSource::from(path)),
            ..Extension::default()
        }
    }
}

/// Whether systemd reloads its units after the merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// When the content holds units.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
