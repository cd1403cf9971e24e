//! A good config, and a workspace that has beside it all that is bad.

use std::fs;

use super::workspace::Workspace;

/// A config that is good, with the key beside the project.
pub(crate) const GOOD: &str = concat!(
    "sysext:\n",
    "  verityKey: ../keys/key.pem\n",
    "  verityCertificate: ../keys/cert.crt\n",
    "  extensions:\n",
    "  - {name: tools, version: '1.0', files: ['bin/tool:/usr/bin/tool']}\n",
);

pub(crate) const BUILD: &str = "build --rootfs ../rootfs";

pub(crate) const APPLY: &str = "apply --rootfs ../rootfs";

pub(crate) const CUSTOMIZE: &str =
    "customize --rootfs ../rootfs --imagecustomizer ../imagecustomizer --build-dir b";

/// A workspace with all that is bad: keys, certificates, trees, images.
pub(crate) fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.program("imagecustomizer", "#!/bin/sh\necho reached >reached\n");
    let key = workspace.read("keys/key.pem");
    workspace.write("keys/open.pem", &key, 0o644);
    workspace.write("keys/garbage.pem", "not a key\n", 0o600);
    workspace.write("keys/garbage.crt", "not a certificate\n", 0o644);
    let bundle = [
        workspace.read("keys/cert.crt"),
        workspace.read("keys/other.crt"),
    ]
    .concat();
    workspace.write("keys/bundle.crt", bundle, 0o644);
    workspace.write("project/garbage.raw", vec![0x5a; 70_000], 0o644);
    workspace.write("project/empty.raw", "", 0o644);
    workspace.write("project/outside/etc/passwd", "x", 0o644);
    workspace.write("project/outside/usr/bin/a", "x", 0o755);
    workspace.write("project/identity/usr/lib/os-release", "ID=x\n", 0o644);
    workspace.write("project/tree/usr/bin/tool", "x", 0o755);
    workspace.write(
        "project/foreign/usr/lib/extension-release.d/extension-release.other",
        "ID=azurelinux\n",
        0o644,
    );
    fs::create_dir(workspace.path("project/hollow")).unwrap();
    workspace
}

/// Builds `GOOD` and moves the image to `project/NAME`, then forgets the rest.
pub(crate) fn image_as(workspace: &Workspace, config: &str, built: &str, name: &str) {
    workspace.config(config);
    workspace.run(BUILD).succeeded();
    let bytes = workspace.read(&format!("project/.sysext/{built}"));
    workspace.write(&format!("project/{name}"), bytes, 0o644);
    fs::remove_dir_all(workspace.path("project/.sysext")).unwrap();
}
