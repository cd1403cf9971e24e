//! Whole config files: each of testdata/invalid has one mistake, which `validate-config` finds at its line and
//! column and nothing else with it; in testdata/valid it finds nothing. Two JSON schema validators, one
//! of them in another language, agree on which mistakes the schema catches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::said::Said;
use crate::harness::tools::{command, have, run};
use crate::harness::workspace::PROGRAM;

/// The files of a folder of testdata that end so.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(folder);
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().unwrap() == "yaml")
        .collect();
    files.sort();
    files
}

fn validated(config: &Path, form: &str) -> Said {
    let mut command = Command::new(PROGRAM);
    command
        .args(["validate-config", "--output", form, "--config-file"])
        .arg(config);
    Said::of(&mut command)
}

/// What was found, a line each, such as `error[prism-bad-value] 3:5`.
fn found(config: &Path) -> Vec<String> {
    let said = validated(config, "json").json();
    let findings = said["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| {
            let place = &finding["place"]["position"];
            let at = |key: &str| finding.get(key).unwrap_or(&place[key]).as_u64().unwrap();
            let (severity, id) = (
                finding["severity"].as_str().unwrap(),
                finding["id"].as_str().unwrap(),
            );
            format!("{severity}[{id}] {}:{}", at("line"), at("column"))
        })
        .collect()
}

/// What is expected of a file, and whether the schema catches it.
fn expected(config: &Path) -> (String, String) {
    let text = fs::read_to_string(config.with_extension("expected")).unwrap();
    let (finding, schema) = text.trim_end().split_once("\nschema: ").unwrap();
    (finding.to_owned(), schema.to_owned())
}

#[test]
fn every_mistake_is_found_where_it_is_and_nothing_else() {
    let files = files("invalid");
    assert!(files.len() >= 200, "{}", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let (expected, _) = expected(file);
        let found = found(file);
        if found != [expected.as_str()] {
            wrong.push(format!(
                "{}: expected {expected}, found {found:?}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_found_in_what_prism_takes() {
    let files = files("valid");
    assert!(files.len() >= 50, "{}", files.len());
    for file in &files {
        let said = validated(file, "text");
        assert_eq!(
            (said.status, said.err.as_str()),
            (Some(0), ""),
            "{}: {said:?}",
            file.display()
        );
    }
}

/// Whether the schema takes each file, by the validator of another language.
fn judged_by_python(files: &[PathBuf]) -> BTreeMap<PathBuf, bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = run(command("/usr/bin/python3")
        .arg(root.join("integration/config/judge_schema.py"))
        .arg(root.join("schema/prism-sysext.schema.json"))
        .args(files));
    let lines = said.lines().map(|line| {
        let (verdict, path) = line.split_once(' ').unwrap();
        (PathBuf::from(path), verdict == "valid")
    });
    lines.collect()
}

/// The same by the validator of ours; nothing where the YAML can't be read.
fn judged_by_rust(file: &Path) -> Option<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = fs::read_to_string(root.join("schema/prism-sysext.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let text = text.trim_start_matches('\u{feff}');
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    value.apply_merge().ok()?;
    let value = serde_json::to_value(value).unwrap();
    Some(jsonschema::is_valid(&schema, &value))
}

#[test]
fn two_validators_agree_with_what_the_schema_is_said_to_catch() {
    let python = have(&["/usr/bin/python3"])
        && command("/usr/bin/python3")
            .args(["-c", "import jsonschema, yaml"])
            .output()
            .unwrap()
            .status
            .success();
    assert!(
        python || std::env::var_os("CI").is_none(),
        "python3-jsonschema and python3-yaml are needed here"
    );
    let mut all = Vec::new();
    for file in files("invalid") {
        let (_, schema) = expected(&file);
        match schema.as_str() {
            // YAML readers differ in what it is: duplicate keys, second documents, `0o644`.
            "unread" => {}
            verdict => all.push((file.clone(), verdict == "missed")),
        }
    }
    assert!(all.iter().filter(|(_, passes)| !passes).count() >= 100);
    all.extend(files("valid").into_iter().map(|file| (file, true)));
    let examples = walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    for entry in examples {
        let entry = entry.unwrap();
        if entry.file_name() == "config.yaml" {
            all.push((entry.into_path(), true));
        }
    }
    let paths: Vec<PathBuf> = all.iter().map(|(path, _)| path.clone()).collect();
    let by_python = if python {
        judged_by_python(&paths)
    } else {
        eprintln!("SKIPPED: python3-jsonschema and python3-yaml are not installed");
        BTreeMap::new()
    };
    for (path, passes) in &all {
        assert_eq!(judged_by_rust(path), Some(*passes), "{}", path.display());
        if python {
            assert_eq!(by_python.get(path), Some(passes), "{}", path.display());
        }
    }
}

#[test]
fn code_scanning_and_build_servers_can_read_it() {
    let bad = files("invalid")
        .into_iter()
        .find(|path| path.ends_with("bad-hostname.yaml"))
        .unwrap();
    let good = files("valid").into_iter().next().unwrap();
    let log: Value = serde_json::from_str(&validated(&bad, "sarif").out).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "prism-bad-value");
    assert_eq!(result["level"], "error");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(
        place["region"],
        serde_json::json!({"startLine": 2, "startColumn": 13})
    );
    assert!(
        place["artifactLocation"]["uri"]
            .as_str()
            .unwrap()
            .ends_with("bad-hostname.yaml")
    );
    let clean: Value = serde_json::from_str(&validated(&good, "sarif").out).unwrap();
    assert_eq!(clean["runs"][0]["results"], serde_json::json!([]));

    if !have(&["python3"]) {
        return;
    }
    let counts = |config: &Path| {
        let script = "import sys, xml.etree.ElementTree as tree; suite = tree.fromstring(sys.argv[1].encode()); print(suite.get('tests'), suite.get('failures'), len(suite.findall('.//testcase')), len(suite.findall('.//failure')))";
        run(command("python3").args(["-c", script, &validated(config, "junit").out]))
    };
    assert_eq!(counts(&bad).trim(), "1 1 1 1");
    assert_eq!(counts(&good).trim(), "1 0 1 0");
    // A file that is not there is a result, too.
    let gone = validated(Path::new("/nonexistent/config.yaml"), "junit");
    assert!(gone.out.contains("config-unreadable"), "{gone:?}");
}
