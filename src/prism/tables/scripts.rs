//! `scripts`: what runs in a chroot of the image.

use super::{Kind, OBJECT, Object, TEXT_LIST, field};

pub(super) static SCRIPTS: Object = Object {
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
