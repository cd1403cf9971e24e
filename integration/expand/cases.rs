//! Expansion, case by case and at random.
//!
//! `testdata/expand/*.case` holds the cases: `==== NAME [ADDITIONS]`, the
//! input, `---->` and the exact output, or `----!` and what the error says.
//! Marks that editors would lose: `␍` is CR, `␂` the byte order mark, `␤` U+2028, `∎` at
//! the end of the last line takes its line break away. `BLESS=1` writes the
//! outputs that the code gives now; read the diff before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use prism_sysext::expand::{AdditionalFile, Additions, Enable, ExpandError, decode, expand};
use prism_sysext::systemd::drop_in::{enable_script, policy_drop_in, policy_path};
use prism_sysext::systemd::kind::ExtensionKind;
use serde_json::{Value, json};

struct Case {
    name: String,
    additions: String,
    input: String,
    expected: String,
}

fn cases_in(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap();
    let mut cases = Vec::new();
    for block in text.split("==== ").skip(1) {
        let (head, body) = block.split_once('\n').unwrap();
        let (name, additions) = head.strip_suffix(']').unwrap().split_once(" [").unwrap();
        let at = body.find("----").unwrap_or(body.len());
        cases.push(Case {
            name: name.to_owned(),
            additions: additions.to_owned(),
            input: body[..at].to_owned(),
            expected: body[at..].to_owned(),
        });
    }
    cases
}

fn unmark(text: &str) -> String {
    let text = text
        .replace('␍', "\r")
        .replace('␂', "\u{feff}")
        .replace('␤', "\u{2028}");
    text.strip_suffix("∎\n").map(str::to_owned).unwrap_or(text)
}

pub(super) fn mark(text: &str) -> String {
    let text = text
        .replace('\r', "␍")
        .replace('\u{feff}', "␂")
        .replace('\u{2028}', "␤");
    if text.ends_with('\n') {
        text
    } else {
        format!("{text}∎\n")
    }
}

pub(super) fn additions(words: &str) -> Additions {
    let mut additions = Additions {
        files: Vec::new(),
        enable: Enable::None,
    };
    for word in words.split_whitespace() {
        match word {
            "image" => additions.files.push(AdditionalFile {
                source: Some("k.raw".to_owned()),
                content: None,
                destination: "/var/lib/extensions/k.raw".to_owned(),
                permissions: "644".to_owned(),
            }),
            "policy" => additions.files.push(AdditionalFile {
                source: None,
                content: Some(
                    policy_drop_in(
                        ExtensionKind::Sysext,
                        "root=signed+absent:usr=signed+absent",
                    )
                    .text,
                ),
                destination: policy_path(ExtensionKind::Sysext),
                permissions: "644".to_owned(),
            }),
            "script" => {
                let (name, content) = enable_script(&[ExtensionKind::Sysext], false);
                additions.enable = Enable::Script { name, content };
            }
            "service" => {
                additions.enable = Enable::Services {
                    units: vec!["systemd-sysext.service".to_owned()],
                };
            }
            other => panic!("unknown addition {other}"),
        }
    }
    additions
}

#[test]
pub(super) fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/expand");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let bless = std::env::var_os("BLESS").is_some();
    let (mut count, mut failures) = (0, Vec::new());
    for file in files {
        let mut blessed = String::new();
        for case in cases_in(&file) {
            count += 1;
            let additions = additions(&case.additions);
            let input = unmark(&case.input);
            let found = match expand(&input, &additions) {
                Ok(output) => {
                    check_independently(&input, &additions, &output);
                    format!("---->\n{}", mark(&output))
                }
                Err(error) => format!("----!\n{error}\n").replace("\n\n", "\n"),
            };
            if found != case.expected {
                failures.push(format!(
                    "{}: {}\n--- expected\n{}--- found\n{found}",
                    file.display(),
                    case.name,
                    case.expected
                ));
            }
            let Case {
                name,
                additions,
                input,
                ..
            } = case;
            blessed.push_str(&format!("==== {name} [{additions}]\n{input}{found}"));
        }
        if bless {
            fs::write(&file, blessed).unwrap();
        }
    }
    assert!(count >= 90, "only {count} cases were found");
    assert!(bless || failures.is_empty(), "{}", failures.join("\n"));
}

// reads with another parser, and the intended model is built anew.

fn model(text: &str) -> Value {
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.starts_with(['#', '-', '.']))
    {
        return Value::Null;
    }
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn push(config: &mut Value, path: &[&str], item: Value) {
    let mut value = config;
    for key in path {
        if value.is_null() {
            *value = json!({});
        }
        value = value
            .as_object_mut()
            .unwrap()
            .entry(*key)
            .or_insert(Value::Null);
    }
    if value.is_null() {
        *value = json!([]);
    }
    let list = value.as_array_mut().unwrap();
    let same_unit = |other: &Value| {
        other
            .as_str()
            .zip(item.as_str())
            .is_some_and(|(a, b)| format!("{a}.service") == b)
    };
    if !list.contains(&item) && !list.iter().any(same_unit) {
        list.push(item);
    }
}

pub(super) fn check_independently(input: &str, additions: &Additions, output: &str) {
    let mut intended = model(input);
    if let Some(root) = intended.as_object_mut() {
        root.remove("sysext");
    }
    for file in &additions.files {
        let mut item = json!({"destination": file.destination, "permissions": file.permissions});
        if let Some(source) = &file.source {
            item["source"] = json!(source);
        }
        if let Some(content) = &file.content {
            item["content"] = json!(content);
        }
        push(&mut intended, &["os", "additionalFiles"], item);
    }
    match &additions.enable {
        Enable::Script { name, content } => {
            let step = json!({"name": name, "content": content});
            push(&mut intended, &["scripts", "postCustomization"], step);
        }
        Enable::Services { units } => {
            for unit in units {
                push(&mut intended, &["os", "services", "enable"], json!(unit));
            }
        }
        Enable::None => {}
    }
    assert_eq!(model(output), intended, "{input}\n=>\n{output}");
    // Expanding again changes nothing, with or without additions.
    assert_eq!(expand(output, additions).unwrap(), output, "again");
    let nothing = Additions {
        files: Vec::new(),
        enable: Enable::None,
    };
    assert_eq!(
        expand(output, &nothing).unwrap(),
        output,
        "without additions"
    );
}

#[test]
fn what_is_not_utf_8_is_named() {
    for (bytes, found) in [
        (b"\xff\xfeo\0s\0".as_slice(), "UTF-16"),
        (b"\xfe\xff\0o\0s", "UTF-16"),
        (b"o\0s\0", "UTF-16 without byte order mark"),
        (b"\0o\0s", "UTF-16 without byte order mark"),
        (b"\xff\xfe\0\0o\0\0\0", "UTF-32"),
        (b"os: \xff", "offset 4"),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, ExpandError::Encoding { .. }));
        assert!(error.to_string().contains(found), "{error}");
    }
    assert_eq!(decode("\u{feff}os: ü".as_bytes()).unwrap(), "\u{feff}os: ü");
    assert_eq!(decode(b"").unwrap(), "");
}

#[test]
fn large_files_take_no_time_to_speak_of() {
    let mut text = "os:\n  additionalFiles:\n".to_owned();
    for index in 0..10_000 {
        text.push_str(&format!(
            "  - source: f{index} # {index}\n    destination: /f{index}\n"
        ));
    }
    text.push_str("sysext: 1\n");
    let start = std::time::Instant::now();
    expand(&text, &additions("image script")).unwrap();
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
