//! `apply`: into a root file system, without Prism.

use std::path::Path;

use super::args::Apply;
use super::environment::{build, environment};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::{changes, findings, plan};
use super::verdict::judge;
use crate::check::Allowed;
use crate::finding::Finding;
use crate::io::root::RootDir;
use crate::output::{Application, Changes, Planned, versioned};
use crate::plan::Environment;
use crate::session::{
    BaseChoice, Placing, Request, Session, Style, enforcement, open_root, write_all,
};

pub(crate) fn apply(screen: &Screen, args: &Apply) -> Result<(), Failure> {
    let Some(rootfs) = &args.rootfs else {
        return Err(Finding::error("apply-to-image", "nothing is written into disk images here")
            .help("let Prism do it (`customize`, or `expand` and imagecustomizer), or mount the image (`systemd-dissect --mount IMAGE DIR`) and name the folder with --rootfs")
            .into());
    };
    let root = open_root(rootfs)?;
    let session = open(screen, args, rootfs)?;
    let source = Some(&session.config.source);
    if args.expanded_config.is_some() {
        session.only_images()?;
    }
    if args.dry_run {
        let value = versioned(Planned::new(&session.plan));
        return screen.result(&plan::plan(&session.plan), &value);
    }
    let built = build(screen, &session)?;
    screen.findings(source, &session.noticed(&built));
    if !args.overrides.allow_unsigned {
        session.all_signed()?;
    }
    let allowed = args.overrides.allowed();
    let prediction = match args.no_check {
        true => None,
        false => Some(watch(screen, |progress| session.predict(progress))?),
    };
    if let Some(prediction) = &prediction {
        judge(screen, source, prediction, allowed)?;
        screen.findings(source, &enforcement(&session, prediction));
    }
    let how = Placing { force: args.force };
    let applied = watch(screen, |progress| {
        session.place(&root, &built, how, progress)
    })?;
    screen.findings(source, &applied.findings);
    if !args.no_check {
        check_again(screen, &session, &root, allowed)?;
    }
    let manifest = session.write_manifest(&built, &overrides(args))?;
    let changes = Changes::from(&applied);
    let mut text = changes::text(&changes);
    if let Some(prediction) = &prediction {
        text.push('\n');
        text.push_str(&plan::prediction(prediction));
    }
    if let Some(path) = &args.expanded_config {
        write_all(&session.expand(Style::Inline, path)?)?;
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

fn open(screen: &Screen, args: &Apply, rootfs: &Path) -> Result<Session, Failure> {
    let request = Request {
        config: args.config.config_file.clone(),
        base: BaseChoice {
            rootfs: Some(rootfs.to_owned()),
            ..BaseChoice::default()
        },
        environment: Environment {
            builds: !args.dry_run,
            ..environment()?
        },
    };
    let (session, noticed) = Session::open(&request)?;
    screen.noticed(&noticed);
    Ok(session)
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

/// Stops where what now lies in the root file system is not what was predicted.
fn check_again(
    screen: &Screen,
    session: &Session,
    root: &RootDir,
    allowed: Allowed,
) -> Result<(), Failure> {
    let other = watch(screen, |progress| {
        session.check_placed(root, allowed, progress)
    })?;
    let Some(prediction) = other else {
        return Ok(());
    };
    let source = Some(&session.config.source);
    screen.findings(
        source,
        &[Finding::error("check-after-apply", "what lies in the root file system now is not what was predicted")
            .help("something else changed it meanwhile, or a drop-in of the base has the last word; the reasons follow")],
    );
    judge(screen, source, &prediction, allowed)?;
    Err(Failure::Said(1))
}
