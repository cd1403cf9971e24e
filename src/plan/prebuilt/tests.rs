use super::*;
use crate::image::gpt::types::Designator;
use crate::image::signature::sign_root_hash;
use crate::image::testing::{Protection, disk, erofs, hash_tree, tree};
use crate::io::open::testing::write;
use crate::plan::Plan;
use crate::plan::testing::{bare, key_pair, planned, planned_for, release_path, said};

const RELEASE: &str = "ID=azurelinux\nVERSION_ID=3.0\nSYSEXT_ID=p\nARCHITECTURE=x86-64\n";

/// A folder with the keys `c.crt` and, in `in`, an image of this name.
fn with_image(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &format!("in/{name}"), bytes);
    key_pair(dir.path(), "c");
    dir
}

/// The plan for one extension with these keys.
fn one(dir: &Path, keys: &str) -> Result<Plan, Vec<Finding>> {
    planned(dir, &format!("sysext: {{extensions: [{{{keys}}}]}}\n"))
}

/// How the only extension comes to be: `taken`, `joined`, `folder`, or what the build changes.
fn step(plan: &Plan) -> String {
    match &plan.extensions[0].step {
        Step::PrebuiltImage(taken) => match &taken.from_parts {
            Some(join) => format!("joined for {}", join.arch),
            None => "taken".to_owned(),
        },
        Step::PrebuiltFolder(_) => "folder".to_owned(),
        Step::Build(step) => {
            let changes = step.changes.iter().map(|change| change.what.word());
            let changes: Vec<&str> = changes.collect();
            format!("{}: {}", step.verity.word(), changes.join(" "))
        }
    }
}

fn gpt(fields: &str, protected: Protection<'_>) -> Vec<u8> {
    disk(&bare("p", fields), Designator::Root, protected)
}

#[test]
fn an_image_is_placed_as_it_is_under_the_name_of_its_release_file() {
    let image = gpt(RELEASE, Protection::Hash);
    let dir = with_image("other.raw", &image);
    for (keys, destination) in [
        ("", "/var/lib/extensions/p.raw"),
        ("location: /etc/extensions, ", "/etc/extensions/p.raw"),
    ] {
        let text = format!("sysext: {{{keys}extensions: [./in/other.raw]}}\n");
        let plan = planned(dir.path(), &text).unwrap();
        let only = &plan.extensions[0];
        assert_eq!(step(&plan), "taken");
        assert_eq!(
            (only.name.as_str(), only.destination.as_str()),
            ("p", destination)
        );
        assert_eq!(only.image, dir.path().join("./in/other.raw"));
        assert_eq!(only.image_in_config, "in/other.raw");
        assert_eq!(only.layout(), Delivery::Image);
        assert_eq!(
            said(&plan.findings),
            ["placed-under-release-name sysext.extensions[0].image"]
        );
    }
}

#[test]
fn a_compressed_image_is_unpacked_into_the_folder_for_built_ones() {
    let image = bare("p", RELEASE);
    let dir = with_image("p.raw.zst", &zstd::encode_all(image.as_slice(), 1).unwrap());
    let plan = one(dir.path(), "image: in/p.raw.zst").unwrap();
    let only = &plan.extensions[0];
    assert_eq!(only.image, dir.path().join(".sysext/p.raw"));
    assert_eq!(only.image_in_config, ".sysext/p.raw");
    assert_eq!(only.layout(), Delivery::Bare);
    let inside = with_image("p.raw", &zstd::encode_all(image.as_slice(), 1).unwrap());
    let text = "sysext: {outputDirectory: in, extensions: [in/p.raw]}\n";
    let findings = planned(inside.path(), text).unwrap_err();
    assert_eq!(
        said(&findings),
        ["image-unreadable sysext.extensions[0].image"]
    );
    assert!(findings[0].message.contains("would replace it"));
}

#[test]
fn what_lies_beside_an_image_is_placed_beside_it() {
    let data = bare("p", RELEASE);
    let (tree, root) = hash_tree(&data);
    let dir = with_image("q.raw", &data);
    write(dir.path(), "in/q.verity", tree);
    write(dir.path(), "in/q.roothash", root.to_string());
    let plan = one(dir.path(), "image: ./in/q.raw").unwrap();
    let beside: Vec<_> = plan.extensions[0]
        .beside
        .iter()
        .map(|it| (it.in_config.as_str(), it.destination.as_str()))
        .collect();
    assert_eq!(
        beside,
        [
            ("in/q.roothash", "/var/lib/extensions/p.roothash"),
            ("in/q.verity", "/var/lib/extensions/p.verity"),
        ]
    );
}

#[test]
fn demands_on_an_image_are_judged_at_once() {
    let dir = with_image("p.raw", &gpt(RELEASE, Protection::Nothing));
    for (keys, expected) in [
        (
            "expect: [/usr/bin/x], forbid: [/opt/*], maxSize: 1G",
            vec![],
        ),
        (
            "expect: [/usr/bin/y]",
            vec!["expected-path-missing sysext.extensions[0].expect[0]"],
        ),
        (
            "forbid: [/opt, /usr/bin/*]",
            vec!["forbidden-path sysext.extensions[0].forbid[1]"],
        ),
        (
            "maxSize: 2K",
            vec!["too-large sysext.extensions[0].maxSize"],
        ),
        (
            "expect: [/a], maxSize: 0",
            vec![
                "expected-path-missing sysext.extensions[0].expect[0]",
                "too-large sysext.extensions[0].maxSize",
            ],
        ),
    ] {
        let found = one(dir.path(), &format!("image: in/p.raw, {keys}"));
        let found = found.map_or_else(|findings| said(&findings), |_| Vec::new());
        assert_eq!(found, expected, "{keys}");
    }
}

#[test]
fn a_folder_is_taken_with_what_says_how() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("p"), &release_path("p"), RELEASE);
    let plan = one(
        dir.path(),
        "image: ./p, keepOwners: true, maxSize: 1K, forbid: [/x]",
    )
    .unwrap();
    let only = &plan.extensions[0];
    assert_eq!(
        (only.image_in_config.as_str(), only.name.as_str()),
        ("p", "p")
    );
    assert_eq!(only.destination, "/var/lib/extensions/p");
    assert_eq!(only.layout(), Delivery::Directory);
    let Step::PrebuiltFolder(folder) = &only.step else {
        panic!("{only:?}")
    };
    assert!(folder.keep_owners);
    assert_eq!(
        (folder.limits.max_size, folder.limits.forbid.len()),
        (Some(1024), 1)
    );
    assert_eq!(
        said(&plan.findings),
        ["layout-unprotected sysext.extensions[0].image"]
    );
    let pin = "0".repeat(64);
    for (keys, expected) in [
        (
            format!("image: {{path: p, sha256: '{pin}'}}"),
            "wrong-value sysext.extensions[0].image.sha256",
        ),
        (
            "image: p, repair: auto".to_owned(),
            "repair-refused sysext.extensions[0].repair",
        ),
        (
            "image: p, name: q".to_owned(),
            "name-disagrees sysext.extensions[0].image",
        ),
        (
            "image: ., keepOwners: true".to_owned(),
            "release-file-missing sysext.extensions[0].image",
        ),
    ] {
        assert_eq!(
            said(&one(dir.path(), &keys).unwrap_err()),
            [expected],
            "{keys}"
        );
    }
}

#[test]
fn owners_of_an_image_are_what_they_are() {
    let dir = with_image("p.raw", &bare("p", RELEASE));
    assert_eq!(
        said(&one(dir.path(), "image: in/p.raw, keepOwners: true").unwrap_err()),
        ["key-without-effect sysext.extensions[0].keepOwners"]
    );
}

#[test]
fn only_what_a_rebuild_mends_is_rebuilt() {
    let by_amd64 = RELEASE.replace("x86-64", "amd64");
    let auto = "repair: auto";
    let key = "verityKey: k, verityCertificate: c.crt";
    for (fields, keys, expected) in [
        (RELEASE, "", "taken"),
        (RELEASE, auto, "taken"),
        (by_amd64.as_str(), "", "taken"),
        (&by_amd64, auto, "hash: architecture"),
        (&by_amd64, "repair: {except: [architecture]}", "taken"),
        (RELEASE, "name: q, repair: auto", "hash: release-file"),
        (RELEASE, "repair: auto, verity: none", "taken"),
        (RELEASE, "repair: auto, verity: defer", "defer: protection"),
        // A key says that it is to be signed.
        (RELEASE, &format!("{auto}, {key}"), "signed: protection"),
        (
            &by_amd64,
            &format!("{auto}, {key}, verity: hash"),
            "hash: architecture",
        ),
        (
            &by_amd64,
            &format!("{key}, repair: {{except: [protection]}}"),
            "hash: architecture",
        ),
    ] {
        let dir = with_image("p.raw", &gpt(fields, Protection::Hash));
        let plan = one(dir.path(), &format!("image: in/p.raw, {keys}")).unwrap();
        assert_eq!(step(&plan), expected, "{fields}{keys}");
        let told: &[&str] = match expected {
            "taken" => &[],
            _ => &["repaired sysext.extensions[0].image"],
        };
        assert_eq!(said(&plan.findings), told, "{fields}{keys}");
    }
}

#[test]
fn a_repaired_image_is_a_build_of_its_own_content() {
    let dir = with_image(
        "p.raw",
        &gpt("ID=x\nARCHITECTURE=aarch64\n", Protection::Hash),
    );
    let keys = "image: in/p.raw, name: q, repair: auto, maxSize: 1M, sourceDateEpoch: 4";
    let plan = one(dir.path(), keys).unwrap();
    let only = &plan.extensions[0];
    assert_eq!(only.image, dir.path().join(".sysext/q.raw"));
    assert_eq!(only.image_in_config, ".sysext/q.raw");
    assert_eq!(only.destination, "/var/lib/extensions/q.raw");
    let Step::Build(step) = &only.step else {
        panic!("{only:?}")
    };
    assert_eq!(
        (step.arch, step.partition_arch),
        (Some(Arch::ARM64), Arch::ARM64)
    );
    assert_eq!((step.layout, step.epoch), (Delivery::Image, Some(4)));
    let content = &step.content;
    assert_eq!(
        content.release.to_text().unwrap(),
        "ID=x\nARCHITECTURE=arm64\nSYSEXT_ID=q\n"
    );
    assert_eq!((content.keep_owners, content.reload), (true, Reload::Never));
    assert_eq!(content.limits.max_size, Some(1 << 20));
    let ContentSource::Image(image) = &content.source else {
        panic!("{content:?}")
    };
    assert_eq!(image.release_file, release_path("p"));
}

#[test]
fn without_a_declared_architecture_the_partition_tells_it_then_the_base() {
    let data = bare("p", "ID=x\n");
    for (image, profile, expected) in [
        (
            gpt("ID=x\n", Protection::Nothing),
            "debian-13-arm64",
            Arch::X86_64,
        ),
        (data.clone(), "debian-13-arm64", Arch::ARM64),
        (data, "debian-13", Arch::X86_64),
    ] {
        let dir = with_image("p.raw", &image);
        let text = "sysext: {extensions: [{image: in/p.raw, repair: auto}]}\n";
        let plan = planned_for(Some(profile), dir.path(), text).unwrap();
        let Step::Build(step) = &plan.extensions[0].step else {
            panic!("{plan:?}")
        };
        assert_eq!(
            (step.arch, step.partition_arch),
            (None, expected),
            "{profile}"
        );
    }
}

#[test]
fn a_signature_is_given_up_only_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (key, _) = key_pair(dir.path(), "c");
    let image = gpt(
        "ID=x\nSYSEXT_ID=p\nARCHITECTURE=amd64\n",
        Protection::Signed(&key),
    );
    write(dir.path(), "p.raw", image);
    let left_out = "repair-left-out sysext.extensions[0].image";
    let repaired = "repaired sysext.extensions[0].image";
    let own = "verityKey: k, verityCertificate: c.crt";
    for (keys, expected, told) in [
        ("repair: auto".to_owned(), "taken", left_out),
        (format!("repair: auto, {own}"), "taken", left_out),
        (
            format!("repair: auto, resign: true, {own}"),
            "signed: architecture",
            repaired,
        ),
        (
            format!("repair: {{except: [protection]}}, resign: true, {own}"),
            "signed: architecture",
            repaired,
        ),
    ] {
        let plan = one(dir.path(), &format!("image: p.raw, {keys}")).unwrap();
        assert_eq!(
            (step(&plan).as_str(), said(&plan.findings)),
            (expected, vec![told.to_owned()]),
            "{keys}"
        );
    }
    assert_eq!(
        said(&one(dir.path(), "image: p.raw, repair: auto, resign: true").unwrap_err()),
        ["key-missing sysext.extensions[0]"]
    );
}

#[test]
fn the_original_is_never_replaced() {
    let dir = with_image("p.raw", &gpt("ID=x\n", Protection::Nothing));
    let text = "sysext: {outputDirectory: in, extensions: [{image: in/p.raw, repair: auto}]}\n";
    let findings = planned(dir.path(), text).unwrap_err();
    assert_eq!(
        said(&findings),
        ["repair-refused sysext.extensions[0].image"]
    );
    let text = text.replace("repair: auto", "repair: auto, name: q");
    assert!(planned(dir.path(), &text).is_ok());
}

#[test]
fn hash_tree_and_signature_beside_an_image_are_put_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let (signer, _) = key_pair(dir.path(), "c");
    let fields = "ID=x\nSYSEXT_ID=p\nARCHITECTURE=arm64\n";
    let files = [(&*release_path("p"), fields), ("etc/never-merged", "")];
    let data = erofs(&tree(&files));
    let (hashes, root) = hash_tree(&data);
    write(dir.path(), "p.raw", &data);
    write(dir.path(), "p.verity", hashes);
    write(dir.path(), "p.roothash", root.to_string());
    write(
        dir.path(),
        "p.roothash.p7s",
        sign_root_hash(&signer, &root.to_string()).unwrap(),
    );
    let key = "verityKey: k, verityCertificate: c.crt";
    for (keys, expected, beside) in [
        ("", "taken", 3),
        ("repair: auto", "joined for arm64", 0),
        // A key asks for a signature, and there is one.
        (&format!("repair: auto, {key}"), "joined for arm64", 0),
        (
            &format!("repair: auto, resign: true, {key}"),
            "signed: protection outside",
            0,
        ),
        ("repair: {except: [protection]}", "taken", 3),
        (
            &format!("repair: auto, name: q, resign: true, {key}"),
            "signed: release-file protection outside",
            0,
        ),
    ] {
        let keys = format!("image: p.raw, {keys}");
        let plan = one(dir.path(), &keys).unwrap();
        assert_eq!(
            (step(&plan).as_str(), plan.extensions[0].beside.len()),
            (expected, beside),
            "{keys}"
        );
        if expected.starts_with("joined") {
            assert_eq!(plan.extensions[0].image_in_config, ".sysext/p.raw");
            assert_eq!(plan.extensions[0].layout(), Delivery::Image);
            assert_eq!(
                said(&plan.findings),
                ["repaired sysext.extensions[0].image"]
            );
        }
    }
    // Another name would need a new image, and so a new signature.
    assert_eq!(
        said(&one(dir.path(), "image: p.raw, repair: auto, name: q").unwrap_err()),
        ["name-disagrees sysext.extensions[0].image"]
    );
    write(dir.path(), "p.roothash", "0".repeat(64));
    assert_eq!(
        step(&one(dir.path(), "image: p.raw, repair: auto").unwrap()),
        "taken"
    );
}
