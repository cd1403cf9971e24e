//! The values are those of systemd's rules as they were read and measured, not of the code.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use tempfile::TempDir;

use super::*;
use crate::base::folder::folder_content;
use crate::check::testing::{RELEASE, host};
use crate::check::{Candidate, Image, predict};
use crate::image::dissect;
use crate::image::signature::{Signer, sign_root_hash};
use crate::image::testing::{Protection as Protected, disk, erofs, signer, tree};
use crate::image::verity::RootHash;
use crate::image::x509::Certificate;
use crate::inspect::verify::verify_ddi;
use crate::io::open::testing::folder as files;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::systemd::kind::ExtensionKind;
use Form::{
    Bare, Damaged, DamagedSigned, Empty, Garbled, Hash, Plain, Stranger, Trusted, UsrEmpty,
    UsrHash, UsrPlain, UsrStranger, UsrTrusted,
};
use Verdict::{BlocksAll, MergesSigned, MergesUnprotected, MergesVerity, Unknown};

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
        class: ExtensionKind::Sysext,
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
fn systemds_own_policy_admits_everything_that_works() {
    // 249 knows no signature partition; up to 257 a root hash comes from a signature only, and the
    // signature of a usr partition is not looked for; from 258 on a root hash is guessed; from 259
    // on a hash tree is enough.
    hold(&[
        ("", Bare, &[(ALL, UNPROTECTED)]),
        ("", Plain, &[(ALL, UNPROTECTED)]),
        ("", UsrPlain, &[(ALL, UNPROTECTED)]),
        (
            "",
            Hash,
            &[(TO_257, NOT_ACTIVATED), ("258 258.3 259 262", VERITY)],
        ),
        (
            "",
            UsrHash,
            &[(TO_257, NOT_ACTIVATED), ("258 258.3 259 262", VERITY)],
        ),
        (
            "",
            Trusted,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 253 254 255 257 258 258.3 259 262", SIGNED),
            ],
        ),
        (
            "",
            Stranger,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 253 254 255 257 258 258.3", UNTRUSTED),
                ("259 260 262", TRUST_WAIVED),
            ],
        ),
        (
            "",
            Empty,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 253 254 255 257 258 258.3 259 262", UNSIGNED),
            ],
        ),
        (
            "",
            Garbled,
            &[
                ("249", NOT_ACTIVATED),
                (
                    "250 252 255 257 258 258.3 259 262",
                    (BlocksAll, "signature-unusable"),
                ),
            ],
        ),
        (
            "",
            Damaged,
            &[(TO_257, NOT_ACTIVATED), ("258 258.3 259 262", MISMATCH)],
        ),
        (
            "",
            DamagedSigned,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 255 257 258 258.3 259 262", MISMATCH),
            ],
        ),
        (
            "",
            UsrTrusted,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", SIGNED),
            ],
        ),
        (
            "",
            UsrStranger,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3", UNTRUSTED),
                ("259 262", TRUST_WAIVED),
            ],
        ),
        (
            "",
            UsrEmpty,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", UNSIGNED),
            ],
        ),
    ]);
}

#[test]
fn a_policy_that_asks_for_signatures_lets_nothing_else_through_but_a_usr_partition() {
    const POLICY: &str = "root=signed+absent:usr=signed+absent";
    const SINCE_254: &str = "254 255 257 258 258.3 259 262";
    hold(&[
        (POLICY, Bare, &[(SINCE_254, REFUSED)]),
        (POLICY, Plain, &[(SINCE_254, REFUSED)]),
        (POLICY, Hash, &[(SINCE_254, REFUSED)]),
        (POLICY, UsrPlain, &[(SINCE_254, REFUSED)]),
        (POLICY, UsrHash, &[(SINCE_254, REFUSED)]),
        (POLICY, Trusted, &[(SINCE_254, SIGNED)]),
        (POLICY, Stranger, &[(SINCE_254, UNTRUSTED)]),
        (POLICY, Empty, &[(SINCE_254, UNSIGNED)]),
        (POLICY, DamagedSigned, &[(SINCE_254, MISMATCH)]),
        (
            POLICY,
            UsrTrusted,
            &[
                ("254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", SIGNED),
            ],
        ),
        (
            POLICY,
            UsrStranger,
            &[
                ("254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", UNTRUSTED),
            ],
        ),
    ]);
}

#[test]
fn a_policy_without_signed_switches_the_check_of_signatures_off() {
    const VERITY_ONLY: &str = "root=verity";
    const NOTHING: &str = "root=unprotected";
    hold(&[
        (VERITY_ONLY, Plain, &[("254 255 257 258 259 262", REFUSED)]),
        (
            VERITY_ONLY,
            Hash,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258 258.3 259 262", VERITY),
            ],
        ),
        (
            VERITY_ONLY,
            Trusted,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258 258.3 259 262", VERITY),
            ],
        ),
        (
            VERITY_ONLY,
            Stranger,
            &[("254 255 257", NOT_ACTIVATED), ("258 259 262", VERITY)],
        ),
        // From 258.3 on metadata is read under systemd's own policy, which looks at the signature.
        (
            VERITY_ONLY,
            Empty,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258", VERITY),
                ("258.3 259 262", UNSIGNED),
            ],
        ),
        (
            VERITY_ONLY,
            DamagedSigned,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258 258.3 259 262", MISMATCH),
            ],
        ),
        (NOTHING, Bare, &[("254 255 257 258 259 262", UNPROTECTED)]),
        (NOTHING, Plain, &[("254 255 257 258 259 262", UNPROTECTED)]),
        (
            NOTHING,
            Hash,
            &[("254 255 257 258 258.3 259 262", NOT_ACTIVATED)],
        ),
        (
            NOTHING,
            Trusted,
            &[("254 255 257 258 258.3 259 262", NOT_ACTIVATED)],
        ),
        (
            NOTHING,
            Stranger,
            &[("254 255 257 258 259 262", NOT_ACTIVATED)],
        ),
        (
            NOTHING,
            Empty,
            &[
                ("254 255 257 258", NOT_ACTIVATED),
                ("258.3 259 262", UNSIGNED),
            ],
        ),
        (
            NOTHING,
            Damaged,
            &[
                ("254 255 257 258", NOT_ACTIVATED),
                ("258.3 259 262", MISMATCH),
            ],
        ),
    ]);
}

#[test]
fn partitions_that_a_policy_derives_must_be_there_unless_it_says_absent() {
    const SINCE_254: &str = "254 255 257 258 259 262";
    const TO_258: &str = "254 255 257 258";
    hold(&[
        ("root=verity+unprotected", Plain, &[(TO_258, REFUSED)]),
        ("root=verity+unprotected", Bare, &[(SINCE_254, UNPROTECTED)]),
        (
            "root=verity+unprotected+absent",
            Plain,
            &[(TO_258, UNPROTECTED)],
        ),
        (
            "root=verity+unprotected+absent",
            Bare,
            &[(SINCE_254, UNPROTECTED)],
        ),
        ("root=signed+unprotected", Plain, &[(TO_258, REFUSED)]),
        (
            "root=signed+unprotected+absent",
            Plain,
            &[(SINCE_254, UNPROTECTED)],
        ),
        // The strongest level that is left must be allowed; 258 counts it as the weaker ones, too.
        (
            "root=signed+unprotected+absent",
            Hash,
            &[("254 255 257", REFUSED), ("258", VERITY)],
        ),
        ("root=verity+signed+absent", Plain, &[(SINCE_254, REFUSED)]),
        ("root=verity+signed+absent", Bare, &[(SINCE_254, REFUSED)]),
        (
            "root=verity+signed+absent",
            Stranger,
            &[("254 255 257 258", UNTRUSTED), ("259 262", TRUST_WAIVED)],
        ),
        ("=unprotected", Plain, &[(SINCE_254, REFUSED)]),
        ("=unprotected", Bare, &[(SINCE_254, UNPROTECTED)]),
        ("=unprotected", UsrPlain, &[(SINCE_254, REFUSED)]),
        ("root=encrypted+absent", Plain, &[(SINCE_254, REFUSED)]),
        ("root=encrypted+absent", Bare, &[(SINCE_254, REFUSED)]),
        (
            "root=encrypted+unprotected",
            Plain,
            &[(SINCE_254, UNPROTECTED)],
        ),
        ("usr=unprotected", Plain, &[(SINCE_254, REFUSED)]),
        ("usr=unprotected", UsrPlain, &[(SINCE_254, UNPROTECTED)]),
        ("root=unprotected", UsrPlain, &[(SINCE_254, REFUSED)]),
        ("*", Plain, &[(SINCE_254, UNPROTECTED)]),
        ("*", UsrPlain, &[(SINCE_254, UNPROTECTED)]),
        ("*", Trusted, &[(SINCE_254, SIGNED)]),
        (
            "*",
            Stranger,
            &[("254 255 257 258", UNTRUSTED), ("259 262", TRUST_WAIVED)],
        ),
        ("-", Bare, &[(SINCE_254, REFUSED)]),
        ("-", Trusted, &[(SINCE_254, REFUSED)]),
        ("~", Bare, &[(SINCE_254, REFUSED)]),
        ("~", Plain, &[(SINCE_254, REFUSED)]),
        ("~", Trusted, &[(SINCE_254, REFUSED)]),
    ]);
}

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
        let dir = files(&[("usr/lib/extension-release.d/extension-release.x", RELEASE)]);
        let root = RootDir::open(dir.path()).unwrap();
        let content = folder_content(&root, "/".as_ref()).unwrap().unwrap();
        let folder = Image::Folder {
            content: Box::new(content),
            in_usr: false,
            local: None,
        };
        assert_eq!(told(folder, &host), of_folder, "{systemd} {policy}");
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

/// What lies beside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    RootHash,
    OtherRootHash,
    UsrHash,
    HashAndSignature,
    HashAndStrangers,
    Tree,
    HashAndTree,
    HashAndOtherTree,
    AllSigned,
    AllStrangers,
    Broken,
}

fn sidecars(what: Beside) -> Sidecars {
    use Beside::*;
    let root = root_hash();
    let hash = |designator| Some((designator, root.as_bytes().to_vec()));
    let by = |signer: usize| {
        let signer = &WORKSHOP.signers[signer];
        Some(sign_root_hash(signer.as_ref(), &root.to_string()).unwrap())
    };
    let tree = Some(Ok(root));
    let none = Sidecars::default();
    let known = Sidecars {
        root_hash: hash(Designator::Root),
        ..Sidecars::default()
    };
    match what {
        RootHash => known,
        OtherRootHash => Sidecars {
            root_hash: Some((Designator::Root, vec![7; 32])),
            ..none
        },
        UsrHash => Sidecars {
            root_hash: hash(Designator::Usr),
            ..none
        },
        HashAndSignature => Sidecars {
            signature: by(0),
            ..known
        },
        HashAndStrangers => Sidecars {
            signature: by(1),
            ..known
        },
        Tree => Sidecars {
            hash_tree: tree,
            ..none
        },
        HashAndTree => Sidecars {
            hash_tree: tree,
            ..known
        },
        HashAndOtherTree => Sidecars {
            hash_tree: Some(Ok([7; 32].into())),
            ..known
        },
        AllSigned => Sidecars {
            hash_tree: tree,
            signature: by(0),
            ..known
        },
        AllStrangers => Sidecars {
            hash_tree: tree,
            signature: by(1),
            ..known
        },
        Broken => Sidecars {
            unusable: Some("x.roothash.p7s is empty".to_owned()),
            ..none
        },
    }
}

#[test]
fn what_lies_beside_an_image_counts_and_must_fit() {
    use Beside::*;
    let other = (BlocksAll, "sidecar-root-hash");
    let tree = (BlocksAll, "sidecar-hash-tree");
    let by_kernel = (Unknown, "sidecar-signature");
    let incomplete = (MergesUnprotected, "sidecar-incomplete");
    let since_250 = "250 252 257 258 258.3 259 262";
    for (form, what, versions, expected) in [
        (Form::Hash, RootHash, ALL, VERITY),
        (Form::Hash, OtherRootHash, ALL, other),
        (Form::Plain, RootHash, "249 252 257 259 262", other),
        (
            Form::Hash,
            UsrHash,
            ALL,
            (BlocksAll, "sidecar-other-partition"),
        ),
        (Form::Hash, Tree, ALL, tree),
        (Form::Plain, Tree, ALL, tree),
        (Form::Hash, HashAndSignature, "249", by_kernel),
        (Form::Hash, HashAndSignature, since_250, SIGNED),
        (
            Form::Hash,
            HashAndStrangers,
            "250 252 257 258 258.3",
            UNTRUSTED,
        ),
        (Form::Hash, HashAndStrangers, "259 262", TRUST_WAIVED),
        // The partition is read unless root hash and signature are known.
        (Form::Empty, RootHash, "249", VERITY),
        (Form::Empty, RootHash, since_250, UNSIGNED),
        (Form::Empty, HashAndSignature, since_250, SIGNED),
        (Form::Trusted, RootHash, since_250, SIGNED),
        (Form::Stranger, HashAndSignature, since_250, SIGNED),
        (Form::Damaged, RootHash, ALL, MISMATCH),
        (Form::Bare, HashAndTree, ALL, VERITY),
        (Form::Bare, HashAndOtherTree, ALL, MISMATCH),
        (Form::Bare, AllSigned, "249", by_kernel),
        (Form::Bare, AllSigned, since_250, SIGNED),
        (Form::Bare, AllStrangers, "250 252 257 258 258.3", UNTRUSTED),
        (Form::Bare, AllStrangers, "259 262", TRUST_WAIVED),
        (Form::Bare, RootHash, ALL, incomplete),
        (Form::Bare, Tree, ALL, incomplete),
        (Form::Bare, Broken, ALL, (BlocksAll, "sidecar-unusable")),
        (Form::Trusted, Broken, ALL, (BlocksAll, "sidecar-unusable")),
    ] {
        for systemd in versions.split(' ') {
            let found = beside(form, &sidecars(what), &trusting(systemd));
            assert_eq!(found, expected, "{systemd} {form:?} {what:?}");
        }
    }
    let policy = "root=signed+absent";
    for (what, expected) in [(HashAndTree, REFUSED), (AllSigned, SIGNED)] {
        let found = beside(Bare, &sidecars(what), &with_policy("257", policy));
        assert_eq!(found, expected, "{what:?}");
    }
    // Nothing beside an image is looked at.
    let off = "SYSTEMD_DISSECT_VERITY_SIDECAR";
    let environment = BTreeMap::from([(off.to_owned(), "0".to_owned())]);
    let mut host = trusting("257");
    host.sysext.environment = &environment;
    for (form, what, expected) in [
        (Form::Bare, AllSigned, UNPROTECTED),
        (Form::Hash, OtherRootHash, NOT_ACTIVATED),
        (Form::Trusted, Broken, SIGNED),
    ] {
        assert_eq!(beside(form, &sidecars(what), &host), expected, "{what:?}");
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
