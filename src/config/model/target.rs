//! The base OS as the user describes it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

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
