//! What each object of a Prism config may hold: names, types and since when, as data.
//!
//! Taken from Prism 1.7.0 (microsoft/azure-linux-image-tools, `toolkit/tools/imagecustomizerapi`), one table per Go struct.
//! Where its published schema and its code differ, the code counts.

mod files;
mod input;
mod media;
mod os;
mod output;
mod scripts;
mod storage;
mod users;
mod verity;

use input::{BASE_CONFIG, INPUT};
use media::{ISO, PXE};
use os::OS;
use output::OUTPUT;
use scripts::SCRIPTS;
use storage::STORAGE;

/// A version of Prism, such as 1.2.
pub(crate) type Version = (u32, u32);

/// The version that the tables and rules are of.
pub(crate) const NEWEST: Version = (1, 7);

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any scalar; its text counts.
    Text,
    /// Text that is not empty.
    Filled,
    /// `true` or `false`.
    Switch,
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// One of these words; empty counts as absent.
    Word(&'static [&'static str]),
    /// Octal permission bits.
    Permissions,
    /// A size such as `512M`.
    Size,
    /// A size, or `grow`.
    SizeOrGrow,
    /// The type of a partition: a word or a UUID.
    PartitionType,
    /// Names and texts.
    Texts,
    /// A list.
    List(&'static Kind),
    /// An object.
    Object(&'static Object),
}

/// An object.
#[derive(Debug)]
pub(crate) struct Object {
    /// Its name in Prism's documentation.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Fields that have to be there.
    pub required: &'static [&'static str],
    /// Of each group at most one is there.
    pub exclusive: &'static [&'static [&'static str]],
    /// Of each group at least one is there.
    pub one_of: &'static [&'static [&'static str]],
    /// The field that a plain scalar stands for.
    pub scalar: Option<&'static str>,
}

/// A field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// The first version that knows it.
    pub since: Version,
    /// The preview feature that has to be switched on.
    pub preview: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
}

const fn field(name: &'static str, kind: Kind, since: Version, about: &'static str) -> Field {
    Field {
        name,
        kind,
        since,
        preview: None,
        about,
    }
}

impl Field {
    const fn preview(self, feature: &'static str) -> Field {
        Field {
            preview: Some(feature),
            ..self
        }
    }
}

const OBJECT: Object = Object {
    name: "",
    about: "",
    fields: &[],
    required: &[],
    exclusive: &[],
    one_of: &[],
    scalar: None,
};

/// All preview features (`previewfeaturetype.go`).
pub(crate) const FEATURES: &[&str] = &[
    "uki",
    "output-artifacts",
    "inject-files",
    "reinitialize-verity",
    "package-snapshot-time",
    "kdump-boot-files",
    "preview-distro-version",
    "base-configs",
    "input-image-oci",
    "output-selinux-policy",
    "btrfs",
    "create",
    "unsupported-distro-version",
    "tools-dir",
    "remove-package-manager",
];

/// Partition types that have a name (`partitiontype.go`).
pub(crate) const PARTITION_TYPES: &[&str] = &[
    "esp",
    "bios-grub",
    "home",
    "linux-generic",
    "root",
    "root-verity",
    "srv",
    "swap",
    "tmp",
    "usr",
    "usr-verity",
    "var",
    "xbootldr",
];

/// Fields of Go structs without a YAML name: accepted by accident, so not refused.
pub(crate) const ACCIDENTAL: &[&str] = &["sha256hash", "sha256hashmap", "veritypartitionstype"];

const TEXT_LIST: Kind = Kind::List(&Kind::Text);
const FILLED_LIST: Kind = Kind::List(&Kind::Filled);
const MOUNT_ID: Kind = Kind::Word(&["uuid", "part-uuid", "part-label"]);

/// The whole file.
pub(crate) static CONFIG: Object = Object {
    name: "Config",
    about: "A config of Prism, the Azure Linux Image Customizer.",
    fields: &[
        field("input", Kind::Object(&INPUT), (0, 13), "The base image."),
        field(
            "storage",
            Kind::Object(&STORAGE),
            (0, 3),
            "Disks, partitions and file systems.",
        ),
        field(
            "iso",
            Kind::Object(&ISO),
            (0, 3),
            "Settings of an ISO that is made.",
        ),
        field("pxe", Kind::Object(&PXE), (0, 8), "Settings of PXE output."),
        field(
            "os",
            Kind::Object(&OS),
            (0, 3),
            "The customization of the OS; `{}` switches it on, null does not.",
        ),
        field(
            "scripts",
            Kind::Object(&SCRIPTS),
            (0, 3),
            "Scripts that run in a chroot of the image.",
        ),
        field(
            "previewFeatures",
            Kind::List(&Kind::Word(FEATURES)),
            (0, 8),
            "Preview features that are switched on.",
        ),
        field(
            "output",
            Kind::Object(&OUTPUT),
            (0, 13),
            "The customized image.",
        ),
        field(
            "baseConfigs",
            Kind::List(&Kind::Object(&BASE_CONFIG)),
            (1, 1),
            "Configs that this one builds on, the lowest first.",
        )
        .preview("base-configs"),
    ],
    ..OBJECT
};
