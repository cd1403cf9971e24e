//! What is missing in a config, decided on its data alone.

use serde_yaml::Value;

use super::literal::Literal;
use super::{AdditionalFile, Additions, Enable, ExpandError};

/// The part of `additions` that `config` does not hold yet, as a tree that
/// mirrors the config: mappings are joined, lists are appended to. An empty
/// mapping when nothing is missing.
pub(super) fn missing(config: &Value, additions: &Additions) -> Result<Literal, ExpandError> {
    let mut os = Vec::new();
    let mut root = Vec::new();

    let present = at(config, &["os", "additionalFiles"]);
    let mut files: Vec<Literal> = Vec::new();
    for file in &additions.files {
        let item = additional_file(file)?;
        if !holds(present, &item.to_value()) && !files.contains(&item) {
            files.push(item);
        }
    }
    if !files.is_empty() {
        os.push(("additionalFiles", Literal::List(files)));
    }

    let mut scripts = None;
    match &additions.enable {
        Enable::Services { units } => {
            let present = at(config, &["os", "services", "enable"]);
            let missing = units.iter().filter(|unit| !enables(present, unit));
            let missing: Vec<Literal> = missing.cloned().map(Literal::Text).collect();
            if !missing.is_empty() {
                os.push(("services", Literal::entry("enable", Literal::List(missing))));
            }
        }
        Enable::Script { name, content } => {
            let step = Literal::Map(vec![
                ("name", Literal::Text(name.clone())),
                ("content", Literal::Text(content.clone())),
            ]);
            if !holds(
                at(config, &["scripts", "postCustomization"]),
                &step.to_value(),
            ) {
                scripts = Some(Literal::entry(
                    "postCustomization",
                    Literal::List(vec![step]),
                ));
            }
        }
        Enable::None => {}
    }

    if !os.is_empty() {
        root.push(("os", Literal::Map(os)));
    }
    if let Some(scripts) = scripts {
        root.push(("scripts", scripts));
    }
    Ok(Literal::Map(root))
}

fn additional_file(file: &AdditionalFile) -> Result<Literal, ExpandError> {
    let from = match (&file.source, &file.content) {
        (Some(source), None) => ("source", Literal::Text(source.clone())),
        (None, Some(content)) => ("content", Literal::Text(content.clone())),
        _ => {
            return Err(ExpandError::Addition {
                destination: file.destination.clone(),
            });
        }
    };
    Ok(Literal::Map(vec![
        from,
        ("destination", Literal::Text(file.destination.clone())),
        ("permissions", Literal::Quoted(file.permissions.clone())),
    ]))
}

fn at<'v>(config: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(config, |value, key| value.get(key))
}

fn holds(list: Option<&Value>, item: &Value) -> bool {
    list.and_then(Value::as_sequence)
        .is_some_and(|list| list.contains(item))
}

/// systemctl(1) adds `.service` to a name without a suffix.
fn enables(list: Option<&Value>, unit: &str) -> bool {
    let unit = unit.strip_suffix(".service").unwrap_or(unit);
    list.and_then(Value::as_sequence).is_some_and(|list| {
        list.iter()
            .filter_map(Value::as_str)
            .any(|name| name.strip_suffix(".service").unwrap_or(name) == unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(config: &str) -> Literal {
        let enable = Enable::Services {
            units: vec!["systemd-sysext.service".to_owned()],
        };
        let additions = Additions {
            files: Vec::new(),
            enable,
        };
        missing(&serde_yaml::from_str(config).unwrap(), &additions).unwrap()
    }

    #[test]
    fn a_unit_is_enabled_under_either_of_its_names() {
        let nothing = Literal::Map(Vec::new());
        assert_eq!(
            service("os: {services: {enable: [systemd-sysext]}}"),
            nothing
        );
        assert_eq!(
            service("os: {services: {enable: [systemd-sysext.service]}}"),
            nothing
        );
        assert_ne!(
            service("os: {services: {enable: [systemd-sysext.socket]}}"),
            nothing
        );
        assert_ne!(
            service("os: {services: {disable: [systemd-sysext]}}"),
            nothing
        );
    }

    #[test]
    fn a_file_given_twice_is_added_once_and_both_or_no_origins_are_refused() {
        let file = AdditionalFile {
            source: Some("a".to_owned()),
            content: None,
            destination: "/a".to_owned(),
            permissions: "644".to_owned(),
        };
        let additions = Additions {
            files: vec![file.clone(), file.clone()],
            enable: Enable::None,
        };
        let Literal::Map(root) = missing(&Value::Null, &additions).unwrap() else {
            panic!()
        };
        let item = "- source: a\n  destination: /a\n  permissions: '644'\n";
        let expected: Value = serde_yaml::from_str(item).unwrap();
        assert_eq!(root[0].1.to_value()["additionalFiles"], expected);

        let neither = AdditionalFile {
            source: None,
            ..file
        };
        let additions = Additions {
            files: vec![neither],
            enable: Enable::None,
        };
        assert!(missing(&Value::Null, &additions).is_err());
    }
}
