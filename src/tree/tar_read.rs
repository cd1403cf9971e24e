//! Tar archives on top of a tree: one archive, or the layers of a container image.
//!
//! Nothing is unpacked. Of a plain archive the tree remembers where the bytes of each file are; of
//! a compressed one the wanted files go to an unnamed temporary file. Entries count in their order,
//! as for `tar -x`: a later one replaces an earlier one of its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;
use tar::{Archive, Entry, EntryType};

use super::collect::is_kept;
use super::pax::Extended;
use super::tar_links::Follow;
use super::{Inode, InodeId, Kind, Source, Tree, TreeError, pax};
use crate::finding::Finding;

/// Most entries of one archive.
const MAX_ENTRIES: u64 = 4_000_000;
/// Most bytes of an archive that is decompressed, for each byte that it has: more is a bomb.
const MAX_RATIO: u64 = 2000;
/// What every archive may have, however small it is.
const MIN_ALLOWANCE: u64 = 256 << 20;

/// A range of a file that holds the bytes of a packed one.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The archive, or the temporary file.
    pub file: Arc<File>,
    /// Where the bytes begin.
    pub offset: u64,
    /// The archive, for messages.
    pub path: PathBuf,
}

/// The same place of the same open file.
impl PartialEq for Packed {
    fn eq(&self, other: &Packed) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.offset == other.offset
    }
}

impl Eq for Packed {}

/// What is taken out of an archive.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// Globs of paths, or of folders above them; none means all.
    pub include: Vec<Pattern>,
    /// Globs of paths that are left out, with all below them.
    pub exclude: Vec<Pattern>,
    /// How many folders are taken off the front of each path.
    pub strip: usize,
    /// Whether owners are kept instead of root for all.
    pub keep_owners: bool,
}

impl Pick {
    /// The path in the tree; nothing if it is not wanted.
    fn place(&self, path: &Path) -> Result<Option<Vec<u8>>, &'static str> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for component in path.components() {
            use std::os::unix::ffi::OsStrExt;
            use std::path::Component;
            match component {
                Component::Normal(name) => names.push(name.as_bytes().to_vec()),
                // As tar does.
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir => return Err("it leads out with `..`"),
                Component::Prefix(_) => return Err("it is no path of this system"),
            }
        }
        let Some(names) = names.get(self.strip..).filter(|names| !names.is_empty()) else {
            return Ok(None);
        };
        let path = names.join(&b'/');
        let text = String::from_utf8_lossy(&path).into_owned();
        let ends = text.match_indices('/').map(|(end, _)| end);
        let above: Vec<String> = ends
            .chain([text.len()])
            .filter_map(|end| text.get(..end).map(|part| format!("/{part}")))
            .collect();
        let hit = |globs: &[Pattern]| {
            let mut globs = globs.iter();
            globs.any(|glob| above.iter().any(|part| glob.matches(part)))
        };
        let wanted = (self.include.is_empty() || hit(&self.include)) && !hit(&self.exclude);
        Ok(wanted.then_some(path))
    }
}

/// One archive on its way.
struct Layer<'a> {
    path: &'a Path,
    pick: &'a Pick,
    /// Whether names with `.wh.` take away what lies below.
    whiteouts: bool,
    /// The file and where the archive begins in it, if it is not compressed.
    plain: Option<(Arc<File>, u64)>,
    /// What this archive itself has put on the tree.
    touched: BTreeSet<Vec<u8>>,
}

/// A tree that archives are put on.
#[derive(Debug, Default)]
pub struct Layers {
    tree: Tree,
    spill: Option<Arc<File>>,
    spilled: u64,
    dropped: BTreeMap<String, u64>,
}

impl Layers {
    /// The tree, and what has to be said about it.
    pub fn finish(self) -> (Tree, Vec<Finding>) {
        let note = |(name, count): (&String, &u64)| {
            let files = if *count == 1 { "file" } else { "files" };
            let message = format!("the extended attribute {name} of {count} {files} is left out");
            Finding::note("xattr-dropped", message)
        };
        let notes = self.dropped.iter().map(note).collect();
        (self.tree.compacted(), notes)
    }

    /// Puts the archive in `window` of `file` on the tree. `whiteouts` tells that it is the layer of
    /// a container image (OCI image-spec, layer.md), which can take away what lies below it.
    pub fn add(
        &mut self,
        file: &Arc<File>,
        window: (u64, u64),
        path: &Path,
        pick: &Pick,
        whiteouts: bool,
    ) -> Result<(), Finding> {
        let unreadable = |error: io::Error| {
            Finding::error(
                "archive-unreadable",
                format!("reading the archive: {error}"),
            )
            .in_file(path)
            .help("name an intact tar archive, plain or compressed by gzip, xz or zstd")
        };
        let (start, length) = window;
        let mut own = file.try_clone().map_err(unreadable)?;
        own.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let mut input = BufReader::with_capacity(1 << 17, own.take(length));
        let magic = {
            use std::io::BufRead;
            input
                .fill_buf()
                .map_err(unreadable)?
                .get(..6)
                .unwrap_or_default()
                .to_vec()
        };
        let allowance = length.saturating_mul(MAX_RATIO).max(MIN_ALLOWANCE);
        let mut layer = Layer {
            path,
            pick,
            whiteouts,
            plain: None,
            touched: BTreeSet::new(),
        };
        match magic.as_slice() {
            [0x1f, 0x8b, ..] => {
                let input = flate2::read::MultiGzDecoder::new(input);
                self.entries(input.take(allowance), &mut layer)
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let input = zstd::Decoder::with_buffer(input).map_err(unreadable)?;
                self.entries(input.take(allowance), &mut layer)
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                let input = liblzma::read::XzDecoder::new_multi_decoder(input);
                self.entries(input.take(allowance), &mut layer)
            }
            _ => {
                layer.plain = Some((file.clone(), start));
                self.entries(input, &mut layer)
            }
        }
    }

    fn entries(&mut self, input: impl Read, layer: &mut Layer<'_>) -> Result<(), Finding> {
        let path = layer.path;
        let mut archive = Archive::new(input);
        let unreadable = |error: io::Error, offset: u64| {
            let message = format!("reading the archive at byte {offset}: {error}");
            Finding::error("archive-unreadable", message)
                .in_file(path)
                .help("name an intact tar archive, plain or compressed by gzip, xz or zstd")
        };
        let entries = archive.entries().map_err(|error| unreadable(error, 0))?;
        let (mut count, mut last) = (0, 0);
        let mut extended = Extended::default();
        for entry in entries.raw(true) {
            let mut entry = entry.map_err(|error| unreadable(error, last))?;
            last = entry.raw_header_position();
            count += 1;
            if count > MAX_ENTRIES {
                let message = format!("the archive has more than {MAX_ENTRIES} entries");
                return Err(Finding::error("archive-unreadable", message).in_file(path));
            }
            if extend(&mut extended, &mut entry).map_err(|error| unreadable(error, last))? {
                continue;
            }
            let own = std::mem::take(&mut extended);
            let name = own
                .path
                .clone()
                .unwrap_or_else(|| entry.path_bytes().into_owned());
            self.entry(&mut entry, &own, layer)
                .map_err(|problem| match problem {
                    Problem::Read(error) => unreadable(error, last),
                    Problem::Entry(id, why, help) => {
                        let shown = String::from_utf8_lossy(&name).escape_debug().to_string();
                        let message =
                            format!("the entry `{shown}` at byte {last} of the archive: {why}");
                        Finding::error(id, message).in_file(path).help(help)
                    }
                })?;
        }
        if count == 0 && last == 0 {
            let finding = Finding::error("archive-unreadable", "the archive has no entry");
            return Err(finding.in_file(path).help("name a tar archive"));
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        extended: &Extended,
        layer: &mut Layer<'_>,
    ) -> Result<(), Problem> {
        let Layer {
            path: archive,
            pick,
            whiteouts,
            plain,
            touched,
        } = layer;
        let whiteouts = *whiteouts;
        let kind = entry.header().entry_type();
        let refused = |why: &str| {
            let help = "leave it out with `exclude`, or make the archive without it";
            Problem::Entry("archive-entry-refused", why.to_owned(), help)
        };
        let name = match &extended.path {
            Some(path) => path.clone(),
            None => entry.path_bytes().into_owned(),
        };
        let place = pick.place(as_path(&name)).map_err(refused)?;
        let Some(place) = place else { return Ok(()) };
        let follow = match whiteouts {
            true => Follow::Container,
            false => Follow::Tar,
        };
        let place = self.tree.followed(&place, follow);
        let name = place
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        let parent = place
            .get(..place.len().saturating_sub(name.len() + 1))
            .unwrap_or_default();
        if whiteouts && let Some(hidden) = name.strip_prefix(b".wh.") {
            return match hidden {
                b".wh..opq" => self.clear(parent, touched),
                hidden => self.hide(&joined(parent, hidden), touched),
            };
        }
        touched.insert(place.clone());
        let mut inode = Inode::new(
            u16::try_from(entry.header().mode()? & 0o7777).unwrap_or(0o644),
            Kind::Fifo,
        );
        if pick.keep_owners {
            let id =
                |id: u64| u32::try_from(id).map_err(|_| refused("its owner has no 32-bit number"));
            inode.uid = id(extended.uid.map_or_else(|| entry.header().uid(), Ok)?)?;
            inode.gid = id(extended.gid.map_or_else(|| entry.header().gid(), Ok)?)?;
        }
        inode.xattrs = self.xattrs(extended);
        inode.kind = match kind {
            EntryType::Directory => return self.folder(&place, inode, whiteouts),
            EntryType::GNUSparse => return Err(refused(SPARSE)),
            EntryType::Regular | EntryType::Continuous if extended.is_sparse => {
                return Err(refused(SPARSE));
            }
            EntryType::Regular | EntryType::Continuous => {
                let size = entry.size();
                if extended.size.is_some_and(|announced| announced != size) {
                    return Err(refused(
                        "its size is in a pax header only, as of files of 8 GiB and more",
                    ));
                }
                let source = match plain {
                    Some((file, start)) => Packed {
                        file: file.clone(),
                        offset: start.saturating_add(entry.raw_file_position()),
                        path: archive.to_owned(),
                    },
                    _ => self.spill(entry, size, archive)?,
                };
                Kind::File {
                    size,
                    source: Source::Packed(source),
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes();
                let target = target.filter(|target| !target.is_empty());
                // Linux has no other, whatever the archive says (symlink(2)).
                inode.mode = 0o777;
                Kind::Symlink(
                    target
                        .ok_or_else(|| refused("the link has no target"))?
                        .into_owned(),
                )
            }
            EntryType::Link => {
                return self.hard_link(&place, link_target(entry, extended), pick, follow);
            }
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => {
                return Err(refused(
                    "a device node does nothing in an extension, which is mounted nodev",
                ));
            }
            other => {
                return Err(refused(&format!(
                    "its type is {other:?}, which no file system has"
                )));
            }
        };
        self.make_room(&place, whiteouts)?;
        self.tree.insert(&place, inode)?;
        Ok(())
    }

    /// A folder joins the one that is there. Of a layer its attributes count alone; tar sets those
    /// that it has.
    fn folder(&mut self, place: &[u8], inode: Inode, of_layer: bool) -> Result<(), Problem> {
        let there = self.tree.lookup(place).and_then(|id| self.tree.get(id));
        if there.is_some_and(|there| there.entries().is_none()) {
            self.tree.remove(place)?;
        }
        let id = self.tree.make_dirs(place)?;
        if let Some(folder) = self.tree.get_mut(id) {
            let Inode {
                mode,
                uid,
                gid,
                xattrs,
                ..
            } = inode;
            (folder.mode, folder.uid, folder.gid) = (mode, uid, gid);
            if of_layer {
                folder.xattrs.clear();
            }
            folder.xattrs.extend(xattrs);
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        place: &[u8],
        target: Option<Vec<u8>>,
        pick: &Pick,
        follow: Follow,
    ) -> Result<(), Problem> {
        let refused = |why: &str| {
            let help = "include the file that it is a link to";
            Problem::Entry("archive-entry-refused", why.to_owned(), help)
        };
        let target = target.ok_or_else(|| refused("the link has no target"))?;
        let target = pick.place(as_path(&target)).map_err(refused)?;
        let target = target.map(|target| self.tree.followed(&target, follow));
        let find = |tree: &Tree| target.as_ref().and_then(|target| tree.lookup(target));
        let gone = || refused("it is a hard link to what is not there");
        let id = find(&self.tree).ok_or_else(gone)?;
        // As of GNU tar; umoci takes the file away first.
        if self.tree.lookup(place) == Some(id) {
            return Ok(());
        }
        self.make_room(place, follow == Follow::Container)?;
        // It may have been in the folder that made room.
        find(&self.tree).ok_or_else(gone)?;
        self.tree.insert_link(place, id)?;
        Ok(())
    }

    /// Takes away what stands at a path; a folder with content only where a layer may replace it.
    fn make_room(&mut self, place: &[u8], replaces_folders: bool) -> Result<(), Problem> {
        let there = self.tree.lookup(place).and_then(|id| self.tree.get(id));
        match there.map(|there| there.entries().map_or(0, BTreeMap::len)) {
            None => {}
            Some(entries) if entries > 0 && !replaces_folders => {
                let why = "a folder that is not empty is there already".to_owned();
                let help = "leave one of both out with `exclude`";
                return Err(Problem::Entry("content-conflict", why, help));
            }
            Some(_) => drop(self.tree.remove(place)?),
        }
        Ok(())
    }

    /// Takes away what lower layers have at a path; what was never there is as well.
    fn hide(&mut self, path: &[u8], touched: &BTreeSet<Vec<u8>>) -> Result<(), Problem> {
        match is_touched(path, touched) {
            true => self.clear(path, touched),
            false => {
                let _ = self.tree.remove(path);
                Ok(())
            }
        }
    }

    /// Empties a folder of what lower layers put into it and below it.
    fn clear(&mut self, folder: &[u8], touched: &BTreeSet<Vec<u8>>) -> Result<(), Problem> {
        let mut folders = vec![folder.to_vec()];
        while let Some(folder) = folders.pop() {
            let there = self.tree.lookup(&folder).and_then(|id| self.tree.get(id));
            let names: Vec<Vec<u8>> = there
                .and_then(Inode::entries)
                .map(|entries| entries.keys().cloned().collect())
                .unwrap_or_default();
            for name in names {
                let path = joined(&folder, &name);
                match is_touched(&path, touched) {
                    true => folders.push(path),
                    false => drop(self.tree.remove(&path)?),
                }
            }
        }
        Ok(())
    }

    fn xattrs(&mut self, extended: &Extended) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut kept = BTreeMap::new();
        for (name, value) in &extended.xattrs {
            if is_kept(name) {
                kept.insert(name.clone(), value.clone());
            } else {
                let name = name.escape_ascii().to_string();
                *self.dropped.entry(name).or_default() += 1;
            }
        }
        kept
    }

    /// Keeps the bytes of a file that can't be read from the archive itself.
    fn spill<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        size: u64,
        archive: &Path,
    ) -> Result<Packed, Problem> {
        let file = match &self.spill {
            Some(file) => file.clone(),
            None => {
                let folder = archive
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let beside = tempfile::tempfile_in(folder.unwrap_or(Path::new(".")));
                let file = Arc::new(beside.or_else(|_| tempfile::tempfile())?);
                self.spill.insert(file).clone()
            }
        };
        let offset = self.spilled;
        let mut to: &File = &file;
        to.seek(SeekFrom::Start(offset))?;
        let copied = io::copy(&mut entry.take(size), &mut to)?;
        to.flush()?;
        if copied != size {
            let message = format!("the file has {size} bytes, but the archive ends after {copied}");
            return Err(Problem::Read(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                message,
            )));
        }
        self.spilled = offset.saturating_add(copied);
        Ok(Packed {
            file,
            offset,
            path: archive.to_owned(),
        })
    }
}

/// Why a sparse entry is refused; its holes would have to be read from a map.
const SPARSE: &str = "it is a sparse file in GNU tar's own form; make the archive without --sparse";

/// Takes in what says something of the next entry; whether it was that.
fn extend<R: Read>(extended: &mut Extended, entry: &mut Entry<'_, R>) -> io::Result<bool> {
    let kind = entry.header().entry_type();
    let is_header = kind.is_pax_local_extensions()
        || kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_global_extensions();
    if !is_header {
        return Ok(false);
    }
    extended.bytes = extended.bytes.saturating_add(entry.size());
    if extended.bytes > pax::MAX_SIZE {
        return Err(io::Error::other(
            "the headers of an entry are longer than 1 MiB",
        ));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if kind.is_gnu_longname() {
        extended.path = Some(pax::long_name(&bytes));
    } else if kind.is_gnu_longlink() {
        extended.link = Some(pax::long_name(&bytes));
    } else if kind.is_pax_local_extensions() {
        let read = extended.read(&bytes);
        read.ok_or_else(|| io::Error::other("a pax header is malformed"))?;
    }
    Ok(true)
}

fn link_target<R: Read>(entry: &Entry<'_, R>, extended: &Extended) -> Option<Vec<u8>> {
    let target = match &extended.link {
        Some(link) => Some(link.clone()),
        None => entry.link_name_bytes().map(|name| name.into_owned()),
    };
    target.filter(|target| !target.is_empty())
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        [] => name.to_vec(),
        folder => [folder, b"/", name].concat(),
    }
}

/// Whether a path, or anything below it, is among those touched.
fn is_touched(path: &[u8], touched: &BTreeSet<Vec<u8>>) -> bool {
    let inside = joined(path, b"");
    let first = touched.range(inside.clone()..).next();
    touched.contains(path) || first.is_some_and(|first| first.starts_with(&inside))
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// What stops an archive.
enum Problem {
    Read(io::Error),
    Entry(&'static str, String, &'static str),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Read(error)
    }
}

impl From<TreeError> for Problem {
    fn from(error: TreeError) -> Problem {
        let help = "leave it out with `exclude`, or make the archive without it";
        Problem::Entry("archive-entry-refused", error.to_string(), help)
    }
}

impl Tree {
    /// The same tree without inodes that no name leads to.
    fn compacted(mut self) -> Tree {
        let mut new: BTreeMap<InodeId, InodeId> = BTreeMap::from([(Tree::ROOT, Tree::ROOT)]);
        let mut order = vec![Tree::ROOT];
        for (_, id, _) in self.walk() {
            if let Ok(next) = u32::try_from(order.len())
                && !new.contains_key(&id)
            {
                new.insert(id, InodeId(next));
                order.push(id);
            }
        }
        let mut inodes = Vec::with_capacity(order.len());
        for id in order {
            let Some(inode) = self.get_mut(id) else {
                continue;
            };
            let mut inode = std::mem::replace(inode, Inode::directory());
            if let Kind::Directory(entries) = &mut inode.kind {
                for id in entries.values_mut() {
                    *id = new.get(id).copied().unwrap_or(Tree::ROOT);
                }
            }
            inodes.push(inode);
        }
        Tree { inodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    /// An archive with these entries: folders end in `/`.
    fn archive(entries: &[&str]) -> Arc<File> {
        let mut builder = Builder::new(tempfile::tempfile().unwrap());
        for entry in entries {
            let mut header = Header::new_ustar();
            header.set_size(0);
            header.set_mode(0o755);
            header.set_entry_type(match entry.ends_with('/') {
                true => EntryType::Directory,
                false => EntryType::Regular,
            });
            builder
                .append_data(&mut header, entry, io::empty())
                .unwrap();
        }
        Arc::new(builder.into_inner().unwrap())
    }

    fn add(layers: &mut Layers, file: &Arc<File>) -> Result<(), Finding> {
        let window = (0, file.metadata().unwrap().len());
        layers.add(file, window, Path::new("x.tar"), &Pick::default(), true)
    }

    fn stacked(archives: &[&[&str]]) -> Vec<String> {
        let mut layers = Layers::default();
        for entries in archives {
            add(&mut layers, &archive(entries)).unwrap();
        }
        let (tree, _) = layers.finish();
        let paths = tree.walk().filter(|(.., inode)| inode.entries().is_none());
        paths
            .map(|(path, ..)| String::from_utf8(path).unwrap())
            .collect()
    }

    /// "Files that are present in the same layer as a whiteout file can only be hidden by whiteout
    /// files in subsequent layers" (OCI image-spec, layer.md), in whatever order they stand.
    #[test]
    fn a_whiteout_hides_what_lies_below_and_nothing_of_its_own_layer() {
        let below: &[&str] = &["usr/d/", "usr/d/old", "usr/d/e/", "usr/d/e/old", "usr/f"];
        for (layer, left) in [
            (&["usr/.wh.d", "usr/.wh.f"][..], &[][..]),
            (
                &["usr/f", "usr/.wh.f"],
                &["usr/d/e/old", "usr/d/old", "usr/f"],
            ),
            (
                &["usr/d/", "usr/d/new", "usr/.wh.d"],
                &["usr/d/new", "usr/f"],
            ),
            (
                &["usr/.wh.d", "usr/d/", "usr/d/new"],
                &["usr/d/new", "usr/f"],
            ),
            (
                &["usr/d/", "usr/d/e/", "usr/d/e/new", "usr/d/.wh..wh..opq"],
                &["usr/d/e/new", "usr/f"],
            ),
            (
                &["usr/.wh.", "usr/.wh..", "usr/.wh..."],
                &["usr/d/e/old", "usr/d/old", "usr/f"],
            ),
        ] {
            assert_eq!(stacked(&[below, layer]), left, "{layer:?}");
        }
    }

    #[test]
    fn headers_without_an_entry_do_not_pile_up() {
        let mut builder = Builder::new(tempfile::tempfile().unwrap());
        let value = vec![b'a'; 900 << 10];
        for _ in 0..2 {
            builder
                .append_pax_extensions([("SCHILY.xattr.user.a", value.as_slice())])
                .unwrap();
        }
        let file = Arc::new(builder.into_inner().unwrap());
        let refused = add(&mut Layers::default(), &file).unwrap_err();
        assert!(refused.message.contains("longer than 1 MiB"), "{refused}");
    }
}
