//! The text of a config file, and where in it each value stands.
//!
//! Read once into a tree. That finds what a typed reader would pass over: a second document (Prism reads
//! only the first one, so a `sysext:` after `---` would silently do nothing) and duplicate keys in
//! parts that we do not interpret.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::finding::{Finding, Place};
use crate::io::open;
use crate::io::open::folder_of;
use crate::prism::node;
use crate::prism::node::{At, Body, Document, Node, Trouble};

/// Largest config that is read, in bytes; the largest known ones have some ten thousand lines.
const MAX_BYTES: u64 = 16 << 20;

/// The text of a config file with the positions of its values.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the text was read from.
    pub path: PathBuf,
    /// The text, byte for byte, including a byte order mark.
    pub text: String,
    /// The data; none if there are none, or they can't be read.
    document: Option<Arc<Document>>,
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

impl Position {
    /// Where a finding's place is; a point has no bytes, and only what is in `source` can be looked up.
    pub fn of(place: &Place, source: Option<&Source>) -> Option<Position> {
        match place {
            Place::Yaml(path) => source?.locate(path),
            Place::Position { line, column } => Some(Position {
                line: *line,
                column: *column,
                bytes: 0..0,
            }),
            Place::File(_) => None,
        }
    }
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
    ///
    /// # Errors
    /// `config-unreadable` (also above 16 MiB), `config-utf-16` or `config-not-utf-8`, each with an
    /// empty text; else what [`Source::parse`] reports.
    pub fn read(path: &Path) -> Result<Source, Refused> {
        let refuse = |finding: Finding| Refused {
            source: Source::empty(path),
            findings: vec![finding.in_file(path)],
        };
        let bytes = open::read(path, MAX_BYTES).map_err(|error| {
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

    /// Reads `text` into a tree; `path` is for messages and for relative paths.
    ///
    /// # Errors
    /// `yaml-syntax` (also for more than a million values), `several-documents`, `duplicate-key`
    /// and `yaml-tag`, each at its line.
    pub fn parse(path: &Path, text: String) -> Result<Source, Refused> {
        let read = node::read(&text);
        let mut source = Source {
            path: path.to_owned(),
            text,
            document: None,
        };
        match read {
            Ok(document) => {
                source.document = Some(Arc::new(document));
                Ok(source)
            }
            Err(troubles) => Err(Refused {
                source,
                findings: troubles.into_iter().map(told).collect(),
            }),
        }
    }

    fn empty(path: &Path) -> Source {
        Source {
            path: path.to_owned(),
            text: String::new(),
            document: None,
        }
    }

    /// The data of the file, if it holds any.
    pub fn root(&self) -> Option<&Node> {
        self.document.as_ref()?.root.as_ref()
    }

    /// The text with nothing but line breaks in the place of all other sections, where that leaves one
    /// section readable on its own, in the same lines and columns: in block style and without aliases.
    pub fn only(&self, section: &str) -> Option<String> {
        let document = self.document.as_ref().filter(|it| !it.has_aliases)?;
        let Body::Map(entries) = &document.root.as_ref()?.body else {
            return None;
        };
        let place = entries.iter().position(|entry| entry.key == section)?;
        let entry = entries.get(place)?;
        let apart =
            |a: &node::Entry, b: &node::Entry| a.at.line < b.at.line && a.at.column == b.at.column;
        if !entries.is_sorted_by(apart) || entry.at.column > 64 {
            return None;
        }
        let line_of = |entry: &node::Entry| entry.at.line.saturating_sub(1);
        let lines = self.text.split_inclusive('\n').skip(line_of(entry));
        let end = entries.get(place + 1).map_or(usize::MAX, line_of);
        let lines = lines.take(end.saturating_sub(line_of(entry)));
        let mut text = "\n".repeat(line_of(entry));
        text.extend(lines);
        Some(text)
    }

    /// Folder that relative paths in the config are relative to.
    pub fn directory(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Where the value at a path such as `sysext.extensions[0].name` stands. A value that is not
    /// written down is placed at the nearest parent that is.
    pub fn locate(&self, yaml_path: &str) -> Option<Position> {
        let (mut node, mut rest) = (self.root()?, yaml_path);
        let mut found = None;
        while !rest.is_empty() {
            let (value, at, bytes, after) = match &node.body {
                Body::Map(entries) => {
                    let name = rest.strip_prefix('.').unwrap_or(rest);
                    // A key may hold dots itself; the longest that fits is meant.
                    let fitting = entries.iter().filter_map(|entry| {
                        let after = name.strip_prefix(entry.key.as_str())?;
                        (after.is_empty() || after.starts_with(['.', '[']))
                            .then_some((entry, after))
                    });
                    let Some((entry, after)) = fitting.min_by_key(|(_, after)| after.len()) else {
                        break;
                    };
                    (&entry.value, entry.at, &entry.bytes, after)
                }
                Body::List(items) => {
                    let Some((index, after)) =
                        rest.strip_prefix('[').and_then(|it| it.split_once(']'))
                    else {
                        break;
                    };
                    let Some(item) = index.parse().ok().and_then(|index: usize| items.get(index))
                    else {
                        break;
                    };
                    (item, item.at, &item.bytes, after)
                }
                Body::Scalar { .. } => break,
            };
            // A scalar has a place of its own, anything else that of its key.
            let (at, bytes) = match value.body {
                Body::Scalar { .. } => (value.at, &value.bytes),
                _ => (at, bytes),
            };
            found = Some(Position::new(at, bytes.clone()));
            (node, rest) = (value, after);
        }
        found
    }

    /// Refuses this config with the given findings.
    pub fn refuse(&self, findings: Vec<Finding>) -> Refused {
        Refused {
            source: self.clone(),
            findings,
        }
    }

    /// The path of the innermost key or value at a line and column, for parser errors.
    pub fn path_at(&self, line: usize, column: usize) -> Option<String> {
        let mut search = Search {
            at: At { line, column },
            key: None,
            value: None,
            left: MAX_SEARCHED,
        };
        search.within(self.root()?, String::new());
        search.key.or(search.value.map(|(_, path)| path))
    }
}

impl Position {
    fn new(at: At, bytes: Range<usize>) -> Position {
        Position {
            line: at.line,
            column: at.column,
            bytes,
        }
    }
}

/// Most values that are gone through for an error; aliases can make a small file a large tree.
const MAX_SEARCHED: usize = 1_000_000;

/// Looks for what stands at a place.
struct Search {
    at: At,
    /// The path of the value of the key that begins exactly there.
    key: Option<String>,
    /// The value that begins last before it in its line.
    value: Option<(usize, String)>,
    left: usize,
}

impl Search {
    fn within(&mut self, node: &Node, path: String) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return,
        }
        let column = node.at.column;
        let better = self
            .value
            .as_ref()
            .is_none_or(|(best, known)| (*best, known.len()) <= (column, path.len()));
        if node.at.line == self.at.line && column <= self.at.column && better {
            self.value = Some((column, path.clone()));
        }
        match &node.body {
            Body::Map(entries) => {
                for entry in entries {
                    let path = match path.as_str() {
                        "" => entry.key.clone(),
                        path => format!("{path}.{}", entry.key),
                    };
                    if entry.at == self.at {
                        self.key = Some(path.clone());
                    }
                    self.within(&entry.value, path);
                }
            }
            Body::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(item, format!("{path}[{index}]"));
                }
            }
            Body::Scalar { .. } => {}
        }
    }
}

/// What keeps a text from being read, for the user.
fn told(trouble: Trouble) -> Finding {
    let (at, finding) = match trouble {
        Trouble::Syntax(at, info) => {
            let finding = Finding::error("yaml-syntax", format!("reading the YAML: {info}"));
            (at, finding)
        }
        Trouble::SecondDocument(at) => {
            let message = "reading the YAML: a second document starts here";
            let finding = Finding::error("several-documents", message)
                .because("Prism decodes the first document only and ignores the rest")
                .help(
                    "keep one document per file; remove the `---` and what belongs to another file",
                );
            (at, finding)
        }
        Trouble::DuplicateKey(at, name) => {
            let message = format!("the key `{name}` is already there");
            let finding = Finding::error("duplicate-key", message)
                .because("Prism refuses duplicate keys")
                .help("keep one of the two");
            (at, finding)
        }
        Trouble::Tag(at, why) => {
            let finding = Finding::error("yaml-tag", format!("reading the YAML: {why}"))
                .because("Prism's reader fails on a value that is not what its tag says (yaml.v3 resolve.go)")
                .help("remove the tag, or correct the value");
            (at, finding)
        }
        Trouble::TooLarge(at) => {
            let message = "reading the YAML: it holds more than a million values";
            (
                at,
                Finding::error("yaml-syntax", message).help("no config of Prism needs so many"),
            )
        }
    };
    Finding {
        place: Some(at.into()),
        ..finding
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
        assert_eq!(
            source.path_at(5, 11).as_deref(),
            Some("sysext.extensions[0].name")
        );
        assert_eq!(
            source.path_at(5, 5).as_deref(),
            Some("sysext.extensions[0].name")
        );
    }

    #[test]
    fn one_section_is_cut_out_where_it_stands() {
        let source = parse("os:\n  a: 1\nsysext:\n  b: 2\n\nscripts: {}\n").unwrap();
        let cut = source.only("sysext");
        assert_eq!(cut.as_deref(), Some("\n\nsysext:\n  b: 2\n\n"));
        for text in ["{os: 1, sysext: 2}", "os: &a 1\nsysext: *a\n", "os: 1\n"] {
            assert_eq!(parse(text).unwrap().only("sysext"), None, "{text}");
        }
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
