//! A Debian 13 root with systemd 257 and a kernel: made once, copied for every test.
//!
//! It has what an extension needs on a real machine and no more: libcryptsetup (systemd loads it
//! at run time for verity), dmsetup (its udev rules end libdevmapper's wait for a device), newer
//! systemd-dissect and fsck.erofs than Debian 12 has, and the cloud kernel, whose NVMe, ext4 and serial drivers are built in, so that it boots without an
//! initrd.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::debian::{SUITE, of_suite};
use super::tools::{command, have, root, run, skip};

const PACKAGES: &str = "systemd,systemd-sysv,udev,dbus,libcryptsetup12,dmsetup,kmod,\
                        linux-image-cloud-amd64,systemd-container,erofs-utils";

/// A test's own copy of the root; it goes when this does.
pub(crate) struct Rootfs {
    dir: TempDir,
}

impl Rootfs {
    /// The directory that is `/` of the target.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Where a path of the target is.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file of the target, with the directories above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// The kernel of the target.
    pub(crate) fn kernel(&self) -> PathBuf {
        let boot = fs::read_dir(self.at("boot")).unwrap();
        boot.map(|entry| entry.unwrap().path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().starts_with("vmlinuz-")
            })
            .unwrap()
    }
}

/// A copy of the root for one test; `None` (said on stderr) where it cannot be had.
pub(crate) fn rootfs() -> Option<Rootfs> {
    rootfs_of(SUITE)
}

/// The same of another suite.
pub(crate) fn rootfs_of(suite: &str) -> Option<Rootfs> {
    let possible = cfg!(target_arch = "x86_64") || skip("the Debian root is for x86-64");
    if !(possible && root() && have(&["debootstrap", "cp"])) {
        return None;
    }
    let original = of_suite(suite, PACKAGES, None)?;
    let dir = TempDir::new().unwrap();
    run(command("cp")
        .args(["-a", "--reflink=auto"])
        .arg(original)
        .arg(dir.path().join("root")));
    Some(Rootfs { dir })
}
