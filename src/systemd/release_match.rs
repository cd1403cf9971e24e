//! systemd's decision whether an extension fits a host (`extension_release_validate`,
//! src/shared/extension-util.c; up to 253 src/shared/extension-release.c). Where the file of an
//! extension is found is not decided here.

use super::release_file::ReleaseFields;
use crate::systemd::arch::Arch;
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::kind::ExtensionKind;

/// What systemd makes of an extension on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The extension fits.
    Accepted,
    /// The extension is left out and the others are merged.
    Ignored(Refusal),
    /// The host's own release data is unusable: nothing at all is merged.
    HostUnusable(Refusal),
}

/// Why an extension does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable name, such as `release-version-mismatch`.
    pub id: &'static str,
    /// What was expected and found.
    pub message: String,
}

/// Decides as `extension_release_validate` does on a booted system or, if `initrd` says so, in an
/// initrd.
///
/// `extension` is empty when no release file was found. Values are compared
/// byte by byte; there is no order of versions.
pub fn matches(
    extension: &ReleaseFields,
    host: &ReleaseFields,
    kernel_arch: Arch,
    systemd: SystemdBuild,
    kind: ExtensionKind,
    initrd: bool,
) -> Decision {
    let Some(host_id) = host.filled("ID") else {
        return Decision::HostUnusable(Refusal {
            id: "release-host-without-id",
            message: "the os-release of the base OS has no ID, so systemd merges nothing".into(),
        });
    };
    let ignored = |id: &'static str, message: String| Decision::Ignored(Refusal { id, message });
    if extension.is_empty() {
        return ignored(
            "release-missing",
            "the extension has no release file".into(),
        );
    }

    let scope_key = format!("{}_SCOPE", kind.key_prefix());
    if systemd.has(Change::Scope) {
        let wanted = if initrd { "initrd" } else { "system" };
        let scope = extension.get(&scope_key).unwrap_or("system portable");
        if !words(scope).any(|word| word == wanted) {
            return ignored(
                "release-scope-mismatch",
                format!("{scope_key} is `{scope}`, expected to contain `{wanted}`"),
            );
        }
    }

    if systemd.has(Change::Architecture)
        && let Some(arch) = extension.filled("ARCHITECTURE")
        && arch != "_any"
        && arch != kernel_arch.name()
    {
        return ignored(
            "release-architecture-mismatch",
            format!("ARCHITECTURE is `{arch}`, the base OS has `{kernel_arch}`"),
        );
    }

    let Some(id) = extension.filled("ID") else {
        return ignored(
            "release-id-mismatch",
            format!("ID is missing, expected `{host_id}`"),
        );
    };
    if systemd.has(Change::AnyId) && id == "_any" {
        return Decision::Accepted;
    }
    let like = host
        .get("ID_LIKE")
        .filter(|_| systemd.has(Change::IdLike))
        .unwrap_or("");
    if id != host_id && !words(like).any(|word| word == id) {
        return ignored(
            "release-id-mismatch",
            format!("ID is `{id}`, the base OS has `{host_id}`"),
        );
    }

    let level_key = match kind {
        ExtensionKind::Confext if systemd.has(Change::ConfextLevel) => "CONFEXT_LEVEL",
        _ => "SYSEXT_LEVEL",
    };
    let host_level = host.filled(level_key);
    let host_version = host.filled("VERSION_ID");
    if let (Some(expected), Some(found)) = (host_level, extension.filled(level_key)) {
        if expected == found {
            return Decision::Accepted;
        }
        return ignored(
            "release-level-mismatch",
            format!("{level_key} is `{found}`, the base OS has `{expected}`"),
        );
    }
    if let Some(expected) = host_version {
        let found = extension.filled("VERSION_ID");
        if found != Some(expected) {
            let found = found.map_or("missing".to_owned(), |found| format!("`{found}`"));
            return ignored(
                "release-version-mismatch",
                format!("VERSION_ID is {found}, the base OS has `{expected}`"),
            );
        }
    }
    Decision::Accepted
}

/// Splits at systemd's white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\n', '\r'])
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::version::SystemdVersion;
    use serde_json::Value;

    fn fields(text: &str) -> ReleaseFields {
        ReleaseFields::parse(text.as_bytes()).unwrap()
    }

    /// Rows recorded from real runs of systemd-sysext on x86-64: which versions
    /// merged an extension with this release text on a host with this os-release.
    #[test]
    fn decides_as_systemd_was_seen_to() {
        let text = include_str!("../../testdata/release/observed.jsonl");
        let mut compared = 0;
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let bytes = |key: &str| row[key].as_str().unwrap().as_bytes();
            // A rejected file leaves the extension without release data.
            let extension = ReleaseFields::parse(bytes("release")).unwrap_or_default();
            let host = ReleaseFields::parse(bytes("host")).unwrap_or_default();
            for (key, expected) in [("merged", true), ("ignored", false)] {
                for version in row[key].as_array().unwrap() {
                    let version = SystemdVersion::parse(version.as_str().unwrap()).unwrap();
                    let decision = matches(
                        &extension,
                        &host,
                        Arch::X86_64,
                        version.into(),
                        ExtensionKind::Sysext,
                        false,
                    );
                    assert_eq!(
                        decision == Decision::Accepted,
                        expected,
                        "{} on {version}: {decision:?}\n{line}",
                        row["id"]
                    );
                    compared += 1;
                }
            }
        }
        assert!(compared > 500, "only {compared} outcomes were compared");
    }

    #[test]
    fn refusals_have_stable_names() {
        let host = fields("ID=azurelinux\nVERSION_ID=3.0\nSYSEXT_LEVEL=2\nCONFEXT_LEVEL=7\n");
        let v255 = SystemdVersion::new(255, 0);
        for (text, id) in [
            ("", "release-missing"),
            (
                "ID=azurelinux\nSYSEXT_SCOPE=initrd\n",
                "release-scope-mismatch",
            ),
            (
                "ID=_any\nARCHITECTURE=x86_64\n",
                "release-architecture-mismatch",
            ),
            ("VERSION_ID=3.0\n", "release-id-mismatch"),
            ("ID=mariner\n", "release-id-mismatch"),
            ("ID=azurelinux\nSYSEXT_LEVEL=1\n", "release-level-mismatch"),
            ("ID=azurelinux\nVERSION_ID=3\n", "release-version-mismatch"),
            ("ID=azurelinux\n", "release-version-mismatch"),
        ] {
            let decision = matches(
                &fields(text),
                &host,
                Arch::X86_64,
                v255.into(),
                ExtensionKind::Sysext,
                false,
            );
            let Decision::Ignored(refusal) = decision else {
                panic!("{text:?}: {decision:?}")
            };
            assert_eq!(refusal.id, id, "{text:?}");
        }
        let confext = fields("ID=azurelinux\nCONFEXT_LEVEL=7\nVERSION_ID=9\n");
        let on = |version: SystemdVersion| {
            matches(
                &confext,
                &host,
                Arch::X86_64,
                version.into(),
                ExtensionKind::Confext,
                false,
            )
        };
        assert_eq!(on(v255), Decision::Accepted);
        assert!(matches!(
            on(SystemdVersion::new(254, 26)),
            Decision::Ignored(_)
        ));
        let decision = matches(
            &confext,
            &ReleaseFields::new(),
            Arch::X86_64,
            v255.into(),
            ExtensionKind::Sysext,
            false,
        );
        assert!(matches!(decision, Decision::HostUnusable(_)));
    }
}
