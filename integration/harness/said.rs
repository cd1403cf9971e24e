//! What the program said.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::secret::heard;

/// No command takes a quarter of it, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);

/// What the program said.
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Said {
        let Output {
            status,
            stdout,
            stderr,
        } = output(command);
        let said = Said {
            status: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        };
        if let Some(folder) = command.get_current_dir() {
            heard(folder, &said.out);
            heard(folder, &said.err);
        }
        assert!(
            !said.err.contains("panicked") && said.status.is_some(),
            "{said:?}"
        );
        said
    }

    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Said {
        assert_eq!(self.status, Some(0), "{self:?}");
        self
    }

    /// Status 1 and one error, of this id.
    #[track_caller]
    pub(crate) fn is_refused(&self, id: &str) -> &Said {
        assert_eq!(self.status, Some(1), "expected {id}: {self:?}");
        assert_eq!(self.errors(), [id], "{self:?}");
        self
    }

    /// The ids of all errors; `?` for one without.
    pub(crate) fn errors(&self) -> Vec<&str> {
        self.err
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix("error")?;
                match rest.strip_prefix('[') {
                    Some(rest) => rest.split_once(']').map(|(id, _)| id),
                    None => rest.starts_with(':').then_some("?"),
                }
            })
            .collect()
    }

    pub(crate) fn names(&self, parts: &[&str]) -> &Said {
        for part in parts {
            assert!(self.err.contains(part), "expected `{part}`: {self:?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let value: serde_json::Value =
            serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(value["schemaVersion"], 1, "{self:?}");
        value
    }

    /// `path action` of every file that an apply or a removal speaks of.
    #[track_caller]
    pub(crate) fn actions(&self) -> Vec<String> {
        let value = self.succeeded().json();
        let files = value["applied"]["files"].as_array().unwrap().iter();
        let word = |file: &serde_json::Value, key: &str| file[key].as_str().unwrap().to_owned();
        files
            .map(|file| format!("{} {}", word(file, "path"), word(file, "action")))
            .collect()
    }
}

/// Runs a command to its end; one that hangs is killed, and so fails its test.
fn output(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    output
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "status {:?}\n--- stdout\n{}--- stderr\n{}---",
            self.status, self.out, self.err
        )
    }
}
