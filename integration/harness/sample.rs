//! Images with the same identifiers each time.

use std::num::NonZero;
use std::path::Path;

use prism_sysext::build::assemble::{Assembled, Ids, Protection, Recipe, assemble};
use prism_sysext::image::ImageFormat;
use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::Tree;

pub(crate) fn assembled(
    tree: &Tree,
    file_system: ImageFormat,
    verity: Protection<'_>,
    threads: NonZero<usize>,
    path: &Path,
) -> Assembled {
    let ids = Ids {
        disk: [2; 16],
        root: [3; 16],
        signature: [4; 16],
        file_system: [5; 16],
        verity: [6; 16],
        salt: [7; 32],
    };
    let progress = Progress::new();
    let recipe = Recipe {
        verity,
        threads,
        ..Recipe::new(tree, Arch::X86_64, file_system, ids, &progress)
    };
    assemble(&recipe, path).unwrap()
}
