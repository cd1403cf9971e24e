//! The trees that are built.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::place::Place;

/// Their names: megabytes or a gigabyte of programs and libraries, a hundred thousand small files.
pub const SIZES: [&str; 4] = ["1m", "100m", "1g", "100k"];
/// A million small files: takes the others minutes, so only on request, and nobody compresses.
pub const MILLION: &str = "1000k";

/// A tree and what is in it.
pub struct Made {
    /// Holds `usr`.
    pub root: PathBuf,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Makes the tree in place of the one before.
pub fn make(place: &Place, size: &str) -> Made {
    let root = place.folder.join("tree");
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    let mut made = Made {
        root,
        files: 0,
        bytes: 0,
    };
    // Where every builder puts the release file.
    fs::create_dir_all(made.root.join("usr/lib")).unwrap();
    match size {
        "1m" => programs(&mut made, 1_000_000),
        "100m" => programs(&mut made, 100_000_000),
        "1g" => programs(&mut made, 1_000_000_000),
        MILLION => small(&mut made, 1_000_000),
        _ => small(&mut made, 100_000),
    }
    made
}

/// Copies programs and libraries of this machine: the first that fit, in the order of their paths.
fn programs(made: &mut Made, most: u64) {
    let home = std::env::var("HOME").unwrap_or_default();
    let folders = ["/usr/bin", "/usr/lib", "/usr/libexec", "/usr/sbin"].map(PathBuf::from);
    let folders = folders
        .into_iter()
        .chain([Path::new(&home).join(".rustup")]);
    for folder in folders {
        let walk = walkdir::WalkDir::new(&folder).sort_by_file_name();
        for entry in walk
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file())
        {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            if size == 0 || made.bytes + size > most || !is_elf(entry.path()) {
                continue;
            }
            let name = entry.path().strip_prefix("/").unwrap();
            let to = made.root.join("usr/lib/bench").join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(entry.path(), to).unwrap();
            made.files += 1;
            made.bytes += size;
            if made.bytes > most - most / 100 {
                return;
            }
        }
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == *b"\x7fELF"
}

/// Files of 0 to 4 KB of text, two hundred in a folder.
fn small(made: &mut Made, files: u64) {
    for index in 0..files {
        let folder = made
            .root
            .join(format!("usr/share/bench/{:04}", index / 200));
        if index % 200 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        let length = usize::try_from(index.wrapping_mul(2_654_435_761) % 4096).unwrap();
        let line = format!("line of file {index}\n");
        let mut text = line.repeat(length / line.len() + 1);
        text.truncate(length);
        fs::write(folder.join(format!("{index:07}")), &text).unwrap();
        made.files += 1;
        made.bytes += text.len() as u64;
    }
}
