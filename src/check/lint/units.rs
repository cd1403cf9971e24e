//! Units that nothing starts, and files that are read at boot before the merge.

use std::collections::BTreeSet;

use super::{Contents, named, split};
use crate::finding::Finding;
use crate::image::read::FileKind;
use crate::systemd::kind::ExtensionKind;

/// Units of the system manager that an extension can bring.
const UNIT_DIR: &str = "/usr/lib/systemd/system";
/// Most of a unit or drop-in that is read, in bytes.
const UNIT_LIMIT: u64 = 64 << 10;
/// Settings that start other units (systemd.unit(5)).
const PULLS: [&str; 4] = ["Wants", "Requires", "Upholds", "BindsTo"];

/// Units with an `[Install]` section that no link and no other unit of the extension pulls in.
pub(super) fn not_started(contents: &Contents<'_>) -> Option<Finding> {
    let in_dir = |path: &str| split(path).0 == UNIT_DIR;
    let mut pulled: BTreeSet<String> = BTreeSet::new();
    let mut with_install = Vec::new();
    for (path, found) in contents.below(UNIT_DIR) {
        let (folder, name) = split(path);
        let is_pull = [".wants", ".requires", ".upholds"];
        if is_pull.iter().any(|ending| folder.ends_with(ending)) {
            pulled.insert(name.to_owned());
            continue;
        }
        if found.kind != FileKind::File || found.size > UNIT_LIMIT {
            continue;
        }
        let is_drop_in = folder.ends_with(".d") && name.ends_with(".conf");
        let is_unit = in_dir(path) && name.contains('.') && !name.contains("@.");
        if !is_unit && !is_drop_in {
            continue;
        }
        let text = contents.start(path, UNIT_LIMIT);
        let text = String::from_utf8_lossy(&text);
        let settings = text.lines().filter_map(|line| line.split_once('='));
        for (key, value) in settings {
            if PULLS.contains(&key.trim()) {
                pulled.extend(value.split_whitespace().map(str::to_owned));
            }
        }
        let has_install = text.lines().any(|line| line.trim() == "[Install]");
        if is_unit && has_install {
            with_install.push(path);
        }
        // A timer, socket or path starts the service of its name.
        for kind in [".timer", ".socket", ".path"] {
            if let Some(stem) = name.strip_suffix(kind).filter(|_| is_unit) {
                pulled.insert(format!("{stem}.service"));
            }
        }
    }
    let idle = with_install.iter().copied();
    let idle: Vec<&str> = idle
        .filter(|path| !pulled.contains(split(path).1))
        .collect();
    let first = split(idle.first()?).1;
    let help = format!(
        "put the link multi-user.target.wants/{first} -> ../{first} into {UNIT_DIR}, or a drop-in multi-user.target.d/10-{first}.conf with `[Unit]` and `Upholds={first}`"
    );
    let message = format!(
        "nothing starts these units: {}",
        named(idle.iter().copied())?
    );
    Some(
        Finding::warning("unit-not-started", message)
            .because("`systemctl enable` in the image can't see a unit that comes with the merge; what the extension itself does not pull in stays off")
            .help(help),
    )
}

/// Configuration that is read once at boot, before the extension is there.
pub(super) fn applied_before(contents: &Contents<'_>) -> Option<Finding> {
    if contents.subject.kind != ExtensionKind::Sysext {
        return None;
    }
    const EARLY: [(&str, &str); 6] = [
        ("/usr/lib/sysusers.d", "users"),
        ("/usr/lib/udev/rules.d", "udev rules"),
        ("/usr/lib/udev/hwdb.d", "hardware database"),
        ("/usr/lib/modules-load.d", "modules to load"),
        ("/usr/lib/sysctl.d", "kernel settings"),
        ("/usr/lib/ld.so.conf.d", "library folders"),
    ];
    let found = EARLY.iter().filter_map(|(folder, what)| {
        contents.below(folder).next()?;
        Some(format!("{what} ({folder})"))
    });
    let found: Vec<String> = found.collect();
    if found.is_empty() {
        return None;
    }
    let message = format!("may be read before the merge: {}", found.join(", "));
    Some(
        Finding::note("read-before-merge", message)
            .because("systemd-sysext.service is ordered before sysinit.target and systemd-tmpfiles-setup.service only (units/systemd-sysext.service)")
            .help("let a unit of the extension apply it (systemd-sysusers, udevadm control --reload, systemd-sysctl, ldconfig), or bring it with the base"),
    )
}
