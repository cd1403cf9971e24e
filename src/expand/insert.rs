//! Bringing in what is missing, in the style of what is there.

use serde_yaml::Value;

use super::literal::{Layout, Literal, flow_entry};
use super::node::{Body, Node};
use super::spans::Source;
use super::splice::{Splice, entries, indentation};
use super::{ExpandError, style};

/// What a value inherits from where it stands.
#[derive(Clone, Copy)]
struct Context<'c> {
    /// Its keys from the top level on, joined by dots.
    path: &'c str,
    /// Its data, with merge keys resolved.
    value: &'c Value,
    /// True inside `{…}` or `[…]`.
    in_flow: bool,
    /// True where strings are quoted as in JSON.
    json: bool,
}

impl Splice<'_, '_> {
    /// Joins everything that is missing into the top level.
    pub(super) fn graft_root(&mut self, root: &Node, value: &Value) -> Result<(), ExpandError> {
        if let Body::Mapping { flow, .. } = &root.body {
            let context = Context {
                path: "",
                value,
                in_flow: *flow,
                json: is_json(root, self.source),
            };
            self.unshared(root, "the top level")?;
            let missing = self.missing;
            return self.graft(root, missing, context);
        }
        let reason = "the top level is no mapping that could be added to; remove it".to_owned();
        Err(self.refuse(root.start, reason))
    }

    /// Refuses a node that also counts elsewhere.
    pub(super) fn unshared(&self, node: &Node, path: &str) -> Result<(), ExpandError> {
        if matches!(node.body, Body::Alias) {
            let reason = format!(
                "`{path}` is an alias, and what is added to it would also appear elsewhere; write it out here"
            );
            return Err(self.refuse(node.start, reason));
        }
        let Some((name, at)) = self.source.alias_of(node) else {
            return Ok(());
        };
        let reason = format!(
            "`{path}` has the anchor `&{name}`, and what is added to it would also appear at `*{name}`; \
             write one of the two out"
        );
        Err(self.refuse(at, reason))
    }

    /// Joins `addition` into the collection `node`.
    fn graft(
        &mut self,
        node: &Node,
        addition: &Literal,
        context: Context<'_>,
    ) -> Result<(), ExpandError> {
        let Context { path, json, .. } = context;
        match (&node.body, addition) {
            (Body::Mapping { flow, .. }, Literal::Map(additions)) => {
                let mut absent = Vec::new();
                for (name, addition) in additions {
                    let path = &if path.is_empty() {
                        (*name).to_owned()
                    } else {
                        format!("{path}.{name}")
                    };
                    let value = context.value.get(*name).unwrap_or(&Value::Null);
                    if let Some((_, entry)) = node.entry(name) {
                        let context = Context {
                            path,
                            value,
                            in_flow: *flow,
                            json,
                        };
                        self.graft_entry(entry, addition, context)?;
                    } else if value.is_null() {
                        absent.push((*name, addition));
                    } else {
                        let reason = format!(
                            "`{path}` comes from a merge key; write it out here to add to it"
                        );
                        return Err(self.refuse(node.start, reason));
                    }
                }
                if absent.is_empty() {
                    return Ok(());
                }
                if !*flow {
                    self.insert_keys(node, &absent, path.is_empty());
                    return Ok(());
                }
                let texts: Vec<String> = absent
                    .iter()
                    .map(|(name, addition)| flow_entry(name, addition, json))
                    .collect();
                match self.slot {
                    // The section was the last entry: the new ones take its
                    // place, and the commas around it do for them.
                    Some(slot) if path.is_empty() => {
                        let separator = self.flow_separator(slot);
                        self.insert(slot, texts.join(&format!(",{separator}")));
                    }
                    _ => {
                        let last = entries(node).last();
                        let last = last.map(|(key, value)| (key.start, value.end));
                        self.insert_flow(node, last, &texts);
                    }
                }
                Ok(())
            }
            (Body::Sequence { flow: true, items }, Literal::List(additions)) => {
                let texts: Vec<String> = additions.iter().map(|item| item.flow(json)).collect();
                self.insert_flow(
                    node,
                    items.last().map(|item| (item.start, item.end)),
                    &texts,
                );
                Ok(())
            }
            (body, addition) => {
                let found = match body {
                    Body::Sequence { .. } => "a list",
                    Body::Mapping { .. } => "a mapping",
                    Body::Scalar { .. } | Body::Alias => "a scalar",
                };
                let expected = if matches!(addition, Literal::Map(_)) {
                    "a mapping"
                } else {
                    "a list"
                };
                let reason = format!("`{path}` is {found}, expected {expected}");
                Err(self.refuse(node.start, reason))
            }
        }
    }

    /// Joins `addition` into the value of an entry of a mapping.
    fn graft_entry(
        &mut self,
        (key, node): &(Node, Node),
        addition: &Literal,
        context: Context<'_>,
    ) -> Result<(), ExpandError> {
        self.unshared(node, context.path)?;
        let source = self.source;
        if is_vacant(node, context.in_flow, source) {
            return self.fill(key, node, addition, context);
        }
        let (Body::Sequence { flow: false, .. }, Literal::List(_)) = (&node.body, addition) else {
            // An empty collection quotes like what it stands in.
            let json = is_json(node, source) || (context.json && first_scalar(node).is_none());
            return self.graft(node, addition, Context { json, ..context });
        };
        let Some(dash) = source.dash(key, node) else {
            let reason = format!("the first `-` of `{}` was not found", context.path);
            return Err(self.refuse(node.start, reason));
        };
        let column = source.column(dash);
        let layout = Layout {
            gap: style::gap(source, dash, node),
            ..self.layout
        };
        let at = self.comments_below(source.next_line(node.end), column, false);
        self.insert_lines(at, addition, column, layout, false);
        Ok(())
    }

    /// Gives a value to an entry that has none.
    fn fill(
        &mut self,
        key: &Node,
        node: &Node,
        addition: &Literal,
        context: Context<'_>,
    ) -> Result<(), ExpandError> {
        let source = self.source;
        let Some(colon) = source.colon(key.end) else {
            let path = context.path;
            let reason = format!("`{path}` is a key without a colon; write `{path}:`");
            return Err(self.refuse(key.start, reason));
        };
        let written = node.content < node.end;
        if context.in_flow {
            let gap = if written { "" } else { " " };
            if written {
                self.delete(node.content..node.end);
            }
            self.insert(node.end, format!("{gap}{}", addition.flow(context.json)));
            return Ok(());
        }
        if written {
            let before = source.text.get(..node.content).unwrap_or_default();
            self.delete(before.trim_ascii_end().len().max(colon + 1)..node.end);
        }
        // An explicit key's line begins with `?`, and its column counts.
        let parent = indentation(source.line_at(source.line_start(key.start)));
        let step = match addition {
            Literal::List(_) => self.layout.list_step,
            _ => self.layout.map_step,
        };
        let at = self.comments_below(source.next_line(node.end), parent, false);
        self.insert_lines(at, addition, parent + step, self.layout, false);
        Ok(())
    }

    /// Adds keys behind the last one of a block mapping.
    fn insert_keys(&mut self, node: &Node, absent: &[(&'static str, &Literal)], top: bool) {
        let source = self.source;
        let first = entries(node)
            .first()
            .map_or(node.content, |(key, _)| key.start);
        let lead = source
            .text
            .get(source.line_start(first)..first)
            .unwrap_or_default();
        let column = match lead.trim_ascii_end().strip_suffix('?') {
            Some(lead) => lead.chars().count(),
            None => source.column(first),
        };
        let apart = top && style::sections_stand_apart(source, entries(node));
        let at = self.comments_below(source.next_line(node.end), column, true);
        let at = if top { at.max(self.section_end) } else { at };
        for (name, addition) in absent {
            let entry = Literal::entry(name, (*addition).clone());
            self.insert_lines(at, &entry, column, self.layout, apart);
        }
    }

    /// Adds entries to a flow collection behind its last one, which covers
    /// `last`; on lines of their own where the last one has that.
    fn insert_flow(&mut self, node: &Node, last: Option<(usize, usize)>, texts: &[String]) {
        let source = self.source;
        let Some((start, end)) = last else {
            return self.insert(node.content + 1, texts.join(", "));
        };
        let separator = self.flow_separator(start);
        let joined = texts.join(&format!(",{separator}"));
        let next = source.skip_trivia(end);
        let comma = (source.byte(next) == Some(b',')).then_some(next);
        if comma.is_none() {
            // A value that is not written ends with its colon, and `:,` is part of a plain scalar.
            let open = source
                .text
                .get(..end)
                .is_some_and(|text| text.ends_with(':'));
            self.insert(end, if open { " ," } else { "," }.to_owned());
        }
        let behind = comma.map_or(end, |comma| comma + 1);
        let rest = source.line_at(behind);
        // The comment behind the last entry stays with it.
        let comment = separator != " " && rest.trim_ascii_start().starts_with('#');
        let at = if comment {
            behind + rest.trim_ascii_end().len()
        } else {
            behind
        };
        let trailing = if comma.is_some() { "," } else { "" };
        self.insert(at, format!("{separator}{joined}{trailing}"));
    }

    /// What stands between a comma and the next entry, as in front of `start`.
    fn flow_separator(&self, start: usize) -> String {
        if !self.source.begins_line(start) {
            return " ".to_owned();
        }
        let line = self.source.line_start(start);
        let indent = self.source.text.get(line..start).unwrap_or_default();
        format!("{}{indent}", self.layout.line_break)
    }
}

/// True for a value that holds nothing and can be replaced as a whole.
fn is_vacant(node: &Node, in_flow: bool, source: &Source<'_>) -> bool {
    let empty = match &node.body {
        Body::Sequence { items, .. } => items.is_empty(),
        Body::Mapping { entries, .. } => entries.is_empty(),
        Body::Scalar { .. } => return node.is_null() && !node.foreign_tag,
        Body::Alias => false,
    };
    let written = source.text.get(node.content..node.end).unwrap_or_default();
    empty && !in_flow && matches!(written, "[]" | "{}")
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
