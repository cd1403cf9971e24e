//! `iso` and `pxe`: media that boot a live OS.

use super::files::ADDITIONAL_FILE;
use super::os::KERNEL_COMMAND_LINE;
use super::{Kind, OBJECT, Object, field};

const INITRAMFS: Kind = Kind::Word(&["bootstrap", "full-os"]);
const KDUMP: Kind = Kind::Word(&["none", "keep"]);

pub(super) static ISO: Object = Object {
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

pub(super) static PXE: Object = Object {
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
