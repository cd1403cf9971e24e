//! Images with something wrong.

use std::fs::{self, OpenOptions};
use std::num::NonZero;
use std::path::Path;

use prism_sysext::build::assemble::{Assembled, Protection};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::dissect;
use prism_sysext::image::gpt;
use prism_sysext::image::gpt::types::{Designator, PartitionType};
use prism_sysext::image::signature::KeyFile;
use prism_sysext::image::x509;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::{Source, Tree};
use uuid::Uuid;

use crate::harness::workspace::Workspace;
use crate::harness::{sample, tools};

const PLAIN: ImageFormat = ImageFormat::Erofs {
    compression: None,
    share_compressed: false,
};

/// What every image holds.
pub(super) const FILE: &str = "/usr/share/demo/file";

pub(super) const RELEASE: &str = "ID=_any\nSYSEXT_ID=demo\nARCHITECTURE=x86-64\n";

/// An image that is to be made wrong.
pub(super) struct Original<'a> {
    /// What its release file is for.
    pub(super) name: &'a str,
    pub(super) release: &'a str,
    /// Further files.
    pub(super) files: &'a [&'a str],
    pub(super) format: ImageFormat,
    pub(super) verity: Protection<'a>,
}

impl Default for Original<'_> {
    fn default() -> Self {
        Original {
            name: "demo",
            release: RELEASE,
            files: &[],
            format: PLAIN,
            verity: Protection::None,
        }
    }
}

impl Original<'_> {
    pub(super) fn of(format: ImageFormat) -> Self {
        Original {
            format,
            ..Original::default()
        }
    }

    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut add = |path: &str, text: &str| {
            let source = Source::Bytes(text.as_bytes().to_vec());
            let size = text.len() as u64;
            tree.insert_file(path.as_bytes(), source, size, 0o640)
                .unwrap()
        };
        let release = format!(
            "usr/lib/extension-release.d/extension-release.{}",
            self.name
        );
        add(&release, self.release);
        for path in self.files {
            add(path, "more\n");
        }
        let id = add(FILE, "text\n");
        let inode = tree.get_mut(id).unwrap();
        inode.xattrs.insert(b"user.note".to_vec(), b"kept".to_vec());
        inode.uid = 7;
        tree.insert_link(b"usr/share/demo/same", id).unwrap();
        tree.insert_symlink(b"usr/share/demo/link", b"../demo/file")
            .unwrap();
        tree
    }

    pub(super) fn make(&self, path: &Path) -> Assembled {
        self.make_of(&self.tree(), path)
    }

    pub(super) fn make_of(&self, tree: &Tree, path: &Path) -> Assembled {
        let verity = match &self.verity {
            Protection::Bare => Protection::Bare,
            Protection::None => Protection::None,
            Protection::Hash => Protection::Hash,
            Protection::Signed(signer) => Protection::Signed(*signer),
            Protection::Defer(stored) => Protection::Defer(*stored),
        };
        sample::assembled(tree, self.format, verity, NonZero::<usize>::MIN, path)
    }

    /// The file system alone.
    pub(super) fn make_naked(&self, path: &Path) {
        let (tree, bare) = (self.tree(), Protection::Bare);
        sample::assembled(&tree, self.format, bare, NonZero::<usize>::MIN, path);
    }

    /// A partition that is `/usr`.
    pub(super) fn make_usr(&self, path: &Path) {
        let mut whole = self.tree();
        let usr = whole.lookup(b"usr").unwrap();
        let inner = whole.get(usr).unwrap().clone();
        *whole.get_mut(Tree::ROOT).unwrap() = inner;
        let mut partitions = self.make_of(&whole, path).partitions;
        for partition in &mut partitions {
            let role = PartitionType::from_guid(partition.type_guid).unwrap().role;
            let usr = PartitionType::new(Arch::X86_64, Designator::Usr, role);
            partition.type_guid = usr.guid().unwrap();
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let sectors = file.metadata().unwrap().len() / 512;
        gpt::write(&mut file, Uuid::from_u128(9), &partitions, sectors).unwrap();
    }
}

pub(super) fn key_of(workspace: &Workspace, name: &str) -> KeyFile {
    let certificate = x509::load(&workspace.read(&format!("keys/{name}.crt"))).unwrap();
    let key = match name {
        "cert" => "key",
        other => other,
    };
    KeyFile::from_pem(&workspace.read(&format!("keys/{key}.pem")), &certificate[0]).unwrap()
}

/// Writes the file system, its hash tree, root hash and signature apart.
pub(super) fn make_apart(workspace: &Workspace, path: &Path, name: &str, release: &str) {
    let key = key_of(workspace, "other");
    let original = Original {
        name,
        release,
        verity: Protection::Signed(&key),
        ..Original::default()
    };
    original.make(path);
    let image = dissect::open(path).unwrap();
    let bytes = fs::read(path).unwrap();
    let of = |part: Option<dissect::Part>| {
        let part = part.unwrap();
        let start = usize::try_from(part.offset).unwrap();
        &bytes[start..start + usize::try_from(part.size).unwrap()]
    };
    let dissect::SignatureState::Present { partition, .. } = &image.signature else {
        panic!("not signed");
    };
    let put = |ending: &str, bytes: &[u8]| fs::write(path.with_extension(ending), bytes).unwrap();
    put("verity", of(image.hash));
    put("roothash", image.root_hash.unwrap().to_string().as_bytes());
    put("roothash.p7s", &partition.signature);
    put("raw", of(image.data));
}

/// An image in ext2, which systemd has not taken since 253.
pub(super) fn make_ext2(path: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("usr/lib/extension-release.d")).unwrap();
    fs::create_dir_all(at("usr/share/demo")).unwrap();
    fs::write(
        at("usr/lib/extension-release.d/extension-release.demo"),
        RELEASE,
    )
    .unwrap();
    fs::write(at("usr/share/demo/file"), "text\n").unwrap();
    fs::File::create(path).unwrap().set_len(4 << 20).unwrap();
    let mut mkfs = tools::command("mkfs.ext2");
    tools::run(
        mkfs.args(["-q", "-F", "-I", "256", "-d"])
            .arg(dir.path())
            .arg(path),
    );
}
