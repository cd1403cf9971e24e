//! A folder with a `config.yaml` and content, and our program run on it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::secret::{Watch, heard};
use super::signer::Signer;
use super::tools::{command, output, transcript};

/// The name of the extension that a project builds.
pub(crate) const NAME: &str = "probe";
/// A file of it.
pub(crate) const FILE: &str = "/usr/share/probe/greeting";
/// The text of that file.
pub(crate) const TEXT: &str = "hello from an extension\n";

/// A project with one extension; it goes when this does.
///
/// When the test is over it is searched for pieces of the key, and so is what was said.
pub(crate) struct Project {
    // Dropped first, so it finds everything.
    watch: Watch,
    dir: TempDir,
}

impl Project {
    /// An extension without hash or signature, in a file system of this format.
    pub(crate) fn in_format(format: &str) -> Self {
        Self::new(&format!("    verity: none\n    format: {format}\n"), "")
    }

    /// An extension signed by this key, on a system that admits only signed ones.
    pub(crate) fn signed(signer: &Signer) -> Self {
        let trust = format!(
            "  verityKey: file:{}\n  verityCertificate: {}\n  imagePolicy: signed\n",
            signer.key().display(),
            signer.certificate().display()
        );
        let project = Self::new("", &trust);
        project.watch.key(&signer.key());
        project
    }

    fn new(extension: &str, section: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("root").join(FILE.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, TEXT).unwrap();
        let config = format!(
            "os:\n  hostname: referee\n\nsysext:\n{section}  extensions:\n  - name: {NAME}\n    \
             version: 1.0.0\n    tree: ./root\n{extension}"
        );
        fs::write(dir.path().join("config.yaml"), config).unwrap();
        let watch = Watch::new(dir.path());
        Self { watch, dir }
    }

    /// Builds the extension and places it in the target.
    pub(crate) fn apply(&self, rootfs: &Path) {
        self.prism_sysext(&["apply", "--rootfs"], rootfs);
    }

    /// Builds the extension for the target without placing it and returns the image.
    pub(crate) fn build(&self, rootfs: &Path) -> PathBuf {
        self.prism_sysext(&["build", "--rootfs"], rootfs);
        self.dir.path().join(format!(".sysext/{NAME}.raw"))
    }

    fn prism_sysext(&self, args: &[&str], rootfs: &Path) {
        let mut program = command(env!("CARGO_BIN_EXE_prism-sysext"));
        program
            .args(args)
            .arg(rootfs)
            .arg("--config-file")
            .arg(self.dir.path().join("config.yaml"));
        let said = output(&mut program);
        for stream in [&said.stdout, &said.stderr] {
            heard(self.dir.path(), &String::from_utf8_lossy(stream));
        }
        assert!(said.status.success(), "{}", transcript(&said));
    }
}
