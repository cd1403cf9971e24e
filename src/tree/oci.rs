//! Container images on disk: an OCI layout as a folder or as a tar archive of it
//! (OCI image-spec, image-layout.md, image-index.md and manifest.md).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::Sha256;

use crate::finding::Finding;
use crate::io::digest::digest_of;
use crate::io::open;
use crate::io::progress::Progress;
use crate::systemd::arch::Arch;
use crate::tree::Tree;
use crate::tree::pick::Pick;
use crate::tree::tar_read::Layers;

/// Longest index or manifest that is read, in bytes; registries take up to 4 MiB.
const MAX_JSON: u64 = 4 << 20;
/// Most layers of an image.
const MAX_LAYERS: usize = 512;
/// How deep indexes may nest.
const MAX_DEPTH: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
}

/// The content of an image for an architecture, all layers in their order, whiteouts applied; and
/// what has to be said about it.
///
/// # Errors
/// `oci-unreadable` for a file that is no archive; `oci-refused` for a layout that is incomplete,
/// does not match its digests, or has no single image for `arch`; and those of [`Layers::add`].
pub fn read(path: &Path, arch: Option<Arch>, pick: &Pick) -> Result<(Tree, Vec<Finding>), Finding> {
    let layout = Layout::open(path)?;
    let index = layout.json(&layout.find("index.json")?)?;
    let mut chosen = Some(index);
    for _ in 0..MAX_DEPTH {
        let Some(manifest) = &chosen else { break };
        if manifest.manifests.is_empty() {
            break;
        }
        let next = layout.choose(&manifest.manifests, arch)?;
        chosen = Some(layout.json(&layout.blob(&next)?)?);
    }
    let manifest = chosen.filter(|manifest| !manifest.layers.is_empty());
    let manifest = manifest.ok_or_else(|| layout.refused("it names no layers"))?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(layout.refused(&format!("it has more than {MAX_LAYERS} layers")));
    }
    let mut layers = Layers::default();
    for descriptor in &manifest.layers {
        let blob = layout.blob(descriptor)?;
        let window = (blob.offset, blob.size);
        layers.add(&blob.file, window, &blob.path, pick, true)?;
    }
    Ok(layers.finish())
}

/// A file of the layout.
struct Blob {
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    size: u64,
}

enum Layout {
    Folder(PathBuf),
    Archive {
        path: PathBuf,
        file: Arc<File>,
        /// Offset and size of each file by its path.
        files: BTreeMap<PathBuf, (u64, u64)>,
    },
}

impl Layout {
    fn open(path: &Path) -> Result<Layout, Finding> {
        if path.is_dir() {
            return Ok(Layout::Folder(path.to_owned()));
        }
        let unreadable = |error: std::io::Error| {
            Finding::error(
                "oci-unreadable",
                format!("reading the container image: {error}"),
            )
            .in_file(path)
            .help("name an OCI layout: a folder with index.json and blobs/, or a tar archive of it")
        };
        let file = Arc::new(open::open(path).map_err(unreadable)?);
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(file.try_clone().map_err(unreadable)?);
        for entry in archive.entries_with_seek().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.header().entry_type().is_file() {
                let name = entry.path().map_err(unreadable)?;
                let name = name.strip_prefix(".").unwrap_or(&name).to_owned();
                files.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Layout::Archive {
            path: path.to_owned(),
            file,
            files,
        })
    }

    fn path(&self) -> &Path {
        match self {
            Layout::Folder(path) | Layout::Archive { path, .. } => path,
        }
    }

    fn refused(&self, why: &str) -> Finding {
        Finding::error(
            "oci-refused",
            format!("the container image is of no use: {why}"),
        )
        .in_file(self.path())
        .help("name an OCI layout, for example by `skopeo copy docker://IMAGE oci:FOLDER`")
    }

    fn find(&self, name: &str) -> Result<Blob, Finding> {
        let missing = || self.refused(&format!("it has no {name}"));
        match self {
            Layout::Folder(folder) => {
                let path = folder.join(name);
                let file = open::open(&path).map_err(|_| missing())?;
                let size = file.metadata().map_err(|_| missing())?.len();
                Ok(Blob {
                    file: Arc::new(file),
                    path,
                    offset: 0,
                    size,
                })
            }
            Layout::Archive { path, file, files } => {
                let (offset, size) = *files.get(Path::new(name)).ok_or_else(missing)?;
                Ok(Blob {
                    file: file.clone(),
                    path: path.clone(),
                    offset,
                    size,
                })
            }
        }
    }

    /// A blob, whose size and digest are checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, Finding> {
        let digest = &descriptor.digest;
        let hex_digits = digest
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(wanted) = hex_digits else {
            return Err(self.refused(&format!("`{}` is no SHA-256 digest", digest.escape_debug())));
        };
        let blob = self.find(&format!("blobs/sha256/{wanted}"))?;
        let end = blob.offset.checked_add(blob.size);
        let range = blob.offset..end.ok_or_else(|| self.refused("a blob has no end"))?;
        let found = digest_of::<Sha256>(&blob.file, range, &Progress::new())
            .map_err(|error| self.refused(&format!("reading {digest}: {error}")))?;
        if blob.size != descriptor.size || !found.eq_ignore_ascii_case(wanted) {
            let why = format!(
                "{digest} of {} bytes is announced, found are {} bytes with sha256:{found}",
                descriptor.size, blob.size
            );
            return Err(self.refused(&why));
        }
        Ok(blob)
    }

    fn json(&self, blob: &Blob) -> Result<Manifest, Finding> {
        let read = || -> anyhow::Result<Manifest> {
            anyhow::ensure!(blob.size <= MAX_JSON, "it has more than {MAX_JSON} bytes");
            let mut file = blob.file.try_clone()?;
            file.seek(SeekFrom::Start(blob.offset))?;
            let mut bytes = Vec::new();
            file.take(blob.size).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        read().map_err(|error| self.refused(&format!("reading its index or manifest: {error}")))
    }

    /// The manifest for an architecture; of one alone that says nothing, that one.
    fn choose(&self, all: &[Descriptor], arch: Option<Arch>) -> Result<Descriptor, Finding> {
        // Attestations and the like, which containerd and buildkit mark so.
        let is_image = |it: &&Descriptor| {
            !it.annotations.contains_key("vnd.docker.reference.type")
                && it
                    .platform
                    .as_ref()
                    .is_none_or(|it| it.architecture != "unknown")
        };
        let images: Vec<&Descriptor> = all.iter().filter(is_image).collect();
        let fits = |it: &&&Descriptor| match (&it.platform, arch) {
            (Some(platform), Some(arch)) => Arch::parse(&platform.architecture) == Some(arch),
            _ => false,
        };
        let fitting: Vec<&&Descriptor> = images.iter().filter(fits).collect();
        match (fitting.as_slice(), images.as_slice()) {
            ([only], _) => Ok((**only).clone()),
            ([], [only]) if only.platform.is_none() || arch.is_none() => Ok((*only).clone()),
            ([], _) => {
                let platforms = images.iter().filter_map(|it| it.platform.as_ref());
                let there: Vec<&str> = platforms.map(|it| it.architecture.as_str()).collect();
                let wanted = arch.map_or("any", Arch::name);
                Err(self.refused(&format!(
                    "it has nothing for {wanted}, only for {}",
                    there.join(", ").escape_debug()
                )))
            }
            _ => Err(self.refused("it holds several images; make a layout of one")),
        }
    }
}
