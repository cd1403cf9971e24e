//! Entries of archives, named and drawn at random.

use std::fmt;

use tar::{Builder, EntryType, Header};

/// An entry of an archive.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) attribute: Option<&'static str>,
}

/// What it is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Folder,
    File(String),
    Link(String),
    HardLink(String),
    Fifo,
    Device,
}

/// In one line.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            name,
            kind,
            mode,
            owner,
            attribute,
        } = self;
        write!(f, "{name} {kind:?} {mode:o} {owner:?} {attribute:?}")
    }
}

impl Entry {
    pub(crate) fn new(name: &str, kind: Kind) -> Entry {
        Entry {
            name: name.to_owned(),
            mode: if matches!(kind, Kind::Folder) {
                0o755
            } else {
                0o644
            },
            kind,
            owner: (0, 0),
            attribute: None,
        }
    }
}

/// The archive of these entries, names as they are.
pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(1_700_000_000);
        // `set_path` is too careful for this.
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        let (kind, bytes, target) = match &entry.kind {
            Kind::Folder => (EntryType::Directory, "", None),
            Kind::File(text) => (EntryType::Regular, text.as_str(), None),
            Kind::Link(target) => (EntryType::Symlink, "", Some(target)),
            Kind::HardLink(target) => (EntryType::Link, "", Some(target)),
            Kind::Fifo => (EntryType::Fifo, "", None),
            Kind::Device => {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
                (EntryType::Char, "", None)
            }
        };
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        if let Some(target) = target {
            header.set_link_name_literal(target).unwrap();
        }
        if let Some(value) = entry.attribute {
            let record = [("SCHILY.xattr.user.note", value.as_bytes())];
            builder.append_pax_extensions(record).unwrap();
        }
        header.set_cksum();
        builder.append(&header, bytes.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Numbers by xorshift, the same each time.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        self.0 ^= self.0 >> 17;
        self.0 % end
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// Folders are mostly called `a` and `b`, other things seldom, so that few stacks contradict
    /// themselves.
    fn path(&mut self, folder: bool) -> String {
        let mut path = "usr".to_owned();
        for _ in 0..self.below(3) {
            path += ["/a", "/b"][usize::try_from(self.below(2)).unwrap()];
        }
        let odd = self.below(30) == 0;
        let name = match folder != odd {
            true => self.of(&["a", "b"]),
            false => self.of(&["x", "y", "z"]),
        };
        format!("{path}/{name}")
    }
}

/// Some entries over few paths. `files` are the paths that had files so far, some of them in lower
/// layers; most hard links lead there.
pub(crate) fn generated(
    numbers: &mut Numbers,
    files: &mut Vec<String>,
    whiteouts: bool,
) -> Vec<Entry> {
    let count = 1 + numbers.below(7);
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..count {
        let drawn = numbers.below(if whiteouts { 14 } else { 11 });
        let path = numbers.path(matches!(drawn, 0..=2 | 11 | 13));
        let (folder, name) = path.rsplit_once('/').unwrap();
        let (path, kind) = match drawn {
            0..=2 => (path, Kind::Folder),
            3..=6 => {
                let text = numbers.below(1000).to_string();
                files.push(path.clone());
                (path, Kind::File(text))
            }
            7 => {
                // Now and then where a folder is looked for.
                let path = match numbers.below(3) {
                    0 => numbers.path(true),
                    _ => path,
                };
                // GNU tar makes links out of the folder last of all, even over a later entry of the
                // same name; that is nobody's intention.
                let far = if whiteouts { "/usr/a" } else { "x" };
                let target = numbers.of(&["a", "b/c", far, "nowhere"]);
                (path, Kind::Link(target.to_owned()))
            }
            8 | 9 => {
                let count = files.len() as u64;
                let target = match numbers.below(30) {
                    1.. if count > 0 => {
                        files[usize::try_from(numbers.below(count)).unwrap()].clone()
                    }
                    _ => numbers.path(false),
                };
                // Of a file to itself it is tried by name.
                match target == path {
                    true => (path, Kind::Fifo),
                    false => (path, Kind::HardLink(target)),
                }
            }
            10 => (path, Kind::Fifo),
            11 | 12 => (format!("{folder}/.wh.{name}"), Kind::File(String::new())),
            _ => (format!("{path}/.wh..wh..opq"), Kind::File(String::new())),
        };
        let plain = whiteouts && path.contains(".wh.");
        let mut entry = Entry::new(&path, kind);
        if !plain && numbers.below(3) == 0 {
            entry.mode =
                [0o700, 0o4755, 0o1777, 0o2711, 0o000][usize::try_from(numbers.below(5)).unwrap()];
            entry.owner = (numbers.below(3) * 1000, numbers.below(2) * 70_000);
        }
        // On disk a folder that no entry stands for would inherit the bit from its parent.
        if matches!(entry.kind, Kind::Folder) {
            entry.mode &= !0o2000;
        }
        let has_content = matches!(entry.kind, Kind::Folder | Kind::File(_));
        if !plain && has_content && numbers.below(4) == 0 {
            entry.attribute = Some(numbers.of(&["x", "a longer value"]));
        }
        if numbers.below(8) == 0 {
            entry.name = format!("./{}", entry.name);
        }
        entries.push(entry);
    }
    entries
}
