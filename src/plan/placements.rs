//! The one list of what a plan places on the target.
//!
//! `place` digests and writes it, `expand` turns it into Prism's
//! `additionalFiles`, and `--dry-run` prints it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Plan, Planned};
use crate::config::model::Delivery;
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
            Delivery::Directory => (PlacedKind::Folder, FOLDER_MODE),
            Delivery::Image | Delivery::Bare => (PlacedKind::Image, FILE_MODE),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::hash_tree;
    use crate::plan::testing::{bare, key_pair, planned};
    use crate::systemd::paths::CERTIFICATE_STORE;

    #[test]
    fn extensions_come_first_each_with_what_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        key_pair(dir.path(), "c");
        let data = bare("p", "ID=x\n");
        let (tree, root) = hash_tree(&data);
        std::fs::create_dir(at("in")).unwrap();
        std::fs::write(at("in/p.raw"), data).unwrap();
        std::fs::write(at("in/p.verity"), tree).unwrap();
        std::fs::write(at("in/p.roothash"), root.to_string()).unwrap();
        let text = "sysext: {certificates: [c.crt], certificateLocation: /run/verity.d, \
                    imagePolicy: 'root=verity:=ignore', extensions: [\
                    {name: z, tree: t, verity: none}, \
                    ./in/p.raw, {name: d, tree: t, layout: directory, kind: confext}]}\n";
        let plan = planned(dir.path(), text).unwrap();
        let placements = plan.placements();
        let found: Vec<_> = placements
            .iter()
            .map(|it| (it.kind, it.destination.clone(), it.mode))
            .collect();
        let unit = |unit: &str, file: &str| {
            format!("/etc/systemd/system/systemd-{unit}.service.d/{file}.conf")
        };
        let expected = [
            (
                PlacedKind::Image,
                "/var/lib/extensions/z.raw".to_owned(),
                0o644,
            ),
            (
                PlacedKind::Image,
                "/var/lib/extensions/p.raw".to_owned(),
                0o644,
            ),
            (
                PlacedKind::Sidecar,
                "/var/lib/extensions/p.roothash".to_owned(),
                0o644,
            ),
            (
                PlacedKind::Sidecar,
                "/var/lib/extensions/p.verity".to_owned(),
                0o644,
            ),
            (PlacedKind::Folder, "/var/lib/confexts/d".to_owned(), 0o755),
            (
                PlacedKind::Certificate,
                format!("{CERTIFICATE_STORE}/c.crt"),
                0o644,
            ),
            (
                PlacedKind::DropIn,
                unit("sysext", "40-verity-certificates"),
                0o644,
            ),
            (PlacedKind::DropIn, unit("sysext", "50-image-policy"), 0o644),
            (
                PlacedKind::DropIn,
                unit("confext", "40-verity-certificates"),
                0o644,
            ),
            (
                PlacedKind::DropIn,
                unit("confext", "50-image-policy"),
                0o644,
            ),
        ];
        assert_eq!(found, expected);
        let sidecars: Vec<_> = placements
            .iter()
            .filter_map(|it| match &it.source {
                PlacementSource::Sidecar {
                    planned,
                    number,
                    path,
                    in_config,
                } => Some((
                    planned.name.as_str(),
                    *number,
                    path.to_path_buf(),
                    *in_config,
                )),
                _ => None,
            })
            .collect();
        assert_eq!(
            sidecars,
            [
                ("p", 0, at("./in/p.roothash"), "in/p.roothash"),
                ("p", 1, at("./in/p.verity"), "in/p.verity"),
            ]
        );
    }

    #[test]
    fn an_image_is_written_after_the_certificate_that_makes_it_acceptable() {
        use PlacedKind::{Certificate, DropIn, Folder, Image, Sidecar};
        let mut kinds = [Folder, Image, Sidecar, DropIn, Certificate];
        kinds.sort();
        assert_eq!(kinds, [Certificate, DropIn, Sidecar, Image, Folder]);
    }
}
