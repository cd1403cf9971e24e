//! Scalars as gopkg.in/yaml.v3 3.0.1 reads them, which is what Prism reads with (`resolve.go`, `decode.go`).
//!
//! What it made of some six hundred of them is kept in `testdata/scalars`.

use openssl::base64;

/// A tag of YAML's own that says what a scalar is.
const YAML: &str = "tag:yaml.org,2002:";

/// What a plain word is without a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Null,
    Switch,
    Whole,
    Fraction,
    Text,
}

/// Text of a scalar with a tag, and whether it counts as written without quotes; or why it is refused.
///
/// `tag` is the full name, such as `tag:yaml.org,2002:int` or `!secret`; a lone `!` is none.
pub(super) fn tagged(tag: &str, text: String) -> Result<(String, bool), String> {
    let Some(name) = tag.strip_prefix(YAML) else {
        // Tags of others are passed over, but what has one is text.
        return Ok((text, false));
    };
    let fits = match name {
        "null" => sort(&text) == Sort::Null,
        "bool" => sort(&text) == Sort::Switch,
        "int" => sort(&text) == Sort::Whole,
        "float" => matches!(sort(&text), Sort::Whole | Sort::Fraction),
        // No field of Prism is a date, so the rest of it is not looked at.
        "timestamp" => {
            text.find('-') == Some(4) && text.bytes().take(4).all(|it| it.is_ascii_digit())
        }
        "binary" => {
            return match decoded(&text) {
                Some(text) => Ok((text, false)),
                None => Err("the text behind `!!binary` is no base64".to_owned()),
            };
        }
        "merge" => {
            let is_merge = text == "<<";
            return Ok((text, is_merge));
        }
        _ => return Ok((text, false)),
    };
    match fits {
        // The tag makes it one, quoted or not.
        true => Ok((text, true)),
        false => {
            let start: String = text.chars().take(20).collect();
            Err(format!("`{start}` is no `!!{name}`"))
        }
    }
}

/// Words that are taken for a boolean where one is wanted. Those of YAML 1.1 are text otherwise, and so
/// are taken in quotes as well.
pub(super) fn is_switch(text: &str, plain: bool) -> bool {
    let old = [
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off",
        "OFF",
    ];
    plain && sort(text) == Sort::Switch || old.contains(&text)
}

/// A plain scalar where a whole number is wanted; fractions are cut off.
pub(super) fn number(text: &str) -> Option<i64> {
    match sort(text) {
        Sort::Whole => i64::try_from(whole(&without_underscores(text))?).ok(),
        Sort::Fraction => {
            let value = fraction(&without_underscores(text))?;
            // 2 to the 63rd.
            let fits = value.is_finite() && value < 9_223_372_036_854_775_808.0;
            #[expect(clippy::as_conversions, reason = "saturates, and has been compared")]
            fits.then_some(value as i64)
        }
        _ => None,
    }
}

fn sort(text: &str) -> Sort {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Sort::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Sort::Switch,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Sort::Fraction,
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Sort::Text;
    }
    let plain = without_underscores(text);
    // Larger ones are read as fractions.
    let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
    if !text.starts_with('.') && whole(&plain).is_some_and(|it| range.contains(&it)) {
        Sort::Whole
    } else if fraction(&plain).is_some_and(f64::is_finite) {
        Sort::Fraction
    } else {
        Sort::Text
    }
}

fn without_underscores(text: &str) -> String {
    text.chars().filter(|c| *c != '_').collect()
}

/// A whole number with Go's prefixes (`strconv.ParseInt` with base 0); a leading zero makes it octal.
fn whole(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(rest) = lower.strip_prefix("0x") {
        (rest, 16)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (rest, 2)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (rest, 8)
    } else if let Some(rest) = lower.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        (rest, 8)
    } else {
        (lower.as_str(), 10)
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// Digits with a point or an exponent.
fn fraction(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let shaped = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    (shaped && starts).then(|| text.parse().ok()).flatten()
}

/// The text that base64 stands for; line breaks in it do not count. Other bytes than text can't be meant.
fn decoded(text: &str) -> Option<String> {
    let packed: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let digits = packed.trim_end_matches('=');
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if !packed.len().is_multiple_of(4)
        || packed.len() - digits.len() > 2
        || !digits.bytes().all(known)
    {
        return None;
    }
    if packed.is_empty() {
        return Some(String::new());
    }
    let bytes = base64::decode_block(&packed).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prism::node::{Body, read};

    /// What a value is taken for where text, a boolean or a whole number is wanted; null is nothing.
    fn read_as(wanted: &str, value: &str) -> String {
        let Ok(document) = read(&format!("v: {}\n", value.replace("\\n", "\n"))) else {
            return "refused".to_owned();
        };
        let root = document.root.unwrap();
        let Some(node) = root.get("v") else {
            return "null".to_owned();
        };
        let Body::Scalar { text, plain } = &node.body else {
            panic!("{value}");
        };
        let read = match wanted {
            "text" if text.contains('\u{fffd}') => Some("bytes".to_owned()),
            "text" => Some(format!("{text:?}")),
            "switch" => is_switch(text, *plain).then(|| "switch".to_owned()),
            _ => number(text).filter(|_| *plain).map(|it| it.to_string()),
        };
        read.unwrap_or_else(|| "refused".to_owned())
    }

    #[test]
    fn scalars_are_read_as_yaml_v3_reads_them() {
        let table = include_str!("../../testdata/scalars/outcomes.tsv");
        let mut wrong = Vec::new();
        for line in table.lines() {
            let [wanted, value, outcome] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let found = read_as(wanted, value);
            if found != outcome {
                wrong.push(format!("{wanted} {value}: {outcome}, here {found}"));
            }
        }
        assert!(table.lines().count() >= 700);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
