//! Deciding where inodes go before a byte is written.
//!
//! What follows an inode depends on its content: a tail, the addresses of its chunks, or an index
//! of compressed clusters. Room is kept for the longest of what it may turn out to be, which costs
//! a file in chunks 4 bytes in 64 KiB.

use std::collections::{BTreeMap, HashMap};

use super::format::{
    BLOCK_SIZE, DIRENT_SIZE, DataLayout, INDEX_ALIGN, INDEX_ENTRY_SIZE, INDEX_HEADER_SIZE,
    SLOT_SIZE, device_number, fits_compact, inode_size, xattr_bytes,
};
use super::pack::{Offsets, Packer};
use crate::tree::{Inode, InodeId, Kind, Source, Tree};

/// Longest target of a symbolic link: PATH_MAX without its NUL.
const LONGEST_TARGET: usize = 4095;

/// Why a tree does not fit into EROFS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// One inode has something that the format cannot hold.
    #[error("/{path} does not fit into EROFS: {reason}")]
    Inode {
        /// Path in the tree, without a leading slash.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// All together is too much.
    #[error("the content needs more than the 16 TiB that EROFS addresses")]
    TooLarge,
}

/// Where one inode and its bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which inode.
    pub id: InodeId,
    /// The directory that holds its first name; for the `..` of directories.
    pub parent: InodeId,
    /// Byte offset of the inode in the image, a multiple of [`SLOT_SIZE`].
    pub offset: u64,
    /// Number of names; of a directory, two and its subdirectories.
    pub links: u32,
    /// Bytes of content: of the file, the packed directory or the link target.
    pub size: u64,
    /// Whether the inode has 64 bytes.
    pub extended: bool,
    /// Whether the rest of the content follows the inode, has a block of its own, or there is
    /// room for an index because the content may be worth compressing.
    pub layout: DataLayout,
}

/// Shorter files are not searched for holes, in bytes.
const SMALLEST_CHUNK: u64 = 64 << 10;
/// Chunks are never longer, in bytes.
pub(crate) const LARGEST_CHUNK: u64 = 1 << 20;

/// Bytes of a hole and of what is between holes in a file of `size` bytes that is not compressed;
/// `None` when it is too short to be searched for them.
pub(crate) fn chunk_size(size: u64) -> Option<u64> {
    // No more than some 65536 addresses, as long as the chunks can grow.
    let chunk = (size >> 16).next_power_of_two();
    (size >= SMALLEST_CHUNK).then(|| chunk.clamp(SMALLEST_CHUNK, LARGEST_CHUNK))
}

impl Place {
    /// The number by which directories refer to it.
    pub(crate) fn nid(&self) -> u64 {
        self.offset / SLOT_SIZE as u64
    }

    /// Decides all but the offset; returns how many bytes the inode takes with what follows it.
    fn shape(&mut self, tree: &Tree, compressing: bool) -> Result<u64, String> {
        let Some(inode) = tree.get(self.id) else {
            return Ok(0);
        };
        self.size = content_size(inode)?;
        let xattrs = xattr_bytes(inode.xattrs.iter())?;
        self.extended = !fits_compact(self.size, self.links, inode.uid, inode.gid);
        let head = inode_size(self.extended) + xattrs.len();
        let file = matches!(inode.kind, Kind::File { .. });
        if compressing && file && self.size > BLOCK_SIZE as u64 {
            self.layout = DataLayout::Compressed;
            let index = self.size.div_ceil(BLOCK_SIZE as u64) * INDEX_ENTRY_SIZE as u64;
            return Ok((head.next_multiple_of(INDEX_ALIGN) + INDEX_HEADER_SIZE) as u64 + index);
        }
        let tail = (self.size % BLOCK_SIZE as u64) as usize;
        let chunk = chunk_size(self.size).filter(|_| file);
        let addresses = chunk.map_or(0, |chunk| 4 * self.size.div_ceil(chunk));
        // The kernel reads a tail from the block of its inode only (fs/erofs/data.c). What may
        // need more than a block for addresses is packed without regard to blocks.
        let most = head as u64 + addresses.max(tail as u64);
        let inline = tail > 0 && most <= BLOCK_SIZE as u64;
        self.layout = match inline {
            true => DataLayout::Inline,
            false => DataLayout::Plain,
        };
        let after = if inline { tail as u64 } else { 0 };
        Ok(head as u64 + after.max(addresses))
    }
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In the order of their first paths; the root directory first.
    pub places: Vec<Place>,
    /// First block after the metadata.
    pub data_start: u32,
    /// The bytes at which the regions of the metadata begin; inodes of a later region come later
    /// in `places` too.
    pub regions: Vec<u64>,
    index: HashMap<InodeId, usize>,
}

impl Layout {
    /// Places a tree; the order is that of [`Tree::walk`], whatever the ids are.
    pub(crate) fn new(tree: &Tree, compressing: bool) -> Result<Layout, LayoutError> {
        let mut layout = Layout {
            places: Vec::new(),
            data_start: 0,
            regions: Vec::new(),
            index: HashMap::new(),
        };
        layout.count_links(tree);
        // The superblock has block 0 for itself; so the root has nid 128, which fits its 16 bits.
        let mut packer = Packer::starting_at(BLOCK_SIZE as u64);
        let mut paths = FirstPaths::new(tree);
        for number in 0..layout.places.len() {
            let path = paths.next().unwrap_or_default();
            let Some(place) = layout.places.get_mut(number) else {
                continue;
            };
            let length = place.shape(tree, compressing).map_err(|reason| {
                let path = path.escape_ascii().to_string();
                LayoutError::Inode { path, reason }
            })?;
            let full = packer.push(number, length);
            layout.put(full);
        }
        let (last, regions, end) = packer.finish();
        layout.put(last);
        layout.regions = regions;
        let data_start = end.div_ceil(BLOCK_SIZE as u64);
        layout.data_start = u32::try_from(data_start).map_err(|_| LayoutError::TooLarge)?;
        Ok(layout)
    }

    fn put(&mut self, offsets: Offsets) {
        for (number, offset) in offsets {
            if let Some(place) = self.places.get_mut(number) {
                place.offset = offset;
            }
        }
    }

    /// Where an inode of the tree went.
    pub(crate) fn place(&self, id: InodeId) -> Option<&Place> {
        self.places.get(*self.index.get(&id)?)
    }

    fn count_links(&mut self, tree: &Tree) {
        self.add(Tree::ROOT, Tree::ROOT, 2);
        // The directories that lead to where the walk is.
        let mut parents = vec![Tree::ROOT];
        for (path, id, inode) in tree.walk() {
            let depth = path.iter().filter(|byte| **byte == b'/').count();
            parents.truncate(depth + 1);
            let parent = parents.last().copied().unwrap_or(Tree::ROOT);
            if inode.entries().is_some() {
                self.add(id, parent, 2);
                self.link(parent);
                parents.push(id);
            } else if self.index.contains_key(&id) {
                self.link(id);
            } else {
                self.add(id, parent, 1);
            }
        }
    }

    fn add(&mut self, id: InodeId, parent: InodeId, links: u32) {
        self.index.insert(id, self.places.len());
        self.places.push(Place {
            id,
            parent,
            offset: 0,
            links,
            size: 0,
            extended: false,
            layout: DataLayout::Plain,
        });
    }

    fn link(&mut self, id: InodeId) {
        let place = self.index.get(&id).and_then(|at| self.places.get_mut(*at));
        if let Some(place) = place {
            place.links = place.links.saturating_add(1);
        }
    }
}

/// The first path of every inode, in the order of [`Layout::places`].
struct FirstPaths<'a> {
    walk: crate::tree::Walk<'a>,
    root: bool,
    seen: std::collections::HashSet<InodeId>,
}

impl FirstPaths<'_> {
    fn new(tree: &Tree) -> FirstPaths<'_> {
        FirstPaths {
            walk: tree.walk(),
            root: true,
            seen: std::collections::HashSet::new(),
        }
    }
}

impl Iterator for FirstPaths<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if std::mem::take(&mut self.root) {
            return Some(Vec::new());
        }
        let (path, ..) = self.walk.find(|(_, id, _)| self.seen.insert(*id))?;
        Some(path)
    }
}

fn content_size(inode: &Inode) -> Result<u64, String> {
    match &inode.kind {
        Kind::File { size, .. } => Ok(*size),
        Kind::Directory(entries) => Ok(directory_size(entries)),
        Kind::Symlink(target) if target.is_empty() => Err("the link has no target".to_owned()),
        Kind::Symlink(target) if target.len() > LONGEST_TARGET => {
            Err("the link target is longer than 4095 bytes".to_owned())
        }
        Kind::Symlink(target) => Ok(target.len() as u64),
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            match device_number(*major, *minor) {
                Some(_) => Ok(0),
                None => Err(format!("the device number {major}:{minor} is too large")),
            }
        }
        Kind::Fifo | Kind::Socket => Ok(0),
    }
}

/// The names of a directory in the order of its entries on disk, `.` and `..` among them.
pub(crate) fn names_in_order(entries: &BTreeMap<Vec<u8>, InodeId>) -> impl Iterator<Item = &[u8]> {
    // Only names that begin with a byte below `.` come before the two.
    let before = entries
        .range(..b".".to_vec())
        .map(|(name, _)| name.as_slice());
    let after = entries
        .range(b".".to_vec()..)
        .map(|(name, _)| name.as_slice());
    let mut dots = [&b"."[..], b".."].into_iter().peekable();
    let mut after = after.peekable();
    before.chain(std::iter::from_fn(move || {
        match (dots.peek(), after.peek()) {
            (Some(dot), Some(name)) if *name < *dot => after.next(),
            (Some(_), _) => dots.next(),
            (None, _) => after.next(),
        }
    }))
}

/// Whether a block that holds `used` bytes has room for one more entry.
pub(crate) fn has_room(used: usize, name: &[u8]) -> bool {
    used + DIRENT_SIZE + name.len() <= BLOCK_SIZE
}

/// Bytes of a packed directory: full blocks, and what is used of the last one.
fn directory_size(entries: &BTreeMap<Vec<u8>, InodeId>) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for name in names_in_order(entries) {
        if !has_room(used, name) {
            (blocks, used) = (blocks + 1, 0);
        }
        used += DIRENT_SIZE + name.len();
    }
    blocks * BLOCK_SIZE as u64 + used as u64
}

/// Length and source of a file that is not empty.
pub(super) fn content<'a>(tree: &'a Tree, place: &Place) -> Option<(u64, &'a Source)> {
    match &tree.get(place.id)?.kind {
        Kind::File { size, source } if *size > 0 => Some((*size, source)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Source;

    #[test]
    fn dots_stand_in_byte_order() {
        let names = ["!", "-", "..a", ".a", "a"];
        let entries = names
            .iter()
            .map(|name| (name.as_bytes().to_vec(), Tree::ROOT))
            .collect();
        let order: Vec<&[u8]> = names_in_order(&entries).collect();
        let expected: [&[u8]; 7] = [b"!", b"-", b".", b"..", b"..a", b".a", b"a"];
        assert_eq!(order, expected);
        assert!(order.is_sorted());
        // A name between the two dots.
        let entries = BTreeMap::from([(b".\x01".to_vec(), Tree::ROOT)]);
        let order: Vec<&[u8]> = names_in_order(&entries).collect();
        let expected: [&[u8]; 3] = [b".", b".\x01", b".."];
        assert_eq!(order, expected);
    }

    #[test]
    fn the_tail_of_a_file_with_many_chunks_does_not_either() {
        let mut tree = Tree::new();
        // From 64 MiB on the addresses of chunks may take more than a block.
        for size in [77_715_304_u64, (64 << 20) + 100, (60 << 20) + 100, 1000] {
            let source = Source::Path("never read here".into());
            tree.insert_file(size.to_string().as_bytes(), source, size, 0o644)
                .unwrap();
        }
        let layout = Layout::new(&tree, false).unwrap();
        for place in &layout.places {
            if place.layout == DataLayout::Inline {
                let head = inode_size(place.extended) as u64;
                let end = place.offset % 4096 + head + place.size % 4096;
                assert!(end <= 4096, "{} ends at {end}", place.size);
            }
        }
    }

    #[test]
    fn tails_never_leave_the_block_of_their_inode() {
        let mut tree = Tree::new();
        for size in [4064_u16, 4065, 1, 2100] {
            let source = Source::Bytes(vec![0; size.into()]);
            tree.insert_file(size.to_string().as_bytes(), source, size.into(), 0o644)
                .unwrap();
        }
        let layout = Layout::new(&tree, false).unwrap();
        let place = |path: &[u8]| layout.place(tree.lookup(path).unwrap()).unwrap();
        assert_eq!(place(b"4064").layout, DataLayout::Inline);
        assert_eq!(place(b"4064").offset % 4096, 0);
        assert_eq!(place(b"4065").layout, DataLayout::Plain);
        let (short, long) = (place(b"1"), place(b"2100"));
        assert_eq!(
            (short.layout, long.layout),
            (DataLayout::Inline, DataLayout::Inline)
        );
        assert_eq!(short.offset / 4096, long.offset / 4096);
    }

    #[test]
    fn links_are_counted_and_ids_do_not_matter() {
        let mut tree = Tree::new();
        let source = Source::Bytes(Vec::new());
        let id = tree.insert_file(b"a/x", source, 0, 0o644).unwrap();
        tree.insert_link(b"b/c/x", id).unwrap();
        tree.make_dirs(b"b/d").unwrap();
        let layout = Layout::new(&tree, false).unwrap();
        let links = |path: &[u8]| layout.place(tree.lookup(path).unwrap()).unwrap().links;
        assert_eq!(links(b""), 4);
        assert_eq!(links(b"b"), 4);
        assert_eq!(links(b"b/c"), 2);
        assert_eq!(links(b"a/x"), 2);
        assert_eq!(layout.places.len(), 6);
        assert_eq!(layout.places[0].nid(), 128);
        let parent = layout.place(tree.lookup(b"b/d").unwrap()).unwrap().parent;
        assert_eq!(Some(parent), tree.lookup(b"b"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut tree = Tree::new();
        tree.insert_symlink(b"usr/link", &[b'x'; 4096]).unwrap();
        let error = Layout::new(&tree, false).unwrap_err().to_string();
        assert!(
            error.contains("/usr/link") && error.contains("4095"),
            "{error}"
        );
    }
}
