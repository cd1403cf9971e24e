//! Files and folders that are copied: `additionalFiles` and `additionalDirs`.

use super::{Kind, OBJECT, Object, field};

pub(super) static ADDITIONAL_FILE: Object = Object {
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

pub(super) static DIR_CONFIG: Object = Object {
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
