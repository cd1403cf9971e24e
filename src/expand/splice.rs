//! Edits of the text: the section goes, what is missing comes in.
//!
//! The two halves are in `cut` and `graft`; here the edits are collected,
//! ordered and made.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_yaml::Value;

use super::literal::{Layout, Literal};
use super::node::{Body, Node};
use super::proof::{Written, snippet};
use super::spans::Source;
use super::{ExpandError, SECTION, style};

/// A range of the input and what replaces it.
#[derive(Debug)]
pub(super) struct Edit {
    range: Range<usize>,
    new: New,
    section: bool,
    scalar: bool,
}

#[derive(Debug)]
enum New {
    /// Text that goes where it is put.
    Inline(String),
    /// Whole lines. They start on a line of their own, whatever stands before
    /// them, and behind a blank line when `apart`. `closed` when the last line
    /// break is part of a value.
    Lines {
        text: String,
        apart: bool,
        closed: bool,
    },
}

/// The edits that take the section out, bring `missing` in and move base configs; `value` is the
/// data of the text with merge keys resolved.
pub(super) fn edits(
    source: &Source<'_>,
    value: &Value,
    missing: &Literal,
    bases: &BTreeMap<usize, String>,
) -> Result<Vec<Edit>, ExpandError> {
    let mut splice = Splice {
        source,
        missing,
        layout: Layout {
            line_break: source.line_break(),
            ..Layout::PRISM
        },
        section_end: 0,
        slot: None,
        edits: Vec::new(),
    };
    splice.run(value, bases)?;
    // Stable: at one place the insertion stands before the deletion that starts there.
    splice
        .edits
        .sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut from = 0;
    for edit in &splice.edits {
        if edit.range.start < from || edit.range.end < edit.range.start {
            return Err(ExpandError::Unproven {
                line: source.line(edit.range.start),
                reason: "two edits overlap".to_owned(),
                snippet: snippet(missing),
            });
        }
        from = edit.range.end;
    }
    if let Some((at, found)) = source.disputed_break().filter(|_| !splice.edits.is_empty()) {
        let reason = format!(
            "the file holds U+{:04X}, which ends a line in YAML 1.1 and Prism but not in YAML 1.2; \
             take it out, or write it as `\\u{:04x}` in double quotes",
            u32::from(found),
            u32::from(found)
        );
        return Err(splice.refuse(at, reason));
    }
    if let Some(at) = source.stray_mark().filter(|_| !splice.edits.is_empty()) {
        let reason = "the file holds a byte order mark that is not at its start, which is a column to \
                      some readers of YAML and nothing to others; take it out";
        return Err(splice.refuse(at, reason.to_owned()));
    }
    Ok(splice.edits)
}

/// The text with `edits` made, and what was written where.
pub(super) fn apply(source: &Source<'_>, edits: Vec<Edit>) -> (String, Vec<Written>) {
    let text = source.text;
    let line_break = source.line_break();
    let unfinished = !text.is_empty() && !text.ends_with('\n');
    let mut output = String::with_capacity(text.len() + 1024);
    let mut written = Vec::with_capacity(edits.len());
    let mut from = 0;
    for edit in edits {
        output.push_str(text.get(from..edit.range.start).unwrap_or_default());
        from = edit.range.end;
        let new = match edit.new {
            New::Inline(new) => new,
            New::Lines {
                text: lines,
                apart,
                closed,
            } => {
                let before = output.trim_start_matches('\u{feff}');
                let mut new = String::new();
                if !before.is_empty() && !before.ends_with('\n') {
                    new.push_str(line_break);
                }
                if apart && !before.is_empty() && !ends_in_blank_line(before) {
                    new.push_str(line_break);
                }
                new.push_str(&lines);
                // A file without a final line break stays one.
                if from == text.len() && unfinished && !closed {
                    new.truncate(new.len().saturating_sub(line_break.len()));
                }
                new
            }
        };
        output.push_str(&new);
        written.push(Written {
            range: edit.range,
            text: new,
            section: edit.section,
            scalar: edit.scalar,
        });
    }
    output.push_str(text.get(from..).unwrap_or_default());
    (output, written)
}

/// True when the last line of `text` is complete and blank.
pub(super) fn ends_in_blank_line(text: &str) -> bool {
    text.strip_suffix('\n')
        .map(|text| text.strip_suffix('\r').unwrap_or(text))
        .is_some_and(|text| text.is_empty() || text.ends_with('\n'))
}

/// The edits so far and what they are about.
pub(super) struct Splice<'s, 't> {
    pub(super) source: &'s Source<'t>,
    pub(super) missing: &'s Literal,
    pub(super) layout: Layout,
    /// End of what was deleted with the section; 0 when there is none.
    pub(super) section_end: usize,
    /// Place of a section that was last in a flow mapping, where new keys go.
    pub(super) slot: Option<usize>,
    edits: Vec<Edit>,
}

impl Splice<'_, '_> {
    /// Deletes a comma or an empty value.
    pub(super) fn delete(&mut self, range: Range<usize>) {
        self.edits.push(Edit {
            range,
            new: New::Inline(String::new()),
            section: false,
            scalar: false,
        });
    }

    /// Deletes what belongs to the section.
    pub(super) fn delete_section(&mut self, range: Range<usize>) {
        self.section_end = self.section_end.max(range.end);
        self.edits.push(Edit {
            range,
            new: New::Inline(String::new()),
            section: true,
            scalar: false,
        });
    }

    /// Writes another scalar.
    pub(super) fn replace(&mut self, range: Range<usize>, text: String) {
        self.edits.push(Edit {
            range,
            new: New::Inline(text),
            section: false,
            scalar: true,
        });
    }

    /// Inserts text as it is.
    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.edits.push(Edit {
            range: at..at,
            new: New::Inline(text),
            section: false,
            scalar: false,
        });
    }

    /// Inserts lines, behind a blank line when `apart`.
    pub(super) fn insert_lines(
        &mut self,
        at: usize,
        literal: &Literal,
        column: usize,
        layout: Layout,
        apart: bool,
    ) {
        let text = literal.block(column, layout);
        let new = New::Lines {
            text,
            apart,
            closed: literal.ends_in_block_scalar(),
        };
        self.edits.push(Edit {
            range: at..at,
            new,
            section: false,
            scalar: false,
        });
    }

    pub(super) fn refuse(&self, at: usize, reason: String) -> ExpandError {
        ExpandError::Refused {
            line: self.source.line(at),
            reason,
            snippet: snippet(self.missing),
        }
    }

    fn run(&mut self, value: &Value, bases: &BTreeMap<usize, String>) -> Result<(), ExpandError> {
        let source = self.source;
        let missing = self.missing;
        let adds = !missing.is_empty();
        let unwritten = |root: &&Node| root.is_null() && root.start == root.end;
        let Some(root) = source.root.as_ref().filter(|root| !unwritten(root)) else {
            if adds {
                self.insert_lines(source.limit, missing, 0, self.layout, false);
            }
            return Ok(());
        };
        self.tagged_keys(root, adds || !bases.is_empty())?;
        self.layout = style::of(source, root, self.layout);
        if let Some((index, entry)) = root.entry(SECTION) {
            self.cut(root, index, entry)?;
        } else if value.get(SECTION).is_some() {
            let reason = "`sysext` comes from a merge key or an alias, and taking it out would change \
                          what that stands for; write `sysext:` out at the top level";
            return Err(self.refuse(root.start, reason.to_owned()));
        }
        if adds {
            self.graft_root(root, value)?;
        }
        if !bases.is_empty() {
            self.rebase(root, bases)?;
        }
        self.unfinished_block_scalar(root)
    }

    /// To Prism `!x os` is `os`, and to the reader that proves an edit another key.
    fn tagged_keys(&self, root: &Node, edits: bool) -> Result<(), ExpandError> {
        let mut found = root.tagged_key(&[SECTION]);
        if edits {
            found = found.or_else(|| root.tagged_key(&["os", "scripts", "baseConfigs"]));
            for (key, inner) in [
                ("os", ["additionalFiles", "services"].as_slice()),
                ("scripts", &["postCustomization"]),
            ] {
                let map = root.entry(key).map(|(_, (_, map))| map);
                found = found.or_else(|| map?.tagged_key(inner));
            }
        }
        match found {
            None => Ok(()),
            Some(key) => {
                let reason = "this key has a tag, which Prism passes over; write it without";
                Err(self.refuse(key.start, reason.to_owned()))
            }
        }
    }

    /// A block scalar that ends with the text but without a line break has none
    /// in its value for yaml.v3; lines behind it would give it one.
    fn unfinished_block_scalar(&self, root: &Node) -> Result<(), ExpandError> {
        let leaf = root.last_leaf();
        let text = self.source.text;
        let ends_text = leaf.end == text.len() && !text.ends_with('\n');
        let appended = self
            .edits
            .iter()
            .any(|edit| edit.range == (text.len()..text.len()));
        if leaf.is_block_scalar() && ends_text && appended && self.section_end != text.len() {
            let reason = "the file ends inside a block scalar without a final line break, so whatever is \
                          added behind it changes its value; end the file with a line break";
            return Err(self.refuse(leaf.start, reason.to_owned()));
        }
        Ok(())
    }

    /// End of the comment lines from `at` on that are indented deeper than
    /// `column`, or as deep where `level` says so; blank lines between count.
    pub(super) fn comments_below(&self, at: usize, column: usize, level: bool) -> usize {
        let source = self.source;
        let (mut end, mut next) = (at, at);
        while next < source.limit {
            let line = source.line_at(next);
            let depth = indentation(line);
            let deep = depth > column || (level && depth == column);
            next = source.line_behind(next);
            if line.trim_ascii_start().starts_with('#') && deep {
                end = next;
            } else if !line.trim_ascii().is_empty() {
                break;
            }
        }
        end
    }

    /// True when the top level has to gain a key.
    pub(super) fn gains_keys(&self, root: &Node) -> bool {
        match self.missing {
            Literal::Map(entries) => entries.iter().any(|(key, _)| root.entry(key).is_none()),
            _ => false,
        }
    }
}

/// Blanks at the start of a line.
pub(super) fn indentation(line: &str) -> usize {
    line.chars().take_while(|c| *c == ' ').count()
}

/// True when `node` is written in block style, for a mapping.
pub(super) fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.body {
        Body::Mapping { entries, .. } => entries,
        _ => &[],
    }
}
