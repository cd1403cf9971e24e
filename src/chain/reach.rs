//! The files that a config leads to by `baseConfigs`, before any of them is typed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::source::{Refused, Source};
use crate::finding::Finding;
use crate::prism::node::Node;

/// Deepest nesting that is followed; every level is a file of its own.
const MAX_DEPTH: usize = 64;

/// A file of a chain.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Its text, as far as it could be read.
    pub source: Source,
    /// Why it is no YAML, and which of its bases can't be reached.
    pub findings: Vec<Finding>,
    /// The bases that it names: the number of the item and that of the file.
    pub bases: Vec<(usize, usize)>,
    /// How messages call it: its path relative to the given config; empty for that itself.
    pub name: String,
}

/// The files that a config builds on, all that can be reached, and itself: bases first, as Prism works through them.
pub(crate) fn reach(top: Source) -> Vec<Reached> {
    let mut walk = Walk {
        reached: Vec::new(),
        seen: BTreeSet::from([canonical(&top.path)]),
    };
    walk.visit(Ok(top), PathBuf::new(), 0);
    walk.reached
}

struct Walk {
    reached: Vec<Reached>,
    seen: BTreeSet<PathBuf>,
}

impl Walk {
    /// Adds a file behind its bases, and gives its number.
    fn visit(&mut self, read: Result<Source, Refused>, name: PathBuf, depth: usize) -> usize {
        let (source, mut findings) = match read {
            Ok(source) => (source, Vec::new()),
            Err(refused) => (refused.source, refused.findings),
        };
        let mut bases = Vec::new();
        let items = source.root().into_iter();
        for (number, item) in items.flat_map(|root| root.list("baseConfigs")) {
            // What is no path is told by those who judge Prism's sections.
            let path = item.get("path");
            let Some((node, text)) = path.and_then(|node| Some((node, node.text()?))) else {
                continue;
            };
            if text.trim().is_empty() {
                continue;
            }
            let path = source.directory().join(text);
            match self.reachable(&path, text, depth) {
                Ok(()) => {
                    let name = name.parent().unwrap_or(Path::new("")).join(text);
                    bases.push((number, self.visit(Source::read(&path), name, depth + 1)));
                }
                Err(finding) => findings.push(at(node, finding)),
            }
        }
        self.reached.push(Reached {
            source,
            findings,
            bases,
            name: name.display().to_string(),
        });
        self.reached.len() - 1
    }

    /// Whether a base is there, and for the first time.
    fn reachable(&mut self, path: &Path, text: &str, depth: usize) -> Result<(), Finding> {
        if !self.seen.insert(canonical(path)) {
            let message = format!("{text} is among the configs of this chain already");
            return Err(Finding::error("base-config-twice", message)
                .because("Prism refuses a file that it reaches a second time as a circle, even by another way")
                .help("name it once, in the config that all others build on"));
        }
        if depth >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} configs build on each other");
            return Err(Finding::error("base-config-unreadable", message));
        }
        if let Err(error) = std::fs::metadata(path) {
            let message = format!("reading the base config {text}: {error}");
            return Err(Finding::error("base-config-unreadable", message)
                .because("a relative path starts at the folder of the file that holds it")
                .help("put it there, or correct the path"));
        }
        Ok(())
    }
}

fn at(node: &Node, finding: Finding) -> Finding {
    Finding {
        place: Some(node.at.into()),
        ..finding
    }
}

/// The same for all ways to write a path.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::open::testing::folder;

    #[test]
    fn what_one_file_lacks_hides_no_other() {
        let dir = folder(&[
            (
                "c.yaml",
                "baseConfigs: [{path: bad.yaml}, {path: none.yaml}, {path: good.yaml}]\n",
            ),
            ("bad.yaml", "os: [\n"),
            ("good.yaml", "baseConfigs: [{path: c.yaml}]\n"),
        ]);
        let top = Source::read(&dir.path().join("c.yaml")).unwrap();
        let reached = reach(top);
        let told: Vec<(&str, Vec<&str>)> = reached
            .iter()
            .map(|it| {
                let ids = it.findings.iter().map(|finding| finding.id);
                (it.name.as_str(), ids.collect())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("bad.yaml", vec!["yaml-syntax"]),
                ("good.yaml", vec!["base-config-twice"]),
                ("", vec!["base-config-unreadable"]),
            ]
        );
        assert_eq!(reached[2].bases, [(0, 0), (2, 1)]);
    }
}
