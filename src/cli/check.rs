//! `check`: what systemd will do at boot.

use super::args::Check;
use super::environment::environment;
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::plan;
use super::verdict::judge;
use crate::chain::Chain;
use crate::check::{Allowed, Prediction};
use crate::config::Config;
use crate::config::source::Source;
use crate::finding::suggest::nearest;
use crate::finding::{Finding, catalog};
use crate::output;
use crate::output::versioned;
use crate::session::{
    Found, Session, Stopped, differs_from_status, find_base, predict_images, predict_plain,
    predict_present, too_weak,
};

pub(crate) fn check(screen: &Screen, args: &Check) -> Result<(), Failure> {
    if let Some(id) = &args.explain {
        return explain(screen, id);
    }
    let has_root = args.base.rootfs.is_some() || args.base.image_file.is_some();
    let no_config = !args.images.is_empty() || (has_root && !args.config.config_file.exists());
    if no_config {
        return check_images(screen, args);
    }
    let chain = Chain::read(&args.config.config_file)?;
    if chain.sections().next().is_none() {
        return check_plain(screen, args);
    }
    let (session, noticed) = Session::of(chain, &args.base.choice(), &environment()?)?;
    screen.noticed(&noticed);
    session.images_ready()?;
    let prediction = watch(screen, |progress| session.predict(progress))?;
    verdict(screen, Some(&session.config.source), &prediction, args)
}

/// The long text of a finding.
fn explain(screen: &Screen, id: &str) -> Result<(), Failure> {
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

/// Named images, or what a base carries.
fn check_images(screen: &Screen, args: &Check) -> Result<(), Failure> {
    let Found {
        base,
        root,
        findings,
    } = find_base(None, &args.base.choice())?;
    let base = base.ok_or_else(no_base)?;
    screen.findings(None, &findings);
    let prediction = match (args.images.as_slice(), &root) {
        ([], Some(root)) => watch(screen, |progress| {
            predict_present(root.as_ref(), &base, |path| Some(path.to_owned()), progress)
        }),
        ([], None) => return Err(Finding::error("nothing-to-check", "no image is named").into()),
        (images, _) => watch(screen, |progress| predict_images(images, &base, progress)),
    };
    verdict(screen, None, &prediction, args)
}

/// A config that leaves extensions to Prism's own means.
fn check_plain(screen: &Screen, args: &Check) -> Result<(), Failure> {
    let config = Config::read(&args.config.config_file)?;
    let source = Some(&config.source);
    let refuse = |finding| Stopped::about(&config.source, vec![finding]);
    let found = find_base(Some(&config), &args.base.choice()).map_err(refuse)?;
    screen.findings(source, &found.findings);
    let base = found.base.as_ref().ok_or_else(|| refuse(no_base()))?;
    let predicted = watch(screen, |progress| {
        predict_plain(&config, base, found.root.as_deref(), progress)
    });
    let Some((prediction, findings)) = predicted else {
        let finding = Finding::error(
            "no-sysext",
            "the config has no `sysext` section, and copies no extension",
        );
        return Err(refuse(finding.help("add a `sysext` section, or name images to check")).into());
    };
    screen.findings(source, &findings);
    verdict(screen, source, &prediction, args)
}

fn no_base() -> Finding {
    Finding::error("no-base", "the base OS is not known")
        .help("give it with --rootfs DIR, --image-file IMAGE or --target PROFILE")
}

fn verdict(
    screen: &Screen,
    source: Option<&Source>,
    prediction: &Prediction,
    args: &Check,
) -> Result<(), Failure> {
    let allowed = Allowed {
        unknown: args.allow_unknown,
        ..Allowed::default()
    };
    let enough = args.require.verdict();
    let mut demands = enough.map_or_else(Vec::new, |enough| too_weak(prediction, enough));
    if let Some(path) = &args.status_json {
        demands.extend(differs_from_status(prediction, path)?);
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
