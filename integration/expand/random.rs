//! Expansion at random.

use std::fs;
use std::path::Path;

use prism_sysext::expand::{Additions, ExpandError, expand};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::Value;

use super::cases::{additions, check_independently};
use crate::expand::mutilate::{cuts, mangled};

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
pub(super) fn config(with_section: bool) -> impl Strategy<Value = (String, String)> {
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
