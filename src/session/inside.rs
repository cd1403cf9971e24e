//! What layers hide from each other and from the base, and what their content lacks to be of use.

use std::path::Path;

use glob::Pattern;

use crate::base::Base;
use crate::base::rootfs::RootFs;
use crate::check::conflicts::Layer;
use crate::check::lint::{Subject, Target, lint};
use crate::check::{Candidate, Image, Prediction, conflicts};
use crate::finding::Finding;
use crate::image::gpt::types::Designator;
use crate::image::read::view::FileView;
use crate::io::root::RootDir;

/// Tells what the layers that are merged hide from each other and from the base.
fn add_conflicts(
    prediction: &mut Prediction,
    candidates: &[Candidate],
    root: Option<&dyn RootFs>,
    allow: &[Pattern],
) {
    let judged = || prediction.extensions.iter().zip(candidates);
    let mut told = Vec::new();
    for (kind, stack) in prediction.stacks() {
        if stack.merged == Some(false) {
            continue;
        }
        let layer = |name: &String| {
            let (_, candidate) = judged().find(|(judgement, candidate)| {
                judgement.verdict.merges() && candidate.kind == kind && candidate.name == *name
            })?;
            let (files, is_usr): (Box<dyn FileView>, bool) = match &candidate.image {
                Image::Disk(ddi, ..) => {
                    let is_usr = ddi.designator == Designator::Usr;
                    (Box::new(ddi.file_system().ok()?), is_usr)
                }
                Image::Folder { local, .. } => {
                    let folder: Box<dyn FileView> = match local {
                        Some(path) => Box::new(RootDir::open(path).ok()?),
                        None => root?.enter(Path::new(&candidate.path)).ok()??,
                    };
                    (folder, false)
                }
                Image::Unreadable(_) | Image::Other(_) => return None,
            };
            Some(Layer {
                name: &candidate.name,
                at: candidate.at.as_deref(),
                path: &candidate.path,
                files,
                is_usr,
            })
        };
        let layers: Vec<Layer<'_>> = stack.layers.iter().filter_map(layer).collect();
        let base = root.map(|root| -> &dyn FileView { root });
        told.push((kind, conflicts::find(kind, &layers, base, allow)));
    }
    for (kind, found) in told {
        if let Some(stack) = prediction.stack_mut(kind) {
            stack.reasons.extend(found);
        }
    }
}

/// Tells what the layers hide from each other and from the base, and what their content lacks to be
/// of use; both go through all files, so they are done side by side.
pub(super) fn look_inside(
    prediction: &mut Prediction,
    candidates: &[Candidate],
    base: &Base,
    root: Option<&dyn RootFs>,
    allow: &[Pattern],
) {
    let wanted: Vec<bool> = prediction
        .extensions
        .iter()
        .map(|judgement| judgement.listed && judgement.verdict.merges())
        .collect();
    let lacking = |root: Option<&dyn RootFs>| -> Vec<Vec<Finding>> {
        let wanted = candidates.iter().zip(&wanted);
        wanted
            .map(|(candidate, wanted)| match wanted {
                true => lacks(candidate, Target { base, root }),
                false => Vec::new(),
            })
            .collect()
    };
    let shared = root.map(RootFs::shared);
    let found = match shared {
        // A disk image is read by one thread.
        Some(None) => {
            add_conflicts(prediction, candidates, root, allow);
            lacking(root)
        }
        _ => std::thread::scope(|scope| {
            let shared = shared.flatten();
            let lacking = &lacking;
            let beside = scope.spawn(move || lacking(shared.map(|root| -> &dyn RootFs { root })));
            add_conflicts(prediction, candidates, root, allow);
            match beside.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }),
    };
    for (judgement, found) in prediction.extensions.iter_mut().zip(found) {
        judgement.reasons.extend(found);
    }
}

fn lacks(candidate: &Candidate, target: Target<'_>) -> Vec<Finding> {
    let (fs, is_usr): (Box<dyn FileView>, bool) = match &candidate.image {
        Image::Disk(ddi, ..) => match ddi.file_system() {
            Ok(fs) => (Box::new(fs), ddi.designator == Designator::Usr),
            Err(_) => return Vec::new(),
        },
        Image::Folder {
            local: Some(path), ..
        } => match RootDir::open(path) {
            Ok(folder) => (Box::new(folder), false),
            Err(_) => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let subject = Subject {
        fs: fs.as_ref(),
        kind: candidate.kind,
        is_usr,
    };
    let at = candidate.at.as_deref().unwrap_or(&candidate.path);
    let found = lint(subject, target).into_iter();
    found.map(|finding| finding.at(at)).collect()
}
