//! Findings for other people's programs: SARIF for code scanning, JUnit for build servers.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::finding::catalog;

/// A finding as JSON, with the config that it is about.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The config, if there is one.
    pub config: Option<PathBuf>,
    /// What `--output json` says of it.
    pub value: Value,
}

impl Row {
    fn text(&self, key: &str) -> &str {
        self.value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn id(&self) -> &str {
        match self.text("id") {
            "" => "error",
            id => id,
        }
    }

    /// Line and column, both from 1.
    fn position(&self) -> Option<(u64, u64)> {
        let position = &self.value["place"]["position"];
        let number = |key: &str| self.value.get(key).or(position.get(key))?.as_u64();
        Some((number("line")?, number("column")?))
    }

    fn file(&self) -> Option<String> {
        let named = self.value["place"]["file"].as_str().map(PathBuf::from);
        let path = named.or_else(|| self.config.clone())?;
        let path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
        Some(path.display().to_string())
    }

    fn message(&self) -> String {
        let mut text = self.text("message").to_owned();
        for (key, before) in [("rule", "because "), ("help", "help: ")] {
            let more = self.text(key);
            if !more.is_empty() {
                text.push_str(&format!("\n{before}{more}"));
            }
        }
        text
    }
}

/// SARIF 2.1.0 (OASIS), as GitHub's code scanning takes it.
pub(crate) fn sarif(rows: &[Row]) -> String {
    let mut ids: Vec<&str> = rows.iter().map(Row::id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rules: Vec<Value> = ids
        .iter()
        .map(|id| {
            let about = catalog::of(id).unwrap_or("What went wrong is told by the message.");
            json!({"id": id, "shortDescription": {"text": id}, "fullDescription": {"text": about}, "help": {"text": about}})
        })
        .collect();
    let results: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut result = json!({
                "ruleId": row.id(),
                "ruleIndex": ids.iter().position(|id| *id == row.id()),
                "level": row.text("severity"),
                "message": {"text": row.message()},
            });
            let Some(file) = row.file() else {
                return result;
            };
            let mut place = json!({"artifactLocation": {"uri": uri(&file)}});
            if let Some((line, column)) = row.position() {
                place["region"] = json!({"startLine": line, "startColumn": column});
            }
            result["locations"] = json!([{"physicalLocation": place}]);
            result
        })
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "prism-sysext",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

/// A path as a URI reference (RFC 3986): what is not plain is encoded byte by byte.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
    let encoded = path.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// JUnit's XML as build servers read it: a case for each finding, failed if it is an error; one that
/// passed if there is none.
pub(crate) fn junit(rows: &[Row]) -> String {
    let failures = rows.iter().filter(|row| row.text("severity") == "error");
    let counts = format!(
        "tests=\"{}\" failures=\"{}\"",
        rows.len().max(1),
        failures.count()
    );
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n<testsuite name=\"prism-sysext\" {counts}>\n"
    );
    if rows.is_empty() {
        text.push_str("<testcase classname=\"prism-sysext\" name=\"no findings\"/>\n");
    }
    for row in rows {
        let mut class = row.file().unwrap_or_else(|| "prism-sysext".to_owned());
        if let Some((line, column)) = row.position() {
            class.push_str(&format!(":{line}:{column}"));
        }
        let (class, id) = (escaped(&class), escaped(row.id()));
        let said = escaped(&row.message());
        let message = escaped(row.text("message"));
        text.push_str(&format!("<testcase classname=\"{class}\" name=\"{id}\">\n"));
        match row.text("severity") {
            "error" => text.push_str(&format!(
                "<failure type=\"{id}\" message=\"{message}\">{said}</failure>\n"
            )),
            severity => text.push_str(&format!("<system-out>{severity}: {said}</system-out>\n")),
        }
        text.push_str("</testcase>\n");
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

/// Text within XML; characters that XML 1.0 has no form for become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push(c),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        Row {
            config: Some(PathBuf::from("./my config.yaml")),
            value,
        }
    }

    #[test]
    fn places_are_where_the_readers_look_for_them() {
        let rows = [
            row(
                json!({"id": "prism-bad-value", "severity": "error", "message": "a < b", "place": {"position": {"line": 3, "column": 5}}}),
            ),
            row(
                json!({"id": "bad-path", "severity": "warning", "message": "m", "place": {"yaml": "os"}, "line": 1, "column": 2, "help": "h"}),
            ),
            row(json!({"severity": "error", "message": "m", "place": {"file": "k.raw"}})),
        ];
        let log: Value = serde_json::from_str(&sarif(&rows)).unwrap();
        let results = log["runs"][0]["results"].as_array().unwrap();
        let place = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "my%20config.yaml");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 5}));
        assert_eq!(
            results[1]["locations"][0]["physicalLocation"]["region"]["startColumn"],
            2
        );
        assert_eq!(results[1]["message"]["text"], "m\nhelp: h");
        assert_eq!(results[2]["ruleId"], "error");
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            let rule = &log["runs"][0]["tool"]["driver"]["rules"][index];
            assert_eq!(rule["id"], result["ruleId"]);
        }
        let xml = junit(&rows);
        assert!(
            xml.contains("tests=\"3\" failures=\"2\"") && xml.contains("a &lt; b"),
            "{xml}"
        );
        assert!(xml.contains("classname=\"my config.yaml:3:5\""), "{xml}");
        assert!(junit(&[]).contains("failures=\"0\""));
    }
}
