//! Programs of others that make file systems.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where administrators' programs live that an ordinary user's `PATH` leaves out.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];
/// Most of a program's words that are repeated.
const MOST_WORDS: u64 = 4096;

/// A program and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// Its name.
    pub name: &'static str,
    /// The package that has it, by the same name in Azure Linux, Debian, Fedora and Ubuntu.
    pub package: &'static str,
    /// What of the config asks for it.
    pub wanted_by: &'static str,
}

/// A program at work. Its complaints go to a file, so that it never waits for us.
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    words: File,
}

impl Program {
    /// Looks for it in `path`, a list of folders like `PATH`, and in the administrators' folders.
    fn find(&self, path: Option<OsString>) -> Result<PathBuf> {
        let path = path.unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
        let Some(found) = folders
            .map(|dir| dir.join(self.name))
            .find(|file| file.is_file())
        else {
            bail!(
                "{} is not installed, and `{}` needs it; install the package {} or use `format: erofs`",
                self.name,
                self.wanted_by,
                self.package
            );
        };
        Ok(found)
    }

    /// Starts it with nothing of our environment but what is in `variables`.
    pub(crate) fn start<'a>(
        &self,
        args: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (&'a str, String)>,
        input: Stdio,
    ) -> Result<Running> {
        let program = self.find(std::env::var_os("PATH"))?;
        let words = tempfile::tempfile().context("creating a temporary file")?;
        let child = Command::new(&program)
            .args(args)
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .envs(variables)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(words.try_clone()?)
            .spawn()
            .with_context(|| format!("running {}", program.display()))?;
        Ok(Running {
            name: self.name,
            child,
            words,
        })
    }
}

impl Running {
    /// Where the program reads, if it was started with a pipe.
    pub(crate) fn input(&mut self) -> io::Result<std::process::ChildStdin> {
        let input = self.child.stdin.take();
        input.ok_or_else(|| io::Error::other("the program was started without a pipe"))
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for it and returns its standard error. Another exit status than 0 is an error with
    /// these words.
    pub(crate) fn finish(mut self) -> Result<String> {
        let waiting = || format!("waiting for {}", self.name);
        let status = self.child.wait().with_context(waiting)?;
        self.words.seek(SeekFrom::Start(0))?;
        let mut words = Vec::new();
        self.words.take(MOST_WORDS).read_to_end(&mut words)?;
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        if !status.success() {
            bail!("{} failed, {status}: {words}", self.name);
        }
        Ok(words)
    }
}

/// A path by which a program that we start reaches a file of ours, whether or not it has a name
/// (proc_pid_fd(5)).
pub(crate) fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SH: Program = Program {
        name: "sh",
        package: "dash",
        wanted_by: "a test",
    };

    fn sh(script: &str) -> Result<Running> {
        SH.start(
            ["-c", script].map(OsString::from),
            [("X", "y".to_owned())],
            Stdio::piped(),
        )
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let gone = Program {
            name: "mkfs.nothing",
            package: "nothing-tools",
            wanted_by: "format: nothing",
        };
        let error = gone.find(None).unwrap_err().to_string();
        for expected in [
            "mkfs.nothing is not installed",
            "nothing-tools",
            "format: nothing",
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn words_and_status_come_back_and_our_file_is_reached() {
        let mut file = tempfile::tempfile().unwrap();
        let mut running = sh(&format!("cat >{}; echo $X$HOME >&2", path_of(&file))).unwrap();
        running
            .input()
            .unwrap()
            .write_all(b"through a pipe")
            .unwrap();
        assert_eq!(running.finish().unwrap(), "y");
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through a pipe");
        let error = sh("echo no room >&2; exit 3")
            .unwrap()
            .finish()
            .unwrap_err();
        assert_eq!(error.to_string(), "sh failed, exit status: 3: no room");
    }
}
