//! What `check` says of signatures, hash trees and policies, and what a booted Debian makes of it.
//!
//! Each case is a set of images, certificates and a policy. It is laid out in the root file system
//! and judged there by the program; then one machine boots and goes through all of them with its
//! own systemd-sysext and device-mapper.

use std::fs;
use std::path::{Path, PathBuf};

use prism_sysext::image::dissect;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::guest::{BOOTED, Stage, boot, possible};
use crate::harness::signer::Signer;
use crate::harness::tools::{command, output, run, transcript};
use crate::harness::trixie;

const EXTENSIONS: &str = "/var/lib/extensions";
const CERTIFICATES: &str = "/etc/verity.d";
const DROP_IN: &str = "/etc/systemd/system/systemd-sysext.service.d";
const ENABLED: &str = "/etc/systemd/system/sysinit.target.wants/systemd-sysext.service";

/// Image policies by name; the first is systemd's own.
const POLICIES: [(&str, &str); 6] = [
    ("default", ""),
    ("signed", "root=signed+absent:usr=signed+absent"),
    (
        "verity",
        "root=verity+signed+absent:usr=verity+signed+absent",
    ),
    ("unprotected", "root=unprotected+absent:usr=absent"),
    ("open", "root=verity+unprotected+absent:usr=absent"),
    ("deny", "-"),
];

/// What an image is.
const KINDS: [&str; 9] = [
    "signed", "foreign", "deferred", "hash", "plain", "naked", "squashfs", "data", "tree",
];

/// A case: images by file name and kind, certificates by file name and signer, a policy.
struct Case {
    name: String,
    images: Vec<(String, &'static str)>,
    certificates: Vec<(&'static str, &'static str)>,
    policy: &'static str,
}

const TRUSTED: (&str, &str) = ("trusted.crt", "trusted");

/// Each kind under some policies.
fn table(policies: &[(&'static str, &'static str)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (policy, text) in policies {
        for kind in KINDS {
            cases.push(Case {
                name: format!("{kind}-under-{policy}"),
                images: vec![("probe.raw".to_owned(), kind)],
                certificates: vec![TRUSTED],
                policy: text,
            });
        }
    }
    cases
}

/// What a table does not hold.
fn singles() -> Vec<Case> {
    let case = |name: &str, images: &[(&str, &'static str)], certificates: &[_]| Case {
        name: name.to_owned(),
        images: images
            .iter()
            .map(|(file, kind)| ((*file).to_owned(), *kind))
            .collect(),
        certificates: certificates.to_vec(),
        policy: "",
    };
    let signed = ("probe.raw", "signed");
    vec![
        case("no-certificate", &[signed], &[]),
        case(
            "certificate-of-another",
            &[signed],
            &[("other.crt", "other")],
        ),
        case(
            "certificate-in-pem",
            &[signed],
            &[("trusted.pem", "trusted")],
        ),
        case(
            "both-certificates",
            &[signed],
            &[TRUSTED, ("other.crt", "other")],
        ),
        case(
            "a-good-one-beside-a-foreign",
            &[signed, ("second.raw", "second-foreign")],
            &[TRUSTED],
        ),
        case(
            "two-good-ones",
            &[signed, ("second.raw", "second")],
            &[TRUSTED],
        ),
        case("renamed", &[("other.raw", "signed")], &[TRUSTED]),
        case("masked", &[signed, ("second.raw", "masked")], &[TRUSTED]),
        case(
            "ending-stripped-twice",
            &[("probe.raw.raw", "signed")],
            &[TRUSTED],
        ),
    ]
}

/// Images with files beside them: what systemd itself uses, and what it stumbles over.
fn beside() -> Vec<Case> {
    let (hash, sig, tree) = ("probe.roothash", "probe.roothash.p7s", "probe.verity");
    let naked: &[(&str, &str)] = &[(tree, "the-tree"), (hash, "the-hash")];
    let signed = &[naked, &[(sig, "the-signature")]].concat();
    let with = |more: (&'static str, &'static str)| [naked, &[more]].concat();
    let strict = POLICIES[1].1;
    let case = |name: &str, image: &'static str, beside: &[(&str, &'static str)], policy| Case {
        name: format!("beside-{image}-{name}"),
        images: [&[("probe.raw", image)], beside]
            .concat()
            .into_iter()
            .map(|(file, kind)| (file.to_owned(), kind))
            .collect(),
        certificates: vec![TRUSTED],
        policy,
    };
    vec![
        case("tree-and-hash", "naked", naked, ""),
        case("all", "naked", signed, ""),
        case("foreign", "naked", &with((sig, "foreign-signature")), ""),
        case("tree-alone", "naked", &[(tree, "the-tree")], ""),
        case("hash-alone", "naked", &[(hash, "the-hash")], ""),
        case("hash-and-signature", "naked", &signed[1..], ""),
        case(
            "usrhash",
            "naked",
            &[(tree, "the-tree"), ("probe.usrhash", "the-hash")],
            "",
        ),
        case(
            "other-hash",
            "naked",
            &[(tree, "the-tree"), (hash, "other-hash")],
            "",
        ),
        case(
            "bent-tree",
            "naked",
            &[(tree, "bent-tree"), (hash, "the-hash")],
            "",
        ),
        case("short-hash", "naked", &[(hash, "short-hash")], ""),
        case("empty-signature", "naked", &with((sig, "nothing")), ""),
        case("hash", "signed", &[(hash, "the-hash")], ""),
        case("other-hash", "signed", &[(hash, "other-hash")], ""),
        case("tree", "signed", &[(tree, "the-tree")], ""),
        case("usrhash", "signed", &[("probe.usrhash", "the-hash")], ""),
        case("hash", "hash", &[(hash, "the-hash")], ""),
        case("signature", "hash", &signed[1..], ""),
        case("hash", "foreign", &[(hash, "the-hash")], ""),
        case("signature", "foreign", &signed[1..], ""),
        case("hash", "deferred", &[(hash, "the-hash")], ""),
        case("strict", "naked", signed, strict),
        case("strict-unsigned", "naked", naked, strict),
        case("strict", "signed", &[(hash, "the-hash")], strict),
        case("strict", "hash", &signed[1..], strict),
        case(
            "strict-usrhash",
            "signed",
            &[("probe.usrhash", "the-hash")],
            strict,
        ),
    ]
}

/// Where images are made.
struct Workshop {
    dir: TempDir,
    trusted: Signer,
    other: Signer,
}

impl Workshop {
    fn new(rootfs: &Path) -> Workshop {
        let workshop = Workshop {
            dir: TempDir::new().unwrap(),
            trusted: Signer::new("trusted"),
            other: Signer::new("other"),
        };
        let by = |signer: &Signer| {
            let (key, certificate) = (signer.key(), signer.certificate());
            format!(
                "verity: signed, verityKey: 'file:{}', verityCertificate: {}",
                key.display(),
                certificate.display()
            )
        };
        let deferred = format!(
            "verity: defer, verityCertificate: {}",
            workshop.trusted.certificate().display()
        );
        for (kind, name, keys) in [
            ("signed", "probe", by(&workshop.trusted)),
            ("foreign", "probe", by(&workshop.other)),
            ("deferred", "probe", deferred),
            ("hash", "probe", "verity: hash".to_owned()),
            ("plain", "probe", "verity: none".to_owned()),
            (
                "squashfs",
                "probe",
                format!("format: squashfs, {}", by(&workshop.trusted)),
            ),
            ("second", "second", by(&workshop.trusted)),
            ("second-foreign", "second", by(&workshop.other)),
        ] {
            let config = format!(
                "sysext:\n  extensions:\n  - {{name: {name}, {keys}, compression: {}, files: [{{content: '{name}', destination: /usr/share/{name}/probe}}]}}\n",
                if kind == "squashfs" { "zstd" } else { "none" }
            );
            let config_file = workshop.dir.path().join(format!("{kind}.yaml"));
            fs::write(&config_file, config).unwrap();
            run(command(env!("CARGO_BIN_EXE_prism-sysext"))
                .args(["build", "--rootfs"])
                .arg(rootfs)
                .arg("--config-file")
                .arg(&config_file)
                .arg("--output-dir")
                .arg(workshop.dir.path().join(kind)));
            let built = workshop.dir.path().join(kind).join(format!("{name}.raw"));
            fs::rename(built, workshop.image(kind)).unwrap();
        }
        let signed = fs::read(workshop.image("signed")).unwrap();
        let described = dissect::open(&workshop.image("signed")).unwrap();
        let part = |part: Option<dissect::Part>| usize::try_from(part.unwrap().offset).unwrap();
        let (data, tree) = (part(described.data), part(described.hash));
        let put = |kind: &str, bytes: &[u8]| fs::write(workshop.image(kind), bytes).unwrap();
        let flipped = |at: usize| {
            let mut bytes = signed.clone();
            bytes[at] ^= 1;
            bytes
        };
        let text = signed
            .windows(5)
            .rposition(|window| window == b"probe")
            .unwrap();
        put("data", &flipped(text));
        // After the superblock.
        put("tree", &flipped(tree + 4096 + 7));
        put("naked", &signed[data..tree]);
        let hash = described.hash.unwrap();
        let area = &signed[tree..][..usize::try_from(hash.size).unwrap()];
        put("the-tree", area);
        let mut bent = area.to_vec();
        bent[4096 + 7] ^= 1;
        put("bent-tree", &bent);
        let root_hash = described.root_hash.unwrap().to_string();
        put("the-hash", root_hash.as_bytes());
        put("short-hash", b"abcdef");
        put("nothing", b"");
        let other = root_hash.replace(['0', '1'], "2");
        put("other-hash", other.as_bytes());
        for (kind, from) in [
            ("the-signature", "signed"),
            ("foreign-signature", "foreign"),
        ] {
            let image = dissect::open(&workshop.image(from)).unwrap();
            assert_eq!(
                image.root_hash.unwrap().to_string(),
                root_hash,
                "one content"
            );
            let dissect::SignatureState::Present { partition, .. } = image.signature else {
                panic!("{from} is not signed");
            };
            put(kind, &partition.signature);
        }
        workshop
    }

    fn image(&self, kind: &str) -> PathBuf {
        self.dir.path().join(format!("{kind}.img"))
    }

    fn certificate(&self, signer: &str) -> PathBuf {
        match signer {
            "trusted" => self.trusted.certificate(),
            _ => self.other.certificate(),
        }
    }
}

/// What is merged into `/usr`, or that nothing is; and whether it is protected.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    merged: Vec<String>,
    verity: bool,
}

/// Lays a case out in the root, has it judged, and moves it aside for the machine.
fn predict(case: &Case, index: usize, rootfs: &trixie::Rootfs, workshop: &Workshop) -> Outcome {
    let aside = rootfs.at(&format!("/referee/{index}"));
    for folder in [EXTENSIONS, CERTIFICATES, DROP_IN] {
        let folder = rootfs.at(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
    }
    for (file, kind) in &case.images {
        let place = rootfs.at(EXTENSIONS).join(file);
        match *kind {
            "masked" => std::os::unix::fs::symlink("/dev/null", place).unwrap(),
            kind => drop(fs::copy(workshop.image(kind), place).unwrap()),
        }
    }
    for (file, signer) in &case.certificates {
        let place = rootfs.at(CERTIFICATES).join(file);
        fs::copy(workshop.certificate(signer), place).unwrap();
    }
    if !case.policy.is_empty() {
        let text = format!(
            "[Service]\nExecStart=\nExecStart=systemd-sysext refresh --image-policy={}\n",
            case.policy
        );
        fs::write(rootfs.at(DROP_IN).join("policy.conf"), text).unwrap();
    }
    let said = output(
        command(env!("CARGO_BIN_EXE_prism-sysext"))
            .args([
                "check",
                "--output",
                "json",
                "--config-file",
                "/nothing",
                "--rootfs",
            ])
            .arg(rootfs.path()),
    );
    let said: Value = serde_json::from_slice(&said.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}\n{}", case.name, transcript(&said)));
    let judged = said["prediction"]
        .as_object()
        .map_or(&said, |_| &said["prediction"]);
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let extensions = judged["extensions"].as_array().unwrap();
    let is = |verdicts: &[&str]| {
        let mut all = extensions.iter();
        all.any(|it| verdicts.contains(&it["verdict"].as_str().unwrap()))
    };
    assert!(!is(&["unknown"]), "{}: {said:#}", case.name);
    let merged = judged["stack"]["merged"].as_bool();
    let merged = merged.unwrap_or_else(|| panic!("{}: {said:#}", case.name));
    fs::create_dir_all(&aside).unwrap();
    for (folder, name) in [(EXTENSIONS, "extensions"), (CERTIFICATES, "verity.d")] {
        fs::rename(rootfs.at(folder), aside.join(name)).unwrap();
    }
    fs::remove_dir_all(rootfs.at(DROP_IN)).unwrap();
    Outcome {
        merged: match merged {
            true => texts(&judged["stack"]["layers"]),
            false => Vec::new(),
        },
        verity: merged && is(&["merges-signed", "merges-verity"]),
    }
}

/// Shell commands that bring a case about.
fn bring_about(case: &Case, index: usize) -> String {
    let policy = match case.policy {
        "" => String::new(),
        policy => format!("--image-policy={policy}"),
    };
    // Not shared: a device of an earlier case with the same root hash may still be active.
    format!(
        "systemd-sysext unmerge\nrm -rf {EXTENSIONS} {CERTIFICATES}\n\
         cp -a /referee/{index}/extensions {EXTENSIONS}\n\
         cp -a /referee/{index}/verity.d {CERTIFICATES}\n\
         dmsetup remove_all\n\
         SYSTEMD_VERITY_SHARING=0 systemd-sysext refresh {policy} || true"
    )
}

fn compare(suite: &str, cases: &[Case]) {
    if !possible() {
        return;
    }
    let Some(rootfs) = trixie::rootfs_of(suite) else {
        return;
    };
    let _ = fs::remove_file(rootfs.at(ENABLED));
    let workshop = Workshop::new(&rootfs.path());
    fs::create_dir_all(rootfs.at(ENABLED).parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(
        "/usr/lib/systemd/system/systemd-sysext.service",
        rootfs.at(ENABLED),
    )
    .unwrap();
    let numbered = || cases.iter().enumerate();
    let predicted: Vec<Outcome> = numbered()
        .map(|(index, case)| predict(case, index, &rootfs, &workshop))
        .collect();
    fs::create_dir_all(rootfs.at(EXTENSIONS)).unwrap();
    let commands: Vec<String> = numbered()
        .map(|(index, case)| bring_about(case, index))
        .collect();
    let mut stages = vec![BOOTED];
    stages.extend(cases.iter().zip(&commands).map(|(case, before)| Stage {
        name: &case.name,
        before,
        log: false,
    }));
    let reports = boot(&rootfs, &stages, &[]);
    let mut wrong = Vec::new();
    for (report, (case, predicted)) in reports.iter().skip(1).zip(cases.iter().zip(&predicted)) {
        let merged = report
            .merged("/usr")
            .into_iter()
            .map(str::to_owned)
            .collect();
        let seen = Outcome {
            verity: !report.verity.is_empty(),
            merged,
        };
        if seen != *predicted {
            wrong.push(format!(
                "{}: predicted {predicted:?}, seen {seen:?}",
                case.name
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{suite}, {} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let merging = predicted
        .iter()
        .filter(|outcome| !outcome.merged.is_empty())
        .count();
    eprintln!(
        "{suite}: {} cases booted, {merging} merge, none predicted wrongly",
        cases.len()
    );
    assert!(
        merging > 2 && merging < cases.len(),
        "cases of one kind only"
    );
}

/// Systemd's own policy and the strict one, and what is no matter of policy.
#[test]
fn the_machine_does_what_was_predicted() {
    let mut cases = table(&POLICIES[..2]);
    cases.extend(singles());
    // Every other one: the rest is in the long test.
    cases.extend(beside().into_iter().step_by(2));
    compare("trixie", &cases);
}

#[test]
#[ignore = "slow: boots two machines of 88 cases each"]
fn the_machine_does_what_was_predicted_under_every_policy() {
    for suite in ["trixie", "forky"] {
        let mut cases = table(&POLICIES);
        cases.extend(singles());
        cases.extend(beside());
        compare(suite, &cases);
    }
}
