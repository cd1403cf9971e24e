//! `storage.verity`: dm-verity for / or /usr.

use super::{Kind, MOUNT_ID, OBJECT, Object, field};

pub(super) static VERITY: Object = Object {
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
