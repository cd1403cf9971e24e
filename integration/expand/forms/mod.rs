//! Expansion of configs in every form that YAML has for them, and of the same after mutilation.
//!
//! `PRISM_SYSEXT_CASES=N` tries N of each instead of 3000.

mod yaml;

use prism_sysext::expand::{AdditionalFile, Additions, Enable, ExpandError, expand};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestError, TestRunner};
use serde_yaml::Value;

use crate::expand::mutilate::{cuts, mangled};
use yaml::{Form, Tape, form};

fn cases() -> u32 {
    let wanted = std::env::var("PRISM_SYSEXT_CASES").ok();
    wanted.map_or(3000, |text| text.parse().unwrap())
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases())
    };
    match TestRunner::new(config).run(strategy, test) {
        Ok(()) => {}
        // The tape itself says nothing to a reader.
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn tape() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..250)
}

fn additions() -> impl Strategy<Value = Additions> {
    let file = |from: &str, text: Option<&str>, to: &str| AdditionalFile {
        source: text.is_none().then(|| from.to_owned()),
        content: text.map(str::to_owned),
        destination: to.to_owned(),
        permissions: "644".to_owned(),
    };
    let files = vec![
        file(".sysext/k.raw", None, "/var/lib/extensions/k.raw"),
        file(
            "",
            Some("[Service]\nExecStart=\n"),
            "/etc/systemd/system/x.d/50.conf",
        ),
    ];
    let enable = vec![
        Enable::None,
        Enable::Script {
            name: "sysext-enable".to_owned(),
            content: "set -eu\nsystemctl enable systemd-sysext.service\n".to_owned(),
        },
        Enable::Services {
            units: vec!["systemd-sysext.service".to_owned()],
        },
    ];
    (
        prop::sample::subsequence(files, 0..=2),
        prop::sample::select(enable),
    )
        .prop_map(|(files, enable)| Additions { files, enable })
}

const NOTHING: Additions = Additions {
    files: Vec::new(),
    enable: Enable::None,
};

/// The data of a text, merge keys resolved; `None` when it is not YAML for `serde_yaml`.
fn data(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    let mut value: Value = serde_yaml::from_str(text).ok()?;
    value.apply_merge().ok()?;
    Some(value)
}

/// What Prism's program for the data would be: `config` without the section and with `additions`.
fn planned(config: &Value, additions: &Additions) -> Value {
    let mut config = config.clone();
    if let Value::Mapping(root) = &mut config {
        root.remove("sysext");
    }
    let text = |text: &str| Value::String(text.to_owned());
    for file in &additions.files {
        let mut item = serde_yaml::Mapping::new();
        for (key, value) in [("source", &file.source), ("content", &file.content)] {
            if let Some(value) = value {
                item.insert(text(key), text(value));
            }
        }
        item.insert(text("destination"), text(&file.destination));
        item.insert(text("permissions"), text(&file.permissions));
        append(
            &mut config,
            &["os", "additionalFiles"],
            Value::Mapping(item),
        );
    }
    match &additions.enable {
        Enable::None => {}
        Enable::Script { name, content } => {
            let mut step = serde_yaml::Mapping::new();
            step.insert(text("name"), text(name));
            step.insert(text("content"), text(content));
            append(
                &mut config,
                &["scripts", "postCustomization"],
                Value::Mapping(step),
            );
        }
        Enable::Services { units } => {
            for unit in units {
                append(&mut config, &["os", "services", "enable"], text(unit));
            }
        }
    }
    config
}

fn append(config: &mut Value, path: &[&str], item: Value) {
    let mut here = config;
    for key in path {
        here = untagged(here);
        if here.is_null() {
            *here = Value::Mapping(serde_yaml::Mapping::new());
        }
        let Value::Mapping(map) = here else { return };
        here = map
            .entry(Value::String((*key).to_owned()))
            .or_insert(Value::Null);
    }
    here = untagged(here);
    if here.is_null() {
        *here = Value::Sequence(Vec::new());
    }
    if let Value::Sequence(list) = here
        && !list.contains(&item)
        && !list.iter().any(|other| same_unit(other, &item))
    {
        list.push(item);
    }
}

/// Prism passes over tags that it does not know.
fn untagged(mut value: &mut Value) -> &mut Value {
    while let Value::Tagged(tagged) = value {
        value = &mut tagged.value;
    }
    value
}

fn same_unit(a: &Value, b: &Value) -> bool {
    let pair = a.as_str().zip(b.as_str());
    pair.is_some_and(|(a, b)| a.trim_end_matches(".service") == b.trim_end_matches(".service"))
}

/// `null` and an empty mapping are one for a file that holds nothing else.
fn settled(value: Value) -> Value {
    match value {
        Value::Mapping(map) if map.is_empty() => Value::Null,
        other => other,
    }
}

fn is_subsequence(text: &str, of: &str) -> bool {
    let mut rest = of.chars();
    text.chars().all(|c| rest.any(|other| other == c))
}

/// Everything that an expansion has to keep to.
fn judge(text: &str, additions: &Additions, output: &str) -> TestCaseResult {
    let (before, after) = (data(text), data(output));
    prop_assert!(before.is_some() && after.is_some(), "{text}\n=>\n{output}");
    let intended = planned(&before.unwrap_or_default(), additions);
    prop_assert_eq!(
        settled(after.unwrap_or_default()),
        settled(intended),
        "{}\n=>\n{}",
        text,
        output
    );
    // A second reader, of YAML 1.2, where it knows the tags.
    let saphyr = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).ok();
    if !text.contains('!')
        && let (Some(mut before), Some(mut after)) = (saphyr(text), saphyr(output))
    {
        for value in [&mut before, &mut after] {
            if let Some(map) = value.as_object_mut() {
                map.retain(|key, _| !["sysext", "os", "scripts"].contains(&key.as_str()));
            }
        }
        if before.is_object() && after.is_object() {
            prop_assert_eq!(after, before, "{}\n=>\n{}", text, output);
        }
    }
    for additions in [additions, &NOTHING] {
        let again = expand(output, additions).map_err(|error| error.to_string());
        prop_assert_eq!(again, Ok(output.to_owned()), "again\n{}", text);
    }
    Ok(())
}

/// A refusal names the line to look at.
fn placed(text: &str, error: &ExpandError) -> TestCaseResult {
    let lines = text.split('\n').count();
    match error.place() {
        Some((line, column)) => {
            prop_assert!((1..=lines + 1).contains(&line), "{}\n{}", error, text);
            prop_assert!(
                column.is_none_or(|column| column > 0),
                "{}\n{}",
                error,
                text
            );
            let named = error.to_string().contains(&format!("line {line}"));
            prop_assert!(named, "{}\n{}", error, text);
        }
        None => prop_assert!(false, "no place: {}\n{}", error, text),
    }
    Ok(())
}

#[test]
fn a_config_without_section_is_what_it_was() {
    run(&tape(), |bytes| {
        let Form { text, .. } = form(&mut Tape::new(&bytes), false);
        prop_assert!(
            data(&text).is_some(),
            "the generator wrote no YAML:\n{text}"
        );
        let output = expand(&text, &NOTHING);
        prop_assert_eq!(output.map_err(|error| error.to_string()), Ok(text));
        Ok(())
    });
}

#[test]
fn a_section_goes_and_what_is_planned_comes() {
    let (done, refused) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    run(&(tape(), additions()), |(bytes, additions)| {
        let Form { text, kept } = form(&mut Tape::new(&bytes), true);
        prop_assert!(
            data(&text).is_some(),
            "the generator wrote no YAML:\n{text}"
        );
        match expand(&text, &additions) {
            Ok(output) => {
                done.set(done.get() + 1);
                judge(&text, &additions, &output)?;
                prop_assert_eq!(output.starts_with('\u{feff}'), text.starts_with('\u{feff}'));
                if text.contains("\r\n") && output.contains('\n') {
                    prop_assert_eq!(output.matches('\n').count(), output.matches("\r\n").count());
                } else {
                    prop_assert!(!output.contains('\r'));
                }
                let mut lines = output.lines();
                for line in kept {
                    // An edit may replace nothing by something.
                    let nothing = ["[]", "{}", "null", "~"];
                    let wanted = nothing
                        .iter()
                        .fold(line.clone(), |line, it| line.replace(it, ""));
                    let wanted = wanted.replace(' ', "");
                    prop_assert!(
                        lines.any(|line| is_subsequence(&wanted, line)),
                        "{line:?} is lost\n{text}\n=>\n{output}"
                    );
                }
            }
            Err(error) => {
                refused.set(refused.get() + 1);
                placed(&text, &error)?;
                let known = matches!(error, ExpandError::Refused { .. });
                prop_assert!(known, "{}\n{}", error, text);
            }
        }
        Ok(())
    });
    assert!(
        done.get() > 3 * refused.get(),
        "{} expanded, {} refused: the generator draws too much that is refused",
        done.get(),
        refused.get()
    );
}

#[test]
fn a_mutilated_config_is_edited_right_or_refused_with_its_place() {
    run(
        &(tape(), additions(), any::<bool>(), cuts(4)),
        |(bytes, additions, section, cuts)| {
            let Form { text, .. } = form(&mut Tape::new(&bytes), section);
            let text = mangled(text, cuts);
            match expand(&text, &additions) {
                Ok(output) => judge(&text, &additions, &output),
                Err(error) => placed(&text, &error),
            }
        },
    );
}
