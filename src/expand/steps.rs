//! The texts that Prism's steps put into the image: drop-ins and enable script.

use crate::base::unit::unit_name;
use crate::release::ExtensionKind;

/// Where the drop-in for the extensions of a kind belongs in the image.
pub fn drop_in_path(kind: ExtensionKind) -> String {
    let unit = unit_name(kind);
    format!("/etc/systemd/system/{unit}.d/50-image-policy.conf")
}

/// A drop-in that makes the merge at boot insist on `policy`.
///
/// An empty assignment drops the commands of the unit, which the next line
/// would otherwise follow (systemd.service(5), `ExecStart=`). No environment
/// variable and, before systemd 259, no configuration file carries the policy;
/// `--image-policy=` exists since 254 (systemd-sysext(8)). `%` is doubled,
/// because unit files expand specifiers.
pub fn drop_in(kind: ExtensionKind, policy: &str) -> String {
    let policy = policy.replace('%', "%%");
    let command = format!("{} refresh --image-policy={policy}", kind.program());
    format!("[Service]\nExecStart=\nExecStart={command}\nExecReload=\nExecReload={command}\n")
}

/// Name and content of the step that switches the merge of these kinds at boot on.
///
/// `set -eu` first, so that a failed `enable` is not hidden by a later line.
/// `start` adds the line of Prism's own document; `systemctl` ignores it in a
/// chroot (systemd `src/shared/verbs.c`), so it changes nothing in the image.
pub fn enable_script(kinds: &[ExtensionKind], start: bool) -> (String, String) {
    let mut content = "set -eu\n".to_owned();
    let verbs: &[&str] = if start {
        &["enable", "start"]
    } else {
        &["enable"]
    };
    for verb in verbs {
        for kind in kinds {
            content.push_str(&format!("systemctl {verb} {}\n", unit_name(*kind)));
        }
    }
    ("sysext-enable".to_owned(), content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::ExtensionKind::{Confext, Sysext};

    #[test]
    fn the_drop_in_resets_before_it_sets() {
        assert_eq!(
            drop_in(Sysext, "root=signed+absent:usr=signed+absent"),
            "[Service]\nExecStart=\n\
             ExecStart=systemd-sysext refresh --image-policy=root=signed+absent:usr=signed+absent\n\
             ExecReload=\n\
             ExecReload=systemd-sysext refresh --image-policy=root=signed+absent:usr=signed+absent\n"
        );
        assert!(drop_in(Confext, "root=signed").contains("=systemd-confext refresh --image"));
        let path = "/etc/systemd/system/systemd-confext.service.d/50-image-policy.conf";
        assert_eq!(drop_in_path(Confext), path);
    }

    #[test]
    fn the_script_enables_and_starts_only_when_asked() {
        let (name, content) = enable_script(&[Sysext], false);
        assert_eq!(name, "sysext-enable");
        assert_eq!(
            content,
            "set -eu\nsystemctl enable systemd-sysext.service\n"
        );
        let (_, content) = enable_script(&[Sysext, Confext], true);
        assert_eq!(
            content,
            "set -eu\nsystemctl enable systemd-sysext.service\nsystemctl enable systemd-confext.service\n\
             systemctl start systemd-sysext.service\nsystemctl start systemd-confext.service\n"
        );
    }
}
