//! What the user wrote: the `sysext:` block, the parts of Prism's config that
//! bear on it, and the text with its positions.

pub(crate) mod editor;
pub(crate) mod mkosi_import;
pub(crate) mod model;
pub(crate) mod pitfalls;
pub(crate) mod prism;
mod shorthand;
pub mod source;
pub mod validate;

use std::path::{Path, PathBuf};

use crate::config::mkosi_import as mkosi;
use crate::finding::suggest::nearest;
use crate::finding::{Finding, Place};
use crate::prism::node::Node;
use model::Sysext;
use prism::Prism;
use source::{Refused, Source};

/// A config file, read and typed.
#[derive(Debug, Clone)]
pub struct Config {
    /// Text and positions.
    pub source: Source,
    /// The block; none if the file has no `sysext:` key.
    pub sysext: Option<Sysext>,
    /// What we need of the rest.
    pub prism: Prism,
    /// What was noticed while reading; no errors.
    pub notes: Vec<Finding>,
}

/// The file as far as it is ours.
#[derive(serde::Deserialize)]
struct Document {
    #[serde(default)]
    sysext: Option<Sysext>,
}

impl Config {
    /// Reads and types the file at `path`, and puts what they amount to in the place of mkosi's
    /// files; semantics are checked by [`validate::validate`].
    ///
    /// # Errors
    /// What [`Source::read`] and [`Config::resolved`] report.
    pub fn read(path: &Path) -> Result<Config, Refused> {
        Config::resolved(Source::read(path)?)
    }

    /// The same of a file whose text has been read.
    ///
    /// # Errors
    /// What [`Config::from_source`] reports; else one finding for each bad mkosi configuration:
    /// `mkosi-unreadable`, `mkosi-syntax`, `mkosi-format`, `mkosi-needed`, `wrong-value`,
    /// `name-refused`.
    pub fn resolved(source: Source) -> Result<Config, Refused> {
        let mut config = Config::from_source(source)?;
        match mkosi::resolve(&mut config) {
            Ok(()) => Ok(config),
            Err(findings) => Err(config.source.refuse(findings)),
        }
    }

    /// Types an already read text.
    ///
    /// # Errors
    /// One finding, the first problem in the `sysext` section: `unknown-key`, `unknown-value`,
    /// `missing-key`, `wrong-type` or `wrong-value`.
    pub fn from_source(source: Source) -> Result<Config, Refused> {
        // Prism's reader takes `0644` as octal, and merge keys as merges (gopkg.in/yaml.v3).
        let options = serde_saphyr::options! {
            legacy_octal_numbers: true,
            with_snippet: false,
        };
        // Only what is ours is worth a second reading; without it all of it is in `root`.
        let section = source.only("sysext");
        let text = match (&section, source.root().and_then(|root| root.get("sysext"))) {
            (Some(section), _) => section,
            (None, None) if source.root().is_none_or(Node::is_map) => "",
            (None, _) => source.text.trim_start_matches('\u{feff}'),
        };
        match serde_saphyr::from_str_with_options::<Option<Document>>(text, options) {
            Ok(document) => Ok(Config {
                prism: source.root().map(Prism::read).unwrap_or_default(),
                sysext: document.and_then(|document| document.sysext),
                source,
                notes: Vec::new(),
            }),
            Err(error) => {
                let finding = explain(&source, &error);
                Err(source.refuse(vec![finding]))
            }
        }
    }

    /// A path of the config, which is relative to the folder that holds the config.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match self.source.directory() {
            // Messages read better without the `./`.
            here if here == Path::new(".") => path.to_owned(),
            directory => directory.join(path),
        }
    }
}

/// Says a reader's error in the words of the config.
fn explain(source: &Source, error: &serde_saphyr::Error) -> Finding {
    use serde_saphyr::Error as E;
    let location = error.location();
    let position = location.map(|location| {
        let as_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        (as_usize(location.line()), as_usize(location.column()))
    });
    let path = position
        .and_then(|(line, column)| source.path_at(line, column))
        .unwrap_or_default();
    let place = position.map(|(line, column)| Place::Position { line, column });
    // The reader often gives the place of the key; the value is what is wrong.
    let value = match &place {
        Some(_) if !path.is_empty() => Some(Place::Yaml(path.to_owned())),
        other => other.clone(),
    };
    let at = if path.is_empty() {
        String::new()
    } else {
        format!("`{path}`: ")
    };
    let (finding, place) = match error.without_snippet() {
        E::SerdeUnknownField {
            field, expected, ..
        } => {
            let finding = Finding::error("unknown-key", format!("unknown key `{field}`"));
            let finding = match nearest(field, expected) {
                Some(known) => finding.help(format!("did you mean `{known}`?")),
                None => finding.help(format!("known here: {}", expected.join(", "))),
            };
            (finding, place)
        }
        E::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let finding = Finding::error(
                "unknown-value",
                format!(
                    "{at}expected one of {}, found `{variant}`",
                    expected.join(", ")
                ),
            );
            let finding = match nearest(variant, expected) {
                Some(known) => finding.help(format!("did you mean `{known}`?")),
                None => finding,
            };
            (finding, value)
        }
        E::SerdeMissingField { field, .. } => {
            let message = format!("{at}the key `{field}` is missing");
            let finding = Finding::error("missing-key", message);
            (finding.help(format!("add `{field}: …`")), place)
        }
        E::Unexpected { expected, .. } => {
            let message = format!("{at}expected {}", plain(expected));
            (Finding::error("wrong-type", message), place)
        }
        E::InvalidScalar { ty, .. } => {
            let message = format!("{at}expected {}", plain(ty));
            (Finding::error("wrong-type", message), place)
        }
        E::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | E::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => {
            let message = format!("{at}expected {expected}, found {unexpected}");
            (Finding::error("wrong-type", message), value)
        }
        other => {
            let text = other.to_string();
            let line = text.lines().next().unwrap_or(&text);
            (Finding::error("wrong-value", format!("{at}{line}")), place)
        }
    };
    Finding { place, ..finding }
}

/// The reader's words for what it expected, as a person says them.
fn plain(expected: &str) -> String {
    match expected {
        "mapping start" => "a mapping (`key: value`)".to_owned(),
        "sequence start" => "a list".to_owned(),
        "string scalar" => "a string".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Refused> {
        Config::from_source(Source::parse(Path::new("config.yaml"), text.to_owned())?)
    }

    fn refusal(text: &str) -> Finding {
        read(text).unwrap_err().findings[0].clone()
    }

    #[test]
    fn reads_the_short_and_the_long_forms() {
        let config = read(concat!(
            "os:\n  hostname: x\n  users: [{name: a, uid: 5}]\n",
            "sysext:\n  verityKey: env:KEY\n  certificates: [a.crt, {source: b.pem, name: c.crt}]\n",
            "  extensions:\n  - kubernetes.raw\n  - name: t\n    version: 1.30\n    verity: false\n",
            "    image: {path: k.raw, sha256: ab}\n    files: ['a:/usr/b', {content: x, destination: /usr/c, permissions: 0755}]\n",
        ))
        .unwrap();
        let sysext = config.sysext.unwrap();
        assert_eq!(
            sysext.verity_key,
            Some(model::KeyReference::Env("KEY".into()))
        );
        assert_eq!(sysext.certificates[0].source, PathBuf::from("a.crt"));
        assert_eq!(sysext.certificates[1].name.as_deref(), Some("c.crt"));
        let [first, second] = sysext.extensions.as_slice() else {
            panic!("two extensions")
        };
        assert_eq!(
            first.image.as_ref().unwrap().path,
            PathBuf::from("kubernetes.raw")
        );
        assert_eq!(second.version.as_deref(), Some("1.30"), "a version is text");
        assert_eq!(second.verity, Some(model::VerityMode::None));
        assert_eq!(second.files[0].destination.as_deref(), Some("/usr/b"));
        assert_eq!(second.files[1].permissions, Some(0o755));
    }

    #[test]
    fn a_file_without_the_block_is_fine() {
        assert!(read("os: {hostname: a}\n").unwrap().sysext.is_none());
        assert!(read("").unwrap().sysext.is_none());
        assert!(read("# only a comment\n").unwrap().sysext.is_none());
    }

    #[test]
    fn a_slip_is_explained_at_its_place() {
        let finding = refusal("sysext:\n  extensions:\n  - nmae: x\n");
        assert_eq!(finding.id, "unknown-key");
        assert_eq!(finding.help.as_deref(), Some("did you mean `name`?"));
        assert_eq!(finding.place, Some(Place::Position { line: 3, column: 5 }));
        let finding = refusal("sysext:\n  extensions: []\n  locatoin: /etc/extensions\n");
        assert_eq!(finding.help.as_deref(), Some("did you mean `location`?"));
        let finding = refusal("sysext:\n  extensions: [{image: {pth: x}}]\n");
        assert_eq!(finding.help.as_deref(), Some("did you mean `path`?"));
    }

    #[test]
    fn wrong_types_and_values_name_the_key() {
        let finding = refusal("sysext:\n  extensions:\n  - name: [x]\n");
        assert_eq!(
            finding.place,
            Some(Place::Position {
                line: 3,
                column: 11
            }),
            "{finding}"
        );
        let finding = refusal("sysext:\n  extensions: [{name: a, verity: sigend}]\n");
        assert!(finding.message.contains("signed"), "{finding}");
        let finding = refusal("sysext:\n  extensions: [{name: a, format: btrfs}]\n");
        assert_eq!(finding.id, "unknown-value", "{finding}");
        let finding = refusal("sysext:\n  location: /opt\n  extensions: []\n");
        assert_eq!(finding.id, "unknown-value", "{finding}");
        let finding = refusal("sysext:\n  enable: script\n");
        assert_eq!(finding.id, "missing-key", "{finding}");
        assert!(finding.message.contains("extensions"));
        let finding = refusal("sysext:\n  extensions: [{name: a, files: [{permissions: 0888}]}]\n");
        assert!(finding.message.contains("octal"), "{finding}");
        let finding = refusal("- a\n");
        assert!(finding.place.is_some(), "{finding}");
    }
}
