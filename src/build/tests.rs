use std::fs;

use super::testing::{KEY, built, ids, planned, write_key};
use super::*;
use crate::image::signature::SignerVerdict;
use crate::inspect::verify::verify;
use crate::io::open::testing::write;

/// An extension with one file, and more keys.
fn extension(name: &str, keys: &str) -> String {
    format!(
        "  - {{name: {name}, files: [{{content: hello, destination: /usr/share/{name}}}], {keys}}}\n"
    )
}

#[test]
fn an_image_has_the_protection_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write_key(dir.path());
    for (keys, section, hash, state) in [
        ("verity: none", "", false, "absent"),
        ("layout: bare", "", false, "absent"),
        ("verity: hash", "", true, "absent"),
        ("verity: defer", "", true, "empty"),
        ("", KEY, true, "present"),
        ("verity: signed", KEY, true, "present"),
        ("verity: hash", KEY, true, "absent"),
    ] {
        let section = format!("{section}  extensions:\n{}", extension("a", keys));
        let plan = planned(dir.path(), &section);
        let made = built(&plan).unwrap();
        let [BuiltImage { path, entry }] = made.images.as_slice() else {
            panic!("{made:?}");
        };
        assert_eq!(*path, dir.path().join("out/a.raw"));
        let ddi = dissect::open(path).unwrap();
        let found = match &ddi.signature {
            SignatureState::Absent => "absent",
            SignatureState::Empty => "empty",
            SignatureState::Present { .. } => "present",
            SignatureState::Unusable(why) => panic!("{why}"),
        };
        assert_eq!(
            (ddi.hash.is_some(), found),
            (hash, state),
            "{keys} {section}"
        );
        let root_hash = ddi.root_hash.map(|root| root.to_string());
        assert_eq!(entry.root_hash, root_hash);
        assert_eq!(entry.certificate_fingerprint.is_some(), state == "present");
        assert_eq!(entry.origin, Origin::Built);
        assert_eq!(entry.size, fs::metadata(path).unwrap().len());
        let trusted: Vec<_> = plan
            .certificates
            .iter()
            .map(|it| it.certificate.clone())
            .collect();
        let report = verify(path, &trusted).unwrap();
        assert!(report.is_good(), "{report:#?}");
        assert_eq!(report.is_signed(), state == "present");
        let request = dir.path().join("out/a.sign-request.json");
        assert_eq!(fs::remove_file(request).is_ok(), state == "empty");
    }
}

#[test]
fn a_signature_that_was_attached_is_found_by_the_next_build() {
    let dir = tempfile::tempdir().unwrap();
    write_key(dir.path());
    let key = fs::read(dir.path().join("key.pem")).unwrap();
    let defer = format!(
        "  certificates: [cert.pem]\n  extensions:\n{}",
        extension("a", "verity: defer")
    );
    let plan = planned(dir.path(), &defer);
    let first = built(&plan).unwrap();
    let ddi = dissect::open(&first.images[0].path).unwrap();
    let certificate = &plan.certificates[0].certificate;
    let key = crate::image::signature::KeyFile::from_pem(&key, certificate).unwrap();
    let root = ddi.root_hash.unwrap().to_string();
    let signature = crate::image::signature::sign_root_hash(&key, &root).unwrap();
    write(dir.path(), "answer", signature);
    let signature = deferred::read_signature(&ddi, &dir.path().join("answer"), None).unwrap();
    deferred::attach(&ddi, &signature).unwrap();
    let again = built(&plan).unwrap();
    let fingerprint = &again.images[0].entry.certificate_fingerprint;
    assert_eq!(
        *fingerprint,
        Some(certificate.fingerprint_sha256_hex.clone())
    );
    assert_eq!(again.images[0].entry.root_hash, Some(root.clone()));
    let ddi = dissect::open(&again.images[0].path).unwrap();
    let SignatureState::Present { partition, .. } = ddi.signature else {
        panic!("{:?}", ddi.signature);
    };
    let trusted = std::slice::from_ref(certificate);
    let verdict = crate::image::signature::check(&partition.signature, &root, trusted);
    assert!(matches!(verdict, SignerVerdict::Trusted(_)), "{verdict:?}");
}

#[test]
fn all_that_is_wrong_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write_key(dir.path());
    fs::write(dir.path().join("key.pem"), "no key").unwrap();
    let gone = "  - {name: b, files: [{source: gone, destination: /usr/share/b}]}\n";
    let section = format!(
        "{KEY}  extensions:\n{}{gone}{}",
        extension("a", ""),
        extension("c", "verity: hash")
    );
    let plan = planned(dir.path(), &section);
    let found = ids(built(&plan).unwrap_err());
    // Of the key once, though two are signed by it.
    assert_eq!(found, ["key-refused", "file-unreadable"]);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn what_is_too_large_or_in_the_way_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let small = format!(
        "  extensions:\n{}",
        extension("a", "verity: none, maxSize: 8K")
    );
    let error = built(&planned(dir.path(), &small)).unwrap_err();
    let findings = error.downcast::<Findings>().unwrap();
    assert_eq!(findings.0[0].id, "too-large");
    let help = findings.0[0].help.as_deref().unwrap_or_default();
    assert!(help.contains("/usr/share/a (5 bytes)"), "{help}");
    assert!(!dir.path().join("out/a.raw").exists());

    fs::remove_dir_all(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out"), "").unwrap();
    let plan = planned(
        dir.path(),
        &format!("  extensions:\n{}", extension("a", "verity: none")),
    );
    assert_eq!(ids(built(&plan).unwrap_err()), ["output-folder"]);
}

#[test]
fn the_same_plan_gives_the_same_bytes_and_a_seed_other_ids() {
    let dir = tempfile::tempdir().unwrap();
    let made = |keys: &str| {
        let section = format!("  extensions:\n{}", extension("a", keys));
        let made = built(&planned(dir.path(), &section)).unwrap();
        let bytes = fs::read(&made.images[0].path).unwrap();
        let (sha256, _) = sha256_and_sha384(
            &open::open(&made.images[0].path).unwrap(),
            bytes.len() as u64,
            &Progress::new(),
        )
        .unwrap();
        assert_eq!(made.images[0].entry.sha256, Some(sha256));
        bytes
    };
    let seed = format!("verity: hash, seed: \"{}\"", "5".repeat(64));
    let first = made("verity: hash");
    assert!(first == made("verity: hash"));
    assert!(first != made(&seed));
    assert!(first != made("verity: hash, sourceDateEpoch: 1"));
}

#[test]
fn the_manifest_lists_what_was_built_in_the_order_of_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let section = format!(
        "  extensions:\n{}{}",
        extension("b", "verity: hash"),
        extension("a", "version: 1.0, layout: directory")
    );
    let plan = planned(dir.path(), &section);
    let built = built(&plan).unwrap();
    let paths: Vec<&str> = built.folders.iter().map(|it| it.path.as_str()).collect();
    assert!(paths.contains(&"/usr/share"), "{paths:?}");
    let path = write_manifest(&plan, &built, &["--force".to_owned()]).unwrap();
    assert_eq!(path, dir.path().join("out/sysext-manifest.json"));
    let text: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(text["overrides"], serde_json::json!(["--force"]));
    for (number, name, image, layout) in [(0, "b", "b.raw", "image"), (1, "a", "a", "directory")] {
        let entry = &text["extensions"][number];
        assert_eq!(
            (&entry["name"], &entry["image"]),
            (&name.into(), &image.into())
        );
        assert_eq!(entry["layout"], layout);
        assert_eq!(entry["release"]["ID"], "azurelinux");
        assert_eq!(entry["release"]["SYSEXT_ID"], name);
    }
}
