//! Writing what [`Layout`] placed.

use std::{io, thread};

use super::encode::Encoder;
use super::error::WriteError;
use super::feed::{Feeder, Job};
use super::layout::Layout;
use super::params::Params;
use super::pool::Pool;
use super::record::Recorder;
use super::stream::{Sink, Spare};
use crate::io::progress::Progress;
use crate::tree::Tree;

/// Writes a tree and returns the number of 4096-byte blocks.
///
/// Files are read in the order of their paths, once; those of more than [`PIECE_SIZE`](super::params::PIECE_SIZE) that begin
/// like an earlier one of the same length twice, unless they are equal. An error leaves the sink
/// half written. What is read is counted in `progress`.
pub(crate) fn write(
    tree: &Tree,
    params: &Params,
    spare: &Spare,
    progress: &Progress,
    out: &mut impl Sink,
) -> Result<u64, WriteError> {
    let layout = Layout::new(tree, params.compression.is_some())?;
    let workers = (0..params.threads.get())
        .map(|_| Encoder::new(params.compression, params.share_compressed, spare, progress))
        .map(|encoder| encoder.map(|mut encoder| move |job: Job<'_>| job.run(&mut encoder)))
        .collect::<io::Result<Vec<_>>>()
        .map_err(WriteError::Compress)?;
    thread::scope(|scope| {
        let pool = Pool::start(scope, workers);
        let recorder = Recorder::new(tree, &layout, params, spare, out);
        let threads = params.threads.get() as u64;
        Feeder::new(tree, &layout, pool, threads, recorder).run()
    })
}

/// Images in memory, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::image::erofs::format::BLOCK_SIZE;

    impl Sink for Vec<u8> {
        fn write_blocks(&mut self, first: u64, blocks: Vec<u8>) -> io::Result<()> {
            let start = usize::try_from(first).unwrap() * BLOCK_SIZE;
            if self.len() < start + blocks.len() {
                self.resize(start + blocks.len(), 0xee);
            }
            self[start..start + blocks.len()].copy_from_slice(&blocks);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::erofs::compress::Compression;
    use crate::image::erofs::format::BLOCK_SIZE;
    use crate::tree::read::ReadError;
    use crate::tree::{Inode, Kind, Source};
    use proptest::prelude::*;
    use std::num::NonZero;

    const PARAMS: Params = Params {
        uuid: [9; 16],
        epoch_seconds: 1_700_000_000,
        volume_name: [0; 16],
        compression: None,
        share_compressed: true,
        threads: NonZero::new(2).unwrap(),
    };

    /// All the ways to write.
    const FORMS: [Option<Compression>; 4] = [
        None,
        Some(Compression::Lz4),
        Some(Compression::Lz4hc),
        Some(Compression::Zstd { level: 3 }),
    ];

    /// One thread, three threads, and an image that does not tell.
    fn image(tree: &Tree, compression: Option<Compression>) -> Vec<u8> {
        let [one, three] = [1, 3].map(|threads| {
            let params = Params {
                compression,
                threads: NonZero::new(threads).unwrap(),
                ..PARAMS
            };
            let mut out = Vec::new();
            let blocks =
                write(tree, &params, &Spare::default(), &Progress::new(), &mut out).unwrap();
            assert_eq!(out.len() as u64, blocks * BLOCK_SIZE as u64);
            out
        });
        assert!(one == three);
        one
    }

    /// Bytes that compress well, not at all, are zeros, or some of each.
    fn bytes(kind: usize, size: usize) -> Vec<u8> {
        let mut state = size as u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..size)
            .map(|at| match (kind % 4, at >> 18 & 1) {
                (0, _) => (at / 50 % 256) as u8,
                (1, _) | (3, 1) => noise(),
                _ => 0,
            })
            .collect()
    }

    fn insert(tree: &mut Tree, path: &str, bytes: Vec<u8>) {
        let size = bytes.len() as u64;
        tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, 0o644)
            .unwrap();
    }

    fn sample() -> Tree {
        let mut tree = Tree::new();
        let mib = 1 << 20;
        for size in [
            0,
            1,
            4095,
            4096,
            4097,
            65536,
            70000,
            mib,
            mib + 1,
            3_000_000,
        ] {
            for kind in 0..4 {
                for copy in ["a", "b"] {
                    let path = format!("usr/files/{copy}/{size}-{kind}");
                    insert(&mut tree, &path, bytes(kind, size));
                }
            }
        }
        // Begins like another one and differs at the end.
        let mut other = bytes(1, 3_000_000);
        other[2_999_999] ^= 1;
        insert(&mut tree, "usr/files/other", other);
        for i in 0..3000 {
            let path = format!("usr/many/{i}-{}", "n".repeat(i % 200));
            tree.insert_symlink(path.as_bytes(), b"../x").unwrap();
        }
        tree
    }

    #[test]
    fn equal_content_and_zeros_are_there_once() {
        let blocks = |tree: &Tree, compression| image(tree, compression).len() / BLOCK_SIZE;
        for (compression, kind) in FORMS.into_iter().zip([1, 0, 1]) {
            let mut tree = Tree::new();
            insert(&mut tree, "a", bytes(kind, 5_000_000));
            let one = blocks(&tree, compression);
            insert(&mut tree, "b", bytes(kind, 5_000_000));
            insert(&mut tree, "c", bytes(kind, 5_000_000));
            let metadata = 2 * 5_000_000 / 4096 * 8 / 4096 + 2;
            assert!(blocks(&tree, compression) <= one + metadata);
        }
        let mut tree = Tree::new();
        insert(&mut tree, "zeros", vec![0; 20 << 20]);
        assert_eq!(blocks(&tree, None), 2);
        assert!(blocks(&tree, Some(Compression::Lz4)) <= 2 + 10 + 1);
    }

    #[test]
    fn an_independent_reader_finds_every_byte() {
        let tree = sample();
        for compression in FORMS {
            reads_back(&tree, &image(&tree, compression));
        }
    }

    fn reads_back(tree: &Tree, image: &[u8]) {
        let fs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(image)).unwrap();
        for (path, _, inode) in tree.walk() {
            let path = format!("/{}", String::from_utf8(path).unwrap());
            match &inode.kind {
                Kind::File {
                    source: Source::Bytes(bytes),
                    ..
                } => {
                    let file = fs.open(&path).unwrap();
                    let mut read = vec![0; bytes.len()];
                    let mut at = 0;
                    while at < read.len() {
                        at += file.read_at(&mut read[at..], at as u64).unwrap();
                    }
                    assert_eq!(file.size(), bytes.len() as u64, "{path}");
                    assert!(read == *bytes, "{path}");
                }
                Kind::Directory(entries) => {
                    let names = fs.read_dir(&path).unwrap().count();
                    assert_eq!(names, entries.len(), "{path}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_order_of_making_does_not_show() {
        let tree = sample();
        let mut again = Tree::new();
        let mut all: Vec<_> = tree
            .walk()
            .filter(|(_, _, inode)| inode.entries().is_none())
            .collect();
        all.reverse();
        for (path, _, inode) in all {
            again.insert(&path, inode.clone()).unwrap();
        }
        for compression in FORMS {
            assert!(image(&tree, compression) == image(&again, compression));
        }
    }

    #[test]
    fn a_file_that_changed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "12345").unwrap();
        let build = |size| {
            let mut tree = Tree::new();
            tree.insert_file(b"x", Source::Path(path.clone()), size, 0o644)
                .unwrap();
            write(
                &tree,
                &PARAMS,
                &Spare::default(),
                &Progress::new(),
                &mut Vec::new(),
            )
        };
        assert!(build(5).is_ok());
        let error = build(4).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(
            build(5).unwrap_err(),
            WriteError::Source(ReadError::Read { .. })
        ));
    }

    /// A path, how many bytes it holds, and the size of one extended attribute.
    fn any_file() -> impl Strategy<Value = (Vec<Vec<u8>>, usize, usize)> {
        let byte = any::<u8>().prop_filter("in a name", |byte| !matches!(*byte, 0 | b'/'));
        let name = prop::collection::vec(byte, 1..=255)
            .prop_filter("no dots", |name| name != b"." && name != b"..");
        let short = prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"-".to_vec()]);
        let folders = prop::collection::vec(short, 0..4);
        let size = prop_oneof![
            0..200_usize,
            1900..2200_usize,
            3900..4300_usize,
            8100..13000_usize,
            250_000..600_000_usize
        ];
        let path = (folders, name).prop_map(|(mut path, name)| {
            path.push(name);
            path
        });
        (
            path,
            size,
            prop_oneof![Just(0), 1..40_usize, 3900..9000_usize],
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_tree_reads_back(files in prop::collection::vec(any_file(), 0..60), form in 0..3_usize) {
            let mut tree = Tree::new();
            for (number, (path, size, xattr)) in files.into_iter().enumerate() {
                let bytes = bytes(number, size);
                let inode = Inode {
                    xattrs: match xattr {
                        0 => Default::default(),
                        _ => [(b"user.x".to_vec(), vec![number as u8; xattr])].into(),
                    },
                    ..Inode::new(0o644, Kind::File { size: size as u64, source: Source::Bytes(bytes) })
                };
                // A name that is taken already is no content.
                let _ = tree.insert(&path.join(&b'/'), inode);
            }
            let compression = FORMS[form];
            let image = image(&tree, compression);
            let fs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&image)).unwrap();
            let layout = Layout::new(&tree, compression.is_some()).unwrap();
            for (path, id, inode) in tree.walk() {
                let nid = layout.place(id).unwrap().nid();
                let path = [b"/", path.as_slice()].concat();
                match &inode.kind {
                    Kind::File { source: Source::Bytes(bytes), .. } => {
                        let file = fs.open(&path).unwrap();
                        prop_assert_eq!(file.size(), bytes.len() as u64);
                        let mut read = vec![0; bytes.len()];
                        let mut at = 0;
                        while at < read.len() {
                            at += file.read_at(&mut read[at..], at as u64).unwrap();
                        }
                        prop_assert!(read == *bytes);
                        let found = fs.xattrs_inode(fs.get_inode(nid).unwrap()).unwrap();
                        prop_assert!(found.values().eq(inode.xattrs.values()));
                    }
                    Kind::Directory(entries) => {
                        prop_assert_eq!(fs.read_dir(&path).unwrap().count(), entries.len());
                    }
                    _ => {}
                }
            }
        }
    }
}
