//! What is added, as data and as YAML text in the style of its surroundings.

use serde_yaml::Value;

/// A piece of YAML that we write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    /// A string, quoted only where YAML asks for it.
    Text(String),
    /// A string that is always quoted, because it looks like a number.
    Quoted(String),
    /// A list.
    List(Vec<Literal>),
    /// A mapping in the order to write.
    Map(Vec<(&'static str, Literal)>),
}

/// How a file indents its block collections; all columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Columns from a key to the keys below it.
    pub(super) map_step: usize,
    /// Columns from a key to the dashes below it.
    pub(super) list_step: usize,
    /// Blanks behind a dash.
    pub(super) gap: usize,
    /// What ends a line.
    pub(super) line_break: &'static str,
}

impl Layout {
    /// The style of Prism's own documents.
    pub(super) const PRISM: Layout = Layout {
        map_step: 2,
        list_step: 0,
        gap: 1,
        line_break: "\n",
    };
}

impl Literal {
    /// A mapping entry `key: value`.
    pub(super) fn entry(key: &'static str, value: Literal) -> Literal {
        Literal::Map(vec![(key, value)])
    }

    /// True when there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Literal::List(items) => items.is_empty(),
            Literal::Map(entries) => entries.is_empty(),
            Literal::Text(_) | Literal::Quoted(_) => false,
        }
    }

    /// True when [`block`](Self::block) ends in a `|` whose value has a final
    /// line break.
    pub(super) fn ends_in_block_scalar(&self) -> bool {
        match self {
            Literal::List(items) => items.last().is_some_and(Literal::ends_in_block_scalar),
            Literal::Map(entries) => match entries.last() {
                Some((_, Literal::Text(text))) => text.ends_with('\n') && is_literal_block(text),
                Some((_, value)) => value.ends_in_block_scalar(),
                None => false,
            },
            Literal::Text(_) | Literal::Quoted(_) => false,
        }
    }

    /// The same as data.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Literal::Text(text) | Literal::Quoted(text) => Value::String(text.clone()),
            Literal::List(items) => items.iter().map(Literal::to_value).collect(),
            Literal::Map(entries) => Value::Mapping(
                entries
                    .iter()
                    .map(|(key, value)| (Value::String((*key).to_owned()), value.to_value()))
                    .collect(),
            ),
        }
    }

    /// Block style lines, each with its line break, the first one at `column`.
    /// A list needs `column` to be that of its dashes.
    pub(super) fn block(&self, column: usize, layout: Layout) -> String {
        let mut lines = Vec::new();
        self.block_lines(column, layout, &mut lines);
        let mut text = String::new();
        for line in lines {
            text.push_str(&line);
            text.push_str(layout.line_break);
        }
        text
    }

    fn block_lines(&self, column: usize, layout: Layout, lines: &mut Vec<String>) {
        let indent = " ".repeat(column);
        match self {
            Literal::Text(_) | Literal::Quoted(_) => {
                lines.push(format!("{indent}{}", self.flow(false)));
            }
            Literal::List(items) => {
                let dash = format!("{indent}-{}", " ".repeat(layout.gap));
                for item in items {
                    let first = lines.len();
                    item.block_lines(dash.len(), layout, lines);
                    if let Some(line) = lines.get_mut(first) {
                        // The item's own indentation makes room for the dash.
                        line.replace_range(..dash.len(), &dash);
                    }
                }
            }
            Literal::Map(entries) => {
                for (key, value) in entries {
                    match value {
                        Literal::Map(_) => {
                            lines.push(format!("{indent}{key}:"));
                            value.block_lines(column + layout.map_step, layout, lines);
                        }
                        Literal::List(_) => {
                            lines.push(format!("{indent}{key}:"));
                            value.block_lines(column + layout.list_step, layout, lines);
                        }
                        Literal::Text(text) if is_literal_block(text) => {
                            let chomp = if text.ends_with('\n') { "" } else { "-" };
                            lines.push(format!("{indent}{key}: |{chomp}"));
                            let inner = " ".repeat(column + layout.map_step);
                            for line in text.lines() {
                                // An empty line carries no trailing blanks.
                                let inner = if line.is_empty() { "" } else { inner.as_str() };
                                lines.push(format!("{inner}{line}"));
                            }
                        }
                        Literal::Text(_) | Literal::Quoted(_) => {
                            lines.push(format!("{indent}{key}: {}", value.flow(false)));
                        }
                    }
                }
            }
        }
    }

    /// Flow style on one line; `json` quotes everything as JSON does.
    pub(super) fn flow(&self, json: bool) -> String {
        match self {
            Literal::Text(text) if !json && is_plain(text) => text.clone(),
            Literal::Text(text) | Literal::Quoted(text) => quote(text),
            Literal::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.flow(json)).collect();
                format!("[{}]", items.join(", "))
            }
            Literal::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| flow_entry(key, value, json))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}

/// `key: value` for a flow mapping.
pub(super) fn flow_entry(key: &str, value: &Literal, json: bool) -> String {
    let key = if json { quote(key) } else { key.to_owned() };
    format!("{key}: {}", value.flow(json))
}

/// True for a string that no YAML version reads as anything but itself when it
/// stands plain, in block and in flow style.
fn is_plain(text: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_./+@%=-".contains(&byte);
    let first = text.bytes().next();
    let begins = first.is_some_and(|byte| byte.is_ascii_alphabetic() || b"_./".contains(&byte));
    // The words of YAML 1.1 and 1.2, which yaml.v3 still honours for typed fields.
    let word = text.trim_start_matches('.').to_ascii_lowercase();
    let words = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan",
    ];
    let names_something = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    // `.5e3` is a number.
    let number = text.strip_prefix('.').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'))
    });
    begins
        && names_something
        && !number
        && text.bytes().all(safe)
        && !words.contains(&word.as_str())
}

/// True for a string that `|` or `|-` gives back unchanged without an
/// indentation indicator.
fn is_literal_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let printable = |c: char| c == '\n' || c == '\t' || (is_printable(c) && c != '\u{feff}');
    body.contains('\n') | text.ends_with('\n')
        && !body.is_empty()
        && !body.starts_with([' ', '\t', '\n'])
        && !body.ends_with('\n')
        && body.chars().all(printable)
        // A line of nothing but blanks is content to some readers and indentation to others.
        && body.lines().all(|line| line.is_empty() || !line.trim_ascii().is_empty())
}

/// YAML 1.2, production `c-printable`, without tab and line breaks.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// A double-quoted scalar that is YAML and JSON at once.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if is_printable(c) && c != '\u{feff}' => quoted.push(c),
            c => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    #[test]
    fn every_string_comes_back_as_itself_in_every_style() {
        for sample in [
            "",
            "a",
            "a b",
            "yes",
            "No",
            "null",
            "~",
            "0644",
            "1e3",
            ".5",
            ".inf",
            ".NaN",
            ".",
            "..",
            "...",
            "---",
            "a: b",
            "a #b",
            "- x",
            "#",
            "%x",
            "@x",
            "`x",
            "a,b",
            "[x]",
            "{x}",
            "&a",
            "*a",
            "!t",
            "a\nb",
            "a\nb\n",
            "a\n",
            "a\n\nb\n",
            "\na\n",
            " a\n",
            "a\n\n",
            "\n",
            "a\r\nb\r\n",
            "a\tb\n",
            "\ta\n",
            "a\n   \nb\n",
            "a\n  b\n",
            "x\u{0}y",
            "\u{7f}",
            "\u{85}",
            "\u{2028}\n",
            "\u{feff}",
            "é\n漢字\n",
            "😀",
            "\"q\"",
            "\\",
            "a\n# b\n",
            "a\n---\n",
            "<<",
            "=",
            "on:",
            "_1",
        ] {
            for layout in [
                Layout::PRISM,
                Layout {
                    map_step: 4,
                    list_step: 2,
                    gap: 3,
                    line_break: "\r\n",
                },
            ] {
                let literal = Literal::entry(
                    "k",
                    Literal::List(vec![Literal::Map(vec![
                        ("v", text(sample)),
                        ("w", text("x")),
                    ])]),
                );
                let block = literal.block(0, layout);
                let read: Value = serde_yaml::from_str(&block).expect(&block);
                assert_eq!(read, literal.to_value(), "{block}");
                let saphyr: serde_json::Value = serde_saphyr::from_str(&block).expect(&block);
                assert_eq!(saphyr["k"][0]["v"], sample, "{block}");
                let flow = literal.flow(false);
                assert_eq!(
                    serde_yaml::from_str::<Value>(&flow).expect(&flow),
                    literal.to_value()
                );
                let json = literal.flow(true);
                let read: serde_json::Value = serde_json::from_str(&json).expect(&json);
                assert_eq!(read["k"][0]["v"], sample);
                assert_eq!(
                    serde_yaml::from_str::<Value>(&json).expect(&json),
                    literal.to_value()
                );
            }
        }
    }

    #[test]
    fn paths_stay_plain_and_modes_are_quoted() {
        let file = Literal::Map(vec![
            ("source", text(".sysext/kubernetes_1.30.7.raw")),
            ("permissions", Literal::Quoted("644".to_owned())),
        ]);
        assert_eq!(
            Literal::List(vec![file]).block(2, Layout::PRISM),
            "  - source: .sysext/kubernetes_1.30.7.raw\n    permissions: \"644\"\n"
        );
    }
}
