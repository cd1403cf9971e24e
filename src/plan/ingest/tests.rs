use super::*;
use crate::image::gpt::types::Designator;
use crate::image::signature::sign_root_hash;
use crate::image::testing::{DATA_OFFSET, Protection, disk, erofs, hash_tree, tree};
use crate::io::open::testing;
use crate::io::open::testing::write;
use crate::plan::testing::{bare, key_pair, release_path, said};

const SYSEXT: ExtensionKind = ExtensionKind::Sysext;

/// The name of what an image of these files is, or why it is refused.
fn named_by(
    files: &[(&str, &str)],
    name: Option<&str>,
    kind: ExtensionKind,
) -> Result<String, &'static str> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.raw");
    std::fs::write(&path, erofs(&tree(files))).unwrap();
    let from_image = image(&path, None, name, kind, "e").map(|(taken, _)| taken.name);
    // A folder is judged alike.
    let dir = testing::folder(files);
    let from_folder = folder(dir.path(), name, kind, "e").map(|(taken, _)| taken.name);
    let [from_image, from_folder] = [from_image, from_folder].map(|it| it.map_err(|it| it.id));
    assert_eq!(from_image, from_folder);
    from_image
}

#[test]
fn the_release_file_gives_the_name() {
    let confext = "etc/extension-release.d/extension-release.c";
    let (p, q, raw) = (
        release_path("p"),
        release_path("q_1.2"),
        release_path("p.raw"),
    );
    let [p, q, raw] = [&p, &q, &raw].map(|path| (path.as_str(), "ID=x\n"));
    let confext = (confext, "ID=x\n");
    let other = ("usr/bin/x", "");
    let useless = release_path("p");
    let useless = (useless.as_str(), "ID=x\0\n");
    for (files, name, kind, expected) in [
        (vec![p], None, SYSEXT, Ok("p")),
        (vec![p, other], Some("p"), SYSEXT, Ok("p")),
        (vec![q], Some("q"), SYSEXT, Ok("q_1.2")),
        (vec![q], Some("q_1.2"), SYSEXT, Ok("q_1.2")),
        (vec![q], Some("q_1"), SYSEXT, Err("name-disagrees")),
        (vec![p], Some("o"), SYSEXT, Err("name-disagrees")),
        (vec![p, confext], None, SYSEXT, Ok("p")),
        (vec![p, confext], None, ExtensionKind::Confext, Ok("c")),
        (vec![confext], None, SYSEXT, Err("release-file-missing")),
        (vec![other], None, SYSEXT, Err("release-file-missing")),
        (vec![p, q], None, SYSEXT, Err("several-release-files")),
        (vec![p, q], Some("p"), SYSEXT, Err("several-release-files")),
        (vec![raw], None, SYSEXT, Err("name-refused")),
        (vec![useless], None, SYSEXT, Err("release-file-refused")),
    ] {
        let found = named_by(&files, name, kind);
        assert_eq!(
            found.as_deref().map_err(|it| *it),
            expected,
            "{files:?} {name:?}"
        );
    }
}

#[test]
fn the_other_kind_is_offered_where_it_would_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.raw");
    let confext = [("etc/extension-release.d/extension-release.c", "ID=x\n")];
    for (files, message, help) in [
        (
            &confext[..],
            "is a configuration extension:",
            "write `kind: confext`",
        ),
        (
            &[],
            "is no extension:",
            "build the image with a release file",
        ),
    ] {
        std::fs::write(&path, erofs(&tree(files))).unwrap();
        let finding = image(&path, None, None, SYSEXT, "e").unwrap_err();
        assert!(finding.message.contains(message), "{finding}");
        assert!(
            finding.help.as_deref().unwrap().starts_with(help),
            "{finding}"
        );
    }
    let finding = folder(dir.path(), None, SYSEXT, "e").unwrap_err();
    assert!(
        finding.help.as_deref().unwrap().starts_with("write `tree`"),
        "{finding}"
    );
}

#[test]
fn another_name_and_a_bare_file_system_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let data = bare("p_1", "ID=x\n");
    let gpt = disk(&data, Designator::Root, Protection::Hash);
    let packed = zstd::encode_all(gpt.as_slice(), 1).unwrap();
    let renamed = "placed-under-release-name e.image";
    let unprotected = "layout-unprotected e.image";
    for (file, bytes, expected) in [
        ("p_1.raw", &gpt, vec![]),
        ("p.raw", &gpt, vec![renamed]),
        ("p_1.img", &gpt, vec![renamed]),
        ("p_1.raw.zst", &packed, vec![]),
        ("p_1.zst", &packed, vec![renamed]),
        // By what is in it, not by its name, it is a compressed one.
        ("p_1.raw.gz", &packed, vec![]),
        ("p_1.raw.zst", &gpt, vec![renamed]),
        ("p_1.raw", &data, vec![unprotected]),
        ("p.raw", &data, vec![unprotected, renamed]),
    ] {
        let path = dir.path().join(file);
        std::fs::write(&path, bytes).unwrap();
        let (taken, notes) = image(&path, None, None, SYSEXT, "e").unwrap();
        assert_eq!(said(&notes), expected, "{file}");
        assert_eq!(taken.name, "p_1");
        assert_eq!(taken.release().get("ID"), Some("x"));
    }
    for (name, expected) in [
        ("p_1", vec![unprotected]),
        ("p", vec![unprotected, renamed]),
    ] {
        let path = dir.path().join("folder").join(name);
        write(&path, &release_path("p_1"), "ID=x\n");
        let (taken, notes) = folder(&path, None, SYSEXT, "e").unwrap();
        assert_eq!(said(&notes), expected, "{name}");
        assert_eq!((taken.name.as_str(), taken.path), ("p_1", path));
        assert!(!taken.keep_owners && taken.limits.max_size.is_none());
    }
}

#[test]
fn a_folder_behind_a_link_has_the_name_that_it_has_itself() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("p"), &release_path("p"), "ID=x\n");
    std::os::unix::fs::symlink("p", dir.path().join("latest")).unwrap();
    let (_, notes) = folder(&dir.path().join("latest"), None, SYSEXT, "e").unwrap();
    assert_eq!(said(&notes), ["layout-unprotected e.image"]);
    let finding = folder(&dir.path().join("gone"), None, SYSEXT, "e").unwrap_err();
    assert_eq!(finding.id, "tree-unreadable");
}

#[test]
fn a_pinned_image_is_compared_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.raw");
    let pinned = |sha256: &str| {
        let taken = image(&path, Some(sha256), None, SYSEXT, "e");
        taken
            .map(|(taken, _)| taken.sha256.unwrap())
            .map_err(|it| it.id)
    };
    let zeros = "0".repeat(64);
    assert_eq!(pinned(&zeros), Err("image-unreadable"));
    std::fs::write(&path, "no image").unwrap();
    assert_eq!(pinned(&zeros), Err("image-digest-mismatch"));
    std::fs::write(&path, bare("p", "ID=x\n")).unwrap();
    let digest = digest_file::<Sha256>(&path, String::new(), &Progress::new())
        .unwrap()
        .0;
    assert_eq!(pinned(&digest), Ok(digest.clone()));
    assert_eq!(pinned(&digest.to_uppercase()), Ok(digest));
}

#[test]
fn what_no_systemd_takes_is_refused_in_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.raw");
    let data = bare("p", "ID=x\n");
    let gpt = disk(&data, Designator::Root, Protection::Hash);
    // The superblock of the hash tree.
    let mut damaged = gpt.clone();
    damaged[DATA_OFFSET + data.len()] ^= 1;
    for (bytes, id) in [
        (&gpt[..10_000], "image-unreadable"),
        (&data[..data.len() - 4096], "file-system-unreadable"),
        (&damaged, "verity-superblock"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(image(&path, None, None, SYSEXT, "e").unwrap_err().id, id);
    }
}

#[test]
fn root_hash_and_signer_are_those_of_the_image_or_of_what_lies_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (key, mine) = key_pair(dir.path(), "mine");
    let data = bare("p", "ID=x\n");
    let (hash_tree, root) = hash_tree(&data);
    let signature = sign_root_hash(&key, &root.to_string()).unwrap();
    let gpt = |protected| disk(&data, Designator::Root, protected);
    let (hash, sig, tree) = ("roothash", "roothash.p7s", "verity");
    for (bytes, beside, is_hashed, is_signed, awaits) in [
        (gpt(Protection::Nothing), vec![], false, false, false),
        (gpt(Protection::Hash), vec![], true, false, false),
        (gpt(Protection::Room(b"")), vec![], true, false, true),
        (
            gpt(Protection::Room(b"")),
            vec![hash, sig],
            true,
            true,
            false,
        ),
        (gpt(Protection::Signed(&key)), vec![], true, true, false),
        (data.clone(), vec![], false, false, false),
        (data.clone(), vec![hash, tree], true, false, false),
        (data.clone(), vec![hash, tree, sig], true, true, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.raw");
        std::fs::write(&path, bytes).unwrap();
        for ending in &beside {
            let bytes = match *ending {
                "roothash" => root.to_string().into_bytes(),
                "verity" => hash_tree.clone(),
                _ => signature.clone(),
            };
            std::fs::write(dir.path().join(format!("p.{ending}")), bytes).unwrap();
        }
        let (taken, _) = image(&path, None, None, SYSEXT, "e").unwrap();
        assert_eq!(
            taken.root_hash(),
            is_hashed.then(|| root.to_string()),
            "{beside:?}"
        );
        let fingerprint = mine.fingerprint_sha256_hex.clone();
        assert_eq!(
            taken.signer_fingerprint(&[]),
            is_signed.then_some(fingerprint)
        );
        assert_eq!(taken.signers().len(), usize::from(is_signed), "{beside:?}");
        assert_eq!(taken.awaits_signature(), awaits, "{beside:?}");
    }
}
