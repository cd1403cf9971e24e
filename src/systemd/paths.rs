//! Where systemd looks for extensions and certificates.

/// Where systemd looks for system extensions, the earlier first
/// (systemd `src/shared/discover-image.c`; those below `/usr` only up to 253).
pub(crate) const SYSEXT_DIRS: &[&str] = &[
    "/etc/extensions",
    "/run/extensions",
    "/var/lib/extensions",
    "/usr/local/lib/extensions",
    "/usr/lib/extensions",
];

/// Where systemd looks for configuration extensions (same source, since 254).
pub(crate) const CONFEXT_DIRS: &[&str] = &[
    "/run/confexts",
    "/var/lib/confexts",
    "/usr/local/lib/confexts",
    "/usr/lib/confexts",
];

/// Where systemd looks for certificates, the earlier first
/// (systemd `src/shared/dissect-image.c`, `CONF_PATHS("verity.d")`).
pub(crate) const CERTIFICATE_DIRS: &[&str] = &[
    "/etc/verity.d",
    "/run/verity.d",
    "/usr/local/lib/verity.d",
    "/usr/lib/verity.d",
    "/lib/verity.d",
];

/// Where certificates are kept that a unit copies to `/run/verity.d`; systemd does not look here.
pub(crate) const CERTIFICATE_STORE: &str = "/usr/lib/prism-sysext/verity.d";
