//! `check`, `schema` and `build`.

use std::path::Path;

use super::apply::judge;
use super::args::{Build, Check, Required, Schema};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::{findings, plan};
use super::trident::trident;
use crate::base::Base;
use crate::chain::Chain;
use crate::check::{Allowed, Candidate, Image, Judgement, Prediction, Stack, Verdict};
use crate::config::Config;
use crate::config::source::Source as ConfigSource;
use crate::finding::suggest::nearest;
use crate::finding::{Finding, catalog};
use crate::io::atomic_file::write_whole;
use crate::io::open;
use crate::io::progress::Progress;
use crate::output::{schema, schema_merge, versioned};
use crate::plan::Environment;
use crate::session::base::{Found, find_base};
use crate::session::predict::{
    image_and_beside, local_folder, look_inside, predict_on, predict_present,
};
use crate::session::{Session, plain};
use crate::systemd::kind::ExtensionKind;
use crate::{build, output};

/// Longest saved status that is read, in bytes.
const MAX_STATUS_BYTES: u64 = 1 << 20;
/// Longest schema that is read, in bytes; Prism's has 60 KiB.
const MAX_SCHEMA_BYTES: u64 = 4 << 20;

pub(crate) fn build(screen: &Screen, args: &Build) -> Result<(), Failure> {
    let environment = Environment {
        output_directory: args.output_dir.clone(),
        only: args.only.clone(),
        digests: args.digests,
        builds: true,
        ..Environment::default()
    };
    let session = Session::open(screen, &args.config, &args.base, environment)?;
    let built = session.build(screen)?;
    screen.findings(Some(&session.config.source), &session.noticed(&built));
    let manifest = build::write_manifest(&session.plan, &built, &[])?;
    let entries: Vec<_> = built.images.iter().map(|image| &image.entry).collect();
    let snippet = trident(screen, &session, &args.trident)?;
    let text = format!(
        "{}manifest: {}\n{snippet}",
        plan::built(&built),
        findings::path(&manifest)
    );
    let result = output::Built {
        extensions: entries,
    };
    screen.result(&text, &versioned(result))
}

/// The long text of a finding.
fn explain_one(screen: &Screen, id: &str) -> Result<(), Failure> {
    let Some(text) = catalog::of(id) else {
        let known: Vec<&str> = catalog::all().map(|(id, _)| id).collect();
        let finding = Finding::error("unknown-finding", format!("there is no finding `{id}`"));
        let help = match nearest(id, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "give the word in brackets, as in `error[release-file-missing]`".to_owned(),
        };
        return Err(finding.help(help).into());
    };
    let value = serde_json::json!({"schemaVersion": 1, "id": id, "text": text});
    screen.result(&format!("{text}\n"), &value)
}

pub(crate) fn check(screen: &Screen, args: &Check) -> Result<(), Failure> {
    if let Some(id) = &args.explain {
        return explain_one(screen, id);
    }
    let has_root = args.base.rootfs.is_some() || args.base.image_file.is_some();
    let no_config = !args.images.is_empty() || (has_root && !args.config.config_file.exists());
    if !no_config {
        let chain = Chain::read(&args.config.config_file)?;
        if chain.sections().next().is_none() {
            return check_plain(screen, args);
        }
        let session = Session::of(screen, chain, &args.base, Environment::default())?;
        session.images_ready()?;
        let prediction = watch(screen, |progress| session.predict(progress))?;
        return verdict(screen, Some(&session.config.source), &prediction, args);
    }
    let Found {
        base,
        root,
        findings,
    } = find_base(None, &args.base)?;
    let Some(base) = base else {
        return Err(Finding::error("no-base", "the base OS is not known")
            .help("give it with --rootfs DIR, --image-file IMAGE or --target PROFILE")
            .into());
    };
    screen.findings(None, &findings);
    let prediction = if args.images.is_empty() {
        match &root {
            Some(root) => watch(screen, |progress| {
                predict_present(root.as_ref(), &base, |path| Some(path.to_owned()), progress)
            }),
            None => return Err(Finding::error("nothing-to-check", "no image is named").into()),
        }
    } else {
        watch(screen, |progress| named(&args.images, &base, progress))
    };
    verdict(screen, None, &prediction, args)
}

/// A config that leaves extensions to Prism's own means.
fn check_plain(screen: &Screen, args: &Check) -> Result<(), Failure> {
    let config = Config::read(&args.config.config_file)?;
    let refuse = |finding| Failure::Findings(Some(Box::new(config.source.clone())), vec![finding]);
    let found = find_base(Some(&config), &args.base).map_err(refuse)?;
    screen.findings(Some(&config.source), &found.findings);
    let Some(base) = &found.base else {
        let finding = Finding::error("no-base", "the base OS is not known");
        return Err(refuse(finding.help(
            "give it with --rootfs DIR, --image-file IMAGE or --target PROFILE",
        )));
    };
    match plain::check(screen, &config, base, found.root.as_deref())? {
        Some(prediction) => verdict(screen, Some(&config.source), &prediction, args),
        None => Err(refuse(
            Finding::error(
                "no-sysext",
                "the config has no `sysext` section, and copies no extension",
            )
            .help("add a `sysext` section, or name images to check"),
        )),
    }
}

/// Judges images as if each were placed under its own file name.
fn named(images: &[std::path::PathBuf], base: &Base, progress: &Progress) -> Prediction {
    let candidates: Vec<Candidate> = images
        .iter()
        .map(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let image = match path.is_dir() {
                true => local_folder(path),
                false => image_and_beside(path, base, progress),
            };
            let class = class_of(&image);
            let folder = match class {
                ExtensionKind::Sysext => "/var/lib/extensions",
                ExtensionKind::Confext => "/var/lib/confexts",
            };
            let at = path.display().to_string();
            let target = format!("{folder}/{file}");
            Candidate::placed(class, at, target, image, base.systemd_version())
        })
        .collect();
    let mut prediction = predict_on(base, &candidates, true);
    look_inside(&mut prediction, &candidates, base, None, &[]);
    prediction
}

/// What its release files make it.
fn class_of(image: &Image) -> ExtensionKind {
    let content = match image {
        Image::Disk(ddi, ..) => ddi.content.as_ref(),
        Image::Folder { content, .. } => Some(content.as_ref()),
        Image::Unreadable(_) | Image::Other(_) => None,
    };
    let first = content.and_then(|content| content.releases.first());
    first.map_or(ExtensionKind::Sysext, |release| release.kind)
}

fn unknown(unknown: bool) -> Allowed {
    Allowed {
        unknown,
        ..Allowed::default()
    }
}

fn verdict(
    screen: &Screen,
    source: Option<&ConfigSource>,
    prediction: &Prediction,
    args: &Check,
) -> Result<(), Failure> {
    let allowed = unknown(args.allow_unknown);
    let mut demands = too_weak(prediction, args.require);
    if let Some(path) = &args.status_json {
        demands.extend(other_than(prediction, path)?);
    }
    let result = output::Checked {
        good: prediction.is_good(allowed) && demands.is_empty(),
        prediction,
    };
    screen.result(&plan::prediction(prediction), &versioned(result))?;
    judge(screen, source, prediction, allowed)?;
    if demands.is_empty() {
        return Ok(());
    }
    screen.findings(source, &demands);
    Err(Failure::Said(1))
}

/// Listed extensions that are merged with less protection than is asked for.
fn too_weak(prediction: &Prediction, required: Required) -> Vec<Finding> {
    let enough = match required {
        Required::Any => return Vec::new(),
        Required::Verity => Verdict::MergesVerity,
        Required::Signed => Verdict::MergesSigned,
    };
    let listed = prediction
        .extensions
        .iter()
        .filter(|judgement| judgement.listed);
    let weak = listed.filter(|judgement| judgement.verdict.merges() && judgement.verdict > enough);
    let finding = |judgement: &Judgement| {
        let (name, word) = (&judgement.name, judgement.verdict.word());
        let message = format!("`{name}` is only {word}, `{}` is required", enough.word());
        Finding::error("protection-required", message)
            .in_file(&judgement.path)
            .help("sign it with `verity: signed` by a key whose certificate the base trusts")
    };
    weak.map(finding).collect()
}

/// Where a booted system differs from what was predicted.
fn other_than(prediction: &Prediction, path: &Path) -> Result<Vec<Finding>, Failure> {
    let refused = |message: String| {
        let finding = Finding::error("status-unreadable", message).in_file(path);
        finding.help("save the output of `systemd-sysext status --json=short`")
    };
    let bytes = open::read(path, MAX_STATUS_BYTES)
        .map_err(|error| refused(format!("reading the status: {error}")))?;
    let status: Vec<StatusLine> = serde_json::from_slice(&bytes)
        .map_err(|error| refused(format!("reading the status: {error}")))?;
    let mut findings = Vec::new();
    for line in status {
        let mut seen = match line.extensions {
            StatusNames::Some(names) => names,
            StatusNames::None(_) => Vec::new(),
        };
        let merged = |(_, stack): &(ExtensionKind, &Stack)| {
            let mut hierarchies = stack.hierarchies.iter();
            let here = hierarchies.any(|it| it.path == line.hierarchy);
            here && stack.merged != Some(false)
        };
        let mut expected = match prediction.stacks().find(merged) {
            Some((_, stack)) => stack.layers.clone(),
            None => Vec::new(),
        };
        seen.sort();
        expected.sort();
        if seen != expected {
            let text = |names: &[String]| match names {
                [] => "nothing".to_owned(),
                names => names.join(", "),
            };
            let message = format!(
                "{}: {} is merged, predicted was {}",
                line.hierarchy,
                text(&seen),
                text(&expected)
            );
            let finding = Finding::error("status-differs", message).in_file(path);
            findings.push(finding.help("compare the base and the images with those of that system; if they are the same, this is a bug of prism-sysext"));
        }
    }
    Ok(findings)
}

/// A line of `systemd-sysext status --json`.
#[derive(serde::Deserialize)]
struct StatusLine {
    hierarchy: String,
    extensions: StatusNames,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum StatusNames {
    Some(Vec<String>),
    /// `none`
    None(#[allow(dead_code, reason = "only its type counts")] String),
}

pub(crate) fn schema(screen: &Screen, args: &Schema) -> Result<(), Failure> {
    if let Some(folder) = &args.write {
        let mut written = Vec::new();
        for (name, text) in schema::files() {
            let path = folder.join(name);
            write_whole(&path, text.as_bytes(), 0o644)?;
            written.push(path);
        }
        let lines: Vec<String> = written
            .iter()
            .map(|path| format!("schema: {}\n", findings::path(path)))
            .collect();
        return screen.result(
            &lines.concat(),
            &serde_json::json!({"schemaVersion": 1, "schemas": written}),
        );
    }
    if let Some(path) = &args.merge {
        let unreadable = |error: String| {
            Finding::error("schema-merge", format!("reading the schema: {error}")).in_file(path)
        };
        let bytes = open::read(path, MAX_SCHEMA_BYTES).map_err(|it| unreadable(it.to_string()))?;
        let text =
            String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
        let merged = schema_merge::merge(&text).map_err(|finding| finding.in_file(path))?;
        return screen.raw(&merged);
    }
    let name = if args.block { "block" } else { &args.kind };
    let kind = schema::KINDS.iter().find(|kind| kind.name == name);
    // The command line takes no other names.
    let schema = kind.map_or_else(schema::whole_file, |kind| (kind.make)());
    screen.raw(&format!("{schema:#}\n"))
}
