//! How messages write what they name.

use std::path::Path;

/// A path as it is best read from here.
pub(crate) fn path(path: &Path) -> String {
    let text = path.display().to_string();
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}
