//! Expansion, case by case and at random.
//!
//! `testdata/expand/*.case` holds the cases: `==== NAME [ADDITIONS]`, the
//! input, `---->` and the exact output, or `----!` and what the error says.
//! Marks that editors would lose: `␍` is CR, `␂` the byte order mark, `␤` U+2028, `∎` at
//! the end of the last line takes its line break away. `BLESS=1` writes the
//! outputs that the code gives now; read the diff before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::expand::mutilate::{cuts, mangled};
use prism_sysext::expand::{AdditionalFile, Additions, Enable, ExpandError, decode, expand};
use prism_sysext::systemd::drop_in::{enable_script, policy_drop_in, policy_path};
use prism_sysext::systemd::kind::ExtensionKind;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};

// --- the cases

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

fn mark(text: &str) -> String {
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

fn additions(words: &str) -> Additions {
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
fn cases() {
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

// --- the independent check: serde-saphyr reads what the proof of the code
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

fn check_independently(input: &str, additions: &Additions, output: &str) {
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

// --- at random

/// How the generated config is written.
#[derive(Debug, Clone, Copy)]
struct Style {
    step: usize,
    list_step: usize,
    crlf: bool,
    mark: bool,
    open_end: bool,
    blank_lines: bool,
    comments: bool,
}

fn style() -> impl Strategy<Value = Style> {
    (1..5_usize, 0..5_usize, any::<[bool; 5]>()).prop_map(|(step, list_step, flags)| {
        let [crlf, mark, open_end, blank_lines, comments] = flags;
        Style {
            step,
            list_step,
            crlf,
            mark,
            open_end,
            blank_lines,
            comments,
        }
    })
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x".to_owned()),
        Just("0644".to_owned()),
        Just("yes".to_owned()),
        Just("\"a # b: c\"".to_owned()),
        Just("'it''s'".to_owned()),
        Just("ünï".to_owned()),
        Just("a b".to_owned()),
        Just("{k: v}".to_owned()),
        Just("[1, \"2\"]".to_owned()),
    ]
}

/// Lines of one section, relative to column 0.
fn section(style: Style) -> impl Strategy<Value = Vec<String>> {
    let (step, dash) = (" ".repeat(style.step), " ".repeat(style.list_step));
    let files = {
        let (step, dash) = (step.clone(), dash.clone());
        prop::collection::vec((scalar(), any::<bool>()), 0..4).prop_map(move |items| {
            let mut lines = vec!["os:".to_owned(), format!("{step}hostname: x  # host")];
            if items.is_empty() {
                lines.push(format!("{step}additionalFiles: []"));
                return lines;
            }
            lines.push(format!("{step}additionalFiles:"));
            for (scalar, block) in items {
                lines.push(format!("{step}{dash}- destination: {scalar}"));
                if block {
                    lines.push(format!("{step}{dash}  content: |"));
                    lines.push(format!("{step}{dash}    # text"));
                    lines.push(String::new());
                    lines.push(format!("{step}{dash}    - more: text"));
                }
            }
            lines
        })
    };
    let services = {
        let step = step.clone();
        prop::collection::vec(scalar(), 0..3).prop_map(move |units| {
            vec![
                "os:".to_owned(),
                format!("{step}services: {{enable: [{}]}}", units.join(", ")),
            ]
        })
    };
    let scripts = (scalar(), 0..3_u8).prop_map(move |(text, kind)| match kind {
        0 => vec!["scripts:".to_owned()],
        1 => vec!["scripts: {}".to_owned()],
        _ => vec![
            "scripts:".to_owned(),
            format!("{step}postCustomization:"),
            format!("{step}{dash}- name: {text}"),
            format!("{step}{dash}  content: |-"),
            format!("{step}{dash}    exit 0"),
        ],
    });
    prop_oneof![
        files,
        services,
        scripts,
        Just(vec!["storage: {bootType: efi}".to_owned()])
    ]
}

/// A config in block style, and the same without its `sysext` section.
fn config(with_section: bool) -> impl Strategy<Value = (String, String)> {
    (style(), 0..5_usize).prop_flat_map(move |(style, at)| {
        prop::collection::vec(section(style), 0..4).prop_map(move |sections| {
            let mut keys: Vec<String> = Vec::new();
            let mut blocks: Vec<Vec<String>> = Vec::new();
            for section in sections {
                let key = section[0].split(':').next().unwrap().to_owned();
                if !keys.contains(&key) {
                    keys.push(key);
                    blocks.push(section);
                }
            }
            let without = render(&blocks, style);
            if with_section {
                let step = " ".repeat(style.step);
                let lines = [
                    "sysext:".to_owned(),
                    format!("{step}a: {{b: [c]}} # d"),
                    format!("{step}e:"),
                ];
                blocks.insert(at.min(blocks.len()), lines.to_vec());
            }
            (render(&blocks, style), without)
        })
    })
}

fn render(blocks: &[Vec<String>], style: Style) -> String {
    let line_break = if style.crlf { "\r\n" } else { "\n" };
    let mut text = String::new();
    for (index, block) in blocks.iter().enumerate() {
        if index > 0 && style.blank_lines {
            text.push_str(line_break);
        }
        if style.comments {
            text.push_str(&format!("# about {}{line_break}", block[0]));
        }
        for line in block {
            text.push_str(line);
            text.push_str(line_break);
        }
    }
    if style.open_end {
        text.truncate(text.trim_end().len());
    }
    if style.mark {
        format!("\u{feff}{text}")
    } else {
        text
    }
}

fn some_additions() -> impl Strategy<Value = Additions> {
    let words = [
        "",
        "image",
        "policy",
        "image script",
        "service",
        "policy image service",
        "script",
    ];
    prop::sample::select(words.to_vec()).prop_map(additions)
}

/// Comment lines, which no value shows.
fn comments(text: &str) -> Vec<&str> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("# about"))
        .collect()
}

/// 600 cases of each, or as many as `PROPTEST_CASES` says.
fn config_of_the_run() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.and_then(|it| it.parse().ok()).unwrap_or(600))
    }
}

proptest! {
    #![proptest_config(config_of_the_run())]

    #[test]
    fn without_section_and_additions_nothing_changes((text, _) in config(false)) {
        prop_assert_eq!(expand(&text, &additions("")).unwrap(), text);
    }

    #[test]
    fn with_section_only_what_was_planned_changes(
        (text, without) in config(true),
        added in some_additions(),
    ) {
        match expand(&text, &added) {
            Ok(output) => {
                check_independently(&text, &added, &output);
                prop_assert_eq!(output.starts_with('\u{feff}'), text.starts_with('\u{feff}'));
                if output.contains('\n') {
                    prop_assert_eq!(output.contains("\r\n"), text.contains("\r\n"));
                }
                prop_assert_eq!(output.matches('\r').count(), output.matches("\r\n").count());
                // Headers of the file stay, the section's own comment goes.
                let mut kept = comments(&without);
                if text.trim_start_matches('\u{feff}').starts_with("# about sysext") {
                    kept.insert(0, "# about sysext:");
                }
                prop_assert_eq!(comments(&output), kept);
                // The lines of the user, in their order.
                let mut lines = output.lines();
                for line in without.lines().filter(|line| !line.trim().is_empty()) {
                    let line = line.trim_end().strip_suffix("[]").or(line.strip_suffix("{}")).unwrap_or(line);
                    let line = line.trim_start_matches('\u{feff}').trim_end().trim_end_matches("]}");
                    prop_assert!(lines.any(|found| found.contains(line)), "{} lost in\n{}", line, output);
                }
            }
            // The one shape among these that has no safe edit.
            Err(error) => prop_assert!(
                error.to_string().contains("block scalar") && !text.ends_with('\n'), "{}\n{}", error, text
            ),
        }
    }

    #[test]
    fn mangled_configs_are_edited_right_or_refused(
        (text, _) in config(true),
        added in some_additions(),
        cuts in cuts(3),
    ) {
        let text = mangled(text, cuts);
        if let Ok(output) = expand(&text, &added) {
            rest_is_kept(&text, &added, &output)?;
        }
    }

    /// The configs of testdata/valid, which use every section of Prism, in their own form and as JSON.
    #[test]
    fn real_configs_change_by_what_was_planned_alone(
        (text, is_flow) in real_config(),
        at_front in any::<bool>(),
        added in some_additions(),
    ) {
        prop_assert_eq!(expand(&text, &additions("")).unwrap(), text.clone());
        let with_section = with_section(&text, is_flow, at_front);
        match expand(&with_section, &added) {
            Ok(output) => check_independently(&with_section, &added, &output),
            Err(error) => prop_assert!(names_its_place(&error), "{}\n{}", error, with_section),
        }
    }

    #[test]
    fn real_configs_mangled_are_edited_right_or_refused_with_the_place(
        (text, is_flow) in real_config(),
        at_front in any::<bool>(),
        added in some_additions(),
        cuts in cuts(9),
    ) {
        let text = mangled(with_section(&text, is_flow, at_front), cuts);
        match expand(&text, &added) {
            Ok(output) => rest_is_kept(&text, &added, &output)?,
            Err(error) => prop_assert!(names_its_place(&error), "{}\n{}", error, text),
        }
    }

    #[test]
    fn any_text_is_answered(text in "[ -~\n\t\r{}\\[\\]:,#&*!|>?'\"%@`-]{0,80}", added in some_additions()) {
        let _ = expand(&text, &added);
    }
}

/// What a section is not about stands as before, and a second expansion changes nothing.
fn rest_is_kept(text: &str, added: &Additions, output: &str) -> TestCaseResult {
    prop_assert_eq!(&expand(output, added).unwrap(), output);
    // Two YAML readings differ on some texts; where this one reads both, it must agree.
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).ok();
    if let (Some(Value::Object(mut before)), Some(Value::Object(after))) =
        (read(text), read(output))
    {
        before.remove("sysext");
        before.retain(|key, _| key != "os" && key != "scripts");
        for (key, value) in before {
            prop_assert_eq!(after.get(&key), Some(&value), "{}\n=>\n{}", text, output);
        }
        prop_assert!(!after.contains_key("sysext"));
    }
    Ok(())
}

/// A config of testdata/valid, as it is written or as JSON, and whether that is flow style.
fn real_config() -> impl Strategy<Value = (String, bool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/valid");
    let mut configs = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // Those with a section of their own are not for adding one.
        if text.contains("sysext") {
            continue;
        }
        let mut value: serde_yaml::Value =
            serde_yaml::from_str(text.trim_start_matches('\u{feff}')).unwrap();
        value.apply_merge().unwrap();
        if value.is_mapping() {
            configs.push((serde_json::to_string_pretty(&value).unwrap() + "\n", true));
            configs.push((serde_json::to_string(&value).unwrap(), true));
        }
        let is_flow = text.trim_start().starts_with('{');
        configs.push((text, is_flow));
    }
    configs.sort();
    assert!(configs.len() > 100);
    prop::sample::select(configs)
}

/// The config with a section, as its first or last key; a null becomes a mapping.
fn with_section(text: &str, is_flow: bool, at_front: bool) -> String {
    const FLOW: &str = "\"sysext\": {\"a\": [1, {}]}";
    const BLOCK: &str = "sysext:\n  a: {b: [c]} # d\n  e:\n";
    let end = text.trim_end().len();
    if is_flow {
        let open = text.find('{').unwrap() + 1;
        let is_empty = text[open..].trim_start().starts_with('}');
        let comma = if is_empty { "" } else { ", " };
        if at_front {
            return format!("{}{FLOW}{comma}{}", &text[..open], &text[open..]);
        }
        return format!(
            "{}{comma}{FLOW}}}{}",
            text[..end - 1].trim_end(),
            &text[end..]
        );
    }
    let block = if text.contains("\r\n") {
        BLOCK.replace('\n', "\r\n")
    } else {
        BLOCK.to_owned()
    };
    if text.trim() == "null" {
        return block;
    }
    let (marks, rest) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None if text.starts_with("---\n") => text.split_at(4),
        None => ("", text),
    };
    let (body, last) = match rest.strip_suffix("...\n") {
        Some(body) => (body, "...\n"),
        None => (rest, ""),
    };
    match at_front {
        true => format!("{marks}{block}{body}{last}"),
        false => format!("{marks}{body}{block}{last}"),
    }
}

/// Whether a refusal says where: a line, or that it is about the text as a whole.
fn names_its_place(error: &ExpandError) -> bool {
    match error {
        ExpandError::Syntax { line, .. }
        | ExpandError::Refused { line, .. }
        | ExpandError::SeveralDocuments { line } => {
            *line > 0 && error.to_string().contains(&line.to_string())
        }
        ExpandError::NotAMapping { .. } => error.to_string().contains("the top level"),
        ExpandError::Encoding { .. } | ExpandError::TooLarge { .. } => true,
        // Two readers disagree about the text; what differs is named, with lines to add by hand.
        ExpandError::Unproven { reason, .. } => !reason.is_empty(),
        ExpandError::Addition { .. } => false,
    }
}
