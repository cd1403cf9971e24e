//! The text of a config file, and where in it each value stands.
//!
//! Reads the events of the YAML parser once. That finds what a typed reader
//! would pass over: a second document (Prism reads only the first one, so a
//! `sysext:` after `---` would silently do nothing) and duplicate keys in
//! parts that we do not interpret.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_saphyr::granit_parser::{Event, Parser, Span};

use crate::finding::{Finding, Place};
use crate::input;

/// Largest config that is read, in bytes; the largest known ones have some ten thousand lines.
const MAX_BYTES: u64 = 16 << 20;

/// The text of a config file with the positions of its values.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the text was read from.
    pub path: PathBuf,
    /// The text, byte for byte, including a byte order mark.
    pub text: String,
    positions: BTreeMap<String, Position>,
    /// Line and column of each key, with the path of its value.
    keys: BTreeMap<(usize, usize), String>,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Bytes of the value if it is a scalar, else of its key.
    pub bytes: Range<usize>,
}

/// A config that can't be used, with what to show of it.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The text, for excerpts.
    pub source: Source,
    /// Why; at least one finding is an error.
    pub findings: Vec<Finding>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.source.path.display())?;
        crate::finding::Findings(self.findings.clone()).fmt(f)
    }
}

impl std::error::Error for Refused {}

impl Source {
    /// Reads `path` and finds its positions.
    pub fn read(path: &Path) -> Result<Source, Refused> {
        let refuse = |finding: Finding| Refused {
            source: Source::empty(path),
            findings: vec![finding.in_file(path)],
        };
        let bytes = input::read(path, MAX_BYTES).map_err(|error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => "name the config with --config-file FILE",
                _ => "make it a file that you may read, of at most 16 MiB",
            };
            refuse(
                Finding::error("config-unreadable", format!("reading the config: {error}"))
                    .help(help),
            )
        })?;
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(refuse(
                Finding::error("config-utf-16", "reading the config: it is UTF-16")
                    .help("save it as UTF-8; Prism reads that as well"),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            refuse(Finding::error(
                "config-not-utf-8",
                format!("reading the config: byte {offset} is not UTF-8"),
            ))
        })?;
        Source::parse(path, text)
    }

    /// Finds the positions in `text`; `path` is for messages and for relative paths.
    pub fn parse(path: &Path, text: String) -> Result<Source, Refused> {
        let mut walk = Walk::default();
        let result = walk.run(&text);
        let source = Source {
            path: path.to_owned(),
            text,
            positions: walk.positions,
            keys: walk.keys,
        };
        if let Err(finding) = result {
            walk.findings.push(finding);
        }
        if walk.findings.is_empty() {
            Ok(source)
        } else {
            Err(Refused {
                source,
                findings: walk.findings,
            })
        }
    }

    fn empty(path: &Path) -> Source {
        Source {
            path: path.to_owned(),
            text: String::new(),
            positions: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Folder that relative paths in the config are relative to.
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Where the value at a path such as `sysext.extensions[0].name` stands. A value that is not
    /// written down is placed at the nearest parent that is.
    pub fn locate(&self, yaml_path: &str) -> Option<&Position> {
        let mut path = yaml_path;
        loop {
            if let Some(position) = self.positions.get(path) {
                return Some(position);
            }
            let cut = path.rfind(['.', '['])?;
            path = path.get(..cut)?;
        }
    }

    /// Refuses this config with the given findings.
    pub fn refuse(&self, findings: Vec<Finding>) -> Refused {
        Refused {
            source: self.clone(),
            findings,
        }
    }

    /// The path of the innermost key or value at a line and column, for parser errors.
    pub fn path_at(&self, line: usize, column: usize) -> Option<&str> {
        if let Some(path) = self.keys.get(&(line, column)) {
            return Some(path);
        }
        self.positions
            .iter()
            .filter(|(_, position)| position.line == line && position.column <= column)
            .max_by_key(|(path, position)| (position.column, path.len()))
            .map(|(path, _)| path.as_str())
    }
}

/// One open collection.
#[expect(
    clippy::large_enum_variant,
    reason = "there are as many as the YAML is deep"
)]
enum Level {
    Map {
        path: String,
        keys: HashSet<String>,
        key: Option<(String, Span)>,
        complex: bool,
    },
    List {
        path: String,
        next: usize,
    },
}

#[derive(Default)]
struct Walk {
    positions: BTreeMap<String, Position>,
    keys: BTreeMap<(usize, usize), String>,
    findings: Vec<Finding>,
    levels: Vec<Level>,
    documents: usize,
}

impl Walk {
    fn run(&mut self, text: &str) -> Result<(), Finding> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let marker = error.marker();
                let finding =
                    Finding::error("yaml-syntax", format!("reading the YAML: {}", error.info()));
                Finding {
                    place: Some(Place::Position {
                        line: marker.line(),
                        column: marker.col() + 1,
                    }),
                    ..finding
                }
            })?;
            match event {
                Event::DocumentStart(..) => {
                    self.documents += 1;
                    if self.documents > 1 {
                        let finding = Finding::error(
                            "several-documents",
                            "reading the YAML: a second document starts here",
                        )
                        .because("Prism decodes the first document only and ignores the rest")
                        .help("keep one document per file; remove the `---` and what belongs to another file");
                        return Err(Finding {
                            place: Some(position_of(&span)),
                            ..finding
                        });
                    }
                }
                Event::Scalar(value, ..) => self.node(&span, Some(&value)),
                Event::Alias(_) => self.node(&span, None),
                Event::SequenceStart(..) => {
                    let path = self.node_path(&span);
                    self.levels.push(Level::List { path, next: 0 });
                }
                Event::MappingStart(..) => {
                    let path = self.node_path(&span);
                    self.levels.push(Level::Map {
                        path,
                        keys: HashSet::new(),
                        key: None,
                        complex: false,
                    });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    self.levels.pop();
                    self.value_done();
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A scalar or alias: a key if the innermost mapping waits for one, else a value.
    fn node(&mut self, span: &Span, scalar: Option<&str>) {
        if let Some(Level::Map {
            keys,
            key: key @ None,
            complex: false,
            ..
        }) = self.levels.last_mut()
        {
            let name = scalar.unwrap_or_default().to_owned();
            // Several merge keys in one mapping are an error of their own in the typed reader.
            if !keys.insert(name.clone()) && name != "<<" {
                let finding = Finding::error(
                    "duplicate-key",
                    format!("the key `{name}` is already there"),
                )
                .because("Prism refuses duplicate keys")
                .help("keep one of the two");
                self.findings.push(Finding {
                    place: Some(position_of(span)),
                    ..finding
                });
            }
            *key = Some((name, *span));
            return;
        }
        let path = self.node_path(span);
        self.record(path, span);
        self.value_done();
    }

    /// The path of the value that starts here; its key's position stands for it until a scalar's own does.
    fn node_path(&mut self, span: &Span) -> String {
        let (path, at) = match self.levels.last_mut() {
            None => (String::new(), *span),
            Some(Level::List { path, next }) => {
                let item = format!("{path}[{next}]");
                *next += 1;
                (item, *span)
            }
            Some(Level::Map {
                path,
                key: Some((name, key_span)),
                ..
            }) => {
                let full = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let start = key_span.start;
                self.keys
                    .insert((start.line(), start.col() + 1), full.clone());
                (full, *key_span)
            }
            // A mapping or list as a key: nothing that we know has one.
            Some(Level::Map { path, complex, .. }) => {
                *complex = true;
                (format!("{path}.?"), *span)
            }
        };
        self.record(path.clone(), &at);
        path
    }

    fn record(&mut self, path: String, span: &Span) {
        let Some(bytes) = span.byte_range() else {
            return;
        };
        let position = Position {
            line: span.start.line(),
            column: span.start.col() + 1,
            bytes,
        };
        self.positions.insert(path, position);
    }

    fn value_done(&mut self) {
        if let Some(Level::Map { key, complex, .. }) = self.levels.last_mut() {
            if *complex {
                // The complex key has just ended; its value follows.
                *complex = false;
                *key = Some(("?".to_owned(), Span::default()));
            } else {
                *key = None;
            }
        }
    }
}

fn position_of(span: &Span) -> Place {
    Place::Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Source, Refused> {
        Source::parse(Path::new("config.yaml"), text.to_owned())
    }

    fn first_id(text: &str) -> &'static str {
        parse(text).unwrap_err().findings[0].id
    }

    #[test]
    fn finds_scalars_keys_and_items() {
        let source =
            parse("os:\n  hostname: a\nsysext:\n  extensions:\n  - name: x\n  - {image: b.raw}\n")
                .unwrap();
        let at = |path: &str| {
            let position = source.locate(path).unwrap();
            (
                position.line,
                position.column,
                &source.text[position.bytes.clone()],
            )
        };
        assert_eq!(at("os.hostname"), (2, 13, "a"));
        assert_eq!(at("sysext.extensions[0].name"), (5, 11, "x"));
        assert_eq!(at("sysext.extensions[1].image"), (6, 13, "b.raw"));
        assert_eq!(at("sysext.extensions").0, 4);
        assert_eq!(
            at("sysext.extensions[1].verity").0,
            6,
            "the nearest parent stands in"
        );
        assert_eq!(source.path_at(5, 11), Some("sysext.extensions[0].name"));
        assert_eq!(source.path_at(5, 5), Some("sysext.extensions[0].name"));
    }

    #[test]
    fn refuses_a_second_document_and_duplicate_keys_anywhere() {
        assert_eq!(first_id("a: 1\n---\nsysext: {}\n"), "several-documents");
        assert_eq!(first_id("os:\n  users: 1\n  users: 2\n"), "duplicate-key");
        assert_eq!(first_id("{\"a\": 1, \"a\": 2}"), "duplicate-key");
        assert_eq!(first_id("a: [\n"), "yaml-syntax");
        assert!(parse("a: &x {b: 1}\nc:\n  <<: *x\n  b: 2\n").is_ok());
        assert!(parse("? {a: 1}\n: 2\nb: 3\n").is_ok());
        assert!(parse("").is_ok());
    }

    #[test]
    fn refuses_what_is_not_utf_8() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, [0xff, 0xfe, b'a', 0]).unwrap();
        assert_eq!(
            Source::read(&path).unwrap_err().findings[0].id,
            "config-utf-16"
        );
        std::fs::write(&path, [b'a', 0xc3]).unwrap();
        assert_eq!(
            Source::read(&path).unwrap_err().findings[0].id,
            "config-not-utf-8"
        );
        assert_eq!(
            Source::read(&dir.path().join("none")).unwrap_err().findings[0].id,
            "config-unreadable"
        );
    }
}
