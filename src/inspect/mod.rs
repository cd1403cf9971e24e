//! One image as a person wants to know it: what systemd sees of it ([`Ddi`]), what lies beside it,
//! and what is in it.

mod diff;
mod extract;
mod listing;
mod sidecar;
mod survey;
pub mod verify;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::finding::Finding;
use crate::image::dissect::Ddi;

pub use diff::{Change, Changed, Difference, Field, What, diff};
pub use extract::{Extracted, extract};
pub use listing::{Entry, Listing, list, mtree};
pub use sidecar::{Sidecar, SidecarSet};
pub use survey::{Folder, Large, Privileged, Survey};

/// Version of the JSON form.
const SCHEMA_VERSION: u32 = 1;

/// All that `inspect` tells.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Version of this format.
    pub schema_version: u32,
    /// What the image says of itself.
    #[serde(flatten)]
    pub image: Ddi,
    /// Files beside it by which systemd would use a hash tree.
    pub sidecars: Vec<Sidecar>,
    /// What is in it, unless its file system could not be read.
    pub survey: Option<Survey>,
}

/// Looks at an image and beside it. No hash and no signature is checked.
pub fn inspect(mut image: Ddi) -> Inspection {
    let sidecars = sidecar::beside(&image.path, &mut image.problems);
    // Where its content could not be read, that has been said.
    let survey = match &image.content {
        None => None,
        Some(_) => match image.file_system().and_then(|fs| survey::survey(&fs)) {
            Ok(survey) => Some(survey),
            Err(error) => {
                let finding = Finding::error("file-system-unreadable", error.to_string());
                image.problems.push(finding.in_file(&image.path));
                None
            }
        },
    };
    Inspection {
        schema_version: SCHEMA_VERSION,
        image,
        sidecars,
        survey,
    }
}

/// Names that are not UTF-8 with a replacement character; JSON has no other way.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
