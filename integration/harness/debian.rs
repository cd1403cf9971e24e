//! Debian roots that outlive test runs: each is made once, and nobody changes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::tools::{command, output, run, skip, transcript};

/// Debian 13.
pub(crate) const SUITE: &str = "trixie";
/// Raise it when what is done to the root below changes.
const VERSION: &str = "2";
/// Not needed to merge or to boot; without them a copy is made in half the time.
const BALLAST: [&str; 5] = [
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
];

/// The directory that outlives test runs: `PRISM_SYSEXT_CACHE`, else `target/referee`.
pub(crate) fn cache() -> PathBuf {
    let cache = match std::env::var_os("PRISM_SYSEXT_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("referee"),
    };
    fs::create_dir_all(&cache).unwrap();
    cache
}

/// Waits until no other test holds the lock of this name; it ends with the file.
pub(crate) fn lock(name: &str) -> File {
    let file = File::create(cache().join(format!("{name}.lock"))).unwrap();
    file.lock().unwrap();
    file
}

/// A root of this suite in the cache that has these packages, made now if need be while others
/// wait. It is not to be changed. `newer` names a suite and a package that is upgraded from it.
pub(crate) fn of_suite(
    suite: &str,
    packages: &str,
    newer: Option<(&str, &str)>,
) -> Option<PathBuf> {
    let stamp = Sha256::digest(format!(
        "{suite} {packages} {BALLAST:?} {VERSION} {newer:?}"
    ));
    let stamp: String = stamp
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("{suite}-{stamp}");
    let done = cache().join(&name);
    let _lock = lock(&name);
    if done.exists() {
        return Some(done);
    }

    let Some(mirror) = mirror() else {
        skip("apt of this machine names no mirror of Debian");
        return None;
    };
    let partial = cache().join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).unwrap();
    }
    let mut debootstrap = command("debootstrap");
    debootstrap
        .args(["--variant=minbase", "--include", packages, suite])
        .arg(&partial)
        .arg(&mirror)
        // All suites of today are set up alike; older debootstraps do not know the newest by name.
        .arg("/usr/share/debootstrap/scripts/sid")
        // The kernel's package makes no initrd then.
        .env("INITRD", "No");
    let said = output(&mut debootstrap);
    if !said.status.success() {
        // Without a network there is no root; debootstrap's words tell why.
        skip(&format!(
            "debootstrap failed, {}\n{}",
            said.status,
            transcript(&said)
        ));
        return None;
    }
    if let Some((from, package)) = newer {
        upgrade(&partial, &mirror, from, package);
    }
    for path in BALLAST {
        fs::remove_dir_all(partial.join(path)).unwrap();
    }
    fs::rename(&partial, &done).unwrap();
    Some(done)
}

/// Upgrades a package of a root with apt of this machine's network.
fn upgrade(root: &Path, mirror: &str, suite: &str, package: &str) {
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keyring}] {mirror} {suite} main\n");
    fs::write(root.join("etc/apt/sources.list.d/newer.list"), source).unwrap();
    let script = format!(
        "apt-get -q update && apt-get -q install -y --no-install-recommends -t {suite} {package}"
    );
    // What makes apt reach the archive here must do so in there.
    for name in ["resolv.conf", "hosts"] {
        let _ = fs::copy(Path::new("/etc").join(name), root.join("etc").join(name));
    }
    let confs = fs::read_dir("/etc/apt/apt.conf.d")
        .into_iter()
        .flatten()
        .flatten();
    for conf in confs {
        let _ = fs::copy(
            conf.path(),
            root.join("etc/apt/apt.conf.d").join(conf.file_name()),
        );
    }
    run(command("chroot")
        .arg(root)
        .args(["sh", "-c", &script])
        .env("DEBIAN_FRONTEND", "noninteractive"));
}

/// The Debian mirror that this machine's apt uses; none if it is no Debian.
fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let text: String = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    debian_uri(&text)
}

/// The first archive URI in apt's source lists, of either format, that is a Debian mirror's: they
/// all end in `/debian`, as the security archive and other vendors' do not.
fn debian_uri(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| {
            let web = word.starts_with("http://") || word.starts_with("https://");
            web && word.trim_end_matches('/').ends_with("/debian")
        })
        .map(str::to_owned)
}
