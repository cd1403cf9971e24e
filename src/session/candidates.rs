//! Images and folders as the prediction takes them: of this machine, and of a base.

use std::path::Path;

use crate::base::Base;
use crate::base::folder::folder_content;
use crate::base::rootfs::RootFs;
use crate::check::discover::{What, discover};
use crate::check::sidecars::{FutureSidecars, Sidecars};
use crate::check::{Candidate, Image, sidecars};
use crate::finding::Finding;
use crate::image::dissect;
use crate::image::dissect::Ddi;
use crate::inspect::verify::verify_ddi;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::systemd::changes::SystemdBuild;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CONFEXT_DIRS, SYSEXT_DIRS};

/// Largest image of a base whose hash tree is recomputed, in bytes; a sparse file can claim any
/// size, and reading it must end.
const MAX_PRESENT_BYTES: u64 = 64 << 30;

/// An image with its hash tree recomputed; its signature is judged with the base, which says whom to
/// trust.
pub(super) fn disk(ddi: Ddi, sidecars: Sidecars, progress: &Progress) -> Image {
    let report = verify_ddi(&ddi, &[], progress);
    Image::Disk(Box::new(ddi), Box::new(report), sidecars)
}

/// An image of this machine that is going to be placed.
pub(super) fn future_image(
    path: &Path,
    coming: &FutureSidecars<'_>,
    base: &Base,
    progress: &Progress,
) -> Image {
    match dissect::open_for(path, base.arch) {
        Ok(ddi) => {
            let beside = sidecars::of_future(coming, &ddi, progress);
            disk(ddi, beside, progress)
        }
        Err(error) => Image::Unreadable(error.to_string()),
    }
}

/// An image of this machine with what lies beside it.
pub(super) fn image_and_beside(path: &Path, base: &Base, progress: &Progress) -> Image {
    let ddi = match dissect::open_for(path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Image::Unreadable(error.to_string()),
    };
    let beside = sidecars::beside_on_this_machine(path, &ddi, progress);
    disk(ddi, beside, progress)
}

/// A folder of this machine.
pub(super) fn local_folder(path: &Path) -> Image {
    let image = match RootDir::open(path) {
        Ok(root) => folder(&root, Path::new("/"), false),
        Err(error) => Image::Unreadable(error.to_string()),
    };
    match image {
        Image::Folder {
            content, in_usr, ..
        } => Image::Folder {
            content,
            in_usr,
            local: Some(path.to_owned()),
        },
        other => other,
    }
}

/// A folder of a root file system.
fn folder(root: &dyn RootFs, path: &Path, in_usr: bool) -> Image {
    match folder_content(root, path) {
        Ok(Some(content)) => Image::Folder {
            content: Box::new(content),
            in_usr,
            local: None,
        },
        Ok(None) => Image::Unreadable("there is nothing".to_owned()),
        // Not systemd's trouble, but ours.
        Err(_) => Image::Other("a folder that can't be read"),
    }
}

pub(super) fn present(
    root: &dyn RootFs,
    base: &Base,
    skip: impl Fn(&str) -> bool,
    listed: impl Fn(&str) -> Option<String>,
    progress: &Progress,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let systemd = base.systemd_build().unwrap_or(SystemdBuild::NEWEST);
    for entry in &base.extensions {
        let Some(found) = discover(entry, systemd, base.arch) else {
            continue;
        };
        if skip(&found.path) {
            continue;
        }
        let path = Path::new(&found.path);
        let image = match found.what {
            What::Image => match image(root, path, base, progress) {
                Some(image) => image,
                None => continue,
            },
            What::Folder | What::FolderInUsr => folder(root, path, found.what == What::FolderInUsr),
            What::Stack => Image::Unreadable("systemd takes no .mstack folders here".to_owned()),
            What::Circle => Image::Unreadable("the link leads in a circle".to_owned()),
            What::Device => Image::Other("a block device"),
        };
        candidates.push(Candidate {
            kind: entry.class,
            at: listed(&found.path),
            path: found.path,
            name: found.name,
            image,
        });
    }
    candidates
}

/// An image of a root file system; nothing when it is gone meanwhile.
fn image(root: &dyn RootFs, path: &Path, base: &Base, progress: &Progress) -> Option<Image> {
    let (file, metadata) = match root.open_file(path) {
        Ok(found) => found?,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    if metadata.size > MAX_PRESENT_BYTES {
        return Some(Image::Other("an image of more than 64 GiB"));
    }
    let ddi = match dissect::describe(file, path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    let beside = sidecars::read(root, path, &ddi, progress);
    Some(disk(ddi, beside, progress))
}

pub(super) fn in_search_order(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|candidate| {
        let dirs = match candidate.kind {
            ExtensionKind::Sysext => SYSEXT_DIRS,
            ExtensionKind::Confext => CONFEXT_DIRS,
        };
        let lies_in = |folder: &&str| {
            let rest = candidate.path.strip_prefix(*folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        (candidate.kind, dirs.iter().position(lies_in))
    });
}

/// An image of this machine, also a compressed one.
///
/// # Errors
/// `image-unreadable`.
pub fn open_any(path: &Path) -> Result<Ddi, Finding> {
    dissect::open_compressed(path)
        .map_err(|error| Finding::error("image-unreadable", error.to_string()))
}

/// An image of this machine.
///
/// # Errors
/// `image-unreadable`.
pub fn open_image(path: &Path) -> Result<Ddi, Finding> {
    dissect::open(path).map_err(|error| Finding::error("image-unreadable", error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::image::dissect::Layout;
    use crate::image::gpt::types::Designator;
    use crate::image::sidecar::{SidecarFile, SidecarKind};
    use crate::image::testing::{Protection, disk as image_of, erofs, tree};
    use crate::io::open::testing::write;
    use crate::session::testing::rootfs;

    const RELEASE: &str = "usr/lib/extension-release.d/extension-release.a";

    fn bytes() -> Vec<u8> {
        image_of(
            &erofs(&tree(&[(RELEASE, "ID=base\n")])),
            Designator::Root,
            Protection::Hash,
        )
    }

    fn base(dir: &Path) -> (RootDir, Base) {
        rootfs(dir);
        let root = RootDir::open(dir).unwrap();
        let base = Base::read(&root).unwrap();
        (root, base)
    }

    /// What an image was taken for.
    fn word(image: &Image) -> &'static str {
        match image {
            Image::Disk(..) => "image",
            Image::Folder { in_usr: true, .. } => "folder in /usr",
            Image::Folder { local: Some(_), .. } => "folder of this machine",
            Image::Folder { .. } => "folder",
            Image::Unreadable(_) => "unreadable",
            Image::Other(what) => what,
        }
    }

    #[test]
    fn all_that_systemd_finds_in_a_base_is_a_candidate() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        write(dir.path(), "etc/extensions/a.raw", bytes());
        write(dir.path(), "etc/extensions/cut.raw", b"cut");
        write(dir.path(), "etc/extensions/text.txt", b"no image");
        write(dir.path(), "etc/extensions/skipped.raw", bytes());
        write(
            dir.path(),
            &format!("var/lib/extensions/f/{RELEASE}"),
            "ID=base\n",
        );
        fs::create_dir(at("var/lib/extensions/masked")).unwrap();
        symlink("loop.raw", at("var/lib/extensions/loop.raw")).unwrap();
        let (root, base) = base(dir.path());
        let listed = |path: &str| path.ends_with("/a.raw").then(|| "here".to_owned());
        let skip = |path: &str| path.ends_with("skipped.raw");
        let found = present(&root, &base, skip, listed, &Progress::new());
        let mut found: Vec<_> = found
            .iter()
            .map(|it| {
                (
                    it.path.as_str(),
                    it.name.as_str(),
                    word(&it.image),
                    it.at.is_some(),
                )
            })
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("/etc/extensions/a.raw", "a", "image", true),
                ("/etc/extensions/cut.raw", "cut", "unreadable", false),
                ("/var/lib/extensions/f", "f", "folder", false),
                (
                    "/var/lib/extensions/loop.raw",
                    "loop.raw",
                    "unreadable",
                    false
                ),
                ("/var/lib/extensions/masked", "masked", "folder", false),
            ]
        );
    }

    #[test]
    fn an_image_that_comes_is_read_with_what_comes_along_and_what_stays() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(here.path(), "x.raw", bytes());
        let ddi = dissect::open(&here.path().join("x.raw")).unwrap();
        let hash = ddi.root_hash.unwrap().as_bytes().to_vec();
        write(here.path(), "x.roothash", hex(&hash));
        write(
            there.path(),
            "var/lib/extensions/a.roothash",
            "7".repeat(64),
        );
        let (root, base) = base(there.path());
        let along = [SidecarFile {
            kind: SidecarKind::RootHash,
            path: here.path().join("x.roothash"),
        }];
        let beside = |files: &[SidecarFile], goes: bool| {
            let coming = FutureSidecars {
                files,
                root: Some(&root),
                destination: Path::new("/var/lib/extensions/a.raw"),
                goes: &|_| goes,
            };
            let image = future_image(&here.path().join("x.raw"), &coming, &base, &Progress::new());
            let Image::Disk(_, report, sidecars) = image else {
                panic!("{image:?}");
            };
            assert!(report.root_hash.is_some());
            sidecars.root_hash.map(|(_, hash)| hash)
        };
        assert_eq!(beside(&along, false), Some(hash));
        assert_eq!(beside(&[], false), Some(vec![0x77; 32]));
        assert_eq!(beside(&[], true), None);
        let coming = FutureSidecars {
            files: &[],
            root: None,
            destination: Path::new("/var/lib/extensions/a.raw"),
            goes: &|_| false,
        };
        let gone = future_image(&here.path().join("gone"), &coming, &base, &Progress::new());
        assert_eq!(word(&gone), "unreadable");
    }

    fn hex(bytes: &[u8]) -> String {
        crate::io::hex::encode(bytes)
    }

    #[test]
    fn images_and_folders_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let (_, base) = base(&dir.path().join("root"));
        write(dir.path(), "a.raw", bytes());
        write(dir.path(), "a.roothash", "7".repeat(64));
        write(dir.path(), "cut.raw", b"cut");
        write(dir.path(), &format!("f/{RELEASE}"), "ID=base\n");
        let path = |name: &str| dir.path().join(name);
        let image = image_and_beside(&path("a.raw"), &base, &Progress::new());
        let Image::Disk(_, _, sidecars) = &image else {
            panic!("{image:?}");
        };
        assert!(sidecars.root_hash.is_some());
        let cut = image_and_beside(&path("cut.raw"), &base, &Progress::new());
        assert_eq!(word(&cut), "unreadable");
        for (name, expected) in [
            ("f", "folder of this machine"),
            ("gone", "unreadable"),
            ("a.raw", "unreadable"),
        ] {
            assert_eq!(word(&local_folder(&path(name))), expected, "{name}");
        }
    }

    #[test]
    fn compressed_images_are_opened_only_where_they_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.raw.gz");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&bytes()).unwrap();
        write(dir.path(), "a.raw.gz", packed.finish().unwrap());
        let ddi = open_any(&path).unwrap();
        assert!(ddi.compressed.is_some() && matches!(ddi.layout, Layout::Gpt(_)));
        assert_eq!(open_image(&path).unwrap_err().id, "image-unreadable");
        assert_eq!(open_any(dir.path()).unwrap_err().id, "image-unreadable");
    }

    #[test]
    fn candidates_come_as_systemd_searches() {
        use ExtensionKind::{Confext, Sysext};
        let candidate = |kind, path: &str| Candidate {
            kind,
            at: None,
            path: path.to_owned(),
            name: String::new(),
            image: Image::Other("x"),
        };
        let mut all = [
            candidate(Confext, "/var/lib/confexts/a"),
            candidate(Sysext, "/usr/lib/extensions/a"),
            candidate(Sysext, "/var/lib/extensions/b"),
            candidate(Confext, "/run/confexts/a"),
            candidate(Sysext, "/var/lib/extensions/a"),
            candidate(Sysext, "/run/extensions/a"),
            candidate(Sysext, "/etc/extensions/a"),
        ];
        in_search_order(&mut all);
        let paths: Vec<&str> = all.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/etc/extensions/a",
                "/run/extensions/a",
                "/var/lib/extensions/b",
                "/var/lib/extensions/a",
                "/usr/lib/extensions/a",
                "/run/confexts/a",
                "/var/lib/confexts/a",
            ]
        );
    }
}
