//! A config as a tree whose every key and value knows where it stands.
//!
//! Aliases and merge keys are followed the way gopkg.in/yaml.v3 does, which is what Prism reads with:
//! keys that are written win over merged ones, and of several merged mappings the first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, options};

use super::scalar::tagged;
use crate::finding::Place;

/// Most nodes of a tree; the largest known configs have some ten thousand.
const MAX_NODES: usize = 1_000_000;

/// Line and column, both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl From<At> for Place {
    fn from(at: At) -> Place {
        Place::Position {
            line: at.line,
            column: at.column,
        }
    }
}

/// A value.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// The bytes of a scalar; of a collection those of its first token.
    pub bytes: Range<usize>,
    /// What it is.
    pub body: Body,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Body {
    /// Text; `plain` if it is written without quotes, or its tag says what it is.
    Scalar {
        /// The text.
        text: String,
        /// Whether it may be null, a number or a boolean.
        plain: bool,
    },
    /// A list.
    List(Vec<Arc<Node>>),
    /// A mapping, merged keys last.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: At,
    /// The bytes of the key.
    pub bytes: Range<usize>,
    /// Whether it is a merge key.
    pub is_merge: bool,
    /// Its value.
    pub value: Arc<Node>,
}

impl Node {
    /// Whether it is null, written or left out.
    pub fn is_null(&self) -> bool {
        matches!(&self.body, Body::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Whether it is a mapping.
    pub fn is_map(&self) -> bool {
        matches!(self.body, Body::Map(_))
    }

    /// The value of a key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Body::Map(entries) = &self.body else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        (!entry.value.is_null()).then_some(entry.value.as_ref())
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The text of a key.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The text of a key, unless it is empty, which Prism takes for absent.
    pub fn filled(&self, key: &str) -> Option<&str> {
        self.text_of(key).filter(|text| !text.is_empty())
    }

    /// The items of a list that are not null, with their index.
    pub fn items(&self) -> impl Iterator<Item = (usize, &Node)> {
        let items = match &self.body {
            Body::List(items) => items.as_slice(),
            _ => &[],
        };
        let items = items.iter().map(Arc::as_ref).enumerate();
        items.filter(|(_, item)| !item.is_null())
    }

    /// How many values it holds, those that aliases stand for counted each time they are used.
    pub fn weight(&self) -> usize {
        fn weigh(node: &Node, known: &mut HashMap<usize, usize>) -> usize {
            let address = std::ptr::from_ref(node).addr();
            if let Some(weight) = known.get(&address) {
                return *weight;
            }
            let mut weight = 1_usize;
            let mut add = |child: &Arc<Node>| weight = weight.saturating_add(weigh(child, known));
            match &node.body {
                Body::Scalar { .. } => {}
                Body::List(items) => items.iter().for_each(&mut add),
                Body::Map(entries) => entries.iter().for_each(|entry| add(&entry.value)),
            }
            known.insert(address, weight);
            weight
        }
        weigh(self, &mut HashMap::new())
    }

    /// The items of the list at a key, with their index.
    pub fn list(&self, key: &str) -> impl Iterator<Item = (usize, &Node)> {
        self.get(key).into_iter().flat_map(Node::items)
    }
}

/// A document and what was seen on the way.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its value; none if there is no data.
    pub root: Option<Node>,
    /// Whether something in it refers to something else.
    pub has_aliases: bool,
}

/// Why a text can't be read as one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is no YAML.
    Syntax(At, String),
    /// A second document begins.
    SecondDocument(At),
    /// A mapping has a key twice.
    DuplicateKey(At, String),
    /// A scalar is not what its tag says, and why.
    Tag(At, String),
    /// It holds more than [`MAX_NODES`] values.
    TooLarge(At),
}

/// A collection whose end has not come yet.
struct Open {
    at: At,
    bytes: Range<usize>,
    anchor: usize,
    body: Body,
    key: Option<(Arc<Node>, At, Range<usize>)>,
    keys: HashSet<String>,
}

/// Reads a text, or all that is wrong with it.
pub(crate) fn read(text: &str) -> Result<Document, Vec<Trouble>> {
    let mut reader = Reader::default();
    match reader.run(text) {
        Ok(()) if reader.troubles.is_empty() => Ok(Document {
            root: reader.root,
            has_aliases: reader.has_aliases,
        }),
        Ok(()) => Err(reader.troubles),
        Err(trouble) => {
            reader.troubles.push(trouble);
            Err(reader.troubles)
        }
    }
}

/// Reads a text; nothing if it holds no data or can't be read, which is told elsewhere.
pub(crate) fn parse(text: &str) -> Option<Node> {
    read(text).ok()?.root
}

#[derive(Default)]
struct Reader {
    root: Option<Node>,
    anchors: BTreeMap<usize, Arc<Node>>,
    open: Vec<Open>,
    has_aliases: bool,
    documents: usize,
    troubles: Vec<Trouble>,
}

impl Reader {
    fn run(&mut self, text: &str) -> Result<(), Trouble> {
        let mut options = options! { emit_anchor_events: false };
        options.set_emit_comments(false);
        let mut parser = Parser::new_from_str_with_options(text, options);
        let mut nodes = 0_usize;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let marker = error.marker();
                let at = At {
                    line: marker.line(),
                    column: marker.col() + 1,
                };
                Trouble::Syntax(at, error.info().to_owned())
            })?;
            nodes += 1;
            if nodes > MAX_NODES {
                return Err(Trouble::TooLarge(at(&span)));
            }
            let done = match event {
                Event::DocumentStart(..) => {
                    self.documents += 1;
                    if self.documents > 1 {
                        return Err(Trouble::SecondDocument(at(&span)));
                    }
                    continue;
                }
                Event::Scalar(value, style, anchor, tag) => {
                    let text = value.into_owned();
                    let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                    let (text, plain) = match tag.filter(|tag| tag != "!") {
                        None => (text, style == ScalarStyle::Plain),
                        Some(tag) => tagged(&tag, text).unwrap_or_else(|why| {
                            self.troubles.push(Trouble::Tag(at(&span), why));
                            (String::new(), false)
                        }),
                    };
                    let node = Arc::new(Node {
                        at: at(&span),
                        bytes: span.byte_range().unwrap_or_default(),
                        body: Body::Scalar { text, plain },
                    });
                    self.remember(anchor, &node);
                    node
                }
                Event::Alias(id) => {
                    self.has_aliases = true;
                    match self.anchors.get(&id) {
                        Some(node) => Arc::clone(node),
                        // An alias within its own anchor.
                        None => Arc::new(null(at(&span))),
                    }
                }
                Event::SequenceStart(_, anchor, _) => {
                    self.open
                        .push(Open::new(&span, anchor, Body::List(Vec::new())));
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    self.open
                        .push(Open::new(&span, anchor, Body::Map(Vec::new())));
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(mut closed) = self.open.pop() else {
                        continue;
                    };
                    merge(&mut closed.body);
                    let node = Arc::new(Node {
                        at: closed.at,
                        bytes: closed.bytes,
                        body: closed.body,
                    });
                    self.remember(closed.anchor, &node);
                    node
                }
                _ => continue,
            };
            match self.open.last_mut() {
                None => self.root = Some(Arc::unwrap_or_clone(done)),
                Some(parent) => self.troubles.extend(parent.adopt(done, &span)),
            }
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Arc<Node>) {
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(node));
        }
    }
}

impl Open {
    fn new(span: &Span, anchor: usize, body: Body) -> Open {
        Open {
            at: at(span),
            bytes: span.byte_range().unwrap_or_default(),
            anchor,
            body,
            key: None,
            keys: HashSet::new(),
        }
    }

    /// Takes in a node that ended; `here` is where it is written, which for an alias is not where
    /// its value stands.
    fn adopt(&mut self, node: Arc<Node>, here: &Span) -> Option<Trouble> {
        let entries = match &mut self.body {
            Body::List(items) => {
                items.push(node);
                return None;
            }
            Body::Map(entries) => entries,
            Body::Scalar { .. } => return None,
        };
        let Some((key, at, bytes)) = self.key.take() else {
            let (at, bytes) = match node.body {
                Body::Scalar { .. } => (at(here), here.byte_range().unwrap_or_default()),
                _ => (node.at, node.bytes.clone()),
            };
            let trouble = match &node.body {
                // Several merge keys are an error of their own in the typed reader.
                Body::Scalar { text, .. }
                    if !is_merge(&node) && !self.keys.insert(text.clone()) =>
                {
                    Some(Trouble::DuplicateKey(at, text.clone()))
                }
                _ => None,
            };
            self.key = Some((node, at, bytes));
            return trouble;
        };
        let name = match &key.body {
            Body::Scalar { text, .. } => text.clone(),
            _ => "?".to_owned(),
        };
        // What is not written has the place of its key.
        let value = match &node.body {
            Body::Scalar { text, plain: true } if text.is_empty() => Arc::new(Node {
                bytes: bytes.clone(),
                ..null(at)
            }),
            _ => node,
        };
        entries.push(Entry {
            key: name,
            at,
            bytes,
            is_merge: is_merge(&key),
            value,
        });
        None
    }
}

/// Whether a key merges what follows; in quotes it is a key like others.
fn is_merge(key: &Node) -> bool {
    matches!(&key.body, Body::Scalar { text, plain: true } if text == "<<")
}

fn null(at: At) -> Node {
    Node {
        at,
        bytes: 0..0,
        body: Body::Scalar {
            text: String::new(),
            plain: true,
        },
    }
}

/// Puts what merge keys bring behind what is written; the `<<` itself stays, for it is refused in
/// some places.
fn merge(body: &mut Body) {
    let Body::Map(entries) = body else { return };
    let merged = entries.iter().filter(|entry| entry.is_merge);
    let sources: Vec<Arc<Node>> = merged
        .flat_map(|entry| match &entry.value.body {
            Body::List(items) => items.clone(),
            _ => vec![Arc::clone(&entry.value)],
        })
        .collect();
    for source in sources {
        let Body::Map(more) = &source.body else {
            continue;
        };
        for entry in more {
            if !entry.is_merge && !entries.iter().any(|known| known.key == entry.key) {
                entries.push(entry.clone());
            }
        }
    }
}

fn at(span: &Span) -> At {
    At {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_place() {
        let root = parse("a:\n  b: [x, {c: 1}]\n  d:\n").unwrap();
        let a = root.get("a").unwrap();
        let (_, second) = a.list("b").nth(1).unwrap();
        let c = second.get("c").unwrap();
        assert_eq!(
            c.at,
            At {
                line: 2,
                column: 14
            }
        );
        assert_eq!(c.text(), Some("1"));
        let Body::Map(entries) = &a.body else {
            panic!()
        };
        assert_eq!(entries[1].at, At { line: 3, column: 3 });
        assert!(entries[1].value.is_null() && a.get("d").is_none());
        assert!(parse("# nothing\n").is_none() && parse("a: [").is_none());
        assert!(!parse("'null'").unwrap().is_null());
    }

    #[test]
    fn written_keys_win_over_merged_ones_and_the_first_of_these_over_others() {
        let root = parse(
            "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  a: 0\n  <<: [*x, *y]\nself: &s [*s]\n",
        )
        .unwrap();
        let z = root.get("z").unwrap();
        let texts = ["a", "b", "c"].map(|key| z.text_of(key).unwrap());
        assert_eq!(texts, ["0", "1", "2"]);
        assert_eq!(root.list("self").count(), 0);
    }
}
