//! The two kinds of extensions, and what systemd calls each.

/// Which hierarchies an extension adds to.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ExtensionKind {
    /// A system extension: `/usr` and `/opt`.
    #[default]
    Sysext,
    /// A configuration extension: `/etc`.
    Confext,
}

impl ExtensionKind {
    /// The name in messages, units and suffixes.
    pub fn name(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "sysext",
            ExtensionKind::Confext => "confext",
        }
    }

    /// The top folders of an extension that are merged (systemd `src/sysext/sysext.c`,
    /// `image_class_info`).
    pub fn hierarchies(self) -> &'static [&'static str] {
        match self {
            ExtensionKind::Sysext => &["usr", "opt"],
            ExtensionKind::Confext => &["etc"],
        }
    }

    /// The same for a sentence.
    pub fn places(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "/usr and /opt",
            ExtensionKind::Confext => "/etc",
        }
    }

    /// What it is, for a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "system extension",
            ExtensionKind::Confext => "configuration extension",
        }
    }

    /// The unit that merges.
    pub fn unit(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "systemd-sysext.service",
            ExtensionKind::Confext => "systemd-confext.service",
        }
    }

    /// The program that merges.
    pub fn program(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "systemd-sysext",
            ExtensionKind::Confext => "systemd-confext",
        }
    }

    /// The folder of the release files inside an extension, without a leading slash.
    pub fn release_dir(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "usr/lib/extension-release.d",
            ExtensionKind::Confext => "etc/extension-release.d",
        }
    }

    /// The prefix of `_LEVEL`, `_SCOPE`, `_ID` and the like in release files.
    pub fn key_prefix(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "SYSEXT",
            ExtensionKind::Confext => "CONFEXT",
        }
    }
}
