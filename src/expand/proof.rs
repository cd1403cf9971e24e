//! The proof that an edit did what was meant and nothing else.
//!
//! `serde_yaml` reads both texts and had no part in the edit. It differs from
//! Prism's yaml.v3 in what it takes `yes` or `0644` for, which does not matter
//! here: the same library reads both sides, and untouched scalars keep their
//! bytes, which is checked on its own.

use std::ops::Range;

use serde_yaml::Value;

use super::literal::{Layout, Literal};
use super::spans::Source;
use super::{ExpandError, SECTION};

/// One edit as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The bytes of the input that it replaced.
    pub(super) range: Range<usize>,
    /// What stands there now.
    pub(super) text: String,
    /// True when it was made to take out the section.
    pub(super) section: bool,
    /// True when it wrote another scalar.
    pub(super) scalar: bool,
}

/// The data of a config with its merge keys resolved; `source` is the same text read by the other
/// parser, which knows places.
pub(super) fn read(source: &Source<'_>) -> Result<Value, ExpandError> {
    let at_root = source.root.as_ref().map_or(0, |root| root.content);
    // libyaml counts the mark as a column, and then ends the mapping at the second key.
    let text = source.text;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = serde_yaml::from_str(text);
    let mut value: Value = value.map_err(|error| syntax(source, &error, at_root))?;
    if let Err(error) = value.apply_merge() {
        return Err(syntax(
            source,
            &error,
            source.merge_key().unwrap_or(at_root),
        ));
    }
    let found = match &value {
        Value::Mapping(_) | Value::Null => return Ok(value),
        Value::Sequence(_) => "a list",
        Value::Tagged(_) => "a tagged value",
        _ => "a scalar",
    };
    Err(ExpandError::NotAMapping {
        line: source.line(at_root),
        found,
    })
}

/// What the independent reader said; `near` is the place when it tells none.
fn syntax(source: &Source<'_>, error: &serde_yaml::Error, near: usize) -> ExpandError {
    // By the index, which counts characters: libyaml's lines end at U+0085 and U+2028, too.
    let first = source.first();
    let place = error.location().map(|at| {
        let text = source.text.get(first..).unwrap_or_default();
        let mut places = text.char_indices().map(|(at, _)| first + at);
        places.nth(at.index()).unwrap_or(source.text.len())
    });
    let message = error.to_string();
    // It gives the mapping's own place.
    let twice = message.contains("duplicate entry");
    let twice = twice.then(|| source.duplicate_key()).flatten();
    let place = twice.or(place).unwrap_or(near);
    ExpandError::Syntax {
        line: source.line(place),
        column: source.column(place) + 1,
        message,
    }
}

/// What to add by hand when the edit is impossible; empty when nothing is missing.
pub(super) fn snippet(missing: &Literal) -> String {
    missing.block(0, Layout::PRISM)
}

/// Checks everything that the module promises about `output`.
pub(super) fn prove(
    source: &Source<'_>,
    input: &Value,
    missing: &Literal,
    output: &str,
    written: &[Written],
) -> Result<(), ExpandError> {
    let unproven = |reason: String| ExpandError::Unproven {
        line: source.line(written.first().map_or(0, |edit| edit.range.start)),
        reason,
        snippet: snippet(missing),
    };
    kept_bytes(source.text, output, written).map_err(unproven)?;

    // The parser of the edit reads the result too: what only one of two
    // parsers accepts, Prism's may refuse.
    let edited = Source::parse(output).map_err(|error| unproven(error.to_string()))?;
    let read = read(&edited).map_err(|error| unproven(error.to_string()))?;
    if read.get(SECTION).is_some() {
        return Err(unproven(format!("`{SECTION}` is still there")));
    }
    let intended = intended(input, missing);
    if let Some(place) = difference(&intended, &read, "") {
        return Err(unproven(format!("{place} is not what it should be")));
    }
    Ok(())
}

/// The value that the output must have; paths of base configs are in `input`.
fn intended(input: &Value, missing: &Literal) -> Value {
    let mut value = input.clone();
    let had_section = value
        .as_mapping_mut()
        .and_then(|root| root.remove(SECTION))
        .is_some();
    join(&mut value, missing);
    // A text without content stays one; otherwise a mapping stays a mapping.
    if value.is_null() && had_section {
        Value::Mapping(serde_yaml::Mapping::new())
    } else {
        value
    }
}

/// Joins mappings, appends lists; a null counts as an empty one of either.
fn join(value: &mut Value, addition: &Literal) {
    match addition {
        Literal::Map(entries) if !entries.is_empty() => {
            if value.is_null() {
                *value = Value::Mapping(serde_yaml::Mapping::new());
            }
            if let Some(mapping) = value.as_mapping_mut() {
                for (key, addition) in entries {
                    let slot = mapping.entry(Value::String((*key).to_owned()));
                    join(slot.or_insert(Value::Null), addition);
                }
            }
        }
        Literal::List(items) => {
            if value.is_null() {
                *value = Value::Sequence(Vec::new());
            }
            if let Some(list) = value.as_sequence_mut() {
                list.extend(items.iter().map(Literal::to_value));
            }
        }
        Literal::Map(_) | Literal::Text(_) | Literal::Quoted(_) => {}
    }
}

/// The path of the first place where two values differ.
fn difference(intended: &Value, found: &Value, path: &str) -> Option<String> {
    let here = || {
        if path.is_empty() {
            "the top level".to_owned()
        } else {
            format!("`{path}`")
        }
    };
    match (intended, found) {
        (Value::Mapping(intended), Value::Mapping(found)) => {
            for (key, value) in intended {
                let name = key.as_str().unwrap_or("?");
                let below = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}.{name}")
                };
                match found.get(key) {
                    Some(found) => {
                        if let Some(place) = difference(value, found, &below) {
                            return Some(place);
                        }
                    }
                    None => return Some(format!("`{below}`")),
                }
            }
            (intended.len() != found.len()).then(here)
        }
        (Value::Sequence(intended), Value::Sequence(found)) if intended.len() == found.len() => {
            let pairs = intended.iter().zip(found).enumerate();
            pairs.into_iter().find_map(|(index, (intended, found))| {
                difference(intended, found, &format!("{path}[{index}]"))
            })
        }
        _ => (intended != found).then(here),
    }
}

/// Checks that `output` is `text` with `written` applied, and that an edit
/// outside the section deleted nothing but a comma or an empty value.
fn kept_bytes(text: &str, output: &str, written: &[Written]) -> Result<(), String> {
    let moved = || "bytes outside of the edits changed".to_owned();
    let mut rest = output;
    let mut from = 0;
    for edit in written {
        let kept = text.get(from..edit.range.start).ok_or_else(moved)?;
        rest = rest.strip_prefix(kept).ok_or_else(moved)?;
        rest = rest.strip_prefix(edit.text.as_str()).ok_or_else(moved)?;
        let deleted = text.get(edit.range.clone()).ok_or_else(moved)?;
        let empty = matches!(
            deleted
                .split_ascii_whitespace()
                .collect::<String>()
                .as_str(),
            "" | "," | "~" | "null" | "Null" | "NULL" | "[]" | "{}"
        );
        // What stands there now is compared with the rest.
        let scalar = edit.scalar
            && matches!(
                serde_yaml::from_str::<Value>(deleted),
                Ok(Value::String(_) | Value::Number(_) | Value::Bool(_))
            );
        if !edit.section && !empty && !scalar {
            return Err(format!("the edit would delete {deleted:?}"));
        }
        from = edit.range.end;
    }
    if text.get(from..) == Some(rest) {
        Ok(())
    } else {
        Err(moved())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        text: &str,
        missing: &Literal,
        output: &str,
        edits: &[(Range<usize>, &str, bool)],
    ) -> Result<(), ExpandError> {
        let written: Vec<Written> = edits
            .iter()
            .map(|(range, text, section)| Written {
                range: range.clone(),
                text: (*text).to_owned(),
                section: *section,
                scalar: false,
            })
            .collect();
        let source = Source::parse(text).unwrap();
        prove(&source, &read(&source).unwrap(), missing, output, &written)
    }

    fn units() -> Literal {
        let units = Literal::List(vec![Literal::Text("u".to_owned())]);
        Literal::entry(
            "os",
            Literal::entry("services", Literal::entry("enable", units)),
        )
    }

    #[test]
    fn a_right_edit_passes() {
        let nothing = Literal::Map(Vec::new());
        check(
            "a: 1\nsysext: 2\n",
            &nothing,
            "a: 1\n",
            &[(5..15, "", true)],
        )
        .unwrap();
        let text = "os: {services: {enable: [a]}}\n";
        let output = "os: {services: {enable: [a, u]}}\n";
        check(text, &units(), output, &[(26..26, ", u", false)]).unwrap();
    }

    #[test]
    fn what_this_reader_alone_refuses_has_its_place() {
        for (text, place) in [
            // Characters before it take two and three bytes. The line break of YAML 1.1 makes `c` a key
            // without a colon, which is noticed at the end.
            ("\u{feff}# €\na: \"é\"\nb: x\u{2028}c\n", (4, 1)),
            ("a:\n  b: 1\n  c: {d: 1, d: 2}\n", (3, 13)),
            ("a: 1\nb:\n  <<: x\n", (3, 3)),
        ] {
            let source = Source::parse(text).unwrap();
            let error = read(&source).unwrap_err();
            let (line, column) = error.place().unwrap();
            assert_eq!((line, column), (place.0, Some(place.1)), "{error}");
        }
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let nothing = Literal::Map(Vec::new());
        for (text, output, edits) in [
            // A comment lost, although the data are the same.
            ("a: 1 # c\n", "a: 1\n", vec![]),
            ("a: 1 # c\n", "a: 1\n", vec![(4..8, "", false)]),
            // The type of a scalar changed.
            ("a: 1\nb:\n", "a: 1\nb: ~x\n", vec![(7..7, " ~x", false)]),
            ("a: 644\n", "a: \"644\"\n", vec![(3..6, "\"644\"", true)]),
            // The section left in, directly or by merge.
            ("a: 1\nsysext: 2\n", "a: 1\nsysext: 2\n", vec![]),
            (
                "a: &a {sysext: 1}\n<<: *a\n",
                "a: &a {sysext: 1}\n<<: *a\n",
                vec![],
            ),
            // Too much taken with the section.
            ("a: 1\nsysext: 2\n", "", vec![(0..15, "", true)]),
            // Not YAML any more.
            ("a: 1\nsysext: 2\n", "a: 1\n[\n", vec![(5..15, "[\n", true)]),
        ] {
            let error = check(text, &nothing, output, &edits).unwrap_err();
            assert!(
                matches!(error, ExpandError::Unproven { .. }),
                "{text:?}: {error}"
            );
        }
        let error = check("os:\n", &units(), "os:\n", &[]).unwrap_err();
        assert!(error.to_string().contains("`os`"), "{error}");
        assert!(
            error.to_string().contains("    enable:\n    - u\n"),
            "{error}"
        );
    }
}
