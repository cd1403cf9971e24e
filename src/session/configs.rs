//! The plain Prism configs that a session's configs expand to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Session, Stopped};
use crate::config::Config;
use crate::expand;
use crate::expand::ExpandError;
use crate::finding::{Finding, Place};
use crate::io::atomic_file::write_whole;

/// How the plain config is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// As a copy of the config in which the section is replaced by what it means.
    #[default]
    Inline,
    /// As a small config on top of a copy that only loses its section (Prism 1.1).
    Base,
}

/// A plain config: where it goes, and its text.
pub type PlainConfig = (PathBuf, String);

impl Session {
    /// The plain configs and where they go: those that others build on first, that of the given
    /// config last, at `path`. Nothing is written.
    ///
    /// # Errors
    /// `not-expanded`, where a config is written in a way that can't be edited without a loss.
    pub fn expand(&self, style: Style, path: &Path) -> Result<Vec<PlainConfig>, Stopped> {
        let mut files = self.inline(path)?;
        if style == Style::Inline {
            return Ok(files);
        }
        files.pop();
        let last = self.chain.links().len().saturating_sub(1);
        let refuse = |(number, error): (usize, ExpandError)| self.not_expanded(number, &error);
        let bare = self.added.without_section(&self.chain, last, name_beside);
        let bare = bare.map_err(refuse)?;
        let own = &self.config.source.path;
        let mut name = own.file_stem().unwrap_or_default().to_owned();
        name.push(".base.prism.yaml");
        let start = serde_json::json!({
            "previewFeatures": ["base-configs"],
            "baseConfigs": [{"path": name.to_string_lossy()}],
        });
        let start = serde_yaml::to_string(&start).map_err(anyhow::Error::from)?;
        let top = expand::expand(&start, self.added.of(last));
        let top = top.map_err(|error| refuse((last, error)))?;
        files.push((own.with_file_name(name), bare));
        files.push((path.to_owned(), top));
        Ok(files)
    }

    fn inline(&self, path: &Path) -> Result<Vec<PlainConfig>, Stopped> {
        let texts = self.plain_texts(name_beside)?;
        let last = self.chain.links().len().saturating_sub(1);
        let placed = texts.into_iter().filter_map(|(number, text)| {
            let link = self.chain.links().get(number)?;
            let place = match number == last {
                true => path.to_owned(),
                false => beside(&link.config.source.path),
            };
            Some((place, text))
        });
        Ok(placed.collect())
    }

    /// The plain configs by the number of their link; `name` gives file names.
    pub(super) fn plain_texts(
        &self,
        name: impl Fn(&Config) -> OsString,
    ) -> Result<Vec<(usize, String)>, Stopped> {
        let texts = self.added.expanded(&self.chain, name);
        texts.map_err(|(number, error)| self.not_expanded(number, &error))
    }

    fn not_expanded(&self, number: usize, error: &ExpandError) -> Stopped {
        let source = self.chain.links().get(number);
        let source = source.map_or(&self.config.source, |link| &link.config.source);
        let finding = Finding::error("not-expanded", error.to_string());
        let finding = match error.place() {
            Some((line, column)) => Finding {
                place: Some(Place::Position {
                    line,
                    column: column.unwrap_or(1),
                }),
                ..finding
            },
            None => finding.in_file(&source.path),
        };
        Stopped::about(source, vec![finding])
    }
}

/// Writes plain configs, those that others build on first; each appears complete or not at all.
///
/// # Errors
/// Where one can't be written; those before it are there then.
pub fn write_all(files: &[PlainConfig]) -> Result<(), Stopped> {
    for (path, text) in files {
        write_whole(path, text.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Where the plain config goes: `config.yaml` becomes `config.prism.yaml`, in the same folder so that
/// relative paths stay right.
pub fn beside(config: &Path) -> PathBuf {
    let mut name = config.file_stem().unwrap_or_default().to_owned();
    name.push(".prism.yaml");
    config.with_file_name(name)
}

/// The name of the plain config of a base, which lies beside it.
fn name_beside(config: &Config) -> OsString {
    let path = beside(&config.source.path);
    path.file_name().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{SECTION, session};

    #[test]
    fn the_expanded_config_lies_beside() {
        assert_eq!(
            beside(Path::new("a/config.yaml")),
            PathBuf::from("a/config.prism.yaml")
        );
        assert_eq!(beside(Path::new("./c")), PathBuf::from("./c.prism.yaml"));
    }

    #[test]
    fn a_config_is_expanded_as_a_copy_or_on_top_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let head = "# mine\nos:\n  hostname: x\n";
        let session = session(dir.path(), &format!("{head}{SECTION}"));
        let at = dir.path().join("plain.yaml");

        let files = session.expand(Style::Inline, &at).unwrap();
        let [(path, text)] = files.as_slice() else {
            panic!("{files:?}");
        };
        assert_eq!(*path, at);
        assert!(
            text.starts_with("# mine\n") && text.contains("hostname: x"),
            "{text}"
        );
        assert!(
            text.contains("destination: /var/lib/extensions/a.raw"),
            "{text}"
        );
        assert!(!text.contains("sysext:\n"), "{text}");

        let files = session.expand(Style::Base, &at).unwrap();
        let [(base, bare), (path, top)] = files.as_slice() else {
            panic!("{files:?}");
        };
        assert_eq!(
            (base, path),
            (&dir.path().join("config.base.prism.yaml"), &at)
        );
        assert!(bare.starts_with(head) && !bare.contains("sysext"), "{bare}");
        assert!(top.contains("path: config.base.prism.yaml"), "{top}");
        assert!(
            top.contains("destination: /var/lib/extensions/a.raw"),
            "{top}"
        );
        assert!(!top.contains("hostname"), "{top}");

        write_all(&files).unwrap();
        assert_eq!(std::fs::read_to_string(base).unwrap(), *bare);
        assert_eq!(std::fs::read_to_string(path).unwrap(), *top);
        let nowhere = (dir.path().join("no/folder"), String::new());
        assert!(write_all(&[nowhere]).is_err());
    }

    #[test]
    fn a_config_that_others_build_on_comes_first_and_lies_beside() {
        let dir = tempfile::tempdir().unwrap();
        let other = SECTION.replace("name: a", "name: b");
        crate::io::open::testing::write(dir.path(), "below/base.yaml", &other);
        let head = "previewFeatures: [base-configs]\nbaseConfigs: [{path: below/base.yaml}]\n";
        let session = session(dir.path(), &format!("{head}{SECTION}"));
        let at = dir.path().join("config.prism.yaml");
        let files = session.expand(Style::Inline, &at).unwrap();
        let paths: Vec<&PathBuf> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [&dir.path().join("below/base.prism.yaml"), &at]);
        assert!(
            files[0].1.contains("/var/lib/extensions/b.raw"),
            "{}",
            files[0].1
        );
        assert!(
            files[1].1.contains("below/base.prism.yaml"),
            "{}",
            files[1].1
        );
    }

    #[test]
    fn a_config_that_cannot_be_edited_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("x: &a {{os: {{}}}}\n<<: *a\n{SECTION}");
        let session = session(dir.path(), &text);
        let stopped = session.expand(Style::Inline, &dir.path().join("plain.yaml"));
        let stopped = stopped.unwrap_err();
        let finding = stopped.errors().next().unwrap();
        assert_eq!(finding.id, "not-expanded");
        assert!(finding.place.is_some(), "{finding:?}");
    }
}
