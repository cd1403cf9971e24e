//! The values are those of systemd's rules as they were read and measured, not of the code.

mod policies;
mod sidecars;

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use Form::{
    Bare, Damaged, DamagedSigned, Empty, Garbled, Hash, Plain, Stranger, Trusted, UsrEmpty,
    UsrHash, UsrPlain, UsrStranger, UsrTrusted,
};
use Verdict::{BlocksAll, MergesSigned, MergesUnprotected, MergesVerity, Unknown};
use tempfile::TempDir;

use super::*;
use crate::check::testing::{RELEASE, folder, host};
use crate::check::{Candidate, Image, predict};
use crate::image::dissect;
use crate::image::signature::{Signer, sign_root_hash};
use crate::image::testing::{Protection as Protected, disk, erofs, signer, tree};
use crate::image::verity::RootHash;
use crate::image::x509::Certificate;
use crate::inspect::verify::verify_ddi;
use crate::io::progress::Progress;
use crate::systemd::kind::ExtensionKind;

/// An image; `Usr` begins the names of those whose partitions are of the usr types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// No partition table.
    Bare,
    /// One partition.
    Plain,
    Hash,
    /// Signed by a signer who is trusted.
    Trusted,
    Stranger,
    /// The signature partition holds zeros.
    Empty,
    /// The signature partition holds something else.
    Garbled,
    /// A hash tree that does not fit the content.
    Damaged,
    /// The same, signed.
    DamagedSigned,
    UsrPlain,
    UsrHash,
    UsrTrusted,
    UsrStranger,
    UsrEmpty,
}

/// All images and who signs.
struct Workshop {
    dir: TempDir,
    trusted: [Certificate; 1],
    signers: [Box<dyn Signer + Send + Sync>; 2],
}

static WORKSHOP: LazyLock<Workshop> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let ((own, certificate), (other, _)) = (signer("trusted"), signer("stranger"));
    let content = "content ".repeat(600);
    let fs = |usr: &str| {
        let release = format!("{usr}lib/extension-release.d/extension-release.x");
        erofs(&tree(&[
            (&release, RELEASE),
            (&format!("{usr}share/x"), &content),
        ]))
    };
    let (root, usr) = (fs("usr/"), fs(""));
    let of_root = |protected| disk(&root, Designator::Root, protected);
    let of_usr = |protected| disk(&usr, Designator::Usr, protected);
    let damaged = |mut image: Vec<u8>| {
        let at = image.windows(16).position(|it| it == b"content content ");
        image[at.unwrap()] ^= 1;
        image
    };
    for (form, bytes) in [
        (Bare, root.clone()),
        (Plain, of_root(Protected::Nothing)),
        (Hash, of_root(Protected::Hash)),
        (Trusted, of_root(Protected::Signed(&own))),
        (Stranger, of_root(Protected::Signed(&other))),
        (Empty, of_root(Protected::Room(b""))),
        (Garbled, of_root(Protected::Room(b"{\"rootHash\":1}"))),
        (Damaged, damaged(of_root(Protected::Hash))),
        (DamagedSigned, damaged(of_root(Protected::Signed(&own)))),
        (UsrPlain, of_usr(Protected::Nothing)),
        (UsrHash, of_usr(Protected::Hash)),
        (UsrTrusted, of_usr(Protected::Signed(&own))),
        (UsrStranger, of_usr(Protected::Signed(&other))),
        (UsrEmpty, of_usr(Protected::Room(b""))),
    ] {
        fs::write(dir.path().join(format!("{form:?}")), bytes).unwrap();
    }
    Workshop {
        dir,
        trusted: [certificate],
        signers: [Box::new(own), Box::new(other)],
    }
});

fn open(form: Form) -> Ddi {
    dissect::open(&WORKSHOP.dir.path().join(format!("{form:?}"))).unwrap()
}

/// The root hash of all root images that have one and are not damaged.
fn root_hash() -> RootHash {
    open(Hash).root_hash.unwrap()
}

/// A verdict with the id of its first reason, which may be empty.
type Told = (Verdict, &'static str);

/// What is said of an image with something beside it.
fn beside(form: Form, sidecars: &Sidecars, host: &Host<'_>) -> Told {
    let ddi = open(form);
    let report = verify_ddi(&ddi, &[], &Progress::new());
    told(
        Image::Disk(Box::new(ddi), Box::new(report), sidecars.clone()),
        host,
    )
}

fn told(image: Image, host: &Host<'_>) -> Told {
    let path = match image {
        Image::Folder { .. } => "/var/lib/extensions/x",
        _ => "/var/lib/extensions/x.raw",
    };
    let candidate = Candidate {
        kind: ExtensionKind::Sysext,
        at: None,
        path: path.to_owned(),
        name: "x".to_owned(),
        image,
    };
    let judgement = predict(host, &[candidate]).extensions.remove(0);
    let first = judgement.reasons.first();
    (judgement.verdict, first.map_or("", |reason| reason.id))
}

/// A base that trusts one signer.
fn trusting(systemd: &str) -> Host<'static> {
    let mut host = host(systemd);
    host.sysext.trusted = &WORKSHOP.trusted;
    host
}

/// A base with a policy, unless it is empty.
fn with_policy(systemd: &str, policy: &'static str) -> Host<'static> {
    let mut host = trusting(systemd);
    host.sysext.image_policy = (!policy.is_empty()).then_some(policy);
    host
}

/// What versions of systemd, separated by spaces, make of an image under a policy.
type Row = (&'static str, Form, &'static [(&'static str, Told)]);

fn hold(rows: &[Row]) {
    let mut wrong = Vec::new();
    for (policy, form, steps) in rows {
        for (versions, expected) in *steps {
            for systemd in versions.split(' ') {
                let found = beside(*form, &Sidecars::default(), &with_policy(systemd, policy));
                if found != *expected {
                    wrong.push(format!(
                        "{systemd} {form:?} `{policy}`: {found:?}, expected {expected:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const NOT_ACTIVATED: Told = (MergesUnprotected, "verity-not-activated");
const UNPROTECTED: Told = (MergesUnprotected, "");
const VERITY: Told = (MergesVerity, "");
const SIGNED: Told = (MergesSigned, "");
const REFUSED: Told = (BlocksAll, "policy-refuses-image");
const UNTRUSTED: Told = (BlocksAll, "signer-not-trusted");
const TRUST_WAIVED: Told = (MergesVerity, "signer-not-trusted");
const UNSIGNED: Told = (BlocksAll, "signature-missing");
const MISMATCH: Told = (BlocksAll, "verity-mismatch");
const USR_NOT_LOOKED_AT: Told = (MergesUnprotected, "usr-not-verified");

const TO_257: &str = "249 250 252 253 254 255 257";
const ALL: &str = "249 250 252 253 254 255 257 258 258.3 259 260 262";

#[test]
fn an_option_that_systemd_does_not_take_stops_folders_too() {
    let unsupported = (BlocksAll, "image-policy-unsupported");
    let syntax = (BlocksAll, "image-policy-syntax");
    for (systemd, policy, of_image, of_folder) in [
        ("249", "*", unsupported, unsupported),
        ("253", "root=signed", unsupported, unsupported),
        ("254", "bogus", syntax, syntax),
        ("262", "root=bogus", syntax, syntax),
        (
            "257",
            "root=read-only-on",
            (Unknown, "policy-not-evaluated"),
            UNPROTECTED,
        ),
        (
            "257",
            "root=signed",
            SIGNED,
            (MergesUnprotected, "policy-passes-over-folder"),
        ),
        ("257", "*", SIGNED, UNPROTECTED),
        ("257", "", SIGNED, UNPROTECTED),
    ] {
        let host = with_policy(systemd, policy);
        let image = beside(Trusted, &Sidecars::default(), &host);
        assert_eq!(image, of_image, "{systemd} {policy}");
        assert_eq!(told(folder("x"), &host), of_folder, "{systemd} {policy}");
    }
}

#[test]
fn variables_of_the_service_switch_parts_off() {
    for (name, form, versions, expected) in [
        (
            "SYSTEMD_DISSECT_VERITY_GUESS",
            Hash,
            "258 259 262",
            NOT_ACTIVATED,
        ),
        (
            "SYSTEMD_DISSECT_VERITY_GUESS",
            Trusted,
            "257 258 262",
            SIGNED,
        ),
        (
            "SYSTEMD_DISSECT_VERITY_EMBEDDED",
            Stranger,
            "250 257",
            NOT_ACTIVATED,
        ),
        (
            "SYSTEMD_DISSECT_VERITY_EMBEDDED",
            Stranger,
            "258 259 262",
            VERITY,
        ),
        (
            "SYSTEMD_DISSECT_VERITY_EMBEDDED",
            Empty,
            "250 257",
            NOT_ACTIVATED,
        ),
        ("SYSTEMD_DISSECT_VERITY_EMBEDDED", Empty, "258", VERITY),
    ] {
        for systemd in versions.split(' ') {
            for (value, holds) in [("0", true), ("no", true), ("1", false)] {
                let environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
                let mut host = trusting(systemd);
                let without = beside(form, &Sidecars::default(), &host);
                host.sysext.environment = &environment;
                let found = beside(form, &Sidecars::default(), &host);
                let expected = if holds { expected } else { without };
                assert_eq!(found, expected, "{systemd} {form:?} {name}={value}");
            }
        }
    }
}

#[test]
fn a_hash_tree_that_is_used_needs_a_kernel_and_a_library() {
    let no_library = (BlocksAll, "libcryptsetup-missing");
    let no_kernel = (BlocksAll, "kernel-without-dm-verity");
    let unknown = (Unknown, "kernel-unknown");
    for (systemd, policy, form, expected) in [
        ("257", "", Trusted, [no_library, no_kernel, unknown]),
        ("262", "", Hash, [no_library, no_kernel, unknown]),
        ("257", "", Plain, [UNPROTECTED; 3]),
        ("257", "", Hash, [NOT_ACTIVATED; 3]),
        ("257", "", UsrTrusted, [USR_NOT_LOOKED_AT; 3]),
        ("258", "root=unprotected", Hash, [NOT_ACTIVATED; 3]),
        // Metadata is read through dm-verity.
        (
            "259",
            "root=unprotected",
            Trusted,
            [no_library, no_kernel, unknown],
        ),
    ] {
        let host = || with_policy(systemd, policy);
        let mut hosts = [host(), host(), host()];
        hosts[0].has_cryptsetup = Some(false);
        hosts[1].kernel.dm_verity = Support::No;
        hosts[2].kernel.dm_verity = Support::Unknown;
        let found = hosts.map(|host| beside(form, &Sidecars::default(), &host));
        assert_eq!(found, expected, "{systemd} {policy} {form:?}");
    }
}
