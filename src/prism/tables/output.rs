//! `output`: what is made.

use super::{Kind, OBJECT, Object, field};

pub(super) static OUTPUT: Object = Object {
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
