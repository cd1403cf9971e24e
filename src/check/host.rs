//! What is judged, and on what.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::lookup;
use super::sidecars::Sidecars;
use super::stack::Activation;
use crate::base::kernel::KernelFeatures;
use crate::image::dissect::{Content, Ddi};
use crate::image::x509::Certificate;
use crate::inspect::verify::Report;
use crate::systemd::arch::Arch;
use crate::systemd::changes::SystemdBuild;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::release_file::ReleaseFields;

/// What the rules need to know of the base.
#[derive(Debug)]
pub struct Host<'a> {
    /// Its os-release.
    pub os_release: &'a ReleaseFields,
    /// Its systemd.
    pub systemd: Option<SystemdBuild>,
    /// Its architecture.
    pub arch: Option<Arch>,
    /// What all its kernels can do.
    pub kernel: KernelFeatures,
    /// Whether it is an initrd, for which extensions have to say so.
    pub initrd: bool,
    /// Whether the library that dm-verity needs is installed, as far as that is known.
    pub has_cryptsetup: Option<bool>,
    /// Whether something of it could not be read, so that nothing is certain.
    pub incomplete: bool,
    /// What merges system extensions.
    pub sysext: Service<'a>,
    /// What merges configuration extensions.
    pub confext: Service<'a>,
}

impl<'a> Host<'a> {
    /// What merges extensions of a kind.
    pub fn service(&self, kind: ExtensionKind) -> &Service<'a> {
        match kind {
            ExtensionKind::Sysext => &self.sysext,
            ExtensionKind::Confext => &self.confext,
        }
    }
}

/// What merges extensions of one kind.
#[derive(Debug)]
pub struct Service<'a> {
    /// The value of `--image-policy=` at boot, if any.
    pub image_policy: Option<&'a str>,
    /// Certificates that systemd will find when it merges these.
    pub trusted: &'a [Certificate],
    /// Whether the program is installed.
    pub has_tool: bool,
    /// Whether the service runs at boot.
    pub activation: Activation,
    /// Whether it runs with `--force`.
    pub force: bool,
    /// Variables that the service sets.
    pub environment: &'a BTreeMap<String, String>,
}

impl Service<'_> {
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Whether a variable switches something off.
    pub(super) fn is_off(&self, name: &str) -> bool {
        self.variable(name)
            .is_some_and(|value| ["0", "no", "n", "false", "f", "off"].contains(&value))
    }

    /// What is merged into, without a leading slash (`parse_env_extension_hierarchies`,
    /// src/shared/extension-util.c).
    pub(super) fn hierarchies(&self, kind: ExtensionKind) -> Vec<String> {
        let name = format!("SYSTEMD_{}_HIERARCHIES", kind.key_prefix());
        match self.variable(&name) {
            Some(list) => {
                let paths = list
                    .split(':')
                    .map(|path| path.trim_matches('/').to_owned());
                let mut paths: Vec<String> = paths.filter(|path| !path.is_empty()).collect();
                paths.sort();
                paths.dedup();
                paths
            }
            None => kind
                .hierarchies()
                .iter()
                .map(|top| (*top).to_owned())
                .collect(),
        }
    }
}

/// One extension to judge.
#[derive(Debug)]
pub struct Candidate {
    /// For which merge it is found.
    pub kind: ExtensionKind,
    /// Path in the config, if it is listed there.
    pub at: Option<String>,
    /// Path on the target.
    pub path: String,
    /// The name under which systemd knows it.
    pub name: String,
    /// What is there.
    pub image: Image,
}

impl Candidate {
    /// An image that will lie at `path`; its file name gives its name.
    pub fn placed(
        kind: ExtensionKind,
        at: String,
        path: String,
        image: Image,
        systemd: Option<SystemdBuild>,
    ) -> Candidate {
        Candidate {
            name: lookup::name_of(&path, kind, systemd),
            kind,
            at: Some(at),
            path,
            image,
        }
    }
}

/// What is there.
#[derive(Debug)]
pub enum Image {
    /// A disk image, described and with its hash tree recomputed, and what lies beside it.
    Disk(Box<Ddi>, Box<Report>, Sidecars),
    /// A folder with an OS tree.
    Folder {
        /// What it holds.
        content: Box<Content>,
        /// Whether it lies in `/usr`, so that it can't be a layer over `/usr`.
        in_usr: bool,
        /// Where it is on this machine; nothing for a folder of the base.
        local: Option<PathBuf>,
    },
    /// A file that is no image, or something else at which systemd gives up; the reason.
    Unreadable(String),
    /// Anything that this version does not judge.
    Other(&'static str),
}
