//! What systemd will do with images and folders: those that a config names or places, those of a base,
//! those of this machine.

use std::path::{Path, PathBuf};

use glob::Pattern;

use crate::base::Base;
use crate::base::folder::folder_content;
use crate::base::rootfs::RootFs;
use crate::check::conflicts::Layer;
use crate::check::discover::{What, discover};
use crate::check::lint::{Subject, Target, lint};
use crate::check::sidecars::Coming;
use crate::check::{
    Activation, COVERED, Candidate, Host, Image, Prediction, Service, Sidecars, conflicts, predict,
    sidecars,
};
use crate::finding::Finding;
use crate::image::dissect;
use crate::image::dissect::Ddi;
use crate::image::gpt::types::Designator;
use crate::image::read::view::FileView;
use crate::image::sidecar::SidecarFile;
use crate::image::x509::Certificate;
use crate::inspect::verify::verify_ddi;
use crate::io::progress::Progress;
use crate::io::root::RootDir;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::paths::{CONFEXT_DIRS, SYSEXT_DIRS};
use crate::systemd::version::SystemdVersion;

/// Largest image of a base whose hash tree is recomputed, in bytes; a sparse file can claim any
/// size, and reading it must end.
const MAX_PRESENT_BYTES: u64 = 64 << 30;

/// The certificates that count for each kind of extensions.
pub(crate) struct TrustedBy {
    sysext: Vec<Certificate>,
    confext: Vec<Certificate>,
}

impl TrustedBy {
    pub(crate) fn each(trusted: impl Fn(ExtensionKind) -> Vec<Certificate>) -> TrustedBy {
        TrustedBy {
            sysext: trusted(ExtensionKind::Sysext),
            confext: trusted(ExtensionKind::Confext),
        }
    }

    pub(crate) fn of(&self, kind: ExtensionKind) -> &[Certificate] {
        match kind {
            ExtensionKind::Sysext => &self.sysext,
            ExtensionKind::Confext => &self.confext,
        }
    }
}

/// A file of this machine that Prism copies to where systemd looks for extensions.
pub(crate) struct Placement {
    /// By the folder that it lands in.
    pub kind: ExtensionKind,
    /// Where the config says so.
    pub at: String,
    /// The file.
    pub source: PathBuf,
    /// Where it lands.
    pub destination: String,
    /// What lands beside it.
    pub beside: Vec<SidecarFile>,
}

/// What merges them, by kind.
pub(crate) struct PlacedServices<'a> {
    /// The certificates that count.
    pub trusted: TrustedBy,
    /// The image policy.
    pub policy: &'a dyn Fn(ExtensionKind) -> Option<&'a str>,
    /// Whether the config enables the unit.
    pub enabled: &'a dyn Fn(ExtensionKind) -> bool,
}

/// What becomes of such files, together with what the base already has.
pub(crate) fn predict_placed(
    base: &Base,
    root: Option<&dyn RootFs>,
    placements: &[Placement],
    services: &PlacedServices<'_>,
    progress: &Progress,
) -> Prediction {
    let replaced = |path: &str| placements.iter().any(|it| it.destination == path);
    let mut candidates = match root {
        Some(root) => present(root, base, replaced, |_| None, progress),
        None => Vec::new(),
    };
    for placement in placements {
        let coming = Coming {
            files: &placement.beside,
            root,
            destination: Path::new(&placement.destination),
            goes: &|_| false,
        };
        let image = coming_image(&placement.source, &coming, base, progress);
        candidates.push(Candidate::placed(
            placement.kind,
            placement.at.clone(),
            placement.destination.clone(),
            image,
            base.systemd_version(),
        ));
    }
    in_search_order(&mut candidates);
    let service = |kind| {
        let policy = (services.policy)(kind);
        let trusted = services.trusted.of(kind);
        service(base, kind, policy, trusted, (services.enabled)(kind))
    };
    let mut prediction = predict(&host(base, service), &candidates);
    look_inside(&mut prediction, &candidates, base, root, &[]);
    prediction
}

/// What becomes of what a root file system carries; `listed` gives the place in the config.
pub(crate) fn predict_present(
    root: &dyn RootFs,
    base: &Base,
    listed: impl Fn(&str) -> Option<String>,
    progress: &Progress,
) -> Prediction {
    let candidates = present(root, base, |_| false, listed, progress);
    let mut prediction = predict_on(base, &candidates, false);
    look_inside(&mut prediction, &candidates, base, Some(root), &[]);
    prediction
}

/// Tells what the layers that are merged hide from each other and from the base.
fn add_conflicts(
    prediction: &mut Prediction,
    candidates: &[Candidate],
    root: Option<&dyn RootFs>,
    allow: &[Pattern],
) {
    let judged = || prediction.extensions.iter().zip(candidates);
    let mut told = Vec::new();
    for (class, stack) in prediction.stacks() {
        if stack.merged == Some(false) {
            continue;
        }
        let layer = |name: &String| {
            let (_, candidate) = judged().find(|(judgement, candidate)| {
                judgement.verdict.merges() && candidate.class == class && candidate.name == *name
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
        told.push((class, conflicts::find(class, &layers, base, allow)));
    }
    for (class, found) in told {
        if let Some(stack) = prediction.stack_mut(class) {
            stack.reasons.extend(found);
        }
    }
}

/// Tells what the layers hide from each other and from the base, and what their content lacks to be
/// of use; both go through all files, so they are done side by side.
pub(crate) fn look_inside(
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
        kind: candidate.class,
        is_usr,
    };
    let at = candidate.at.as_deref().unwrap_or(&candidate.path);
    let found = lint(subject, target).into_iter();
    found.map(|finding| finding.at(at)).collect()
}

/// What becomes of candidates on a base as it is; `will_enable` tells that the service will run.
pub(crate) fn predict_on(base: &Base, candidates: &[Candidate], will_enable: bool) -> Prediction {
    let trusted = TrustedBy::each(|kind| base.trusted(kind));
    let service = |kind| {
        let policy = base.unit(kind).image_policy.as_deref();
        service(base, kind, policy, trusted.of(kind), will_enable)
    };
    predict(&host(base, service), candidates)
}

/// What merges the extensions of a kind, as the rules see it.
pub(crate) fn service<'a>(
    base: &'a Base,
    kind: ExtensionKind,
    image_policy: Option<&'a str>,
    trusted: &'a [Certificate],
    will_enable: bool,
) -> Service<'a> {
    let unit = base.unit(kind);
    Service {
        image_policy,
        trusted,
        // `systemd-confext` is a link to `systemd-sysext`.
        has_tool: base.has_sysext_tool,
        activation: Activation::of(unit, will_enable),
        force: unit.force,
        environment: &unit.environment,
    }
}

/// The base as the rules see it.
pub(crate) fn host<'a>(base: &'a Base, service: impl Fn(ExtensionKind) -> Service<'a>) -> Host<'a> {
    Host {
        os_release: &base.release,
        systemd: base.systemd_version(),
        arch: base.arch,
        kernel: base.kernel_features(),
        initrd: base.initrd,
        has_cryptsetup: base.has_cryptsetup,
        incomplete: base.is_incomplete(),
        sysext: service(ExtensionKind::Sysext),
        confext: service(ExtensionKind::Confext),
    }
}

/// An image with its hash tree recomputed; its signature is judged with the base, which says whom to
/// trust.
pub(crate) fn disk(ddi: Ddi, sidecars: Sidecars, progress: &Progress) -> Image {
    let report = verify_ddi(&ddi, &[], progress);
    Image::Disk(Box::new(ddi), Box::new(report), sidecars)
}

/// An image of this machine that is going to be placed.
pub(crate) fn coming_image(
    path: &Path,
    coming: &Coming<'_>,
    base: &Base,
    progress: &Progress,
) -> Image {
    match dissect::open_for(path, base.arch) {
        Ok(ddi) => {
            let beside = sidecars::of_coming(coming, &ddi, progress);
            disk(ddi, beside, progress)
        }
        Err(error) => Image::Unreadable(error.to_string()),
    }
}

/// An image of this machine with what lies beside it.
pub(crate) fn image_and_beside(path: &Path, base: &Base, progress: &Progress) -> Image {
    let ddi = match dissect::open_for(path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Image::Unreadable(error.to_string()),
    };
    let beside = sidecars::beside_on_this_machine(path, &ddi, progress);
    disk(ddi, beside, progress)
}

/// A folder of this machine.
pub(crate) fn local_folder(path: &Path) -> Image {
    let image = match RootDir::open(path) {
        Ok(root) => folder(&root, Path::new("/"), false),
        Err(error) => Image::Unreadable(error.to_string()),
    };
    match image {
        Image::Folder {
            content, in_usr, ..
        } => Image::Folder {
            content,
            in_usr,
            local: Some(path.to_owned()),
        },
        other => other,
    }
}

/// A folder of a root file system.
fn folder(root: &dyn RootFs, path: &Path, in_usr: bool) -> Image {
    match folder_content(root, path) {
        Ok(Some(content)) => Image::Folder {
            content: Box::new(content),
            in_usr,
            local: None,
        },
        Ok(None) => Image::Unreadable("there is nothing".to_owned()),
        // Not systemd's trouble, but ours.
        Err(_) => Image::Other("a folder that can't be read"),
    }
}

pub(crate) fn present(
    root: &dyn RootFs,
    base: &Base,
    skip: impl Fn(&str) -> bool,
    listed: impl Fn(&str) -> Option<String>,
    progress: &Progress,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let newest = SystemdVersion::new(*COVERED.end(), 0);
    let systemd = base.systemd_version().unwrap_or(newest);
    for entry in &base.extensions {
        let Some(found) = discover(entry, systemd, base.arch) else {
            continue;
        };
        if skip(&found.path) {
            continue;
        }
        let path = Path::new(&found.path);
        let image = match found.what {
            What::Image => match image(root, path, base, progress) {
                Some(image) => image,
                None => continue,
            },
            What::Folder | What::FolderInUsr => folder(root, path, found.what == What::FolderInUsr),
            What::Stack => Image::Unreadable("systemd takes no .mstack folders here".to_owned()),
            What::Circle => Image::Unreadable("the link leads in a circle".to_owned()),
            What::Device => Image::Other("a block device"),
        };
        candidates.push(Candidate {
            class: entry.class,
            at: listed(&found.path),
            path: found.path,
            name: found.name,
            image,
        });
    }
    candidates
}

/// An image of a root file system; nothing when it is gone meanwhile.
fn image(root: &dyn RootFs, path: &Path, base: &Base, progress: &Progress) -> Option<Image> {
    let (file, metadata) = match root.open_file(path) {
        Ok(found) => found?,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    if metadata.size > MAX_PRESENT_BYTES {
        return Some(Image::Other("an image of more than 64 GiB"));
    }
    let ddi = match dissect::describe(file, path, base.arch) {
        Ok(ddi) => ddi,
        Err(error) => return Some(Image::Unreadable(error.to_string())),
    };
    let beside = sidecars::read(root, path, &ddi, progress);
    Some(disk(ddi, beside, progress))
}

pub(crate) fn in_search_order(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|candidate| {
        let dirs = match candidate.class {
            ExtensionKind::Sysext => SYSEXT_DIRS,
            ExtensionKind::Confext => CONFEXT_DIRS,
        };
        let lies_in = |folder: &&str| {
            let rest = candidate.path.strip_prefix(*folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        (candidate.class, dirs.iter().position(lies_in))
    });
}

/// An image of this machine, also a compressed one.
pub(crate) fn open_any(path: &Path) -> Result<Ddi, Finding> {
    dissect::open_wrapped(path)
        .map_err(|error| Finding::error("image-unreadable", error.to_string()))
}

/// An image of this machine.
pub(crate) fn open_image(path: &Path) -> Result<Ddi, Finding> {
    dissect::open(path).map_err(|error| Finding::error("image-unreadable", error.to_string()))
}
