//! Names of extensions: which ones systemd takes, and in which order it stacks them.

use std::cmp::Ordering;

use crate::finding::Finding;

/// Endings that systemd takes off an image name when it looks for the release file
/// (`raw_strip_suffixes`, src/shared/import-util.c; `.v` and `.mstack` of
/// src/shared/discover-image.c), so that the release file is searched under another name.
const STRIPPED: &[&str] = &[
    ".raw", ".img", ".bin", ".qcow2", ".xz", ".gz", ".bz2", ".zst", ".sysext", ".confext", ".v",
    ".mstack",
];

/// Why such names stop the whole merge (observed on 252 to 262).
pub const BREAKS: &str = "the overlay's mount options (src/sysext/sysext.c) or the 255 bytes of `extension-release.NAME` can't hold it, and no extension is merged";

/// `extension-release.` and the name share one file name of at most 255 bytes.
const MAX_BYTES: usize = 237;

/// What systemd makes of an image name, before it looks at the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is taken.
    Taken,
    /// The image is skipped (`image_name_is_valid`, src/basic/os-util.c).
    Skipped,
    /// Nothing at all is merged: the release file of such a name can't be looked for.
    BlocksAll,
    /// Once the extension is accepted nothing at all is merged: the name breaks the overlay's options.
    BreaksOverlay,
}

/// What systemd makes of a name, with the reason for the two bad cases.
pub fn effect(name: &str) -> (Effect, String) {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return (Effect::Skipped, format!("`{name}` is not a file name"));
    }
    if name.len() > MAX_BYTES {
        let text = format!(
            "the name has {} bytes, at most {MAX_BYTES} work",
            name.len()
        );
        return (Effect::BlocksAll, text);
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        let text = format!("`{}` holds a control character", name.escape_debug());
        return (Effect::Skipped, text);
    }
    if name.starts_with(".#") {
        return (Effect::Skipped, format!("`{name}` starts with `.#`"));
    }
    match name
        .chars()
        .find(|c| [':', ',', '\\', '\'', '"'].contains(c))
    {
        Some(bad) => (Effect::BreaksOverlay, format!("`{name}` holds `{bad}`")),
        None => (Effect::Taken, String::new()),
    }
}

/// Whether a name may be given to an image.
///
/// # Errors
/// `name-refused`, with what systemd would do.
pub fn check(name: &str) -> Result<(), Finding> {
    let refuse = |message: String, rule: &str, help: &str| {
        Err(Finding::error("name-refused", message)
            .because(rule)
            .help(help))
    };
    match effect(name) {
        (Effect::Skipped, message) => refuse(
            message,
            "image_name_is_valid, src/basic/os-util.c: systemd skips the image",
            "use letters, digits, `-`, `_` and `.`",
        ),
        (Effect::BlocksAll | Effect::BreaksOverlay, message) => refuse(
            message,
            BREAKS,
            "use a short name of letters, digits, `-`, `_` and `.`",
        ),
        (Effect::Taken, _) => match STRIPPED.iter().find(|suffix| name.ends_with(**suffix)) {
            Some(suffix) => refuse(
                format!("`{name}` ends in `{suffix}`"),
                "raw_strip_suffixes, src/shared/import-util.c: systemd takes the ending off, finds no release file and merges nothing",
                "choose a name without that ending",
            ),
            None => Ok(()),
        },
    }
}

/// Why two extensions can't be stacked, if they can't; `other_at` is the other one's place.
pub fn clash(name: &str, other: &str, other_at: &str) -> Option<Finding> {
    if compare(other, name).is_ne() {
        return None;
    }
    let finding = if other == name {
        Finding::error(
            "duplicate-name",
            format!("two extensions are named `{name}`"),
        )
        .because("systemd takes the first image of a name that it finds")
    } else {
        Finding::error(
            "names-tie",
            format!("`{other}` and `{name}` compare equal, so either may be the upper layer"),
        )
        .because("strverscmp_improved, src/fundamental/string-util.c; the winner changes from run to run")
    };
    Some(finding.help(format!("rename one; the other stands at {other_at}")))
}

/// systemd's order of layers: the greatest name is the topmost layer
/// (`strverscmp_improved`, src/fundamental/string-util-fundamental.c).
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        // Everything else, `_` and `+` included, only separates.
        a = skip_while(a, |c| !significant(c));
        b = skip_while(b, |c| !significant(c));
        for (symbol, at_end_too) in [(b'~', true), (b'-', false), (b'^', false), (b'.', false)] {
            if !at_end_too && (a.is_empty() || b.is_empty()) {
                return a.len().cmp(&b.len());
            }
            match (a.first() == Some(&symbol), b.first() == Some(&symbol)) {
                (true, true) => {
                    a = a.get(1..).unwrap_or_default();
                    b = b.get(1..).unwrap_or_default();
                }
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (false, false) => {}
            }
        }
        let numbers = starts_with_digit(a) || starts_with_digit(b);
        let order = if numbers {
            let (x, y) = (
                take(&mut a, |c| c.is_ascii_digit()),
                take(&mut b, |c| c.is_ascii_digit()),
            );
            if x.is_empty() != y.is_empty() {
                return y.is_empty().cmp(&x.is_empty());
            }
            let (x, y) = (skip_while(x, |c| c == b'0'), skip_while(y, |c| c == b'0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            let letter = |c: u8| c.is_ascii_alphabetic();
            let (x, y) = (take(&mut a, letter), take(&mut b, letter));
            x.iter()
                .zip(y)
                .map(|(x, y)| x.cmp(y))
                .find(|order| order.is_ne())
                .unwrap_or_else(|| x.len().cmp(&y.len()))
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn significant(c: u8) -> bool {
    c.is_ascii_alphanumeric() || [b'~', b'-', b'^', b'.'].contains(&c)
}

fn starts_with_digit(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

fn skip_while(text: &[u8], skip: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|c| !skip(*c)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

fn take<'a>(text: &mut &'a [u8], belongs: impl Fn(u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|c| !belongs(*c)).unwrap_or(text.len());
    let (head, tail) = text.split_at_checked(end).unwrap_or((text, &[]));
    *text = tail;
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_systemd_takes() {
        for good in [
            "kubernetes",
            "kubernetes_1.30.7",
            "a b",
            "ä",
            "a@b=c#d",
            ".hidden",
            "x.rawx",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        assert!(check(&"x".repeat(237)).is_ok());
    }

    #[test]
    fn refuses_what_would_break_the_merge() {
        for bad in [
            "", ".", "..", "a/b", "a:b", "a,b", "a\\b", "a'b", "a\"b", "a\nb", ".#x", "x.raw",
            "x.img", "x.sysext", "x.v", "x.tar.gz", "x.mstack",
        ] {
            assert_eq!(check(bad).unwrap_err().id, "name-refused", "{bad}");
        }
        assert!(check(&"x".repeat(238)).is_err());
    }

    #[test]
    fn orders_as_systemd_does() {
        let ascending = ["a~1", "a-2", "a_1", "a9", "a10", "b"];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        // src/test/test-string-util.c, test_strverscmp_improved.
        let versions = [
            "~1",
            "ab",
            "abb",
            "abc",
            "0001",
            "002",
            "12",
            "122",
            "122.9",
            "123~rc1",
            "123",
            "123-a",
            "123-a.1",
            "123-a1",
            "123-a1.1",
            "123-3",
            "123-3.1",
            "123^patch1",
            "123^1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124",
        ];
        for (i, low) in versions.iter().enumerate() {
            for high in versions.iter().skip(i + 1) {
                assert_eq!(compare(low, high), Ordering::Less, "{low} {high}");
            }
        }
    }

    #[test]
    fn names_that_tie() {
        for (a, b) in [("a1", "a01"), ("a_1", "a+1"), ("a 1", "a1"), ("a_", "a")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }
}
