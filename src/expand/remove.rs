//! Taking the `sysext` section out, with what belongs to it.

use super::ExpandError;
use super::node::{Body, Node};
use super::splice::{Splice, ends_in_blank_line, entries, indentation};

impl Splice<'_, '_> {
    /// Takes the entry at `index` of the top level out.
    pub(super) fn cut(
        &mut self,
        root: &Node,
        index: usize,
        (key, value): &(Node, Node),
    ) -> Result<(), ExpandError> {
        if let Some((name, at)) = self.source.used_outside(&(key.start..value.end)) {
            let reason = format!(
                "`*{name}` refers to an anchor that is defined inside `sysext`, which has to go; \
                 define `&{name}` outside of `sysext` (an alias inside is fine)"
            );
            return Err(self.refuse(at, reason));
        }
        let entries = entries(root);
        let before = index.checked_sub(1).and_then(|index| entries.get(index));
        let before = before.map(|(_, value)| value);
        let last = index + 1 == entries.len();
        if matches!(root.body, Body::Mapping { flow: true, .. }) {
            self.cut_flow(root, before, value, last && self.gains_keys(root));
            return Ok(());
        }
        self.cut_block(
            before,
            key,
            value,
            entries.len() == 1,
            self.gains_keys(root),
        )
    }

    fn cut_block(
        &mut self,
        before: Option<&Node>,
        key: &Node,
        value: &Node,
        only: bool,
        gains: bool,
    ) -> Result<(), ExpandError> {
        let source = self.source;
        let first = source.line_start(key.start);
        let lead = source.text.get(first..key.start).unwrap_or_default();
        if !matches!(lead.trim_ascii(), "" | "?") {
            let reason = format!("`sysext` does not start its line (found {lead:?} before it)");
            return Err(self.refuse(key.start, reason));
        }
        let column = indentation(lead);
        let mut start = self.comments_above(first, column);
        let mut end = self.comments_below(source.next_line(value.end), column, false);

        // Blank lines behind a `|+` are part of its value.
        let keeps = before.is_some_and(|before| {
            let leaf = before.last_leaf();
            leaf.is_block_scalar() && source.keeps_line_breaks(leaf.content)
        });
        let above = source.text.get(source.first()..start).unwrap_or_default();
        let marker =
            above.trim_ascii_end().len() < above.len() && above.trim_ascii_end().ends_with("---");
        if above.is_empty() || marker || keeps || ends_in_blank_line(above) {
            end = self.blank_lines_below(end);
        }
        if end == source.text.len() && !keeps && !gains && !only && ends_in_blank_line(above) {
            start = source.next_line(source.first() + above.trim_ascii_end().len());
        }
        self.delete_section(start..end);
        if only && !gains {
            // Prism takes `{}` and refuses a text without any value.
            let indent = " ".repeat(column);
            self.insert(end, format!("{indent}{{}}{}", self.layout.line_break));
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
            if indentation(line) != column || !line.trim_ascii_start().starts_with('#') {
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

    fn blank_lines_below(&self, at: usize) -> usize {
        let source = self.source;
        let mut end = at;
        while end < source.limit && source.line_at(end).trim_ascii().is_empty() {
            end = source.line_behind(end);
        }
        end
    }

    /// `replaced` when new keys take the place of the section.
    fn cut_flow(&mut self, root: &Node, before: Option<&Node>, value: &Node, replaced: bool) {
        let source = self.source;
        let comma_at = |at: usize| {
            let at = source.skip_trivia(at);
            (source.byte(at) == Some(b',')).then_some(at)
        };
        let comma_before = before.and_then(|before| comma_at(before.end));
        let gap = comma_before.unwrap_or(root.content) + 1;
        // Not the key's start: an explicit key begins with `?`.
        let start = source.skip_trivia(gap);
        let comma_behind = comma_at(value.end);
        let end = comma_behind.map_or(value.end, |comma| comma + 1);
        let rest = source.line_at(end);
        let ends_line = matches!(rest.trim_ascii_start().bytes().next(), None | Some(b'#'));
        let behind_rest = if ends_line { end + rest.len() } else { end };

        let line = source.line_start(start);
        let own_line = source.begins_line(start) && line > gap;
        let first = match own_line {
            true => self.comments_above(line, indentation(source.line_at(line))),
            false => start,
        };
        if replaced {
            self.slot = Some(start);
            if own_line {
                self.delete_section(first..line);
            }
            self.delete_section(start..value.end);
            if ends_line {
                self.delete_section(end..behind_rest);
            }
        } else if comma_behind.is_some() {
            let blanks = rest.len() - rest.trim_ascii_start().len();
            let to = if own_line && ends_line {
                source.line_behind(end)
            } else {
                end + blanks
            };
            self.delete_section(if own_line && ends_line { first } else { start }..to);
        } else {
            if let Some(comma) = comma_before {
                self.delete(comma..comma + 1);
            }
            let above = source.text.get(gap..first).unwrap_or_default();
            let from = if own_line {
                // With the line break in front of it.
                above
                    .strip_suffix('\n')
                    .map_or(above, |above| above.strip_suffix('\r').unwrap_or(above))
            } else if before.is_some() {
                above.trim_ascii_end()
            } else {
                above
            };
            self.delete_section(gap + from.len()..behind_rest);
        }
    }
}
