//! What merges the extensions of each kind, as the rules see it.

use crate::base::Base;
use crate::check::{Activation, Host, Service};
use crate::image::x509::Certificate;
use crate::systemd::kind::ExtensionKind;

/// The certificates that count for each kind of extensions.
pub(super) struct TrustedBy {
    sysext: Vec<Certificate>,
    confext: Vec<Certificate>,
}

impl TrustedBy {
    pub(super) fn each(trusted: impl Fn(ExtensionKind) -> Vec<Certificate>) -> TrustedBy {
        TrustedBy {
            sysext: trusted(ExtensionKind::Sysext),
            confext: trusted(ExtensionKind::Confext),
        }
    }

    pub(super) fn of(&self, kind: ExtensionKind) -> &[Certificate] {
        match kind {
            ExtensionKind::Sysext => &self.sysext,
            ExtensionKind::Confext => &self.confext,
        }
    }
}

/// What merges the extensions of a kind, as the rules see it.
pub(super) fn service<'a>(
    base: &'a Base,
    kind: ExtensionKind,
    image_policy: Option<&'a str>,
    trusted: &'a [Certificate],
    will_enable: bool,
) -> Service<'a> {
    let unit = base.unit(kind);
    Service {
        image_policy,
        trusted,
        // `systemd-confext` is a link to `systemd-sysext`.
        has_tool: base.has_sysext_tool,
        activation: Activation::of(unit, will_enable),
        force: unit.force,
        environment: &unit.environment,
    }
}

/// The base as the rules see it.
pub(super) fn host<'a>(base: &'a Base, service: impl Fn(ExtensionKind) -> Service<'a>) -> Host<'a> {
    Host {
        os_release: &base.release,
        systemd: base.systemd_build(),
        arch: base.arch,
        kernel: base.kernel_features(),
        initrd: base.initrd,
        has_cryptsetup: base.has_cryptsetup,
        incomplete: base.is_incomplete(),
        sysext: service(ExtensionKind::Sysext),
        confext: service(ExtensionKind::Confext),
    }
}
