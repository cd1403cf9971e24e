//! The content of an extension before it is a file system.
//!
//! A [`Tree`] knows names, modes, owners, extended attributes, hard links and
//! where the bytes of each file come from. It knows no on-disk format.

pub mod collect;
mod error;
pub(crate) mod folder;
mod inode;
pub mod oci;
mod pax;
pub mod pick;
pub(crate) mod read;
mod spill;
mod tar_links;
pub mod tar_read;
pub mod tar_write;
mod walk;
mod whiteouts;

use std::collections::{BTreeMap, HashMap};

pub use error::TreeError;
pub use inode::{Inode, InodeId, Kind, Packed, Source};
pub use walk::Walk;

/// Longest name of a directory entry in bytes (NAME_MAX of Linux).
const LONGEST_NAME: usize = 255;

/// A whole directory tree; inode 0 is the root directory.
#[derive(Debug, Clone)]
pub struct Tree {
    /// All inodes; directory entries refer to them by index, hard links share one.
    pub inodes: Vec<Inode>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

/// Paths are bytes without a leading slash (one is ignored), names separated by `/`;
/// the empty path is the root directory. No operation follows symbolic links.
impl Tree {
    /// The inode of the root directory.
    pub const ROOT: InodeId = InodeId(0);

    /// An empty root directory.
    pub fn new() -> Tree {
        Tree {
            inodes: vec![Inode::directory()],
        }
    }

    /// The inode of an id of this tree.
    pub fn get(&self, id: InodeId) -> Option<&Inode> {
        self.inodes.get(id.0 as usize)
    }

    /// The inode of an id of this tree, to be changed; hard links share the change.
    pub fn get_mut(&mut self, id: InodeId) -> Option<&mut Inode> {
        self.inodes.get_mut(id.0 as usize)
    }

    /// Bytes of all files; those of hard links count once.
    pub fn content_size(&self) -> u64 {
        let sizes = self.inodes.iter().map(|inode| match inode.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Paths and sizes of all regular files; of a file of several names each.
    pub fn files(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.walk().filter_map(|(path, _, inode)| match inode.kind {
            Kind::File { size, .. } => Some((format!("/{}", String::from_utf8_lossy(&path)), size)),
            _ => None,
        })
    }

    /// What is at `path`.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        names(path)
            .ok()?
            .into_iter()
            .try_fold(Tree::ROOT, |id, name| {
                self.get(id)?.entries()?.get(name).copied()
            })
    }

    /// Makes `path` a directory, with all that lead there; existing ones stay as they are.
    ///
    /// # Errors
    /// [`TreeError::BadPath`], [`TreeError::NotADirectory`], both without a change to the tree;
    /// [`TreeError::TooMany`].
    pub fn make_dirs(&mut self, path: &[u8]) -> Result<InodeId, TreeError> {
        self.descend(path, &names(path)?)
    }

    fn descend(&mut self, path: &[u8], names: &[&[u8]]) -> Result<InodeId, TreeError> {
        let mut id = Tree::ROOT;
        for (depth, name) in names.iter().enumerate() {
            let found = match self.get(id).and_then(Inode::entries) {
                Some(entries) => entries.get(*name).copied(),
                None => {
                    let path = shown(&names.get(..depth).unwrap_or_default().join(&b'/'));
                    return Err(TreeError::NotADirectory { path });
                }
            };
            id = match found {
                Some(found) => found,
                None => {
                    let child = self.push(Inode::directory())?;
                    self.link(id, name, child);
                    child
                }
            };
        }
        match self.get(id).and_then(Inode::entries) {
            Some(_) => Ok(id),
            None => Err(TreeError::NotADirectory { path: shown(path) }),
        }
    }

    /// Places an inode at a free path; missing folders are made.
    ///
    /// # Errors
    /// [`TreeError::Exists`], also for the root, and those of [`Tree::make_dirs`] for the folders
    /// that lead there.
    pub fn insert(&mut self, path: &[u8], inode: Inode) -> Result<InodeId, TreeError> {
        let (parent, name) = self.free_place(path)?;
        let id = self.push(inode)?;
        self.link(parent, &name, id);
        Ok(id)
    }

    /// Places a regular file of root, `size` bytes long, at a free path; missing folders are made.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    pub fn insert_file(
        &mut self,
        path: &[u8],
        source: Source,
        size: u64,
        mode: u16,
    ) -> Result<InodeId, TreeError> {
        self.insert(path, Inode::new(mode, Kind::File { size, source }))
    }

    /// Places a symbolic link at a free path; missing folders are made.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    pub fn insert_symlink(&mut self, path: &[u8], target: &[u8]) -> Result<InodeId, TreeError> {
        self.insert(path, Inode::new(0o777, Kind::Symlink(target.to_vec())))
    }

    /// Gives an inode that is no directory another name at a free path.
    ///
    /// # Errors
    /// [`TreeError::BadPath`] if the inode is a directory, [`TreeError::NotFound`] if there is no
    /// such inode, and those of [`Tree::insert`].
    pub fn insert_link(&mut self, path: &[u8], id: InodeId) -> Result<(), TreeError> {
        match self.get(id).map(Inode::entries) {
            Some(None) => {}
            Some(Some(_)) => {
                return Err(TreeError::BadPath {
                    path: shown(path),
                    reason: "folders have no hard links",
                });
            }
            None => return Err(TreeError::NotFound { path: shown(path) }),
        }
        let (parent, name) = self.free_place(path)?;
        self.link(parent, &name, id);
        Ok(())
    }

    /// Takes out what is at `path`, a directory with all that is in it, and returns its inode,
    /// which stays in [`Tree::inodes`].
    ///
    /// # Errors
    /// [`TreeError::NotFound`]; [`TreeError::BadPath`], also for the root.
    pub fn remove(&mut self, path: &[u8]) -> Result<InodeId, TreeError> {
        let not_found = || TreeError::NotFound { path: shown(path) };
        let names = names(path)?;
        let (name, parents) = names.split_last().ok_or(TreeError::BadPath {
            path: shown(path),
            reason: "the root folder stays",
        })?;
        let parent = self.lookup(&parents.join(&b'/')).ok_or_else(not_found)?;
        match self.get_mut(parent).map(|inode| &mut inode.kind) {
            Some(Kind::Directory(entries)) => entries.remove(*name).ok_or_else(not_found),
            _ => Err(not_found()),
        }
    }

    /// All that is in the tree but the root directory: folders before their content, names in
    /// byte order, every name of a hard link.
    pub fn walk(&self) -> Walk<'_> {
        let entries = self.get(Tree::ROOT).and_then(Inode::entries);
        Walk {
            tree: self,
            path: Vec::new(),
            open: entries
                .map(|entries| (0, entries.iter()))
                .into_iter()
                .collect(),
        }
    }

    /// Takes over everything of `other`. Two things of one path are a conflict, except folders:
    /// those must be equal, or that of `other` a plain one of root with mode 0755, which gives way.
    ///
    /// # Errors
    /// [`TreeError::Exists`], [`TreeError::Differs`], [`TreeError::NotADirectory`] or
    /// [`TreeError::TooMany`] of the first path in conflict; what came before it has been taken
    /// over.
    pub fn merge(&mut self, other: Tree) -> Result<(), TreeError> {
        let mut moved: HashMap<InodeId, InodeId> = HashMap::new();
        for (path, id, inode) in other.walk() {
            if inode.entries().is_some() {
                match self.lookup(&path) {
                    Some(ours) => self.agree(&path, ours, inode)?,
                    None => {
                        let mut empty = inode.clone();
                        empty.kind = Kind::Directory(BTreeMap::new());
                        self.insert(&path, empty)?;
                    }
                }
            } else if let Some(ours) = moved.get(&id) {
                self.insert_link(&path, *ours)?;
            } else {
                let ours = self.insert(&path, inode.clone())?;
                moved.insert(id, ours);
            }
        }
        Ok(())
    }

    /// The same tree with all of it in the folder `path`, whose slash at the end is ignored.
    ///
    /// # Errors
    /// [`TreeError::BadPath`], [`TreeError::TooMany`].
    pub fn below(&self, path: &[u8]) -> Result<Tree, TreeError> {
        let mut names = names(path.strip_suffix(b"/").unwrap_or(path))?;
        let mut moved = self.clone();
        while let Some(name) = names.pop() {
            // The root directory is always the first inode.
            let mut root = Inode::directory();
            if let Some(old) = moved.get_mut(Tree::ROOT) {
                std::mem::swap(&mut root, old);
            }
            let inner = moved.push(root)?;
            moved.link(Tree::ROOT, name, inner);
        }
        Ok(moved)
    }

    /// The same tree without inodes that no name leads to.
    fn compacted(mut self) -> Tree {
        let mut new: BTreeMap<InodeId, InodeId> = BTreeMap::from([(Tree::ROOT, Tree::ROOT)]);
        let mut order = vec![Tree::ROOT];
        for (_, id, _) in self.walk() {
            if let Ok(next) = u32::try_from(order.len())
                && !new.contains_key(&id)
            {
                new.insert(id, InodeId(next));
                order.push(id);
            }
        }
        let mut inodes = Vec::with_capacity(order.len());
        for id in order {
            let Some(inode) = self.get_mut(id) else {
                continue;
            };
            let mut inode = std::mem::replace(inode, Inode::directory());
            if let Kind::Directory(entries) = &mut inode.kind {
                for id in entries.values_mut() {
                    *id = new.get(id).copied().unwrap_or(Tree::ROOT);
                }
            }
            inodes.push(inode);
        }
        Tree { inodes }
    }

    fn agree(&self, path: &[u8], ours: InodeId, theirs: &Inode) -> Result<(), TreeError> {
        let Some(ours) = self.get(ours).filter(|ours| ours.entries().is_some()) else {
            return Err(TreeError::Exists { path: shown(path) });
        };
        let what = if theirs.is_plain_directory() {
            return Ok(());
        } else if ours.mode != theirs.mode {
            "modes"
        } else if (ours.uid, ours.gid) != (theirs.uid, theirs.gid) {
            "owners"
        } else if ours.xattrs != theirs.xattrs {
            "extended attributes"
        } else {
            return Ok(());
        };
        let path = shown(path);
        Err(TreeError::Differs { path, what })
    }

    fn free_place(&mut self, path: &[u8]) -> Result<(InodeId, Vec<u8>), TreeError> {
        let names = names(path)?;
        let exists = || TreeError::Exists { path: shown(path) };
        let (name, parents) = names.split_last().ok_or_else(exists)?;
        let parent = self.descend(&parents.join(&b'/'), parents)?;
        match self.get(parent).and_then(Inode::entries) {
            Some(entries) if !entries.contains_key(*name) => Ok((parent, name.to_vec())),
            _ => Err(exists()),
        }
    }

    fn push(&mut self, inode: Inode) -> Result<InodeId, TreeError> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| TreeError::TooMany)?;
        self.inodes.push(inode);
        Ok(InodeId(id))
    }

    fn link(&mut self, parent: InodeId, name: &[u8], child: InodeId) {
        if let Some(Kind::Directory(entries)) = self.get_mut(parent).map(|inode| &mut inode.kind) {
            entries.insert(name.to_vec(), child);
        }
    }
}

/// The names that a path is made of.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    if relative.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&[u8]> = relative.split(|byte| *byte == b'/').collect();
    let reason = names.iter().find_map(|name| match *name {
        b"" => Some("it has an empty name in it"),
        b"." | b".." => Some("`.` and `..` are not resolved"),
        name if name.len() > LONGEST_NAME => Some("a name is longer than 255 bytes"),
        name if name.contains(&0) => Some("it has a NUL byte in it"),
        _ => None,
    });
    match reason {
        Some(reason) => Err(TreeError::BadPath {
            path: shown(path),
            reason,
        }),
        None => Ok(names),
    }
}

/// A path for a message.
fn shown(path: &[u8]) -> String {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    format!("/{}", relative.escape_ascii())
}

/// A folder of an extension that will be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Path in the config of the extension.
    pub at: String,
    /// Absolute path in the extension.
    pub path: String,
    /// Its permission bits.
    pub mode: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Source {
        Source::Bytes(text.into())
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.walk()
            .map(|(path, _, _)| String::from_utf8(path).unwrap())
            .collect()
    }

    #[test]
    fn what_is_inserted_is_found_and_walked_in_order() {
        let mut tree = Tree::new();
        tree.insert_file(b"usr/lib/b", bytes("b"), 1, 0o644)
            .unwrap();
        let a = tree
            .insert_file(b"/usr/lib/a", bytes("a"), 1, 0o4755)
            .unwrap();
        tree.insert_link(b"usr/bin/a", a).unwrap();
        tree.insert_symlink(b"usr/lib.d", b"lib").unwrap();
        tree.make_dirs(b"opt/x").unwrap();
        assert_eq!(
            paths(&tree),
            [
                "opt",
                "opt/x",
                "usr",
                "usr/bin",
                "usr/bin/a",
                "usr/lib",
                "usr/lib/a",
                "usr/lib/b",
                "usr/lib.d"
            ]
        );
        assert_eq!(tree.lookup(b"usr/bin/a"), Some(a));
        assert_eq!(tree.lookup(b"usr/bin/b"), None);
        assert_eq!(tree.lookup(b""), Some(Tree::ROOT));
        tree.remove(b"usr/lib").unwrap();
        assert_eq!(paths(&tree).len(), 6);
        assert!(tree.remove(b"usr/lib").is_err());
    }

    #[test]
    fn nothing_is_overwritten() {
        let mut tree = Tree::new();
        tree.insert_file(b"usr/a", bytes(""), 0, 0o644).unwrap();
        let twice = tree.insert_symlink(b"usr/a", b"x").unwrap_err();
        assert_eq!(
            twice,
            TreeError::Exists {
                path: "/usr/a".into()
            }
        );
        let below = tree.insert_symlink(b"usr/a/b", b"x").unwrap_err();
        assert_eq!(
            below,
            TreeError::NotADirectory {
                path: "/usr/a".into()
            }
        );
        assert!(tree.make_dirs(b"usr/a").is_err());
        assert!(tree.insert_symlink(b"", b"x").is_err());
        assert!(tree.insert_link(b"usr/d", Tree::ROOT).is_err());
        assert!(tree.remove(b"").is_err());
    }

    #[test]
    fn paths_that_mean_something_else_are_refused() {
        let long = [b'x'; 256];
        for path in [&b"a//b"[..], b"a/../b", b"./a", b"a/", b"a\0", b"//", &long] {
            let error = Tree::new().make_dirs(path).unwrap_err();
            assert!(matches!(error, TreeError::BadPath { .. }), "{error}");
        }
        assert!(Tree::new().make_dirs(&long[..255]).is_ok());
    }

    #[test]
    fn merging_keeps_hard_links_and_reports_conflicts() {
        let mut ours = Tree::new();
        let usr = ours.make_dirs(b"usr").unwrap();
        ours.get_mut(usr).unwrap().mode = 0o750;
        ours.insert_file(b"usr/a", bytes("a"), 1, 0o644).unwrap();
        let mut theirs = Tree::new();
        let b = theirs.insert_file(b"usr/b", bytes("b"), 1, 0o644).unwrap();
        theirs.insert_link(b"usr/lib/c", b).unwrap();
        ours.merge(theirs.clone()).unwrap();
        assert_eq!(ours.get(usr).unwrap().mode, 0o750);
        assert_eq!(ours.lookup(b"usr/b"), ours.lookup(b"usr/lib/c"));
        assert_eq!(
            ours.merge(theirs).unwrap_err(),
            TreeError::Exists {
                path: "/usr/b".into()
            }
        );
        let mut other = Tree::new();
        let usr = other.make_dirs(b"usr").unwrap();
        other.get_mut(usr).unwrap().mode = 0o700;
        let what = "modes";
        let path = "/usr".to_owned();
        assert_eq!(
            ours.merge(other).unwrap_err(),
            TreeError::Differs { path, what }
        );
        let mut other = Tree::new();
        other.make_dirs(b"usr/a").unwrap();
        assert!(ours.merge(other).is_err());
    }
}
