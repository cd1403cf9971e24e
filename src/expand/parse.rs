//! From the parser's events to nodes with the ranges that a person would mark.
//!
//! The events are `granit_parser`'s, which `serde-saphyr` (the parser of the
//! config itself) is built on. They are not spans of whole nodes: a block
//! collection starts at its first token and ends at the token after it, a null
//! that is not written stands before its colon, a block scalar runs into the
//! indentation of the next line.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_saphyr::granit_parser;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag, options};

use super::ExpandError;
use super::node::{Body, Node};
use super::spans::Source;

/// Largest text that is read, in bytes; Prism configs are a few KiB.
const MAX_BYTES: usize = 4 << 20;
/// Most nodes that a config may hold once its aliases are followed.
const MAX_NODES: u64 = 1_000_000;

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    key: Option<Node>,
    weight: u64,
}

impl Open {
    fn new(node: Node) -> Open {
        Open {
            node,
            key: None,
            weight: 1,
        }
    }
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
                    open.push(Open::new(node));
                    None
                }
                Event::MappingStart(style, _, tag) => {
                    let flow = style == StructureStyle::Flow;
                    let body = Body::Mapping {
                        flow,
                        entries: Vec::new(),
                    };
                    let node = node(body, &span, range, anchor.as_ref(), tag.as_deref());
                    open.push(Open::new(node));
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
