use std::os::unix::fs::FileExt;
use std::sync::Arc as Shared;

use super::*;
use crate::image::read::{FileSystem, Window};
use crate::image::testing::erofs;
use crate::io::open::testing::folder;
use crate::io::root::RootDir;
use crate::systemd::arch::Arch;
use crate::tree::{Source, Tree};

/// Files by path, with mode and content; `-> TARGET` is a link.
fn image(files: &[(&str, u16, &str)]) -> FileSystem {
    let mut tree = Tree::new();
    for (path, mode, content) in files {
        match content.strip_prefix("-> ") {
            Some(target) => {
                tree.insert_symlink(path.as_bytes(), target.as_bytes())
                    .unwrap();
            }
            None => {
                let bytes = content.as_bytes().to_vec();
                let size = bytes.len() as u64;
                tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, *mode)
                    .unwrap();
            }
        }
    }
    let file = tempfile::tempfile().unwrap();
    let bytes = erofs(&tree);
    file.write_all_at(&bytes, 0).unwrap();
    FileSystem::open(Window::new(Shared::new(file), 0, bytes.len() as u64)).unwrap()
}

/// What is said of an image on a base with these files.
fn said(files: &[(&str, u16, &str)], base: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let dir = folder(&[&[("etc/os-release", "ID=x\n")], base].concat());
    let root = RootDir::open(dir.path()).unwrap();
    let base = Base {
        arch: Some(Arch::X86_64),
        ..Base::read(&root).unwrap()
    };
    let fs = image(files);
    let subject = Subject {
        fs: &fs,
        kind: ExtensionKind::Sysext,
        is_usr: false,
    };
    let target = Target {
        base: &base,
        root: Some(&root),
    };
    let found = lint(subject, target).into_iter();
    found.map(|finding| (finding.id, finding.message)).collect()
}

fn ids(files: &[(&str, u16, &str)]) -> Vec<&'static str> {
    said(files, &[]).into_iter().map(|(id, _)| id).collect()
}

const SERVICE: &str = "[Service]\nExecStart=/usr/bin/x\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn an_ordinary_extension_is_passed_over_in_silence() {
    let files = [
        ("usr/bin/x", 0o755, "#!/bin/sh\n"),
        ("usr/lib/x/bin/helper.so", 0o755, ""),
        ("usr/lib/x/y", 0o644, "-> ../x/bin/helper.so"),
        ("usr/lib/x/conf", 0o644, "-> /etc/x.conf"),
        ("usr/lib/systemd/system/x.service", 0o644, SERVICE),
        (
            "usr/lib/systemd/system/multi-user.target.wants/x.service",
            0o644,
            "-> ../x.service",
        ),
        ("usr/lib/tmpfiles.d/x.conf", 0o644, ""),
        (
            "usr/share/x/cert.pem",
            0o644,
            "-----BEGIN CERTIFICATE-----\n",
        ),
    ];
    assert_eq!(said(&files, &[]), []);
}

#[test]
fn programs_of_another_processor_are_told() {
    let elf = |machine: &str| format!("\x7fELF\x02\x01{}{machine}\0", "\0".repeat(12));
    let (native, old, unknown, foreign) = (elf(">"), elf("\x03"), elf("\x77"), elf("\x28"));
    fn file(text: &str) -> (&str, u16, &str) {
        ("usr/bin/x", 0o755, text)
    }
    for text in [&native, &old, &unknown] {
        assert!(ids(&[file(text)]).is_empty());
    }
    assert_eq!(ids(&[file(&foreign)]), ["wrong-architecture"]);
    let library = ("usr/lib/libx.so.1", 0o644, foreign.as_str());
    assert_eq!(ids(&[library]), ["wrong-architecture"]);
    let firmware = ("usr/lib/firmware/x.so", 0o644, foreign.as_str());
    assert!(ids(&[firmware]).is_empty());
}

#[test]
fn programs_outside_of_path_are_told_unless_linked() {
    let program = ("opt/x/bin/x", 0o755, "");
    assert_eq!(ids(&[program]), ["not-in-path"]);
    let link = ("usr/bin/x", 0o777, "-> ../../opt/x/bin/x");
    assert!(ids(&[program, link]).is_empty());
    let local = [("usr/local/bin/x", 0o755, "")];
    assert!(ids(&local).is_empty());
    let sudoers = "#\nDefaults\tsecure_path = \"/sbin:/bin:/usr/sbin:/usr/bin\"\n";
    let told = said(&local, &[("etc/sudoers", sudoers)]);
    assert!(told[0].1.contains("sudo's secure_path"), "{told:?}");
    let in_usr = [("usr/bin/x", 0o755, "")];
    assert_eq!(said(&in_usr, &[("etc/sudoers", sudoers)]), []);
}

#[test]
fn units_that_nothing_pulls_in_are_told() {
    let dir = "usr/lib/systemd/system";
    let path = |name: &str| format!("{dir}/{name}");
    let (service, timer) = (path("x.service"), path("x.timer"));
    let unit = (service.as_str(), 0o644, SERVICE);
    let told = said(&[unit], &[]);
    assert_eq!(told[0].0, "unit-not-started");
    let drop_in = path("multi-user.target.d/10-x.conf");
    let upholds = (drop_in.as_str(), 0o644, "[Unit]\nUpholds=x.service\n");
    assert!(ids(&[unit, upholds]).is_empty());
    // The timer is what must be started then.
    let timer = (
        timer.as_str(),
        0o644,
        "[Timer]\n[Install]\nWantedBy=timers.target\n",
    );
    let told = said(&[unit, timer], &[]);
    assert!(told[0].1.ends_with("/x.timer"), "{told:?}");
    let without = (service.as_str(), 0o644, "[Service]\nType=dbus\n");
    assert!(ids(&[without]).is_empty());
    let early = [("usr/lib/sysusers.d/x.conf", 0o644, "u x\n")];
    assert_eq!(ids(&early), ["read-before-merge"]);
}

#[test]
fn links_are_followed_in_the_merged_tree() {
    let link = |target| ("usr/lib/x", 0o777, target);
    for (target, is_told) in [
        ("-> y", true),
        ("-> ../lib/y", true),
        ("-> /usr/lib/y", true),
        ("-> /usr/lib/of-base", false),
        ("-> ../../etc/x", false),
        ("-> /run/x", false),
        ("-> other", false),
    ] {
        let files = [link(target), ("usr/lib/other", 0o644, "")];
        let told = said(&files, &[("usr/lib/of-base", "")]);
        assert_eq!(!told.is_empty(), is_told, "{target}: {told:?}");
    }
}

#[test]
fn what_does_not_belong_into_an_image_is_told() {
    let key = "-----BEGIN EC PRIVATE KEY-----\n";
    for (file, id) in [
        (("usr/share/x/server.key", 0o600, key), "secret-inside"),
        (("usr/bin/su", 0o4755, ""), "set-id-inside"),
        (("usr/share/x", 0o666, ""), "world-writable"),
        (
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", 0o644, "db"),
            "package-database",
        ),
    ] {
        assert_eq!(ids(&[file]), [id]);
    }
}

#[test]
fn modules_must_be_for_a_kernel_of_the_base() {
    let files = [("usr/lib/modules/6.6.9/extra/x.ko", 0o644, "")];
    let kernel = |release: &str| format!("usr/lib/modules/{release}/modules.order");
    let (same, other) = (kernel("6.6.9"), kernel("6.6.1"));
    assert_eq!(said(&files, &[(same.as_str(), "")]), []);
    let told = said(&files, &[(other.as_str(), "")]);
    assert_eq!(told[0].0, "modules-without-kernel");
    assert_eq!(said(&files, &[]), [], "a base without kernels");
}
