//! The user's text with its nodes: places, lines, and what is looked up in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::node::{Body, Node};

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
    pub(super) anchors: BTreeMap<usize, (String, usize)>,
    /// Uses of anchors: id and place, in the order of the text.
    pub(super) aliases: Vec<(usize, usize)>,
}

impl<'t> Source<'t> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let (_, (key, list)) = source.root.as_ref().unwrap().entry("k").unwrap();
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
}
