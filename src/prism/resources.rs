//! Files that a config names (`--validate-resources files`).

use std::path::Path;

use super::node::Node;
use crate::finding::Finding;

/// What a name has to lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    File,
    Folder,
}

/// Files and folders that Prism would not find, by place; relative names are relative to `folder`.
pub fn resources(root: &Node, folder: &Path) -> Vec<Finding> {
    let mut named: Vec<(&Node, Wanted)> = Vec::new();
    for section in ["os", "iso", "pxe"] {
        let section = root.get(section);
        for (_, file) in section
            .into_iter()
            .flat_map(|it| it.list("additionalFiles"))
        {
            named.extend(file_at(file.get("source")));
        }
    }
    if let Some(os) = root.get("os") {
        for (_, folder) in os.list("additionalDirs") {
            named.extend(folder.get("source").map(|node| (node, Wanted::Folder)));
        }
        for (_, user) in os.list("users") {
            let keys = user.list("sshPublicKeyPaths");
            named.extend(keys.map(|(_, node)| (node, Wanted::File)));
            let password = user.get("password");
            let kind = password.and_then(|it| it.text_of("type"));
            if matches!(kind, Some("plain-text-file" | "hashed-file")) {
                named.extend(file_at(password.and_then(|it| it.get("value"))));
            }
        }
        for list in ["installLists", "removeLists", "updateLists"] {
            let lists = os.get("packages").into_iter().flat_map(|it| it.list(list));
            named.extend(lists.map(|(_, node)| (node, Wanted::File)));
        }
    }
    if let Some(scripts) = root.get("scripts") {
        for list in ["postCustomization", "finalizeCustomization"] {
            for (_, script) in scripts.list(list) {
                named.extend(file_at(script.get("path")));
            }
        }
    }
    for (_, base) in root.list("baseConfigs") {
        named.extend(file_at(base.get("path")));
    }
    let mut findings: Vec<_> = named
        .into_iter()
        .filter_map(|(node, wanted)| Some((node.at, missing(node, wanted, folder)?)))
        .collect();
    findings.sort_by_key(|(at, _)| *at);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

fn file_at(node: Option<&Node>) -> Option<(&Node, Wanted)> {
    node.map(|node| (node, Wanted::File))
}

fn missing(node: &Node, wanted: Wanted, folder: &Path) -> Option<Finding> {
    let name = node.text().filter(|text| !text.is_empty())?;
    let path = folder.join(name);
    let message = match (std::fs::metadata(&path), wanted) {
        (Err(error), _) => format!("reading {name}: {error}"),
        (Ok(found), Wanted::File) if found.is_dir() => {
            format!("{name} is a folder, expected a file")
        }
        (Ok(found), Wanted::Folder) if !found.is_dir() => {
            format!("{name} is a file, expected a folder")
        }
        _ => return None,
    };
    let finding = Finding::error("prism-file-missing", message)
        .because("relative paths start at the folder of the config file")
        .help("put it there, or correct the path");
    Some(Finding {
        place: Some(node.at.into()),
        ..finding
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Place;

    #[test]
    fn what_is_named_must_be_there_and_of_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let text = "os:\n  additionalFiles:\n  - {source: file, destination: /a}\n  - {source: folder, destination: /b}\n  - {source: gone, destination: /c}\n  additionalDirs: [{source: file, destination: /d}, {source: folder, destination: /e}]\n  users: [{name: u, sshPublicKeyPaths: [gone.pub], password: {type: hashed, value: gone}}]\nscripts: {postCustomization: [{path: gone.sh}]}\n";
        let found = resources(&crate::prism::node::parse(text).unwrap(), dir.path());
        let lines: Vec<_> = found
            .iter()
            .map(|finding| match finding.place {
                Some(Place::Position { line, .. }) => line,
                _ => 0,
            })
            .collect();
        assert_eq!(lines, [4, 5, 6, 7, 8]);
    }
}
