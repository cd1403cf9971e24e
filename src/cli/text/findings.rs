//! Findings as a person reads them: the line of the config with a caret, the
//! reason, and what to do.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::config::source::{Position, Source};
use crate::finding::{Finding, Place, Severity};

pub(crate) use crate::finding::text::path;

/// Renders findings, most severe last so that it stands nearest to the prompt.
pub(crate) fn findings(source: Option<&Source>, findings: &[Finding], color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    let mut text = String::new();
    for finding in sorted {
        text.push_str(&one(&renderer, source, finding));
        text.push('\n');
    }
    text
}

fn one(renderer: &Renderer, source: Option<&Source>, finding: &Finding) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(finding.message.as_str()).id(finding.id);
    let origin = source.map(|source| source.path.display().to_string());
    let mut group = match (&finding.place, source, &origin) {
        (Some(Place::File(path)), ..) => {
            let same = source.is_some_and(|source| source.path == *path);
            if finding.message.contains(&path.display().to_string()) && !same {
                Group::with_title(title)
            } else {
                // Unlike messages, origins are printed as they are.
                let shown = printable(&path.display().to_string());
                title.element(annotate_snippets::Origin::path(shown))
            }
        }
        (Some(place), Some(source), Some(origin)) => match excerpt(source, place) {
            Some((line, start, text)) => title.element(
                Snippet::source(text)
                    .path(origin.clone())
                    .line_start(line)
                    .fold(false)
                    .annotation(AnnotationKind::Primary.span(start)),
            ),
            None => {
                let other = match place {
                    // The place is in a base config, whose name it begins with.
                    Place::Yaml(path) if path.contains(": ") => Some(printable(path)),
                    _ => None,
                };
                let origin = other.unwrap_or_else(|| origin.clone());
                title.element(annotate_snippets::Origin::path(origin))
            }
        },
        _ => Group::with_title(title),
    };
    if let Some(rule) = &finding.rule {
        group = group.element(Level::NOTE.message(rule.as_str()));
    }
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// The line number (from 1), the span in the line, and the line.
fn excerpt<'a>(
    source: &'a Source,
    place: &Place,
) -> Option<(usize, std::ops::Range<usize>, &'a str)> {
    let at = Position::of(place, Some(source))?;
    let (line, column, length) = (at.line, at.column, at.bytes.len());
    let text = source.text.lines().nth(line.checked_sub(1)?)?;
    let text = if line == 1 {
        text.trim_start_matches('\u{feff}')
    } else {
        text
    };
    let start = text
        .char_indices()
        .nth(column.checked_sub(1)?)
        .map_or(text.len(), |(byte, _)| byte);
    let rest = text.get(start..)?;
    // A parser gives a point; a word or a value is easier to see.
    let word = rest
        .find([' ', ',', ':', '}', ']', '#'])
        .unwrap_or(rest.len())
        .max(usize::from(!rest.is_empty()));
    let wanted = if length == 0 {
        word
    } else {
        length.min(rest.len())
    };
    let end = (1..=rest.len())
        .rev()
        .find(|end| *end <= wanted && rest.is_char_boundary(*end))
        .unwrap_or(0);
    Some((line, start..start + end, text))
}

/// A size as people say it: three digits and a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 || tenths.is_multiple_of(10) {
        format!("{}{name}", tenths / 10)
    } else {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    }
}

/// Rows in aligned columns, two spaces between, no trailing blanks. Cells may hold names that
/// others chose, so nothing in them reaches the terminal as a command.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(
                ' ',
                (width + 2).saturating_sub(cell.chars().count()),
            ));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text with its control characters written out.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_finding_shows_its_line_with_a_caret() {
        let text = "sysext:\n  extensions:\n  - name: 'a:b'\n    tree: t\n";
        let source = Source::parse(Path::new("config.yaml"), text.to_owned()).unwrap();
        let finding = Finding::error("name-refused", "`a:b` holds `:`")
            .at("sysext.extensions[0].name")
            .help("use letters");
        let rendered = findings(Some(&source), &[finding], false);
        assert_eq!(
            rendered,
            concat!(
                "error[name-refused]: `a:b` holds `:`\n",
                " --> config.yaml:3:11\n",
                "  |\n",
                "3 |   - name: 'a:b'\n",
                "  |           ^^^^^\n",
                "  |\n",
                "  = help: use letters\n",
            )
        );
    }

    #[test]
    fn places_beyond_the_text_do_not_panic() {
        let source = Source::parse(Path::new("c"), "\u{feff}ä: ö\n".to_owned()).unwrap();
        for (line, column) in [(0, 0), (1, 1), (1, 4), (1, 99), (9, 1)] {
            let mut finding = Finding::error("no-base", "m");
            finding.place = Some(Place::Position { line, column });
            assert!(!findings(Some(&source), &[finding], false).is_empty());
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(1023), "1023B");
        assert_eq!(size(16384), "16K");
        assert_eq!(size(40_000_000), "38.1M");
        assert_eq!(size(10 << 20), "10M");
    }

    #[test]
    fn tables_align() {
        let rows = vec![
            vec!["a".into(), "bb".into()],
            vec!["ccc".into(), "d".into()],
        ];
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
        let name = vec![vec!["\u{1b}[2J\nä".into(), "x".into()]];
        assert_eq!(table(&name), "\\u{1b}[2J\\nä  x\n");
    }
}
