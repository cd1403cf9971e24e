//! The `sysext:` block as the user writes it, and its JSON schema.
//!
//! Doc comments here become the descriptions of the schema, so they speak to
//! the person who edits the YAML. Meaning beyond types is checked in
//! [`super::validate`].

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::editor::{OrText, Permissions, ProfileOrFacts, Size, WordOrSwitch};
use super::shorthand::{scalar_or_map_option, scalars_or_maps};
use crate::config::repair::RepairKind;
use crate::finding::Finding;
use crate::systemd::kind::ExtensionKind;

/// System extensions to build or take in, place, trust and switch on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sysext {
    /// The extensions, at least one. A plain string is the path of a prebuilt image.
    #[serde(deserialize_with = "scalars_or_maps")]
    #[schemars(with = "Vec<OrText<Extension>>", length(min = 1))]
    pub extensions: Vec<Extension>,
    /// The base OS when there is no root file system to read it from: a profile such as
    /// `azurelinux-3.0`, or the facts themselves.
    #[serde(default, deserialize_with = "scalar_or_map_option")]
    #[schemars(with = "ProfileOrFacts")]
    pub target: Option<Target>,
    /// Private key that signs the root hashes: `PATH`, `file:PATH`, or `env:NAME` of a variable
    /// that holds PEM text. Default for all extensions.
    #[serde(default)]
    #[schemars(example = &"env:VERITY_KEY", example = &"file:verity_key.pem")]
    pub verity_key: Option<KeyReference>,
    /// Passphrase of an encrypted key or PKCS#12 file: `env:NAME`, or `file:PATH` (its first line).
    #[serde(default)]
    #[schemars(example = &"env:VERITY_KEY_PASSPHRASE")]
    pub verity_key_passphrase: Option<KeyReference>,
    /// Certificate (PEM or DER) that belongs to `verityKey`. It is installed on the target.
    #[serde(default)]
    pub verity_certificate: Option<PathBuf>,
    /// A command that signs instead of `verityKey`.
    #[serde(default)]
    pub signer: Option<Signer>,
    /// Further certificates to trust, beside those of the signed extensions.
    #[serde(default, deserialize_with = "scalars_or_maps")]
    #[schemars(with = "Vec<OrText<CertificateEntry>>")]
    pub certificates: Vec<CertificateEntry>,
    /// Folder on the target that receives the images.
    #[serde(default)]
    pub location: Location,
    /// Folder on the target that receives the certificates.
    #[serde(default)]
    pub certificate_location: CertificateLocation,
    /// How `systemd-sysext.service` is enabled: by a script step, by `os.services`, or not at all.
    #[serde(default)]
    pub enable: Enable,
    /// Adds `systemctl start systemd-sysext.service` to the script step. It has no effect during
    /// customization, where systemctl ignores `start`.
    #[serde(default)]
    pub start: bool,
    /// Which images may be merged at boot: `default` (systemd's own policy), `signed`, or a
    /// policy in the syntax of systemd.image-policy(7).
    #[serde(default)]
    #[schemars(example = &"default", example = &"signed")]
    pub image_policy: ImagePolicy,
    /// What to do when Prism's `os.overlays` covers `/usr` or `/opt`.
    #[serde(default)]
    pub overlay_conflict: OverlayConflict,
    /// Path globs whose conflicts between layers are intended.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Folder for built images, relative to the config file.
    #[serde(default = "default_output_directory")]
    #[schemars(example = &".sysext")]
    pub output_directory: PathBuf,
}

fn default_output_directory() -> PathBuf {
    PathBuf::from(".sysext")
}

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
    pub layout: Layout,
    /// How the image is protected. Default: `signed` when there is a key.
    #[serde(default)]
    #[schemars(with = "WordOrSwitch")]
    pub verity: Option<Verity>,
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
    /// Path globs that must match something in the extension.
    #[serde(default)]
    #[schemars(example = vec!["/usr/local/bin/*"])]
    pub expect: Vec<String>,
    /// Path globs that must match nothing in the extension.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Most bytes that the image may have; K, M and G are for 1024 of the smaller.
    #[serde(default, deserialize_with = "super::shorthand::size")]
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

    /// Whether content comes from somewhere else than `mkosi`.
    pub fn has_other_source(&self) -> bool {
        let Extension {
            image,
            tree,
            files,
            tar,
            oci,
            ..
        } = self;
        image.is_some() || tree.is_some() || !files.is_empty() || tar.is_some() || oci.is_some()
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
    #[serde(default, deserialize_with = "super::shorthand::permissions")]
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

/// A certificate to trust on the target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateEntry {
    /// Certificate file, PEM or DER, relative to the config file.
    pub source: PathBuf,
    /// File name on the target; must end in `.crt`. Default: the source's stem with `.crt`.
    #[serde(default)]
    pub name: Option<String>,
    /// Trusts every certificate of a bundle, one file each.
    #[serde(default)]
    pub all: bool,
}

impl From<String> for CertificateEntry {
    fn from(source: String) -> CertificateEntry {
        CertificateEntry {
            source: source.into(),
            name: None,
            all: false,
        }
    }
}

/// The base OS: a profile name, or facts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// Editors show it for a wrong name and for a wrong key.
#[schemars(extend("errorMessage" = "Expected the name of a profile, or osRelease, systemd, kernelConfig and arch."))]
pub struct Target {
    /// Name of a built-in profile (the shorthand form).
    #[serde(skip)]
    pub profile: Option<String>,
    /// The base's os-release file.
    #[serde(default)]
    pub os_release: Option<PathBuf>,
    /// systemd version, for example `"255"` or `"255.4"`.
    #[serde(default)]
    pub systemd: Option<String>,
    /// The base's kernel configuration (`CONFIG_EROFS_FS=m` …).
    #[serde(default)]
    pub kernel_config: Option<PathBuf>,
    /// Architecture by systemd's name.
    #[serde(default)]
    pub arch: Option<String>,
}

impl From<String> for Target {
    fn from(profile: String) -> Target {
        Target {
            profile: Some(profile),
            ..Target::default()
        }
    }
}

/// An external signing command.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signer {
    /// Program and arguments. The bytes to sign come on its standard input, the raw signature is
    /// expected on its standard output. A program with a slash in its name is relative to the
    /// config file.
    #[schemars(example = vec!["./sign.sh"], length(min = 1))]
    pub command: Vec<String>,
    /// How long one try may take, in seconds.
    #[serde(default = "default_signer_seconds")]
    pub timeout_seconds: u32,
    /// How often a failure is tried again.
    #[serde(default = "default_signer_retries")]
    pub retries: u32,
}

fn default_signer_seconds() -> u32 {
    60
}

fn default_signer_retries() -> u32 {
    2
}

/// What the extension declares in its release file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// `ID=` of the base, or `_any` for every OS.
    #[serde(default)]
    #[schemars(example = &"azurelinux")]
    pub id: Option<String>,
    /// `VERSION_ID=` of the base.
    #[serde(default)]
    #[schemars(example = &"3.0")]
    pub version_id: Option<String>,
    /// `SYSEXT_LEVEL=` of the base.
    #[serde(default)]
    pub level: Option<String>,
    /// Where the extension may be merged. Default: `system`.
    #[serde(default)]
    pub scope: Vec<Scope>,
}

/// Where an extension may be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The booted system.
    System,
    /// The initrd.
    Initrd,
    /// A portable service.
    Portable,
}

impl Scope {
    /// The word in `SYSEXT_SCOPE=`.
    pub fn word(self) -> &'static str {
        match self {
            Scope::System => "system",
            Scope::Initrd => "initrd",
            Scope::Portable => "portable",
        }
    }
}

/// Reference to a private key; its text never shows the key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String", inline)]
pub enum KeyReference {
    /// A PEM file, relative to the config file.
    File(PathBuf),
    /// Name of an environment variable that holds PEM text.
    Env(String),
}

impl From<String> for KeyReference {
    fn from(text: String) -> KeyReference {
        if let Some(name) = text.strip_prefix("env:") {
            KeyReference::Env(name.to_owned())
        } else {
            KeyReference::File(text.strip_prefix("file:").unwrap_or(&text).into())
        }
    }
}

/// Folder on the target that receives the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum Location {
    /// `/var/lib/extensions`.
    #[default]
    #[serde(rename = "/var/lib/extensions")]
    Var,
    /// `/etc/extensions`.
    #[serde(rename = "/etc/extensions")]
    Etc,
}

impl Location {
    /// The absolute path.
    pub fn path(self) -> &'static str {
        match self {
            Location::Var => "/var/lib/extensions",
            Location::Etc => "/etc/extensions",
        }
    }
}

/// Folder on the target that receives the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum CertificateLocation {
    /// `/etc/verity.d`.
    #[default]
    #[serde(rename = "/etc/verity.d")]
    Etc,
    /// `/usr/lib/verity.d`.
    #[serde(rename = "/usr/lib/verity.d")]
    Usr,
    /// `/run/verity.d`, which is empty after every boot.
    #[serde(rename = "/run/verity.d")]
    Run,
}

impl CertificateLocation {
    /// The absolute path.
    pub fn path(self) -> &'static str {
        match self {
            CertificateLocation::Etc => "/etc/verity.d",
            CertificateLocation::Usr => "/usr/lib/verity.d",
            CertificateLocation::Run => "/run/verity.d",
        }
    }
}

/// How the service is enabled in the expanded config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enable {
    /// A named step of `scripts.postCustomization` that runs `systemctl enable`.
    #[default]
    Script,
    /// An item of `os.services.enable`.
    Service,
    /// Nothing: somebody else enables it.
    None,
}

/// Which images may be merged at boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String", inline)]
pub enum ImagePolicy {
    /// systemd's built-in policy, which admits unsigned images.
    #[default]
    Default,
    /// Signed images only.
    Signed,
    /// A policy in systemd's syntax.
    Literal(String),
}

impl From<String> for ImagePolicy {
    fn from(text: String) -> ImagePolicy {
        match text.as_str() {
            "default" => ImagePolicy::Default,
            "signed" => ImagePolicy::Signed,
            _ => ImagePolicy::Literal(text),
        }
    }
}

impl ImagePolicy {
    /// The value for `--image-policy=`, or none for systemd's default.
    pub fn text(&self) -> Option<&str> {
        match self {
            ImagePolicy::Default => None,
            ImagePolicy::Signed => Some("root=signed+absent:usr=signed+absent"),
            ImagePolicy::Literal(text) => Some(text),
        }
    }
}

/// What to do about an overlay of Prism on the same hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverlayConflict {
    /// Say so and go on.
    #[default]
    Warn,
    /// Say nothing.
    Ignore,
    /// Stop.
    Error,
}

/// File system of a built image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// EROFS, written by prism-sysext itself.
    #[default]
    Erofs,
    /// squashfs.
    Squashfs,
    /// ext4.
    Ext4,
}

/// In which form an extension is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A disk image with a partition table, `NAME.raw`.
    #[default]
    Image,
    /// A file system without a partition table, `NAME.raw`.
    Bare,
    /// A plain folder, `NAME`. For `apply` only.
    Directory,
}

impl Layout {
    /// The word in the YAML.
    pub fn word(self) -> &'static str {
        match self {
            Layout::Image => "image",
            Layout::Bare => "bare",
            Layout::Directory => "directory",
        }
    }

    /// Why there is no verity, where there can't be.
    pub fn without_verity(self) -> Option<&'static str> {
        match self {
            Layout::Image => None,
            Layout::Bare => {
                Some("a bare file system has no partitions for a hash tree and a signature")
            }
            Layout::Directory => Some("dm-verity protects block devices, and a folder is none"),
        }
    }

    /// The name on the target of an extension.
    pub fn file_name(self, name: &str) -> String {
        match self {
            Layout::Image | Layout::Bare => format!("{name}.raw"),
            Layout::Directory => name.to_owned(),
        }
    }
}

/// How an image is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verity {
    /// dm-verity with a signature.
    Signed,
    /// dm-verity with room for a signature that is made later.
    Defer,
    /// dm-verity without a signature.
    Hash,
    /// Nothing. `false` means the same.
    None,
}

impl Verity {
    /// The word in the YAML.
    pub fn word(self) -> &'static str {
        match self {
            Verity::Signed => "signed",
            Verity::Defer => "defer",
            Verity::Hash => "hash",
            Verity::None => "none",
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

/// Whether a prebuilt image may be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Repair {
    /// It is taken as it is.
    #[default]
    Never,
    /// It may be rebuilt so that it works, but for these changes.
    But(Vec<RepairKind>),
}

impl Repair {
    /// Whether it may be rebuilt.
    pub fn is_wanted(&self) -> bool {
        matches!(self, Repair::But(_))
    }

    /// What is left as it is.
    pub fn exceptions(&self) -> &[RepairKind] {
        match self {
            Repair::Never => &[],
            Repair::But(exceptions) => exceptions,
        }
    }
}

/// Repairs that are not wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Exceptions {
    /// What is left as it is in a repair.
    pub(super) except: Vec<RepairKind>,
}

/// Schema only: `repair` in a word, or with exceptions.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "exists for the JSON schema")]
pub(super) enum RepairValue {
    /// Whether.
    Word(RepairWord),
    /// All but some.
    Exceptions(Exceptions),
}

/// Schema only: `repair` in a word.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "exists for the JSON schema")]
pub(super) enum RepairWord {
    /// It is taken as it is.
    Never,
    /// It may be rebuilt so that it works.
    Auto,
}
