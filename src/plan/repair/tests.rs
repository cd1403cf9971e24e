use std::collections::BTreeMap;

use super::*;
use crate::image::dissect;
use crate::image::testing::{Protection, disk, erofs, hash_tree, tree};
use crate::plan::ingest::release_file;
use crate::plan::testing::{bare, key_pair, release_path};

mod content;

/// A release file that needs nothing.
const FINE: &str = "ID=x\nSYSEXT_ID=p\n";
const SYSEXT: ExtensionKind = ExtensionKind::Sysext;

/// An image that is open.
fn described(bytes: &[u8]) -> Ddi {
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(bytes).unwrap();
    dissect::describe(file, Path::new("p.raw"), None).unwrap()
}

/// The image of a tree on a disk.
fn on_disk(tree: &Tree) -> Ddi {
    described(&disk(&erofs(tree), Designator::Root, Protection::Nothing))
}

fn goal(beside: &Sidecars) -> Goal<'_> {
    Goal {
        name: None,
        kind: SYSEXT,
        kernel: None,
        verity: None,
        except: &[],
        beside,
    }
}

fn examined(ddi: &Ddi, goal: Goal<'_>) -> Result<Option<Repair>, Finding> {
    examine(ddi, release_file(&ddi.path, ddi, goal.kind).unwrap(), goal)
}

/// What would be changed.
fn changed(ddi: &Ddi, goal: Goal<'_>) -> Vec<String> {
    let repair = examined(ddi, goal).unwrap();
    let changes = repair.into_iter().flat_map(|repair| repair.changes);
    changes
        .map(|change| format!("{}: {}", change.what.word(), change.detail))
        .collect()
}

#[test]
fn the_release_file_is_mended_where_systemd_would_not_take_it() {
    let none = Sidecars::default();
    let id = "id: SYSEXT_ID=p was added";
    let architecture = "architecture: ARCHITECTURE=amd64 became x86-64";
    let (except_id, except_file) = ([RepairKind::Id], [RepairKind::ReleaseFile]);
    for (fields, name, except, expected) in [
        (FINE, None, &[][..], vec![]),
        (FINE, Some("p"), &[], vec![]),
        ("ID=x\n", None, &[], vec![id]),
        ("ID=x\nSYSEXT_ID=\n", None, &[], vec![id]),
        ("ID=x\n", None, &except_id, vec![]),
        (
            "SYSEXT_ID=p\nARCHITECTURE=amd64\n",
            None,
            &[],
            vec![architecture],
        ),
        ("SYSEXT_ID=p\nARCHITECTURE=x86-64\n", None, &[], vec![]),
        ("SYSEXT_ID=p\nARCHITECTURE=vax\n", None, &[], vec![]),
        ("ARCHITECTURE=amd64\n", None, &[], vec![id, architecture]),
        ("ARCHITECTURE=amd64\n", None, &except_id, vec![architecture]),
        (
            "ID=x\n",
            Some("q"),
            &[],
            vec![
                "release-file: extension-release.p became extension-release.q",
                "id: SYSEXT_ID=q was added",
            ],
        ),
        (FINE, Some("q"), &except_file, vec![]),
    ] {
        let ddi = described(&bare("p", fields));
        let goal = Goal {
            name,
            except,
            ..goal(&none)
        };
        assert_eq!(
            changed(&ddi, goal),
            expected,
            "{fields} {name:?} {except:?}"
        );
    }
}

#[test]
fn the_name_may_be_that_without_the_version() {
    let none = Sidecars::default();
    let ddi = described(&bare("p_1.2", FINE));
    for (name, expected) in [
        ("p", None),
        ("p_1.2", None),
        ("p_1", Some("p_1")),
        ("q", Some("q")),
    ] {
        let goal = Goal {
            name: Some(name),
            ..goal(&none)
        };
        let repair = examined(&ddi, goal).unwrap().map(|repair| repair.name);
        assert_eq!(repair.as_deref(), expected, "{name}");
    }
}

#[test]
fn the_new_release_file_holds_what_was_wanted_and_no_more() {
    let none = Sidecars::default();
    let ddi = described(&bare("p", "ID=x\nARCHITECTURE=amd64\n"));
    for (except, expected) in [
        (&[][..], "ID=x\nARCHITECTURE=x86-64\nSYSEXT_ID=p\n"),
        (&[RepairKind::Id], "ID=x\nARCHITECTURE=x86-64\n"),
        (
            &[RepairKind::Architecture],
            "ID=x\nARCHITECTURE=amd64\nSYSEXT_ID=p\n",
        ),
    ] {
        let goal = Goal {
            except,
            ..goal(&none)
        };
        let repair = examined(&ddi, goal).unwrap().unwrap();
        assert_eq!(repair.release.to_text().unwrap(), expected, "{except:?}");
    }
    let path = "etc/extension-release.d/extension-release.c";
    let ddi = on_disk(&tree(&[(path, "ID=x\nSYSEXT_ID=c\n")]));
    let goal = Goal {
        kind: ExtensionKind::Confext,
        ..goal(&none)
    };
    assert_eq!(changed(&ddi, goal), ["id: CONFEXT_ID=c was added"]);
}

#[test]
fn protection_is_raised_and_never_a_reason_when_it_is_lowered() {
    let dir = tempfile::tempdir().unwrap();
    let (key, _) = key_pair(dir.path(), "c");
    let forms = [
        (VerityMode::None, Protection::Nothing),
        (VerityMode::Hash, Protection::Hash),
        (VerityMode::Defer, Protection::Room(b"")),
        (VerityMode::Signed, Protection::Signed(&key)),
    ];
    let with_hash = Sidecars {
        root_hash: Some((Designator::Root, vec![0; 32])),
        ..Sidecars::default()
    };
    for (was, (old, protected)) in forms.iter().enumerate() {
        let data = bare("p", FINE);
        let ddi = described(&disk(&data, Designator::Root, *protected));
        let amd64 = bare("p", &format!("{FINE}ARCHITECTURE=amd64\n"));
        let amd64 = described(&disk(&amd64, Designator::Root, *protected));
        for (wanted, (new, _)) in forms.iter().enumerate() {
            let with = |beside, except| Goal {
                verity: Some(*new),
                except,
                ..goal(beside)
            };
            let mut expected = Vec::new();
            if wanted > was {
                expected.push(format!(
                    "protection: verity: {} became {}",
                    old.word(),
                    new.word()
                ));
            }
            let none = Sidecars::default();
            assert_eq!(changed(&ddi, with(&none, &[])), expected);
            assert_eq!(
                changed(&ddi, with(&none, &[RepairKind::Protection])),
                [""; 0]
            );
            for text in &mut expected {
                text.push_str(", and what lies beside the image is of no use any more");
            }
            assert_eq!(changed(&ddi, with(&with_hash, &[])), expected);
            // Once it is rebuilt for something else, it is as it was asked for.
            for (except, verity) in [(&[][..], *new), (&[RepairKind::Protection], *old)] {
                let repair = examined(&amd64, with(&none, except)).unwrap().unwrap();
                assert_eq!(repair.verity, verity, "{old:?} {new:?} {except:?}");
                assert_eq!(repair.was_signed, *old == VerityMode::Signed);
            }
        }
    }
}

#[test]
fn a_missing_id_alone_breaks_no_signature() {
    let dir = tempfile::tempdir().unwrap();
    let (key, _) = key_pair(dir.path(), "c");
    let data = bare("p", "ID=x\n");
    let signed = Protection::Signed(&key);
    let none = Sidecars::default();
    let with_signature = Sidecars {
        signature: Some(vec![1]),
        ..Sidecars::default()
    };
    for (protected, beside, expected) in [
        (Protection::Hash, &none, 1),
        (Protection::Hash, &with_signature, 0),
        (signed, &none, 0),
    ] {
        let ddi = described(&disk(&data, Designator::Root, protected));
        assert_eq!(changed(&ddi, goal(beside)).len(), expected);
    }
    // It is added when the signature goes for another reason.
    let amd64 = bare("p", "ARCHITECTURE=amd64\n");
    let ddi = described(&disk(&amd64, Designator::Root, signed));
    let repair = examined(&ddi, goal(&none)).unwrap().unwrap();
    assert_eq!(repair.changes.len(), 1);
    assert_eq!(repair.release.get("SYSEXT_ID"), Some("p"));
}

/// A system extension with something in it that a merge must not meet.
fn troubled() -> Tree {
    let mut tree = tree(&[
        (&release_path("p"), FINE),
        ("usr/bin/x", "hello"),
        ("usr/lib/os-release", "ID=x\n"),
        ("etc/one", ""),
        ("srv/two/three", ""),
        ("lost+found/x", ""),
    ]);
    let gone = Inode::new(0o600, Kind::CharDevice(0, 0));
    tree.insert(b"usr/bin/gone", gone).unwrap();
    let mut opaque = Inode::directory();
    opaque.xattrs = BTreeMap::from([(b"trusted.overlay.opaque".to_vec(), b"y".to_vec())]);
    tree.insert(b"opt/all", opaque).unwrap();
    tree
}

#[test]
fn what_would_change_the_base_is_removed_and_what_is_never_merged_goes_with_it() {
    let none = Sidecars::default();
    let ddi = on_disk(&troubled());
    let os_release = "os-release: /usr/lib/os-release was removed";
    let whiteouts = "whiteouts: removed: /opt/all, /usr/bin/gone";
    let outside = "outside: left out: etc, srv";
    for (except, expected) in [
        (&[][..], vec![os_release, whiteouts, outside]),
        (&[RepairKind::Whiteouts], vec![os_release, outside]),
        (&[RepairKind::OsRelease], vec![whiteouts, outside]),
        (&[RepairKind::OsRelease, RepairKind::Whiteouts], vec![]),
    ] {
        let goal = Goal {
            except,
            ..goal(&none)
        };
        assert_eq!(changed(&ddi, goal), expected, "{except:?}");
    }
}

#[test]
fn long_lists_are_cut() {
    let names = |count: usize| -> Vec<String> { (0..count).map(|i| i.to_string()).collect() };
    for (count, expected) in [
        (0, ""),
        (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (11, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 1 more"),
    ] {
        assert_eq!(list(&names(count)), expected);
    }
}

#[test]
fn a_rebuilt_image_has_a_root_partition_and_a_file_system_of_ours() {
    let none = Sidecars::default();
    let inside = |fields| {
        erofs(&tree(&[(
            "lib/extension-release.d/extension-release.p",
            fields,
        )]))
    };
    let usr = |fields| described(&disk(&inside(fields), Designator::Usr, Protection::Nothing));
    let of_usr = "usr-partition: the partition for /usr became one for the root";
    assert_eq!(changed(&usr(FINE), goal(&none)), [of_usr]);
    let except = Goal {
        except: &[RepairKind::UsrPartition],
        ..goal(&none)
    };
    assert_eq!(changed(&usr(FINE), except), [""; 0]);
    let finding = examined(&usr("ID=x\n"), except).unwrap_err();
    assert_eq!(finding.id, "repair-refused");
    assert_eq!(
        finding.message,
        "usr-partition can't be left as it is when the image is rebuilt, and it would be for: SYSEXT_ID=p was added"
    );
    let no_erofs = KernelFeatures::from_config("CONFIG_EXT4_FS=y\n");
    let except = Goal {
        except: &[RepairKind::FileSystem],
        kernel: Some(no_erofs),
        ..goal(&none)
    };
    let ddi = described(&bare("p", FINE));
    assert_eq!(
        changed(
            &ddi,
            Goal {
                except: &[],
                ..except
            }
        ),
        ["file-system: erofs, which the base can't mount, was replaced"]
    );
    assert_eq!(changed(&ddi, except), [""; 0]);
    let finding = examined(&described(&bare("p", "ID=x\n")), except).unwrap_err();
    assert!(
        finding.message.starts_with("file-system can't be left"),
        "{finding}"
    );
}

#[test]
fn only_what_a_kernel_surely_lacks_is_replaced() {
    let config = "CONFIG_EROFS_FS=m\nCONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_ZLIB=y\n";
    let known = Some(KernelFeatures::from_config(config));
    let unknown = Some(KernelFeatures::UNKNOWN);
    for (kind, compression, kernel, expected) in [
        (FsKind::Erofs, &[][..], known, None),
        (FsKind::Erofs, &["lz4"], known, Some("erofs with lz4")),
        (
            FsKind::Erofs,
            &["lz4", "zstd"],
            known,
            Some("erofs with lz4, zstd"),
        ),
        (FsKind::Erofs, &["lz4"], unknown, None),
        (FsKind::Erofs, &["lz4"], None, None),
        (FsKind::Squashfs, &["gzip"], known, None),
        (
            FsKind::Squashfs,
            &["gzip", "xz"],
            known,
            Some("squashfs with xz"),
        ),
        (FsKind::Ext4, &[], known, Some("ext4")),
        (FsKind::Ext4, &[], unknown, None),
        (FsKind::Ext3, &[], unknown, Some("ext3")),
        (FsKind::Ext2, &[], unknown, Some("ext2")),
        (FsKind::Ext2, &[], None, None),
    ] {
        let mut ddi = described(&bare("p", FINE));
        ddi.fs_kind = Some(kind);
        let details = ddi.fs.as_mut().unwrap();
        details.compression = compression.iter().map(|it| (*it).to_owned()).collect();
        let found = not_mounted(&ddi, kernel);
        assert_eq!(found.as_deref(), expected, "{kind:?} {compression:?}");
    }
}

#[test]
fn only_a_complete_and_fitting_signature_beside_an_image_is_joined() {
    let dir = tempfile::tempdir().unwrap();
    let (key, _) = key_pair(dir.path(), "c");
    let data = bare("p", FINE);
    let (_, root) = hash_tree(&data);
    let complete = Sidecars {
        root_hash: Some((Designator::Root, root.as_bytes().to_vec())),
        signature: Some(vec![1]),
        hash_tree: Some(Ok(root)),
        unusable: None,
    };
    let without_tree = Sidecars {
        hash_tree: None,
        ..complete.clone()
    };
    let gpt = |designator, protected| described(&disk(&data, designator, protected));
    let naked = described(&data);
    let hash = gpt(Designator::Root, Protection::Hash);
    let room = gpt(Designator::Root, Protection::Room(b""));
    let plain = gpt(Designator::Root, Protection::Nothing);
    let signed = gpt(Designator::Root, Protection::Signed(&key));
    let usr = gpt(Designator::Usr, Protection::Hash);
    type Change = fn(&mut Sidecars);
    let as_it_is: Change = |_| {};
    for (what, ddi, beside, change, joins) in [
        ("naked", &naked, &complete, as_it_is, true),
        (
            "naked without a tree",
            &naked,
            &without_tree,
            as_it_is,
            false,
        ),
        (
            "naked, no signature",
            &naked,
            &complete,
            |it| it.signature = None,
            false,
        ),
        (
            "naked, no hash",
            &naked,
            &complete,
            |it| it.root_hash = None,
            false,
        ),
        (
            "naked, a hash for /usr",
            &naked,
            &complete,
            |it| it.root_hash.as_mut().unwrap().0 = Designator::Usr,
            false,
        ),
        (
            "naked, another hash",
            &naked,
            &complete,
            |it| it.root_hash.as_mut().unwrap().1[0] ^= 1,
            false,
        ),
        (
            "naked, a tree that does not fit",
            &naked,
            &complete,
            |it| it.hash_tree = Some(Err(String::new())),
            false,
        ),
        (
            "naked, unusable",
            &naked,
            &complete,
            |it| it.unusable = Some(String::new()),
            false,
        ),
        ("hash", &hash, &without_tree, as_it_is, true),
        ("hash with a second tree", &hash, &complete, as_it_is, false),
        (
            "hash, another hash",
            &hash,
            &without_tree,
            |it| it.root_hash.as_mut().unwrap().1[0] ^= 1,
            false,
        ),
        ("room", &room, &without_tree, as_it_is, true),
        ("plain", &plain, &without_tree, as_it_is, false),
        ("signed", &signed, &without_tree, as_it_is, false),
        ("usr", &usr, &without_tree, as_it_is, false),
    ] {
        let mut beside = beside.clone();
        change(&mut beside);
        assert_eq!(joinable(ddi, &beside), joins.then_some(root), "{what}");
    }
}
