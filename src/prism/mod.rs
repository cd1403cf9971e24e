//! A whole config file as Prism judges it, without Prism: unknown fields, types, values, and what goes
//! together.
//!
//! All of it at once and sorted by place, where Prism stops at the first. Rules are those of Prism 1.7
//! (`IsValid` of the Go structs in microsoft/azure-linux-image-tools, `toolkit/tools/imagecustomizerapi`);
//! what only a run can tell (packages, free space, the base image) is not judged.

mod network;
pub(crate) mod node;
mod resources;
mod rules;
mod scalar;
pub(crate) mod schema;
mod storage;
pub(crate) mod tables;
mod walk;

use crate::finding::{Finding, Place};
use node::Node;
use tables::{CONFIG, NEWEST, Version};
use walk::Walk;

pub use resources::resources;
pub(crate) use walk::size;

/// Most values of a config, those that aliases stand for counted each time.
const MAX_WEIGHT: usize = 250_000;

/// Everything that Prism of this version would refuse in a config, sorted by place.
///
/// A file without data is refused by Prism as well.
pub fn check(root: Option<&Node>, version: Option<Version>) -> Vec<Finding> {
    let Some(root) = root else {
        return vec![
            Finding {
                place: Some(Place::Position { line: 1, column: 1 }),
                ..Finding::error("prism-wrong-type", "the config holds nothing")
            }
            .because("Prism's reader meets the end of the file (EOF)")
            .help("write at least `os: {}`"),
        ];
    };
    let mut walk = Walk::new(root, version.unwrap_or(NEWEST));
    if !root.is_null() {
        walk.object(root, &CONFIG, "");
        // Beyond that the config's own reader, and Prism's, refuse what the aliases make of it.
        if root.weight() <= MAX_WEIGHT {
            rules::check(&mut walk, root);
            storage::check(&mut walk, root);
        }
    }
    walk.found.sort_by_key(|(at, _)| *at);
    // An alias shows its anchor's troubles again.
    walk.found.dedup();
    walk.found.into_iter().map(|(_, finding)| finding).collect()
}

/// Reads a version such as `1.2` or `v1.2.0`; returns its first two numbers.
///
/// # Errors
/// A text that is not a version, in words for the command line.
pub fn version(text: &str) -> Result<Version, String> {
    let numbers = text.strip_prefix('v').unwrap_or(text);
    let mut parts = numbers.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if parts.all(|part| part.is_ok()) => Ok((major, minor)),
        _ => Err(format!(
            "`{text}` is no version of Prism, expected for example 1.2"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, version: Option<Version>) -> Vec<Finding> {
        super::check(node::parse(text).as_ref(), version)
    }

    fn ids(text: &str) -> Vec<&'static str> {
        let found = check(text, None).into_iter();
        found.map(|finding| finding.id).collect()
    }

    #[test]
    fn all_is_told_at_once_and_in_order() {
        let text = "os:\n  hostnam: a\n  users: [{uid: -1}]\nstorage: []\n";
        let found = check(text, None);
        let places: Vec<_> = found.iter().map(|it| it.place.clone()).collect();
        let place = |line, column| Some(Place::Position { line, column });
        assert_eq!(
            places,
            [place(2, 3), place(3, 11), place(3, 17), place(4, 10)]
        );
        assert_eq!(
            ids(text),
            [
                "prism-unknown-field",
                "prism-missing-field",
                "prism-bad-value",
                "prism-wrong-type"
            ]
        );
        assert_eq!(found[0].help.as_deref(), Some("did you mean `hostname`?"));
    }

    #[test]
    fn what_prism_takes_is_taken() {
        for text in [
            "null\n",
            "os:\n",
            "{}",
            "os: {hostname: 123, packages: {updateExistingPackages: yes, install: [a, null, 1]}}\n",
            "x-not: 1\nsysext: {anything: goes}\n".trim_start_matches("x-not: 1\n"),
            "os: {additionalFiles: [{source: a, destination: /b, permissions: 0644}, {content: '', destination: /c, permissions: '00644'}]}\n",
            "os: {users: &u [{name: a}]}\nscripts:\n",
        ] {
            assert_eq!(ids(text), Vec::<&str>::new(), "{text}");
        }
        assert_eq!(ids("# only this\n"), ["prism-wrong-type"]);
        assert_eq!(ids("- a\n"), ["prism-wrong-type"]);
    }

    #[test]
    fn older_versions_know_less() {
        let text = "os: {uki: {mode: create}}\npreviewFeatures: [uki]\n";
        assert!(check(text, None).is_empty());
        let found = check(text, Some((1, 1)));
        assert_eq!(found[0].id, "prism-too-old");
        let nested = "previewFeatures: [base-configs]\nbaseConfigs: [{path: a}]\n";
        assert_eq!(
            check(nested, Some((1, 0))).len(),
            1,
            "what is below is not told again"
        );
        assert_eq!(version("v1.2.0"), Ok((1, 2)));
        assert!(version("1").is_err() && version("1.x").is_err());
    }

    #[test]
    fn an_alias_is_judged_once_and_where_its_anchor_stands() {
        let text = "os:\n  users:\n  - &u {name: a, sshPublicKeys: [[], x]}\n  - *u\n  - <<: *u\n";
        assert_eq!(ids(text), ["prism-wrong-type"]);
        // As another thing it is judged again.
        let text = "os:\n  packages: {install: &x [a]}\n  hostname: *x\n";
        assert_eq!(ids(text), ["prism-wrong-type"]);
        // Thousands of mistakes used thousands of times.
        let bad = vec!["[]"; 2000].join(",");
        let again = "  - *u\n".repeat(2000);
        let text = format!("os:\n  users:\n  - &u {{name: a, sshPublicKeys: [{bad}]}}\n{again}");
        let begin = std::time::Instant::now();
        assert_eq!(check(&text, None).len(), 2000);
        assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    }

    #[test]
    fn a_small_file_of_aliases_ends_soon() {
        let mut text = "a0: &a0 {x: 1}\n".to_owned();
        for i in 1..60 {
            text.push_str(&format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1));
        }
        text.push_str("os: {additionalFiles: *a59}\n");
        assert!(!check(&text, None).is_empty());
    }
}
