//! Extensions of a base that are folders.

use std::path::Path;

use super::rootfs::RootFs;
use crate::image::dissect::{Content, content};
use crate::image::gpt::types::Designator;
use crate::image::read::FsError;
use crate::image::read::view::{FileView, folder_error};

/// What an extension that is a folder holds; `None` when there is no such folder.
pub(crate) fn folder_content(root: &dyn RootFs, path: &Path) -> Result<Option<Content>, FsError> {
    match root
        .enter(path)
        .map_err(|error| folder_error(path, error))?
    {
        Some(folder) => {
            let files: &dyn FileView = folder.as_ref();
            content(files, Designator::Root).map(Some)
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::dissect::Fault;
    use crate::io::root::RootDir;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_the_extension_stay_in_the_extension() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("ext/usr/lib/extension-release.d")).unwrap();
        std::fs::create_dir_all(at("usr/lib")).unwrap();
        std::fs::write(at("usr/lib/os-release"), "ID=host\n").unwrap();
        std::fs::write(at("ext/usr/lib/real"), "ID=x\n").unwrap();
        let releases = at("ext/usr/lib/extension-release.d");
        symlink("/usr/lib/real", releases.join("extension-release.ext")).unwrap();
        symlink("../os-release", releases.join("extension-release.none")).unwrap();
        std::fs::create_dir(at("ext/opt")).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let content = folder_content(&root, Path::new("/ext")).unwrap().unwrap();
        assert!(!content.has_os_release);
        let [ext, none] = content.releases.as_slice() else {
            panic!("{content:?}")
        };
        assert_eq!(ext.fields.as_ref().unwrap().get("ID"), Some("x"));
        assert_eq!(none.fault, Some(Fault::Missing));
        assert!(content.filled.contains("usr") && content.filled.contains("usr/lib"));
        assert!(
            !content.filled.contains("opt"),
            "an empty folder is not merged"
        );
        assert_eq!(folder_content(&root, Path::new("/gone")).unwrap(), None);
    }
}
