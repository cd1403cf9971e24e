//! The proof that an edit did what was meant and nothing else.
//!
//! `serde_yaml` reads both texts and had no part in the edit. It differs from
//! Prism's yaml.v3 in what it takes `yes` or `0644` for, which does not matter
//! here: the same library reads both sides, and untouched scalars keep their
//! bytes, which is checked on its own.

use std::ops::Range;

use serde_yaml::Value;

use super::ExpandError;
use super::literal::{Layout, Literal};
use super::source::Source;
use super::splice::SECTION;

/// One edit as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The bytes of the input that it replaced.
    pub(super) range: Range<usize>,
    /// What stands there now.
    pub(super) text: String,
    /// True when it was made to take out the section.
    pub(super) section: bool,
}

/// The data of a config with its merge keys resolved.
pub(super) fn read(text: &str) -> Result<Value, ExpandError> {
    // libyaml counts the mark as a column, and then ends the mapping at the second key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut value: Value = serde_yaml::from_str(text).map_err(|error| syntax(text, &error))?;
    value.apply_merge().map_err(|error| syntax(text, &error))?;
    let found = match &value {
        Value::Mapping(_) | Value::Null => return Ok(value),
        Value::Sequence(_) => "a list",
        Value::Tagged(_) => "a tagged value",
        _ => "a scalar",
    };
    Err(ExpandError::NotAMapping { found })
}

fn syntax(text: &str, error: &serde_yaml::Error) -> ExpandError {
    let at = error.location();
    // Without a place it is about documents, of which only the marks between them can make more
    // than one, or about merge keys.
    let marks = ["---", "...", "<<"];
    let is_marked = |line: &str| marks.iter().any(|mark| line.trim_start().starts_with(mark));
    let marked = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| is_marked(line))
        .last();
    let guess = marked.map_or(1, |(_, number)| number);
    ExpandError::Syntax {
        line: at.as_ref().map_or(guess, serde_yaml::Location::line),
        column: at.as_ref().map_or(1, serde_yaml::Location::column),
        message: error.to_string(),
    }
}

/// What to add by hand when the edit is impossible; empty when nothing is missing.
pub(super) fn snippet(missing: &Literal) -> String {
    missing.block(0, Layout::PRISM)
}

/// Checks everything that the module promises about `output`.
pub(super) fn prove(
    text: &str,
    input: &Value,
    missing: &Literal,
    output: &str,
    written: &[Written],
) -> Result<(), ExpandError> {
    let unproven = |reason: String| ExpandError::Unproven {
        reason,
        snippet: snippet(missing),
    };
    kept_bytes(text, output, written).map_err(unproven)?;

    let read = read(output).map_err(|error| unproven(error.to_string()))?;
    if read.get(SECTION).is_some() {
        return Err(unproven(format!("`{SECTION}` is still there")));
    }
    let intended = intended(input, missing);
    if let Some(place) = difference(&intended, &read, "") {
        return Err(unproven(format!("{place} is not what it should be")));
    }
    // The parser of the edit reads the result too: what only one of two
    // parsers accepts, Prism's may refuse.
    Source::parse(output).map_err(|error| unproven(error.to_string()))?;
    Ok(())
}

/// The value that the output must have.
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
        if !edit.section && !empty {
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
            })
            .collect();
        prove(text, &read(text).unwrap(), missing, output, &written)
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
