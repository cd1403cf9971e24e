//! Images by systemd-repart, of this machine and of other versions in Debian roots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::builders::{PACKAGES, enter};
use super::debian::of_suite;
use super::signer::Signer;
use super::tools::{command, output, run, transcript};

/// A systemd-repart.
pub(crate) struct Workshop {
    /// Its major version.
    pub(crate) major: u32,
    root: Option<PathBuf>,
}

/// What becomes of the hash tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verity {
    /// There is none.
    Off,
    /// Without a signature.
    Hash,
    /// With room for a signature.
    Defer,
    /// With a signature.
    Signed,
}

/// Where the file system comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Made before by mkfs of this machine: repart up to 252 has no EROFS.
    Blocks,
    /// Made by repart from files.
    Files,
    /// The whole by a profile of `--make-ddi`.
    Profile(&'static str),
}

/// An image to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) format: &'static str,
    /// `root` or `usr`.
    pub(crate) designator: &'static str,
    /// systemd's name.
    pub(crate) arch: &'static str,
    pub(crate) verity: Verity,
    pub(crate) how: How,
    /// Bytes of data and hash blocks, if not repart's own.
    pub(crate) blocks: Option<(u32, u32)>,
}

impl Workshop {
    /// That of this machine.
    pub(crate) fn here() -> Workshop {
        let said = run(command("systemd-repart").arg("--version"));
        let major = said.split([' ', '.', '~']).nth(1).unwrap();
        Workshop {
            major: major.parse().unwrap(),
            root: None,
        }
    }

    /// 252, 257 or 262 in a Debian root; nothing (said on stderr) where there can be none.
    pub(crate) fn of(major: u32) -> Option<Workshop> {
        let (suite, packages) = match major {
            252 => ("bookworm", "systemd"),
            257 => ("trixie", PACKAGES),
            _ => ("forky", PACKAGES),
        };
        let root = Some(of_suite(suite, packages, None)?);
        Some(Workshop { major, root })
    }

    /// A command that runs there in `work`.
    pub(crate) fn command(&self, work: &Path, program: &str) -> Command {
        match &self.root {
            None => {
                let mut command = command(program);
                command.current_dir(work);
                command
            }
            Some(root) => {
                let mut command = enter(root, work);
                command.arg(program);
                command
            }
        }
    }

    /// What `work` is called there.
    fn place<'a>(&self, work: &'a Path) -> &'a Path {
        match self.root {
            None => work,
            Some(_) => Path::new("/bench"),
        }
    }

    /// Makes `x.raw` in `work`, where `tree` is what goes into it.
    pub(crate) fn make(&self, work: &Path, recipe: &Recipe, signer: &Signer) {
        fs::copy(signer.key(), work.join("key.pem")).unwrap();
        fs::copy(signer.certificate(), work.join("signer.crt")).unwrap();
        if recipe.how == How::Blocks {
            let source = match recipe.designator {
                "usr" => work.join("tree/usr"),
                _ => work.join("tree"),
            };
            file_system(recipe.format, &source, &work.join("blocks"));
        }
        self.repart(work, recipe);
    }

    fn repart(&self, work: &Path, recipe: &Recipe) {
        let mut repart = self.command(work, "systemd-repart");
        repart.args(["--no-pager", "--seed=5eed5eed5eed5eed5eed5eed5eed5eed"]);
        let prefix = format!("{}-{}", recipe.designator, recipe.arch);
        match recipe.how {
            How::Profile(profile) => {
                repart.arg(format!("--make-ddi={profile}"));
                repart.arg(format!("--architecture={}", recipe.arch));
            }
            How::Blocks | How::Files => {
                let blocks = self.place(work).join("blocks");
                definitions(&work.join("definitions"), recipe, &prefix, &blocks);
                repart.args(["--empty=create", "--size=auto", "--definitions=definitions"]);
            }
        }
        if recipe.how != How::Blocks {
            repart.args(["--copy-source=tree", "--offline=yes"]);
        }
        match recipe.verity {
            Verity::Off | Verity::Hash => {}
            // A key is asked for all the same.
            Verity::Defer => {
                repart.arg(format!("--defer-partitions={prefix}-verity-sig"));
                repart.args(["--private-key=key.pem", "--certificate=signer.crt"]);
            }
            Verity::Signed => {
                repart.args(["--private-key=key.pem", "--certificate=signer.crt"]);
            }
        }
        if let (Verity::Hash, How::Profile(_)) = (recipe.verity, recipe.how) {
            repart.arg(format!("--exclude-partitions={prefix}-verity-sig"));
        }
        repart.arg("x.raw");
        let said = output(&mut repart);
        let words = transcript(&said);
        assert!(said.status.success(), "{} {recipe:?}: {words}", self.major);
    }
}

/// A file system by mkfs of this machine.
pub(crate) fn file_system(format: &str, source: &Path, image: &Path) {
    let mut mkfs = match format {
        "erofs" => {
            let mut mkfs = command("mkfs.erofs");
            mkfs.args([image, source]);
            mkfs
        }
        "squashfs" => {
            let mut mkfs = command("mksquashfs");
            mkfs.args([source, image]).args(["-quiet", "-no-progress"]);
            mkfs
        }
        _ => {
            let mut mkfs = command("mkfs.ext4");
            mkfs.args(["-q", "-O", "^has_journal", "-d"])
                .args([source, image])
                .arg("4M");
            mkfs
        }
    };
    run(&mut mkfs);
}

/// The signature of a root hash, PKCS#7 in DER, by openssl; its file name in `work`.
pub(crate) fn sign(work: &Path, hash: &str) -> &'static str {
    fs::write(work.join("hash"), hash).unwrap();
    run(command("openssl")
        .current_dir(work)
        .args([
            "smime", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "DER",
        ])
        .args([
            "-in",
            "hash",
            "-signer",
            "signer.crt",
            "-inkey",
            "key.pem",
            "-out",
            "hash.p7s",
        ]));
    "hash.p7s"
}

fn definitions(folder: &Path, recipe: &Recipe, prefix: &str, blocks: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let (mut data, sizes) = match recipe.how {
        How::Blocks => {
            let text = format!("CopyBlocks={}\nSizeMinBytes=4096\n", blocks.display());
            (text, "SizeMinBytes=1M\n".to_owned())
        }
        _ => {
            let files = match recipe.designator {
                "usr" => "CopyFiles=/usr:/",
                _ => "CopyFiles=/usr\nCopyFiles=/opt",
            };
            let format = recipe.format;
            // How small ext4 can be is guessed.
            let minimize = if format == "ext4" { "guess" } else { "best" };
            let text = format!("Format={format}\n{files}\nMinimize={minimize}\n");
            (text, "Minimize=best\n".to_owned())
        }
    };
    if let Some((data_block, hash_block)) = recipe.blocks {
        data += &format!(
            "VerityDataBlockSizeBytes={data_block}\nVerityHashBlockSizeBytes={hash_block}\n"
        );
    }
    let match_key = |verity: &str| match recipe.verity {
        Verity::Off => String::new(),
        _ => format!("Verity={verity}\nVerityMatchKey=it\n"),
    };
    let write = |name: &str, kind: &str, text: String| {
        let text = format!("[Partition]\nType={prefix}{kind}\n{text}");
        fs::write(folder.join(name), text).unwrap();
    };
    write("10.conf", "", data + &match_key("data"));
    if recipe.verity != Verity::Off {
        let blocks = recipe.blocks.map_or_else(String::new, |(data, hash)| {
            format!("VerityDataBlockSizeBytes={data}\nVerityHashBlockSizeBytes={hash}\n")
        });
        write("20.conf", "-verity", sizes + &match_key("hash") + &blocks);
    }
    if !matches!(recipe.verity, Verity::Off | Verity::Hash) {
        write("30.conf", "-verity-sig", match_key("signature"));
    }
}
