//! Links in `/usr/bin` to programs that lie elsewhere.

use crate::finding::Finding;
use crate::tree::{Kind, Tree};

/// A relative link in `/usr/bin` to the one program of that name elsewhere.
pub(super) fn link_program(tree: &mut Tree, program: &str) -> Result<(), Finding> {
    let suffix = format!("/{program}");
    let mut found: Vec<Vec<u8>> = tree
        .walk()
        .filter(|(path, _, inode)| {
            path.ends_with(suffix.as_bytes())
                && !path.starts_with(b"usr/bin/")
                && matches!(inode.kind, Kind::File { .. })
                && inode.mode & 0o111 != 0
        })
        .map(|(path, ..)| path.to_vec())
        .collect();
    let target = match (found.pop(), found.is_empty()) {
        (Some(target), true) => target,
        (None, _) => {
            return Err(Finding::error(
                "program-missing",
                format!("no executable file named `{program}` lies outside /usr/bin"),
            )
            .help("check the name, or remove the link"));
        }
        (Some(_), false) => {
            return Err(Finding::error(
                "program-ambiguous",
                format!("several executable files are named `{program}`"),
            )
            .help("keep one, or add the link to the tree yourself"));
        }
    };
    let relative: Vec<u8> = match target.strip_prefix(b"usr/".as_slice()) {
        Some(below_usr) => [b"../".as_slice(), below_usr].concat(),
        None => [b"../../".as_slice(), &target].concat(),
    };
    tree.insert_symlink(format!("usr/bin/{program}").as_bytes(), &relative)
        .map(|_| ())
        .map_err(|error| Finding::error("content-conflict", error.to_string()))
}
