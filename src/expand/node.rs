//! One node of the user's text: what it is, and which bytes it came from.

use serde_saphyr::granit_parser::ScalarStyle;

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
