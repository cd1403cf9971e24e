//! The texts that Prism's steps put into the image: drop-ins and enable script.

use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::CERTIFICATE_STORE;

/// How the names end under which certificates are copied for configuration extensions.
pub(crate) const CONFEXT_COPY: &str = ".confext.crt";

/// A drop-in for a unit that merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIn {
    /// The path in the image.
    pub path: String,
    /// What it says.
    pub text: String,
    /// The key of the `sysext` section that asks for it.
    pub key: &'static str,
}

/// Where the drop-in with the image policy for extensions of a kind belongs in the image.
pub fn policy_path(kind: ExtensionKind) -> String {
    drop_in_path(kind, "50-image-policy.conf")
}

/// A drop-in that makes the merge at boot insist on `policy`.
///
/// An empty assignment drops the commands of the unit, which the next line
/// would otherwise follow (systemd.service(5), `ExecStart=`). No environment
/// variable and, before systemd 259, no configuration file carries the policy;
/// `--image-policy=` exists since 254 (systemd-sysext(8)). `%` is doubled,
/// because unit files expand specifiers.
pub fn policy_drop_in(kind: ExtensionKind, policy: &str) -> DropIn {
    let policy = policy.replace('%', "%%");
    let command = format!("{} refresh --image-policy={policy}", kind.program());
    DropIn {
        path: policy_path(kind),
        text: format!(
            "[Service]\nExecStart=\nExecStart={command}\nExecReload=\nExecReload={command}\n"
        ),
        key: "imagePolicy",
    }
}

/// A drop-in that copies certificates of [`CERTIFICATE_STORE`] to `/run/verity.d` before the merge.
///
/// The names are plain (letters, digits, `.`, `_`, `-`), so nothing needs quotes. Neither unit waits
/// for the other, so each copies all of them, and under names of its own: install(1) removes what is
/// there before it writes, at which the other unit may be looking.
pub(crate) fn certificates_drop_in<'a>(
    kind: ExtensionKind,
    names: impl Iterator<Item = &'a str>,
) -> DropIn {
    let mut text = "[Service]\n".to_owned();
    for name in names {
        let copy = match kind {
            ExtensionKind::Sysext => name.to_owned(),
            ExtensionKind::Confext => {
                format!(
                    "{}{CONFEXT_COPY}",
                    name.strip_suffix(".crt").unwrap_or(name)
                )
            }
        };
        text.push_str(&format!(
            "ExecStartPre=install -D -m 0644 {CERTIFICATE_STORE}/{name} /run/verity.d/{copy}\n"
        ));
    }
    DropIn {
        path: drop_in_path(kind, "40-verity-certificates.conf"),
        text,
        key: "certificateLocation",
    }
}

fn drop_in_path(kind: ExtensionKind, name: &str) -> String {
    format!("/etc/systemd/system/{}.d/{name}", kind.unit())
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
            content.push_str(&format!("systemctl {verb} {}\n", kind.unit()));
        }
    }
    ("sysext-enable".to_owned(), content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::kind::ExtensionKind::{Confext, Sysext};

    #[test]
    fn the_drop_in_resets_before_it_sets() {
        let drop_in = policy_drop_in(Sysext, "root=signed+absent:usr=signed+absent");
        assert_eq!(
            drop_in.text,
            "[Service]\nExecStart=\n\
             ExecStart=systemd-sysext refresh --image-policy=root=signed+absent:usr=signed+absent\n\
             ExecReload=\n\
             ExecReload=systemd-sysext refresh --image-policy=root=signed+absent:usr=signed+absent\n"
        );
        let drop_in = policy_drop_in(Confext, "root=signed");
        assert!(drop_in.text.contains("=systemd-confext refresh --image"));
        let path = "/etc/systemd/system/systemd-confext.service.d/50-image-policy.conf";
        assert_eq!(drop_in.path, path);
    }

    #[test]
    fn each_certificate_is_copied_by_a_command_of_its_own() {
        let drop_in = certificates_drop_in(Sysext, ["a.crt", "b.crt"].into_iter());
        assert_eq!(
            drop_in.text,
            "[Service]\n\
             ExecStartPre=install -D -m 0644 /usr/lib/prism-sysext/verity.d/a.crt /run/verity.d/a.crt\n\
             ExecStartPre=install -D -m 0644 /usr/lib/prism-sysext/verity.d/b.crt /run/verity.d/b.crt\n"
        );
        // Seen: the two units start at once, and one `install` found the other's file in its way.
        let other = certificates_drop_in(Confext, ["a.crt"].into_iter()).text;
        assert!(
            other.ends_with("/a.crt /run/verity.d/a.confext.crt\n"),
            "{other}"
        );
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
