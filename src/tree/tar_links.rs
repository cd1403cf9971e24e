//! Paths of archives that lead through links which the archive, or a layer below it, has itself made.

use std::collections::VecDeque;

use super::{Inode, Kind, Tree};

/// Most links of one path, as of the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Those of a container: the tree is its `/`, out of which nothing leads, and folders that are
    /// not there yet are made (umoci and containerd; the OCI image-spec says nothing of it).
    Container,
    /// Those of `tar -x`: only what lies below a link's own folder, and is there, is gone to; other
    /// links wait for the end of the archive (GNU tar, src/extract.c, `create_placeholder_file`).
    Tar,
}

impl Tree {
    /// Where `path` leads, with the links above its last name followed; the path itself if none of
    /// them may be.
    pub(super) fn followed(&self, path: &[u8], follow: Follow) -> Vec<u8> {
        let mut names = path.split(|byte| *byte == b'/').rev();
        let last = names.next().unwrap_or_default();
        let parent: VecDeque<&[u8]> = names.rev().collect();
        match self.folder_of(parent, follow) {
            Some(mut found) => {
                found.push(last);
                found.join(&b'/')
            }
            None => path.to_vec(),
        }
    }

    fn folder_of<'a>(
        &'a self,
        mut left: VecDeque<&'a [u8]>,
        follow: Follow,
    ) -> Option<Vec<&'a [u8]>> {
        let mut found: Vec<&[u8]> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            match name {
                b"" | b"." => continue,
                b".." => drop(found.pop()),
                name => found.push(name),
            }
            let there = self.lookup(&found.join(&b'/'));
            let Some(Inode {
                kind: Kind::Symlink(target),
                ..
            }) = there.and_then(|id| self.get(id))
            else {
                continue;
            };
            let far = target.starts_with(b"/") || target.windows(2).any(|two| two == b"..");
            links += 1;
            if links > MAX_LINKS || (far && follow == Follow::Tar) {
                return None;
            }
            found.pop();
            if target.starts_with(b"/") {
                found.clear();
            }
            for name in target.split(|byte| *byte == b'/').rev() {
                left.push_front(name);
            }
        }
        let folder = self.lookup(&found.join(&b'/'));
        let is_there = folder
            .and_then(|id| self.get(id))
            .is_some_and(|it| it.entries().is_some());
        (is_there || links == 0 || follow == Follow::Container).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_tree() {
        let mut tree = Tree::new();
        tree.make_dirs(b"usr/lib").unwrap();
        for (path, target) in [
            ("usr/lib64", "lib"),
            ("lib", "/usr/lib"),
            ("usr/out", "../../../usr"),
            ("usr/gone", "none/at/all"),
            ("usr/circle", "circle"),
        ] {
            tree.insert_symlink(path.as_bytes(), target.as_bytes())
                .unwrap();
        }
        for (path, container, tar) in [
            ("usr/lib/x", "usr/lib/x", "usr/lib/x"),
            ("usr/lib64", "usr/lib64", "usr/lib64"),
            ("usr/lib64/x", "usr/lib/x", "usr/lib/x"),
            ("usr/lib64/new/x", "usr/lib/new/x", "usr/lib64/new/x"),
            ("lib/x", "usr/lib/x", "lib/x"),
            ("usr/out/lib64/x", "usr/lib/x", "usr/out/lib64/x"),
            ("usr/gone/x", "usr/none/at/all/x", "usr/gone/x"),
            ("usr/circle/x", "usr/circle/x", "usr/circle/x"),
        ] {
            let followed =
                |follow| String::from_utf8(tree.followed(path.as_bytes(), follow)).unwrap();
            assert_eq!(followed(Follow::Container), container, "{path}");
            assert_eq!(followed(Follow::Tar), tar, "{path}");
        }
    }
}
