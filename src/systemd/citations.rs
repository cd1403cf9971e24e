//! Where the rules come from that hold in every covered version; the source of a change is in
//! [`Change::source`](super::changes::Change::source).

pub(crate) const SEARCH_PATH: &str = "the first of /etc/extensions, /run/extensions, /var/lib/extensions wins (src/shared/discover-image.c)";
pub(crate) const NAME: &str = "image_name_is_valid, src/basic/os-util.c";
pub(crate) const STAGE_A: &str = "an image whose metadata can't be read makes systemd-sysext stop before it merges anything (image_read_metadata, src/shared/discover-image.c)";
pub(crate) const RELEASE_FILE: &str = "open_extension_release, src/basic/os-util.c: extension-release.NAME for the image NAME.raw; without it reading the metadata fails for all";
pub(crate) const RELEASE_MATCH: &str = "extension_release_validate, src/shared/extension-util.c";
pub(crate) const SIDECARS: &str =
    "verity_settings_load and dissect_image, src/shared/dissect-image.c";
pub(crate) const VERITY: &str = "verity_partition, src/shared/dissect-image.c";
pub(crate) const CRYPTSETUP: &str = "dlopen_cryptsetup, src/shared/cryptsetup-util.c: without it the image can't be mounted, and nothing is merged";
/// Seen on 257: a folder is merged under `root=signed+absent`.
pub(crate) const POLICY_IS_FOR_IMAGES: &str = "only images are dissected, and a policy is part of that (merge_subprocess, src/sysext/sysext.c)";
pub(crate) const POLICY: &str = "a violated image policy stops the whole merge (image_policy_check_protection, src/shared/image-policy.c)";
pub(crate) const RELEASE_FILE_OF_FOLDER: &str = "open_extension_release, src/basic/os-util.c: extension-release.NAME for the folder NAME; a folder without it is passed over";
pub(crate) const FOLDER_IN_USR: &str = "overlayfs takes no layer from below its mount point (ELOOP), and the merge of all fails (mount_overlayfs, src/sysext/sysext.c)";
pub(crate) const POLICY_SYNTAX: &str = "image_policy_from_string, src/shared/image-policy.c";
pub(crate) const OPTION_STRING: &str = "mount(2) takes one page of options; a longer list is cut, in the worst case without the base's own /usr (src/sysext/sysext.c)";
pub(crate) const LAYER_ORDER: &str =
    "strverscmp_improved, src/fundamental/string-util-fundamental.c";
pub(crate) const UNIT: &str =
    "systemd-sysext.service runs the merge; it is wanted by sysinit.target once enabled";
