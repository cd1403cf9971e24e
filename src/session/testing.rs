//! Sessions for the tests of their steps.

use std::path::Path;

use super::{BaseChoice, Request, Session, Stopped};
use crate::build::Built;
use crate::io::open::testing::write;
use crate::io::progress::Progress;
use crate::sign::passphrase::Secrets;

/// A section with one image, `a.raw`, that has a hash tree.
pub(super) const SECTION: &str = "sysext:\n  outputDirectory: out\n  extensions:\n  - {name: a, arch: x86-64, verity: hash, files: [{content: hello, destination: /usr/share/a}]}\n";

/// A config in the folder `dir`, on Azure Linux 3.0.
pub(super) fn session(dir: &Path, text: &str) -> Session {
    let choice = BaseChoice {
        target: Some("azurelinux-3.0".to_owned()),
        ..BaseChoice::default()
    };
    on(choice, dir, text)
}

/// The same on a base of its own, see [`rootfs`].
pub(super) fn in_root(root: &Path, dir: &Path, text: &str) -> Session {
    let choice = BaseChoice {
        rootfs: Some(root.to_owned()),
        ..BaseChoice::default()
    };
    on(choice, dir, text)
}

fn on(base: BaseChoice, dir: &Path, text: &str) -> Session {
    write(dir, "config.yaml", text);
    let request = Request {
        config: dir.join("config.yaml"),
        base,
        ..Request::default()
    };
    Session::open(&request).unwrap().0
}

/// Makes the images.
pub(super) fn build(session: &Session) -> Built {
    let secrets = Secrets::new(&|_| None, &|_| None);
    session.build(&secrets, &Progress::new()).unwrap()
}

/// A root file system with systemd 258, whose service is enabled.
pub(super) fn rootfs(dir: &Path) {
    let mut elf = b"\x7fELF\x02\x01".to_vec();
    elf.resize(18, 0);
    elf.extend([62, 0]);
    let unit = "usr/lib/systemd/system/systemd-sysext.service";
    let kernel = "CONFIG_EROFS_FS=y\nCONFIG_EROFS_FS_ZIP=y\nCONFIG_DM_VERITY=y\nCONFIG_OVERLAY_FS=y\nCONFIG_BLK_DEV_LOOP=y\n";
    write(dir, "usr/lib/os-release", "ID=base\nVERSION_ID=1\n");
    write(dir, "usr/lib/systemd/libsystemd-shared-258.so", "");
    write(dir, "usr/lib/libcryptsetup.so.12", "");
    write(dir, "usr/bin/systemd-sysext", elf);
    write(dir, "usr/lib/modules/6.6.1/kernel/x.ko", "");
    write(dir, "boot/config-6.6.1", kernel);
    write(
        dir,
        unit,
        "[Service]\nExecStart=systemd-sysext refresh\n[Install]\nWantedBy=sysinit.target\n",
    );
    let wants = dir.join("etc/systemd/system/sysinit.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    let link = wants.join("systemd-sysext.service");
    std::os::unix::fs::symlink(format!("/{unit}"), link).unwrap();
}

/// The ids of the errors that a step stopped with.
pub(super) fn ids<T>(result: Result<T, Stopped>) -> Vec<&'static str> {
    match result {
        Ok(_) => Vec::new(),
        Err(stopped) => {
            let ids: Vec<_> = stopped.errors().map(|finding| finding.id).collect();
            assert!(!ids.is_empty(), "{stopped}");
            ids
        }
    }
}
