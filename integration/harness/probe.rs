//! A workspace with one extension, placed in the root of a real system.

use std::fs;
use std::path::{Path, PathBuf};

use super::signer::Signer;
use super::workspace::Workspace;

/// The name of the extension.
pub(crate) const NAME: &str = "probe";
/// A file of it.
pub(crate) const FILE: &str = "/usr/share/probe/greeting";
/// The text of that file.
pub(crate) const TEXT: &str = "hello from an extension\n";

/// An extension without hash or signature, in a file system of this format.
pub(crate) fn in_format(format: &str) -> Workspace {
    workspace(&format!("    verity: none\n    format: {format}\n"), "")
}

/// An extension signed by this key, on a system that admits only signed ones.
pub(crate) fn signed(signer: &Signer) -> Workspace {
    let section = "  verityKey: ../keys/signer.pem\n  verityCertificate: ../keys/signer.crt\n  \
                   imagePolicy: signed\n";
    let workspace = workspace("", section);
    fs::copy(signer.key(), workspace.path("keys/signer.pem")).unwrap();
    fs::copy(signer.certificate(), workspace.path("keys/signer.crt")).unwrap();
    workspace
}

/// Builds the extension and places it in the target.
pub(crate) fn apply(workspace: &Workspace, rootfs: &Path) {
    let args = format!("apply --rootfs {}", rootfs.display());
    workspace.run(&args).succeeded();
}

/// Builds the extension for the target without placing it and returns the image.
pub(crate) fn build(workspace: &Workspace, rootfs: &Path) -> PathBuf {
    let args = format!("build --rootfs {}", rootfs.display());
    workspace.run(&args).succeeded();
    workspace.path(&format!("project/.sysext/{NAME}.raw"))
}

fn workspace(extension: &str, section: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write(&format!("project/root{FILE}"), TEXT, 0o644);
    workspace.config(&format!(
        "os:\n  hostname: referee\n\nsysext:\n{section}  extensions:\n  - name: {NAME}\n    \
         version: 1.0.0\n    tree: ./root\n{extension}"
    ));
    workspace
}
