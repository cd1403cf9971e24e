//! What is taken out of an archive, and where in the tree it lands.

use std::path::Path;

use glob::Pattern;

/// What is taken out of an archive.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// Globs of paths, or of folders above them; none means all.
    pub include: Vec<Pattern>,
    /// Globs of paths that are left out, with all below them.
    pub exclude: Vec<Pattern>,
    /// How many folders are taken off the front of each path.
    pub strip: usize,
    /// Whether owners are kept instead of root for all.
    pub keep_owners: bool,
}

impl Pick {
    /// The path in the tree; nothing if it is not wanted.
    pub(super) fn place(&self, path: &Path) -> Result<Option<Vec<u8>>, &'static str> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for component in path.components() {
            use std::os::unix::ffi::OsStrExt;
            use std::path::Component;
            match component {
                Component::Normal(name) => names.push(name.as_bytes().to_vec()),
                // As tar does.
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir => return Err("it leads out with `..`"),
                Component::Prefix(_) => return Err("it is no path of this system"),
            }
        }
        let Some(names) = names.get(self.strip..).filter(|names| !names.is_empty()) else {
            return Ok(None);
        };
        let path = names.join(&b'/');
        let text = String::from_utf8_lossy(&path).into_owned();
        let ends = text.match_indices('/').map(|(end, _)| end);
        let above: Vec<String> = ends
            .chain([text.len()])
            .filter_map(|end| text.get(..end).map(|part| format!("/{part}")))
            .collect();
        let hit = |globs: &[Pattern]| {
            let mut globs = globs.iter();
            globs.any(|glob| above.iter().any(|part| glob.matches(part)))
        };
        let wanted = (self.include.is_empty() || hit(&self.include)) && !hit(&self.exclude);
        Ok(wanted.then_some(path))
    }
}
