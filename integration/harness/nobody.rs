//! Running as a user without any privilege.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::tools::{have, skip};

/// `nobody`, as which things must work without any privilege.
pub(crate) const NOBODY: u32 = 65534;

/// The same command as an unprivileged user; none where this process can't become one.
pub(crate) fn as_nobody(command: &Command) -> Option<Command> {
    let can = rustix::process::geteuid().is_root() || skip("becoming nobody needs root");
    if !(can && have(&["setpriv"])) {
        return None;
    }
    let mut unprivileged = Command::new("setpriv");
    unprivileged
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        unprivileged.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            unprivileged.env(name, value);
        }
    }
    Some(unprivileged)
}

/// Hands a folder and all below it to nobody.
pub(crate) fn give_to_nobody(root: &Path) {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let permissions = entry.metadata().unwrap().permissions();
        std::os::unix::fs::lchown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        if !entry.file_type().is_symlink() {
            // A change of owner takes set-user-id away.
            fs::set_permissions(entry.path(), permissions).unwrap();
        }
    }
}
