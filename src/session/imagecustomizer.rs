//! Running Prism on the expanded config, so that `customize` feels like `imagecustomizer`.
//!
//! The expanded text lies beside the user's config for as long as Prism runs:
//! Prism resolves relative paths from the folder of its config file and refuses
//! scripts outside of it (Prism `imagecustomizerapi/script.go`). The program
//! gets the user's own flags, standard streams and signals; its exit status is
//! the result.

use std::ffi::{OsStr, OsString};
use std::io;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempPath;

use crate::io::open::folder_of;

/// Prism's flag for its config file.
const CONFIG_FILE: &str = "--config-file";
/// Names to try for the temporary file; more than one is taken only when
/// containers with equal process ids share the folder.
const NAMES: u32 = 100;

/// The program to run and the arguments that the user gave for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Prism's executable, looked up in `PATH` when it has no slash.
    pub program: OsString,
    /// Its arguments, subcommand included; `--config-file` may be among them
    /// and is replaced.
    pub args: Vec<OsString>,
}

/// What Prism is asked to do, by its subcommand; it customizes when none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `customize`.
    Customize,
    /// `validate-config`.
    ValidateConfig,
    /// `create`, which takes no `os.additionalFiles`.
    Create,
    /// `inject-files`, whose config file is of another kind.
    InjectFiles,
    /// `convert`, which has no config file.
    Convert,
}

/// Flags of every subcommand that are followed by a value (Prism 1.7, `imagecustomizer --help`).
const GLOBAL: [&str; 5] = [
    "--log-level",
    "--log-format",
    "--log-color",
    "--log-file",
    "--timestamp-file",
];

impl Verb {
    /// The subcommand among Prism's arguments, and the arguments without it. Only flags of every
    /// subcommand may stand before it.
    pub fn among(args: &[OsString]) -> (Verb, Vec<OsString>) {
        let mut rest = args.to_vec();
        let mut at = 0;
        while let Some(arg) = args.get(at) {
            let text = arg.to_string_lossy();
            if !text.starts_with('-') {
                let Some(verb) = Verb::named(&text) else {
                    break;
                };
                rest.remove(at);
                return (verb, rest);
            }
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text.as_ref(), None),
            };
            at += match (GLOBAL.contains(&name), value) {
                (true, None) => 2,
                (true, Some(_)) => 1,
                (false, _) if name == "--disable-telemetry" => 1,
                // A flag of `customize`, which is what follows.
                (false, _) => break,
            };
        }
        (Verb::Customize, rest)
    }

    fn named(name: &str) -> Option<Verb> {
        match name {
            "customize" => Some(Verb::Customize),
            "validate-config" => Some(Verb::ValidateConfig),
            "create" => Some(Verb::Create),
            "inject-files" => Some(Verb::InjectFiles),
            "convert" => Some(Verb::Convert),
            _ => None,
        }
    }

    /// The subcommand's name.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Customize => "customize",
            Verb::ValidateConfig => "validate-config",
            Verb::Create => "create",
            Verb::InjectFiles => "inject-files",
            Verb::Convert => "convert",
        }
    }
}

/// A run of Prism that is being prepared.
///
/// From [`Run::begin`] on SIGINT, SIGTERM and SIGHUP no longer end the calling process: they are kept
/// for the program, which decides what they mean (Prism detaches its loop devices first), so no
/// temporary file is left behind. (A terminal sends Ctrl-C to both, so the program sees it twice.)
#[derive(Debug)]
pub struct Run {
    signals: Signals,
    configs: Vec<(TempPath, std::fs::File)>,
}

impl Run {
    /// Begins to take signals.
    ///
    /// # Errors
    /// If the system does not let signals be handled.
    pub fn begin() -> Result<Run> {
        let signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("registering signal handlers")?;
        Ok(Run {
            signals,
            configs: Vec::new(),
        })
    }

    /// Makes an empty temporary file beside a config, and gives its name.
    ///
    /// # Errors
    /// If no file can be made in the directory of the config; those made before stay until the run
    /// ends.
    pub fn reserve(&mut self, config: &Path) -> Result<OsString> {
        let made = beside(config)?;
        let name = made.0.file_name().unwrap_or_default().to_owned();
        self.configs.push(made);
        Ok(name)
    }

    /// Writes into the temporary file that was made `number` files after the first.
    ///
    /// # Errors
    /// If there is no such file, or it can't be written; it may then hold a part of the text.
    pub fn write(&mut self, number: usize, text: &str) -> Result<()> {
        let Some((path, file)) = self.configs.get_mut(number) else {
            return Err(anyhow!("there is no temporary config {number}"));
        };
        let written = file.write_all(text.as_bytes());
        written.with_context(|| format!("writing the temporary config {}", path.display()))
    }

    /// Runs Prism on the file that was made last, as if it were the config that it lies beside, and
    /// removes all of them, whatever happens.
    ///
    /// # Errors
    /// If the program can't be started or waited for, or a temporary file can't be removed.
    /// Whatever its exit status is, that is no error.
    pub fn start(self, invocation: &Invocation) -> Result<ExitStatus> {
        let args = match self.configs.last() {
            Some((config, _)) => rewrite_args(&invocation.args, config),
            None => invocation.args.clone(),
        };
        let status = run_program(&invocation.program, &args, self.signals)?;
        for (config, file) in self.configs {
            drop(file);
            let shown = config.to_path_buf();
            match config.close() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| {
                        format!("removing the temporary config {}", shown.display())
                    });
                }
                _ => {}
            }
        }
        Ok(status)
    }
}

/// Runs Prism on `expanded_text` as if it stood at `config_path`; see [`Run`].
///
/// # Errors
/// Those of [`Run::reserve`], [`Run::write`] and [`Run::start`]; no temporary file is left.
pub fn run(invocation: &Invocation, expanded_text: &str, config_path: &Path) -> Result<ExitStatus> {
    let mut run = Run::begin()?;
    run.reserve(config_path)?;
    run.write(0, expanded_text)?;
    run.start(invocation)
}

/// Runs Prism on a config that needs no other, with the same signals and status.
///
/// # Errors
/// Those of [`Run::begin`] and [`Run::start`].
pub fn run_as_it_is(invocation: &Invocation) -> Result<ExitStatus> {
    Run::begin()?.start(invocation)
}

fn run_program(program: &OsStr, args: &[OsString], mut signals: Signals) -> Result<ExitStatus> {
    let handle = signals.handle();
    let mut child = Command::new(program)
        .args(args)
        .spawn()
        .map_err(|error| not_started(program, error))?;

    let forward_to = pid(&child)?;
    let forwarding = std::thread::spawn(move || {
        for number in &mut signals {
            if let Some(signal) = Signal::from_named_raw(number) {
                // A program that has just ended needs no signal.
                let _ = rustix::process::kill_process(forward_to, signal);
            }
        }
    });
    let ended = wait_without_reaping(forward_to);
    // Until the child is reaped its process id can be no one else's.
    handle.close();
    let joined = forwarding.join();
    let status = child
        .wait()
        .with_context(|| format!("waiting for {program:?}"))?;
    ended.with_context(|| format!("waiting for {program:?}"))?;
    joined.map_err(|_| anyhow!("forwarding signals to {program:?} failed"))?;
    Ok(status)
}

/// The exit code to end with: the program's own, or 128 + N when signal N
/// killed it, as shells have it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => signal.saturating_add(128),
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

/// `args` with every `--config-file X` and `--config-file=X` pointing to
/// `config`; the flag is added when it is missing.
pub fn rewrite_args(args: &[OsString], config: &Path) -> Vec<OsString> {
    let mut rewritten = Vec::with_capacity(args.len().saturating_add(2));
    let mut found = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            // Flags end here.
            if !found {
                rewritten.extend([CONFIG_FILE.into(), config.into()]);
                found = true;
            }
            rewritten.push(arg.clone());
            rewritten.extend(args.by_ref().cloned());
        } else if arg == CONFIG_FILE {
            args.next();
            rewritten.extend([CONFIG_FILE.into(), config.into()]);
            found = true;
        } else if is_config_file_with_value(arg) {
            let mut joined = OsString::from(CONFIG_FILE);
            joined.push("=");
            joined.push(config);
            rewritten.push(joined);
            found = true;
        } else {
            rewritten.push(arg.clone());
        }
    }
    if !found {
        rewritten.extend([CONFIG_FILE.into(), config.into()]);
    }
    rewritten
}

fn is_config_file_with_value(arg: &OsStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let rest = arg.as_bytes().strip_prefix(CONFIG_FILE.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"="))
}

/// Makes a hidden file in the folder of `config_path`.
fn beside(config_path: &Path) -> Result<(TempPath, std::fs::File)> {
    let folder = folder_of(config_path);
    create_in(folder, config_path).with_context(|| {
        format!(
            "writing the expanded config into {}, where Prism has to find it next to what it refers to; \
             make the folder writable, or write the config with `prism-sysext expand --output-file FILE` \
             and run imagecustomizer on FILE (relative paths then start at the folder of FILE)",
            folder.display()
        )
    })
}

fn create_in(folder: &Path, config_path: &Path) -> io::Result<(TempPath, std::fs::File)> {
    use std::os::unix::fs::OpenOptionsExt;
    let pid = std::process::id();
    for attempt in 0..NAMES {
        let mut name = OsString::from(".");
        name.push(config_path.file_stem().unwrap_or(OsStr::new("config")));
        name.push(match attempt {
            0 => format!(".prism-{pid}.yaml"),
            _ => format!(".prism-{pid}-{attempt}.yaml"),
        });
        let path = folder.join(name);
        let mut options = std::fs::OpenOptions::new();
        // A config may hold password hashes.
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => return Ok((to_remove(path)?, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn to_remove(path: PathBuf) -> io::Result<TempPath> {
    TempPath::try_from_path(path)
}

fn not_started(program: &OsStr, error: io::Error) -> anyhow::Error {
    let help = match error.kind() {
        io::ErrorKind::NotFound => {
            "no such program; install Prism, or name its executable with `--imagecustomizer PROGRAM` \
             or the variable PRISM_IMAGECUSTOMIZER"
        }
        io::ErrorKind::PermissionDenied => {
            "it is not executable; check what `--imagecustomizer` or PRISM_IMAGECUSTOMIZER names"
        }
        _ => "check what `--imagecustomizer` or PRISM_IMAGECUSTOMIZER names",
    };
    anyhow::Error::new(error).context(format!("starting {program:?}: {help}"))
}

fn pid(child: &Child) -> Result<Pid> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    id.ok_or_else(|| anyhow!("starting the program gave the process id {}", child.id()))
}

fn wait_without_reaping(pid: Pid) -> io::Result<()> {
    let until_ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), until_ended) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(args: &[&str]) -> Vec<String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let rewritten = rewrite_args(&args, Path::new("d/new.yaml"));
        rewritten
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn both_spellings_of_the_flag_are_rewritten() {
        assert_eq!(
            rewritten(&["customize", "--config-file", "a.yaml", "--build-dir", "b"]),
            [
                "customize",
                "--config-file",
                "d/new.yaml",
                "--build-dir",
                "b"
            ]
        );
        assert_eq!(
            rewritten(&["--config-file=a.yaml", "--log-level=debug"]),
            ["--config-file=d/new.yaml", "--log-level=debug"]
        );
    }

    #[test]
    fn a_missing_flag_is_added_and_lookalikes_stay() {
        assert_eq!(
            rewritten(&["customize"]),
            ["customize", "--config-file", "d/new.yaml"]
        );
        assert_eq!(
            rewritten(&["--config-filex=a", "--", "--config-file", "a"]),
            [
                "--config-filex=a",
                "--config-file",
                "d/new.yaml",
                "--",
                "--config-file",
                "a"
            ]
        );
        assert_eq!(
            rewritten(&["--config-file"]),
            ["--config-file", "d/new.yaml"]
        );
    }

    #[test]
    fn the_subcommand_is_found_behind_flags_of_all() {
        for (args, verb, rest) in [
            ("--build-dir b", Verb::Customize, "--build-dir b"),
            ("customize --build-dir b", Verb::Customize, "--build-dir b"),
            (
                "--log-level debug --disable-telemetry validate-config --log-color=never",
                Verb::ValidateConfig,
                "--log-level debug --disable-telemetry --log-color=never",
            ),
            (
                "create --distro azurelinux",
                Verb::Create,
                "--distro azurelinux",
            ),
            // A value is no subcommand.
            ("--log-file convert", Verb::Customize, "--log-file convert"),
            ("--build-dir create", Verb::Customize, "--build-dir create"),
            ("inject-files", Verb::InjectFiles, ""),
            ("convert --image-file i", Verb::Convert, "--image-file i"),
        ] {
            let words = |text: &str| {
                text.split_whitespace()
                    .map(OsString::from)
                    .collect::<Vec<_>>()
            };
            assert_eq!(Verb::among(&words(args)), (verb, words(rest)), "{args}");
        }
    }

    #[test]
    fn a_killed_program_has_the_exit_code_of_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }
}
