//! The parts of Prism's config that bear on extensions.
//!
//! Everything else of the file is Prism's business: it is carried, not
//! interpreted, and neither unknown keys nor wrong types are ours to refuse here;
//! [`crate::prism`] tells them. As in Prism a scalar keeps its text: the version `3.0` is
//! no number.

use std::path::{Path, PathBuf};

use crate::prism::node::{Body, Node};
use crate::prism::size;

/// Prism's sections as far as we read them.
#[derive(Debug, Clone, Default)]
pub struct Prism {
    /// Where the base image comes from.
    pub input: Option<Input>,
    /// The customization of the OS.
    pub os: Option<Os>,
    /// Scripts that run during customization.
    pub scripts: Option<Scripts>,
    /// The mounts of `storage.filesystems`.
    pub mounts: Vec<Mount>,
    /// What becomes of dm-verity that the base image has.
    pub reinitialize_verity: Option<String>,
    /// The partitions of `storage.disks`, which replace those of the base image.
    pub partitions: Vec<Partition>,
    /// What kind of live medium comes out, if one does.
    pub live: Option<&'static str>,
}

/// A partition of `storage.disks`.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    /// Its id in the config.
    pub id: Option<String>,
    /// What it is for, such as `root`.
    pub kind: Option<String>,
}

/// A file system of `storage` that is mounted.
#[derive(Debug, Clone, Default)]
pub struct Mount {
    /// Where.
    pub path: String,
    /// Whether it lies on a verity device.
    pub verity: bool,
    /// The size of its partition in bytes, if it is written down.
    pub size: Option<u64>,
}

/// `input`.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The base image.
    pub image: Option<InputImage>,
}

/// `input.image`.
#[derive(Debug, Clone, Default)]
pub struct InputImage {
    /// A disk image.
    pub path: Option<PathBuf>,
    /// An image published by Azure Linux.
    pub azure_linux: Option<AzureLinux>,
}

/// `input.image.azureLinux`.
#[derive(Debug, Clone, Default)]
pub struct AzureLinux {
    /// Version such as `3.0`.
    pub version: Option<String>,
}

/// `os`.
#[derive(Debug, Clone, Default)]
pub struct Os {
    /// Files that Prism copies into the image.
    pub additional_files: Option<Vec<AdditionalFile>>,
    /// Folders that Prism copies into the image.
    pub additional_dirs: Option<Vec<AdditionalDir>>,
    /// The mode of SELinux that is asked for.
    pub selinux: Option<String>,
    /// Services that Prism enables or disables.
    pub services: Option<Services>,
    /// Overlays that Prism adds to fstab.
    pub overlays: Option<Vec<Overlay>>,
}

/// One item of `os.additionalFiles`.
#[derive(Debug, Clone, Default)]
pub struct AdditionalFile {
    /// File to copy.
    pub source: Option<String>,
    /// Content of the file.
    pub content: Option<String>,
    /// Path in the image.
    pub destination: Option<String>,
}

/// One item of `os.additionalDirs`.
#[derive(Debug, Clone, Default)]
pub struct AdditionalDir {
    /// Folder to copy.
    pub source: Option<String>,
    /// Path in the image.
    pub destination: Option<String>,
}

/// `os.services`.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Units to enable.
    pub enable: Option<Vec<Option<String>>>,
    /// Units to disable.
    pub disable: Option<Vec<Option<String>>>,
}

/// One item of `os.overlays`.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// Where the overlay is mounted.
    pub mount_point: Option<String>,
    /// Where what is written goes.
    pub upper_dir: Option<String>,
    /// Whether the initrd mounts it.
    pub in_initrd: bool,
}

/// `scripts`.
#[derive(Debug, Clone, Default)]
pub struct Scripts {
    /// Scripts that run before SELinux labels are set.
    pub post_customization: Option<Vec<Script>>,
    /// Scripts that run last.
    pub finalize_customization: Option<Vec<Script>>,
}

/// One script.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Its text.
    pub content: Option<String>,
    /// A file beside the config.
    pub path: Option<PathBuf>,
}

/// An absolute path without repeated slashes, `.` and `..`, for comparison.
pub(crate) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
        .iter()
        .fold(String::new(), |text, part| format!("{text}/{part}"))
}

impl Prism {
    /// The mount that holds a path of the image: the longest above it.
    pub fn holder(&self, path: &str) -> Option<&Mount> {
        let above = self.mounts.iter();
        let above = above.filter(|mount| Path::new(path).starts_with(&mount.path));
        above.max_by_key(|mount| mount.path.len())
    }

    /// Picks these parts out of a config; what has another form than expected counts as absent.
    pub fn read(root: &Node) -> Prism {
        Prism {
            input: root.get("input").map(|input| Input {
                image: input.get("image").map(|image| InputImage {
                    path: image.text_of("path").map(PathBuf::from),
                    azure_linux: image.get("azureLinux").map(|it| AzureLinux {
                        version: text(it, "version"),
                    }),
                }),
            }),
            os: root.get("os").map(|os| Os {
                additional_files: list(os, "additionalFiles", |file| AdditionalFile {
                    source: text(file, "source"),
                    content: text(file, "content"),
                    destination: text(file, "destination"),
                }),
                additional_dirs: list(os, "additionalDirs", |folder| AdditionalDir {
                    source: text(folder, "source"),
                    destination: text(folder, "destination"),
                }),
                selinux: os.get("selinux").and_then(|it| text(it, "mode")),
                services: os.get("services").map(|services| Services {
                    enable: list(services, "enable", |unit| unit.text().map(str::to_owned)),
                    disable: list(services, "disable", |unit| unit.text().map(str::to_owned)),
                }),
                overlays: list(os, "overlays", |overlay| Overlay {
                    mount_point: text(overlay, "mountPoint"),
                    upper_dir: text(overlay, "upperDir"),
                    in_initrd: overlay.text_of("isInitrdOverlay") == Some("true"),
                }),
            }),
            scripts: root.get("scripts").map(|scripts| Scripts {
                post_customization: list(scripts, "postCustomization", script),
                finalize_customization: list(scripts, "finalizeCustomization", script),
            }),
            mounts: root.get("storage").map(mounts).unwrap_or_default(),
            reinitialize_verity: root
                .get("storage")
                .and_then(|it| text(it, "reinitializeVerity")),
            partitions: root.get("storage").map(partitions).unwrap_or_default(),
            live: live(root),
        }
    }
}

fn partitions(storage: &Node) -> Vec<Partition> {
    let disks = storage.list("disks");
    let partitions = disks.flat_map(|(_, disk)| disk.list("partitions"));
    let read = partitions.map(|(_, partition)| Partition {
        id: text(partition, "id"),
        kind: text(partition, "type"),
    });
    read.collect()
}

fn mounts(storage: &Node) -> Vec<Mount> {
    let disks = storage.list("disks");
    let partitions: Vec<&Node> = disks
        .flat_map(|(_, disk)| disk.list("partitions"))
        .map(|(_, partition)| partition)
        .collect();
    let size_of = |id: &str| {
        let partition = partitions.iter().find(|it| it.text_of("id") == Some(id))?;
        size(partition.text_of("size")?).ok()
    };
    let mut mounts = Vec::new();
    for (_, file_system) in storage.list("filesystems") {
        let Some(mount) = file_system.get("mountPoint") else {
            continue;
        };
        let path = mount.text().or_else(|| mount.text_of("path"));
        let (Some(path), Some(device)) = (path, file_system.text_of("deviceId")) else {
            continue;
        };
        let mut verity = storage.list("verity").map(|(_, it)| it);
        let verity = verity.find(|it| it.text_of("id") == Some(device));
        let data = verity.and_then(|it| it.text_of("dataDeviceId"));
        mounts.push(Mount {
            path: path.to_owned(),
            verity: verity.is_some(),
            size: size_of(data.unwrap_or(device)),
        });
    }
    mounts
}

fn live(root: &Node) -> Option<&'static str> {
    let image = root.get("output")?.get("image")?;
    match image.text_of("format")? {
        "iso" => Some("an ISO"),
        "pxe-dir" | "pxe-tar" => Some("a system booted by PXE"),
        _ => None,
    }
}

fn text(node: &Node, key: &str) -> Option<String> {
    node.text_of(key).map(str::to_owned)
}

/// All items, so that their places in the list stay what they are.
fn list<T>(node: &Node, key: &str, item: impl Fn(&Node) -> T) -> Option<Vec<T>> {
    match &node.get(key)?.body {
        Body::List(items) => Some(items.iter().map(|node| item(node)).collect()),
        _ => None,
    }
}

fn script(node: &Node) -> Script {
    Script {
        content: text(node, "content"),
        path: node.text_of("path").map(PathBuf::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prism::node::parse;

    #[test]
    fn scalars_keep_their_text_and_items_their_place() {
        let root = parse(
            "input: {image: {azureLinux: {version: 3.0}}}\nos:\n  additionalFiles: [null, {source: 1, destination: /a}]\n  services: {enable: [a, null, 2]}\nscripts: []\n",
        );
        let prism = Prism::read(&root.unwrap());
        let image = prism.input.unwrap().image.unwrap();
        assert_eq!(image.azure_linux.unwrap().version.as_deref(), Some("3.0"));
        let os = prism.os.unwrap();
        let files = os.additional_files.unwrap();
        assert_eq!(files[1].source.as_deref(), Some("1"));
        let units = os.services.unwrap().enable.unwrap();
        assert_eq!(units, [Some("a".to_owned()), None, Some("2".to_owned())]);
        assert!(prism.scripts.unwrap().post_customization.is_none());
    }
}
