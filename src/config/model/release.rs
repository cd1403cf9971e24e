//! What an extension declares to be compatible with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
