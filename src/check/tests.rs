use super::testing::{folder, host};
use super::*;

fn candidate(name: &str, path: &str, image: Image) -> Candidate {
    Candidate {
        kind: ExtensionKind::Sysext,
        at: Some("sysext.extensions[0]".to_owned()),
        path: path.to_owned(),
        name: name.to_owned(),
        image,
    }
}

fn first(judgement: &Judgement) -> &'static str {
    judgement.reasons.first().map_or("", |reason| reason.id)
}

#[test]
fn a_name_is_judged_before_and_after_what_it_is_of() {
    let (fits, long) = ("n".repeat(237), "n".repeat(238));
    for (name, verdict, reason) in [
        ("x", Verdict::MergesUnprotected, ""),
        ("a b#c", Verdict::MergesUnprotected, ""),
        (&fits, Verdict::MergesUnprotected, ""),
        (&long, Verdict::BlocksAll, "name-refused"),
        ("a:b", Verdict::BlocksAll, "name-refused"),
        ("a,b", Verdict::BlocksAll, "name-refused"),
        (".#a", Verdict::Ignored, "name-refused"),
        ("a\u{1}", Verdict::Ignored, "name-refused"),
    ] {
        let image = folder(if name.len() > 237 { "x" } else { name });
        let found = predict(&host("257"), &[candidate(name, "/etc/extensions/x", image)]);
        let judgement = &found.extensions[0];
        assert_eq!(
            (judgement.verdict, first(judgement)),
            (verdict, reason),
            "{name}"
        );
    }
    // What is passed over can't break the overlay.
    let other = candidate("a:b", "/etc/extensions/x", folder("other"));
    let found = predict(&host("257"), &[other]);
    assert_eq!(found.extensions[0].verdict, Verdict::Ignored);
}

#[test]
fn what_is_no_image_or_on_no_known_systemd() {
    let in_usr = || match folder("x") {
        Image::Folder { content, local, .. } => Image::Folder {
            content,
            in_usr: true,
            local,
        },
        other => other,
    };
    let unreadable = || Image::Unreadable("it is cut".to_owned());
    use Verdict::{BlocksAll, Ignored, MergesUnprotected, Unknown};
    for (systemd, image, verdict, reason) in [
        ("249", folder("x"), MergesUnprotected, ""),
        ("262", folder("x"), MergesUnprotected, ""),
        ("no version", folder("x"), Unknown, "systemd-unknown"),
        ("248", folder("x"), Unknown, "systemd-not-covered"),
        ("263", unreadable(), Unknown, "systemd-not-covered"),
        ("257", unreadable(), BlocksAll, "image-unreadable"),
        ("257", Image::Other("a block device"), Unknown, "not-judged"),
        ("253", in_usr(), BlocksAll, "folder-in-usr"),
        ("257", folder("y"), Ignored, "release-file-missing"),
    ] {
        let found = predict(
            &host(systemd),
            &[candidate("x", "/etc/extensions/x", image)],
        );
        let judgement = &found.extensions[0];
        assert_eq!(
            (judgement.verdict, first(judgement)),
            (verdict, reason),
            "{systemd}"
        );
    }
}

#[test]
fn of_one_name_and_class_the_first_is_used() {
    let confext = Candidate {
        kind: ExtensionKind::Confext,
        ..candidate("x", "/run/confexts/x", folder("x"))
    };
    let found = predict(
        &host("257"),
        &[
            candidate("x", "/etc/extensions/x", folder("x")),
            candidate(
                "x",
                "/run/extensions/x.raw",
                Image::Unreadable(String::new()),
            ),
            candidate("y", "/run/extensions/y", folder("y")),
            confext,
        ],
    );
    let reasons: Vec<&str> = found.extensions.iter().map(first).collect();
    assert_eq!(reasons, ["", "shadowed", "", "release-file-missing"]);
    assert_eq!(found.extensions[1].verdict, Verdict::Ignored);
    assert_eq!(found.stack.layers, ["x", "y"]);
    let kinds: Vec<ExtensionKind> = found.stacks().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [ExtensionKind::Sysext, ExtensionKind::Confext]);
}

#[test]
fn a_base_without_confexts_has_no_stack_of_them() {
    let found = predict(
        &host("257"),
        &[candidate("x", "/etc/extensions/x", folder("x"))],
    );
    assert!(found.confext_stack.is_none());
    let confext = Candidate {
        kind: ExtensionKind::Confext,
        ..candidate("x", "/run/confexts/x", folder("x"))
    };
    // Nobody asked for the service that is not there.
    let mut base = host("257");
    base.sysext.activation = Activation::Missing;
    let found = predict(&base, &[confext]);
    assert_eq!(found.stack.merged, Some(false));
    assert!(found.stack.reasons.is_empty());
}

/// An extension: its kind, whether it is listed, its verdict and the ids of its errors.
type Extension = (ExtensionKind, bool, Verdict, &'static [&'static str]);

/// What was predicted of extensions whose stack has some reasons against it.
fn prediction(
    extensions: &[Extension],
    merged: Option<bool>,
    reasons: &[&'static str],
) -> Prediction {
    let errors = |ids: &[&'static str]| -> Vec<Finding> {
        ids.iter().map(|id| Finding::error(id, "")).collect()
    };
    let judgements = extensions
        .iter()
        .map(|(kind, listed, verdict, ids)| Judgement {
            kind: *kind,
            name: "x".to_owned(),
            path: "/x".to_owned(),
            listed: *listed,
            verdict: *verdict,
            reasons: errors(ids),
            filled: BTreeSet::new(),
        });
    Prediction {
        extensions: judgements.collect(),
        stack: Stack {
            merged,
            layers: Vec::new(),
            hierarchies: Vec::new(),
            reasons: errors(reasons),
        },
        confext_stack: None,
    }
}

#[test]
fn only_what_is_allowed_is_let_pass() {
    use ExtensionKind::Sysext;
    use Verdict::{BlocksAll, Ignored, MergesSigned, MergesUnprotected, Unknown};
    const UNSIGNED: Extension = (Sysext, true, BlocksAll, &["signature-missing"]);
    const GOOD: Extension = (Sysext, true, MergesUnprotected, &[]);
    const YES: [bool; 3] = [true; 3];
    const NEVER: [bool; 3] = [false; 3];
    // Strictly, with what is unknown, with what is unsigned.
    type Row = (
        &'static [Extension],
        Option<bool>,
        &'static [&'static str],
        [bool; 3],
    );
    let rows: &[Row] = &[
        (&[], Some(true), &[], YES),
        (&[], Some(false), &["service-masked"], NEVER),
        (&[], None, &["base-incomplete"], [false, true, false]),
        (
            &[GOOD, (Sysext, true, MergesSigned, &[])],
            Some(true),
            &[],
            YES,
        ),
        (
            &[(Sysext, true, Unknown, &[])],
            None,
            &[],
            [false, true, false],
        ),
        (
            &[(Sysext, false, Unknown, &[])],
            None,
            &[],
            [false, true, false],
        ),
        (
            &[(Sysext, true, Ignored, &["shadowed"])],
            Some(true),
            &[],
            NEVER,
        ),
        (
            &[GOOD, (Sysext, false, Ignored, &["shadowed"])],
            Some(true),
            &[],
            YES,
        ),
        (&[UNSIGNED], Some(false), &[], [false, false, true]),
        (
            &[GOOD, UNSIGNED],
            Some(false),
            &["merge-blocked"],
            [false, false, true],
        ),
        (&[UNSIGNED], Some(false), &["service-not-enabled"], NEVER),
        (
            &[(
                Sysext,
                true,
                BlocksAll,
                &["signature-missing", "name-refused"],
            )],
            Some(false),
            &[],
            NEVER,
        ),
        (
            &[UNSIGNED, (Sysext, false, BlocksAll, &["image-unreadable"])],
            Some(false),
            &["merge-blocked"],
            NEVER,
        ),
        (
            &[GOOD, (Sysext, false, BlocksAll, &["image-unreadable"])],
            Some(false),
            &["merge-blocked"],
            NEVER,
        ),
    ];
    for (extensions, merged, reasons, expected) in rows {
        let prediction = prediction(extensions, *merged, reasons);
        let good = [(false, false), (true, false), (false, true)]
            .map(|(unknown, unsigned)| prediction.is_good(Allowed { unknown, unsigned }));
        assert_eq!(good, *expected, "{extensions:?} {merged:?} {reasons:?}");
    }
}

#[test]
fn a_stack_counts_if_something_of_it_is_listed_or_nothing_is() {
    use ExtensionKind::{Confext, Sysext};
    let sysext = |listed| (Sysext, listed, Verdict::MergesVerity, [].as_slice());
    let confext = |listed| (Confext, listed, Verdict::MergesVerity, [].as_slice());
    for (extensions, of_sysext, of_confext, expected) in [
        ([sysext(true), confext(true)], true, true, true),
        ([sysext(true), confext(true)], false, true, false),
        ([sysext(true), confext(true)], true, false, false),
        ([sysext(true), confext(false)], true, false, true),
        ([sysext(false), confext(true)], false, true, true),
        ([sysext(false), confext(false)], false, true, false),
        ([sysext(false), confext(false)], true, false, true),
    ] {
        let mut found = prediction(&extensions, Some(of_sysext), &[]);
        found.confext_stack = prediction(&[], Some(of_confext), &[]).stack.into();
        let good = found.is_good(Allowed::default());
        assert_eq!(good, expected, "{extensions:?} {of_sysext} {of_confext}");
    }
}

#[test]
fn a_merge_that_hides_the_base_is_not_good() {
    let mut found = prediction(&[], Some(true), &[]);
    for (base_hidden, expected) in [(false, true), (true, false)] {
        found.stack.hierarchies = vec![Hierarchy {
            path: "/usr".to_owned(),
            layers: Vec::new(),
            base_hidden,
        }];
        assert_eq!(found.is_good(Allowed::default()), expected);
    }
}
