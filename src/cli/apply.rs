//! `apply`, `remove` and `list`: a root file system, without Prism.

use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::args::{Apply, BaseArgs, List, Remove};
use super::expand::{expanded, write_all};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::{changes, findings, plan};
use crate::base::Base;
use crate::build::{Built, BuiltImage};
use crate::check::{Allowed, Prediction};
use crate::config::model::{Enable, ImagePolicy, Layout};
use crate::config::source::Source;
use crate::finding::{Finding, Findings, Severity};
use crate::image::dissect;
use crate::image::dissect::SignatureState;
use crate::io::digest::digest_file;
use crate::io::hex;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::output::{Application, Changes, Planned, versioned};
use crate::place::{
    FileSource, Options as Placing, PlacedFile, PlacedKind, PlacedTree, Placements,
};
use crate::plan::{Environment, Plan, Planned as PlannedExtension, Step};
use crate::session::Session;
use crate::session::base::{find_base, open_root};
use crate::session::predict::predict_present;
use crate::systemd::kind::ExtensionKind;
use crate::tree::collect::{Options, collect};
use crate::tree::folder;
use crate::{build, place};

/// Mode of everything that is placed: Prism's for these files, whatever the umask.
const MODE: u32 = 0o644;
/// Mode of a folder that is an extension.
const FOLDER_MODE: u32 = 0o755;

pub(crate) fn apply(screen: &Screen, args: &Apply) -> std::result::Result<(), Failure> {
    let Some(rootfs) = &args.rootfs else {
        return Err(Finding::error("apply-to-image", "nothing is written into disk images here")
            .help("let Prism do it (`customize`, or `expand` and imagecustomizer), or mount the image (`systemd-dissect --mount IMAGE DIR`) and name the folder with --rootfs")
            .into());
    };
    let root = open_root(rootfs)?;
    let base_args = BaseArgs {
        rootfs: Some(rootfs.clone()),
        ..BaseArgs::default()
    };
    let environment = Environment {
        builds: !args.dry_run,
        ..Environment::default()
    };
    let session = Session::open(screen, &args.config, &base_args, environment)?;
    if args.expanded_config.is_some() {
        session.only_images()?;
    }
    if args.dry_run {
        return dry_run(screen, &session);
    }
    let built = session.build(screen)?;
    screen.findings(Some(&session.config.source), &session.noticed(&built));
    refuse_unsigned(&session, args.overrides.allow_unsigned)?;
    let prediction = if args.no_check {
        None
    } else {
        Some(watch(screen, |progress| session.predict(progress))?)
    };
    if let Some(prediction) = &prediction {
        judge(
            screen,
            Some(&session.config.source),
            prediction,
            args.overrides.allowed(),
        )?;
        screen.findings(
            Some(&session.config.source),
            &enforcement(&session, prediction),
        );
    }
    let applied = watch(screen, |progress| {
        let placements = placements(&session.plan, &built, progress)?;
        let options = Placing {
            force: args.force,
            progress: Some(progress),
            ..Placing::default()
        };
        place::apply(&root, &placements, &options).map_err(|findings| session.refuse(findings.0))
    })?;
    screen.findings(Some(&session.config.source), &applied.findings);
    if !args.no_check {
        check_again(screen, &session, &root, args.overrides.allowed())?;
    }
    let manifest = build::write_manifest(&session.plan, &built, &overrides(args))?;
    let changes = Changes::from(&applied);
    let mut text = changes::text(&changes);
    if let Some(prediction) = &prediction {
        text.push('\n');
        text.push_str(&plan::prediction(prediction));
    }
    if let Some(path) = &args.expanded_config {
        write_all(&expanded(&session, path.clone())?)?;
        text.push_str(&format!("expanded config: {}\n", findings::path(path)));
    }
    text.push_str(&format!("manifest: {}\n", findings::path(&manifest)));
    screen.result(
        &text,
        &versioned(Application {
            prediction: prediction.as_ref(),
            applied: changes,
        }),
    )
}

/// What the caller took on, for the manifest.
fn overrides(args: &Apply) -> Vec<String> {
    [
        ("--force", args.force),
        ("--no-check", args.no_check),
        ("--allow-unknown", args.overrides.allow_unknown),
        ("--allow-unsigned", args.overrides.allow_unsigned),
    ]
    .into_iter()
    .filter(|(_, given)| *given)
    .map(|(flag, _)| flag.to_owned())
    .collect()
}

fn dry_run(screen: &Screen, session: &Session) -> std::result::Result<(), Failure> {
    let value = versioned(Planned::new(&session.plan));
    screen.result(&plan::plan(&session.plan), &value)
}

/// A deferred image without its signature would block all extensions.
pub(crate) fn refuse_unsigned(session: &Session, allow: bool) -> std::result::Result<(), Failure> {
    use crate::config::model::Verity;
    if allow {
        return Ok(());
    }
    let findings: Vec<Finding> = session
        .plan
        .extensions
        .iter()
        .filter(|planned| match &planned.step {
            Step::TakeIn(taken) => taken.awaits_signature(),
            Step::TakeFolder(_) => false,
            // An attached signature is found again by every build.
            Step::Build(step) => {
                let image = || dissect::open(&planned.image);
                step.verity == Verity::Defer
                    && image().is_ok_and(|image| image.signature == SignatureState::Empty)
            }
        })
        .map(|planned| {
            Finding::error("unsigned-deferred", format!("{} is not signed yet", findings::path(&planned.image)))
                .at(&planned.at)
                .because("systemd refuses an image whose signature partition is empty, and all others with it")
                .help("sign it: `prism-sysext sign request` tells what to sign, `prism-sysext sign attach` takes the signature; or go on with --allow-unsigned")
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(session.refuse(findings))
    }
}

/// Shows the reasons, and stops if an extension would not be merged.
pub(crate) fn judge(
    screen: &Screen,
    source: Option<&Source>,
    prediction: &Prediction,
    allowed: Allowed,
) -> std::result::Result<(), Failure> {
    let reasons = prediction
        .extensions
        .iter()
        .flat_map(|judgement| &judgement.reasons)
        .chain(prediction.stacks().flat_map(|(_, stack)| &stack.reasons));
    let good = prediction.is_good(allowed);
    let mut findings: Vec<Finding> = reasons.cloned().collect();
    if good {
        screen.findings(source, &findings);
        return Ok(());
    }
    if findings
        .iter()
        .all(|finding| finding.severity < Severity::Error)
    {
        findings.push(
            Finding::error(
                "unknown-verdict",
                "it can't be told whether everything is merged at boot",
            )
            .help("see the warnings above, or go on with --allow-unknown"),
        );
    }
    screen.findings(source, &findings);
    Err(Failure::Said(1))
}

/// All signed, but nothing insists on it.
fn enforcement(session: &Session, prediction: &Prediction) -> Vec<Finding> {
    use crate::check::Verdict;
    let listed: Vec<_> = prediction
        .extensions
        .iter()
        .filter(|judgement| judgement.listed)
        .collect();
    let all_signed = !listed.is_empty()
        && listed
            .iter()
            .all(|judgement| judgement.verdict == Verdict::MergesSigned);
    let policy = session
        .config
        .sysext
        .as_ref()
        .map(|sysext| &sysext.image_policy);
    let newer = session
        .base
        .as_ref()
        .and_then(Base::systemd_version)
        .is_some_and(|version| version.major >= 254);
    if all_signed && policy == Some(&ImagePolicy::Default) && newer {
        vec![not_enforced()]
    } else {
        Vec::new()
    }
}

/// Systemd's own policy admits more than what is signed.
pub(crate) fn not_enforced() -> Finding {
    Finding::note("signatures-not-enforced", "all extensions are signed, but unsigned ones would be merged as well")
        .because("systemd's own policy admits unprotected images (image_policy_sysext, src/shared/image-policy.c)")
        .help("write `imagePolicy: signed` in a `sysext` section to admit signed ones only")
}

fn placements(plan: &Plan, built: &Built, progress: &Progress) -> anyhow::Result<Placements> {
    let mut files = Vec::new();
    let bytes = |kind, destination: String, text: String| {
        let bytes = text.into_bytes();
        let sha256 = Sha256::digest(&bytes).into();
        PlacedFile {
            kind,
            extensions: Vec::new(),
            destination,
            source: FileSource::Bytes(bytes),
            mode: MODE,
            sha256,
        }
    };
    for trusted in &plan.certificates {
        files.push(bytes(
            PlacedKind::Certificate,
            plan.certificate_path(trusted),
            trusted.certificate.pem(),
        ));
    }
    for drop_in in plan.drop_ins() {
        files.push(bytes(PlacedKind::DropIn, drop_in.path, drop_in.text));
    }
    for (planned, image) in plan.extensions.iter().zip(&built.images) {
        if planned.layout() == Layout::Directory {
            files.push(placed_folder(plan, planned, image, progress)?);
            continue;
        }
        let copied = |kind, path: &Path, destination: &str, sha256| PlacedFile {
            kind,
            extensions: vec![planned.name.clone()],
            destination: destination.to_owned(),
            source: FileSource::Path(path.to_owned()),
            mode: MODE,
            sha256,
        };
        // The manifest has them in the same order.
        for (beside, entry) in planned.beside.iter().zip(&image.entry.beside) {
            let (path, to) = (&beside.file.path, &beside.destination);
            let sha256 = from_hex(&entry.sha256)?;
            files.push(copied(PlacedKind::Sidecar, path, to, sha256));
        }
        let sha256 = match &image.entry.sha256 {
            Some(text) => from_hex(text)?,
            None => digest_of(&image.path, progress)?,
        };
        let (path, to) = (&image.path, &planned.destination);
        files.push(copied(PlacedKind::Image, path, to, sha256));
    }
    Ok(Placements {
        files,
        enable: match plan.enable {
            Enable::None => Vec::new(),
            _ => plan.kinds(),
        },
        tool: format!("prism-sysext {}", env!("CARGO_PKG_VERSION")),
    })
}

fn placed_folder(
    plan: &Plan,
    planned: &PlannedExtension,
    image: &BuiltImage,
    progress: &Progress,
) -> anyhow::Result<PlacedFile> {
    let (keep_owners, epoch) = match &planned.step {
        // What was built has the owners that it is to have.
        Step::Build(step) => (true, step.epoch),
        Step::TakeFolder(taken) => (taken.keep_owners, None),
        Step::TakeIn(_) => (false, None),
    };
    let tree = collect(&image.path, &Options { keep_owners })?.tree;
    progress.begin(format!("digesting {}", planned.name), tree.content_size());
    let sha256 = folder::digest(&tree, progress)?;
    Ok(PlacedFile {
        kind: PlacedKind::Folder,
        extensions: vec![planned.name.clone()],
        destination: planned.destination.clone(),
        source: FileSource::Tree(Box::new(PlacedTree {
            path: image.path.clone(),
            tree,
            epoch_seconds: epoch.unwrap_or(plan.epoch),
        })),
        mode: FOLDER_MODE,
        sha256,
    })
}

fn digest_of(path: &Path, progress: &Progress) -> anyhow::Result<[u8; 32]> {
    let name = path.file_name().unwrap_or_default();
    let stage = format!("digesting {}", name.display());
    let (found, _) = digest_file::<Sha256>(path, stage, progress)
        .with_context(|| format!("reading {}", path.display()))?;
    from_hex(&found)
}

/// A SHA-256 in hex as bytes.
fn from_hex(text: &str) -> anyhow::Result<[u8; 32]> {
    hex::decode(text)
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("expected 64 hex digits as SHA-256, found `{text}`"))
}

/// Judges what now lies in the root file system, as it will be found at boot.
fn check_again(
    screen: &Screen,
    session: &Session,
    root: &RootDir,
    allowed: Allowed,
) -> std::result::Result<(), Failure> {
    let base = Base::read(root)?;
    let listed = |path: &str| {
        session
            .plan
            .extensions
            .iter()
            .find(|planned| planned.destination == path)
            .map(|planned| planned.at.clone())
    };
    let prediction = watch(screen, |progress| {
        predict_present(root, &base, listed, progress)
    });
    let found = prediction
        .extensions
        .iter()
        .filter(|judgement| judgement.listed)
        .count();
    if found == session.plan.extensions.len() && prediction.is_good(allowed) {
        return Ok(());
    }
    let source = Some(&session.config.source);
    screen.findings(
        source,
        &[Finding::error("check-after-apply", "what lies in the root file system now is not what was predicted")
            .help("something else changed it meanwhile, or a drop-in of the base has the last word; the reasons follow")],
    );
    judge(screen, source, &prediction, allowed)?;
    Err(Failure::Said(1))
}

pub(crate) fn remove(screen: &Screen, args: &Remove) -> std::result::Result<(), Failure> {
    let root = open_root(&args.rootfs)?;
    let options = Placing {
        force: args.force,
        ..Placing::default()
    };
    let removed = place::remove(&root, &args.name, &options).map_err(all)?;
    screen.findings(None, &removed.findings);
    let changes = Changes::from(&removed);
    screen.result(
        &changes::text(&changes),
        &versioned(Application {
            prediction: None,
            applied: changes,
        }),
    )
}

pub(crate) fn list(screen: &Screen, args: &List) -> std::result::Result<(), Failure> {
    let base_args = BaseArgs {
        rootfs: args.rootfs.clone(),
        image_file: args.image_file.clone(),
        ..BaseArgs::default()
    };
    let found = find_base(None, &base_args)?;
    let (Some(root), Some(base)) = (&found.root, &found.base) else {
        return Err(Failure::Said(2));
    };
    let listing = place::list(root.as_ref(), base);
    screen.findings(None, &listing.findings);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let whose = |ours: bool| if ours { "ours" } else { "other" }.to_owned();
    for extension in listing.extensions.iter().chain(&listing.confexts) {
        rows.push(vec![whose(extension.ours), extension.path.clone()]);
    }
    for certificate in &listing.certificates {
        rows.push(vec![
            whose(certificate.ours),
            certificate.path.clone(),
            certificate.subject.clone(),
        ]);
    }
    let mut services = vec![(ExtensionKind::Sysext, &listing.service)];
    if !listing.confexts.is_empty() {
        services.push((ExtensionKind::Confext, &listing.confext_service));
    }
    for (kind, service) in services {
        let state = match (&service.path, service.masked, service.enabled) {
            (None, ..) => "missing",
            (_, true, _) => "masked",
            (_, _, true) => "enabled",
            _ => "disabled",
        };
        rows.push(vec![state.to_owned(), kind.unit().to_owned()]);
    }
    screen.result(&findings::table(&rows), &versioned(listing))
}

fn all(findings: Findings) -> Failure {
    Failure::Findings(None, findings.0)
}
