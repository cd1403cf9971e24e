//! The version of systemd in a root file system, and the architecture of its programs.

use std::io::Read;

use super::root::{RootDir, RootError};
use crate::arch::Arch;
use crate::release::SystemdVersion;

/// Folders of `libsystemd-shared-VERSION.so`, as distributions place it.
const LIBRARY_FOLDERS: &[&str] = &[
    "/usr/lib/systemd",
    "/usr/lib64/systemd",
    "/usr/lib/x86_64-linux-gnu/systemd",
    "/usr/lib/aarch64-linux-gnu/systemd",
    "/lib/systemd",
];

/// Largest dpkg database that is read, in bytes.
const MAX_DPKG_STATUS: u64 = 64 << 20;

/// Programs whose ELF header tells the architecture.
const PROGRAMS: &[&str] = &[
    "/usr/bin/systemd-sysext",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/usr/bin/bash",
    "/bin/sh",
];

/// The version, with the point release where the package database or the library's name tells it.
pub fn version(root: &RootDir) -> Result<Option<SystemdVersion>, RootError> {
    if let Some(version) = dpkg(root)? {
        return Ok(Some(version));
    }
    for folder in LIBRARY_FOLDERS {
        for name in root.list(folder)? {
            let version = name
                .to_str()
                .and_then(|name| name.strip_prefix("libsystemd-shared-")?.strip_suffix(".so"))
                .and_then(SystemdVersion::parse);
            if version.is_some() {
                return Ok(version);
            }
        }
    }
    Ok(None)
}

/// The version of the installed package `systemd` in dpkg's database.
fn dpkg(root: &RootDir) -> Result<Option<SystemdVersion>, RootError> {
    let Some(bytes) = root.read("/var/lib/dpkg/status", MAX_DPKG_STATUS)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let paragraph = text.split("\n\n").find(|paragraph| {
        paragraph.lines().any(|line| line == "Package: systemd")
            && paragraph
                .lines()
                .any(|line| line.starts_with("Status:") && line.ends_with(" installed"))
    });
    let version = paragraph
        .and_then(|paragraph| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix("Version: "))
        })
        .and_then(SystemdVersion::parse);
    Ok(version)
}

/// The architecture of the first known program that is there.
pub fn architecture(root: &RootDir) -> Result<Option<Arch>, RootError> {
    for path in PROGRAMS {
        // A program that can't be read tells nothing; the next one may.
        let Ok(Some(mut file)) = root.open_file(path) else {
            continue;
        };
        let mut header = [0; 20];
        if file.read_exact(&mut header).is_ok()
            && let Some(arch) = elf_architecture(&header)
        {
            return Ok(Some(arch));
        }
    }
    Ok(None)
}

/// e_machine with class and byte order (System V ABI, ELF header).
fn elf_architecture(header: &[u8; 20]) -> Option<Arch> {
    let [0x7f, b'E', b'L', b'F', class, order, .., low, high] = *header else {
        return None;
    };
    let (wide, little) = (class == 2, order == 1);
    let machine = if little {
        u16::from_le_bytes([low, high])
    } else {
        u16::from_be_bytes([low, high])
    };
    let name = match (machine, wide, little) {
        (62, true, true) => "x86-64",
        (3, false, true) => "x86",
        (183, true, true) => "arm64",
        (40, false, true) => "arm",
        (243, true, true) => "riscv64",
        (243, false, true) => "riscv32",
        (22, true, false) => "s390x",
        (21, true, true) => "ppc64-le",
        (21, true, false) => "ppc64",
        (258, true, true) => "loongarch64",
        _ => return None,
    };
    Arch::parse(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(files: &[(&str, &[u8])]) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn the_package_database_tells_the_point_release() {
        let status = "Package: dash\nStatus: install ok installed\nVersion: 1\n\n\
            Package: systemd\nStatus: install ok installed\nVersion: 257.8-1~deb13u2\n";
        let (_dir, root) = root_with(&[
            ("var/lib/dpkg/status", status.as_bytes()),
            ("usr/lib/systemd/libsystemd-shared-257.so", b""),
        ]);
        let version = version(&root).unwrap().unwrap();
        assert_eq!((version.major, version.minor), (257, 8));
    }

    #[test]
    fn the_library_name_tells_it_elsewhere() {
        let (_dir, root) = root_with(&[("usr/lib/systemd/libsystemd-shared-255.so", b"")]);
        let version = version(&root).unwrap().unwrap();
        assert_eq!((version.major, version.minor), (255, 0));
        let (_dir, root) = root_with(&[("usr/lib/x", b"")]);
        assert_eq!(super::version(&root).unwrap(), None);
    }

    #[test]
    fn elf_headers() {
        let mut header = [0; 20];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = 62;
        assert_eq!(elf_architecture(&header), Some(Arch::X86_64));
        header[18] = 183;
        assert_eq!(elf_architecture(&header), Some(Arch::ARM64));
        header[0] = 0;
        assert_eq!(elf_architecture(&header), None);
    }
}
