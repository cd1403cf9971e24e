//! Tar archives on top of a tree: one archive, or the layers of a container image.
//!
//! Nothing is unpacked. Of a plain archive the tree remembers where the bytes of each file are; of
//! a compressed one the wanted files go to an unnamed temporary file. Entries count in their order,
//! as for `tar -x`: a later one replaces an earlier one of its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tar::{Archive, Entry, EntryType};

use super::collect::is_kept;
use super::inode::{Inode, Kind, Packed, Source};
use super::pax::Extended;
use super::pick::Pick;
use super::spill::Spill;
use super::tar_links::Follow;
use super::whiteouts::joined;
use super::{Tree, TreeError};
use crate::finding::Finding;
use crate::io::bomb;

/// Most entries of one archive.
const MAX_ENTRIES: u64 = 4_000_000;

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
    spill: Spill,
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

    /// Puts the archive in `window` of `file`, an offset and a length in bytes, on the tree; `path`
    /// is what messages call it. `whiteouts` tells that it is the layer of a container image (OCI
    /// image-spec, layer.md), which can take away what lies below it.
    ///
    /// # Errors
    /// The first of `archive-unreadable`, `archive-entry-refused` and `content-conflict`; the
    /// entries before it stay on the tree.
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
        let allowance = bomb::allowance(length);
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
            if extended
                .take_in(&mut entry)
                .map_err(|error| unreadable(error, last))?
            {
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
            match hidden {
                b".wh..opq" => self.tree.clear(parent, touched)?,
                hidden => self.tree.hide(&joined(parent, hidden), touched)?,
            }
            return Ok(());
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
                    _ => self.spill.keep(entry, size, archive)?,
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
                return self.hard_link(&place, extended.link_target(entry), pick, follow);
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
}

/// Why a sparse entry is refused; its holes would have to be read from a map.
const SPARSE: &str = "it is a sparse file in GNU tar's own form; make the archive without --sparse";

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
