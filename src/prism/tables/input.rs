//! Where the customization begins: the base image, and configs that this one builds on.

use super::{Kind, OBJECT, Object, field};

pub(super) static INPUT: Object = Object {
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

pub(super) static BASE_CONFIG: Object = Object {
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
