//! What a repaired image takes over.

use super::*;
use crate::image::testing::DATA_OFFSET;

/// The paths that a repaired image would have, and what is said.
fn taken(ddi: Ddi, keep: &[RepairKind], beside: Sidecars) -> Result<(Tree, Vec<String>), Finding> {
    let image = RepairedImage {
        ddi: Arc::new(ddi),
        release_file: release_path("p"),
        keep: keep.to_vec(),
        beside,
    };
    let (tree, notes) = tree_of(&image, SYSEXT)?;
    Ok((tree, notes.into_iter().map(|note| note.message).collect()))
}

fn files(tree: &Tree) -> Vec<String> {
    let paths = tree
        .walk()
        .filter(|(_, _, inode)| inode.entries().is_none());
    paths
        .map(|(path, ..)| String::from_utf8(path.clone()).unwrap())
        .collect()
}

#[test]
fn the_content_comes_without_what_the_repair_removes() {
    for (keep, expected) in [
        (&[][..], vec!["usr/bin/x"]),
        (&[RepairKind::Whiteouts], vec!["usr/bin/gone", "usr/bin/x"]),
        (
            &[RepairKind::OsRelease],
            vec!["usr/bin/x", "usr/lib/os-release"],
        ),
    ] {
        let (tree, notes) = taken(on_disk(&troubled()), keep, Sidecars::default()).unwrap();
        assert_eq!(files(&tree), expected, "{keep:?}");
        assert_eq!(notes, [""; 0]);
        let opaque = tree.lookup(b"opt/all").and_then(|id| tree.get(id)).unwrap();
        assert_eq!(
            opaque.xattrs.is_empty(),
            keep != [RepairKind::Whiteouts],
            "{keep:?}"
        );
    }
}

#[test]
fn owners_modes_links_and_attributes_are_kept() {
    let mut made = tree(&[(&release_path("p"), FINE)]);
    let mut file = Inode::new(
        0o4711,
        Kind::File {
            size: 3,
            source: Source::Bytes(b"abc".to_vec()),
        },
    );
    (file.uid, file.gid) = (7, 8);
    file.xattrs = [
        ("user.a", "1"),
        ("security.selinux", "2"),
        ("user.overlay.opaque", "y"),
    ]
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    .into();
    let id = made.insert(b"usr/bin/x", file).unwrap();
    made.insert_link(b"usr/bin/y", id).unwrap();
    made.insert_symlink(b"usr/bin/z", b"x").unwrap();
    made.insert(b"usr/f", Inode::new(0o600, Kind::Fifo))
        .unwrap();
    let (tree, notes) = taken(on_disk(&made), &[], Sidecars::default()).unwrap();
    assert_eq!(
        files(&tree),
        ["usr/bin/x", "usr/bin/y", "usr/bin/z", "usr/f"]
    );
    let [x, y, z] = ["x", "y", "z"].map(|name| tree.lookup(format!("usr/bin/{name}").as_bytes()));
    assert_eq!(x, y);
    let inode = tree.get(x.unwrap()).unwrap();
    assert_eq!((inode.mode, inode.uid, inode.gid), (0o4711, 7, 8));
    let Kind::File {
        size: 3,
        source: Source::Packed(packed),
    } = &inode.kind
    else {
        panic!("{inode:?}")
    };
    let mut content = [0; 3];
    std::os::unix::fs::FileExt::read_exact_at(&*packed.file, &mut content, packed.offset).unwrap();
    assert_eq!(&content, b"abc");
    assert_eq!(inode.xattrs, [(b"user.a".to_vec(), b"1".to_vec())].into());
    assert_eq!(
        notes,
        ["the extended attribute security.selinux is left out"]
    );
    assert_eq!(
        tree.get(z.unwrap()).unwrap().kind,
        Kind::Symlink(b"x".to_vec())
    );
}

#[test]
fn the_content_of_a_usr_partition_lies_below_usr() {
    let data = erofs(&tree(&[
        ("lib/extension-release.d/extension-release.p", FINE),
        ("bin/x", ""),
        ("etc/y", ""),
    ]));
    let ddi = described(&disk(&data, Designator::Usr, Protection::Hash));
    let (tree, _) = taken(ddi, &[], Sidecars::default()).unwrap();
    assert_eq!(files(&tree), ["usr/bin/x", "usr/etc/y"]);
}

#[test]
fn what_was_tampered_with_or_is_a_device_gets_no_new_hash_tree() {
    let data = bare("p", FINE);
    let (_, root) = hash_tree(&data);
    let refused = |ddi, beside| taken(ddi, &[], beside).err().map(|finding| finding.message);
    let none = Sidecars::default;
    let good = disk(&data, Designator::Root, Protection::Hash);
    assert_eq!(refused(described(&good), none()), None);
    // The last byte of the file system, which is read by nobody else.
    let mut bad = good;
    bad[DATA_OFFSET + data.len() - 1] ^= 1;
    assert_eq!(
        refused(described(&bad), none()).unwrap(),
        "the content of p.raw is not what its hash tree says"
    );
    let beside = |hash_tree| Sidecars {
        root_hash: Some((Designator::Root, root.as_bytes().to_vec())),
        hash_tree: Some(hash_tree),
        ..none()
    };
    assert_eq!(refused(described(&data), beside(Ok(root))), None);
    for hash_tree in [Err("no".to_owned()), Ok(RootHash::from([0; 32]))] {
        assert_eq!(
            refused(described(&data), beside(hash_tree)).unwrap(),
            "the content of p.raw is not what the hash tree beside it says"
        );
    }
    for device in [Kind::CharDevice(1, 3), Kind::BlockDevice(0, 0)] {
        let mut made = tree(&[(&release_path("p"), FINE)]);
        made.insert(b"usr/dev", Inode::new(0o600, device)).unwrap();
        assert_eq!(
            refused(on_disk(&made), none()).unwrap(),
            "reading /usr/dev of p.raw: it is a device node"
        );
    }
}
