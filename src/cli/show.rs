//! Plans, predictions and images as text.

use std::fmt::Write as _;

use super::render::{path, size, table};
use crate::base::unit::unit_name;
use crate::build::Built;
use crate::check::{Judgement, Prediction, Stack};
use crate::image::ddi::{Ddi, Layout, SignatureState};
use crate::image::hex;
use crate::plan::{Plan, Step};
use crate::release::ExtensionKind;
use crate::verify::{Outcome, Report};

/// What will be done.
pub(super) fn plan(plan: &Plan) -> String {
    let mut rows = Vec::new();
    for extension in &plan.extensions {
        let how = match &extension.step {
            Step::Build(step) => format!("build, {}", step.verity.word()),
            Step::TakeIn(_) => "take in".to_owned(),
        };
        rows.push(vec![
            how,
            path(&extension.image),
            extension.destination.clone(),
        ]);
    }
    for trusted in &plan.certificates {
        rows.push(vec![
            "trust".to_owned(),
            trusted.certificate.subject.clone(),
            plan.certificate_path(trusted),
        ]);
    }
    for drop_in in plan.drop_ins() {
        let (what, value) = match drop_in.key {
            "imagePolicy" => ("policy", plan.image_policy.clone().unwrap_or_default()),
            _ => ("copy", "certificates to /run/verity.d".to_owned()),
        };
        rows.push(vec![what.to_owned(), value, drop_in.path]);
    }
    let how = match plan.enable {
        crate::config::model::Enable::None => "leave",
        _ => "enable",
    };
    for kind in plan.kinds() {
        rows.push(vec![how.to_owned(), unit_name(kind).to_owned()]);
    }
    table(&rows)
}

/// What was built.
pub(super) fn built(built: &Built) -> String {
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
pub(super) fn prediction(prediction: &Prediction) -> String {
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

/// What an image is.
pub(super) fn image(ddi: &Ddi) -> String {
    let name = ddi
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut text = String::new();
    match &ddi.layout {
        Layout::Naked => {
            let _ = writeln!(text, "{name}: {} without a partition table", size(ddi.size));
        }
        Layout::Gpt(gpt) => {
            let heads = ["Device", "Start", "End", "Size", "Type"]
                .map(str::to_owned)
                .to_vec();
            let mut rows = vec![heads];
            for entry in &gpt.entries {
                let kind = entry
                    .partition_type()
                    .map_or_else(|| entry.type_guid.to_string(), |kind| kind.display_name());
                let sector = gpt.sector_size.max(1);
                let end = entry.offset.saturating_add(entry.size);
                rows.push(vec![
                    format!("{name}{}", entry.number),
                    (entry.offset / sector).to_string(),
                    (end / sector).saturating_sub(1).to_string(),
                    size(entry.size),
                    kind,
                ]);
            }
            text.push_str(&table(&rows));
        }
    }
    text.push('\n');
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
    if let Layout::Gpt(gpt) = &ddi.layout {
        row("disk id", gpt.disk_guid.to_string());
        for entry in &gpt.entries {
            row(&format!("id of {}", entry.number), entry.guid.to_string());
        }
    }
    if let Some(kind) = ddi.fs_kind {
        let details = ddi.fs.as_ref();
        let compression = details
            .map(|details| details.compression.join(", "))
            .filter(|list| !list.is_empty());
        row(
            "file system",
            format!(
                "{}{}",
                kind.name(),
                compression
                    .map(|list| format!(", {list}"))
                    .unwrap_or_default()
            ),
        );
    }
    if let Some(uuid) = ddi.fs.as_ref().and_then(|details| details.uuid.as_ref()) {
        row("file system id", uuid.clone());
    }
    if let Some(superblock) = &ddi.superblock {
        row(
            "verity id",
            uuid::Uuid::from_bytes(superblock.uuid).to_string(),
        );
        row("verity salt", hex::encode(&superblock.salt));
        row(
            "verity",
            format!(
                "{}, {} blocks of {} bytes",
                superblock.algorithm.name(),
                superblock.data_blocks,
                superblock.data_block_size
            ),
        );
    }
    if let Some(hash) = &ddi.root_hash {
        row("root hash", hash.to_string());
    }
    match &ddi.signature {
        SignatureState::Absent => {}
        SignatureState::Empty => row("signature", "not made yet".to_owned()),
        SignatureState::Unusable(why) => row("signature", format!("unusable: {why}")),
        SignatureState::Present { signers, .. } => {
            for signer in signers {
                match &signer.certificate {
                    Some(certificate) => {
                        row("signed by", certificate.subject.clone());
                        row(
                            "valid",
                            format!("{} to {}", certificate.not_before, certificate.not_after),
                        );
                        row("fingerprint", certificate.fingerprint_sha256_hex.clone());
                    }
                    None => row(
                        "signed by",
                        format!("issuer {}, serial {}", signer.issuer, signer.serial),
                    ),
                }
            }
        }
    }
    if let Some(content) = &ddi.content {
        for release in &content.releases {
            row(
                "release file",
                format!("extension-release.{}", release.suffix),
            );
            for (key, value) in release.fields.iter().flat_map(|fields| fields.iter()) {
                row("", format!("{key}={value}"));
            }
        }
        row("content", content.top_level.join(" "));
        if !content.units.is_empty() {
            row("units", content.units.join(" "));
        }
    }
    text.push_str(&table(&rows));
    text
}

/// The checks of `verify`.
pub(super) fn report(report: &Report) -> String {
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
