//! Certificates that a unit copies to where systemd looks for them, before it merges.
//!
//! `/run` is empty after every boot, so what is to be trusted from `/run/verity.d` alone has to be
//! brought there first. A tmpfiles.d entry comes too late: `systemd-tmpfiles-setup.service` is not
//! ordered before the merge (systemd `units/systemd-sysext.service`).

use std::path::Path;

use serde::Serialize;

use super::facts::Facts;
use crate::io::root::EntryKind;
use crate::systemd::paths::CERTIFICATE_DIRS;
use crate::systemd::unit_file::split_command;

/// A certificate that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateCopy {
    /// The file in the base.
    pub from: String,
    /// Where it will lie when the merge begins, such as `/run/verity.d/key.crt`.
    pub to: String,
}

/// What the commands before the merge do about certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copies {
    /// The copies that will be there.
    pub files: Vec<CertificateCopy>,
    /// Why one of the commands fails, and the unit with it, so that nothing is merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Reads the `ExecStartPre=` lines of a unit that call `install -D … SOURCE DESTINATION`; what
/// other commands do is not known.
pub(super) fn read(facts: &mut Facts<'_>, commands: &[String]) -> Copies {
    let mut copies = Copies::default();
    for command in commands {
        let Some(Command {
            copy,
            may_fail,
            makes_folder,
        }) = Command::parse(command)
        else {
            continue;
        };
        let failure = match facts.metadata(&copy.from) {
            Some(found) if found.kind != EntryKind::File => {
                Some(format!("{} is no regular file", copy.from))
            }
            None => Some(format!("{} is not there", copy.from)),
            Some(_) if !makes_folder => Some(format!(
                "`install` without -D does not make the folder of {}",
                copy.to
            )),
            Some(_) => None,
        };
        match failure {
            None => copies.files.push(copy),
            Some(_) if may_fail => {}
            Some(failure) => copies.failure = copies.failure.or(Some(failure)),
        }
    }
    copies
}

/// A command that puts a certificate in place.
struct Command {
    copy: CertificateCopy,
    may_fail: bool,
    makes_folder: bool,
}

impl Command {
    /// Understands install(1) with `-D` and a mode, and copies to where certificates are looked for.
    fn parse(command: &str) -> Option<Command> {
        // Prefixes of systemd.service(5); `-` lets a failure pass.
        let bare = command.trim_start_matches(['@', '-', ':', '+', '!']);
        let prefix = command.get(..command.len().checked_sub(bare.len())?)?;
        let mut split_command = split_command(bare).into_iter();
        let program = split_command.next()?;
        if Path::new(&program).file_name()? != "install" {
            return None;
        }
        let (mut makes_folder, mut paths) = (false, Vec::new());
        while let Some(word) = split_command.next() {
            match word.as_str() {
                "-D" => makes_folder = true,
                "-m" => drop(split_command.next()?),
                _ if word.starts_with("-m") || word.starts_with("--mode=") => {}
                _ if word.starts_with('-') => return None,
                _ => paths.push(word.replace("%%", "%")),
            }
        }
        let [from, to] = <[String; 2]>::try_from(paths).ok()?;
        let (folder, name) = to.rsplit_once('/')?;
        (CERTIFICATE_DIRS.contains(&folder) && name.ends_with(".crt")).then_some(Command {
            copy: CertificateCopy { from, to },
            may_fail: prefix.contains('-'),
            makes_folder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::root::RootDir;

    fn copies(lines: &[&str]) -> Copies {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("store/folder")).unwrap();
        std::fs::write(dir.path().join("store/a.crt"), "a").unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let mut facts = Facts {
            root: &root,
            findings: Vec::new(),
        };
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        read(&mut facts, &lines)
    }

    #[test]
    fn copies_to_where_certificates_are_looked_for_count() {
        let found = copies(&[
            "install -D -m 0644 /store/a.crt /run/verity.d/a.crt",
            "/usr/bin/install -m0644 -D \"/store/a.crt\" /run/verity.d/b.crt",
            "install -D /store/a.crt /run/elsewhere/a.crt",
            "install -D /store/a.crt /run/verity.d/a.pem",
            "install -d /run/verity.d",
            "cp /store/a.crt /run/verity.d/c.crt",
            "install -D",
            "",
        ]);
        let to: Vec<&str> = found.files.iter().map(|copy| copy.to.as_str()).collect();
        assert_eq!(to, ["/run/verity.d/a.crt", "/run/verity.d/b.crt"]);
        assert_eq!(found.failure, None);
    }

    #[test]
    fn a_copy_that_fails_ends_the_unit_unless_it_may_fail() {
        let failure = |line: &str| copies(&[line]).failure;
        let gone = "install -D /store/gone.crt /run/verity.d/a.crt";
        assert!(failure(gone).is_some_and(|why| why.contains("/store/gone.crt")));
        assert_eq!(failure(&format!("-{gone}")), None);
        assert!(failure("install -D /store/folder /run/verity.d/a.crt").is_some());
        assert!(failure("install /store/a.crt /run/verity.d/a.crt").is_some());
    }
}
