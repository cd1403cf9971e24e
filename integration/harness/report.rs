//! What a target system says of its extensions, and the shell script that asks it.
//!
//! The same questions are put in a chroot (`namespace`) and in a booted machine (`guest`).

use std::collections::BTreeMap;

/// Starts a line of the report; the rest of that line names what follows it.
const MARK: &str = "@@referee ";

/// One look at a system.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which look, as the test named it.
    pub(crate) stage: String,
    /// `systemd-sysext status --json=short`.
    pub(crate) status: serde_json::Value,
    /// What `systemd-confext status --json` says; null where that is not there.
    pub(crate) confexts: serde_json::Value,
    /// What systemd-sysext said: its output in a chroot, its unit's journal in a machine.
    pub(crate) log: String,
    /// The device-mapper UUIDs of active verity devices (`CRYPT-VERITY-…`).
    pub(crate) verity: Vec<String>,
    /// The files asked for, with their text; `None` for one that cannot be read.
    pub(crate) files: BTreeMap<String, Option<String>>,
}

impl Report {
    /// The extensions merged into a hierarchy such as `/usr` or `/etc`, in systemd's order.
    pub(crate) fn merged(&self, hierarchy: &str) -> Vec<&str> {
        // Each of the two programs speaks of its own hierarchies.
        let mut both = [&self.status, &self.confexts].into_iter();
        let entry = both.find_map(|status| {
            let mut entries = status.as_array()?.iter();
            entries.find(|entry| entry["hierarchy"] == hierarchy)
        });
        let names = entry.and_then(|entry| entry["extensions"].as_array());
        names
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str())
            .collect()
    }

    /// The text of a file that was asked for.
    pub(crate) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }
}

/// Shell commands that write a report on stdout; `log` is the command that prints the log.
pub(crate) fn script(stage: &str, log: &str, files: &[&str]) -> String {
    let mut script = format!(
        "echo '{MARK}stage {stage}'\n\
         echo '{MARK}status'; systemd-sysext status --json=short\n\
         echo '{MARK}confexts'; systemd-confext status --json=short 2>/dev/null\n\
         echo '{MARK}log'; {log}\n\
         echo '{MARK}verity'; cat /sys/block/dm-*/dm/uuid 2>/dev/null\n"
    );
    for file in files {
        assert!(!file.contains('\''), "{file:?} cannot be quoted");
        script += &format!(
            "if cat '{file}' >/dev/null 2>&1; then echo '{MARK}file {file}'; cat '{file}'; echo; \
             else echo '{MARK}unreadable {file}'; fi\n"
        );
    }
    script + &format!("echo '{MARK}end'\n")
}

/// Reads the reports of a whole output; `None` where one of them is not complete.
pub(crate) fn parse(text: &str) -> Option<Vec<Report>> {
    let mut reports = Vec::new();
    let mut open: Option<Report> = None;
    for section in text.replace('\r', "").split(MARK).skip(1) {
        let (head, body) = section.split_once('\n')?;
        let (word, rest) = head.split_once(' ').unwrap_or((head, ""));
        match (word, &mut open) {
            ("stage", None) => {
                open = Some(Report {
                    stage: rest.to_owned(),
                    status: serde_json::Value::Null,
                    confexts: serde_json::Value::Null,
                    log: String::new(),
                    verity: Vec::new(),
                    files: BTreeMap::new(),
                });
            }
            ("status", Some(report)) => report.status = serde_json::from_str(body).ok()?,
            // Older systemd has no such program.
            ("confexts", Some(report)) => {
                report.confexts = serde_json::from_str(body).unwrap_or_default();
            }
            ("log", Some(report)) => body.clone_into(&mut report.log),
            ("verity", Some(report)) => {
                let verity = body
                    .lines()
                    .filter(|uuid| uuid.starts_with("CRYPT-VERITY-"));
                report.verity = verity.map(str::to_owned).collect();
            }
            ("file", Some(report)) => {
                let text = body.strip_suffix('\n').unwrap_or(body);
                report.files.insert(rest.to_owned(), Some(text.to_owned()));
            }
            ("unreadable", Some(report)) => {
                report.files.insert(rest.to_owned(), None);
            }
            ("end", Some(_)) => reports.extend(open.take()),
            _ => return None,
        }
    }
    open.is_none().then_some(reports)
}
