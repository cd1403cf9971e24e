//! Plans, predictions and images as text.

use std::fmt::Write as _;

use super::findings::{path, size, table};
use crate::build::Built;
use crate::check::{Judgement, Prediction, Stack};
use crate::config::model::{Delivery, Enable};
use crate::inspect::verify::{Outcome, Report};
use crate::plan::placements::{Placement, PlacementSource};
use crate::plan::{Plan, Step};
use crate::systemd::kind::ExtensionKind;

/// What will be done.
pub(crate) fn plan(plan: &Plan) -> String {
    let row = |placement: &Placement<'_>| {
        let (how, what) = match &placement.source {
            PlacementSource::Extension(planned) => (origin(&planned.step), path(&planned.image)),
            PlacementSource::Sidecar { path: file, .. } => ("with it".to_owned(), path(file)),
            PlacementSource::Certificate(trusted) => {
                ("trust".to_owned(), trusted.certificate.subject.clone())
            }
            PlacementSource::DropIn(drop_in) if drop_in.key == "imagePolicy" => {
                let policy = plan.image_policy.clone();
                ("policy".to_owned(), policy.unwrap_or_default())
            }
            PlacementSource::DropIn(_) => {
                let what = "certificates to /run/verity.d";
                ("copy".to_owned(), what.to_owned())
            }
        };
        vec![how, what, placement.destination.clone()]
    };
    let mut rows: Vec<_> = plan.placements().iter().map(row).collect();
    let how = match plan.enable {
        Enable::None => "leave",
        _ => "enable",
    };
    for kind in plan.kinds() {
        rows.push(vec![how.to_owned(), kind.unit().to_owned()]);
    }
    table(&rows)
}

/// How an extension comes to be.
fn origin(step: &Step) -> String {
    match step {
        Step::Build(step) if !step.changes.is_empty() => format!("repair, {}", step.verity.word()),
        Step::Build(step) if step.layout != Delivery::Image => {
            format!("build, {}", step.layout.word())
        }
        Step::Build(step) => format!("build, {}", step.verity.word()),
        Step::PrebuiltImage(_) | Step::PrebuiltFolder(_) => "take in".to_owned(),
    }
}

/// What was built.
pub(crate) fn built(built: &Built) -> String {
    let mut rows = Vec::new();
    for image in &built.images {
        let hash = image.entry.root_hash.as_deref().unwrap_or("no root hash");
        rows.push(vec![
            path(&image.path),
            size(image.entry.size),
            hash.to_owned(),
        ]);
    }
    table(&rows)
}

/// What will happen at boot.
pub(crate) fn prediction(prediction: &Prediction) -> String {
    let rows: Vec<Vec<String>> = prediction
        .extensions
        .iter()
        .map(|judgement| {
            vec![
                judgement.verdict.word().to_owned(),
                judgement.path.clone(),
                first_reason(judgement),
            ]
        })
        .collect();
    let mut text = table(&rows);
    if prediction.extensions.is_empty() {
        return "no extensions\n".to_owned();
    }
    for (kind, stack) in prediction.stacks() {
        let nothing = stack.layers.is_empty() && stack.reasons.is_empty();
        if kind == ExtensionKind::Sysext && nothing && prediction.confext_stack.is_some() {
            continue;
        }
        match stack.merged {
            Some(true) => {
                let layers = stack.layers.join(", ");
                let _ = writeln!(text, "at boot: {layers} merged, lowest layer first");
                text.push_str(&status(kind, stack));
            }
            Some(false) => text.push_str("at boot: nothing is merged\n"),
            None => text.push_str("at boot: it can't be told\n"),
        }
    }
    text
}

/// What `systemd-sysext status` will say: all that are merged stand for each folder that any of
/// them adds to.
fn status(kind: ExtensionKind, stack: &Stack) -> String {
    let mut rows = Vec::new();
    for top in kind.hierarchies() {
        let path = format!("/{top}");
        let mut merged = stack.hierarchies.iter();
        let extensions = match merged.any(|it| it.path == path && !it.layers.is_empty()) {
            true => stack.layers.join(", "),
            false => "none".to_owned(),
        };
        rows.push(vec![format!("  {path}"), extensions]);
    }
    format!("{} status:\n{}", kind.program(), table(&rows))
}

fn first_reason(judgement: &Judgement) -> String {
    judgement
        .reasons
        .iter()
        .map(|reason| reason.id)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The checks of `verify`.
pub(crate) fn report(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|check| {
            let outcome = match check.outcome {
                Outcome::Ok => "ok",
                Outcome::Bad => "BAD",
                Outcome::Absent => "-",
            };
            let detail = match (&check.expected, &check.found) {
                (Some(expected), Some(found)) => format!("expected {expected}, found {found}"),
                (Some(expected), None) => format!("expected {expected}"),
                (None, found) => found.clone().unwrap_or_default(),
            };
            vec![outcome.to_owned(), check.id.to_owned(), detail]
        })
        .collect();
    table(&rows)
}
