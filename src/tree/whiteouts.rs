//! What a layer of a container image takes away of those below it (OCI image-spec, layer.md).

use std::collections::BTreeSet;

use super::inode::Inode;
use super::{Tree, TreeError};

impl Tree {
    /// Takes away what lower layers have at a path; what was never there is as well.
    pub(super) fn hide(
        &mut self,
        path: &[u8],
        touched: &BTreeSet<Vec<u8>>,
    ) -> Result<(), TreeError> {
        match is_touched(path, touched) {
            true => self.clear(path, touched),
            false => {
                let _ = self.remove(path);
                Ok(())
            }
        }
    }

    /// Empties a folder of what lower layers put into it and below it.
    pub(super) fn clear(
        &mut self,
        folder: &[u8],
        touched: &BTreeSet<Vec<u8>>,
    ) -> Result<(), TreeError> {
        let mut folders = vec![folder.to_vec()];
        while let Some(folder) = folders.pop() {
            let there = self.lookup(&folder).and_then(|id| self.get(id));
            let names: Vec<Vec<u8>> = there
                .and_then(Inode::entries)
                .map(|entries| entries.keys().cloned().collect())
                .unwrap_or_default();
            for name in names {
                let path = joined(&folder, &name);
                match is_touched(&path, touched) {
                    true => folders.push(path),
                    false => drop(self.remove(&path)?),
                }
            }
        }
        Ok(())
    }
}

pub(super) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        [] => name.to_vec(),
        folder => [folder, b"/", name].concat(),
    }
}

/// Whether a path, or anything below it, is among those touched.
fn is_touched(path: &[u8], touched: &BTreeSet<Vec<u8>>) -> bool {
    let inside = joined(path, b"");
    let first = touched.range(inside.clone()..).next();
    touched.contains(path) || first.is_some_and(|first| first.starts_with(&inside))
}
