//! The texts that Prism's steps put into the image: drop-in and enable script.

/// Where the drop-in belongs in the image.
pub const DROP_IN_PATH: &str = "/etc/systemd/system/systemd-sysext.service.d/50-image-policy.conf";

/// A drop-in that makes the merge at boot insist on `policy`.
///
/// An empty assignment drops the commands of the unit, which the next line
/// would otherwise follow (systemd.service(5), `ExecStart=`). No environment
/// variable and, before systemd 259, no configuration file carries the policy;
/// `--image-policy=` exists since 254 (systemd-sysext(8)). `%` is doubled,
/// because unit files expand specifiers.
pub fn drop_in(policy: &str) -> String {
    let policy = policy.replace('%', "%%");
    let command = format!("systemd-sysext refresh --image-policy={policy}");
    format!("[Service]\nExecStart=\nExecStart={command}\nExecReload=\nExecReload={command}\n")
}

/// Name and content of the step that switches the merge at boot on.
///
/// `set -eu` first, so that a failed `enable` is not hidden by a later line.
/// `start` adds the line of Prism's own document; `systemctl` ignores it in a
/// chroot (systemd `src/shared/verbs.c`), so it changes nothing in the image.
pub fn enable_script(start: bool) -> (String, String) {
    let mut content = "set -eu\nsystemctl enable systemd-sysext.service\n".to_owned();
    if start {
        content.push_str("systemctl start systemd-sysext.service\n");
    }
    ("sysext-enable".to_owned(), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_resets_before_it_sets() {
        assert_eq!(
            drop_in("root=signed+absent:usr=signed+absent"),
            "[Service]\nExecStart=\n\
             ExecStart=systemd-sysext refresh --image-policy=root=signed+absent:usr=signed+absent\n\
             ExecReload=\n\
             ExecReload=systemd-sysext refresh --image-policy=root=signed+absent:usr=signed+absent\n"
        );
    }

    #[test]
    fn the_script_enables_and_starts_only_when_asked() {
        let (name, content) = enable_script(false);
        assert_eq!(name, "sysext-enable");
        assert_eq!(
            content,
            "set -eu\nsystemctl enable systemd-sysext.service\n"
        );
        let (_, content) = enable_script(true);
        assert!(content.ends_with("service\nsystemctl start systemd-sysext.service\n"));
    }
}
