//! A base for the tests of the rules.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Activation, Host, Image, Service};
use crate::base::folder::folder_content;
use crate::base::kernel::{KernelFeatures, Support};
use crate::io::open::testing::folder as files;
use crate::io::root::RootDir;
use crate::systemd::arch::Arch;
use crate::systemd::release_file::ReleaseFields;
use crate::systemd::version::SystemdVersion;

/// The os-release of the base; as a release file it fits.
pub(super) const RELEASE: &str = "ID=base\nVERSION_ID=1\n";

static FIELDS: LazyLock<ReleaseFields> =
    LazyLock::new(|| ReleaseFields::parse(RELEASE.as_bytes()).unwrap());
static NO_VARIABLES: BTreeMap<String, String> = BTreeMap::new();

/// A service that is enabled, has no options and trusts nobody.
pub(super) fn service() -> Service<'static> {
    Service {
        image_policy: None,
        trusted: &[],
        has_tool: true,
        activation: Activation::Enabled,
        force: false,
        environment: &NO_VARIABLES,
    }
}

/// A base that has all that extensions need.
pub(super) fn host(systemd: &str) -> Host<'static> {
    Host {
        os_release: &FIELDS,
        systemd: SystemdVersion::parse(systemd).map(Into::into),
        arch: Some(Arch::X86_64),
        kernel: KernelFeatures {
            erofs: Support::Yes,
            dm_verity: Support::Module,
            overlay: Support::Yes,
            loop_device: Support::Yes,
            ..KernelFeatures::UNKNOWN
        },
        initrd: false,
        has_cryptsetup: Some(true),
        incomplete: false,
        sysext: service(),
        confext: service(),
    }
}

/// A folder with a release file for a name.
pub(super) fn folder(name: &str) -> Image {
    let release = format!("usr/lib/extension-release.d/extension-release.{name}");
    let dir = files(&[(&release, RELEASE)]);
    let root = RootDir::open(dir.path()).unwrap();
    let content = folder_content(&root, "/".as_ref()).unwrap().unwrap();
    Image::Folder {
        content: Box::new(content),
        in_usr: false,
        local: None,
    }
}
