//! Writing ext4 through `mkfs.ext4` and `debugfs` of e2fsprogs.
//!
//! `mkfs.ext4 -d` takes owners and times from a folder on disk, which needs root and a copy of the
//! tree. So it makes an empty file system, and `debugfs` writes files, owners, attributes and links
//! into it. Ids and times are given, so the same versions of them make the same bytes.
//!
//! The file system is read-only in use: no journal, nothing reserved, and about as large as its
//! content.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use uuid::Uuid;

use super::program::{Program, path_of};
use crate::tree::read::Reader;
use crate::tree::{Inode, InodeId, Kind, Source, Tree};

const MKFS: Program = Program {
    name: "mkfs.ext4",
    package: "e2fsprogs",
    wanted_by: "format: ext4",
};
const DEBUGFS: Program = Program {
    name: "debugfs",
    package: "e2fsprogs",
    wanted_by: "format: ext4",
};

const BLOCK: u64 = 4096;
const INODE: u64 = 256;
/// The first inode that is not reserved (EXT4_GOOD_OLD_FIRST_INO), which is lost+found.
const FIRST_INODE: u64 = 11;
/// Blocks of a group, one bitmap block of bits.
const GROUP: u64 = 8 * BLOCK;
/// All that is wanted, so that no configuration file of the machine has a say: what ext4 has by
/// default but a journal and room to grow.
const FEATURES: &str = "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,\
                        huge_file,large_file,metadata_csum,sparse_super,64bit";
/// Longest command, within the line that debugfs reads (BUFSIZ).
const LONGEST_COMMAND: usize = 8000;

/// Writes the tree into `file` from the byte `offset` on; returns the bytes of the file system, a
/// multiple of 4096. Small files of our own making pass through `scratch`.
pub(crate) fn write(
    tree: &Tree,
    uuid: [u8; 16],
    epoch_seconds: u64,
    file: &File,
    offset: u64,
) -> Result<u64> {
    let inodes = tree.inodes.len() as u64 + FIRST_INODE;
    let blocks = blocks(tree, inodes);
    file.set_len(offset + blocks * BLOCK)?;
    // 0 would mean the time of day to these programs (lib/ext2fs, fs->now).
    let now = epoch_seconds.max(1).to_string();
    let environment = || {
        [
            ("E2FSPROGS_FAKE_TIME", now.clone()),
            ("MKE2FS_CONFIG", "/dev/null".to_owned()),
        ]
    };
    let uuid = Uuid::from_bytes(uuid).to_string();
    let target = path_of(file);
    let extended =
        format!("offset={offset},hash_seed={uuid},lazy_itable_init=0,nodiscard,root_owner=0:0");
    let (inodes, size) = (inodes.to_string(), blocks.to_string());
    let options = [
        "-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-N", &inodes, "-O", FEATURES, "-U",
        &uuid, "-E", &extended, &target, &size,
    ];
    let options = options.map(OsString::from);
    MKFS.start(options, environment(), Stdio::null())?
        .finish()?;

    let scratch = tempfile::tempdir().context("creating a temporary folder")?;
    let commands = scratch.path().join("commands");
    let script = File::create(&commands)?;
    Script::new(tree, &scratch, script)
        .write()
        .with_context(|| format!("writing {}", commands.display()))?;
    let device = format!("{target}?offset={offset}");
    let args = [
        OsString::from("-w"),
        OsString::from("-f"),
        commands.into_os_string(),
        OsString::from(device),
    ];
    let words = DEBUGFS
        .start(args, environment(), Stdio::null())?
        .finish()?;
    // It exits 0 whatever happened, and says its version and what went wrong.
    if let Some(complaint) = words.lines().find(|line| !line.starts_with("debugfs 1.")) {
        bail!("debugfs could not write the file system: {complaint}");
    }
    unchanged(tree)?;
    Ok(blocks * BLOCK)
}

/// How many blocks hold the tree for sure: what files, folders and attributes take, and what the
/// groups take that these make (kernel `Documentation/filesystems/ext4/`).
fn blocks(tree: &Tree, inodes: u64) -> u64 {
    let content: u64 = tree.inodes.iter().map(inode_blocks).sum();
    // lost+found has four.
    let content = content + 4 + inodes.div_ceil(BLOCK / INODE);
    let mut total = content;
    loop {
        let groups = total.div_ceil(GROUP);
        // Two bitmaps, the rest of a block of inodes, the superblock and the descriptors.
        let group = 4 + (groups * 64).div_ceil(BLOCK);
        let needed = content + content / 200 + groups * group + 64;
        if needed <= total {
            return total;
        }
        total = needed;
    }
}

fn inode_blocks(inode: &Inode) -> u64 {
    let attributes = u64::from(!inode.xattrs.is_empty());
    let content = match &inode.kind {
        Kind::Directory(entries) => {
            // Every block ends with a checksum; no entry is split.
            let mut blocks = 1;
            let mut used = 24;
            for name in entries.keys() {
                let length = 8 + name.len().next_multiple_of(4) as u64;
                if used + length > BLOCK - 12 {
                    blocks += 1;
                    used = 0;
                }
                used += length;
            }
            blocks
        }
        Kind::File { size, .. } => {
            let blocks = size.div_ceil(BLOCK);
            // Four extents are in the inode, more in blocks of 340; each has up to 32768 blocks,
            // some fewer around the tables of a group.
            let extents = blocks / 4096 + 1;
            let index = if extents > 4 { extents / 340 + 2 } else { 0 };
            blocks + index
        }
        Kind::Symlink(target) => u64::from(target.len() >= 60),
        Kind::Fifo | Kind::Socket | Kind::CharDevice(..) | Kind::BlockDevice(..) => 0,
    };
    content + attributes
}

/// debugfs has read the files by itself: they must still be what was collected.
fn unchanged(tree: &Tree) -> Result<()> {
    for inode in &tree.inodes {
        if let Kind::File { size, source } = &inode.kind {
            Reader::new(source, *size)?;
        }
    }
    Ok(())
}

/// The commands for debugfs.
struct Script<'a> {
    tree: &'a Tree,
    scratch: &'a TempDir,
    out: BufWriter<File>,
    /// The folder that debugfs is in.
    here: Vec<u8>,
    /// First path of each inode that is no folder.
    seen: HashMap<InodeId, Vec<u8>>,
    /// Names of each inode that is no folder.
    links: HashMap<InodeId, u32>,
}

impl<'a> Script<'a> {
    fn new(tree: &'a Tree, scratch: &'a TempDir, out: File) -> Script<'a> {
        let mut links = HashMap::new();
        for (_, id, inode) in tree.walk() {
            if inode.entries().is_none() {
                *links.entry(id).or_insert(0) += 1;
            }
        }
        Script {
            tree,
            scratch,
            out: BufWriter::new(out),
            here: Vec::new(),
            seen: HashMap::new(),
            links,
        }
    }

    fn write(mut self) -> Result<()> {
        for (path, id, inode) in self.tree.walk() {
            let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => (
                    path.get(..slash).unwrap_or_default(),
                    path.get(slash + 1..).unwrap_or_default(),
                ),
                None => (b"".as_slice(), path.as_slice()),
            };
            if folder != self.here {
                self.command("cd", &[&[b"/", folder].concat()])?;
                self.here = folder.to_vec();
            }
            if let Some(first) = self.seen.get(&id) {
                let first = [b"/", first.as_slice()].concat();
                self.command("ln", &[&first, name])?;
                continue;
            }
            self.inode(id, name, inode)?;
            if inode.entries().is_none() {
                self.seen.insert(id, path);
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn inode(&mut self, id: InodeId, name: &[u8], inode: &Inode) -> Result<()> {
        let kind: u32 = match &inode.kind {
            Kind::Directory(_) => {
                self.command("mkdir", &[name])?;
                0o040_000
            }
            Kind::File { source, size } => {
                let path = match source {
                    Source::Packed(packed) => {
                        let path = self.scratch.path().join(id.0.to_string());
                        let copy = || -> std::io::Result<()> {
                            let mut from: &File = &packed.file;
                            from.seek(SeekFrom::Start(packed.offset))?;
                            std::io::copy(&mut from.take(*size), &mut File::create(&path)?)?;
                            Ok(())
                        };
                        copy().with_context(|| format!("writing {}", path.display()))?;
                        path
                    }
                    Source::Path(path) => std::path::absolute(path)?,
                    Source::Bytes(bytes) => {
                        let path = self.scratch.path().join(id.0.to_string());
                        std::fs::write(&path, bytes)
                            .with_context(|| format!("writing {}", path.display()))?;
                        path
                    }
                };
                self.command("write", &[path.as_os_str().as_bytes(), name])?;
                0o100_000
            }
            Kind::Symlink(target) => {
                self.command("symlink", &[name, target])?;
                0o120_000
            }
            Kind::Fifo => {
                self.command("mknod", &[name, b"p"])?;
                0o010_000
            }
            Kind::CharDevice(major, minor) => {
                self.device(name, b"c", *major, *minor)?;
                0o020_000
            }
            Kind::BlockDevice(major, minor) => {
                self.device(name, b"b", *major, *minor)?;
                0o060_000
            }
            Kind::Socket => bail!(
                "debugfs cannot write the socket {}; remove it or use `format: erofs`",
                name.escape_ascii()
            ),
        };
        // A name like <12> would be taken for an inode number.
        let this = [b"./", name].concat();
        let mut set = |field: &str, value: String| {
            self.command(
                "set_inode_field",
                &[&this, field.as_bytes(), value.as_bytes()],
            )
        };
        set("mode", format!("0{:o}", kind | u32::from(inode.mode)))?;
        if inode.uid != 0 {
            set("uid", inode.uid.to_string())?;
        }
        if inode.gid != 0 {
            set("gid", inode.gid.to_string())?;
        }
        if let Some(links @ 2..) = self.links.get(&id) {
            let links = links.to_string();
            self.command(
                "set_inode_field",
                &[&this, b"links_count", links.as_bytes()],
            )?;
        }
        for (index, (key, value)) in inode.xattrs.iter().enumerate() {
            let file = self.scratch.path().join(format!("{}.{index}", id.0));
            std::fs::write(&file, value).with_context(|| format!("writing {}", file.display()))?;
            let file = file.as_os_str().as_bytes().to_vec();
            self.command("ea_set", &[b"-f", &file, &this, key])?;
        }
        Ok(())
    }

    fn device(&mut self, name: &[u8], kind: &[u8], major: u32, minor: u32) -> Result<()> {
        let (major, minor) = (major.to_string(), minor.to_string());
        self.command("mknod", &[name, kind, major.as_bytes(), minor.as_bytes()])
    }

    /// A line of a command and its arguments, quoted as the parser of debugfs wants it
    /// (e2fsprogs `lib/ss/parse.c`).
    fn command(&mut self, command: &str, arguments: &[&[u8]]) -> Result<()> {
        let mut line = command.as_bytes().to_vec();
        for argument in arguments {
            line.extend(b" \"");
            for byte in *argument {
                match byte {
                    b'"' => line.extend(b"\"\""),
                    b'\n' => bail!(
                        "debugfs cannot take a name with a line break: {}; rename it or use `format: erofs`",
                        argument.escape_ascii()
                    ),
                    _ => line.push(*byte),
                }
            }
            line.push(b'"');
        }
        if line.len() > LONGEST_COMMAND {
            bail!(
                "debugfs cannot take a path as long as this: {}; shorten it or use `format: erofs`",
                line.escape_ascii()
            );
        }
        line.push(b'\n');
        self.out.write_all(&line)?;
        Ok(())
    }
}
