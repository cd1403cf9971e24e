//! What the settings of a mkosi configuration mean.

use std::path::PathBuf;

use super::ini::Setting;

/// One `ExtraTrees=` item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtraTree {
    /// What is copied, beginning with the folder of the configuration as it was given.
    pub source: PathBuf,
    /// Absolute path in the image; none is its root.
    pub target: Option<String>,
}

/// The words of `Verity=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verity {
    /// Signed if there are key and certificate, else nothing.
    #[default]
    Auto,
    /// A hash tree and a signature.
    Signed,
    /// A hash tree and room for a signature.
    Defer,
    /// A hash tree.
    Hash,
    /// Nothing.
    Disabled,
}

/// Something that only mkosi can do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Foreign {
    /// The file, and its line unless the file itself is it.
    pub place: String,
    /// The setting.
    pub setting: String,
}

/// Everything that was set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `Format=`.
    pub format: Option<String>,
    /// `ImageId=`.
    pub image_id: Option<String>,
    /// `ImageVersion=`.
    pub image_version: Option<String>,
    /// `Output=`.
    pub output: Option<String>,
    /// `OutputDirectory=`.
    pub output_directory: Option<PathBuf>,
    /// `Verity=`.
    pub verity: Verity,
    /// `VerityKey=`.
    pub verity_key: Option<PathBuf>,
    /// `VerityCertificate=`.
    pub verity_certificate: Option<PathBuf>,
    /// `ExtraTrees=` in their order.
    pub extra_trees: Vec<ExtraTree>,
    /// `Seed=`, a UUID.
    pub seed: Option<uuid::Uuid>,
    /// `SourceDateEpoch=`, in seconds since 1970.
    pub source_date_epoch: Option<u64>,
    /// `Architecture=`.
    pub architecture: Option<String>,
    /// What only mkosi can do, in the order of the files.
    pub foreign: Vec<Foreign>,
}

/// Where files lie, and how paths to them are written.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The folder on this machine.
    pub(super) folder: PathBuf,
    /// The same as the result names it.
    pub(super) prefix: PathBuf,
}

impl Place {
    /// A folder in it.
    pub(super) fn below(&self, name: &str) -> Place {
        Place {
            folder: self.folder.join(name),
            prefix: self.prefix.join(name),
        }
    }
}

impl Settings {
    /// Takes over one setting; false if only mkosi can.
    pub(super) fn assign(&mut self, setting: &Setting, place: &Place) -> Result<bool, String> {
        let name = setting.name.strip_prefix('@').unwrap_or(&setting.name);
        let Some(value) = self.expand(&setting.value) else {
            return Ok(false);
        };
        let value = value.as_str();
        match name {
            "Format" => self.format = filled(value),
            "ImageId" => self.image_id = filled(value),
            "ImageVersion" => self.image_version = filled(value),
            "Output" => {
                if value.contains('/') || matches!(value.trim(), "." | "..") {
                    return Err("`Output=` is a name without folders".to_owned());
                }
                self.output = filled(value);
            }
            "Architecture" => self.architecture = filled(value),
            "Verity" => self.verity = verity(value)?,
            "Seed" => self.seed = seed(value)?,
            "SourceDateEpoch" => {
                self.source_date_epoch = match filled(value) {
                    None => None,
                    Some(text) => Some(text.parse().map_err(|_| {
                        "`SourceDateEpoch=` is a number of seconds since 1970".to_owned()
                    })?),
                }
            }
            // Without packages of a distribution there is only what is copied.
            "Distribution" => return Ok(value == "custom"),
            "OutputDirectory" | "VerityKey" | "VerityCertificate" => {
                let path = match filled(value) {
                    None => None,
                    Some(text) if is_plain(&text) => Some(place.prefix.join(text)),
                    Some(_) => return Ok(false),
                };
                match name {
                    "OutputDirectory" => self.output_directory = path,
                    "VerityKey" => self.verity_key = path,
                    _ => self.verity_certificate = path,
                }
            }
            "ExtraTrees" => return self.add_trees(value, place),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Adds a list, or empties it if that is empty (`config_make_list_parser`).
    fn add_trees(&mut self, value: &str, place: &Place) -> Result<bool, String> {
        if value.is_empty() {
            self.extra_trees.clear();
            return Ok(true);
        }
        // mkosi keeps the blank after a comma and then finds no such file.
        let items = value.split([',', '\n']).map(str::trim);
        let mut trees = Vec::new();
        for item in items.filter(|item| !item.is_empty()) {
            let (source, target) = match item.split_once(':') {
                Some((source, target)) => (source, Some(target)),
                None => (item, None),
            };
            if target.is_some_and(|target| !target.starts_with('/')) {
                return Err(format!("the target of `{item}` must be an absolute path"));
            }
            let written = place.prefix.join(source);
            let is_folder = place.folder.join(source).is_dir();
            let only_mkosi = !is_plain(source)
                || target.is_some_and(|target| target.contains('$'))
                // It would unpack an archive or an image.
                || (target.is_none() && !is_folder);
            if only_mkosi {
                return Ok(false);
            }
            trees.push(ExtraTree {
                source: written,
                target: target.map(str::to_owned),
            });
        }
        self.extra_trees.extend(trees);
        Ok(true)
    }

    /// Replaces `%i`, `%v`, `%o`, `%a` and `%%`; none if there is another, or one without a value.
    fn expand(&self, text: &str) -> Option<String> {
        let mut expanded = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                expanded.push(c);
                continue;
            }
            match chars.next() {
                None | Some('%') => expanded.push('%'),
                Some('i') => expanded.push_str(self.image_id.as_deref()?),
                Some('v') => expanded.push_str(self.image_version.as_deref()?),
                Some('o') => expanded.push_str(self.output.as_deref()?),
                Some('a') => expanded.push_str(self.architecture.as_deref()?),
                Some(_) => return None,
            }
        }
        Some(expanded)
    }
}

/// A value, unless it is empty.
pub(super) fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether a path depends on nothing but itself: mkosi expands `~` and `$NAME`.
fn is_plain(path: &str) -> bool {
    !path.starts_with('~') && !path.contains('$')
}

/// `random` is what there is without one, and we have none: ours derives from the content's identity.
pub(super) fn seed(text: &str) -> Result<Option<uuid::Uuid>, String> {
    match text {
        "" | "random" => Ok(None),
        _ => uuid::Uuid::parse_str(text)
            .map(Some)
            .map_err(|_| format!("`{text}` is not a UUID")),
    }
}

/// Booleans are those of `try_parse_boolean`, mkosi/config.py.
fn verity(text: &str) -> Result<Verity, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "" | "auto" => Verity::Auto,
        "signed" | "1" | "true" | "yes" | "y" | "t" | "on" | "always" => Verity::Signed,
        "0" | "false" | "no" | "n" | "f" | "off" | "never" | "disabled" => Verity::Disabled,
        "defer" => Verity::Defer,
        "hash" => Verity::Hash,
        _ => return Err(format!("`{text}` is no value for `Verity=`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::open::testing::folder;
    use crate::mkosi::read::testing::{read, trees};
    use std::path::Path;

    #[test]
    fn lists_are_split_joined_and_emptied() {
        let conf = "[Content]\nExtraTrees=gone\nExtraTrees=\nExtraTrees=/a/b:/usr/b, c:/usr/c,d:/opt/d\n  e:/usr/e\n";
        let settings = read(&[("mkosi.conf", conf)]);
        assert_eq!(
            trees(&settings),
            ["/a/b /usr/b", "in/c /usr/c", "in/d /opt/d", "in/e /usr/e"]
        );
    }

    #[test]
    fn values_have_mkosis_words() {
        let set = |text: &str| read(&[("mkosi.conf", &format!("[X]\n{text}\n"))]);
        for (text, word) in [
            ("Verity=signed", Verity::Signed),
            ("Verity=Yes", Verity::Signed),
            ("Verity=defer", Verity::Defer),
            ("Verity=hash", Verity::Hash),
            ("Verity=false", Verity::Disabled),
            ("Verity=true\nVerity=", Verity::Auto),
        ] {
            assert_eq!(set(text).verity, word, "{text}");
        }
        assert_eq!(set("SourceDateEpoch=12").source_date_epoch, Some(12));
        assert_eq!(set("Seed=random").seed, None);
        assert_eq!(
            set("Seed=0123456789abcdef0123456789abcdef")
                .seed
                .unwrap()
                .as_bytes()[0],
            1
        );
        assert_eq!(set("VerityKey=k.pem").verity_key, Some("in/k.pem".into()));
        for bad in [
            "Verity=perhaps",
            "Seed=1",
            "SourceDateEpoch=-1",
            "Output=a/b",
            "ExtraTrees=a:usr",
        ] {
            let dir = folder(&[("mkosi.conf", &format!("[X]\n{bad}\n"))]);
            let error = Settings::read(dir.path(), Path::new("")).unwrap_err();
            assert_eq!(error.id, "mkosi-syntax", "{bad}");
            assert!(error.message.contains("mkosi.conf:2"), "{error}");
        }
    }
}
