//! The user's text as a tree that knows which bytes each node came from.
//!
//! The events are `granit_parser`'s, which `serde-saphyr` (the parser of the
//! config itself) is built on. They are not spans of whole nodes: a block
//! collection starts at its first token and ends at the token after it, a null
//! that is not written stands before its colon, a block scalar runs into the
//! indentation of the next line. This module turns them into the ranges that a
//! person would mark with the cursor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_saphyr::granit_parser;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag, options};

use super::ExpandError;

/// Largest text that is read, in bytes; Prism configs are a few KiB.
const MAX_BYTES: usize = 4 << 20;
/// Most nodes that a config may hold once its aliases are followed.
const MAX_NODES: u64 = 1_000_000;

/// What a node is.
#[derive(Debug)]
pub(super) enum Body {
    /// A scalar: its value and how it is written.
    Scalar { value: String, style: ScalarStyle },
    /// `*name`.
    Alias,
    /// A list; `flow` when written `[…]`.
    Sequence { flow: bool, items: Vec<Node> },
    /// A mapping; `flow` when written `{…}`.
    Mapping {
        flow: bool,
        entries: Vec<(Node, Node)>,
    },
}

/// One node and the bytes it came from.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) body: Body,
    /// The id of the anchor it defines.
    pub(super) anchor: Option<usize>,
    /// True when it carries a tag other than the core schema's.
    pub(super) foreign_tag: bool,
    /// First byte, anchor and tag included.
    pub(super) start: usize,
    /// First byte behind anchor and tag.
    pub(super) content: usize,
    /// First byte behind the node. A block scalar ends behind its line break.
    pub(super) end: usize,
}

impl Node {
    /// True for a null, written or left out.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Scalar { value, style: ScalarStyle::Plain }
            if matches!(value.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar without a foreign tag.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Scalar { value, .. } if !self.foreign_tag => Some(value),
            _ => None,
        }
    }

    /// The entry of a mapping whose key reads `key`, and its index.
    pub(super) fn entry(&self, key: &str) -> Option<(usize, &(Node, Node))> {
        match &self.body {
            Body::Mapping { entries, .. } => entries
                .iter()
                .enumerate()
                .find(|(_, (name, _))| name.text() == Some(key)),
            _ => None,
        }
    }

    /// The first key of a mapping that has a tag of its own and reads one of `names` without it, as
    /// yaml.v3 reads it.
    pub(super) fn tagged_key(&self, names: &[&str]) -> Option<&Node> {
        let Body::Mapping { entries, .. } = &self.body else {
            return None;
        };
        let reads = |key: &&Node| match &key.body {
            Body::Scalar { value, .. } => key.foreign_tag && names.contains(&value.as_str()),
            _ => false,
        };
        entries.iter().map(|(key, _)| key).find(reads)
    }

    /// True for a scalar written with `|` or `>`.
    pub(super) fn is_block_scalar(&self) -> bool {
        matches!(
            self.body,
            Body::Scalar {
                style: ScalarStyle::Literal | ScalarStyle::Folded,
                ..
            }
        )
    }

    /// The scalar whose bytes come last in this node.
    pub(super) fn last_leaf(&self) -> &Node {
        let mut node = self;
        loop {
            let last = match &node.body {
                Body::Sequence { flow: false, items } => items.last(),
                Body::Mapping {
                    flow: false,
                    entries,
                } => entries.last().map(|(_, value)| value),
                _ => None,
            };
            match last {
                Some(last) => node = last,
                None => return node,
            }
        }
    }
}

/// The only document of a text.
#[derive(Debug)]
pub(super) struct Source<'t> {
    /// The whole text.
    pub(super) text: &'t str,
    /// The document's node; `None` when the text holds comments at most.
    pub(super) root: Option<Node>,
    /// Where the document's content may end: at `...` or at the end of the text.
    pub(super) limit: usize,
    /// Names and places of anchors by id.
    anchors: BTreeMap<usize, (String, usize)>,
    /// Uses of anchors: id and place, in the order of the text.
    aliases: Vec<(usize, usize)>,
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    key: Option<Node>,
    weight: u64,
}

impl<'t> Source<'t> {
    /// Reads a text that holds at most one document.
    pub(super) fn parse(text: &'t str) -> Result<Source<'t>, ExpandError> {
        if text.len() > MAX_BYTES {
            let within = text.as_bytes().get(..MAX_BYTES).unwrap_or_default();
            return Err(ExpandError::TooLarge {
                line: within.iter().filter(|byte| **byte == b'\n').count() + 1,
                limit: MAX_BYTES,
                what: "bytes",
            });
        }
        let mut source = Source {
            text,
            root: None,
            limit: text.len(),
            anchors: BTreeMap::new(),
            aliases: Vec::new(),
        };
        source.read()?;
        Ok(source)
    }

    fn read(&mut self) -> Result<(), ExpandError> {
        let mut options = options! { emit_anchor_events: true };
        options.set_emit_comments(false);
        let mut events = Parser::new_from_str_with_options(self.text, options).peekable();
        let mut open: Vec<Open> = Vec::new();
        let mut weights: BTreeMap<usize, u64> = BTreeMap::new();
        let mut documents = 0_u32;
        while let Some(event) = events.next() {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            // Spans of a parser over `&str` always have byte offsets.
            let range = span.byte_range().unwrap_or_default();
            let from = range.start;
            let anchor = match events.peek() {
                Some(Ok((Event::Anchor(id, name), span))) => {
                    let at = span.byte_range().unwrap_or_default();
                    self.anchors.insert(*id, (name.to_string(), at.start));
                    Some((*id, at))
                }
                _ => None,
            };
            let done = match event {
                Event::DocumentStart(..) => {
                    documents = documents.saturating_add(1);
                    if documents > 1 {
                        let line = self.line(range.start);
                        return Err(ExpandError::SeveralDocuments { line });
                    }
                    None
                }
                Event::DocumentEnd => {
                    // An implicit end has an empty span at the end of the text.
                    if !range.is_empty() {
                        self.limit = range.start;
                    }
                    None
                }
                Event::Scalar(value, style, _, tag) => {
                    let end = match style {
                        ScalarStyle::Literal | ScalarStyle::Folded => self.block_end(&range),
                        _ => range.end,
                    };
                    let written = !range.is_empty() || style != ScalarStyle::Plain;
                    let value = if written {
                        value.into_owned()
                    } else {
                        String::new()
                    };
                    let body = Body::Scalar { value, style };
                    let mut node = node(body, &span, range, anchor.as_ref(), tag.as_deref());
                    node.end = node.end.max(end);
                    if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                        node.end = end;
                    }
                    Some((node, 1))
                }
                Event::Alias(id) => {
                    self.aliases.push((id, range.start));
                    let weight = weights.get(&id).copied().unwrap_or(1);
                    Some((node(Body::Alias, &span, range, None, None), weight))
                }
                Event::SequenceStart(style, _, tag) => {
                    let flow = style == StructureStyle::Flow;
                    let body = Body::Sequence {
                        flow,
                        items: Vec::new(),
                    };
                    let node = node(body, &span, range, anchor.as_ref(), tag.as_deref());
                    open.push(Open {
                        node,
                        key: None,
                        weight: 1,
                    });
                    None
                }
                Event::MappingStart(style, _, tag) => {
                    let flow = style == StructureStyle::Flow;
                    let body = Body::Mapping {
                        flow,
                        entries: Vec::new(),
                    };
                    let node = node(body, &span, range, anchor.as_ref(), tag.as_deref());
                    open.push(Open {
                        node,
                        key: None,
                        weight: 1,
                    });
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => open.pop().map(|mut closed| {
                    closed.node.end = match &closed.node.body {
                        Body::Sequence { flow: false, items } => {
                            items.last().map_or(closed.node.end, |item| item.end)
                        }
                        Body::Mapping {
                            flow: false,
                            entries,
                        } => entries
                            .last()
                            .map_or(closed.node.end, |(_, value)| value.end),
                        _ => range.end,
                    };
                    (closed.node, closed.weight)
                }),
                _ => None,
            };
            let Some((node, weight)) = done else { continue };
            if let Some(id) = node.anchor {
                weights.insert(id, weight);
            }
            let total = match open.last_mut() {
                None => {
                    self.root = Some(node);
                    weight
                }
                Some(parent) => {
                    parent.weight = parent.weight.saturating_add(weight);
                    let total = parent.weight;
                    self.adopt(parent, node);
                    total
                }
            };
            if total > MAX_NODES {
                return Err(ExpandError::TooLarge {
                    line: self.line(from),
                    limit: 1_000_000,
                    what: "YAML nodes",
                });
            }
        }
        Ok(())
    }

    fn syntax(&self, error: &granit_parser::ScanError) -> ExpandError {
        let at = error.marker();
        // Its own lines end at a lone carriage return as well.
        let (line, column) = match at.byte_offset() {
            Some(at) => (self.line(at), self.column(at) + 1),
            None => (at.line(), at.col() + 1),
        };
        ExpandError::Syntax {
            line,
            column,
            message: error.info(),
        }
    }

    fn adopt(&self, parent: &mut Open, mut node: Node) {
        match &mut parent.node.body {
            Body::Sequence { items, .. } => items.push(node),
            Body::Mapping { entries, .. } => match parent.key.take() {
                None => parent.key = Some(node),
                Some(key) => {
                    // A value that is not written has the place of the token before it.
                    if node.start == node.end && node.is_null() {
                        let at = self.colon(key.end).map_or(key.end, |colon| colon + 1);
                        (node.start, node.content, node.end) = (at, at, at);
                    }
                    entries.push((key, node));
                }
            },
            Body::Scalar { .. } | Body::Alias => {}
        }
    }

    /// The end of a block scalar whose event covers `range`: behind the last
    /// line that is part of it, without the empty lines that clipping drops.
    fn block_end(&self, range: &Range<usize>) -> usize {
        let body = self.text.get(range.clone()).unwrap_or_default();
        let lines = body.trim_end_matches(' ');
        if !lines.ends_with('\n') {
            return range.end;
        }
        let mut end = lines.len();
        if !self.keeps_line_breaks(range.start) {
            while let Some(rest) = lines.get(..end).and_then(|lines| lines.strip_suffix('\n')) {
                let rest = rest.strip_suffix('\r').unwrap_or(rest);
                if !rest.ends_with('\n') {
                    break;
                }
                end = rest.len();
            }
        }
        range.start + end
    }

    /// True when the header of the block scalar whose content starts at `start` says `+`.
    pub(super) fn keeps_line_breaks(&self, start: usize) -> bool {
        let before = self.text.get(..start).unwrap_or_default().trim_ascii_end();
        let header = before.rsplit('\n').next().unwrap_or_default();
        let header = header
            .split(" #")
            .next()
            .unwrap_or_default()
            .trim_ascii_end();
        header
            .rfind(['|', '>'])
            .and_then(|at| header.get(at..))
            .is_some_and(|indicators| indicators.contains('+'))
    }

    /// First byte of content: behind a byte order mark.
    pub(super) fn first(&self) -> usize {
        if self.text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        }
    }

    /// First byte of the line that holds `at`.
    pub(super) fn line_start(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before
            .rfind('\n')
            .map_or(0, |newline| newline + 1)
            .max(self.first())
    }

    /// First byte of the line behind the one that a node ending at `at` ends on.
    pub(super) fn next_line(&self, at: usize) -> usize {
        if at > 0
            && self
                .text
                .get(..at)
                .is_some_and(|before| before.ends_with('\n'))
        {
            return at;
        }
        self.line_behind(at)
    }

    /// First byte of the line behind the one that holds `at`.
    pub(super) fn line_behind(&self, at: usize) -> usize {
        self.text
            .get(at..)
            .and_then(|rest| rest.find('\n'))
            .map_or(self.text.len(), |newline| at + newline + 1)
    }

    /// The line that starts at `at`, without its line break.
    pub(super) fn line_at(&self, at: usize) -> &'t str {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.lines().next().unwrap_or_default()
    }

    /// Column of `at`, counted from 0 in characters.
    pub(super) fn column(&self, at: usize) -> usize {
        self.text
            .get(self.line_start(at)..at)
            .unwrap_or_default()
            .chars()
            .count()
    }

    /// Line number of `at`, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text
            .get(..at)
            .unwrap_or_default()
            .matches('\n')
            .count()
            + 1
    }

    /// True when nothing but blanks stands before `at` on its line.
    pub(super) fn begins_line(&self, at: usize) -> bool {
        self.text
            .get(self.line_start(at)..at)
            .is_some_and(|before| before.trim_ascii().is_empty())
    }

    /// First byte at or behind `at` that is neither blank nor part of a comment.
    pub(super) fn skip_trivia(&self, at: usize) -> usize {
        let mut at = at;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let token = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            let skipped = rest.len() - token.len();
            at += skipped;
            let after_blank = skipped > 0 || self.begins_line(at);
            if !token.starts_with('#') || !after_blank {
                return at;
            }
            at = self.line_behind(at);
        }
    }

    /// The byte at `at`.
    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The colon of the entry whose key ends at `key_end`.
    pub(super) fn colon(&self, key_end: usize) -> Option<usize> {
        let at = self.skip_trivia(key_end);
        (self.byte(at) == Some(b':')).then_some(at)
    }

    /// Place of the first `-` of the block list that is the value of a key.
    pub(super) fn dash(&self, key: &Node, list: &Node) -> Option<usize> {
        let colon = self.colon(key.end)? + 1;
        let behind_properties = if list.start < list.content {
            list.content
        } else {
            colon
        };
        let at = self.skip_trivia(behind_properties.max(colon));
        (self.byte(at) == Some(b'-')).then_some(at)
    }

    /// A character that only some YAML versions take for a line break, and its place.
    pub(super) fn disputed_break(&self) -> Option<(usize, char)> {
        self.text
            .char_indices()
            .find(|(_, c)| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))
    }

    /// Place of a byte order mark that is not at the start: libyaml and with it Prism count it as a
    /// column where a line begins, others do not.
    pub(super) fn stray_mark(&self) -> Option<usize> {
        let mut marks = self.text.match_indices('\u{feff}');
        marks.find(|(at, _)| *at > 0).map(|(at, _)| at)
    }

    /// What ends the lines of this text.
    pub(super) fn line_break(&self) -> &'static str {
        match self.text.find('\n') {
            Some(at) if at > 0 && self.byte(at - 1) == Some(b'\r') => "\r\n",
            _ => "\n",
        }
    }

    /// Place of the first merge key that names neither a mapping nor a list of them, as far as that
    /// can be told without following aliases; else of the first merge key.
    pub(super) fn merge_key(&self) -> Option<usize> {
        let is_merge = |(key, _): &&(Node, Node)| key.text() == Some("<<");
        let maps = self.mappings();
        let merges = || {
            maps.iter()
                .flat_map(|entries| entries.iter().filter(is_merge))
        };
        let wrong = |(_, value): &&(Node, Node)| matches!(value.body, Body::Scalar { .. });
        let place = |(key, _): &(Node, Node)| key.start;
        let wrong = merges().filter(wrong).map(place).min();
        wrong.or_else(|| merges().map(place).min())
    }

    /// Place of the first key that its mapping has already.
    pub(super) fn duplicate_key(&self) -> Option<usize> {
        let twice = self.mappings().into_iter().filter_map(|entries| {
            let mut seen = BTreeSet::new();
            let keys = entries.iter().map(|(key, _)| key);
            let mut keys = keys.filter(|key| key.text().is_some());
            keys.find(|key| !seen.insert(key.text()))
                .map(|key| key.start)
        });
        twice.min()
    }

    /// The entries of all mappings.
    fn mappings(&self) -> Vec<&[(Node, Node)]> {
        let mut found = Vec::new();
        let mut open: Vec<&Node> = self.root.iter().collect();
        while let Some(node) = open.pop() {
            match &node.body {
                Body::Sequence { items, .. } => open.extend(items),
                Body::Mapping { entries, .. } => {
                    found.push(entries.as_slice());
                    open.extend(entries.iter().flat_map(|(key, value)| [key, value]));
                }
                Body::Scalar { .. } | Body::Alias => {}
            }
        }
        found
    }

    /// An alias outside of `range` to an anchor defined inside: name, place of the alias.
    pub(super) fn used_outside(&self, range: &Range<usize>) -> Option<(&str, usize)> {
        self.aliases.iter().find_map(|(id, at)| {
            let (name, defined) = self.anchors.get(id)?;
            (range.contains(defined) && !range.contains(at)).then_some((name.as_str(), *at))
        })
    }

    /// The first alias to the anchor that `node` defines: name, place of the alias.
    pub(super) fn alias_of(&self, node: &Node) -> Option<(&str, usize)> {
        let id = node.anchor?;
        let (name, _) = self.anchors.get(&id)?;
        let (_, at) = self.aliases.iter().find(|(used, _)| *used == id)?;
        Some((name, *at))
    }
}

fn node(
    body: Body,
    span: &Span,
    range: Range<usize>,
    anchor: Option<&(usize, Range<usize>)>,
    tag: Option<&Tag>,
) -> Node {
    let tag_range = span.tag_span().and_then(|tag| tag.byte_range());
    let properties = [anchor.map(|(_, at)| at.clone()), tag_range];
    let properties = properties.into_iter().flatten();
    let (first, last) = properties.fold((range.start, None::<usize>), |(first, last), at| {
        (
            first.min(at.start),
            Some(last.map_or(at.end, |last| last.max(at.end))),
        )
    });
    let unwritten = range.is_empty() && matches!(body, Body::Scalar { .. });
    // Its first token may be one of its items.
    let block = matches!(
        body,
        Body::Sequence { flow: false, .. } | Body::Mapping { flow: false, .. }
    );
    // An unwritten null behind an anchor ends with the anchor.
    let (content, end) = match last {
        Some(last) if unwritten => (last, last),
        Some(last) if block => (last, range.end),
        // Blanks stand between, and for a block scalar its header.
        Some(last) => (last.max(range.start), range.end),
        None => (range.start, range.end),
    };
    Node {
        body,
        anchor: anchor.map(|(id, _)| *id),
        foreign_tag: tag.is_some_and(Tag::is_custom),
        start: first,
        content,
        end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root<'s>(source: &'s Source<'_>) -> &'s Node {
        source.root.as_ref().unwrap()
    }

    fn value_text<'t>(source: &Source<'t>, key: &str) -> &'t str {
        let (_, (_, value)) = root(source).entry(key).unwrap();
        source.text.get(value.start..value.end).unwrap()
    }

    #[test]
    fn ranges_are_what_a_person_would_mark() {
        let text = "a: &x  # c\nb: &y !!map {k: v} # c\nc: |\n  t\n\n  \t# not\n\nd:\n- 1\n- - 2 # c\ne:\n";
        let source = Source::parse(text).unwrap();
        assert_eq!(value_text(&source, "a"), "&x");
        assert_eq!(value_text(&source, "b"), "&y !!map {k: v}");
        assert_eq!(value_text(&source, "c"), "t\n\n  \t# not\n");
        assert!(
            value_text(&source, "d").ends_with("- 2"),
            "{}",
            value_text(&source, "d")
        );
        assert_eq!(value_text(&source, "e"), "");
        assert!(root(&source).entry("a").unwrap().1.1.is_null());
    }

    #[test]
    fn clipped_blank_lines_are_not_part_of_a_block_scalar_and_kept_ones_are() {
        let clipped = "a: |\r\n  t\r\n\r\n\r\nb: 1\r\n";
        assert_eq!(value_text(&Source::parse(clipped).unwrap(), "a"), "t\r\n");
        let kept = "a: |+ # why\n  t\n\n\nb: 1\n";
        assert_eq!(value_text(&Source::parse(kept).unwrap(), "a"), "t\n\n\n");
        let source = Source::parse("a: &x !!str |+\n  t\n\n\nb: &y []\nc: &z {}\n").unwrap();
        let (_, (_, kept)) = root(&source).entry("a").unwrap();
        assert!(source.keeps_line_breaks(kept.content));
        assert_eq!(source.text.get(kept.content..kept.end), Some("t\n\n\n"));
        for (key, text) in [("b", "[]"), ("c", "{}")] {
            let (_, (_, value)) = root(&source).entry(key).unwrap();
            assert_eq!(source.text.get(value.content..value.end), Some(text));
        }
    }

    #[test]
    fn dashes_are_found_in_every_style() {
        for (text, column) in [
            ("k:\n- a\n", 0),
            ("k:\n  - a\n", 2),
            ("k: # c\n  # d\n -\n  a: b\n", 1),
            ("k: &x\n- a\n", 0),
            ("? k\n: - a\n", 2),
        ] {
            let source = Source::parse(text).unwrap();
            let (_, (key, list)) = root(&source).entry("k").unwrap();
            let dash = source.dash(key, list).unwrap();
            assert_eq!(source.column(dash), column, "{text:?}");
        }
    }

    #[test]
    fn trivia_ends_where_a_token_starts() {
        let source = Source::parse("k:\n# first column\n # c\n\n- a\n# end").unwrap();
        assert_eq!(source.byte(source.skip_trivia(2)), Some(b'-'));
        assert_eq!(source.skip_trivia(source.text.len() - 5), source.text.len());
    }

    #[test]
    fn limits_hold() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (next, last) in ('b'..'i').zip('a'..) {
            let many = vec![format!("*{last}"); 10].join(",");
            bomb.push_str(&format!("{next}: &{next} [{many}]\n"));
        }
        assert!(matches!(
            Source::parse(&bomb),
            Err(ExpandError::TooLarge { .. })
        ));
        assert!(Source::parse(&"[".repeat(100_000)).is_err());
        let long = "#".repeat(MAX_BYTES + 1);
        assert!(matches!(
            Source::parse(&long),
            Err(ExpandError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_second_document_is_refused_with_its_line() {
        let error = Source::parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert!(
            matches!(error, ExpandError::SeveralDocuments { line: 2 }),
            "{error}"
        );
    }
}
