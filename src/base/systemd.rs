//! Which systemd the base has, and for which processor it is built.

use serde::{Serialize, Serializer};

use super::facts::Facts;
use crate::systemd::arch::{Arch, ELF_START};
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::version::SystemdVersion;

/// The library whose name carries the version since systemd 231 (`src/shared/meson.build`).
const LIBRARY_PREFIX: &str = "libsystemd-shared-";

/// Where distributions put it.
const LIBRARY_DIRS: &[&str] = &[
    "usr/lib/systemd",
    "usr/lib64/systemd",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/lib/aarch64-linux-gnu/systemd",
    "lib/systemd",
];

/// The library that systemd loads once it needs dm-verity (`dlopen_cryptsetup`,
/// `src/shared/cryptsetup-util.c`); small images leave it out.
const CRYPTSETUP: &str = "libcryptsetup.so.12";

/// Where distributions put it.
const CRYPTSETUP_DIRS: &[&str] = &[
    "usr/lib",
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
];

/// Programs that every base with systemd has, the one we need first.
const PROGRAMS: &[&str] = &[
    "usr/bin/systemd-sysext",
    "usr/lib/systemd/systemd",
    "lib/systemd/systemd",
    "usr/bin/sh",
    "bin/sh",
];

/// Most of `var/lib/dpkg/status` that is read; a full desktop has some 6 MB.
const DPKG_STATUS_LIMIT: u64 = 32 * 1024 * 1024;

/// The systemd of a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Systemd {
    /// Its release, and what the distribution ported back to it.
    #[serde(rename = "version", serialize_with = "as_text")]
    pub build: SystemdBuild,
    /// The version as its package writes it, such as `252.39-1~deb12u2`.
    pub text: String,
    /// The file inside the base (or the profile) that says so.
    pub source: String,
    /// Debian's dpkg knows it: such systemd up to 254 had its units in `/lib` rather than `/usr/lib`.
    pub from_dpkg: bool,
}

impl Systemd {
    /// Reads a version such as `255`, `255.4-1.azl3` or `262~devel`.
    pub fn parse(text: &str, source: impl Into<String>) -> Option<Systemd> {
        Some(Systemd {
            build: SystemdVersion::parse(text)?.into(),
            text: text.to_owned(),
            source: source.into(),
            from_dpkg: false,
        })
    }

    /// Whether it has a change.
    pub fn has(&self, change: Change) -> bool {
        self.build.has(change)
    }
}

/// Serializes what has only a name.
pub(super) fn as_text<T: ToString, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// Finds the systemd of a base; the library decides, dpkg adds the point release.
pub(super) fn read_systemd(facts: &mut Facts<'_>) -> Option<Systemd> {
    let mut newest: Option<Systemd> = None;
    for dir in LIBRARY_DIRS {
        for name in facts.list(dir) {
            let Some(version) = name
                .strip_prefix(LIBRARY_PREFIX)
                .and_then(|rest| rest.strip_suffix(".so"))
            else {
                continue;
            };
            let Some(found) = Systemd::parse(version, format!("/{dir}/{name}")) else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|known| known.build.version < found.build.version)
            {
                newest = Some(found);
            }
        }
    }
    let packaged = facts
        .read("var/lib/dpkg/status", DPKG_STATUS_LIMIT)
        .and_then(|status| dpkg_version(&status, "systemd"))
        .and_then(|version| {
            // The part before a colon is Debian's epoch (deb-version(7)).
            let upstream = version
                .rsplit_once(':')
                .map_or(version.as_str(), |(_, rest)| rest);
            Systemd::parse(upstream, "/var/lib/dpkg/status")
        })
        .map(|systemd| Systemd {
            from_dpkg: true,
            ..systemd
        });
    match (newest, packaged) {
        (Some(library), Some(packaged))
            if !library.build.version.is_of_series(packaged.build.version) =>
        {
            Some(library)
        }
        (library, packaged) => packaged.or(library),
    }
}

/// The version of an installed package in dpkg's status file (deb-control syntax).
fn dpkg_version(status: &[u8], package: &str) -> Option<String> {
    let (mut wanted, mut installed, mut version) = (false, false, None);
    // The empty line at the end closes the last paragraph.
    for line in status.split(|byte| *byte == b'\n').chain([b"".as_slice()]) {
        if line.is_empty() {
            if wanted && installed && version.is_some() {
                return version;
            }
            (wanted, installed, version) = (false, false, None);
        } else if let Some(name) = line.strip_prefix(b"Package: ") {
            wanted = name == package.as_bytes();
        } else if let Some(state) = line.strip_prefix(b"Status: ") {
            installed = state.ends_with(b" installed");
        } else if let Some(text) = line.strip_prefix(b"Version: ") {
            version = std::str::from_utf8(text).ok().map(str::to_owned);
        }
    }
    None
}

/// Whether the library is there that systemd loads for dm-verity.
pub(super) fn has_cryptsetup(facts: &mut Facts<'_>) -> bool {
    let mut dirs = CRYPTSETUP_DIRS.iter();
    dirs.any(|dir| facts.metadata(&format!("{dir}/{CRYPTSETUP}")).is_some())
}

/// Whether the program is there that copies certificates before the merge.
pub(super) fn has_install(facts: &mut Facts<'_>) -> bool {
    ["usr/bin/install", "bin/install"]
        .iter()
        .any(|path| facts.metadata(path).is_some())
}

/// Whether the program that merges is there.
pub(super) fn has_sysext_tool(facts: &mut Facts<'_>) -> bool {
    ["usr/bin/systemd-sysext", "bin/systemd-sysext"]
        .iter()
        .any(|path| facts.metadata(path).is_some())
}

/// The processor that the base's programs are built for.
pub(super) fn read_arch(facts: &mut Facts<'_>) -> Option<Arch> {
    PROGRAMS
        .iter()
        .find_map(|path| Arch::of_elf(&facts.read_start(path, ELF_START)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_gives_the_version_of_the_installed_package() {
        let status = b"Package: systemd-sysv\nStatus: install ok installed\nVersion: 1\n\n\
            Package: systemd\nStatus: install ok installed\nDescription: x\n y\nVersion: 252.39-1~deb12u2\n";
        assert_eq!(
            dpkg_version(status, "systemd").as_deref(),
            Some("252.39-1~deb12u2")
        );
        assert_eq!(dpkg_version(status, "none"), None);
        let removed = b"Package: systemd\nStatus: deinstall ok config-files\nVersion: 250\n";
        assert_eq!(dpkg_version(removed, "systemd"), None);
    }

    #[test]
    fn versions_are_read_from_library_names() {
        let systemd = Systemd::parse("255.4-1.azl3", "x").unwrap();
        assert_eq!(systemd.build.version, SystemdVersion::new(255, 4));
        assert!(Systemd::parse("core", "x").is_none());
    }
}
