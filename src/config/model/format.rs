//! File system of an image and the form in which it is delivered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
#[schemars(rename = "Layout")]
pub enum Delivery {
    /// A disk image with a partition table, `NAME.raw`.
    #[default]
    Image,
    /// A file system without a partition table, `NAME.raw`.
    Bare,
    /// A plain folder, `NAME`. For `apply` only.
    Directory,
}

impl Delivery {
    /// The word in the YAML.
    pub fn word(self) -> &'static str {
        match self {
            Delivery::Image => "image",
            Delivery::Bare => "bare",
            Delivery::Directory => "directory",
        }
    }

    /// Why there is no verity, where there can't be.
    pub fn without_verity(self) -> Option<&'static str> {
        match self {
            Delivery::Image => None,
            Delivery::Bare => {
                Some("a bare file system has no partitions for a hash tree and a signature")
            }
            Delivery::Directory => Some("dm-verity protects block devices, and a folder is none"),
        }
    }

    /// The name on the target of an extension.
    pub fn file_name(self, name: &str) -> String {
        match self {
            Delivery::Image | Delivery::Bare => format!("{name}.raw"),
            Delivery::Directory => name.to_owned(),
        }
    }
}
