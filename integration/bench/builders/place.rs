//! Where the builders run: a Debian 13 root that has them all, and a folder that it sees as
//! `/bench`, in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::contestants::{Contestant, Root};
use crate::measure::{self, Run};
use crate::tools::{command, have, root, run};
use crate::{builders, debian};

const MKOSI: &str = "[Distribution]\nDistribution=custom\n[Output]\nFormat=sysext\nOutput=mkosi\n\
                     [Content]\nExtraTrees=tree:/\n\
                     [Validation]\nVerity=yes\nVerityKey=key.pem\nVerityCertificate=cert.crt\n";

/// The folder and the root.
pub struct Place {
    debian: PathBuf,
    /// What the builders see as `/bench`.
    pub folder: PathBuf,
}

/// A mounted image; unmounted when dropped.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(command("umount").arg(self.0.path()));
    }
}

impl Place {
    /// Makes all that the builders need; `None`, said on stderr, where that cannot be.
    pub fn prepare() -> Option<Place> {
        if !(root() && have(&["debootstrap", "unshare", "mount", "openssl", "partx"])) {
            return None;
        }
        let folder = debian::cache().join("bench");
        let debian = debian::of_suite(debian::SUITE, builders::PACKAGES, None)?;
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        let place = Place { debian, folder };
        place.copy("prism-sysext", env!("CARGO_BIN_EXE_prism-sysext").as_ref());
        place.copy("builders", &std::env::current_exe().unwrap());
        run(command("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=bench",
            ])
            .args(["-keyout", "key.pem", "-out", "cert.crt"])
            .current_dir(&place.folder));
        place.write("mkosi.conf", MKOSI);
        for compression in ["none", "lz4", "lz4hc", "zstd"] {
            let yaml = format!(
                "sysext:\n  verityKey: file:key.pem\n  verityCertificate: cert.crt\n  extensions:\n  \
                 - {{name: t, tree: tree, arch: x86-64, compression: {compression}, release: {{id: _any}}}}\n"
            );
            place.write(&format!("{compression}.yaml"), &yaml);
        }
        Some(place)
    }

    fn copy(&self, name: &str, from: &Path) {
        fs::copy(from, self.folder.join(name)).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Runs a builder once.
    pub fn run(&self, contestant: &Contestant) -> Run {
        let mut enter = builders::enter(&self.debian, &self.folder);
        enter
            .args(["./builders", measure::COMMAND])
            .args(contestant.outputs)
            .args(["--", "sh", "-c", &contestant.command])
            .env("HOME", "/root");
        serde_json::from_str(&run(&mut enter)).unwrap()
    }

    /// The image that a builder made last.
    fn image(&self, contestant: &Contestant) -> PathBuf {
        self.folder.join(contestant.outputs[0])
    }

    /// Bytes of all that a builder made last.
    pub fn image_bytes(&self, contestant: &Contestant) -> u64 {
        let sizes = contestant.outputs.iter();
        sizes
            .map(|name| fs::metadata(self.folder.join(name)).unwrap().len())
            .sum()
    }

    /// Mounts the root file system of what a builder made last.
    pub fn mounted(&self, contestant: &Contestant) -> Mounted {
        let image = self.image(contestant);
        let sector: u64 = match contestant.root {
            Some(Root::First) => run(command("partx")
                .args(["-g", "-o", "START", "-n", "1"])
                .arg(&image))
            .trim()
            .parse()
            .unwrap(),
            _ => 0,
        };
        let dir = tempfile::TempDir::new().unwrap();
        run(command("mount")
            .args(["-o", &format!("ro,loop,offset={}", sector * 512)])
            .arg(&image)
            .arg(dir.path()));
        Mounted(dir)
    }

    /// How long SHA-256 of so many bytes takes on all processors, by `openssl speed`.
    pub fn hashing_seconds(&self, bytes: u64) -> f64 {
        let processors = std::thread::available_parallelism().unwrap().to_string();
        let said = run(command("openssl").args([
            "speed",
            "-mr",
            "-seconds",
            "2",
            "-bytes",
            "1048576",
            "-multi",
            &processors,
            "-evp",
            "sha256",
        ]));
        // `+F:22:sha256:2864705536.00`, bytes per second of all processes together.
        let last = said.lines().rfind(|line| line.starts_with("+F:")).unwrap();
        let speed: f64 = last.rsplit(':').next().unwrap().parse().unwrap();
        bytes as f64 / speed
    }

    /// Instructions of a build of a small fixed tree, most of them SHA-256 in software, since
    /// valgrind has no SHA instructions: equal on every machine of this architecture.
    pub fn instructions(&self) -> Option<u64> {
        if !have(&["valgrind"]) {
            return None;
        }
        let dir = tempfile::TempDir::new().unwrap();
        let tree = dir.path().join("tree/usr/share/fixed");
        fs::create_dir_all(&tree).unwrap();
        for index in 0..200_u32 {
            let line = format!("this is file {index}\n");
            fs::write(
                tree.join(index.to_string()),
                line.repeat(50 * index as usize),
            )
            .unwrap();
        }
        let yaml = "sysext:\n  extensions:\n  - {name: t, tree: tree, arch: x86-64, verity: hash, \
                    compression: none, release: {id: _any}}\n";
        fs::write(dir.path().join("config.yaml"), yaml).unwrap();
        let out = dir.path().join("callgrind");
        run(command("valgrind")
            .args([
                "--tool=callgrind",
                &format!("--callgrind-out-file={}", out.display()),
            ])
            .arg(self.folder.join("prism-sysext"))
            .args(["build", "--quiet"])
            .current_dir(dir.path()));
        let text = fs::read_to_string(out).unwrap();
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
        totals?.trim().parse().ok()
    }
}

/// Processor, memory and kernel, in a line.
pub fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_matches([' ', '\t', ':']).to_owned())
            .unwrap_or_default()
    };
    format!(
        "{} processors ({}), {} of memory, Linux {}",
        std::thread::available_parallelism().unwrap(),
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim(),
    )
}
