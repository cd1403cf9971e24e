//! The state of `systemd-sysext.service` in a root file system.

use serde::Serialize;

use super::root::{EntryKind, RootDir, RootError};

/// The unit.
pub const UNIT: &str = "systemd-sysext.service";

/// The folder that `systemctl enable` links it in (`[Install] WantedBy=sysinit.target`).
pub const WANTS: &str = "/etc/systemd/system/sysinit.target.wants";

/// Where units of the OS lie; the second on systems whose `/lib` is not merged.
const UNIT_FOLDERS: &[&str] = &["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Folders of drop-ins, highest precedence first (systemd.unit(5)).
const DROP_IN_FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Largest unit file that is read, in bytes.
const MAX_UNIT: u64 = 1 << 20;

/// What was found of the unit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitState {
    /// The unit file.
    pub path: Option<String>,
    /// Whether sysinit.target wants it.
    pub enabled: bool,
    /// Whether it is masked.
    pub masked: bool,
    /// The value of `--image-policy=` in the command that will run.
    pub image_policy: Option<String>,
}

/// Reads the unit, its links and its drop-ins.
pub fn read(root: &RootDir) -> Result<UnitState, RootError> {
    let own = format!("/etc/systemd/system/{UNIT}");
    let masked = match root.kind(&own)? {
        Some(EntryKind::Symlink) => root
            .read_link(&own)?
            .is_some_and(|target| target.as_os_str() == "/dev/null"),
        Some(EntryKind::File(0)) => true,
        _ => false,
    };
    let mut path = None;
    for candidate in UNIT_FOLDERS.iter().map(|folder| format!("{folder}/{UNIT}")) {
        if path.is_none() && matches!(root.target_kind(&candidate)?, Some(EntryKind::File(_))) {
            path = Some(candidate);
        }
    }
    let mut enabled = root.kind(&format!("{WANTS}/{UNIT}"))?.is_some();
    for folder in UNIT_FOLDERS {
        enabled |= root
            .kind(&format!("{folder}/sysinit.target.wants/{UNIT}"))?
            .is_some();
    }
    Ok(UnitState {
        image_policy: image_policy(root, path.as_deref())?,
        path,
        enabled,
        masked,
    })
}

/// The policy in the last effective `ExecStart=`; drop-ins apply in the order of their file names.
fn image_policy(root: &RootDir, unit: Option<&str>) -> Result<Option<String>, RootError> {
    let mut drop_ins: Vec<(String, String)> = Vec::new();
    for folder in DROP_IN_FOLDERS {
        let folder = format!("{folder}/{UNIT}.d");
        for name in root.list(&folder)? {
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".conf"))
                && !drop_ins.iter().any(|(known, _)| known == name)
            {
                drop_ins.push((name.to_owned(), format!("{folder}/{name}")));
            }
        }
    }
    drop_ins.sort();
    let mut commands: Vec<String> = Vec::new();
    for path in unit
        .into_iter()
        .chain(drop_ins.iter().map(|(_, path)| path.as_str()))
    {
        // A drop-in linked to /dev/null is switched off.
        let Ok(Some(bytes)) = root.read(path, MAX_UNIT) else {
            continue;
        };
        for line in String::from_utf8_lossy(&bytes).lines() {
            match line.trim().strip_prefix("ExecStart=").map(str::trim) {
                Some("") => commands.clear(),
                Some(command) => commands.push(command.to_owned()),
                None => {}
            }
        }
    }
    let last = commands.last().map(String::as_str).unwrap_or_default();
    Ok(last
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--image-policy="))
        .map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(files: &[(&str, &str)]) -> UnitState {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => std::fs::write(path, text).unwrap(),
            }
        }
        read(&RootDir::open(dir.path()).unwrap()).unwrap()
    }

    const FILE: (&str, &str) = (
        "usr/lib/systemd/system/systemd-sysext.service",
        "[Service]\nExecStart=systemd-sysext refresh\n",
    );

    #[test]
    fn found_enabled_masked() {
        assert_eq!(state(&[("x", "")]), UnitState::default());
        let plain = state(&[FILE]);
        assert_eq!(
            plain.path.as_deref(),
            Some("/usr/lib/systemd/system/systemd-sysext.service")
        );
        assert!(!plain.enabled && !plain.masked);
        let link = "-> /usr/lib/systemd/system/systemd-sysext.service";
        assert!(
            state(&[
                FILE,
                (
                    "etc/systemd/system/sysinit.target.wants/systemd-sysext.service",
                    link
                )
            ])
            .enabled
        );
        assert!(
            state(&[
                FILE,
                ("etc/systemd/system/systemd-sysext.service", "-> /dev/null")
            ])
            .masked
        );
    }

    #[test]
    fn the_last_command_counts() {
        let reset = "[Service]\nExecStart=\nExecStart=systemd-sysext refresh --image-policy=root=signed+absent\n";
        let later = "[Service]\nExecStart=\nExecStart=systemd-sysext refresh\n";
        let drop_in = |name: &'static str, text| (name, text);
        let a = drop_in(
            "etc/systemd/system/systemd-sysext.service.d/50-a.conf",
            reset,
        );
        let b = drop_in(
            "usr/lib/systemd/system/systemd-sysext.service.d/60-b.conf",
            later,
        );
        assert_eq!(
            state(&[FILE, a]).image_policy.as_deref(),
            Some("root=signed+absent")
        );
        assert_eq!(state(&[FILE, a, b]).image_policy, None);
    }
}
