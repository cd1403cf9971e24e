//! What the config demands of the content: `expect` must be there, `forbid` must not, and no more
//! than `maxSize`.

use glob::Pattern;

use crate::config::model::Extension;
use crate::finding::Finding;

/// What an extension must hold, must not hold, and may weigh.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Globs that must match.
    pub expect: Vec<String>,
    /// Globs that must not match.
    pub forbid: Vec<String>,
    /// Most bytes that it may have.
    pub max_size: Option<u64>,
}

impl Limits {
    /// Those of an extension of the config.
    pub fn of(extension: &Extension) -> Limits {
        Limits {
            expect: extension.expect.clone(),
            forbid: extension.forbid.clone(),
            max_size: extension.max_size,
        }
    }

    /// Whether any path decides.
    pub fn look_at_paths(&self) -> bool {
        !self.expect.is_empty() || !self.forbid.is_empty()
    }

    /// Demands that the paths of an extension do not meet, with `expected-path-missing` and
    /// `forbidden-path`. `at` is the extension's place in the config.
    pub fn paths(&self, paths: impl Iterator<Item = String>, at: &str) -> Vec<Finding> {
        unmet(paths, &self.expect, &self.forbid, at)
    }

    /// `too-large`, where `size` in bytes is more than allowed; it names the largest of `files`.
    pub fn size<I: Iterator<Item = (String, u64)>>(
        &self,
        size: u64,
        files: impl FnOnce() -> I,
        at: &str,
    ) -> Option<Finding> {
        let most = self.max_size.filter(|most| size > *most)?;
        Some(too_large(size, most, files(), at))
    }
}

fn unmet(
    paths: impl Iterator<Item = String>,
    expect: &[String],
    forbid: &[String],
    at: &str,
) -> Vec<Finding> {
    // What does not parse was refused with the config.
    let parsed = |texts: &[String]| -> Vec<Pattern> {
        texts
            .iter()
            .filter_map(|text| Pattern::new(text).ok())
            .collect()
    };
    let (expected, forbidden) = (parsed(expect), parsed(forbid));
    let mut is_there = vec![false; expected.len()];
    let mut found: Vec<Option<String>> = vec![None; forbidden.len()];
    if expected.is_empty() && forbidden.is_empty() {
        return Vec::new();
    }
    for path in paths {
        for (pattern, is_there) in expected.iter().zip(&mut is_there) {
            *is_there = *is_there || pattern.matches(&path);
        }
        for (pattern, found) in forbidden.iter().zip(&mut found) {
            if found.is_none() && pattern.matches(&path) {
                *found = Some(path.clone());
            }
        }
    }
    let missing = expected.iter().zip(is_there).enumerate();
    let missing = missing.filter(|(_, (_, is_there))| !is_there);
    let missing = missing.map(|(index, (pattern, _))| {
        let message = format!("nothing in the extension matches `{pattern}`");
        Finding::error("expected-path-missing", message).at(format!("{at}.expect[{index}]"))
    });
    let present = forbidden.iter().zip(found).enumerate();
    let present = present.filter_map(|(index, (pattern, path))| {
        let message = format!("{} matches `{pattern}`", path?);
        let finding = Finding::error("forbidden-path", message);
        Some(
            finding
                .at(format!("{at}.forbid[{index}]"))
                .help("leave it out"),
        )
    });
    missing.chain(present).collect()
}

/// Files that are named when there is too much.
const NAMED: usize = 3;

/// That an extension has more bytes than it may, with the largest of its files.
pub(crate) fn too_large(
    size: u64,
    most: u64,
    files: impl Iterator<Item = (String, u64)>,
    at: &str,
) -> Finding {
    let mut largest: Vec<(u64, String)> = files.map(|(path, size)| (size, path)).collect();
    largest.sort_by(|one, other| other.cmp(one));
    largest.truncate(NAMED);
    let largest = largest
        .iter()
        .map(|(size, path)| format!("{path} ({size} bytes)"));
    let message = format!("the extension has {size} bytes, expected {most} at most");
    let finding = Finding::error("too-large", message).at(format!("{at}.maxSize"));
    match largest.collect::<Vec<_>>() {
        none if none.is_empty() => finding.help("allow more"),
        largest => finding.help(format!(
            "leave something out or allow more; the largest files are {}",
            largest.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_files_are_named() {
        let files = [("/a", 1), ("/b", 4), ("/c", 3), ("/d", 2)];
        let files = files.map(|(path, size)| (path.to_owned(), size));
        let finding = too_large(10, 9, files.into_iter(), "x");
        assert_eq!(
            finding.help.unwrap(),
            "leave something out or allow more; the largest files are /b (4 bytes), /c (3 bytes), /d (2 bytes)"
        );
    }

    #[test]
    fn each_demand_is_judged_by_itself() {
        let paths = || ["/usr/bin/a", "/usr/bin/b"].map(str::to_owned).into_iter();
        let texts = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let expect = texts(&["/usr/bin/*", "/opt/*"]);
        let forbid = texts(&["/etc/*", "/usr/bin/[ab]"]);
        let found: Vec<String> = unmet(paths(), &expect, &forbid, "x")
            .into_iter()
            .map(|finding| format!("{} {}", finding.id, finding.message))
            .collect();
        assert_eq!(
            found,
            [
                "expected-path-missing nothing in the extension matches `/opt/*`",
                "forbidden-path /usr/bin/a matches `/usr/bin/[ab]`",
            ]
        );
    }
}
