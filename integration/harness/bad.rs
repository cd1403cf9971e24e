//! A good config, and a ground that has beside it all that is bad.

use std::fs;

use super::workspace::Ground;

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

/// A ground with all that is bad: keys, certificates, trees, images.
pub(crate) fn ground() -> Ground {
    let ground = Ground::new();
    ground.write(
        "imagecustomizer",
        "#!/bin/sh\necho reached >reached\n",
        0o755,
    );
    let key = ground.read("keys/key.pem");
    ground.write("keys/open.pem", &key, 0o644);
    ground.write("keys/garbage.pem", "not a key\n", 0o600);
    ground.write("keys/garbage.crt", "not a certificate\n", 0o644);
    let bundle = [ground.read("keys/cert.crt"), ground.read("keys/other.crt")].concat();
    ground.write("keys/bundle.crt", bundle, 0o644);
    ground.write("project/garbage.raw", vec![0x5a; 70_000], 0o644);
    ground.write("project/empty.raw", "", 0o644);
    ground.write("project/outside/etc/passwd", "x", 0o644);
    ground.write("project/outside/usr/bin/a", "x", 0o755);
    ground.write("project/identity/usr/lib/os-release", "ID=x\n", 0o644);
    ground.write("project/tree/usr/bin/tool", "x", 0o755);
    ground.write(
        "project/foreign/usr/lib/extension-release.d/extension-release.other",
        "ID=azurelinux\n",
        0o644,
    );
    fs::create_dir(ground.path("project/hollow")).unwrap();
    ground
}

/// Builds `GOOD` and moves the image to `project/NAME`, then forgets the rest.
pub(crate) fn image_as(ground: &Ground, config: &str, built: &str, name: &str) {
    ground.config(config);
    ground.run(BUILD).succeeded();
    let bytes = ground.read(&format!("project/.sysext/{built}"));
    ground.write(&format!("project/{name}"), bytes, 0o644);
    fs::remove_dir_all(ground.path("project/.sysext")).unwrap();
}
