//! `os.users` and `os.groups`.

use super::{Kind, OBJECT, Object, TEXT_LIST, field};

pub(super) static GROUP: Object = Object {
    name: "Group",
    about: "A group.",
    fields: &[
        field("name", Kind::Filled, (0, 16), "Its name."),
        field("gid", Kind::Number(0, 60_000), (0, 16), "Its number."),
    ],
    required: &["name"],
    ..OBJECT
};

pub(super) static USER: Object = Object {
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
