//! `storage`: disks, partitions and file systems.

use super::verity::VERITY;
use super::{Kind, MOUNT_ID, OBJECT, Object, field};

pub(super) static STORAGE: Object = Object {
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
