//! What each object of a Prism config may hold: names, types and since when, as data.
//!
//! Taken from Prism 1.7.0 (microsoft/azure-linux-image-tools, `toolkit/tools/imagecustomizerapi`), one table per Go struct.
//! Where its published schema and its code differ, the code counts.

/// A version of Prism, such as 1.2.
pub type Version = (u32, u32);

/// The version that the tables and rules are of.
pub const NEWEST: Version = (1, 7);

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
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
pub struct Object {
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
pub struct Field {
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
pub const FEATURES: &[&str] = &[
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
pub const PARTITION_TYPES: &[&str] = &[
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
pub const ACCIDENTAL: &[&str] = &["sha256hash", "sha256hashmap", "veritypartitionstype"];

const TEXT_LIST: Kind = Kind::List(&Kind::Text);
const FILLED_LIST: Kind = Kind::List(&Kind::Filled);
const INITRAMFS: Kind = Kind::Word(&["bootstrap", "full-os"]);
const KDUMP: Kind = Kind::Word(&["none", "keep"]);
const MOUNT_ID: Kind = Kind::Word(&["uuid", "part-uuid", "part-label"]);

/// The whole file.
pub static CONFIG: Object = Object {
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

static INPUT: Object = Object {
    name: "Input",
    about: "Where the customization begins.",
    fields: &[field(
        "image",
        Kind::Object(&INPUT_IMAGE),
        (0, 13),
        "The base image, if no flag names it.",
    )],
    ..OBJECT
};

static INPUT_IMAGE: Object = Object {
    name: "InputImage",
    about: "The base image: a file, a container artifact, or one published by Azure Linux.",
    fields: &[
        field(
            "path",
            Kind::Text,
            (0, 13),
            "A disk image, relative to the config file.",
        ),
        field(
            "oci",
            Kind::Object(&OCI_IMAGE),
            (1, 1),
            "An artifact in an OCI registry.",
        )
        .preview("input-image-oci"),
        field(
            "azureLinux",
            Kind::Object(&AZURE_LINUX_IMAGE),
            (1, 1),
            "An image published by Azure Linux.",
        ),
    ],
    exclusive: &[&["path", "oci", "azureLinux"]],
    ..OBJECT
};

static OCI_IMAGE: Object = Object {
    name: "OciImage",
    about: "An artifact in an OCI registry; a plain string is its URI.",
    fields: &[
        field(
            "uri",
            Kind::Filled,
            (1, 1),
            "Registry, repository and tag or digest.",
        ),
        field(
            "platform",
            Kind::Object(&OCI_PLATFORM),
            (1, 1),
            "Which platform of a multi-platform index.",
        ),
    ],
    required: &["uri"],
    scalar: Some("uri"),
    ..OBJECT
};

static OCI_PLATFORM: Object = Object {
    name: "OciPlatform",
    about: "A platform; a plain string is OS/ARCH.",
    fields: &[
        field(
            "os",
            Kind::Text,
            (1, 1),
            "The operating system, such as `linux`.",
        ),
        field(
            "architecture",
            Kind::Text,
            (1, 1),
            "The architecture in Go's words, such as `amd64`.",
        ),
    ],
    scalar: Some("os"),
    ..OBJECT
};

static AZURE_LINUX_IMAGE: Object = Object {
    name: "AzureLinuxImage",
    about: "An image published by Azure Linux.",
    fields: &[
        field(
            "version",
            Kind::Filled,
            (1, 1),
            "MAJOR.MINOR, or with a date MAJOR.MINOR.DATE.",
        ),
        field("variant", Kind::Filled, (1, 1), "Such as `minimal-os`."),
    ],
    required: &["version", "variant"],
    ..OBJECT
};

static STORAGE: Object = Object {
    name: "Storage",
    about: "Disks, partitions and file systems.",
    fields: &[
        field(
            "resetPartitionsUuidsType",
            Kind::Word(&["reset-all"]),
            (0, 7),
            "Gives all partitions and file systems new UUIDs.",
        ),
        field(
            "bootType",
            Kind::Word(&["efi", "legacy"]),
            (0, 3),
            "How firmware boots the disk; goes with `disks`.",
        ),
        field(
            "disks",
            Kind::List(&Kind::Object(&DISK)),
            (0, 3),
            "The new layout; one disk.",
        ),
        field(
            "filesystems",
            Kind::List(&Kind::Object(&FILE_SYSTEM)),
            (0, 3),
            "What is on the partitions and where it is mounted.",
        ),
        field(
            "verity",
            Kind::List(&Kind::Object(&VERITY)),
            (0, 7),
            "dm-verity for / or /usr.",
        ),
        field(
            "reinitializeVerity",
            Kind::Word(&["none", "all"]),
            (0, 17),
            "What becomes of dm-verity that the base image has.",
        )
        .preview("reinitialize-verity"),
    ],
    exclusive: &[&["resetPartitionsUuidsType", "disks"]],
    ..OBJECT
};

static DISK: Object = Object {
    name: "Disk",
    about: "A disk.",
    fields: &[
        field(
            "partitionTableType",
            Kind::Word(&["gpt"]),
            (0, 3),
            "The kind of partition table.",
        ),
        field(
            "maxSize",
            Kind::Size,
            (0, 3),
            "Its size. Default: what the partitions need.",
        ),
        field(
            "partitions",
            Kind::List(&Kind::Object(&PARTITION)),
            (0, 3),
            "Its partitions in order.",
        ),
    ],
    ..OBJECT
};

static PARTITION: Object = Object {
    name: "Partition",
    about: "A partition.",
    fields: &[
        field(
            "id",
            Kind::Text,
            (0, 3),
            "A name for this file, by which file systems and verity refer to it.",
        ),
        field(
            "label",
            Kind::Text,
            (0, 3),
            "Its label in the partition table, up to 35 ASCII characters.",
        ),
        field(
            "start",
            Kind::Size,
            (0, 3),
            "Where it begins. Default: where the one before ends.",
        ),
        field("end", Kind::Size, (0, 3), "Where it ends."),
        field(
            "size",
            Kind::SizeOrGrow,
            (0, 3),
            "Its size; `grow` takes the rest, for the last one only.",
        ),
        field(
            "type",
            Kind::PartitionType,
            (0, 3),
            "What it is for: a word such as `root`, or a UUID.",
        ),
    ],
    exclusive: &[&["end", "size"]],
    ..OBJECT
};

static FILE_SYSTEM: Object = Object {
    name: "FileSystem",
    about: "A file system on a partition or verity device.",
    fields: &[
        field(
            "deviceId",
            Kind::Filled,
            (0, 3),
            "The `id` of the partition or verity device.",
        ),
        field(
            "type",
            Kind::Word(&["ext4", "xfs", "btrfs", "fat32", "vfat"]),
            (0, 3),
            "Its kind; needed to mount it.",
        ),
        field(
            "mountPoint",
            Kind::Object(&MOUNT_POINT),
            (0, 3),
            "Where it is mounted.",
        ),
        field("btrfs", Kind::Object(&BTRFS), (1, 2), "Settings of btrfs."),
    ],
    required: &["deviceId"],
    ..OBJECT
};

static MOUNT_POINT: Object = Object {
    name: "MountPoint",
    about: "Where a file system is mounted; a plain string is its path.",
    fields: &[
        field(
            "idType",
            MOUNT_ID,
            (0, 3),
            "By what /etc/fstab names the partition.",
        ),
        field(
            "options",
            Kind::Text,
            (0, 3),
            "Mount options, separated by commas.",
        ),
        field("path", Kind::Filled, (0, 3), "An absolute path."),
    ],
    required: &["path"],
    scalar: Some("path"),
    ..OBJECT
};

static BTRFS: Object = Object {
    name: "BtrfsConfig",
    about: "Settings of btrfs.",
    fields: &[field(
        "subvolumes",
        Kind::List(&Kind::Object(&BTRFS_SUBVOLUME)),
        (1, 2),
        "Subvolumes to make.",
    )],
    ..OBJECT
};

static BTRFS_SUBVOLUME: Object = Object {
    name: "BtrfsSubvolume",
    about: "A subvolume.",
    fields: &[
        field(
            "path",
            Kind::Filled,
            (1, 2),
            "Its path below the top, without a slash at either end.",
        ),
        field(
            "mountPoint",
            Kind::Object(&MOUNT_POINT),
            (1, 2),
            "Where it is mounted.",
        ),
        field(
            "quota",
            Kind::Object(&BTRFS_QUOTA),
            (1, 2),
            "How much it may hold.",
        ),
    ],
    required: &["path"],
    ..OBJECT
};

static BTRFS_QUOTA: Object = Object {
    name: "BtrfsQuotaConfig",
    about: "How much a subvolume may hold.",
    fields: &[
        field(
            "referencedLimit",
            Kind::Size,
            (1, 2),
            "All data that it refers to.",
        ),
        field(
            "exclusiveLimit",
            Kind::Size,
            (1, 2),
            "Data that it alone refers to.",
        ),
    ],
    ..OBJECT
};

static VERITY: Object = Object {
    name: "Verity",
    about: "dm-verity for / or /usr, on partitions of this file or on those that are there.",
    fields: &[
        field(
            "id",
            Kind::Filled,
            (0, 7),
            "A name for this file, by which the file system refers to it.",
        ),
        field(
            "name",
            Kind::Filled,
            (0, 7),
            "`root` for /, `usr` for /usr.",
        ),
        field(
            "dataDeviceId",
            Kind::Text,
            (0, 7),
            "The `id` of the partition with the data.",
        ),
        field(
            "dataDevice",
            Kind::Object(&IDENTIFIED_PARTITION),
            (0, 13),
            "A partition that is there already, instead.",
        ),
        field(
            "dataDeviceMountIdType",
            MOUNT_ID,
            (0, 7),
            "By what the kernel command line names the data.",
        ),
        field(
            "hashDeviceId",
            Kind::Text,
            (0, 7),
            "The `id` of the partition for the hash tree.",
        ),
        field(
            "hashDevice",
            Kind::Object(&IDENTIFIED_PARTITION),
            (0, 13),
            "A partition that is there already, instead.",
        ),
        field(
            "hashDeviceMountIdType",
            MOUNT_ID,
            (0, 7),
            "By what the kernel command line names the hash tree.",
        ),
        field(
            "corruptionOption",
            Kind::Word(&["io-error", "ignore", "panic", "restart"]),
            (0, 7),
            "What happens when a block does not match.",
        ),
        field(
            "hashSignaturePath",
            Kind::Text,
            (0, 16),
            "Where in the image the signature of the root hash is looked for, below /boot.",
        )
        .preview("output-artifacts"),
    ],
    required: &["id", "name"],
    exclusive: &[
        &["dataDeviceId", "dataDevice"],
        &["hashDeviceId", "hashDevice"],
    ],
    one_of: &[
        &["dataDeviceId", "dataDevice"],
        &["hashDeviceId", "hashDevice"],
    ],
    ..OBJECT
};

static IDENTIFIED_PARTITION: Object = Object {
    name: "IdentifiedPartition",
    about: "A partition of the base image.",
    fields: &[
        field(
            "idType",
            Kind::Word(&["part-label"]),
            (0, 13),
            "What `id` is.",
        ),
        field("id", Kind::Filled, (0, 13), "The label of the partition."),
    ],
    required: &["idType", "id"],
    ..OBJECT
};

static ISO: Object = Object {
    name: "Iso",
    about: "Settings of an ISO.",
    fields: &[
        field(
            "kernelCommandLine",
            Kind::Object(&KERNEL_COMMAND_LINE),
            (0, 3),
            "The kernel command line of the medium.",
        ),
        field(
            "additionalFiles",
            Kind::List(&Kind::Object(&ADDITIONAL_FILE)),
            (0, 7),
            "Files on the medium, outside of the root file system.",
        ),
        field(
            "initramfsType",
            INITRAMFS,
            (0, 15),
            "Whether the initramfs holds all of the OS.",
        ),
        field(
            "kdumpBootFiles",
            KDUMP,
            (0, 16),
            "What becomes of the files of kdump.",
        )
        .preview("kdump-boot-files"),
    ],
    ..OBJECT
};

static PXE: Object = Object {
    name: "Pxe",
    about: "Settings of PXE output.",
    fields: &[
        field(
            "kernelCommandLine",
            Kind::Object(&KERNEL_COMMAND_LINE),
            (0, 15),
            "The kernel command line.",
        ),
        field(
            "additionalFiles",
            Kind::List(&Kind::Object(&ADDITIONAL_FILE)),
            (0, 15),
            "Files beside the boot files.",
        ),
        field(
            "initramfsType",
            INITRAMFS,
            (0, 15),
            "Whether the initramfs holds all of the OS.",
        ),
        field(
            "bootstrapBaseUrl",
            Kind::Text,
            (0, 15),
            "Folder from which the root image is fetched.",
        ),
        field(
            "bootstrapFileUrl",
            Kind::Text,
            (0, 15),
            "File that is the root image.",
        ),
        field(
            "kdumpBootFiles",
            KDUMP,
            (0, 16),
            "What becomes of the files of kdump.",
        )
        .preview("kdump-boot-files"),
    ],
    exclusive: &[&["bootstrapBaseUrl", "bootstrapFileUrl"]],
    ..OBJECT
};

static KERNEL_COMMAND_LINE: Object = Object {
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

static OS: Object = Object {
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

static ADDITIONAL_FILE: Object = Object {
    name: "AdditionalFile",
    about: "A file to copy: from `source`, or with `content`.",
    fields: &[
        field(
            "destination",
            Kind::Filled,
            (0, 7),
            "Absolute path in the image.",
        ),
        field(
            "source",
            Kind::Text,
            (0, 7),
            "The file, relative to the config file.",
        ),
        field("content", Kind::Text, (0, 7), "The text of the file."),
        field(
            "permissions",
            Kind::Permissions,
            (0, 7),
            "Octal mode. Default: that of the source.",
        ),
    ],
    required: &["destination"],
    exclusive: &[&["source", "content"]],
    one_of: &[&["source", "content"]],
    ..OBJECT
};

static DIR_CONFIG: Object = Object {
    name: "DirConfig",
    about: "A folder to copy.",
    fields: &[
        field(
            "source",
            Kind::Filled,
            (0, 3),
            "The folder, relative to the config file.",
        ),
        field(
            "destination",
            Kind::Filled,
            (0, 3),
            "Absolute path in the image.",
        ),
        field(
            "newDirPermissions",
            Kind::Permissions,
            (0, 3),
            "Octal mode of folders that are made.",
        ),
        field(
            "mergedDirPermissions",
            Kind::Permissions,
            (0, 3),
            "Octal mode of folders that are there.",
        ),
        field(
            "childFilePermissions",
            Kind::Permissions,
            (0, 3),
            "Octal mode of files. Default: 755.",
        ),
    ],
    required: &["source", "destination"],
    ..OBJECT
};

static GROUP: Object = Object {
    name: "Group",
    about: "A group.",
    fields: &[
        field("name", Kind::Filled, (0, 16), "Its name."),
        field("gid", Kind::Number(0, 60_000), (0, 16), "Its number."),
    ],
    required: &["name"],
    ..OBJECT
};

static USER: Object = Object {
    name: "User",
    about: "A user to add or change.",
    fields: &[
        field("name", Kind::Filled, (0, 3), "The login name."),
        field(
            "uid",
            Kind::Number(0, 60_000),
            (0, 3),
            "The number of a new user.",
        ),
        field("password", Kind::Object(&PASSWORD), (0, 3), "The password."),
        field(
            "passwordExpiresDays",
            Kind::Number(-1, 99_999),
            (0, 3),
            "Days after which it has to be changed; -1 is never.",
        ),
        field(
            "sshPublicKeyPaths",
            TEXT_LIST,
            (0, 3),
            "Files with SSH keys that may log in.",
        ),
        field(
            "sshPublicKeys",
            TEXT_LIST,
            (0, 3),
            "SSH keys that may log in.",
        ),
        field("primaryGroup", Kind::Text, (0, 3), "The primary group."),
        field("secondaryGroups", TEXT_LIST, (0, 3), "Further groups."),
        field("startupCommand", Kind::Text, (0, 3), "The login shell."),
        field(
            "homeDirectory",
            Kind::Text,
            (0, 5),
            "The home folder of a new user.",
        ),
    ],
    required: &["name"],
    ..OBJECT
};

static PASSWORD: Object = Object {
    name: "Password",
    about: "A password.",
    fields: &[
        field(
            "type",
            Kind::Word(&[
                "locked",
                "plain-text",
                "hashed",
                "plain-text-file",
                "hashed-file",
            ]),
            (0, 3),
            "What `value` is.",
        ),
        field(
            "value",
            Kind::Text,
            (0, 3),
            "The password, its hash, or a file with either.",
        ),
    ],
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

static SCRIPTS: Object = Object {
    name: "Scripts",
    about: "Scripts that run in a chroot of the image.",
    fields: &[
        field(
            "postCustomization",
            Kind::List(&Kind::Object(&SCRIPT)),
            (0, 3),
            "After all else, before SELinux labels are set.",
        ),
        field(
            "finalizeCustomization",
            Kind::List(&Kind::Object(&SCRIPT)),
            (0, 3),
            "At the very end.",
        ),
    ],
    ..OBJECT
};

static SCRIPT: Object = Object {
    name: "Script",
    about: "A script: a file beside the config, or its text.",
    fields: &[
        field(
            "path",
            Kind::Text,
            (0, 3),
            "The script, relative to the config file and below its folder.",
        ),
        field("content", Kind::Text, (0, 3), "The text of the script."),
        field(
            "interpreter",
            Kind::Text,
            (0, 3),
            "What runs it. Default: /bin/sh.",
        ),
        field("arguments", TEXT_LIST, (0, 3), "Its arguments."),
        field(
            "environmentVariables",
            Kind::Texts,
            (0, 3),
            "Its whole environment, if there is one.",
        ),
        field("name", Kind::Text, (0, 3), "What messages call it."),
    ],
    exclusive: &[&["path", "content"]],
    one_of: &[&["path", "content"]],
    ..OBJECT
};

static OUTPUT: Object = Object {
    name: "Output",
    about: "What is made.",
    fields: &[
        field(
            "image",
            Kind::Object(&OUTPUT_IMAGE),
            (0, 13),
            "The customized image, if no flag names it.",
        ),
        field(
            "artifacts",
            Kind::Object(&ARTIFACTS),
            (0, 14),
            "Parts of the image that are put out for signing.",
        )
        .preview("output-artifacts"),
        field(
            "selinuxPolicyPath",
            Kind::Text,
            (1, 1),
            "Folder that gets the SELinux policy.",
        )
        .preview("output-selinux-policy"),
    ],
    ..OBJECT
};

static OUTPUT_IMAGE: Object = Object {
    name: "OutputImage",
    about: "The customized image.",
    fields: &[
        field(
            "path",
            Kind::Text,
            (0, 13),
            "The file or folder, relative to the config file.",
        ),
        field(
            "format",
            Kind::Word(&[
                "vhd",
                "vhd-fixed",
                "vhdx",
                "qcow2",
                "raw",
                "iso",
                "pxe-dir",
                "pxe-tar",
                "cosi",
                "baremetal-image",
            ]),
            (0, 13),
            "Its format.",
        ),
        field("cosi", Kind::Object(&COSI), (1, 2), "Settings of COSI."),
    ],
    ..OBJECT
};

static COSI: Object = Object {
    name: "CosiConfig",
    about: "Settings of COSI.",
    fields: &[field(
        "compression",
        Kind::Object(&COSI_COMPRESSION),
        (1, 2),
        "How it is compressed.",
    )],
    ..OBJECT
};

static COSI_COMPRESSION: Object = Object {
    name: "CosiCompression",
    about: "How COSI is compressed.",
    fields: &[field(
        "level",
        Kind::Number(1, 22),
        (1, 2),
        "The level of Zstandard.",
    )],
    ..OBJECT
};

static ARTIFACTS: Object = Object {
    name: "Artifacts",
    about: "Parts of the image that are put out.",
    fields: &[
        field(
            "items",
            Kind::List(&Kind::Word(&[
                "ukis",
                "uki-addons",
                "shim",
                "bootloader",
                "verity-hash",
            ])),
            (0, 14),
            "Which parts.",
        ),
        field("path", Kind::Filled, (0, 14), "The folder that gets them."),
    ],
    required: &["items", "path"],
    ..OBJECT
};

static BASE_CONFIG: Object = Object {
    name: "BaseConfig",
    about: "A config that this one builds on.",
    fields: &[field(
        "path",
        Kind::Filled,
        (1, 1),
        "The config, relative to this one.",
    )],
    required: &["path"],
    ..OBJECT
};
