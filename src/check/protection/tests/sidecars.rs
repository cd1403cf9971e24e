//! What root hash, signature and hash tree beside an image come to.

use super::*;

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

fn lying(what: Beside) -> Sidecars {
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
        (Form::Empty, HashAndSignature, "250 252 257 258", SIGNED),
        (Form::Trusted, RootHash, since_250, SIGNED),
        (
            Form::Stranger,
            HashAndSignature,
            "250 252 257 258 259 262",
            SIGNED,
        ),
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
            let found = beside(form, &lying(what), &trusting(systemd));
            assert_eq!(found, expected, "{systemd} {form:?} {what:?}");
        }
    }
    let policy = "root=signed+absent";
    for (what, expected) in [(HashAndTree, REFUSED), (AllSigned, SIGNED)] {
        let found = beside(Bare, &lying(what), &with_policy("257", policy));
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
        assert_eq!(beside(form, &lying(what), &host), expected, "{what:?}");
    }
}
