//! Running Prism: a shell script stands in for `imagecustomizer`.
//!
//! A run takes the signals of its whole process, so each test has one of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use prism_sysext::session::imagecustomizer::{Invocation, exit_code, run};
use rustix::process::{Signal, getpid, kill_process};

use crate::harness::again;

struct Fake {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Fake {
    /// A program that runs `body`; `$LOG` names a file for what it saw.
    fn new(body: &str) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("imagecustomizer");
        let log = folder.path().join("log");
        fs::write(
            &program,
            format!("#!/bin/sh\nLOG='{}'\n{body}\n", log.display()),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("config")).unwrap();
        fs::write(folder.path().join("config/edge.yaml"), "sysext: 1\n").unwrap();
        Fake { folder, program }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config/edge.yaml")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn run(&self, args: &[&str], text: &str) -> anyhow::Result<ExitStatus> {
        let invocation = Invocation {
            program: self.program.clone().into(),
            args: args.iter().map(Into::into).collect(),
        };
        let result = run(&invocation, text, &self.config());
        // Whatever happened: only the user's own file is left.
        let left: Vec<_> = fs::read_dir(self.folder.path().join("config"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["edge.yaml"]);
        result
    }
}

/// Sends `signal` to this process once the log holds `ready`.
fn signal_when_ready(log: &Path, signal: Signal) -> std::thread::JoinHandle<()> {
    let log = log.to_owned();
    std::thread::spawn(move || {
        let start = Instant::now();
        while !fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("ready")
        {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the program never was ready"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_process(getpid(), signal).unwrap();
    })
}

#[test]
fn flags_and_text_arrive_and_the_exit_status_comes_back() {
    if !again::apart(flags_and_text_arrive_and_the_exit_status_comes_back) {
        return;
    }
    let fake = Fake::new(
        "for arg in \"$@\"; do echo \"arg $arg\"; done >\"$LOG\"\n\
         while [ \"$1\" != --config-file ]; do shift; done\n\
         stat -c 'mode %a' \"$2\" >>\"$LOG\"\ncat \"$2\" >>\"$LOG\"\nexit 3",
    );
    let args = [
        "customize",
        "--build-dir",
        "b c",
        "--config-file",
        "old.yaml",
        "--log-level=info",
    ];
    let status = fake.run(&args, "os:\n  hostname: ünï\n").unwrap();
    assert_eq!(exit_code(status), 3);
    let beside = fake.folder.path().join("config");
    let config = beside.join(format!(".edge.prism-{}.yaml", std::process::id()));
    assert_eq!(
        fake.log(),
        format!(
            "arg customize\narg --build-dir\narg b c\narg --config-file\narg {}\narg --log-level=info\n\
             mode 600\nos:\n  hostname: ünï\n",
            config.display()
        )
    );
}

#[test]
fn a_leftover_of_the_same_name_is_neither_used_nor_removed() {
    if !again::apart(a_leftover_of_the_same_name_is_neither_used_nor_removed) {
        return;
    }
    let fake = Fake::new("echo \"$2\" >\"$LOG\"");
    let beside = fake.folder.path().join("config");
    let pid = std::process::id();
    let leftover = beside.join(format!(".edge.prism-{pid}.yaml"));
    fs::write(&leftover, "someone's").unwrap();
    let invocation = Invocation {
        program: fake.program.clone().into(),
        args: vec!["--config-file".into(), "x".into()],
    };
    assert!(run(&invocation, "{}\n", &fake.config()).unwrap().success());
    assert!(
        fake.log().ends_with(&format!(".edge.prism-{pid}-1.yaml\n")),
        "{}",
        fake.log()
    );
    assert_eq!(fs::read_to_string(leftover).unwrap(), "someone's");
    assert_eq!(fs::read_dir(beside).unwrap().count(), 2);
}

#[test]
fn a_killed_program_gives_128_and_its_signal() {
    if !again::apart(a_killed_program_gives_128_and_its_signal) {
        return;
    }
    let status = Fake::new("kill -KILL $$").run(&[], "{}\n").unwrap();
    assert_eq!(status.signal(), Some(9));
    assert_eq!(exit_code(status), 137);
}

#[test]
fn signals_are_passed_on_and_the_program_decides() {
    if !again::apart(signals_are_passed_on_and_the_program_decides) {
        return;
    }
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
    ] {
        let fake = Fake::new(&format!(
            "trap 'echo cleaned >>\"$LOG\"; exit 7' {name}\necho ready >\"$LOG\"\n\
             while :; do sleep 0.05; done"
        ));
        let sender = signal_when_ready(&fake.folder.path().join("log"), signal);
        let status = fake.run(&[], "{}\n").unwrap();
        sender.join().unwrap();
        assert_eq!(exit_code(status), 7, "{name}");
        assert_eq!(fake.log(), "ready\ncleaned\n", "{name}");
    }
}

#[test]
fn a_program_without_a_handler_dies_of_the_signal() {
    if !again::apart(a_program_without_a_handler_dies_of_the_signal) {
        return;
    }
    let fake = Fake::new("echo ready >\"$LOG\"\nexec sleep 60");
    let sender = signal_when_ready(&fake.folder.path().join("log"), Signal::TERM);
    let status = fake.run(&[], "{}\n").unwrap();
    sender.join().unwrap();
    assert_eq!(exit_code(status), 143);
}

#[test]
fn a_program_that_removes_its_config_is_no_failure() {
    if !again::apart(a_program_that_removes_its_config_is_no_failure) {
        return;
    }
    assert!(Fake::new("rm \"$2\"").run(&[], "{}\n").unwrap().success());
}

#[test]
fn a_missing_program_is_named_with_the_way_out() {
    if !again::apart(a_missing_program_is_named_with_the_way_out) {
        return;
    }
    let mut fake = Fake::new("");
    fake.program = "no-such-imagecustomizer".into();
    let error = format!("{:#}", fake.run(&[], "{}\n").unwrap_err());
    for part in [
        "no-such-imagecustomizer",
        "--imagecustomizer",
        "PRISM_IMAGECUSTOMIZER",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_program_that_may_not_run_is_named_too() {
    if !again::apart(a_program_that_may_not_run_is_named_too) {
        return;
    }
    let fake = Fake::new("");
    fs::set_permissions(&fake.program, fs::Permissions::from_mode(0o644)).unwrap();
    let error = format!("{:#}", fake.run(&[], "{}\n").unwrap_err());
    assert!(error.contains("not executable"), "{error}");
}

#[test]
fn a_folder_that_takes_no_file_is_named_with_the_way_out() {
    if !again::apart(a_folder_that_takes_no_file_is_named_with_the_way_out) {
        return;
    }
    let fake = Fake::new("");
    let invocation = Invocation {
        program: fake.program.clone().into(),
        args: Vec::new(),
    };
    // Root may write anywhere; /proc takes no files even from root.
    let error = run(&invocation, "{}\n", Path::new("/proc/config.yaml")).unwrap_err();
    let error = format!("{error:#}");
    for part in ["/proc", "expand --output-file"] {
        assert!(error.contains(part), "{error}");
    }
}
