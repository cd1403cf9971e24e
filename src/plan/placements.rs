//! The one list of what a plan places on the target.
//!
//! `place` digests and writes it, `expand` turns it into Prism's
//! `additionalFiles`, and `--dry-run` prints it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Plan, Planned};
use crate::config::model::Layout;
use crate::sign::trust::Trusted;
use crate::systemd::drop_in::DropIn;

/// Mode of everything that is placed: Prism's for these files, whatever the umask.
const FILE_MODE: u32 = 0o644;
/// Mode of a folder that is an extension.
const FOLDER_MODE: u32 = 0o755;

/// What a placed file is, in the order in which files are written: an image
/// must not be there before the certificate that makes it acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlacedKind {
    /// A trusted certificate.
    Certificate,
    /// A drop-in of a unit that merges.
    DropIn,
    /// A file beside an image, by which systemd uses a hash tree.
    Sidecar,
    /// An extension image.
    Image,
    /// An extension that is a folder.
    Folder,
}

/// One file or folder that is placed.
#[derive(Debug)]
pub struct Placement<'a> {
    /// What it is.
    pub kind: PlacedKind,
    /// Where it comes from.
    pub source: PlacementSource<'a>,
    /// Absolute path on the target.
    pub destination: String,
    /// Permission bits; a folder's own, not those of what is in it.
    pub mode: u32,
}

/// Where something that is placed comes from.
#[derive(Debug)]
pub enum PlacementSource<'a> {
    /// The image or folder of an extension.
    Extension(&'a Planned),
    /// What lies beside the image of an extension.
    Sidecar {
        /// The extension.
        planned: &'a Planned,
        /// Which of its sidecars, from 0.
        number: usize,
        /// The file on this machine.
        path: &'a Path,
        /// How the expanded config names it.
        in_config: &'a str,
    },
    /// A certificate, as PEM.
    Certificate(&'a Trusted),
    /// A text that is written here.
    DropIn(DropIn),
}

impl Planned {
    /// The image, and what is placed beside it.
    fn placements(&self) -> impl Iterator<Item = Placement<'_>> {
        let (kind, mode) = match self.layout() {
            Layout::Directory => (PlacedKind::Folder, FOLDER_MODE),
            Layout::Image | Layout::Bare => (PlacedKind::Image, FILE_MODE),
        };
        let image = Placement {
            kind,
            source: PlacementSource::Extension(self),
            destination: self.destination.clone(),
            mode,
        };
        let beside = self.beside.iter().enumerate();
        let beside = beside.map(move |(number, beside)| Placement {
            kind: PlacedKind::Sidecar,
            source: PlacementSource::Sidecar {
                planned: self,
                number,
                path: &beside.file.path,
                in_config: &beside.in_config,
            },
            destination: beside.destination.clone(),
            mode: FILE_MODE,
        });
        std::iter::once(image).chain(beside)
    }
}

impl Plan {
    /// Everything that is placed: extensions in the order of the config, each with what lies beside
    /// it, then certificates, then drop-ins.
    pub fn placements(&self) -> Vec<Placement<'_>> {
        let certificates = self.certificates.iter().map(|trusted| Placement {
            kind: PlacedKind::Certificate,
            source: PlacementSource::Certificate(trusted),
            destination: self.certificate_path(trusted),
            mode: FILE_MODE,
        });
        let drop_ins = self.drop_ins().into_iter().map(|drop_in| Placement {
            kind: PlacedKind::DropIn,
            destination: drop_in.path.clone(),
            source: PlacementSource::DropIn(drop_in),
            mode: FILE_MODE,
        });
        let extensions = self.extensions.iter().flat_map(Planned::placements);
        extensions.chain(certificates).chain(drop_ins).collect()
    }
}
