//! A config together with the configs that it builds on.
//!
//! Prism reads `baseConfigs` recursively, each path relative to the folder of the file that names it, and works
//! through the bases first, in their order. A file that is reached twice is refused as a circle, even when the
//! second way to it is none (`baseconfigs_test.go` of Prism 1.7 has the cases).

pub(crate) mod destinations;
pub(crate) mod merge_plans;
pub(crate) mod reach;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::config::Config;
use crate::config::source::Refused;
use crate::prism::node::Node;
use reach::{Reached, reach};

/// A config and all its bases.
#[derive(Debug)]
pub struct Chain {
    /// In Prism's order: bases first, the given config last.
    links: Vec<Link>,
}

/// One config of a chain.
#[derive(Debug)]
pub struct Link {
    /// The config.
    pub config: Config,
    /// The bases that it names: the number of the item and the link.
    bases: Vec<(usize, usize)>,
    /// How messages call it: its path relative to the given config; empty for that itself.
    pub name: String,
}

impl Link {
    /// How messages call a place in it.
    pub fn called(&self, at: &str) -> String {
        match self.name.as_str() {
            "" => at.to_owned(),
            name => format!("{name}: {at}"),
        }
    }
}

impl Chain {
    /// Reads the config at `path` and its bases.
    ///
    /// # Errors
    /// What [`Config::read`] reports of the config itself, else what [`Chain::of`] reports.
    pub fn read(path: &Path) -> Result<Chain, Refused> {
        Chain::of(Config::read(path)?)
    }

    /// The chain of a config that has been read.
    ///
    /// # Errors
    /// The findings of one file, the first that has any in Prism's order: `base-config-unreadable`
    /// and `base-config-twice` for the bases that it names, and for a base what [`Config::read`]
    /// reports.
    pub fn of(config: Config) -> Result<Chain, Refused> {
        let mut reached = reach(config.source.clone());
        if let Some(at) = reached.iter().position(|it| !it.findings.is_empty()) {
            let Reached {
                source, findings, ..
            } = reached.swap_remove(at);
            return Err(Refused { source, findings });
        }
        let top = reached.pop();
        let mut links = Vec::new();
        for base in reached {
            links.push(Link {
                config: Config::resolved(base.source)?,
                bases: base.bases,
                name: base.name,
            });
        }
        links.extend(top.map(|top| Link {
            config,
            bases: top.bases,
            name: top.name,
        }));
        Ok(Chain { links })
    }

    /// A config without its bases.
    pub fn alone(config: Config) -> Chain {
        Chain {
            links: vec![Link {
                config,
                bases: Vec::new(),
                name: String::new(),
            }],
        }
    }

    /// The given config.
    pub fn top(&self) -> Option<&Config> {
        self.links.last().map(|link| &link.config)
    }

    /// All configs, bases first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Those with a `sysext` section.
    pub fn sections(&self) -> impl DoubleEndedIterator<Item = &Link> {
        let links = self.links.iter();
        links.filter(|link| link.config.sysext.is_some())
    }

    /// Whether plain Prism would refuse a link, because of itself or of a base.
    pub fn needs_expansion(&self, link: &Link) -> bool {
        link.config.sysext.is_some()
            || link.bases.iter().any(|(_, base)| {
                let base = self.links.get(*base);
                base.is_some_and(|base| self.needs_expansion(base))
            })
    }

    /// The paths that a link has to name its bases by once each of them that needs it has been
    /// expanded into a file beside it, whose name `expanded` gives.
    pub fn moved(
        &self,
        link: &Link,
        expanded: impl Fn(&Config) -> OsString,
    ) -> BTreeMap<usize, String> {
        let written = link.config.source.root();
        let mut moved = BTreeMap::new();
        for (number, base) in &link.bases {
            let Some(base) = self.links.get(*base).filter(|it| self.needs_expansion(it)) else {
                continue;
            };
            let Some(path) = written.and_then(|root| path_of(root, *number)) else {
                continue;
            };
            let path = Path::new(path).with_file_name(expanded(&base.config));
            moved.insert(*number, path.display().to_string());
        }
        moved
    }
}

/// The path that an item of `baseConfigs` names.
fn path_of(root: &Node, number: usize) -> Option<&str> {
    let mut items = root.list("baseConfigs");
    let (_, item) = items.find(|(index, _)| *index == number)?;
    item.text_of("path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Place;
    use crate::io::open::testing::folder;

    fn names(chain: &Chain) -> Vec<&str> {
        chain.links().iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn bases_come_first_and_paths_start_at_the_file_that_holds_them() {
        let dir = folder(&[
            (
                "top/c.yaml",
                "baseConfigs: [null, {path: ../b/one.yaml}, {path: two.yaml}]\n",
            ),
            ("b/one.yaml", "baseConfigs:\n- path: deep/x.yaml\n"),
            (
                "b/deep/x.yaml",
                "sysext: {extensions: [{name: a, tree: t}]}\n",
            ),
            ("top/two.yaml", "{}\n"),
        ]);
        let chain = Chain::read(&dir.path().join("top/c.yaml")).unwrap();
        assert_eq!(
            names(&chain),
            ["../b/deep/x.yaml", "../b/one.yaml", "two.yaml", ""]
        );
        let needs: Vec<bool> = chain
            .links()
            .iter()
            .map(|it| chain.needs_expansion(it))
            .collect();
        assert_eq!(needs, [true, true, false, true]);
        let moved = |link: &Link| chain.moved(link, |_| "new.yaml".into());
        let top = chain.links().last().unwrap();
        assert_eq!(
            moved(top),
            BTreeMap::from([(1, "../b/new.yaml".to_owned())])
        );
        let one = &chain.links()[1];
        assert_eq!(
            moved(one),
            BTreeMap::from([(0, "deep/new.yaml".to_owned())])
        );
    }

    #[test]
    fn circles_second_ways_and_missing_files_are_refused_where_they_are_written() {
        for (files, id, line) in [
            (
                &[("c.yaml", "os:\nbaseConfigs:\n- path: c.yaml\n")][..],
                "base-config-twice",
                3,
            ),
            (
                &[
                    ("c.yaml", "baseConfigs: [{path: a.yaml}, {path: b.yaml}]\n"),
                    ("a.yaml", "baseConfigs: [{path: d.yaml}]\n"),
                    ("b.yaml", "\nbaseConfigs: [{path: ./d.yaml}]\n"),
                    ("d.yaml", "{}\n"),
                ],
                "base-config-twice",
                2,
            ),
            (
                &[("c.yaml", "baseConfigs:\n- path: none\n")],
                "base-config-unreadable",
                2,
            ),
        ] {
            let dir = folder(files);
            let refused = Chain::read(&dir.path().join("c.yaml")).unwrap_err();
            let finding = &refused.findings[0];
            assert_eq!(finding.id, id, "{finding}");
            assert!(
                matches!(finding.place, Some(Place::Position { line: found, .. }) if found == line),
                "{finding}"
            );
        }
    }
}
