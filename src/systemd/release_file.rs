//! os-release and extension-release files: syntax, and systemd's decision
//! whether an extension fits a host.
//!
//! The syntax is that of systemd `src/basic/env-file.c`
//! (`parse_env_file_internal`), the decision that of
//! `src/shared/extension-util.c` (`extension_release_validate`; up to 253
//! `src/shared/extension-release.c`). Where the file of an extension is found
//! is not decided here.

use serde::ser::{Serialize, SerializeMap, Serializer};

pub use crate::systemd::release_match::{Decision, Refusal, matches};

/// Bytes of the largest file that is read. systemd has a limit as well (`src/basic/fileio.h`,
/// `READ_FULL_BYTES_MAX` allows 64 MiB; no release file is anywhere near).
pub const MAX_SIZE: u64 = 1024 * 1024;

/// The keys and values of a release file, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleaseFields(Vec<(String, String)>);

/// Why a release file cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// systemd rejects the whole file, wherever the byte stands.
    #[error("the release file holds a NUL byte, so systemd rejects all of it")]
    Nul,
    /// systemd rejects the whole file.
    #[error("the release file is not UTF-8, so systemd rejects all of it")]
    NotUtf8,
    /// This many bytes, more than [`MAX_SIZE`].
    #[error("the release file has {0} bytes, at most {MAX_SIZE} are read")]
    TooBig(usize),
    /// A key that no release file may have.
    #[error("`{0}` is not a key for a release file, expected capital letters, digits and `_`")]
    Key(String),
    /// A value that cannot be written on one line.
    #[error("the value of {key} holds a control character, expected one line of text")]
    Value {
        /// The key whose value it is.
        key: String,
    },
}

impl ReleaseFields {
    /// No fields.
    pub fn new() -> ReleaseFields {
        ReleaseFields::default()
    }

    /// Parses a file as systemd 254 and later do.
    ///
    /// Earlier versions read on after a comment line that ends with a backslash,
    /// which is the only difference.
    ///
    /// # Errors
    /// [`ReleaseError::TooBig`], [`ReleaseError::Nul`], [`ReleaseError::NotUtf8`]; what systemd
    /// skips in a file is skipped here too.
    pub fn parse(bytes: &[u8]) -> Result<ReleaseFields, ReleaseError> {
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SIZE) {
            return Err(ReleaseError::TooBig(bytes.len()));
        }
        if bytes.contains(&0) {
            return Err(ReleaseError::Nul);
        }
        // systemd checks each key and value; a comment may hold other bytes.
        let mut fields = ReleaseFields::new();
        for (key, value) in Parser::default().run(bytes) {
            let text = |bytes| String::from_utf8(bytes).map_err(|_| ReleaseError::NotUtf8);
            fields.set(text(key)?, text(value)?);
        }
        Ok(fields)
    }

    /// The value of a key; of several the last counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a key unless it is empty, which systemd mostly takes for absent.
    pub fn filled(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Sets a key, at its old place if it has one.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some(field) => field.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a release file, one `KEY=value` a line, quoted where a shell would need it.
    ///
    /// # Errors
    /// [`ReleaseError::Key`] or [`ReleaseError::Value`] of the first field that no release file can
    /// hold.
    pub fn to_text(&self) -> Result<String, ReleaseError> {
        let mut text = String::new();
        for (key, value) in self.iter() {
            let starts_well = key.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
            let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if !starts_well || !key.chars().all(allowed) {
                return Err(ReleaseError::Key(key.to_owned()));
            }
            if value.chars().any(char::is_control) {
                return Err(ReleaseError::Value {
                    key: key.to_owned(),
                });
            }
            text.push_str(key);
            text.push('=');
            push_value(&mut text, value);
            text.push('\n');
        }
        Ok(text)
    }
}

/// Quotes as os-release(5) asks: anything but letters, digits and a few harmless signs.
fn push_value(text: &mut String, value: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@+%,".contains(c);
    if value.chars().all(plain) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

impl Serialize for ReleaseFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Where the parser stands; the names are those of `parse_env_file_internal`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    PreKey,
    Key,
    PreValue,
    Value,
    ValueEscape,
    SingleQuote,
    DoubleQuote,
    DoubleQuoteEscape,
    Comment,
    CommentEscape,
}

#[derive(Debug, Default)]
struct Parser {
    state: State,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Length of the value without the unquoted white space at its end.
    solid: usize,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Parser {
    fn run(mut self, bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        for byte in bytes {
            self.state = self.step(*byte);
        }
        // A file may end without a newline, even inside quotes; a lone key is dropped.
        match self.state {
            State::PreKey | State::Key | State::Comment | State::CommentEscape => {}
            _ => self.finish(),
        }
        self.fields
    }

    fn step(&mut self, byte: u8) -> State {
        let newline = matches!(byte, b'\n' | b'\r');
        let white = newline || matches!(byte, b' ' | b'\t');
        match self.state {
            State::PreKey => match byte {
                b'#' | b';' => State::Comment,
                _ if white => State::PreKey,
                _ => {
                    self.key.push(byte);
                    State::Key
                }
            },
            State::Key if newline => {
                self.key.clear();
                State::PreKey
            }
            State::Key if byte == b'=' => State::PreValue,
            State::Key => {
                self.key.push(byte);
                State::Key
            }
            State::PreValue if newline => {
                self.finish();
                State::PreKey
            }
            State::PreValue => match byte {
                b'\'' => State::SingleQuote,
                b'"' => State::DoubleQuote,
                b'\\' => State::ValueEscape,
                _ if white => State::PreValue,
                _ => {
                    self.push_solid(byte);
                    State::Value
                }
            },
            State::Value if newline => {
                self.finish();
                State::PreKey
            }
            State::Value if byte == b'\\' => {
                self.solid = self.value.len();
                State::ValueEscape
            }
            State::Value if white => {
                self.value.push(byte);
                State::Value
            }
            State::Value => {
                self.push_solid(byte);
                State::Value
            }
            State::ValueEscape => {
                if !newline {
                    self.push_solid(byte);
                }
                State::Value
            }
            State::SingleQuote if byte == b'\'' => State::PreValue,
            State::SingleQuote => {
                self.push_solid(byte);
                State::SingleQuote
            }
            State::DoubleQuote => match byte {
                b'"' => State::PreValue,
                b'\\' => State::DoubleQuoteEscape,
                _ => {
                    self.push_solid(byte);
                    State::DoubleQuote
                }
            },
            State::DoubleQuoteEscape => {
                match byte {
                    b'"' | b'\\' | b'`' | b'$' => self.push_solid(byte),
                    b'\n' => {}
                    _ => {
                        self.push_solid(b'\\');
                        self.push_solid(byte);
                    }
                }
                State::DoubleQuote
            }
            State::Comment if byte == b'\\' => State::CommentEscape,
            State::Comment | State::CommentEscape if newline => State::PreKey,
            State::Comment | State::CommentEscape => State::Comment,
        }
    }

    fn push_solid(&mut self, byte: u8) {
        self.value.push(byte);
        self.solid = self.value.len();
    }

    fn finish(&mut self) {
        let mut key = std::mem::take(&mut self.key);
        while key.last().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            key.pop();
        }
        let mut value = std::mem::take(&mut self.value);
        value.truncate(self.solid);
        self.solid = 0;
        self.fields.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(text: &str) -> ReleaseFields {
        ReleaseFields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn quotes_escapes_and_continuations_follow_env_file_c() {
        for (text, expected) in [
            ("A=b c  \n", "b c"),
            ("A='b  '\n", "b  "),
            ("A=\"b\" 'c'd\n", "bcd"),
            ("A=b\"c\"\n", "b\"c\""),
            ("A=\"\\$\\x\"\n", "$\\x"),
            ("A=b\\\nc\n", "bc"),
            ("A=b\\ \n", "b "),
            ("A=\"b", "b"),
            ("  A  =b", "b"),
            ("# c \\\nA=b", "b"),
            ("A=1\nA=2\r\nA=b\r\n", "b"),
        ] {
            assert_eq!(fields(text).get("A"), Some(expected), "{text:?}");
        }
        assert!(fields("# A=b\n;A=b\nA\n").is_empty());
        assert_eq!(ReleaseFields::parse(b"A=b\n\0"), Err(ReleaseError::Nul));
        assert_eq!(
            ReleaseFields::parse(b"A=\xff\n"),
            Err(ReleaseError::NotUtf8)
        );
        assert!(ReleaseFields::parse(b"#\xff\n").unwrap().is_empty());
    }

    #[test]
    fn writes_what_a_shell_and_systemd_read_alike() {
        let mut release = ReleaseFields::new();
        release.set("ID", "azurelinux");
        release.set("SYSEXT_SCOPE", "system portable");
        release.set("NAME", "a \"$b\" `c` \\");
        release.set("ID", "debian");
        assert_eq!(
            release.to_text().unwrap(),
            "ID=debian\nSYSEXT_SCOPE=\"system portable\"\nNAME=\"a \\\"\\$b\\\" \\`c\\` \\\\\"\n"
        );
        let mut bad = ReleaseFields::new();
        bad.set("A", "x\ny");
        assert!(matches!(bad.to_text(), Err(ReleaseError::Value { .. })));
        let mut bad = ReleaseFields::new();
        bad.set("a b", "x");
        assert!(matches!(bad.to_text(), Err(ReleaseError::Key(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in "[^\\p{Cc}]{0,40}") {
            let mut release = ReleaseFields::new();
            release.set("KEY", value);
            let text = release.to_text().unwrap();
            prop_assert_eq!(ReleaseFields::parse(text.as_bytes()).unwrap(), release);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ReleaseFields::parse(&bytes);
        }
    }
}
