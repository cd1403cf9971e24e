//! Other paths for base configs, in the place of those that are written.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::ExpandError;
use super::literal::Literal;
use super::node::{Body, Node};
use super::splice::Splice;

/// The key of the list of base configs, and of a path in it.
const LIST: &str = "baseConfigs";
const PATH: &str = "path";

impl Splice<'_, '_> {
    /// Writes the new paths; the numbers are those of the items.
    pub(super) fn rebase(
        &mut self,
        root: &Node,
        paths: &BTreeMap<usize, String>,
    ) -> Result<(), ExpandError> {
        let elsewhere = |what: &str| {
            format!(
                "{what} comes from a merge key or an alias, and a base config has to get another path; write it out here"
            )
        };
        let Some((_, (_, list))) = root.entry(LIST) else {
            return Err(self.refuse(root.start, elsewhere("`baseConfigs`")));
        };
        self.unshared(list, LIST)?;
        for (index, new) in paths {
            let item = match &list.body {
                Body::Sequence { items, .. } => items.get(*index),
                _ => None,
            };
            let name = format!("{LIST}[{index}]");
            let Some(item) = item else {
                return Err(self.refuse(list.start, format!("`{name}` is not there")));
            };
            self.unshared(item, &name)?;
            let name = format!("{name}.{PATH}");
            let Some((_, (_, path))) = item.entry(PATH) else {
                return Err(self.refuse(item.start, elsewhere(&format!("`{name}`"))));
            };
            self.unshared(path, &name)?;
            if path.text().is_none() || path.is_block_scalar() {
                let reason =
                    format!("`{name}` is not written on the line of its key; write it there");
                return Err(self.refuse(path.start, reason));
            }
            let quoted = self.source.byte(path.content) == Some(b'"');
            let text = Literal::Text(new.clone()).flow(quoted);
            self.replace(path.content..path.end, text);
        }
        Ok(())
    }
}

/// The data with the new paths.
pub(super) fn rebased(mut value: Value, paths: &BTreeMap<usize, String>) -> Value {
    for (index, new) in paths {
        let item = value.get_mut(LIST).and_then(|list| list.get_mut(*index));
        if let Some(path) = item.and_then(|item| item.get_mut(PATH)) {
            *path = Value::String(new.clone());
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::{Additions, Enable, expand, expand_on};
    use std::collections::BTreeMap;

    fn moved(text: &str) -> Result<String, String> {
        let nothing = Additions {
            files: Vec::new(),
            enable: Enable::None,
        };
        let paths = BTreeMap::from([(1, "../b/x.prism.yaml".to_owned())]);
        expand_on(text, &nothing, &paths).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_path_is_another() {
        for (before, after) in [
            (
                "baseConfigs:\n- path: a.yaml\n- path: ../b/x.yaml  # why\nsysext: 1\n",
                "baseConfigs:\n- path: a.yaml\n- path: ../b/x.prism.yaml  # why\n",
            ),
            (
                "{\"baseConfigs\": [{\"path\": \"a\"}, {\"path\": \"../b/x.yaml\"}]}",
                "{\"baseConfigs\": [{\"path\": \"a\"}, {\"path\": \"../b/x.prism.yaml\"}]}",
            ),
            (
                "baseConfigs: [{path: a}, {path: &x '../b/x.yaml'}]\r\nos:\r\n",
                "baseConfigs: [{path: a}, {path: &x ../b/x.prism.yaml}]\r\nos:\r\n",
            ),
        ] {
            assert_eq!(moved(before).as_deref(), Ok(after));
            // The other paths stay when nothing is said about them.
            let nothing = Additions {
                files: Vec::new(),
                enable: Enable::None,
            };
            assert_eq!(expand(after, &nothing).unwrap(), after);
        }
    }

    #[test]
    fn what_also_counts_elsewhere_is_refused_with_its_line() {
        for (text, said) in [
            (
                "baseConfigs:\n- path: a\n- &x {path: b}\nos: {a: *x}\n",
                "line 4",
            ),
            ("os: &l [{path: a}, {path: b}]\nbaseConfigs: *l\n", "line 2"),
            (
                "os: &m {path: b}\nbaseConfigs:\n- path: a\n- <<: *m\n",
                "line 4",
            ),
            ("baseConfigs:\n- path: a\n- path: |-\n    b\n", "line 4"),
            ("baseConfigs:\n- path: a\n", "line 2"),
        ] {
            let error = moved(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
