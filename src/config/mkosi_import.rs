//! A mkosi configuration as an extension of ours.
//!
//! The image's name is mkosi's (`config_default_output`, mkosi/config.py), so
//! is `SYSEXT_ID` unless `Output=` differs from both. The release file is not:
//! mkosi writes that of the distribution that it installs, or `ID=_any`, and
//! ours names the base. Such differences are remarks.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use crate::config::Config;
use crate::config::model::{
    Extension, FileEntry, ImageSource, KeyReference, MadeByMkosi, Sysext, VerityMode,
};
use crate::finding::Finding;
use crate::io::open::folder_of;
use crate::mkosi::settings::{ExtraTree, Foreign, Settings, Verity as Word};
use crate::systemd::extension_name;
use crate::systemd::kind::ExtensionKind;

/// What a mkosi configuration amounts to.
#[derive(Debug, Clone)]
pub(crate) struct Imported {
    /// The extension; `verity` is none for mkosi's `auto`.
    pub extension: Extension,
    /// `OutputDirectory=`; ours is one for all extensions.
    pub output_directory: Option<PathBuf>,
    /// What mkosi's image would have otherwise, a sentence each.
    pub remarks: Vec<String>,
    /// What only mkosi can do.
    pub foreign: Vec<Foreign>,
}

/// Reads the configuration at `path`; paths in the result begin as `written` does.
pub(crate) fn import(path: &Path, written: &Path) -> Result<Imported, Finding> {
    of_settings(Settings::read(path, written)?)
}

fn of_settings(settings: Settings) -> Result<Imported, Finding> {
    let kind = match settings.format.as_deref() {
        Some("sysext") => ExtensionKind::Sysext,
        Some("confext") => ExtensionKind::Confext,
        other => {
            let found = match other {
                Some(format) => format!("`Format={format}`"),
                None => "no `Format=`, which is a bootable disk".to_owned(),
            };
            let message = format!("expected `Format=sysext` or `confext`, found {found}");
            return Err(Finding::error("mkosi-format", message)
                .help("write `Format=sysext` in [Output], or build the image with mkosi"));
        }
    };
    let prefix = kind.key_prefix();
    let mut remarks = vec![format!(
        "mkosi would write {prefix}_SCOPE=initrd system portable, and ID=_any without a distribution; here the release file is for the base, and for `system`"
    )];
    let id = settings.image_id;
    let version = settings.image_version;
    let stem = id.clone().unwrap_or_else(|| "image".to_owned());
    let versioned = version.as_ref().map(|version| format!("{stem}_{version}"));
    let (name, versioned_name) = match settings.output {
        None => (stem, version.is_some()),
        Some(output) if Some(&output) == versioned.as_ref() => (stem, true),
        Some(output) => (output, false),
    };
    if let Some(id) = id.filter(|id| *id != name) {
        remarks.push(format!(
            "mkosi would write {prefix}_ID={id}, the `ImageId=`; here it is {name}, the name of the image"
        ));
    }
    if settings.seed.is_none() {
        remarks.push("mkosi makes random identifiers without `Seed=`; here they derive from what the extension is".to_owned());
    }
    let files = settings.extra_trees.into_iter().map(file_entry).collect();
    let signed = settings.verity_key.is_some() && settings.verity_certificate.is_some();
    let verity = match settings.verity {
        Word::Auto if signed => Some(VerityMode::Signed),
        Word::Auto => None,
        Word::Signed => Some(VerityMode::Signed),
        Word::Defer => Some(VerityMode::Defer),
        Word::Hash => Some(VerityMode::Hash),
        Word::Disabled => Some(VerityMode::None),
    };
    let extension = Extension {
        name: Some(name),
        version,
        versioned_name,
        files,
        kind,
        arch: settings.architecture,
        verity,
        verity_key: settings.verity_key.map(KeyReference::File),
        verity_certificate: settings.verity_certificate,
        // As the key of an HMAC, a seed of 16 bytes is the same as with 16 zeros behind it, so the
        // identifiers are those that systemd-repart derives for mkosi.
        seed: settings
            .seed
            .map(|seed| format!("{}{:032}", seed.simple(), 0)),
        source_date_epoch: settings.source_date_epoch,
        ..Extension::default()
    };
    Ok(Imported {
        extension,
        output_directory: settings.output_directory,
        remarks,
        foreign: settings.foreign,
    })
}

fn file_entry(tree: ExtraTree) -> FileEntry {
    FileEntry {
        source: Some(tree.source),
        content: None,
        destination: Some(tree.target.unwrap_or_else(|| "/".to_owned())),
        permissions: None,
    }
}

/// What only mkosi can do, as the finding that says so; none if there is nothing.
pub(crate) fn needed(foreign: &[Foreign]) -> Option<Finding> {
    let list = foreign
        .iter()
        .map(|it| format!("{} ({})", it.setting, it.place));
    let list: Vec<String> = list.collect();
    if list.is_empty() {
        return None;
    }
    let message = format!("only mkosi itself can do this: {}", list.join(", "));
    Some(
        Finding::error("mkosi-needed", message).help(
            "install mkosi, which `build`, `apply` and `customize` then run; or take these settings out",
        ),
    )
}

/// Replaces every `mkosi: FILE` of a config by what it amounts to. Keys beside it win; a second
/// source of content beside it is left for validation to refuse.
pub(crate) fn resolve(config: &mut Config) -> Result<(), Vec<Finding>> {
    let folder = match config.source.directory() {
        here if here == Path::new(".") => PathBuf::new(),
        folder => folder.to_owned(),
    };
    let Some(sysext) = &mut config.sysext else {
        return Ok(());
    };
    let mut errors = Vec::new();
    let mut resolved = Vec::new();
    for (index, extension) in sysext.extensions.iter().enumerate() {
        let Some(written) = &extension.mkosi else {
            continue;
        };
        if extension.sources().len() > 1 {
            continue;
        }
        let at = format!("sysext.extensions[{index}].mkosi");
        let imported = import(&folder.join(written), written).and_then(|imported| {
            match needed(&imported.foreign) {
                Some(needed) => by_mkosi(sysext, extension, imported, needed, &folder),
                None => beside(sysext, extension, imported),
            }
        });
        match imported {
            Ok((extension, remarks)) => {
                let remarks = remarks
                    .iter()
                    .map(|remark| Finding::note("mkosi-differs", remark.clone()).at(&at));
                config.notes.extend(remarks);
                resolved.push((index, extension));
            }
            Err(finding) => errors.push(finding.at(&at)),
        }
    }
    for (index, extension) in resolved {
        if let Some(place) = sysext.extensions.get_mut(index) {
            *place = extension;
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// The image that mkosi is to make, as a prebuilt one.
fn by_mkosi(
    sysext: &Sysext,
    written: &Extension,
    imported: Imported,
    needed: Finding,
    config_folder: &Path,
) -> Result<(Extension, Vec<String>), Finding> {
    let theirs = imported.extension;
    let conf = written.mkosi.clone().unwrap_or_default();
    let path = config_folder.join(&conf);
    let folder = if path.is_dir() {
        path
    } else if conf.file_name().is_some_and(|name| name == "mkosi.conf") {
        folder_of(&path).to_owned()
    } else {
        // mkosi reads no configuration of another name.
        return Err(needed);
    };
    let name = theirs.full_name().unwrap_or_default();
    extension_name::check(&name)?;
    let image = sysext
        .output_directory
        .join("mkosi")
        .join(format!("{name}.raw"));
    let made = Extension {
        mkosi: None,
        image: Some(ImageSource {
            path: image,
            sha256: None,
        }),
        kind: theirs.kind,
        verity_certificate: written
            .verity_certificate
            .clone()
            .or(theirs.verity_certificate),
        made_by_mkosi: Some(MadeByMkosi { folder, needed }),
        ..written.clone()
    };
    Ok((made, Vec::new()))
}

/// The keys that stand beside `mkosi` put over what it says.
fn beside(
    sysext: &Sysext,
    written: &Extension,
    imported: Imported,
) -> Result<(Extension, Vec<String>), Finding> {
    let Imported {
        extension: theirs,
        mut remarks,
        output_directory,
        ..
    } = imported;
    if written.kind != ExtensionKind::default() && written.kind != theirs.kind {
        let message = format!(
            "`kind: {}`, but mkosi's `Format={}`",
            written.kind.name(),
            theirs.kind.name()
        );
        return Err(Finding::error("wrong-value", message).help("make them agree"));
    }
    if output_directory.is_some_and(|folder| folder != sysext.output_directory) {
        let ours = sysext.output_directory.display();
        remarks.push(format!("mkosi would write to `OutputDirectory=`; here it is {ours}, the `outputDirectory` of all extensions"));
    }
    let named = written.name.is_some();
    let mut merged = Extension {
        mkosi: None,
        kind: theirs.kind,
        versioned_name: written.versioned_name || (!named && theirs.versioned_name),
        files: theirs.files,
        ..written.clone()
    };
    merged.name = merged.name.or(theirs.name);
    merged.version = merged.version.or(theirs.version);
    merged.arch = merged.arch.or(theirs.arch);
    merged.seed = merged.seed.or(theirs.seed);
    merged.source_date_epoch = merged.source_date_epoch.or(theirs.source_date_epoch);
    merged.verity_certificate = merged.verity_certificate.or(theirs.verity_certificate);
    if merged.signer.is_none() {
        merged.verity_key = merged.verity_key.or(theirs.verity_key);
    }
    let keyless = [&merged.signer, &sysext.signer]
        .iter()
        .all(|it| it.is_none())
        && [&merged.verity_key, &sysext.verity_key]
            .iter()
            .all(|it| it.is_none());
    // mkosi's `auto` leaves an image unprotected if it has no key.
    let auto = keyless.then_some(VerityMode::None);
    merged.verity = merged.verity.or(theirs.verity).or(auto);
    Ok((merged, remarks))
}

/// The block for a `config.yaml` that is the same.
pub(crate) fn block(imported: &Imported) -> Mapping {
    let Imported {
        extension,
        output_directory,
        ..
    } = imported;
    let mut item = Mapping::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            item.insert(key.into(), value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let path = |path: &Path| Value::from(path.display().to_string());
    put("name", text(&extension.name));
    put("version", text(&extension.version));
    put(
        "versionedName",
        extension.versioned_name.then(|| true.into()),
    );
    let confext = extension.kind == ExtensionKind::Confext;
    put("kind", confext.then(|| extension.kind.name().into()));
    put("arch", text(&extension.arch));
    let verity = extension.verity.unwrap_or(VerityMode::None);
    put("verity", Some(verity.word().into()));
    if let Some(KeyReference::File(key)) = &extension.verity_key {
        // A path that looks like another form would be taken for it.
        put("verityKey", Some(format!("file:{}", key.display()).into()));
    }
    put(
        "verityCertificate",
        extension.verity_certificate.as_deref().map(path),
    );
    put("seed", text(&extension.seed));
    put(
        "sourceDateEpoch",
        extension.source_date_epoch.map(Value::from),
    );
    let files = extension.files.iter().map(|file| {
        let mut entry = Mapping::new();
        entry.insert(
            "source".into(),
            file.source.as_deref().map_or(Value::Null, path),
        );
        let target = file.destination.clone();
        entry.insert(
            "destination".into(),
            target.map_or(Value::Null, Value::from),
        );
        Value::from(entry)
    });
    put("files", Some(Value::Sequence(files.collect())));
    let mut sysext = Mapping::new();
    if let Some(folder) = output_directory {
        sysext.insert("outputDirectory".into(), path(folder));
    }
    sysext.insert("extensions".into(), Value::Sequence(vec![item.into()]));
    let mut block = Mapping::new();
    block.insert("sysext".into(), sysext.into());
    block
}

/// The block as text, what has no equivalent in comments above it.
pub(crate) fn block_text(imported: &Imported) -> Result<String, serde_yaml::Error> {
    let mut text = String::new();
    let foreign = imported.foreign.iter();
    let foreign = foreign.map(|it| format!("NOT COVERED, {}: {}", it.place, it.setting));
    for line in imported.remarks.iter().cloned().chain(foreign) {
        text.push_str("# ");
        text.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
        text.push('\n');
    }
    Ok(text + &serde_yaml::to_string(&block(imported))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut Settings)) -> Imported {
        let mut settings = Settings {
            format: Some("sysext".into()),
            image_id: Some("k".into()),
            image_version: Some("1.2".into()),
            ..Settings::default()
        };
        change(&mut settings);
        of_settings(settings).unwrap()
    }

    fn name(imported: &Imported) -> String {
        imported.extension.full_name().unwrap()
    }

    #[test]
    fn the_image_has_mkosis_name() {
        assert_eq!(name(&of(|_| {})), "k_1.2");
        assert_eq!(name(&of(|it| it.image_version = None)), "k");
        assert_eq!(name(&of(|it| it.image_id = None)), "image_1.2");
        let same = of(|it| it.output = Some("k_1.2".into()));
        assert_eq!(
            (name(&same), same.extension.versioned_name),
            ("k_1.2".into(), true)
        );
        let other = of(|it| it.output = Some("o".into()));
        assert_eq!(name(&other), "o");
        assert!(other.remarks.iter().any(|it| it.contains("SYSEXT_ID=k")));
        assert!(!same.remarks.iter().any(|it| it.contains("SYSEXT_ID=k")));
    }

    #[test]
    fn other_formats_are_refused() {
        for format in [None, Some("disk".to_owned()), Some("portable".to_owned())] {
            let settings = Settings {
                format,
                ..Settings::default()
            };
            assert_eq!(of_settings(settings).unwrap_err().id, "mkosi-format");
        }
    }

    #[test]
    fn auto_signs_with_both_key_and_certificate() {
        let with = |key: bool, certificate: bool| {
            of(|it| {
                it.verity_key = key.then(|| "k.pem".into());
                it.verity_certificate = certificate.then(|| "c.crt".into());
            })
        };
        assert_eq!(with(true, true).extension.verity, Some(VerityMode::Signed));
        assert_eq!(with(true, false).extension.verity, None);
        assert_eq!(with(false, false).extension.verity, None);
    }

    #[test]
    fn the_block_quotes_what_yaml_would_take_for_something_else() {
        let imported = of(|it| {
            it.image_version = Some("1.30".into());
            it.foreign = vec![Foreign {
                place: "mkosi.conf:3".into(),
                setting: "Packages=a\nb: c".into(),
            }];
            it.extra_trees = vec![ExtraTree {
                source: "a: b".into(),
                target: None,
            }];
        });
        let text = block_text(&imported).unwrap();
        assert!(
            text.contains("\n# NOT COVERED, mkosi.conf:3: Packages=a b: c\n"),
            "{text}"
        );
        let source = crate::config::source::Source::parse(Path::new("c.yaml"), text).unwrap();
        let config = Config::from_source(source).unwrap();
        let extension = &config.sysext.unwrap().extensions[0];
        assert_eq!(extension.version.as_deref(), Some("1.30"));
        assert_eq!(
            extension.files[0].source.as_deref(),
            Some(Path::new("a: b"))
        );
        assert_eq!(extension.files[0].destination.as_deref(), Some("/"));
    }
}
