//! Edits of the text: the section goes, what is missing comes in.
//!
//! The two halves are in `cut` and `graft`; here the edits are collected,
//! ordered and made.

use std::ops::Range;

use serde_yaml::Value;

use super::ExpandError;
use super::layout;
use super::literal::{Layout, Literal};
use super::proof::{Written, snippet};
use super::source::{Body, Node, Source};

/// The key of the section that Prism does not know.
pub(super) const SECTION: &str = "sysext";

/// A range of the input and what replaces it.
#[derive(Debug)]
pub(super) struct Edit {
    range: Range<usize>,
    new: New,
    section: bool,
}

#[derive(Debug)]
enum New {
    /// Text that goes where it is put.
    Inline(String),
    /// Whole lines. They start on a line of their own, whatever stands before
<<<<<<< HEAD
    /// them, and behind a blank line when `apart`.
    Lines { text: String, apart: bool },
}

impl Edit {
    fn delete(range: Range<usize>) -> Edit {
        Edit {
            range,
            new: New::Inline(String::new()),
            section: false,
        }
    }

    fn inline(at: usize, text: String) -> Edit {
        Edit {
            range: at..at,
            new: New::Inline(text),
            section: false,
        }
    }

    fn lines(at: usize, text: String) -> Edit {
        Edit {
            range: at..at,
            new: New::Lines { text, apart: false },
            section: false,
        }
    }

    fn of_section(range: Range<usize>) -> Edit {
        Edit {
            range,
            new: New::Inline(String::new()),
            section: true,
        }
    }
=======
    /// them, and behind a blank line when `apart`. `closed` when the last line
    /// break is part of a value.
    Lines {
        text: String,
        apart: bool,
        closed: bool,
    },
>>>>>>> expand
}

/// The edits that take the section out and bring `missing` in; `value` is the
/// data of the text with merge keys resolved.
pub(super) fn edits(
    source: &Source<'_>,
    value: &Value,
    missing: &Literal,
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
    splice.run(value)?;
    // Stable: at one place the insertion stands before the deletion that starts there.
    splice
        .edits
        .sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut from = 0;
    for edit in &splice.edits {
        if edit.range.start < from || edit.range.end < edit.range.start {
            return Err(ExpandError::Unproven {
                reason: "two edits overlap".to_owned(),
                snippet: snippet(missing),
            });
        }
        from = edit.range.end;
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

<<<<<<< HEAD
/// True when the lines that we wrote end inside a `|`, whose value needs the
/// final line break. `|-` would not, but then the break does no harm.
fn ends_in_block_scalar(lines: &str) -> bool {
    lines.lines().last().is_some_and(|last| {
        let key = last.trim_start().trim_start_matches("- ");
        !["name: ", "content: ", "permissions: "]
            .iter()
            .any(|name| key.starts_with(name))
            && lines.contains(": |")
    })
}

struct Splice<'s, 't> {
    source: &'s Source<'t>,
    missing: &'s Literal,
    layout: Layout,
    /// End of what was deleted with the section.
    section_end: usize,
=======
/// The edits so far and what they are about.
pub(super) struct Splice<'s, 't> {
    pub(super) source: &'s Source<'t>,
    pub(super) missing: &'s Literal,
    pub(super) layout: Layout,
    /// End of what was deleted with the section; 0 when there is none.
    pub(super) section_end: usize,
    /// Place of a section that was last in a flow mapping, where new keys go.
    pub(super) slot: Option<usize>,
>>>>>>> expand
    edits: Vec<Edit>,
}

impl Splice<'_, '_> {
    /// Deletes a comma or an empty value.
    pub(super) fn delete(&mut self, range: Range<usize>) {
        self.edits.push(Edit {
            range,
            new: New::Inline(String::new()),
            section: false,
        });
    }

    /// Deletes what belongs to the section.
    pub(super) fn delete_section(&mut self, range: Range<usize>) {
        self.section_end = self.section_end.max(range.end);
        self.edits.push(Edit {
            range,
            new: New::Inline(String::new()),
            section: true,
        });
    }

    /// Inserts text as it is.
    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.edits.push(Edit {
            range: at..at,
            new: New::Inline(text),
            section: false,
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
        });
    }

    pub(super) fn refuse(&self, at: usize, reason: String) -> ExpandError {
        ExpandError::Refused {
            line: self.source.line(at),
            reason,
            snippet: snippet(self.missing),
        }
    }

    fn run(&mut self, value: &Value) -> Result<(), ExpandError> {
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
        self.layout = layout::of(source, root, self.layout);
        if let Some((index, entry)) = root.entry(SECTION) {
            self.cut(root, index, entry)?;
        } else if value.get(SECTION).is_some() {
            let reason = "`sysext` comes from a merge key or an alias, and taking it out would change \
                          what that stands for; write `sysext:` out at the top level";
            return Err(self.refuse(root.start, reason.to_owned()));
        }
        if adds {
<<<<<<< HEAD
            if !matches!(root.body, Body::Mapping { .. }) {
                let reason =
                    "the top level is no mapping that could be added to; remove it".to_owned();
                return Err(self.refuse(root.start, reason));
            }
            let missing = self.missing;
            self.graft(root, missing, value, "", is_json(root, source))?;
=======
            self.graft_root(root, value)?;
>>>>>>> expand
        }
        self.unfinished_block_scalar(root)
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
<<<<<<< HEAD
        if is_block_scalar(leaf) && ends_text && appended && self.section_end != text.len() {
=======
        if leaf.is_block_scalar() && ends_text && appended && self.section_end != text.len() {
>>>>>>> expand
            let reason = "the file ends inside a block scalar without a final line break, so whatever is \
                          added behind it changes its value; end the file with a line break";
            return Err(self.refuse(leaf.start, reason.to_owned()));
        }
        Ok(())
    }

<<<<<<< HEAD
    // --- taking the section out

    fn remove(
        &mut self,
        root: &Node,
        index: usize,
        entry: &(Node, Node),
        adds: bool,
    ) -> Result<(), ExpandError> {
        let (key, value) = entry;
        if let Some((name, at)) = self.source.used_outside(&(key.start..value.end)) {
            let reason = format!(
                "`*{name}` refers to an anchor that is defined inside `sysext`, which has to go; \
                 define `&{name}` outside of `sysext` (an alias inside is fine)"
            );
            return Err(self.refuse(at, reason));
        }
        match &root.body {
            Body::Mapping {
                flow: true,
                entries,
            } => {
                let before = index.checked_sub(1).and_then(|index| entries.get(index));
                self.remove_flow(root, before.map(|(_, value)| value), key, value)
            }
            Body::Mapping {
                flow: false,
                entries,
            } => {
                let before = index.checked_sub(1).and_then(|index| entries.get(index));
                let only = entries.len() == 1;
                self.remove_block(before.map(|(_, value)| value), key, value, only && !adds)
            }
            _ => Ok(()),
        }
    }

    fn remove_block(
        &mut self,
        before: Option<&Node>,
        key: &Node,
        value: &Node,
        leave_empty_mapping: bool,
    ) -> Result<(), ExpandError> {
        let source = self.source;
        let first = source.line_start(key.start);
        let lead = source.text.get(first..key.start).unwrap_or_default();
        if !matches!(lead.trim(), "" | "?") {
            let reason = format!("`sysext` does not start its line (found {lead:?} before it)");
            return Err(self.refuse(key.start, reason));
        }
        let column = lead.find(|c: char| c != ' ').unwrap_or(lead.len());
        let start = self.comments_above(first, column);
        let mut end = self.comments_below(source.next_line(value.end), column, false);

        let keeps = before.is_some_and(|before| {
            let leaf = before.last_leaf();
            is_block_scalar(leaf) && source.keeps_line_breaks(leaf.content)
        });
        let blank_above = start == source.first()
            || source.text.get(..start).is_some_and(ends_in_blank_line)
            || source
                .text
                .get(..start)
                .is_some_and(|above| above.ends_with("---\n"));
        if blank_above || keeps {
            end = self.blank_lines_below(end);
        }
        self.section_end = end;
        self.edits.push(Edit::of_section(start..end));
        if leave_empty_mapping {
            let indent = " ".repeat(column);
            let text = format!("{indent}{{}}{}", self.layout.line_break);
            self.edits.push(Edit::lines(end, text));
        }
        Ok(())
    }

    /// Start of the comment lines directly above `first` in the same column.
    fn comments_above(&self, first: usize, column: usize) -> usize {
        let source = self.source;
        let mut start = first;
        while let Some(above) = source
            .text
            .get(source.first()..start)
            .and_then(|text| text.strip_suffix('\n'))
            .map(|text| source.first() + text.rfind('\n').map_or(0, |newline| newline + 1))
        {
            let line = source.line_at(above);
            if indentation(line) != column || !line.trim_start().starts_with('#') {
                break;
            }
            start = above;
        }
        // What begins the file is about the file.
        if start == source.first() {
            first
        } else {
            start
        }
    }

=======
>>>>>>> expand
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
            if line.trim_start().starts_with('#') && deep {
                end = next;
            } else if !line.trim().is_empty() {
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
<<<<<<< HEAD
        end
    }

    fn remove_flow(
        &mut self,
        root: &Node,
        before: Option<&Node>,
        key: &Node,
        value: &Node,
    ) -> Result<(), ExpandError> {
        let source = self.source;
        let comma_at = |at: usize| {
            let at = source.skip_trivia(at);
            (source.byte(at) == Some(b',')).then_some(at)
        };
        let comma_before = before.and_then(|before| comma_at(before.end));
        let gap = comma_before.map_or(root.content, |comma| comma) + 1;
        // Not `key.start`: an explicit key begins with `?`.
        let start = source.skip_trivia(gap);
        let comma_behind = comma_at(value.end);
        let end = comma_behind.map_or(value.end, |comma| comma + 1);
        let rest_of_line = source.line_at(end);
        let ends_line = matches!(rest_of_line.trim_start().bytes().next(), None | Some(b'#'));

        let range = if source.begins_line(start) && start > gap {
            if ends_line && comma_behind.is_some() {
                source.line_start(start)..source.next_line_from(end)
            } else {
                // The last entry goes with the line break before it.
                let to = if ends_line {
                    end + rest_of_line.len()
                } else {
                    end
                };
                let line = source.line_start(start);
                let above = source.text.get(..line).unwrap_or_default();
                above
                    .trim_end_matches('\n')
                    .trim_end_matches('\r')
                    .len()
                    .max(gap)..to
            }
        } else if comma_behind.is_some() {
            let blanks = rest_of_line.len() - rest_of_line.trim_start().len();
            start..end + blanks
        } else {
            let blanks = source.text.get(gap..start).unwrap_or_default();
            let from = if before.is_some() {
                gap + blanks.trim_end().len()
            } else {
                start
            };
            from..end
        };
        if let (Some(comma), None) = (comma_before, comma_behind) {
            self.edits.push(Edit::delete(comma..comma + 1));
        }
        self.section_end = range.end;
        self.edits.push(Edit::of_section(range));
        Ok(())
    }

    // --- bringing in what is missing

    /// Joins `addition` into `node`, which is the value at `path`.
    fn graft(
        &mut self,
        node: &Node,
        addition: &Literal,
        value: &Value,
        path: &str,
        json: bool,
    ) -> Result<(), ExpandError> {
        if let Some((name, at)) = self.source.alias_of(node) {
            let reason = format!(
                "`{path}` has the anchor `&{name}`, and what is added to it would also appear at `*{name}`; \
                 write one of the two out"
            );
            return Err(self.refuse(at, reason));
        }
        match (&node.body, addition) {
            (Body::Mapping { flow, entries }, Literal::Map(additions)) => {
                let mut absent = Vec::new();
                for (name, addition) in additions {
                    let path = join(path, name);
                    let below = value.get(*name).unwrap_or(&Value::Null);
                    match node.entry(name) {
                        Some((_, entry)) => {
                            self.graft_entry(entry, *flow, addition, below, &path, json)?;
                        }
                        None if !below.is_null() => {
                            let reason = format!(
                                "`{path}` comes from a merge key; write it out here to add to it"
                            );
                            return Err(self.refuse(node.start, reason));
                        }
                        None => absent.push((*name, addition)),
                    }
                }
                if absent.is_empty() {
                    return Ok(());
                }
                if *flow {
                    let texts = absent
                        .iter()
                        .map(|(name, addition)| flow_entry(name, addition, json));
                    let last = entries.last().map(|(key, value)| (key.start, value.end));
                    self.insert_flow(node, last, entries.len(), texts.collect());
                } else {
                    self.insert_keys(node, entries, absent, path.is_empty());
                }
                Ok(())
            }
            (Body::Sequence { flow: true, items }, Literal::List(additions)) => {
                let texts = additions.iter().map(|item| item.flow(json)).collect();
                let last = items.last().map(|item| (item.start, item.end));
                self.insert_flow(node, last, items.len(), texts);
                Ok(())
            }
            _ => {
                let reason = format!("`{path}` is not written as Prism expects it");
                Err(self.refuse(node.start, reason))
            }
        }
    }

    /// Joins `addition` into the value of an entry of a mapping.
    fn graft_entry(
        &mut self,
        (key, node): &(Node, Node),
        in_flow: bool,
        addition: &Literal,
        value: &Value,
        path: &str,
        json: bool,
    ) -> Result<(), ExpandError> {
        if matches!(node.body, Body::Alias) {
            let reason = format!(
                "`{path}` is an alias, and what is added to it would also appear elsewhere; write it out here"
            );
            return Err(self.refuse(node.start, reason));
        }
        let json = is_json(node, self.source) || (json && first_scalar(node).is_none());
        if self.is_vacant(node, in_flow) && self.source.alias_of(node).is_none() {
            return self.fill(key, node, in_flow, addition, path, json);
        }
        let (Body::Sequence { flow: false, .. }, Literal::List(_)) = (&node.body, addition) else {
            return self.graft(node, addition, value, path, json);
        };
        if let Some((name, at)) = self.source.alias_of(node) {
            let reason = format!(
                "`{path}` has the anchor `&{name}`, and what is added to it would also appear at `*{name}`; \
                 write one of the two out"
            );
            return Err(self.refuse(at, reason));
        }
        let Some(dash) = self.source.dash(key, node) else {
            let reason = format!("the first `-` of `{path}` was not found");
            return Err(self.refuse(node.start, reason));
        };
        let column = self.source.column(dash);
        let layout = Layout {
            gap: gap(self.source, dash, node),
            ..self.layout
        };
        let at = self.comments_below(self.source.next_line(node.end), column, false);
        self.edits
            .push(Edit::lines(at, addition.block(column, layout)));
        Ok(())
    }

    /// True for a value that holds nothing and can be replaced by block style lines.
    fn is_vacant(&self, node: &Node, in_flow: bool) -> bool {
        let empty = match &node.body {
            Body::Sequence { items, .. } => items.is_empty(),
            Body::Mapping { entries, .. } => entries.is_empty(),
            Body::Scalar { .. } => return node.is_null() && !node.foreign_tag,
            Body::Alias => false,
        };
        let written = self
            .source
            .text
            .get(node.content..node.end)
            .unwrap_or_default();
        empty && !in_flow && matches!(written, "[]" | "{}")
    }

    /// Gives a value to an entry that has none.
    fn fill(
        &mut self,
        key: &Node,
        node: &Node,
        in_flow: bool,
        addition: &Literal,
        path: &str,
        json: bool,
    ) -> Result<(), ExpandError> {
        let source = self.source;
        let Some(colon) = source.colon(key.end) else {
            let reason = format!("`{path}` is a key without a colon; write `{path}:`");
            return Err(self.refuse(key.start, reason));
        };
        if in_flow {
            if node.content < node.end {
                self.edits.push(Edit::delete(node.content..node.end));
                self.edits.push(Edit::inline(node.end, addition.flow(json)));
            } else {
                self.edits
                    .push(Edit::inline(node.end, format!(" {}", addition.flow(json))));
            }
            return Ok(());
        }
        if node.content < node.end {
            let before = source.text.get(..node.content).unwrap_or_default();
            let from = before.trim_end().len().max(colon + 1);
            self.edits.push(Edit::delete(from..node.end));
        }
        let entry = source.line_start(key.start);
        let lead = source.text.get(entry..key.start).unwrap_or_default();
        let parent = lead.chars().take_while(|c| *c == ' ').count();
        let column = parent
            + match addition {
                Literal::List(_) => self.layout.list_step,
                _ => self.layout.map_step,
            };
        let at = self.comments_below(source.next_line(node.end), parent, false);
        self.edits
            .push(Edit::lines(at, addition.block(column, self.layout)));
        Ok(())
    }

    /// Adds keys behind the last one of a block mapping.
    fn insert_keys(
        &mut self,
        node: &Node,
        entries: &[(Node, Node)],
        absent: Vec<(&'static str, &Literal)>,
        top: bool,
    ) {
        let source = self.source;
        let first = entries.first().map_or(node.content, |(key, _)| key.start);
        let line = source.line_start(first);
        let lead = source.text.get(line..first).unwrap_or_default();
        // `? key` counts from the question mark; a mapping behind `- ` from its key.
        let column = match lead.find('?') {
            Some(at)
                if lead
                    .get(at + 1..)
                    .is_some_and(|rest| rest.trim().is_empty()) =>
            {
                at
            }
            _ => source.column(first),
        };
        let apart = top && sections_stand_apart(source, entries);
        let at = self.comments_below(source.next_line(node.end), column, true);
        let at = if top { at.max(self.section_end) } else { at };
        for (name, addition) in absent {
            let text = Literal::entry(name, addition.clone()).block(column, self.layout);
            self.edits.push(Edit {
                range: at..at,
                new: New::Lines { text, apart },
                section: false,
            });
        }
    }

    /// Adds entries to a flow collection behind its last one, which covers
    /// `last`; on lines of their own where the last one has that.
    fn insert_flow(
        &mut self,
        node: &Node,
        last: Option<(usize, usize)>,
        count: usize,
        texts: Vec<String>,
    ) {
        let source = self.source;
        let goes = |at: usize| {
            self.edits
                .iter()
                .any(|edit| edit.section && edit.range.contains(&at))
        };
        let survivor = last.filter(|(start, _)| count > 1 || !goes(*start));
        let Some((start, end)) = survivor else {
            // Nothing stays in front: right behind the bracket.
            self.edits
                .insert(0, Edit::inline(node.content + 1, texts.join(", ")));
            return;
        };
        let trailing = source.skip_trivia(end);
        let trailing_comma = (source.byte(trailing) == Some(b',')).then_some(trailing);
        if !source.begins_line(start) || goes(start) {
            let mut text = String::new();
            for item in &texts {
                text.push_str(", ");
                text.push_str(item);
            }
            // Behind a section that goes, its comma has to stay.
            self.edits.push(Edit::inline(end, text));
            return;
        }
        let indent = source
            .text
            .get(source.line_start(start)..start)
            .unwrap_or_default();
        let separator = format!("{}{indent}", self.layout.line_break);
        let behind = trailing_comma.map_or(end, |comma| comma + 1);
        let rest = source.line_at(behind);
        let at = if rest.trim_start().starts_with('#') {
            behind + rest.len()
        } else {
            behind
        };
        if trailing_comma.is_none() {
            self.edits.push(Edit::inline(end, ",".to_owned()));
        }
        let mut text = format!("{separator}{}", texts.join(&format!(",{separator}")));
        if trailing_comma.is_some() {
            text.push(',');
        }
        self.edits.push(Edit::inline(at, text));
    }
}

impl Source<'_> {
    /// First byte of the line behind the one that holds `at`.
    fn next_line_from(&self, at: usize) -> usize {
        self.text
            .get(at..)
            .and_then(|rest| rest.find('\n'))
            .map_or(self.text.len(), |newline| at + newline + 1)
    }
}

fn is_unwritten(node: &Node) -> bool {
    node.is_null() && node.start == node.end
}

fn is_block_scalar(node: &Node) -> bool {
    use serde_saphyr::granit_parser::ScalarStyle::{Folded, Literal};
    matches!(
        node.body,
        Body::Scalar {
            style: Literal | Folded,
            ..
        }
    )
}

fn indentation(line: &str) -> usize {
    line.chars().take_while(|c| *c == ' ').count()
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The first scalar written inside a flow collection.
fn first_scalar(node: &Node) -> Option<&Node> {
    let mut node = node;
    loop {
        node = match &node.body {
            Body::Sequence { flow: true, items } => items.first()?,
            Body::Mapping {
                flow: true,
                entries,
            } => &entries.first()?.0,
            Body::Scalar { .. } => return Some(node),
            _ => return None,
        };
    }
}

/// True for a flow collection that quotes as JSON does.
fn is_json(node: &Node, source: &Source<'_>) -> bool {
    let collection = matches!(
        node.body,
        Body::Sequence { flow: true, .. } | Body::Mapping { flow: true, .. }
    );
    collection && first_scalar(node).is_some_and(|scalar| source.byte(scalar.content) == Some(b'"'))
}

/// Blanks between the first dash of a block list and its item.
fn gap(source: &Source<'_>, dash: usize, list: &Node) -> usize {
    let Body::Sequence { items, .. } = &list.body else {
        return Layout::PRISM.gap;
    };
    let Some(first) = items.first() else {
        return Layout::PRISM.gap;
    };
    let between = source.text.get(dash + 1..first.start).unwrap_or_default();
    let blanks = !between.is_empty() && between.bytes().all(|byte| byte == b' ');
    if blanks && between.len() <= 8 {
        between.len()
    } else {
        Layout::PRISM.gap
    }
}

/// True when a blank line stands between two sections of the top level.
fn sections_stand_apart(source: &Source<'_>, entries: &[(Node, Node)]) -> bool {
    let pairs = entries.iter().zip(entries.iter().skip(1));
    pairs.into_iter().any(|((_, before), (key, _))| {
        let from = source.next_line(before.end);
        let between = source.text.get(from..key.start).unwrap_or_default();
        let keeps = is_block_scalar(before.last_leaf())
            && source.keeps_line_breaks(before.last_leaf().content);
        !keeps && between.lines().any(|line| line.trim().is_empty())
    })
}

/// How the file indents: the first nested mapping and the first list outside
/// the section decide, then those inside.
fn layout(source: &Source<'_>, root: &Node, default: Layout) -> Layout {
    let Body::Mapping {
        flow: false,
        entries,
    } = &root.body
    else {
        return default;
    };
    let section = |(key, _): &&(Node, Node)| key.text() == Some(SECTION);
    let (inside, outside): (Vec<_>, Vec<_>) = entries.iter().partition(section);
    let (mut map_step, mut list_step) = (None, None);
    for entry in outside.into_iter().chain(inside) {
        steps(source, entry, &mut map_step, &mut list_step);
    }
    Layout {
        map_step: map_step.unwrap_or(default.map_step),
        list_step: list_step.unwrap_or(default.list_step),
        ..default
    }
}

fn steps(
    source: &Source<'_>,
    (key, value): &(Node, Node),
    map_step: &mut Option<usize>,
    list_step: &mut Option<usize>,
) {
    let column = source.column(key.start);
    match &value.body {
        Body::Mapping {
            flow: false,
            entries,
        } => {
            if let Some((first, _)) = entries.first() {
                let step = source.column(first.start).checked_sub(column);
                *map_step = map_step.or(step.filter(|step| (1..=16).contains(step)));
            }
            for entry in entries {
                steps(source, entry, map_step, list_step);
            }
        }
        Body::Sequence { flow: false, items } => {
            let dash = source.dash(key, value).map(|dash| source.column(dash));
            let step = dash.and_then(|dash| dash.checked_sub(column));
            *list_step = list_step.or(step.filter(|step| *step <= 16));
            for item in items {
                if let Body::Mapping {
                    flow: false,
                    entries,
                } = &item.body
                {
                    for entry in entries {
                        steps(source, entry, map_step, list_step);
                    }
                }
            }
        }
        _ => {}
=======
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
>>>>>>> expand
    }
}
