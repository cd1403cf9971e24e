//! A workspace whose extensions are placed in its root file system, and taken out again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::said::Said;
use super::snapshot::{Snapshot, snapshot};
use super::workspace::Workspace;

/// What an apply places of [`workspace`], makes and needs.
pub(crate) const CERTIFICATE: &str = "/etc/verity.d/cert.crt";
pub(crate) const DROP_IN: &str =
    "/etc/systemd/system/systemd-sysext.service.d/50-image-policy.conf";
pub(crate) const IMAGE: &str = "/var/lib/extensions/kubernetes.raw";
pub(crate) const RECORD: &str = "/var/lib/prism-sysext/applied.json";
pub(crate) const LINK: &str = "/etc/systemd/system/sysinit.target.wants/systemd-sysext.service";
pub(crate) const UNIT: &str = "/usr/lib/systemd/system/systemd-sysext.service";

/// One extension, `kubernetes`, signed, with an image policy; a base of systemd 255.
pub(crate) fn workspace() -> Workspace {
    workspace_in(&std::env::temp_dir())
}

/// The same in a folder of choice.
pub(crate) fn workspace_in(folder: &Path) -> Workspace {
    let workspace = Workspace::new_in(folder);
    workspace.list_extensions(&["kubernetes"]);
    workspace
}

impl Workspace {
    /// Writes a config that lists these extensions.
    pub(crate) fn list_extensions(&self, names: &[&str]) {
        self.list_with("", names);
    }

    /// The same with `more` lines in its `sysext:` section.
    pub(crate) fn list_with(&self, more: &str, names: &[&str]) {
        let mut config = format!(
            "sysext:\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  \
             imagePolicy: signed\n{more}  extensions:\n"
        );
        for name in names {
            config.push_str(&format!(
                "  - name: {name}\n    version: \"1\"\n    files: [\"bin/tool:/usr/local/bin/{name}\"]\n"
            ));
        }
        self.config(&config);
    }

    /// Gives the extensions another content.
    pub(crate) fn change_content(&self, content: impl AsRef<[u8]>) {
        self.write("project/bin/tool", content, 0o755);
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// A path in the root file system, as it is seen from outside.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// Writes a file of the root file system, with the folders that lead to it.
    pub(crate) fn write_inside(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Makes a link in the root file system, with the folders that lead to it.
    pub(crate) fn link_inside(&self, path: &str, target: &str) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Of the root file system.
    pub(crate) fn rootfs_snapshot(&self) -> Snapshot {
        snapshot(&self.rootfs())
    }

    pub(crate) fn apply(&self, more: &str) -> Said {
        self.run(&format!("apply --rootfs ../rootfs --output json {more}"))
    }

    pub(crate) fn remove(&self, name: &str, more: &str) -> Said {
        self.run(&format!(
            "remove --rootfs ../rootfs --output json {name} {more}"
        ))
    }

    pub(crate) fn list(&self) -> Value {
        let said = self.run("list --rootfs ../rootfs --output json");
        said.succeeded().json()
    }

    /// What an apply wrote down of itself.
    pub(crate) fn record(&self) -> Value {
        let text = fs::read(self.inside(RECORD)).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}
