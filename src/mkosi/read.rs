//! What the files of a mkosi configuration set.
//!
//! The order is mkosi's (`parse_config_one`, mkosi/config.py): files beside
//! `mkosi.conf` that stand for a setting (`mkosi.extra`, `mkosi.version`, …),
//! then `mkosi.conf`, then `mkosi.conf.d/` by name, where a folder is such a
//! place again. Settings that we do not know are collected, not refused: the
//! caller decides.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ini;
use super::settings::{ExtraTree, Foreign, Place, Settings, filled, seed};
use crate::finding::Finding;
use crate::io::open;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most drop-ins of one folder.
const MAX_DROP_INS: usize = 1000;
/// Folders of drop-ins within each other.
const MAX_DEPTH: usize = 8;

/// Files whose presence alone makes mkosi do more than copying files.
const FOREIGN_FILES: &[&str] = &[
    "mkosi.build",
    "mkosi.build.chroot",
    "mkosi.build.d",
    "mkosi.configure",
    "mkosi.env",
    "mkosi.extra.tar",
    "mkosi.finalize",
    "mkosi.finalize.chroot",
    "mkosi.finalize.d",
    "mkosi.images",
    "mkosi.local",
    "mkosi.local.conf",
    "mkosi.packages",
    "mkosi.postinst",
    "mkosi.postinst.chroot",
    "mkosi.postinst.d",
    "mkosi.postoutput",
    "mkosi.postoutput.d",
    "mkosi.prepare",
    "mkosi.prepare.chroot",
    "mkosi.prepare.d",
    "mkosi.skeleton",
    "mkosi.skeleton.tar",
    "mkosi.sync",
    "mkosi.sync.d",
];

impl Settings {
    /// Reads a `mkosi.conf` with all that mkosi reads beside it, the folder of one, or a single
    /// file of another name. `written` is how paths in the result begin; the file is read at `path`.
    pub(crate) fn read(path: &Path, written: &Path) -> Result<Settings, Finding> {
        let mut settings = Settings::default();
        if path.is_dir() {
            let place = Place {
                folder: path.to_owned(),
                prefix: written.to_owned(),
            };
            if !path.join("mkosi.conf").exists() {
                let message = format!("{} holds no mkosi.conf", path.display());
                return Err(unreadable(message));
            }
            settings.read_folder(&place, 0)?;
            return Ok(settings);
        }
        let parent = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
        let place = Place {
            folder: parent(path),
            prefix: parent(written),
        };
        if path.file_name().is_some_and(|name| name == "mkosi.conf") {
            if !path.exists() {
                return Err(unreadable(format!("{} is not there", path.display())));
            }
            settings.read_folder(&place, 0)?;
        } else {
            settings.read_file(path, &place)?;
        }
        Ok(settings)
    }

    fn read_folder(&mut self, place: &Place, depth: usize) -> Result<(), Finding> {
        self.read_implied(place)?;
        let conf = place.folder.join("mkosi.conf");
        if conf.exists() {
            self.read_file(&conf, place)?;
        }
        let drop_ins = place.folder.join("mkosi.conf.d");
        if !drop_ins.exists() {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            let message = format!("{} lies too deep", drop_ins.display());
            return Err(unreadable(message));
        }
        let io =
            |error: std::io::Error| unreadable(format!("reading {}: {error}", drop_ins.display()));
        let entries = std::fs::read_dir(&drop_ins).map_err(io)?;
        let entries = entries.take(MAX_DROP_INS.saturating_add(1));
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let name = name.into_string().map_err(|name| {
                unreadable(format!("{} is no UTF-8 name", name.to_string_lossy()))
            })?;
            names.push(name);
        }
        if names.len() > MAX_DROP_INS {
            let message = format!("{} holds too many files", drop_ins.display());
            return Err(unreadable(message));
        }
        names.sort();
        let inside = place.below("mkosi.conf.d");
        for name in names {
            let path = drop_ins.join(&name);
            if path.is_dir() {
                self.read_folder(&inside.below(&name), depth.saturating_add(1))?;
            } else if path.extension().is_some_and(|it| it == "conf") {
                // Relative paths of a file are those of the folder that mkosi runs in.
                self.read_file(&path, place)?;
            }
        }
        Ok(())
    }

    /// Files that stand for a setting.
    fn read_implied(&mut self, place: &Place) -> Result<(), Finding> {
        let there = |name: &str| place.folder.join(name).exists();
        for name in FOREIGN_FILES.iter().filter(|name| there(name)) {
            self.foreign.push(Foreign {
                place: place.prefix.display().to_string(),
                setting: (*name).to_owned(),
            });
        }
        if there("mkosi.output") {
            self.output_directory = Some(place.prefix.join("mkosi.output"));
        }
        for name in ["mkosi.version", "mkosi.seed"] {
            let path = place.folder.join(name);
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            // mkosi runs it and takes its output.
            if metadata.permissions().mode() & 0o111 != 0 {
                self.foreign.push(Foreign {
                    place: place.prefix.display().to_string(),
                    setting: format!("{name} (a program)"),
                });
                continue;
            }
            let text = text_of(&path)?;
            let text = text.trim_end_matches('\n');
            if name == "mkosi.version" {
                self.image_version = filled(text);
            } else {
                self.seed = seed(text).map_err(|message| {
                    Finding::error("mkosi-syntax", format!("{}: {message}", path.display()))
                })?;
            }
        }
        if there("mkosi.extra") {
            self.extra_trees.push(ExtraTree {
                source: place.prefix.join("mkosi.extra"),
                target: None,
            });
        }
        if there("mkosi.key") {
            self.verity_key = Some(place.prefix.join("mkosi.key"));
        }
        if there("mkosi.crt") {
            self.verity_certificate = Some(place.prefix.join("mkosi.crt"));
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path, place: &Place) -> Result<(), Finding> {
        let syntax = |line: usize, message: &str| {
            let message = format!("{}:{line}: {message}", path.display());
            Finding::error("mkosi-syntax", message)
        };
        let text = text_of(path)?;
        let ini = ini::parse(&text).map_err(|error| syntax(error.line, error.message))?;
        for (section, line) in &ini.sections {
            // A condition, even a void one, may switch off the whole file.
            if matches!(section.as_str(), "Match" | "TriggerMatch") {
                self.foreign.push(Foreign {
                    place: format!("{}:{line}", path.display()),
                    setting: format!("[{section}]"),
                });
            }
        }
        for setting in &ini.settings {
            if matches!(setting.section.as_str(), "Match" | "TriggerMatch") {
                continue;
            }
            let known = self.assign(setting, place);
            if !known.map_err(|message| syntax(setting.line, &message))? {
                self.foreign.push(Foreign {
                    place: format!("{}:{}", path.display(), setting.line),
                    setting: format!("{}={}", setting.name, first_line(&setting.value)),
                });
            }
        }
        Ok(())
    }
}

fn unreadable(message: String) -> Finding {
    Finding::error("mkosi-unreadable", message)
        .help("name a mkosi.conf, or the folder that holds it")
}

fn text_of(path: &Path) -> Result<String, Finding> {
    let why = |error: String| unreadable(format!("reading {}: {error}", path.display()));
    let bytes = open::read(path, MAX_BYTES).map_err(|error| why(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| why(error.to_string()))
}

fn first_line(value: &str) -> &str {
    value.lines().find(|line| !line.is_empty()).unwrap_or("")
}

/// Configurations as files, for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::io::open::testing::folder;

    /// What these files set, the folder of which is called `in`.
    pub(crate) fn read(files: &[(&str, &str)]) -> Settings {
        let dir = folder(files);
        Settings::read(&dir.path().join("mkosi.conf"), Path::new("in/mkosi.conf")).unwrap()
    }

    /// Sources and targets of all trees.
    pub(crate) fn trees(settings: &Settings) -> Vec<String> {
        let trees = settings.extra_trees.iter();
        trees
            .map(|tree| {
                let target = tree.target.as_deref().unwrap_or("-");
                format!("{} {target}", tree.source.display())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{read, trees};
    use super::*;
    use crate::io::open::testing::folder;

    #[test]
    fn the_files_are_read_in_mkosis_order() {
        let settings = read(&[
            (
                "mkosi.conf",
                "[Output]\nFormat=sysext\nImageId=a\nImageVersion=2\n[Content]\nExtraTrees=f:/usr/a\n",
            ),
            ("f", ""),
            ("mkosi.version", "1\n"),
            ("mkosi.extra/usr/x", ""),
            (
                "mkosi.conf.d/20-b.conf",
                "[Output]\nImageId=c\n[Content]\nExtraTrees=f:/usr/%i\n",
            ),
            (
                "mkosi.conf.d/10-a/mkosi.conf",
                "[Output]\nImageId=b\n[Content]\nExtraTrees=g:/usr/g\n",
            ),
            ("mkosi.conf.d/10-a/g", ""),
            ("mkosi.conf.d/note.txt", "not one"),
        ]);
        assert_eq!(settings.image_id.as_deref(), Some("c"));
        assert_eq!(settings.image_version.as_deref(), Some("2"));
        assert_eq!(
            trees(&settings),
            [
                "in/mkosi.extra -",
                "in/f /usr/a",
                "in/mkosi.conf.d/10-a/g /usr/g",
                "in/f /usr/c"
            ]
        );
        assert!(settings.foreign.is_empty(), "{settings:?}");
    }

    #[test]
    fn what_only_mkosi_can_do_is_listed_with_its_line() {
        let settings = read(&[
            (
                "mkosi.conf",
                "[Match]\nFormat=sysext\n[Distribution]\nDistribution=debian\n[Content]\nPackages=\n  curl\n  jq\nExtraTrees=$HOME/x:/usr/x\nExtraTrees=a.tar\nExtraTrees=%d:/usr/d\n",
            ),
            ("mkosi.postinst", "#!/bin/sh\n"),
        ]);
        let all: Vec<_> = settings
            .foreign
            .iter()
            .map(|it| it.setting.as_str())
            .collect();
        assert_eq!(
            all,
            [
                "mkosi.postinst",
                "[Match]",
                "Distribution=debian",
                "Packages=curl",
                "ExtraTrees=$HOME/x:/usr/x",
                "ExtraTrees=a.tar",
                "ExtraTrees=%d:/usr/d"
            ]
        );
        assert!(settings.foreign[3].place.ends_with("mkosi.conf:6"));
        let custom = read(&[("mkosi.conf", "[Distribution]\nDistribution=custom\n")]);
        assert!(custom.foreign.is_empty());
    }

    #[test]
    fn another_name_is_a_single_file_and_missing_ones_are_told() {
        let dir = folder(&[
            ("k.conf", "[Output]\nImageId=k\n"),
            ("mkosi.version", "9"),
            ("mkosi.conf.d/a.conf", "[Output]\nImageId=no\n"),
        ]);
        let path = dir.path().join("k.conf");
        let settings = Settings::read(&path, Path::new("k.conf")).unwrap();
        assert_eq!(
            (settings.image_id.as_deref(), settings.image_version),
            (Some("k"), None)
        );
        for missing in [
            dir.path().to_owned(),
            dir.path().join("mkosi.conf"),
            dir.path().join("x.conf"),
        ] {
            let error = Settings::read(&missing, Path::new("")).unwrap_err();
            assert_eq!(error.id, "mkosi-unreadable", "{missing:?}");
        }
    }
}
