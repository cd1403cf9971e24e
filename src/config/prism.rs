//! The parts of Prism's config that bear on extensions.
//!
//! Everything else of the file is Prism's business: it is carried, not
//! interpreted, and unknown keys are not ours to refuse here.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Prism's sections as far as we read them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prism {
    /// Where the base image comes from.
    #[serde(default)]
    pub input: Option<Input>,
    /// The customization of the OS.
    #[serde(default)]
    pub os: Option<Os>,
    /// Scripts that run during customization.
    #[serde(default)]
    pub scripts: Option<Scripts>,
    /// Configs that this one builds on.
    #[serde(default)]
    pub base_configs: Option<Vec<BaseConfig>>,
}

/// `input`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The base image.
    #[serde(default)]
    pub image: Option<InputImage>,
}

/// `input.image`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputImage {
    /// A disk image.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// An image published by Azure Linux.
    #[serde(default)]
    pub azure_linux: Option<AzureLinux>,
}

/// `input.image.azureLinux`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureLinux {
    /// Version such as `3.0`.
    #[serde(default)]
    pub version: Option<String>,
}

/// `os`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Os {
    /// Files that Prism copies into the image.
    #[serde(default)]
    pub additional_files: Option<Vec<AdditionalFile>>,
    /// Services that Prism enables or disables.
    #[serde(default)]
    pub services: Option<Services>,
    /// Overlays that Prism adds to fstab.
    #[serde(default)]
    pub overlays: Option<Vec<Overlay>>,
}

/// One item of `os.additionalFiles`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdditionalFile {
    /// File to copy.
    #[serde(default)]
    pub source: Option<String>,
    /// Content of the file.
    #[serde(default)]
    pub content: Option<String>,
    /// Path in the image.
    #[serde(default)]
    pub destination: Option<String>,
}

/// `os.services`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    /// Units to enable.
    #[serde(default)]
    pub enable: Option<Vec<Option<String>>>,
    /// Units to disable.
    #[serde(default)]
    pub disable: Option<Vec<Option<String>>>,
}

/// One item of `os.overlays`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overlay {
    /// Where the overlay is mounted.
    #[serde(default)]
    pub mount_point: Option<String>,
}

/// `scripts`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scripts {
    /// Scripts that run before SELinux labels are set.
    #[serde(default)]
    pub post_customization: Option<Vec<Script>>,
    /// Scripts that run last.
    #[serde(default)]
    pub finalize_customization: Option<Vec<Script>>,
}

/// One script.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Script {
    /// Its text.
    #[serde(default)]
    pub content: Option<String>,
    /// A file beside the config.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// One item of `baseConfigs`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseConfig {
    /// The other config.
    #[serde(default)]
    pub path: Option<PathBuf>,
}
