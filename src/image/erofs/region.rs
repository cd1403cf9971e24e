//! The metadata on its way to the image: in any order within a region, one region after the other.

use std::io;

use super::stream::{Sink, Spare, Stream};

/// More than a packed region has. What is longer is a single inode, written from front to back.
const MOST: usize = 4 << 20;

/// Metadata at given places.
#[derive(Debug)]
pub(crate) struct Regions<'a> {
    stream: Stream<'a>,
    /// Where the regions begin that have not begun yet.
    later: &'a [u64],
    /// Byte of the image at which `bytes` begins.
    start: u64,
    bytes: Vec<u8>,
    /// Where in `bytes` is written next.
    at: usize,
}

impl<'a> Regions<'a> {
    /// Begins at a block.
    pub(crate) fn starting_at(block: u64, regions: &'a [u64], spare: &'a Spare) -> Regions<'a> {
        let stream = Stream::starting_at(block, spare);
        let start = stream.position();
        Regions {
            stream,
            later: regions,
            start,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// The byte of the image that is written next.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Goes to a byte of this region or of a later one; what nobody writes is zeros.
    pub(crate) fn seek(&mut self, offset: u64, out: &mut impl Sink) -> io::Result<()> {
        while let [first, later @ ..] = self.later
            && *first <= offset
        {
            self.later = later;
            self.flush(*first, out)?;
        }
        let at = offset.checked_sub(self.start).map(usize::try_from);
        match at {
            Some(Ok(at)) => self.at = at,
            // Only a mistake in the layout leads here.
            _ => return Err(io::Error::other("metadata does not come in order")),
        }
        Ok(())
    }

    /// Writes and goes on behind it.
    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut impl Sink) -> io::Result<()> {
        let end = self.at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(room) = self.bytes.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
        if self.bytes.len() > MOST {
            self.flush(self.start + self.bytes.len() as u64, out)?;
        }
        Ok(())
    }

    /// Writes all that is left, and zeros up to `end`.
    pub(crate) fn finish(&mut self, end: u64, out: &mut impl Sink) -> io::Result<()> {
        self.flush(end, out)?;
        self.stream.finish(out)
    }

    fn flush(&mut self, end: u64, out: &mut impl Sink) -> io::Result<()> {
        self.stream.push(&self.bytes, out)?;
        self.stream.pad_to(end, out)?;
        self.start = end;
        self.bytes.clear();
        self.at = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Image(Vec<u8>);

    impl Sink for Image {
        fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()> {
            let start = usize::try_from(first).unwrap() * 4096;
            self.0.resize(self.0.len().max(start + blocks.len()), 0xff);
            self.0[start..start + blocks.len()].copy_from_slice(&blocks);
            Ok(())
        }
    }

    #[test]
    fn order_is_free_within_a_region_only() {
        let spare = Spare::default();
        let mut image = Image(Vec::new());
        let starts = [4096, 12_288];
        let mut regions = Regions::starting_at(1, &starts, &spare);
        for (offset, text) in [(9000, "b"), (4200, "a"), (12_300, "d"), (12_288, "c")] {
            regions.seek(offset, &mut image).unwrap();
            regions.write(text.as_bytes(), &mut image).unwrap();
            assert_eq!(regions.position(), offset + 1);
        }
        assert!(regions.seek(9001, &mut image).is_err());
        regions.finish(20_480, &mut image).unwrap();
        assert_eq!(image.0.len(), 20_480);
        let letters = [(9000, b'b'), (4200, b'a'), (12_300, b'd'), (12_288, b'c')];
        for (offset, letter) in letters {
            assert_eq!(image.0[offset], letter);
        }
        let written = image.0[4096..].iter().filter(|byte| **byte != 0).count();
        assert_eq!(written, letters.len());
    }

    #[test]
    fn a_long_index_does_not_stay_in_memory() {
        let spare = Spare::default();
        let mut image = Image(Vec::new());
        let mut regions = Regions::starting_at(1, &[4096], &spare);
        regions.seek(4096, &mut image).unwrap();
        let piece = vec![9; 1 << 20];
        for _ in 0..9 {
            regions.write(&piece, &mut image).unwrap();
            assert!(regions.bytes.len() <= MOST);
        }
        let end = 4096 + (9 << 20);
        regions.finish(end, &mut image).unwrap();
        let end = usize::try_from(end).unwrap();
        assert!(image.0.len() == end && image.0[4096..].iter().all(|byte| *byte == 9));
    }
}
