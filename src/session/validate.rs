//! `validate-config`: the whole file, without building anything.

use super::base::find_base;
use crate::build::content;
use crate::chain::Chain;
use crate::chain::destinations::clashes;
use crate::chain::join::bystanders;
use crate::chain::reach::{Reached, reach};
use crate::cli::args::{BaseArgs, Resources, ValidateConfig};
use crate::cli::output::{Failure, Screen, located};
use crate::config::Config;
use crate::config::model::KeyReference;
use crate::config::source::{Position, Source};
use crate::config::validate::validate;
use crate::finding::{Finding, Place, Severity};
use crate::output::{Located, Validation, versioned};
use crate::plan::ingest;
use crate::prism;
use crate::session::mkosi_run as mkosi;
use crate::sign::{key, trust};

/// A config, what was found in it, and whether it is the given one.
struct Judged {
    source: Source,
    findings: Vec<Finding>,
    given: bool,
}

pub(crate) fn validate_config(screen: &Screen, args: &ValidateConfig) -> Result<(), Failure> {
    let judged = match Source::read(&args.config.config_file) {
        Ok(source) if !args.validate_resources.is_empty() => chain(source, args),
        Ok(source) => vec![Judged {
            findings: all(&source, args, &args.base),
            source,
            given: true,
        }],
        // What is no YAML has no fields to judge.
        Err(refused) => vec![Judged {
            source: refused.source,
            findings: refused.findings,
            given: true,
        }],
    };
    let judged: Vec<Judged> = judged.into_iter().map(Judged::in_order).collect();
    let mut all = judged.iter().flat_map(|it| &it.findings);
    let bad = all.any(|it| it.severity == Severity::Error);
    let text = if bad { "" } else { "the config is valid\n" };
    for config in &judged {
        screen.findings(Some(&config.source), &config.findings);
    }
    screen.result(
        text,
        &versioned(Validation {
            valid: !bad,
            findings: judged.iter().flat_map(Judged::located).collect(),
        }),
    )?;
    if bad { Err(Failure::Said(1)) } else { Ok(()) }
}

impl Judged {
    /// Sorted by place.
    fn in_order(mut self) -> Judged {
        let Judged {
            source, findings, ..
        } = &mut self;
        findings.sort_by_key(|finding| place(source, finding));
        self
    }

    fn located(&self) -> impl Iterator<Item = Located> {
        located(Some(&self.source), &self.findings).map(|it| Located {
            config: (!self.given).then(|| self.source.path.clone()),
            ..it
        })
    }
}

/// The configs that the given one builds on, each judged like that one, and what they are together.
fn chain(source: Source, args: &ValidateConfig) -> Vec<Judged> {
    let path = source.path.clone();
    let judged = reach(source).into_iter().map(|reached| {
        let given = reached.name.is_empty();
        // What the flags say of the base is told once.
        let base = if given {
            args.base.clone()
        } else {
            BaseArgs::default()
        };
        Judged {
            findings: of_one(&reached, args, &base),
            source: reached.source,
            given,
        }
    });
    let mut judged: Vec<Judged> = judged.collect();
    // Where one of them is refused nothing can be said of all.
    if let Ok(chain) = Chain::read(&path) {
        for (number, finding) in clashes(&chain, &[]).into_iter().chain(bystanders(&chain)) {
            if let Some(config) = judged.get_mut(number) {
                config.findings.push(finding);
            }
        }
    }
    judged
}

/// What is found in one of several configs.
fn of_one(reached: &Reached, args: &ValidateConfig, base: &BaseArgs) -> Vec<Finding> {
    if reached.source.root().is_none() && !reached.findings.is_empty() {
        return reached.findings.clone();
    }
    let mut findings = all(&reached.source, args, base);
    // A base that is not there is a missing file like others.
    let missing = |place: &Option<Place>| {
        let mut all = findings.iter();
        all.any(|it| it.id == "prism-file-missing" && it.place == *place)
    };
    let of_chain = reached.findings.iter();
    let of_chain: Vec<Finding> = of_chain.filter(|it| !missing(&it.place)).cloned().collect();
    findings.extend(of_chain);
    findings
}

/// Everything that is found in a file and what it names.
fn all(source: &Source, args: &ValidateConfig, base: &BaseArgs) -> Vec<Finding> {
    let mut findings = prism::check(source.root(), args.prism_version);
    let wants = |what| args.validate_resources.contains(&what);
    if wants(Resources::Files) {
        let named = source
            .root()
            .map(|root| prism::resources(root, source.directory()));
        findings.extend(named.into_iter().flatten());
    }
    match Config::resolved(source.clone()) {
        Ok(config) => {
            let mut own = validate(&config);
            own.extend(mkosi::missing(&config));
            let sound = own.iter().all(|it| it.severity < Severity::Error);
            findings.extend(own);
            if sound && wants(Resources::Files) {
                findings.extend(files(&config));
            }
            if sound && wants(Resources::Images) {
                findings.extend(images(&config));
            }
            // A wrong --target or `target` is a finding like any other.
            match find_base(Some(&config), base) {
                Ok(found) => findings.extend(found.findings),
                Err(finding) => findings.push(finding),
            }
            // Of a whole chain they are told together.
            if args.validate_resources.is_empty() {
                let clashes = clashes(&Chain::alone(config), &[]).into_iter();
                findings.extend(clashes.map(|(_, finding)| finding));
            }
        }
        Err(refused) => {
            // What the typed reader finds wrong with Prism's sections has been told.
            let new = refused.findings.into_iter();
            let new = new.filter(|it| findings.is_empty() || is_ours(source, it));
            let new: Vec<Finding> = new.collect();
            findings.extend(new);
        }
    }
    findings
}

/// Whether a finding stands within the `sysext` section.
fn is_ours(source: &Source, finding: &Finding) -> bool {
    let path = match &finding.place {
        Some(Place::Yaml(path)) => path.as_str(),
        Some(Place::Position { line, column }) => {
            return source
                .path_at(*line, *column)
                .is_none_or(|path| path.starts_with("sysext"));
        }
        _ => return true,
    };
    path.starts_with("sysext")
}

/// Line and column of a finding; what has none comes last.
fn place(source: &Source, finding: &Finding) -> (usize, usize) {
    let place = finding.place.as_ref();
    place
        .and_then(|place| Position::of(place, Some(source)))
        .map_or((usize::MAX, usize::MAX), |at| (at.line, at.column))
}

/// Keys, certificates, trees and files that the config names.
fn files(config: &Config) -> Vec<Finding> {
    let Some(sysext) = &config.sysext else {
        return Vec::new();
    };
    let mut findings = trust::read(config, sysext).err().unwrap_or_default();
    let mut key_file = |reference: Option<&KeyReference>, at: String| {
        if let Some(KeyReference::File(path)) = reference
            && let Err(finding) = key::read_file(&config.resolve(path))
        {
            findings.push(finding.at(at));
        }
    };
    key_file(sysext.verity_key.as_ref(), "sysext.verityKey".to_owned());
    for (index, extension) in sysext.extensions.iter().enumerate() {
        key_file(
            extension.verity_key.as_ref(),
            format!("sysext.extensions[{index}].verityKey"),
        );
    }
    for (index, extension) in sysext.extensions.iter().enumerate() {
        let at = format!("sysext.extensions[{index}]");
        if let Some(tree) = &extension.tree
            && let Err(finding) = content::check_tree(&config.resolve(tree), extension.kind)
        {
            findings.push(finding.at(format!("{at}.tree")));
        }
        let archives = [
            ("tar", "archive-unreadable", &extension.tar),
            ("oci", "oci-unreadable", &extension.oci),
        ];
        for (key, id, archive) in archives {
            if let Some(archive) = archive
                && !config.resolve(&archive.path).exists()
            {
                let message = format!("{} is not there", config.resolve(&archive.path).display());
                findings.push(Finding::error(id, message).at(format!("{at}.{key}")));
            }
        }
        for (number, file) in extension.files.iter().enumerate() {
            if let Some(source) = &file.source
                && !config.resolve(source).is_file()
                && !config.resolve(source).is_dir()
            {
                let path = config.resolve(source);
                let message = format!("{} is neither a regular file nor a folder", path.display());
                findings.push(
                    Finding::error("file-unreadable", message).at(format!("{at}.files[{number}]")),
                );
            }
        }
    }
    findings
}

/// Prebuilt images that the config names.
fn images(config: &Config) -> Vec<Finding> {
    let Some(sysext) = &config.sysext else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (index, extension) in sysext.extensions.iter().enumerate() {
        let at = format!("sysext.extensions[{index}]");
        let Some(image) = &extension.image else {
            continue;
        };
        let path = config.resolve(&image.path);
        // A repair gives it the name.
        let name = extension.name.as_deref();
        let name = name.filter(|_| !extension.repair.is_wanted());
        let taken = match path.is_dir() {
            true => ingest::take_in_folder(&path, name, extension.kind, &at).map(|it| it.1),
            false => {
                let sha256 = image.sha256.as_deref();
                ingest::take_in(&path, sha256, name, extension.kind, &at).map(|it| it.1)
            }
        };
        match taken {
            Ok(notes) => findings.extend(notes),
            Err(finding) => findings.push(finding.at(format!("{at}.image"))),
        }
    }
    findings
}
