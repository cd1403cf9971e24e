//! Files that do not belong into an image that many machines share, or that open the system.

use super::{Contents, named, split};
use crate::finding::Finding;
use crate::image::read::FileKind;

/// Bytes in which the first line of a key is looked for.
const START: u64 = 256;
/// Databases of package managers (rpm, rpm-ostree, dpkg, opkg).
const DATABASES: [&str; 5] = [
    "/usr/lib/sysimage/rpm",
    "/usr/share/rpm",
    "/usr/lib/rpm/rpmdb",
    "/usr/lib/dpkg",
    "/usr/lib/opkg",
];

/// Private keys and password files.
pub(super) fn secrets(contents: &Contents<'_>) -> Option<Finding> {
    let is_key = |path: &str| {
        let (_, name) = split(path);
        let by_name = name.ends_with(".pem")
            || name.ends_with(".key")
            || name.starts_with("id_")
            || name.starts_with("ssh_host_");
        let start = if by_name {
            contents.start(path, START)
        } else {
            Vec::new()
        };
        let text = String::from_utf8_lossy(&start);
        text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----")
    };
    let is_secret = |path: &str| path == "/etc/shadow" || path == "/etc/gshadow" || is_key(path);
    let found = contents.files().map(|(path, _)| path);
    let found = named(found.filter(|path| is_secret(path)))?;
    Some(
        Finding::warning("secret-inside", format!("private keys or password files: {found}"))
            .because("an extension is readable by all who have the image, and the same on every machine")
            .help("leave them out; make them on each machine, or pass them as credentials (systemd.exec(5), LoadCredential)"),
    )
}

/// Files that run with the rights of their owner or group.
pub(super) fn set_id(contents: &Contents<'_>) -> Option<Finding> {
    let files = contents.files();
    let found = files.filter(|(_, found)| found.mode & 0o6000 != 0 && found.mode & 0o111 != 0);
    let found = named(found.map(|(path, _)| path))?;
    Some(
        Finding::note(
            "set-id-inside",
            format!("setuid or setgid programs: {found}"),
        )
        .because("extensions are mounted without nosuid (src/shared/dissect-image.c), so they work")
        .help("check that they are wanted; `permissions` or the mode in the tree changes them"),
    )
}

/// What every user may write to if the layer were writable, and is a fault in any case.
pub(super) fn world_writable(contents: &Contents<'_>) -> Option<Finding> {
    let entries = contents.entries.iter();
    let found = entries.filter(|(_, found)| {
        let is_sticky = found.kind == FileKind::Directory && found.mode & 0o1000 != 0;
        let counts = matches!(found.kind, FileKind::File | FileKind::Directory);
        counts && !is_sticky && found.mode & 0o002 != 0
    });
    let found = named(found.map(|(path, _)| path.as_str()))?;
    Some(
        Finding::warning("world-writable", format!("every user may write to: {found}"))
            .because("the mode of the top layer is that of the merged file or folder, also in a mutable merge")
            .help("take the write bit for others away (chmod o-w)"),
    )
}

/// Databases that would hide the base's.
pub(super) fn package_database(contents: &Contents<'_>) -> Option<Finding> {
    let mut found = Vec::new();
    for folder in DATABASES {
        let files = contents.below(folder);
        let bytes: u64 = files.map(|(_, found)| found.size).sum();
        if bytes > 0 {
            found.push(format!("{folder} ({} KiB)", bytes.div_ceil(1024)));
        }
    }
    if found.is_empty() {
        return None;
    }
    let message = format!("the database of a package manager: {}", found.join(", "));
    Some(
        Finding::warning("package-database", message)
            .because("a file of the extension hides that of the base, so the base's packages seem to be gone")
            .help("leave it out with `exclude`, or build the content without a package manager's root"),
    )
}
