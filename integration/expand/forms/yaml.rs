//! Prism configs in every form that YAML has for them, drawn from a tape of bytes.
//!
//! The tape is what proptest generates and shrinks: a shorter tape with smaller bytes is a simpler
//! config, since a tape that has ended draws the first choice everywhere.

/// Draws choices from a tape.
pub(crate) struct Tape<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Tape<'t> {
    pub(crate) fn new(bytes: &'t [u8]) -> Tape<'t> {
        Tape { bytes, at: 0 }
    }

    /// A number below `n`, 0 once the tape has ended.
    fn below(&mut self, n: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn of<'c>(&mut self, choices: &[&'c str]) -> &'c str {
        choices[self.below(choices.len())]
    }
}

/// A value and how it is written.
#[derive(Debug)]
struct Node {
    anchor: Option<String>,
    tag: &'static str,
    flow: bool,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// A scalar on one line, as it is written.
    Scalar(String),
    /// A scalar in several lines: what stands behind the key, then lines.
    Lines(&'static str, Vec<&'static str>),
    List(Vec<Node>),
    Map(Vec<(&'static str, Node)>),
    Alias(String),
}

/// A config.
#[derive(Debug)]
pub(crate) struct Form {
    /// Its text.
    pub(crate) text: String,
    /// Lines of the user that have to be in the expanded config in this order, in block style.
    pub(crate) kept: Vec<String>,
}

/// How the whole file is written.
struct Style {
    map_step: usize,
    list_step: usize,
    gap: usize,
    json: bool,
    comments: bool,
    blank_lines: bool,
}

const TOP: [&str; 7] = [
    "os",
    "scripts",
    "storage",
    "input",
    "output",
    "previewFeatures",
    "iso",
];
const SCALARS: [&str; 18] = [
    "x",
    "yes",
    "0644",
    "'it''s'",
    "\"a # b: c\"",
    "2025-09-18",
    "3.0",
    "/etc/motd",
    "a b",
    "ünï",
    "\"\\u00e9\\t\"",
    "-1",
    "\"\"",
    "~",
    "null",
    "12:30:00",
    "'#'",
    "x:y",
];
const JSON_SCALARS: [&str; 7] = [
    "\"x\"",
    "true",
    "644",
    "null",
    "\"a # b: c\"",
    "\"\\t\"",
    "3.5",
];
const BLOCKS: [(&str, &[&str]); 7] = [
    ("|", &["set -eu", "", "# text", "  deeper: x"]),
    ("|-", &["sysext: no", "- a"]),
    ("|+", &["a", "", ""]),
    (">", &["folded", "text", "", "more"]),
    (">-  # why", &["one"]),
    ("|2", &["a"]),
    ("", &["plain text", "that goes on", "for a while"]),
];

/// Draws a value.
type Draws<D> = fn(&mut D) -> Node;

struct Draw<'a, 't> {
    tape: &'a mut Tape<'t>,
    json: bool,
    /// Anchors so far, and whether they stand for a mapping or a list.
    anchors: Vec<(String, char)>,
    depth: usize,
}

impl Draw<'_, '_> {
    fn anchored(&mut self, kind: char, body: Body) -> Node {
        let anchor = (!self.json && self.tape.one_in(8)).then(|| {
            let name = format!("a{}", self.anchors.len());
            self.anchors.push((name.clone(), kind));
            name
        });
        let flow = self.json || self.tape.one_in(3);
        Node {
            anchor,
            tag: "",
            flow,
            body,
        }
    }

    fn alias(&mut self, kind: char) -> Option<Node> {
        let known = self.anchors.iter().filter(|(_, other)| *other == kind);
        let known: Vec<String> = known.map(|(name, _)| name.clone()).collect();
        if known.is_empty() || !self.tape.one_in(4) {
            return None;
        }
        let name = known[self.tape.below(known.len())].clone();
        Some(plain(Body::Alias(name)))
    }

    fn scalar(&mut self) -> Node {
        if self.json {
            return plain(Body::Scalar(self.tape.of(&JSON_SCALARS).to_owned()));
        }
        if let Some(alias) = self.alias('s') {
            return alias;
        }
        let body = if self.tape.one_in(6) {
            let (header, lines) = BLOCKS[self.tape.below(BLOCKS.len())];
            Body::Lines(header, lines.to_vec())
        } else {
            Body::Scalar(self.tape.of(&SCALARS).to_owned())
        };
        let mut node = self.anchored('s', body);
        if self.tape.one_in(12) {
            node.tag = "!!str";
        }
        node
    }

    fn list(&mut self, item: fn(&mut Self) -> Node, most: usize) -> Node {
        if let Some(alias) = self.alias('l') {
            return alias;
        }
        let count = self.tape.below(most + 1);
        let items = (0..count).map(|_| item(self)).collect();
        self.anchored('l', Body::List(items))
    }

    fn map(&mut self, keys: &[(&'static str, Draws<Self>)]) -> Node {
        let mut entries = Vec::new();
        if !self.json && self.tape.one_in(6) {
            let known = self.anchors.iter().filter(|(_, kind)| *kind == 'm');
            let known: Vec<String> = known.map(|(name, _)| name.clone()).collect();
            if !known.is_empty() {
                let name = known[self.tape.below(known.len())].clone();
                entries.push(("<<", plain(Body::Alias(name))));
            }
        }
        for (key, value) in keys {
            if !self.tape.one_in(3) {
                entries.push((key, value(self)));
            }
        }
        self.anchored('m', Body::Map(entries))
    }

    /// A value, or nothing in one of the ways to write that.
    fn or_nothing(&mut self, value: fn(&mut Self) -> Node) -> Node {
        let nothing = match self.tape.below(10) {
            6 if !self.json => "",
            7 if !self.json => "~",
            8 => "null",
            9 => return plain(Body::Map(Vec::new())),
            _ => return value(self),
        };
        plain(Body::Scalar(nothing.to_owned()))
    }

    fn file(&mut self) -> Node {
        self.map(&[
            ("source", Self::scalar),
            ("destination", Self::scalar),
            ("permissions", Self::scalar),
        ])
    }

    fn any(&mut self) -> Node {
        self.depth += 1;
        let node = match self.tape.below(4) {
            1 if self.depth < 4 => self.list(Self::any, 3),
            2 if self.depth < 4 => {
                self.map(&[("a", Self::any), ("b", Self::any), ("c", Self::any)])
            }
            _ => self.scalar(),
        };
        self.depth -= 1;
        node
    }

    fn top(&mut self, key: &str) -> Node {
        match key {
            "os" => self.or_nothing(|draw| {
                draw.map(&[
                    ("hostname", Self::scalar),
                    ("additionalFiles", |draw| {
                        draw.or_empty_list(|draw| draw.list(Self::file, 3))
                    }),
                    ("services", |draw| {
                        draw.or_nothing(|draw| {
                            draw.map(&[
                                ("enable", |draw| {
                                    draw.or_empty_list(|draw| draw.list(Self::scalar, 3))
                                }),
                                ("disable", |draw| draw.list(Self::scalar, 2)),
                            ])
                        })
                    }),
                    ("users", Self::any),
                ])
            }),
            "scripts" => self.or_nothing(|draw| {
                draw.map(&[
                    ("postCustomization", |draw| {
                        draw.or_empty_list(|draw| {
                            draw.list(
                                |draw| {
                                    draw.map(&[("name", Self::scalar), ("content", Self::scalar)])
                                },
                                2,
                            )
                        })
                    }),
                    ("finalizeCustomization", Self::any),
                ])
            }),
            _ => self.any(),
        }
    }

    fn or_empty_list(&mut self, value: fn(&mut Self) -> Node) -> Node {
        match self.tape.below(6) {
            5 => plain(Body::List(Vec::new())),
            _ => self.or_nothing_but_map(value),
        }
    }

    fn or_nothing_but_map(&mut self, value: fn(&mut Self) -> Node) -> Node {
        match self.tape.below(8) {
            6 if !self.json => plain(Body::Scalar(String::new())),
            7 => plain(Body::Scalar("null".to_owned())),
            _ => value(self),
        }
    }
}

fn plain(body: Body) -> Node {
    Node {
        anchor: None,
        tag: "",
        flow: true,
        body,
    }
}

/// Draws a config, with a `sysext` section or without.
pub(crate) fn form(tape: &mut Tape<'_>, section: bool) -> Form {
    let json = tape.one_in(6);
    let style = Style {
        map_step: 1 + (tape.below(4) + 1) % 4,
        list_step: tape.below(5),
        gap: 1 + tape.below(3),
        json,
        comments: !json && tape.one_in(2),
        blank_lines: tape.one_in(2),
    };
    let mut keys: Vec<&'static str> = TOP.to_vec();
    for at in (1..keys.len()).rev() {
        keys.swap(at, tape.below(at + 1));
    }
    keys.truncate(1 + tape.below(keys.len()));
    if section {
        keys.insert(tape.below(keys.len() + 1), "sysext");
    }
    let mut draw = Draw {
        tape,
        json,
        anchors: Vec::new(),
        depth: 0,
    };
    let entries: Vec<(&'static str, Node)> =
        keys.into_iter().map(|key| (key, draw.top(key))).collect();
    let (line_break, mark, open_end) = (tape.one_in(3), tape.one_in(5), tape.one_in(4));
    let (start, end) = (!json && tape.one_in(6), !json && tape.one_in(8));
    let mut writer = Writer {
        tape,
        style,
        lines: Vec::new(),
        kept: Vec::new(),
        in_section: false,
    };
    if start {
        writer.lines.push("---".to_owned());
    }
    if json || writer.tape.one_in(5) {
        let text = writer.flow(
            &Node {
                flow: true,
                ..plain(Body::Map(entries))
            },
            0,
        );
        writer.lines.extend(text.split('\n').map(str::to_owned));
        writer.kept.clear();
    } else {
        writer.block_map(&entries, 0, true);
    }
    if end {
        writer.lines.push("...".to_owned());
    }
    let mut text = writer.lines.join("\n");
    if !open_end {
        text.push('\n');
    }
    if line_break {
        text = text.replace('\n', "\r\n");
    }
    if mark {
        text.insert(0, '\u{feff}');
    }
    Form {
        text,
        kept: writer.kept,
    }
}

struct Writer<'a, 't> {
    tape: &'a mut Tape<'t>,
    style: Style,
    lines: Vec<String>,
    kept: Vec<String>,
    in_section: bool,
}

impl Writer<'_, '_> {
    fn push(&mut self, line: String) {
        if !self.in_section {
            self.kept.push(line.clone());
        }
        self.lines.push(line);
    }

    fn block_map(&mut self, entries: &[(&'static str, Node)], column: usize, top: bool) {
        for (index, (key, value)) in entries.iter().enumerate() {
            if top {
                self.in_section = *key == "sysext";
            }
            if (top || index > 0) && self.style.blank_lines && self.tape.one_in(3) {
                self.lines.push(String::new());
            }
            if (top || index > 0) && self.style.comments && self.tape.one_in(3) {
                let indent = " ".repeat(self.tape.below(column + 1));
                self.lines.push(format!("{indent}# about {key}"));
            }
            let name = match self.tape.below(12) {
                9 => format!("\"{key}\""),
                10 if *key != "<<" => format!("'{key}'"),
                11 if index > 0 => format!("? {key}\n{}", " ".repeat(column)),
                _ => (*key).to_owned(),
            };
            // A quoted `<<` is a key like any other.
            let name = if *key == "<<" { "<<".to_owned() } else { name };
            let head = match name.split_once('\n') {
                Some((first, rest)) => {
                    self.push(format!("{}{first}", " ".repeat(column)));
                    format!("{rest}:")
                }
                None => format!("{}{name}:", " ".repeat(column)),
            };
            self.value(head, value, column);
        }
        if top {
            self.in_section = false;
        }
    }

    /// A value behind `head`, which is a key with its colon or a dash.
    fn value(&mut self, mut head: String, node: &Node, column: usize) {
        if let Some(name) = &node.anchor {
            head.push_str(&format!(" &{name}"));
        }
        if !node.tag.is_empty() && !matches!(node.body, Body::Alias(_)) {
            head.push_str(&format!(" {}", node.tag));
        }
        match &node.body {
            Body::Lines(header, lines) => {
                if !header.is_empty() {
                    self.push(format!("{head} {header}"));
                }
                let step = if header.ends_with('2') {
                    2
                } else {
                    self.style.map_step
                };
                let indent = " ".repeat(column + step);
                for (index, line) in lines.iter().enumerate() {
                    match (line.is_empty(), header.is_empty() && index == 0) {
                        (true, _) => self.lines.push(String::new()),
                        (_, true) => self.push(format!("{head} {line}")),
                        _ => self.push(format!("{indent}{line}")),
                    }
                }
            }
            Body::Map(entries) if !node.flow && !entries.is_empty() => {
                let comment = self.comment();
                self.push(format!("{head}{comment}"));
                self.block_map(entries, column + self.style.map_step, false);
            }
            Body::List(items) if !node.flow && !items.is_empty() => {
                let comment = self.comment();
                self.push(format!("{head}{comment}"));
                self.block_list(items, column + self.style.list_step);
            }
            _ => {
                let text = self.flow(node, column + 1);
                let comment = self.comment();
                let gap = if text.is_empty() { "" } else { " " };
                let written = format!("{head}{gap}{text}{comment}");
                for line in written.split('\n') {
                    self.push(line.to_owned());
                }
            }
        }
    }

    fn block_list(&mut self, items: &[Node], column: usize) {
        let dash = format!("{}-", " ".repeat(column));
        for item in items {
            if self.style.comments && self.tape.one_in(6) {
                self.lines.push(format!("{}# item", " ".repeat(column)));
            }
            match &item.body {
                Body::Map(entries)
                    if !item.flow && !entries.is_empty() && item.anchor.is_none() =>
                {
                    // The first entry stands on the line of the dash.
                    let (lines, kept) = (self.lines.len(), self.kept.len());
                    let inner = column + 1 + self.style.gap;
                    self.block_map(entries, inner, false);
                    if let Some(line) = self.lines.get_mut(lines) {
                        line.replace_range(
                            ..inner,
                            &format!("{dash}{}", " ".repeat(self.style.gap)),
                        );
                        let line = line.clone();
                        if let Some(kept) = self.kept.get_mut(kept) {
                            *kept = line;
                        }
                    }
                }
                _ => self.value(dash.clone(), item, column),
            }
        }
    }

    fn comment(&mut self) -> &'static str {
        if self.style.comments && self.tape.one_in(4) {
            "  # why: x"
        } else {
            ""
        }
    }

    /// Flow style, on one line or several; anchors of the node itself stand before it already.
    fn flow(&mut self, node: &Node, column: usize) -> String {
        let inner = |writer: &mut Self, node: &Node| {
            let anchor = node.anchor.as_ref().map(|name| format!("&{name} "));
            let tag = if node.tag.is_empty() {
                String::new()
            } else {
                format!("{} ", node.tag)
            };
            let text = writer.flow(node, column + 1);
            format!("{}{tag}{text}", anchor.unwrap_or_default())
        };
        let texts: Vec<String> = match &node.body {
            Body::Scalar(text) => return text.clone(),
            Body::Lines(..) if self.style.json => return "\"x\"".to_owned(),
            Body::Lines(..) => return "'several lines'".to_owned(),
            Body::Alias(name) => return format!("*{name} ").trim_end().to_owned(),
            Body::List(items) => items.iter().map(|item| inner(self, item)).collect(),
            Body::Map(entries) => entries
                .iter()
                .map(|(key, value)| {
                    let text = inner(self, value);
                    let key = if self.style.json {
                        format!("\"{key}\"")
                    } else {
                        (*key).to_owned()
                    };
                    let gap = if self.style.json && self.tape.one_in(3) {
                        ""
                    } else {
                        " "
                    };
                    format!("{key}:{gap}{text}")
                })
                .collect(),
        };
        let (open, close) = match &node.body {
            Body::List(_) => ('[', ']'),
            _ => ('{', '}'),
        };
        let comma = if !self.style.json && !texts.is_empty() && self.tape.one_in(6) {
            ","
        } else {
            ""
        };
        if self.tape.one_in(4) && !texts.is_empty() {
            let indent = " ".repeat(column + self.style.map_step);
            let comment = self.comment();
            let separator = format!(",{comment}\n{indent}");
            let outer = " ".repeat(column);
            return format!(
                "{open}\n{indent}{}{comma}\n{outer}{close}",
                texts.join(&separator)
            );
        }
        format!("{open}{}{comma}{close}", texts.join(", "))
    }
}
