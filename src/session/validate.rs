//! `validate-config`: the whole file, without building anything.

use std::path::PathBuf;

use super::base::{BaseChoice, find_base};
use crate::build::content;
use crate::chain::Chain;
use crate::chain::destinations::clashes;
use crate::chain::merge_plans::bystanders;
use crate::chain::reach::{Reached, reach};
use crate::config::model::KeyReference;
use crate::config::source::{Position, Source};
use crate::config::{Config, validate as rules};
use crate::finding::{Finding, Place};
use crate::plan::ingest;
use crate::prism;
use crate::session::mkosi_run as mkosi;
use crate::sign::{key, trust};

/// What is validated, and how far.
#[derive(Debug, Clone, Default)]
pub struct ValidateRequest {
    /// The config file.
    pub config: PathBuf,
    /// Which base is meant, where the config is not to decide.
    pub base: BaseChoice,
    /// The version of Prism that will read it; the newest one known by default.
    pub prism_version: Option<(u32, u32)>,
    /// What of that which the config names is looked at as well.
    pub resources: Vec<Resource>,
}

/// What a config may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Keys, certificates, trees and files.
    Files,
    /// Prebuilt images.
    Images,
}

/// A config, what was found in it in the order of its text, and whether it is the given one.
#[derive(Debug)]
pub struct Judged {
    /// The config.
    pub source: Source,
    /// Sorted by place.
    pub findings: Vec<Finding>,
    /// Whether it is the given config, and not one that this builds on.
    pub given: bool,
}

/// Judges a whole file without building anything: Prism's part and ours; with resources also what
/// it names and the configs that it builds on.
pub fn validate(request: &ValidateRequest) -> Vec<Judged> {
    let judged = match Source::read(&request.config) {
        Ok(source) if !request.resources.is_empty() => chain(source, request),
        Ok(source) => vec![Judged {
            findings: all(&source, request, &request.base),
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
    judged.into_iter().map(Judged::in_order).collect()
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
}

/// The configs that the given one builds on, each judged like that one, and what they are together.
fn chain(source: Source, request: &ValidateRequest) -> Vec<Judged> {
    let path = source.path.clone();
    let judged = reach(source).into_iter().map(|reached| {
        let given = reached.name.is_empty();
        // What the flags say of the base is told once.
        let base = if given {
            request.base.clone()
        } else {
            BaseChoice::default()
        };
        Judged {
            findings: of_one(&reached, request, &base),
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
fn of_one(reached: &Reached, request: &ValidateRequest, base: &BaseChoice) -> Vec<Finding> {
    if reached.source.root().is_none() && !reached.findings.is_empty() {
        return reached.findings.clone();
    }
    let mut findings = all(&reached.source, request, base);
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
fn all(source: &Source, request: &ValidateRequest, base: &BaseChoice) -> Vec<Finding> {
    let mut findings = prism::check(source.root(), request.prism_version);
    let wants = |what| request.resources.contains(&what);
    if wants(Resource::Files) {
        let named = source
            .root()
            .map(|root| prism::resources(root, source.directory()));
        findings.extend(named.into_iter().flatten());
    }
    match Config::resolved(source.clone()) {
        Ok(config) => {
            let mut own = rules::validate(&config);
            own.extend(mkosi::missing(&config));
            let sound = own.iter().all(|it| !it.is_error());
            findings.extend(own);
            if sound && wants(Resource::Files) {
                findings.extend(files(&config));
            }
            if sound && wants(Resource::Images) {
                findings.extend(images(&config));
            }
            // A wrong --target or `target` is a finding like any other.
            match find_base(Some(&config), base) {
                Ok(found) => findings.extend(found.findings),
                Err(finding) => findings.push(finding),
            }
            // Of a whole chain they are told together.
            if request.resources.is_empty() {
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
            true => ingest::folder(&path, name, extension.kind, &at).map(|it| it.1),
            false => {
                let sha256 = image.sha256.as_deref();
                ingest::image(&path, sha256, name, extension.kind, &at).map(|it| it.1)
            }
        };
        match taken {
            Ok(notes) => findings.extend(notes),
            Err(finding) => findings.push(finding.at(format!("{at}.image"))),
        }
    }
    findings
}
