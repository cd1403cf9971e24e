//! `os`: what is changed in the OS.

use super::files::{ADDITIONAL_FILE, DIR_CONFIG};
use super::users::{GROUP, USER};
use super::{FILLED_LIST, Kind, OBJECT, Object, TEXT_LIST, field};

pub(super) static OS: Object = Object {
    name: "OS",
    about: "The customization of the OS.",
    fields: &[
        field("hostname", Kind::Text, (0, 3), "The name of the machine."),
        field(
            "packages",
            Kind::Object(&PACKAGES),
            (0, 3),
            "Packages to remove, update and install.",
        ),
        field("selinux", Kind::Object(&SELINUX), (0, 3), "SELinux."),
        field(
            "kernelCommandLine",
            Kind::Object(&KERNEL_COMMAND_LINE),
            (0, 3),
            "The kernel command line.",
        ),
        field(
            "additionalFiles",
            Kind::List(&Kind::Object(&ADDITIONAL_FILE)),
            (0, 3),
            "Files to copy into the image, in order.",
        ),
        field(
            "additionalDirs",
            Kind::List(&Kind::Object(&DIR_CONFIG)),
            (0, 3),
            "Folders to copy into the image.",
        ),
        field(
            "groups",
            Kind::List(&Kind::Object(&GROUP)),
            (0, 16),
            "Groups to add.",
        ),
        field(
            "users",
            Kind::List(&Kind::Object(&USER)),
            (0, 3),
            "Users to add or change.",
        ),
        field(
            "services",
            Kind::Object(&SERVICES),
            (0, 3),
            "Services to enable or disable.",
        ),
        field(
            "modules",
            Kind::List(&Kind::Object(&MODULE)),
            (0, 3),
            "Kernel modules.",
        ),
        field(
            "overlays",
            Kind::List(&Kind::Object(&OVERLAY)),
            (0, 6),
            "Overlays that are mounted at boot.",
        ),
        field(
            "bootloader",
            Kind::Object(&BOOTLOADER),
            (0, 8),
            "The boot loader.",
        ),
        field("uki", Kind::Object(&UKI), (0, 8), "Unified kernel images.").preview("uki"),
        field(
            "imageHistory",
            Kind::Word(&["none"]),
            (0, 8),
            "Whether the image keeps a record of what was done.",
        ),
    ],
    ..OBJECT
};

pub(super) static KERNEL_COMMAND_LINE: Object = Object {
    name: "KernelCommandLine",
    about: "The kernel command line.",
    fields: &[field(
        "extraCommandLine",
        FILLED_LIST,
        (0, 3),
        "Arguments that are added.",
    )],
    ..OBJECT
};

static PACKAGES: Object = Object {
    name: "Packages",
    about: "Packages to remove, update and install.",
    fields: &[
        field(
            "updateExistingPackages",
            Kind::Switch,
            (0, 3),
            "Updates everything that is installed.",
        ),
        field(
            "installLists",
            TEXT_LIST,
            (0, 3),
            "Files that list packages to install.",
        ),
        field("install", TEXT_LIST, (0, 3), "Packages to install."),
        field(
            "removeLists",
            TEXT_LIST,
            (0, 3),
            "Files that list packages to remove.",
        ),
        field("remove", TEXT_LIST, (0, 3), "Packages to remove."),
        field(
            "updateLists",
            TEXT_LIST,
            (0, 3),
            "Files that list packages to update.",
        ),
        field("update", TEXT_LIST, (0, 3), "Packages to update."),
        field(
            "snapshotTime",
            Kind::Text,
            (0, 15),
            "Packages are as of this date or RFC 3339 time.",
        )
        .preview("package-snapshot-time"),
        field(
            "removePackageManager",
            Kind::Switch,
            (1, 6),
            "Takes the package manager out at the end.",
        )
        .preview("remove-package-manager"),
    ],
    ..OBJECT
};

static SELINUX: Object = Object {
    name: "SELinux",
    about: "SELinux.",
    fields: &[field(
        "mode",
        Kind::Word(&["disabled", "permissive", "enforcing", "force-enforcing"]),
        (0, 3),
        "Its mode. Default: as in the base image.",
    )],
    ..OBJECT
};

static SERVICES: Object = Object {
    name: "Services",
    about: "Services to enable or disable.",
    fields: &[
        field(
            "enable",
            FILLED_LIST,
            (0, 3),
            "Units that `systemctl enable` is called for.",
        ),
        field(
            "disable",
            FILLED_LIST,
            (0, 3),
            "Units that `systemctl disable` is called for, after all that are enabled.",
        ),
    ],
    ..OBJECT
};

static MODULE: Object = Object {
    name: "Module",
    about: "A kernel module.",
    fields: &[
        field("name", Kind::Filled, (0, 3), "Its name."),
        field(
            "loadMode",
            Kind::Word(&["always", "auto", "disable", "inherit"]),
            (0, 3),
            "Whether it is loaded at boot.",
        ),
        field("options", Kind::Texts, (0, 3), "Its parameters."),
    ],
    required: &["name"],
    ..OBJECT
};

static OVERLAY: Object = Object {
    name: "Overlay",
    about: "An overlay that is mounted at boot.",
    fields: &[
        field(
            "lowerDirs",
            FILLED_LIST,
            (0, 6),
            "Absolute paths of the read-only layers.",
        ),
        field(
            "upperDir",
            Kind::Filled,
            (0, 6),
            "Absolute path of the layer that takes writes.",
        ),
        field(
            "workDir",
            Kind::Filled,
            (0, 6),
            "Absolute path of a folder on the same file system as `upperDir`.",
        ),
        field(
            "mountPoint",
            Kind::Filled,
            (0, 6),
            "Absolute path where it is mounted.",
        ),
        field(
            "isInitrdOverlay",
            Kind::Switch,
            (0, 7),
            "Whether the initrd mounts it.",
        ),
        field(
            "mountDependencies",
            FILLED_LIST,
            (0, 6),
            "Absolute paths that have to be mounted before.",
        ),
        field(
            "mountOptions",
            Kind::Text,
            (0, 6),
            "Mount options, separated by commas.",
        ),
    ],
    required: &["upperDir", "workDir", "mountPoint"],
    ..OBJECT
};

static BOOTLOADER: Object = Object {
    name: "BootLoader",
    about: "The boot loader.",
    fields: &[field(
        "resetType",
        Kind::Word(&["hard-reset"]),
        (0, 8),
        "Writes its configuration anew; goes with `storage.disks`.",
    )],
    ..OBJECT
};

static UKI: Object = Object {
    name: "Uki",
    about: "Unified kernel images.",
    fields: &[field(
        "mode",
        Kind::Word(&["create", "passthrough", "modify"]),
        (1, 2),
        "Whether they are made, kept, or changed in their command line.",
    )],
    ..OBJECT
};
