//! mkosi's dialect of INI (`parse_ini`, mkosi/config.py).
//!
//! A setting may be written several times; indented lines continue the value
//! above them, each as a line of its own; `#` begins a comment anywhere.

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Name of the section without brackets.
    pub section: String,
    /// What stands before the `=`.
    pub name: String,
    /// What stands after it, and the lines that continue it, joined by line breaks.
    pub value: String,
    /// Line of the name, from 1.
    pub line: usize,
}

/// Why a text is not mkosi's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: &'static str,
}

/// A file: its assignments in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    /// The assignments.
    pub settings: Vec<Setting>,
    /// All sections with their lines, also empty ones.
    pub sections: Vec<(String, usize)>,
}

/// Reads a text.
///
/// # Errors
/// The first line that is not of mkosi's syntax.
pub fn parse(text: &str) -> Result<Ini, SyntaxError> {
    let margin = margin(text);
    let mut ini = Ini::default();
    // Whether the last thing was an assignment, which an indented line continues.
    let mut open = false;
    for (index, whole) in text.lines().enumerate() {
        let line = index.saturating_add(1);
        let bad = |message| SyntaxError { line, message };
        let dedented = whole.strip_prefix(margin).unwrap_or_default();
        let content = dedented.split('#').next().unwrap_or_default();
        let trimmed = content.trim();
        if trimmed.is_empty() {
            continue;
        }
        if open
            && content.starts_with(char::is_whitespace)
            && let Some(last) = ini.settings.last_mut()
        {
            last.value.push('\n');
            last.value.push_str(trimmed);
            continue;
        }
        open = false;
        if let Some(rest) = trimmed.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or(bad("expected `]`"))?.trim();
            if name.is_empty() {
                return Err(bad("the section has no name"));
            }
            ini.sections.push((name.to_owned(), line));
            continue;
        }
        let Some((section, _)) = ini.sections.last() else {
            return Err(bad("a setting before the first section"));
        };
        let (name, value) = trimmed.split_once('=').ok_or(bad("expected `=`"))?;
        if name.trim().is_empty() {
            return Err(bad("expected a name before `=`"));
        }
        ini.settings.push(Setting {
            section: section.clone(),
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            line,
        });
        open = true;
    }
    Ok(ini)
}

/// The blanks with which every line begins that has something else, as Python's `textwrap.dedent`.
fn margin(text: &str) -> &str {
    let mut margin: Option<&str> = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let rest = line.trim_start_matches([' ', '\t']);
        let indent = line.strip_suffix(rest).unwrap_or_default();
        margin = Some(match margin {
            None => indent,
            Some(margin) => common(margin, indent),
        });
    }
    margin.unwrap_or_default()
}

/// The longest common beginning.
fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let equal = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
    // Blanks and tabs alone, so every byte is a character.
    one.get(..equal.count()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let settings = parse(text).unwrap().settings.into_iter();
        settings.map(|it| (it.name, it.value)).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn settings_repeat_continue_and_end() {
        let text =
            "[Output]\nFormat = sysext # this\nA=\n  b\n\n  # c\n\td, e\nA=f=g\n[Content]\nA=\n";
        let expected = [
            pair("Format", "sysext"),
            pair("A", "\nb\nd, e"),
            pair("A", "f=g"),
            pair("A", ""),
        ];
        assert_eq!(pairs(text), expected);
        let ini = parse(text).unwrap();
        assert_eq!(ini.settings[1].line, 3);
        assert_eq!(ini.settings[3].section, "Content");
        assert_eq!(ini.sections[1], ("Content".to_owned(), 9));
    }

    #[test]
    fn a_text_that_is_indented_as_a_whole_is_none() {
        let text = "  [Output]\n\n  A=1\n    2\n  B=3\n";
        assert_eq!(pairs(text), [pair("A", "1\n2"), pair("B", "3")]);
        let mixed = "\t[O]\n\tA=1\n\t b\n";
        assert_eq!(pairs(mixed), [pair("A", "1\nb")]);
    }

    #[test]
    fn an_indented_section_after_a_setting_is_part_of_its_value() {
        assert_eq!(pairs("[O]\nA=1\n [P]\n"), [pair("A", "1\n[P]")]);
    }

    #[test]
    fn what_mkosi_refuses_is_refused_at_its_line() {
        for (text, line) in [
            ("A=1\n", 1),
            ("[O]\nA\n", 2),
            ("[O]\n\n=1\n", 3),
            ("[O\n", 1),
            ("[ ]\n", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
        assert_eq!(parse("").unwrap(), Ini::default());
    }
}
