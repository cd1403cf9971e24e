//! Where things lie on the target, and what is switched on there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
