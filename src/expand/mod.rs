//! The plain Prism config that comes out of a `config.yaml` with a `sysext:` section.
//!
//! # What is guaranteed
//!
//! [`expand`] edits text, it does not write YAML anew: a round trip through a
//! YAML library would turn `yes` into a string and `0644` into a number, and
//! lose comments. Whatever it returns has been proved, never only hoped, on
//! the text itself:
//!
//! * **Nothing else changed.** Input and output are read by an independent
//!   parser (`serde_yaml`, which had no part in the edit), the intended value
//!   is built from the input's value, and the two must be equal, types
//!   included: `644` is not `"644"`. Merge keys count as the data they bring.
//! * **Every other byte is where it was.** Comments, blank lines, CRLF, byte
//!   order mark, quoting, a missing final line break, `---` and `...`: each
//!   byte outside the edits stands in the output in the same order, and an
//!   edit deletes nothing but the `sysext` section, a comma before it, an
//!   empty value (`null`, `~`, `[]`, `{}`) that gets content, or the path of a
//!   base config that is expanded as well.
//! * **No `sysext` is left**, neither written nor through a merge key.
//! * **Again is the same.** An item that is there already is not added twice,
//!   so expanding an expanded file gives the same bytes.
//!
//! Where this cannot be had (an anchor inside `sysext` is used elsewhere, the
//! list to append to is an alias or comes from a merge key, the text is not
//! UTF-8, there are two documents) the answer is an [`ExpandError`], and where
//! adding a few lines by hand is the way out, the error holds these lines.
//!
//! # What belongs to the section
//!
//! The lines of the section, the comments within it and behind it that are
//! indented deeper than its key, and the comment lines directly above the key
//! in the same column. A comment block that begins the file stays even if it
//! touches the key: it usually is a licence or an editor's mode line. Blank
//! lines behind the section go when there are blank lines in front of it.
//!
//! # How it works
//!
//! `parse` reads the text into a tree with byte ranges (`node`, `spans`),
//! `missing` decides what is missing, `remove` and `insert` turn both into
//! edits, which `splice` makes; `style` and `literal` write the new pieces in
//! the style around them, and `proof` checks the result.
//!
//! The splice works on the byte ranges of `granit_parser`, the parser behind
//! `serde-saphyr`, and not on the `yaml-edit` crate: that crate decides itself
//! which comments and blank lines an entry owns and how new ones are laid out,
//! and was seen to splice into the middle of `- &source: a.txt`.

mod insert;
mod literal;
mod missing;
mod node;
mod parse;
mod proof;
mod rebase;
mod remove;
mod spans;
mod splice;
mod style;

use std::collections::BTreeMap;

use spans::Source;

/// The key of the section that Prism does not know.
const SECTION: &str = "sysext";

/// What a config gains by expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Additions {
    /// Items for `os.additionalFiles`, in order.
    pub files: Vec<AdditionalFile>,
    /// How the services that merge are switched on.
    pub enable: Enable,
}

impl Additions {
    /// Nothing at all.
    pub const NONE: Additions = Additions {
        files: Vec::new(),
        enable: Enable::None,
    };
}

/// One item of `os.additionalFiles`; exactly one of `source` and `content` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdditionalFile {
    /// File to copy, relative to the config file.
    pub source: Option<String>,
    /// Text of the file.
    pub content: Option<String>,
    /// Absolute path in the image.
    pub destination: String,
    /// Octal mode such as `644`; always written in quotes.
    pub permissions: String,
}

/// How the merge at boot is switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enable {
    /// A step in `scripts.postCustomization`.
    Script {
        /// Name of the step.
        name: String,
        /// What `/bin/sh` runs.
        content: String,
    },
    /// Entries in `os.services.enable`; `x` and `x.service` count as the same.
    Services {
        /// The units.
        units: Vec<String>,
    },
    /// Not at all.
    None,
}

/// Why there is no expanded config.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// The file is not UTF-8 text.
    #[error(
        "expanding the config: the file is {found}, expected UTF-8; convert it, for instance with `iconv -t UTF-8`"
    )]
    Encoding {
        /// What it is instead.
        found: String,
    },
    /// Far beyond any real config.
    #[error(
        "expanding the config: line {line}: the file holds more than {limit} {what}, which no Prism config needs"
    )]
    TooLarge {
        /// Line that goes beyond it, from 1.
        line: usize,
        /// The limit.
        limit: usize,
        /// What it counts.
        what: &'static str,
    },
    /// Not YAML.
    #[error("reading the config as YAML: line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser expected and found.
        message: String,
    },
    /// Prism reads the first document only.
    #[error(
        "expanding the config: a second YAML document starts on line {line}, expected one; Prism would silently ignore it, so remove it"
    )]
    SeveralDocuments {
        /// Line of the second document, from 1.
        line: usize,
    },
    /// The top level is a list or a scalar.
    #[error(
        "expanding the config: line {line}: the top level is {found}, expected a mapping with keys such as `os:`"
    )]
    NotAMapping {
        /// Line on which it starts, from 1.
        line: usize,
        /// What it is instead.
        found: &'static str,
    },
    /// An addition that Prism would refuse.
    #[error(
        "expanding the config: additional file `{destination}` needs exactly one of source and content"
    )]
    Addition {
        /// Destination of the item.
        destination: String,
    },
    /// The text is written such that an edit would change more than intended.
    #[error("expanding the config: line {line}: {reason}{}", by_hand(snippet))]
    Refused {
        /// Line, from 1.
        line: usize,
        /// What stands in the way and what to do.
        reason: String,
        /// YAML to add by hand; empty when nothing has to be added.
        snippet: String,
    },
    /// The edit was made but not proved right, so it was thrown away.
    #[error(
        "expanding the config: line {line}: the edited text could not be proved right: {reason}{}",
        by_hand(snippet)
    )]
    Unproven {
        /// Line of the first edit, from 1.
        line: usize,
        /// The difference that was found.
        reason: String,
        /// YAML to add by hand; empty when nothing has to be added.
        snippet: String,
    },
}

impl ExpandError {
    /// Line and column to look at, both from 1; none when the file is no text, or when it is not the
    /// file that is wrong.
    pub fn place(&self) -> Option<(usize, Option<usize>)> {
        match *self {
            ExpandError::Syntax { line, column, .. } => Some((line, Some(column))),
            ExpandError::TooLarge { line, .. }
            | ExpandError::SeveralDocuments { line }
            | ExpandError::NotAMapping { line, .. }
            | ExpandError::Refused { line, .. }
            | ExpandError::Unproven { line, .. } => Some((line, None)),
            ExpandError::Encoding { .. } | ExpandError::Addition { .. } => None,
        }
    }
}

fn by_hand(snippet: &str) -> String {
    if snippet.is_empty() {
        return "; or remove the `sysext` section by hand".to_owned();
    }
    format!("; or remove the `sysext` section and add this by hand:\n{snippet}")
}

/// The text of a config file, or why it is none.
///
/// # Errors
/// [`ExpandError::Encoding`] for UTF-16, UTF-32 and bytes that are not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, ExpandError> {
    let marks: [(&[u8], &str); 4] = [
        (&[0xff, 0xfe, 0, 0], "UTF-32"),
        (&[0, 0, 0xfe, 0xff], "UTF-32"),
        (&[0xff, 0xfe], "UTF-16"),
        (&[0xfe, 0xff], "UTF-16"),
    ];
    for (mark, name) in marks {
        if bytes.starts_with(mark) {
            return Err(ExpandError::Encoding {
                found: name.to_owned(),
            });
        }
    }
    // YAML 1.2, 5.2: without a byte order mark, null bytes around the first
    // character give UTF-16 away.
    if let [0, first, ..] | [first, 0, ..] = bytes
        && *first != 0
    {
        return Err(ExpandError::Encoding {
            found: "UTF-16 without byte order mark".to_owned(),
        });
    }
    std::str::from_utf8(bytes).map_err(|error| ExpandError::Encoding {
        found: format!("not text (invalid byte at offset {})", error.valid_up_to()),
    })
}

/// The plain Prism config: `text` without its `sysext` section and with
/// `additions`. See the module for what is guaranteed.
///
/// # Errors
/// Every [`ExpandError`] but `Encoding`. `Refused` and `Unproven` hold the lines to add by hand.
pub fn expand(text: &str, additions: &Additions) -> Result<String, ExpandError> {
    expand_on(text, additions, &BTreeMap::new())
}

/// The same on base configs that lie elsewhere: `bases` has the new path for
/// the item of `baseConfigs` at a number.
pub(crate) fn expand_on(
    text: &str,
    additions: &Additions,
    bases: &BTreeMap<usize, String>,
) -> Result<String, ExpandError> {
    let source = Source::parse(text)?;
    let input = proof::read(&source)?;
    let missing = missing::missing(&input, additions)?;
    let edits = splice::edits(&source, &input, &missing, bases)?;
    let (output, written) = splice::apply(&source, edits);
    let input = rebase::rebased(input, bases);
    proof::prove(&source, &input, &missing, &output, &written)?;
    Ok(output)
}
