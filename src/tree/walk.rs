//! Going through a tree in order.

use std::collections::btree_map::Iter;

use super::Tree;
use super::inode::{Inode, InodeId};

/// The iterator of [`Tree::walk`]: path, id and inode.
#[derive(Debug)]
pub struct Walk<'a> {
    pub(super) tree: &'a Tree,
    pub(super) path: Vec<u8>,
    /// Directories that we are in: length of their path and the entries yet to come.
    pub(super) open: Vec<(usize, Iter<'a, Vec<u8>, InodeId>)>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (Vec<u8>, InodeId, &'a Inode);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (length, entries) = self.open.last_mut()?;
            let length = *length;
            let Some((name, id)) = entries.next() else {
                self.open.pop();
                continue;
            };
            let Some(inode) = self.tree.get(*id) else {
                continue;
            };
            self.path.truncate(length);
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend(name);
            if let Some(entries) = inode.entries() {
                self.open.push((self.path.len(), entries.iter()));
            }
            return Some((self.path.clone(), *id, inode));
        }
    }
}
