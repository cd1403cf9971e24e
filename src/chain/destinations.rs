//! Whether two things want the same place in the image, over a whole chain of configs.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::{Chain, Link};
use crate::config::Config;
use crate::config::prism::cleaned;
use crate::finding::{Finding, Place};
use crate::plan::{Plan, placed_in};
use crate::prism::node::Node;

/// Why two places can't be the same.
const LATER_WINS: &str = "Prism copies folders before files and each in the order of the lists, base configs first; the last one wins without a word (`customizefiles.go`)";

/// What a file holds.
#[derive(PartialEq, Eq)]
enum Origin {
    /// What that file of this machine holds.
    File(PathBuf),
    /// This text.
    Text(String),
}

/// A file that is placed.
struct Claim {
    /// Number of the link that places it.
    link: usize,
    /// Where the config says so.
    place: Place,
    /// How messages call that place.
    what: String,
    /// Absolute path in the image.
    path: String,
    origin: Origin,
}

/// Findings with the number of the link that they are about. `plans` are those of the sections; of one
/// without a plan, what its names tell counts.
pub(crate) fn clashes(chain: &Chain, plans: &[(usize, Plan)]) -> Vec<(usize, Finding)> {
    let mut findings = Vec::new();
    let mut ours: Vec<Claim> = Vec::new();
    for (number, link) in chain.links().iter().enumerate() {
        let plan = plans.iter().find(|(of, _)| *of == number);
        let claims = match plan {
            Some((_, plan)) => planned(number, link, plan),
            None => named(number, link),
        };
        for claim in claims {
            // Names within one section are judged with their own words.
            let taken = |it: &&Claim| {
                it.link != number && it.path == claim.path && it.origin != claim.origin
            };
            if let Some(other) = ours.iter().find(taken) {
                let message = format!("{} places another {}", other.what, claim.path);
                findings.push((
                    number,
                    Finding {
                        place: Some(claim.place.clone()),
                        ..Finding::error("destination-taken", message)
                    }
                    .because(LATER_WINS)
                    .help("give one of the two another name, or let both come from the same file"),
                ));
            }
            ours.push(claim);
        }
    }
    let mut first: HashMap<&str, &Claim> = HashMap::new();
    for claim in &ours {
        first.entry(&claim.path).or_insert(claim);
    }
    // Of each path the last.
    let mut users: HashMap<String, Claim> = HashMap::new();
    for (number, link) in chain.links().iter().enumerate() {
        let Some(os) = link.config.source.root().and_then(|root| root.get("os")) else {
            continue;
        };
        for (index, folder) in os.list("additionalDirs") {
            let at = format!("os.additionalDirs[{index}]");
            findings.extend(in_folder(&ours, &link.config, folder, &at).map(|it| (number, it)));
        }
        for (index, file) in os.list("additionalFiles") {
            let Some(claim) = written(number, link, index, file) else {
                continue;
            };
            if let Some(other) = first.get(claim.path.as_str()) {
                if other.origin != claim.origin {
                    let message = format!("`os.additionalFiles` also places {}", claim.path);
                    findings.push((
                        number,
                        claim.told(Finding::error("destination-taken", message).help(format!(
                            "remove the item, or rename what {} places",
                            other.what
                        ))),
                    ));
                }
            } else if let Some(other) = users.get(&claim.path) {
                let message = format!("{} is placed by {} as well", claim.path, other.what);
                // A config that builds on another may mean to replace its files.
                let finding = match other.link == number {
                    true => Finding::warning("destination-twice", message),
                    false => Finding::note("destination-twice", message),
                };
                findings.push((
                    number,
                    claim.told(finding.help("keep the one that is meant")),
                ));
            }
            users.insert(claim.path.clone(), claim);
        }
    }
    findings
}

impl Claim {
    fn told(&self, finding: Finding) -> Finding {
        Finding {
            place: Some(self.place.clone()),
            ..finding.because(LATER_WINS)
        }
    }
}

/// What a section places for sure: the images that it builds.
fn named(number: usize, link: &Link) -> Vec<Claim> {
    let Some(sysext) = &link.config.sysext else {
        return Vec::new();
    };
    let folder = link.config.resolve(&sysext.output_directory);
    let extensions = sysext.extensions.iter().enumerate();
    let built = extensions.filter(|(_, extension)| extension.image.is_none());
    let claims = built.filter_map(|(index, extension)| {
        let file = extension.layout.file_name(&extension.full_name()?);
        let at = format!("sysext.extensions[{index}]");
        Some(Claim {
            link: number,
            what: link.called(&at),
            place: Place::Yaml(at),
            path: format!("{}/{file}", placed_in(sysext, extension.kind)),
            origin: Origin::File(same(&folder.join(file))),
        })
    });
    claims.collect()
}

/// What a section places.
fn planned(number: usize, link: &Link, plan: &Plan) -> Vec<Claim> {
    let claim = |at: &str, path: String, origin: Origin| Claim {
        link: number,
        place: Place::Yaml(at.to_owned()),
        what: link.called(at),
        path,
        origin,
    };
    let mut claims = Vec::new();
    for extension in &plan.extensions {
        let origin = Origin::File(same(&extension.image));
        claims.push(claim(&extension.at, extension.destination.clone(), origin));
        for beside in &extension.beside {
            let origin = Origin::File(same(&beside.file.path));
            claims.push(claim(&extension.at, beside.destination.clone(), origin));
        }
    }
    for trusted in &plan.certificates {
        let origin = Origin::Text(trusted.certificate.pem());
        claims.push(claim(&trusted.at, plan.certificate_path(trusted), origin));
    }
    for drop_in in plan.drop_ins() {
        let at = format!("sysext.{}", drop_in.key);
        claims.push(claim(&at, drop_in.path, Origin::Text(drop_in.text)));
    }
    claims
}

/// What an item of `os.additionalFiles` places.
fn written(number: usize, link: &Link, index: usize, file: &Node) -> Option<Claim> {
    let node = file.get("destination")?;
    let origin = match file.filled("source") {
        Some(source) => Origin::File(same(&link.config.resolve(Path::new(source)))),
        None => Origin::Text(file.text_of("content").unwrap_or_default().to_owned()),
    };
    let at = format!("os.additionalFiles[{index}]");
    Some(Claim {
        link: number,
        place: node.at.into(),
        what: link.called(&at),
        path: cleaned(node.text()?),
        origin,
    })
}

/// Our files that a folder of `os.additionalDirs` brings along as well.
fn in_folder<'c>(
    ours: &'c [Claim],
    config: &Config,
    folder: &Node,
    at: &str,
) -> impl Iterator<Item = Finding> + 'c {
    let source = folder
        .filled("source")
        .map(|it| config.resolve(Path::new(it)));
    let target = folder
        .get("destination")
        .and_then(|it| Some((it.at, cleaned(it.text()?))));
    let found = source.zip(target);
    let at = at.to_owned();
    ours.iter().filter_map(move |claim| {
        let (source, (place, target)) = found.as_ref()?;
        let inside = claim
            .path
            .strip_prefix(target.as_str())?
            .strip_prefix('/')?;
        source.join(inside).symlink_metadata().ok()?;
        let message = format!("`{at}` also places {}", claim.path);
        let finding = Finding {
            place: Some((*place).into()),
            ..Finding::error("destination-taken", message)
        };
        let help = format!(
            "remove {inside} from that folder, or rename what {} places",
            claim.what
        );
        Some(finding.because(LATER_WINS).help(help))
    })
}

/// One path for all ways to write that of a file.
fn same(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let parts = path.components();
        parts.filter(|part| *part != Component::CurDir).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_where_they_lead() {
        for (path, clean) in [
            ("/a/b", "/a/b"),
            ("a//b/./", "/a/b"),
            ("/a/../b/c/..", "/b"),
            ("/../../a", "/a"),
            ("/", ""),
        ] {
            assert_eq!(cleaned(path), clean, "{path}");
        }
    }
}
