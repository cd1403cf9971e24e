//! Types, unknown fields, and the rules that stand in the tables.

use std::collections::{HashMap, HashSet};

use super::node::{At, Body, Entry, Node};
use super::scalar::{is_switch, number};
use super::tables::{ACCIDENTAL, Kind, Object, PARTITION_TYPES, Version};
use crate::finding::Finding;
use crate::finding::suggest::nearest;

/// Most values that are visited; aliases can make a small file a large tree.
const MAX_VISITS: usize = 1_000_000;

/// What is found on the way.
pub(super) struct Walk<'a> {
    /// Preview features that are switched on.
    pub(super) features: Vec<&'a str>,
    /// The version of Prism that will read the file.
    pub(super) version: Version,
    /// What was found, with where.
    pub(super) found: Vec<(At, Finding)>,
    /// Values that may still be visited.
    left: usize,
    /// What was judged as what, by addresses in the tree and in the tables: an alias is judged
    /// where its anchor stands, and once.
    judged: HashSet<(usize, usize)>,
    /// How often something was told of a place.
    told: HashMap<(At, &'static str), u8>,
}

/// Most findings of one kind at one place; through aliases there could be any number.
const MAX_ALIKE: u8 = 8;

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Node, version: Version) -> Walk<'a> {
        let features = root.list("previewFeatures");
        Walk {
            features: features.filter_map(|(_, item)| item.text()).collect(),
            version,
            found: Vec::new(),
            left: MAX_VISITS,
            judged: HashSet::new(),
            told: HashMap::new(),
        }
    }

    pub(super) fn tell(&mut self, at: At, finding: Finding) {
        let told = self.told.entry((at, finding.id)).or_default();
        if *told == MAX_ALIKE {
            return;
        }
        *told += 1;
        let finding = Finding {
            place: Some(at.into()),
            ..finding
        };
        self.found.push((at, finding));
    }

    /// Whether a value is judged for the first time as what an entry of the tables says.
    fn is_new<T>(&mut self, node: &Node, wanted: &T) -> bool {
        let addresses = (
            std::ptr::from_ref(node).addr(),
            std::ptr::from_ref(wanted).addr(),
        );
        self.judged.insert(addresses)
    }

    /// Checks an object; `path` is where it stands, such as `os.users[0]`.
    pub(super) fn object(&mut self, node: &Node, object: &Object, path: &str) {
        if !self.is_new(node, object) {
            return;
        }
        let Body::Map(entries) = &node.body else {
            if object.scalar.is_none() || node.text().is_none() {
                self.wrong(node, path, "a mapping (`key: value`)");
            }
            return;
        };
        for entry in entries {
            self.entry(entry, object, path);
        }
        self.presence(node, object, path);
    }

    fn entry(&mut self, entry: &Entry, object: &Object, path: &str) {
        let key = entry.key.as_str();
        if path.is_empty() && key == "sysext" {
            return;
        }
        // These types read themselves and know no merge keys (`checkKnownFields`, utils.go).
        if entry.is_merge && object.scalar.is_none() || ACCIDENTAL.contains(&key) {
            return;
        }
        let Some(field) = object.fields.iter().find(|field| field.name == key) else {
            let names: Vec<&str> = object.fields.iter().map(|field| field.name).collect();
            let place = match path {
                "" => "at the top level".to_owned(),
                path => format!("in `{path}`"),
            };
            let finding = Finding::error(
                "prism-unknown-field",
                format!("Prism knows no `{key}` {place}"),
            );
            let finding = match nearest(key, &names) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("known here: {}", names.join(", "))),
            };
            return self.tell(
                entry.at,
                finding.because("Prism refuses unknown fields (`KnownFields`, utils.go)"),
            );
        };
        let path = match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        if entry.value.is_null() {
            return;
        }
        if !self.is_new(&entry.value, field) {
            return;
        }
        if field.since > self.version {
            let (major, minor) = field.since;
            let (ours, ours_minor) = self.version;
            let message = format!(
                "`{path}` came with Prism {major}.{minor}, this is for {ours}.{ours_minor}"
            );
            let finding = Finding::error("prism-too-old", message);
            // What lies below came no earlier.
            return self.tell(
                entry.at,
                finding.help("use a newer Prism, or do without the field"),
            );
        }
        // An empty text is absent.
        if let Some(feature) = field.preview.filter(|_| entry.value.text() != Some("")) {
            self.needs_feature(entry.at, feature, &path);
        }
        self.value(&entry.value, field.kind, &path);
    }

    pub(super) fn needs_feature(&mut self, at: At, feature: &str, what: &str) {
        if self.features.contains(&feature) {
            return;
        }
        let message = format!("`{what}` is a preview feature that is not switched on");
        let finding = Finding::error("prism-preview-feature", message);
        let rule = "Prism refuses it otherwise (`IsValid`, config.go)";
        let help = format!("add `{feature}` to `previewFeatures`");
        self.tell(at, finding.because(rule).help(help));
    }

    fn presence(&mut self, node: &Node, object: &Object, path: &str) {
        let here = match path {
            "" => "the config".to_owned(),
            path => format!("`{path}`"),
        };
        let missing = |message: String| Finding::error("prism-missing-field", message);
        for name in object.required {
            if node.get(name).is_none() {
                let finding = missing(format!("{here} has no `{name}`"));
                self.tell(node.at, finding.help(format!("add `{name}: …`")));
            }
        }
        // An empty `source` counts as none, an empty `content` as an empty file.
        let is_there = |name: &&&str| match node.get(name) {
            Some(value) => {
                object.name == "AdditionalFile" && **name == "content" || value.text() != Some("")
            }
            None => false,
        };
        for group in object.one_of {
            if !group.iter().any(|name| is_there(&name)) {
                let names = group.join("` or `");
                let finding = missing(format!("{here} has no `{names}`"));
                self.tell(node.at, finding.help("add one of them"));
            }
        }
        for group in object.exclusive {
            let there: Vec<&str> = group.iter().filter(is_there).copied().collect();
            if let [first, .., last] = there.as_slice() {
                let at = node.get(last).map_or(node.at, |value| value.at);
                let message = format!("{here} has both `{first}` and `{last}`");
                let finding = Finding::error("prism-exclusive-fields", message);
                self.tell(at, finding.help("keep one of them"));
            }
        }
    }

    fn value(&mut self, node: &Node, kind: Kind, path: &str) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return,
        }
        match kind {
            Kind::Object(object) => return self.object(node, object, path),
            Kind::List(kind) => {
                if !matches!(node.body, Body::List(_)) {
                    return self.wrong(node, path, "a list");
                }
                for (index, item) in node.items() {
                    self.value(item, *kind, &format!("{path}[{index}]"));
                }
                return;
            }
            Kind::Texts => {
                let Body::Map(entries) = &node.body else {
                    return self.wrong(node, path, "a mapping of names to texts");
                };
                for entry in entries {
                    if !matches!(entry.value.body, Body::Scalar { .. }) {
                        self.wrong(&entry.value, &format!("{path}.{}", entry.key), "text");
                    }
                }
                return;
            }
            _ => {}
        }
        let Body::Scalar { text, plain } = &node.body else {
            return self.wrong(node, path, expected(kind));
        };
        match kind {
            Kind::Filled if text.trim().is_empty() => {
                let finding = Finding::error("prism-missing-field", format!("`{path}` is empty"));
                self.tell(
                    node.at,
                    finding.help("write a value, or leave the item out"),
                );
            }
            Kind::Switch if !is_switch(text, *plain) => self.wrong(node, path, expected(kind)),
            Kind::Number(least, most) => match number(text).filter(|_| *plain) {
                None => self.wrong(node, path, expected(kind)),
                Some(value) if value < least || value > most => {
                    self.bad(
                        node,
                        format!("`{path}` is {text}, expected {least} to {most}"),
                        "",
                    );
                }
                Some(_) => {}
            },
            Kind::Word(words) => self.word(node, text, words, path),
            Kind::Permissions => self.permissions(node, text, path),
            Kind::Size => {
                if let Err(why) = size(text) {
                    self.bad(
                        node,
                        format!("`{path}` is `{}`: {why}", start(text)),
                        "write for example `512M` or `4G`",
                    );
                }
            }
            Kind::SizeOrGrow => {
                if !text.is_empty()
                    && text != "grow"
                    && let Err(why) = size(text)
                {
                    self.bad(
                        node,
                        format!("`{path}` is `{}`: {why}", start(text)),
                        "write for example `4G`, or `grow`",
                    );
                }
            }
            Kind::PartitionType if uuid::Uuid::try_parse(text).is_err() || text.len() != 36 => {
                self.word(node, text, PARTITION_TYPES, path);
            }
            _ => {}
        }
    }

    fn word(&mut self, node: &Node, text: &str, words: &[&str], path: &str) {
        if text.is_empty() || words.contains(&text) {
            return;
        }
        let finding = Finding::error(
            "prism-unknown-value",
            format!(
                "`{path}` is `{}`, expected {}",
                start(text),
                words.join(", ")
            ),
        );
        self.tell(
            node.at,
            match nearest(text, words) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding,
            },
        );
    }

    fn permissions(&mut self, node: &Node, text: &str, path: &str) {
        // The text is read as octal, whatever YAML made of it (`filepermissions.go`).
        let octal = u32::from_str_radix(text, 8)
            .ok()
            .filter(|_| !text.starts_with('+'));
        if octal.is_none_or(|bits| bits > 0o777) {
            self.bad(
                node,
                format!(
                    "`{path}` is `{}`, expected octal permissions up to 777",
                    start(text)
                ),
                "write for example `\"644\"`",
            );
        }
    }

    pub(super) fn bad(&mut self, node: &Node, message: String, help: &str) {
        let finding = Finding::error("prism-bad-value", message);
        self.tell(
            node.at,
            match help {
                "" => finding,
                help => finding.help(help),
            },
        );
    }

    fn wrong(&mut self, node: &Node, path: &str, expected: &str) {
        let found = match &node.body {
            Body::Scalar { text, plain: false } => format!("the text \"{}\"", start(text)),
            Body::Scalar { text, .. } if text.is_empty() => "nothing".to_owned(),
            Body::Scalar { text, .. } => format!("`{}`", start(text)),
            Body::List(_) => "a list".to_owned(),
            Body::Map(_) => "a mapping".to_owned(),
        };
        let place = match path {
            "" => "the config".to_owned(),
            path => format!("`{path}`"),
        };
        let message = format!("{place}: expected {expected}, found {found}");
        self.tell(node.at, Finding::error("prism-wrong-type", message));
    }
}

/// So much of a text that it is known again: the whole may be long, and may be a key by mistake.
fn start(text: &str) -> String {
    let mut start: String = text.chars().take(20).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "`true` or `false` without quotes",
        Kind::Number(..) => "a whole number without quotes",
        _ => "text",
    }
}

/// A size in bytes, or why it is none (`disksize.go`).
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let unit = text.get(digits.len()..).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || unit.len() > 1 {
        return Err("expected a number and a unit (K, M, G or T)");
    }
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("it needs a unit (K, M, G or T)"),
    };
    // A leading zero makes it octal (`ParseUint` with base 0).
    let number = match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => digits.parse::<u64>().ok(),
    };
    let number = number.ok_or("it is no number")?;
    number.checked_mul(1 << shift).ok_or("it is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("1T"), Ok(1 << 40));
        for text in ["512", "M", "1MB", "-1G", "1 G", "99999999T", "08M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
