//! The unit that merges at boot: where it is, whether it is on, what it runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::certificate_copies;
use super::certificate_copies::Copies;
use super::facts::Facts;
use super::systemd::Systemd;
use crate::io::root::EntryKind;
use crate::systemd::changes::Change;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::unit_file::{is_dev_null, split_command};

/// Most of a unit file or drop-in that is read.
const UNIT_LIMIT: u64 = 256 * 1024;

/// Most drop-ins that are read.
const DROP_IN_LIMIT: usize = 64;

/// Where a unit is wanted (`[Install] WantedBy=` in systemd `units/systemd-sysext.service`).
const WANTED_BY: &str = "sysinit.target.wants";

/// Whether the unit is started at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "path")]
pub enum Enablement {
    /// Nothing asks for it.
    Disabled,
    /// This link asks for it.
    Enabled(String),
    /// This entry stands where the link would be and keeps it off.
    Blocked(String),
}

/// A drop-in of the unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DropIn {
    /// The path inside the base.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// What the base does with `systemd-sysext.service` or `systemd-confext.service`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitState {
    /// The name of the unit.
    pub name: &'static str,
    /// Where the unit file is; `None` when there is none.
    pub file: Option<String>,
    /// The entry that masks it, when it is masked.
    pub masked: Option<String>,
    /// Whether it runs at boot.
    pub enablement: Enablement,
    /// What the unit file says.
    #[serde(skip)]
    pub text: Option<String>,
    /// Drop-ins in the order in which they count.
    pub drop_ins: Vec<DropIn>,
    /// The commands that run in the end.
    pub exec_start: Vec<String>,
    /// The image policy that these commands ask for.
    pub image_policy: Option<String>,
    /// Whether they merge what does not fit the base as well (`--force`).
    pub force: bool,
    /// The certificates that it copies before it merges.
    pub copies: Copies,
    /// `Environment=` of the unit; the program listens to some variables.
    pub environment: BTreeMap<String, String>,
}

impl UnitState {
    /// The image policy that the commands ask for once these drop-ins are in `/etc/systemd/system`,
    /// the folder that counts first.
    pub fn image_policy_with(&self, added: &[DropIn]) -> Option<String> {
        let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
        for drop_in in self.drop_ins.iter().chain(added) {
            let name = drop_in.path.rsplit('/').next().unwrap_or_default();
            texts.insert(name, &drop_in.text);
        }
        let texts = self.text.as_deref().into_iter().chain(texts.into_values());
        asked_for(&commands(&service_settings(texts), "ExecStart"))
    }

    /// Whether it is started at boot.
    pub fn is_enabled(&self) -> bool {
        self.masked.is_none() && matches!(self.enablement, Enablement::Enabled(_))
    }
}

/// The link that `systemctl enable` makes.
pub(crate) fn enablement_link(unit: &str) -> String {
    format!("/etc/systemd/system/{WANTED_BY}/{unit}")
}

/// Unit folders of an image, the earlier first (systemd `src/libsystemd/sd-path/path-lookup.c`).
///
/// `/run` is left out: it is empty at boot.
fn unit_dirs(systemd: Option<&Systemd>) -> [&'static str; 4] {
    // Debian built systemd with a split /usr as long as it could; its links point into /lib.
    let split = systemd.is_some_and(|it| it.from_dpkg && !it.has(Change::SplitUsrDropped));
    let (first, second) = match split {
        true => ("/lib/systemd/system", "/usr/lib/systemd/system"),
        false => ("/usr/lib/systemd/system", "/lib/systemd/system"),
    };
    [
        "/etc/systemd/system",
        "/usr/local/lib/systemd/system",
        first,
        second,
    ]
}

/// Reads the state of the unit that merges extensions of this kind.
pub(super) fn read_unit(
    facts: &mut Facts<'_>,
    kind: ExtensionKind,
    systemd: Option<&Systemd>,
) -> UnitState {
    let name = kind.unit();
    let dirs = unit_dirs(systemd);
    let (mut file, mut masked) = (None, None);
    for dir in dirs {
        let path = format!("{dir}/{name}");
        match look(facts, &path) {
            Look::Nothing => continue,
            Look::Mask => masked = Some(path),
            Look::File | Look::Link => file = Some(path),
        }
        break;
    }
    let drop_ins = read_drop_ins(facts, name, &dirs);
    let text = file
        .as_ref()
        .and_then(|path| facts.read_text(path, UNIT_LIMIT));
    let texts = text
        .iter()
        .chain(drop_ins.iter().map(|drop_in| &drop_in.text));
    let settings = service_settings(texts.map(String::as_str));
    let environment = environment(&settings);
    let copies = certificate_copies::read(facts, &commands(&settings, "ExecStartPre"));
    let exec_start = commands(&settings, "ExecStart");
    UnitState {
        name,
        file,
        masked,
        enablement: read_enablement(facts, name, &dirs),
        image_policy: asked_for(&exec_start),
        force: exec_start
            .iter()
            .flat_map(|command| command.split_whitespace())
            .any(|word| word.trim_matches(['"', '\'']) == "--force"),
        copies,
        environment,
        text,
        drop_ins,
        exec_start,
    }
}

enum Look {
    Nothing,
    Mask,
    File,
    Link,
}

/// What stands at a path where systemd expects a unit or a link to one.
fn look(facts: &mut Facts<'_>, path: &str) -> Look {
    match facts.entry(path) {
        None => Look::Nothing,
        Some((_, Some(target))) if is_dev_null(&target) => Look::Mask,
        Some((metadata, link)) => match (metadata.kind, link) {
            (EntryKind::File, _) if metadata.size == 0 => Look::Mask,
            (EntryKind::CharDevice | EntryKind::BlockDevice, _) => Look::Mask,
            (EntryKind::File, Some(_)) => Look::Link,
            (EntryKind::File, None) => Look::File,
            _ => Look::Nothing,
        },
    }
}

/// Follows systemd `src/core/load-dropin.c` (`process_deps`): the first folder
/// that has the name decides; masks and things that are no link ask for nothing.
fn read_enablement(facts: &mut Facts<'_>, name: &str, dirs: &[&str]) -> Enablement {
    for dir in dirs {
        let path = format!("{dir}/{WANTED_BY}/{name}");
        match facts.entry(&path) {
            None => {}
            // A link that leads nowhere counts: only its name is used.
            Some((_, Some(target))) if !is_dev_null(&target) => return Enablement::Enabled(path),
            Some(_) => return Enablement::Blocked(path),
        }
    }
    Enablement::Disabled
}

/// Drop-ins by file name, of each name the first; also those for all services (systemd.unit(5)).
fn read_drop_ins(facts: &mut Facts<'_>, name: &str, dirs: &[&str]) -> Vec<DropIn> {
    let mut chosen: BTreeMap<String, String> = BTreeMap::new();
    for dir in dirs {
        for owner in [name, "systemd-.service", "service"] {
            let folder = format!("{dir}/{owner}.d");
            for file in facts.list(&folder) {
                if file.ends_with(".conf") {
                    let path = format!("{folder}/{file}");
                    chosen.entry(file).or_insert(path);
                }
            }
        }
    }
    let mut drop_ins = Vec::new();
    for path in chosen.into_values().take(DROP_IN_LIMIT) {
        if !matches!(look(facts, &path), Look::File | Look::Link) {
            continue;
        }
        if let Some(text) = facts.read_text(&path, UNIT_LIMIT) {
            drop_ins.push(DropIn { path, text });
        }
    }
    drop_ins
}

/// The settings of `[Service]` in the order in which they count (systemd.syntax(7)).
fn service_settings<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for text in texts {
        let mut in_service = false;
        for line in logical_lines(text) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            } else if let Some((key, value)) = line.split_once('=')
                && in_service
            {
                settings.push((key.trim_end().to_owned(), value.trim().to_owned()));
            }
        }
    }
    settings
}

/// The commands of a setting such as `ExecStart=` that count after resets (systemd.service(5)).
fn commands(settings: &[(String, String)], setting: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for (_, value) in settings.iter().filter(|(key, _)| key == setting) {
        match value.as_str() {
            "" => commands.clear(),
            _ => commands.push(value.clone()),
        }
    }
    commands
}

/// The variables of `Environment=` after resets (systemd.exec(5)).
fn environment(settings: &[(String, String)]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (_, value) in settings.iter().filter(|(key, _)| key == "Environment") {
        if value.is_empty() {
            variables.clear();
        }
        for word in split_command(value) {
            if let Some((name, value)) = word.split_once('=') {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    variables
}

/// Lines without comments, continued ones joined by a space.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(start) => {
                open.push_str(start);
                open.push(' ');
            }
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines.push(open);
    lines.retain(|line| !line.is_empty());
    lines
}

/// The image policy of commands of which the last counts.
fn asked_for(commands: &[String]) -> Option<String> {
    let mut commands = commands.iter().rev();
    commands.find_map(|command| image_policy(command))
}

/// The value of `--image-policy` in a command line.
fn image_policy(command: &str) -> Option<String> {
    let mut split_command = command
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'']));
    let mut policy = None;
    while let Some(word) = split_command.next() {
        let value = match word.strip_prefix("--image-policy") {
            Some("") => split_command.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        // Of several the last counts (getopt).
        policy = value
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
            .or(policy);
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_reset_the_command() {
        let unit = "[Unit]\nExecStart=no\n[Service]\nExecStart=systemd-sysext refresh\n";
        let drop_in = "[Service]\nExecStart=\n# note \\\nExecStart = systemd-sysext \\\n; c\n  refresh --image-policy=root=signed+absent\n";
        let exec_start =
            |texts: &[&str]| commands(&service_settings(texts.iter().copied()), "ExecStart");
        let commands = exec_start(&[unit, drop_in]);
        assert_eq!(commands.len(), 1);
        let policy = commands.first().and_then(|command| image_policy(command));
        assert_eq!(policy.as_deref(), Some("root=signed+absent"));
        assert_eq!(exec_start(&[unit]), ["systemd-sysext refresh"]);
    }

    #[test]
    fn a_drop_in_that_is_to_come_replaces_one_of_its_name() {
        let drop_in = |path: &str, policy: &str| DropIn {
            path: path.to_owned(),
            text: format!("[Service]\nExecStart=\nExecStart=x --image-policy={policy}\n"),
        };
        let folder = crate::io::open::testing::folder(&[
            ("etc/os-release", "ID=x\n"),
            (
                "usr/lib/systemd/system/systemd-sysext.service",
                "[Service]\nExecStart=x\n",
            ),
            (
                "usr/lib/systemd/system/systemd-sysext.service.d/50-a.conf",
                &drop_in("", "old").text,
            ),
        ]);
        let root = crate::io::root::RootDir::open(folder.path()).unwrap();
        let unit = crate::base::Base::read(&root).unwrap().sysext_unit;
        assert_eq!(unit.image_policy.as_deref(), Some("old"));
        assert_eq!(unit.image_policy_with(&[]), unit.image_policy);
        let new = |name: &str| unit.image_policy_with(&[drop_in(name, "new")]);
        assert_eq!(new("/etc/x.d/50-a.conf").as_deref(), Some("new"));
        assert_eq!(new("/etc/x.d/10-a.conf").as_deref(), Some("old"));
        assert_eq!(new("/etc/x.d/90-a.conf").as_deref(), Some("new"));
    }

    #[test]
    fn variables_are_words_and_can_be_reset() {
        let text = "[Service]\nEnvironment=A=1 \"B=2 3\"\nEnvironment=C='x y'\n";
        let found = environment(&service_settings([text].into_iter()));
        let found: Vec<_> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, [("A", "1"), ("B", "2 3"), ("C", "x y")]);
        let reset = "[Service]\nEnvironment=\n";
        assert!(environment(&service_settings([text, reset].into_iter())).is_empty());
    }

    #[test]
    fn the_last_policy_counts_in_either_spelling() {
        let policy = |command| image_policy(command);
        assert_eq!(
            policy("x --image-policy a --image-policy=b").as_deref(),
            Some("b")
        );
        assert_eq!(policy("x \"--image-policy=-\"").as_deref(), Some("-"));
        assert_eq!(policy("x --image-policyx=a"), None);
    }

    #[test]
    fn masks_are_recognized() {
        assert!(is_dev_null("/dev/null") && is_dev_null("../../../dev/null"));
        assert!(!is_dev_null("dev/null") && !is_dev_null("/x/dev/null"));
    }
}
