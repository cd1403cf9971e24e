//! What a folder holds, seen without the library: of a mounted image, and of what we wrote out of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::tools::{command, output};

/// What can be seen of one file.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) time: i64,
    pub(crate) device: u64,
    pub(crate) content: Vec<u8>,
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    pub(crate) same_as: OsString,
}

/// Looks at a folder without the library.
pub(crate) fn look(root: &Path) -> BTreeMap<OsString, Seen> {
    let mut first = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let (path, metadata) = (entry.path(), entry.metadata().unwrap());
        let name = path.strip_prefix(root).unwrap().as_os_str().to_owned();
        if name == "lost+found" {
            continue;
        }
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if kind.is_file() {
            fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        let device = match kind.is_char_device() || kind.is_block_device() {
            true => metadata.rdev(),
            false => 0,
        };
        let mut list = vec![0; 65536];
        let size = rustix::fs::llistxattr(path, &mut list).unwrap();
        let mut attributes = BTreeMap::new();
        for key in list[..size]
            .split(|byte| *byte == 0)
            .filter(|key| !key.is_empty())
        {
            let key = String::from_utf8(key.to_vec()).unwrap();
            let mut value = vec![0; 65536];
            let size = rustix::fs::lgetxattr(path, &key, &mut value).unwrap();
            value.truncate(size);
            attributes.insert(key, value);
        }
        let inode = (metadata.dev(), metadata.ino());
        let same_as = first.entry(inode).or_insert_with(|| name.clone()).clone();
        let seen_here = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            time: metadata.mtime(),
            device,
            content,
            attributes,
            same_as,
        };
        seen.insert(name, seen_here);
    }
    seen
}

/// Asserts that two folders hold the same; how many paths.
pub(crate) fn is_equal(ours: &Path, theirs: &Path, what: &str) -> usize {
    let (ours, theirs) = (look(ours), look(theirs));
    let names = |seen: &BTreeMap<OsString, Seen>| seen.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{what}");
    for (name, seen) in &ours {
        let theirs = &theirs[name];
        let without = |seen: &Seen| (seen.mode, seen.owner, seen.time, seen.device);
        assert_eq!(without(seen), without(theirs), "{what}: {name:?}");
        assert_eq!(seen.attributes, theirs.attributes, "{what}: {name:?}");
        assert_eq!(seen.same_as, theirs.same_as, "{what}: {name:?}");
        assert!(
            seen.content == theirs.content,
            "{what}: content of {name:?}"
        );
    }
    ours.len()
}

/// A mounted image; it is unmounted when this goes.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    /// What begins at `offset` bytes. Nothing where this kernel lacks the codec.
    pub(crate) fn new(image: &Path, offset: u64, at: &Path) -> Option<Mounted> {
        fs::create_dir_all(at).unwrap();
        let options = format!("loop,ro,offset={offset}");
        let mounted = output(command("mount").args(["-o", &options]).args([image, at]));
        mounted.status.success().then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = output(command("umount").arg(&self.0));
    }
}
