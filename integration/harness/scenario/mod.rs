//! Hosts with extensions, described in JSON, made on disk.
//!
//! A host is a map of paths to nodes that lies over a minimal root; a node is the text of a file,
//! or one of `{symlink}`, `{dir, mode}`, `{absent}`, `{whiteout}`, `{opaque}`, `{fifo}`. An entry has
//! the folder that it lies in, its name and kind, its release files (a plain name stands for one
//! that fits the host) and further content; `common` and `probe: N` stand for the marker files
//! `usr/share/probe/common` and `usr/share/probe/eN`, which say whose they are.

pub(crate) mod image;
pub(crate) mod overlay;
pub(crate) mod predict;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The release file of an extension that fits the host.
const FITS: &str = "ID=test\nVERSION_ID=1.0\n";

/// What is at a path.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(String),
    Symlink(String),
    Dir(Option<u32>),
    Whiteout,
    Opaque,
    Fifo,
    Absent,
}

impl Node {
    fn of(value: &Value) -> Node {
        if let Some(text) = value.as_str() {
            return Node::File(text.to_owned());
        }
        if let Some(target) = value["symlink"].as_str() {
            return Node::Symlink(target.to_owned());
        }
        let has = |key: &str| !value[key].is_null();
        match () {
            () if has("dir") => Node::Dir(value["mode"].as_u64().map(|m| m.try_into().unwrap())),
            () if has("whiteout") => Node::Whiteout,
            () if has("opaque") => Node::Opaque,
            () if has("fifo") => Node::Fifo,
            () if has("absent") => Node::Absent,
            () => panic!("node {value}"),
        }
    }
}

/// The content of an extension.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    /// By path without a leading slash; parents are implied.
    pub(crate) nodes: BTreeMap<String, Node>,
    /// `user.extension-release.strict` by path.
    pub(crate) strict: BTreeMap<String, String>,
}

impl Content {
    pub(crate) fn of(entry: &Value) -> Content {
        let mut content = Content::default();
        let owner = format!("{}:{}", text(&entry["dir"]), text(&entry["name"]));
        let mut put = |path: String, node| content.nodes.insert(path, node);
        if !entry["common"].is_null() {
            put(
                "usr/share/probe/common".to_owned(),
                Node::File(owner.clone()),
            );
        }
        if let Some(number) = entry["probe"].as_u64() {
            put(format!("usr/share/probe/e{number}"), Node::File(owner));
        }
        for (path, node) in entry["files"].as_object().into_iter().flatten() {
            put(path.clone(), Node::of(node));
        }
        for release in entry["release"].as_array().into_iter().flatten() {
            let name = release.as_str().unwrap_or_else(|| text(&release["name"]));
            let path = format!("usr/lib/extension-release.d/extension-release.{name}");
            let node = match release {
                Value::String(_) => Node::File(FITS.to_owned()),
                _ if !release["symlink"].is_null() => {
                    Node::Symlink(text(&release["symlink"]).to_owned())
                }
                _ if !release["dir"].is_null() => Node::Dir(None),
                _ => Node::File(release["text"].as_str().unwrap_or_default().to_owned()),
            };
            if let Some(strict) = release["xattr"].as_str() {
                content.strict.insert(path.clone(), strict.to_owned());
            }
            content.nodes.insert(path, node);
        }
        content
    }
}

/// A string of the description.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("text {value}"))
}

/// Makes the host and its extensions in `root`; returns the content of each by its path.
pub(crate) fn make(root: &Path, scenario: &Value) -> BTreeMap<String, Content> {
    for path in ["etc", "usr/lib", "usr/bin", "opt", "var/lib", "run", "srv"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    for (path, node) in host(scenario) {
        place(root, &path, &node, None);
    }
    let mut made = BTreeMap::new();
    for entry in scenario["entries"].as_array().unwrap() {
        let folder = match text(&entry["dir"]) {
            "etc" => "etc/extensions",
            "run" => "run/extensions",
            "var" => "var/lib/extensions",
            "usrlocal" => "usr/local/lib/extensions",
            "usrlib" => "usr/lib/extensions",
            "blob" => "srv/blobs",
            other => panic!("folder {other}"),
        };
        entry_at(root, Path::new(folder), entry, &mut made);
    }
    made
}

/// What the description says of the host, os-release included.
pub(crate) fn host(scenario: &Value) -> BTreeMap<String, Node> {
    let mut host = BTreeMap::from([("usr/lib/os-release".to_owned(), Node::File(FITS.to_owned()))]);
    host.insert("etc".to_owned(), Node::Dir(None));
    for (path, node) in scenario["host"].as_object().into_iter().flatten() {
        host.insert(path.clone(), Node::of(node));
    }
    host
}

fn entry_at(root: &Path, folder: &Path, entry: &Value, made: &mut BTreeMap<String, Content>) {
    fs::create_dir_all(root.join(folder)).unwrap();
    let relative = folder.join(text(&entry["name"]));
    let path = root.join(&relative);
    let content = Content::of(entry);
    match text(&entry["kind"]) {
        "directory" => tree(&path, &content),
        "empty-dir" => fs::create_dir(&path).unwrap(),
        "symlink" => symlink(text(&entry["target"]), &path).unwrap(),
        "symlink-devnull" => symlink("/dev/null", &path).unwrap(),
        "fifo" => fifo(&path),
        "v-dir" => {
            fs::create_dir_all(&path).unwrap();
            for member in entry["members"].as_array().unwrap() {
                entry_at(root, &relative, member, made);
            }
        }
        kind => {
            image::make(kind, &path, &content);
            if let Some(sidecar) = entry["sidecar"].as_str() {
                image::sidecar(sidecar, &path);
            }
        }
    }
    made.insert(format!("/{}", relative.display()), content);
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// Writes a folder with this content.
pub(crate) fn tree(root: &Path, content: &Content) {
    fs::create_dir_all(root).unwrap();
    for (path, node) in &content.nodes {
        let strict = content.strict.get(path).map(String::as_str);
        place(root, path, node, strict);
    }
}

fn place(root: &Path, path: &str, node: &Node, strict: Option<&str>) {
    let path: PathBuf = root.join(path);
    let parent = path.parent().unwrap();
    let clear = || {
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            fs::remove_dir_all(&path).unwrap();
        } else {
            let _ = fs::remove_file(&path);
        }
    };
    if !matches!(node, Node::Absent) {
        fs::create_dir_all(parent).unwrap();
    }
    match node {
        Node::File(text) => {
            clear();
            fs::write(&path, text).unwrap();
            if let Some(strict) = strict {
                let name = "user.extension-release.strict";
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(&path, name, strict.as_bytes(), flags).unwrap();
            }
        }
        Node::Symlink(target) => {
            clear();
            symlink(target, &path).unwrap();
        }
        Node::Dir(mode) => {
            fs::create_dir_all(&path).unwrap();
            if let Some(mode) = mode {
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
        Node::Whiteout => {
            let kind = rustix::fs::FileType::CharacterDevice;
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        }
        Node::Opaque => {
            fs::create_dir_all(&path).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&path, "trusted.overlay.opaque", b"y", flags).unwrap();
        }
        Node::Fifo => fifo(&path),
        Node::Absent => clear(),
    }
}
