//! Giving content its addresses and writing the metadata that tells them.

use std::ops::Range;
use std::rc::Rc;

use super::compress::{Codec, SEGMENT_BLOCKS, SEGMENT_SIZE};
use super::encode::{Encoded, Form, Run};
use super::error::WriteError;
use super::format::{
    BLOCK_SIZE, Cluster, DIRENT_SIZE, DataLayout, Dirent, Features, INDEX_ALIGN, InodeRecord,
    NO_ADDRESS, Superblock, chunk_format, device_number, directory_block, index_header, type_codes,
    xattr_bytes,
};
use super::layout::{Layout, LayoutError, Place, chunk_size, content, has_room, names_in_order};
use super::params::Params;
use super::region::Regions;
use super::share::{Shares, Stored, Sum};
use super::stream::{Sink, Spare, Stream};
use crate::tree::{Inode, Kind, Tree};

/// What has come of a file so far.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Where its data is. A chunk has one, a hole one at [`NO_ADDRESS`].
    clusters: Vec<Cluster>,
    /// What is no whole block.
    rest: Vec<u8>,
    pieces: Vec<Sum>,
}

/// Takes contents in the order of their places.
pub(crate) struct Recorder<'a, S> {
    tree: &'a Tree,
    layout: &'a Layout,
    params: &'a Params,
    metadata: Regions<'a>,
    data: Stream<'a>,
    shares: Shares,
    /// A compressed segment of zeros for all that have one.
    zeros: Option<Cluster>,
    /// Whether some file is in chunks.
    chunks: bool,
    /// Whether a compressed cluster belongs to several places.
    shared_clusters: bool,
    /// Blocks of the longest compressed cluster; 0 without one.
    longest_cluster: u16,
    out: &'a mut S,
}

impl<'a, S: Sink> Recorder<'a, S> {
    /// Nothing written yet.
    pub(crate) fn new(
        tree: &'a Tree,
        layout: &'a Layout,
        params: &'a Params,
        spare: &'a Spare,
        out: &'a mut S,
    ) -> Recorder<'a, S> {
        let shortest_shared = match (params.compression, params.share_compressed) {
            (Some(_), false) => u64::MAX,
            _ => BLOCK_SIZE as u64,
        };
        Recorder {
            tree,
            layout,
            params,
            metadata: Regions::starting_at(1, &layout.regions, spare),
            data: Stream::starting_at(layout.data_start.into(), spare),
            shares: Shares::new(tree, shortest_shared),
            zeros: None,
            chunks: false,
            shared_clusters: false,
            longest_cluster: 0,
            out,
        }
    }

    /// Content that may come again.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Whether pieces of zeros need no data.
    pub(crate) fn leaves_out_zeros(&self, form: Form) -> bool {
        match form {
            Form::Flat => false,
            Form::Chunks(_) => true,
            Form::Compressed => self.params.share_compressed,
        }
    }

    /// Takes the contents of short files and writes the inodes of their places and of those
    /// between them.
    pub(crate) fn places(
        &mut self,
        numbers: Range<usize>,
        encoded: Vec<Encoded>,
    ) -> Result<(), WriteError> {
        let mut encoded = encoded.into_iter();
        for number in numbers {
            let size = self
                .place(number)
                .and_then(|place| content(self.tree, place));
            match size.map(|(size, _)| size) {
                None => self.without_data(number)?,
                Some(size) => {
                    let encoded = encoded.next().unwrap_or_default();
                    let pieces = Vec::from_iter(encoded.digest);
                    if !self.again(number, size, &pieces, &encoded.rest)? {
                        let mut incoming = Incoming::default();
                        self.add(&mut incoming, encoded)?;
                        self.file(number, incoming)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes a piece of a file.
    pub(crate) fn add(
        &mut self,
        incoming: &mut Incoming,
        encoded: Encoded,
    ) -> Result<(), WriteError> {
        if encoded.runs.contains(&Run::Zeros) {
            // Before this piece's own data.
            self.zeros()?;
        }
        let mut next = self.next_block()?;
        for run in encoded.runs {
            let (cluster, data) = match run {
                Run::Hole => (cluster(NO_ADDRESS, 0, None), 0),
                Run::Plain(blocks) => (cluster(next, blocks, None), blocks),
                Run::Compressed(blocks, count) => (cluster(next, blocks, Some(count)), count),
                Run::Zeros => {
                    self.shared_clusters = true;
                    (self.zeros()?, 0)
                }
            };
            if let Some(count) = cluster.compressed {
                self.longest_cluster = self.longest_cluster.max(count);
            }
            incoming.clusters.push(cluster);
            let end = next
                .checked_add(data.into())
                .filter(|end| *end < NO_ADDRESS);
            next = end.ok_or(LayoutError::TooLarge)?;
        }
        incoming.pieces.extend(encoded.digest);
        incoming.rest = encoded.rest;
        self.data
            .push_blocks(encoded.data, self.out)
            .map_err(WriteError::Write)
    }

    /// A file has come as a whole: remembers where, and writes its inode.
    pub(crate) fn file(&mut self, number: usize, incoming: Incoming) -> Result<(), WriteError> {
        let Some(place) = self.place(number) else {
            return Ok(());
        };
        let Incoming {
            clusters,
            mut rest,
            pieces,
        } = incoming;
        let stored = if clusters.iter().any(|cluster| cluster.compressed.is_some()) {
            Stored::Compressed(clusters)
        } else if clusters.iter().any(|cluster| cluster.address == NO_ADDRESS) {
            self.chunks = true;
            self.put_rest(&std::mem::take(&mut rest))?;
            Stored::Chunks(clusters.iter().map(|cluster| cluster.address).collect())
        } else {
            // All the data is in one piece, and a rest comes right after it.
            let next = self.next_block()?;
            let address = clusters.first().map_or(next, |cluster| cluster.address);
            let with_rest = place.layout != DataLayout::Inline;
            if with_rest {
                self.put_rest(&rest)?;
            }
            Stored::Flat { address, with_rest }
        };
        let stored = Rc::new(stored);
        if !pieces.is_empty() {
            self.shares.remember(place.size, &pieces, stored.clone());
        }
        self.file_inode(number, place, &stored, &rest)
    }

    /// Writes the inode of a file whose content is there already, if it is.
    pub(crate) fn again(
        &mut self,
        number: usize,
        size: u64,
        pieces: &[Sum],
        rest: &[u8],
    ) -> Result<bool, WriteError> {
        let (Some(place), Some(stored)) = (self.place(number), self.shares.find(size, pieces))
        else {
            return Ok(false);
        };
        match (stored.as_ref(), place.layout) {
            // The block of the rest is missing there.
            (
                Stored::Flat {
                    with_rest: false, ..
                },
                DataLayout::Plain,
            ) if !rest.is_empty() => return Ok(false),
            (Stored::Compressed(_), _) => self.shared_clusters = true,
            _ => {}
        }
        self.file_inode(number, place, &stored, rest)?;
        Ok(true)
    }

    fn file_inode(
        &mut self,
        number: usize,
        place: &Place,
        stored: &Stored,
        rest: &[u8],
    ) -> Result<(), WriteError> {
        let block = BLOCK_SIZE as u64;
        match stored {
            Stored::Flat { address, .. } => match place.layout {
                DataLayout::Inline => {
                    let address = match place.size < block {
                        true => NO_ADDRESS,
                        false => *address,
                    };
                    self.inode(number, place, DataLayout::Inline, address)?;
                    self.metadata(rest)
                }
                _ => self.inode(number, place, DataLayout::Plain, *address),
            },
            Stored::Chunks(addresses) => {
                // Only files that were searched for holes have some.
                let format = chunk_format(chunk_size(place.size).unwrap_or(block));
                self.inode(number, place, DataLayout::Chunks, format)?;
                addresses
                    .iter()
                    .try_for_each(|address| self.metadata(&address.to_le_bytes()))
            }
            Stored::Compressed(clusters) => {
                let Some(compression) = self.params.compression else {
                    return Ok(());
                };
                let blocks = clusters
                    .iter()
                    .map(|cluster| cluster.compressed.unwrap_or(cluster.blocks))
                    .fold(0_u32, |sum, blocks| sum.saturating_add(blocks.into()));
                self.inode(number, place, DataLayout::Compressed, blocks)?;
                let start = self
                    .metadata
                    .position()
                    .next_multiple_of(INDEX_ALIGN as u64);
                self.seek_metadata(start)?;
                self.metadata(&index_header(compression.algorithm()))?;
                for cluster in clusters {
                    let entries: Vec<[u8; 8]> = cluster.index_entries().collect();
                    self.metadata(entries.as_flattened())?;
                }
                Ok(())
            }
        }
    }

    /// Writes what has no data: directories of names, links, devices, empty files.
    fn without_data(&mut self, number: usize) -> Result<(), WriteError> {
        let Some(place) = self.place(number) else {
            return Ok(());
        };
        let Some(inode) = self.tree.get(place.id) else {
            return Ok(());
        };
        let first = self.next_block()?;
        let tail = match &inode.kind {
            Kind::Directory(_) => self.directory(place, inode)?,
            Kind::Symlink(target) => target.clone(),
            _ => Vec::new(),
        };
        let plain = place.layout == DataLayout::Plain && !tail.is_empty();
        let address = match &inode.kind {
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                device_number(*major, *minor).unwrap_or_default()
            }
            _ if place.size >= BLOCK_SIZE as u64 || plain => first,
            _ => NO_ADDRESS,
        };
        self.inode(number, place, place.layout, address)?;
        match place.layout {
            DataLayout::Inline => self.metadata(&tail),
            _ => self.put_rest(&tail),
        }
    }

    /// Writes an inode with its attributes.
    fn inode(
        &mut self,
        number: usize,
        place: &Place,
        layout: DataLayout,
        address: u32,
    ) -> Result<(), WriteError> {
        let Some(inode) = self.tree.get(place.id) else {
            return Ok(());
        };
        let xattrs = xattr_bytes(inode.xattrs.iter()).unwrap_or_default();
        let (type_bits, _) = type_codes(&inode.kind);
        let record = InodeRecord {
            extended: place.extended,
            layout,
            xattr_size: xattrs.len(),
            mode: type_bits | inode.mode & 0o7777,
            links: place.links,
            size: place.size,
            address,
            // Of no more than u32 counts.
            number: u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1),
            uid: inode.uid,
            gid: inode.gid,
            epoch_seconds: self.params.epoch_seconds,
        };
        self.seek_metadata(place.offset)?;
        self.metadata(&record.to_bytes())?;
        self.metadata(&xattrs)
    }

    /// Writes all blocks of a directory but a last one that is not full, and returns that.
    fn directory(&mut self, place: &Place, inode: &Inode) -> Result<Vec<u8>, WriteError> {
        let Some(entries) = inode.entries() else {
            return Ok(Vec::new());
        };
        let (layout, tree) = (self.layout, self.tree);
        let mut block: Vec<Dirent<'_>> = Vec::new();
        let mut used = 0;
        for name in names_in_order(entries) {
            let target = match name {
                b"." => Some(&place.id),
                b".." => Some(&place.parent),
                name => entries.get(name),
            };
            let found = target.and_then(|id| Some((layout.place(*id)?, tree.get(*id)?)));
            let Some((target, inode)) = found else {
                continue;
            };
            if !has_room(used, name) {
                self.put_rest(&directory_block(&block))?;
                block.clear();
                used = 0;
            }
            used += DIRENT_SIZE + name.len();
            block.push(Dirent {
                name,
                nid: target.nid(),
                file_type: type_codes(&inode.kind).1,
            });
        }
        let bytes = directory_block(&block);
        if bytes.len() < BLOCK_SIZE {
            return Ok(bytes);
        }
        self.put_rest(&bytes)?;
        Ok(Vec::new())
    }

    /// Writes what is left over and the superblock; returns the blocks of the file system.
    pub(crate) fn finish(mut self) -> Result<u64, WriteError> {
        let end = u64::from(self.layout.data_start) * BLOCK_SIZE as u64;
        // Room that was kept for an index at the very end may not be used.
        let finished = self.metadata.finish(end, self.out);
        finished.map_err(WriteError::Write)?;
        self.data.finish(self.out).map_err(WriteError::Write)?;
        let blocks = self.next_block()?;
        let root_nid = self.place(0).map_or(0, Place::nid);
        let compressed = self.params.compression.filter(|_| self.longest_cluster > 0);
        let superblock = Superblock {
            root_nid: u16::try_from(root_nid).unwrap_or_default(),
            inodes: self.layout.places.len() as u64,
            epoch_seconds: self.params.epoch_seconds,
            blocks,
            uuid: self.params.uuid,
            volume_name: self.params.volume_name,
            features: Features {
                compressed: compressed.map(|how| (how.algorithm(), self.longest_cluster)),
                chunks: self.chunks,
                shared_clusters: self.shared_clusters,
            },
        };
        let first = superblock.to_block();
        self.out.write_blocks(0, first).map_err(WriteError::Write)?;
        Ok(blocks.into())
    }

    /// The segment of zeros, written when it is first needed.
    fn zeros(&mut self) -> Result<Cluster, WriteError> {
        if let Some(zeros) = self.zeros {
            return Ok(zeros);
        }
        let mut data = Vec::new();
        let codec = self.params.compression.map(Codec::new).transpose();
        let count = codec
            .and_then(|codec| match codec {
                Some(mut codec) => codec.compress(&[0; SEGMENT_SIZE], &mut data),
                None => Ok(None),
            })
            .map_err(WriteError::Compress)?;
        let zeros = cluster(self.next_block()?, SEGMENT_BLOCKS, count);
        self.data.push(&data, self.out).map_err(WriteError::Write)?;
        self.zeros = Some(zeros);
        Ok(zeros)
    }

    fn place(&self, number: usize) -> Option<&'a Place> {
        self.layout.places.get(number)
    }

    /// The block that the next data gets.
    fn next_block(&self) -> Result<u32, WriteError> {
        let block = u32::try_from(self.data.position() / BLOCK_SIZE as u64);
        let block = block.ok().filter(|block| *block < NO_ADDRESS);
        Ok(block.ok_or(LayoutError::TooLarge)?)
    }

    fn metadata(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.metadata
            .write(bytes, self.out)
            .map_err(WriteError::Write)
    }

    fn seek_metadata(&mut self, offset: u64) -> Result<(), WriteError> {
        self.metadata
            .seek(offset, self.out)
            .map_err(WriteError::Write)
    }

    /// Writes data that gets a block for itself, if there is any.
    fn put_rest(&mut self, rest: &[u8]) -> Result<(), WriteError> {
        self.data.push(rest, self.out).map_err(WriteError::Write)?;
        self.data.pad_block(self.out).map_err(WriteError::Write)
    }
}

fn cluster(address: u32, blocks: u16, compressed: Option<u16>) -> Cluster {
    Cluster {
        address,
        blocks,
        compressed,
    }
}
