//! `sysext.conf` and `confext.conf`, which systemd reads where the command line says nothing
//! (src/sysext/sysext.c, `parse_config_file`).

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::systemd::kind::ExtensionKind;

/// Most of a file that is read, in bytes.
const LIMIT: u64 = 1 << 20;
/// Where they are looked for, the most important first (CONF_PATHS, src/basic/constants.h).
const DIRS: [&str; 4] = [
    "etc/systemd",
    "run/systemd",
    "usr/local/lib/systemd",
    "usr/lib/systemd",
];

/// The image policy that they set: the first file of that name, then all drop-ins by name, the last
/// setting counts.
pub(super) fn image_policy(facts: &mut Facts<'_>, kind: ExtensionKind) -> Option<String> {
    let (file, section) = match kind {
        ExtensionKind::Sysext => ("sysext.conf", "[SysExt]"),
        ExtensionKind::Confext => ("confext.conf", "[ConfExt]"),
    };
    let main = DIRS
        .iter()
        .find_map(|dir| facts.read_text(&format!("{dir}/{file}"), LIMIT));
    let mut drop_ins = BTreeMap::new();
    for dir in DIRS {
        let folder = format!("{dir}/{file}.d");
        for name in facts.list(&folder) {
            if name.ends_with(".conf") {
                let path = format!("{folder}/{name}");
                drop_ins.entry(name).or_insert(path);
            }
        }
    }
    let texts = drop_ins
        .values()
        .filter_map(|path| facts.read_text(path, LIMIT));
    let texts: Vec<String> = main.into_iter().chain(texts).collect();
    let mut policy = None;
    for text in &texts {
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == section;
            } else if let Some((key, value)) = line.split_once('=')
                && inside
                && key.trim() == "ImagePolicy"
            {
                policy = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            }
        }
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::open::testing::write;
    use crate::io::root::RootDir;

    #[test]
    fn the_last_setting_of_the_right_section_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| write(dir.path(), path, text);
        let policy = |kind| {
            let root = RootDir::open(dir.path()).unwrap();
            let mut facts = Facts {
                root: &root,
                findings: Vec::new(),
            };
            image_policy(&mut facts, kind)
        };
        assert_eq!(policy(ExtensionKind::Sysext), None);
        write(
            "usr/lib/systemd/sysext.conf",
            "[SysExt]\nImagePolicy=root=signed\n",
        );
        assert_eq!(
            policy(ExtensionKind::Sysext).as_deref(),
            Some("root=signed")
        );
        assert_eq!(policy(ExtensionKind::Confext), None);
        write(
            "etc/systemd/sysext.conf",
            "#x\n[Other]\nImagePolicy=-\n[SysExt]\nMutable=no\n",
        );
        assert_eq!(
            policy(ExtensionKind::Sysext),
            None,
            "it hides the other file"
        );
        write(
            "usr/lib/systemd/sysext.conf.d/5.conf",
            "[SysExt]\nImagePolicy = *\n",
        );
        write(
            "etc/systemd/sysext.conf.d/5.conf",
            "[SysExt]\nImagePolicy=-\n",
        );
        assert_eq!(policy(ExtensionKind::Sysext).as_deref(), Some("-"));
    }
}
