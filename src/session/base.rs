//! Which base OS a command is about.

use std::path::{Path, PathBuf};

use crate::base::disk::DiskRoot;
use crate::base::profile::Custom;
use crate::base::rootfs::RootFs;
use crate::base::systemd::Systemd;
use crate::base::{Base, profile};
use crate::config::Config;
use crate::config::model::Target;
use crate::finding::{Finding, Severity};
use crate::io::open;
use crate::io::root::RootDir;
use crate::systemd::arch::Arch;
use crate::systemd::release_file::ReleaseFields;

/// Largest file of `target` that is read, in bytes; kernel configs have about 300 KiB.
const MAX_TARGET_BYTES: u64 = 4 << 20;

/// Which base is meant, as far as flags or a caller say; the config has its own say.
#[derive(Debug, Clone, Default)]
pub struct BaseChoice {
    /// A folder that holds its root file system.
    pub rootfs: Option<PathBuf>,
    /// A raw disk image that holds it.
    pub image_file: Option<PathBuf>,
    /// The image that Prism is going to customize.
    pub input_image: Option<PathBuf>,
    /// A built-in profile, such as `azurelinux-3.0`.
    pub target: Option<String>,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The base, if it is known.
    pub base: Option<Base>,
    /// Its root file system, if there is one.
    pub root: Option<Box<dyn RootFs>>,
    /// What was noticed on the way.
    pub findings: Vec<Finding>,
}

impl Found {
    fn profile(base: Option<Base>) -> Found {
        Found {
            base,
            ..Found::default()
        }
    }
}

/// The root file system in a folder.
///
/// # Errors
/// `rootfs-unreadable` if it is no directory, or if the kernel can't keep lookups in it.
pub fn open_root(path: &Path) -> Result<RootDir, Finding> {
    RootDir::open(path).map_err(|error| {
        Finding::error("rootfs-unreadable", error.to_string())
            .help("name the folder of the root file system")
    })
}

/// The base in a disk image.
fn in_image(path: &Path) -> Result<Found, Finding> {
    let (root, mut findings) = DiskRoot::open(path)?;
    let base = Base::read(&root)?;
    findings.extend(base.findings.iter().cloned());
    Ok(Found {
        base: Some(base),
        root: Some(Box::new(root)),
        findings,
    })
}

/// The base by the first of: root file system, image file, profile, the config's `target`,
/// `input.image.path`, `input.image.azureLinux`; nothing if none of them is given.
///
/// # Errors
/// If what is given can't be used: `rootfs-unreadable`, `image-file-unreadable`, `unknown-profile`,
/// for `target` also `target-unreadable`, `unknown-value` and `missing-key`, and those of
/// [`Base::read`]. An input image that can't be read is only a warning.
pub fn find_base(config: Option<&Config>, choice: &BaseChoice) -> Result<Found, Finding> {
    if let Some(path) = &choice.rootfs {
        let root = open_root(path)?;
        let base = Base::read(&root)?;
        return Ok(Found {
            findings: base.findings.clone(),
            base: Some(base),
            root: Some(Box::new(root)),
        });
    }
    if let Some(path) = &choice.image_file {
        return in_image(path);
    }
    if let Some(name) = &choice.target {
        return Ok(Found::profile(Some(profile::by_name(name)?)));
    }
    let Some(config) = config else {
        return Ok(Found::default());
    };
    let target = config.sysext.as_ref().and_then(|it| it.target.as_ref());
    if let Some(target) = target {
        let base = target_base(config, target).map_err(|finding| finding.at("sysext.target"))?;
        return Ok(Found::profile(Some(base)));
    }
    let image = config
        .prism
        .input
        .as_ref()
        .and_then(|input| input.image.as_ref());
    let path = image.and_then(|image| image.path.as_ref());
    let path = path.map(|path| (config.resolve(path), Some("input.image.path")));
    let path = choice.input_image.clone().map(|path| (path, None)).or(path);
    let mut findings = Vec::new();
    if let Some((path, at)) = path.filter(|(path, _)| path.exists()) {
        match in_image(&path) {
            Ok(found) => return Ok(found),
            // Prism reads more formats; the base may be known otherwise.
            Err(finding) => findings.push(Finding {
                severity: Severity::Warning,
                ..match at {
                    Some(at) => finding.at(at),
                    None => finding,
                }
            }),
        }
    }
    let machine = Arch::parse(std::env::consts::ARCH);
    let version = image.and_then(|image| image.azure_linux.as_ref()?.version.as_deref());
    Ok(Found {
        findings,
        ..Found::profile(version.and_then(|version| profile::azure_linux(version, machine)))
    })
}

fn target_base(config: &Config, target: &Target) -> Result<Base, Finding> {
    let arch = match &target.arch {
        None => None,
        Some(text) => Some(Arch::parse(text).ok_or_else(|| {
            Finding::error("unknown-value", format!("`{text}` is not an architecture"))
        })?),
    };
    if let Some(name) = &target.profile {
        let base = profile::by_name(name)?;
        return Ok(Base {
            arch: arch.or(base.arch),
            ..base
        });
    }
    let read = |path: &Path| {
        let path = config.resolve(path);
        open::read(&path, MAX_TARGET_BYTES).map_err(|error| {
            Finding::error(
                "target-unreadable",
                format!("reading {}: {error}", path.display()),
            )
        })
    };
    let Some(os_release) = &target.os_release else {
        return Err(Finding::error(
            "missing-key",
            "`target` needs `osRelease`, or the name of a profile",
        ));
    };
    let release = ReleaseFields::parse(&read(os_release)?).map_err(|error| {
        Finding::error(
            "target-unreadable",
            format!("reading {}: {error}", os_release.display()),
        )
    })?;
    let systemd = match &target.systemd {
        None => None,
        Some(text) => Some(Systemd::parse(text, "target").ok_or_else(|| {
            Finding::error(
                "unknown-value",
                format!("`{text}` is not a version of systemd"),
            )
            .help("write for example \"255\" or \"255.4\"")
        })?),
    };
    let kernel_config = match &target.kernel_config {
        None => None,
        Some(path) => Some(String::from_utf8_lossy(&read(path)?).into_owned()),
    };
    Ok(Custom {
        release,
        systemd,
        kernel_config: kernel_config.as_deref(),
        arch,
    }
    .base())
}
