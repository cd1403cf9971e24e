//! The long text of every finding, for `explain ID`.

/// One section for each id, in the order of the ids.
const TEXTS: &str = include_str!("findings.md");

/// The ids and texts of all findings.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let sections = TEXTS.split("## ").skip(1);
    sections.filter_map(|section| {
        let (id, text) = section.split_once('\n')?;
        Some((id, text.trim()))
    })
}

/// What a finding means, where it comes from and what can be done.
pub(crate) fn of(id: &str) -> Option<&'static str> {
    all().find(|(known, _)| *known == id).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That every finding has a text is asserted where findings are made, in all tests.
    #[test]
    fn texts_are_in_order_and_say_something() {
        let ids: Vec<&str> = all().map(|(id, _)| id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        for (id, text) in all() {
            assert!(text.len() > 50 && text.ends_with('.'), "{id}: {text}");
        }
    }

    #[test]
    fn no_text_is_left_over() {
        let mut sources = String::new();
        for entry in walkdir::WalkDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")) {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|it| it == "rs") {
                sources += &std::fs::read_to_string(entry.path()).unwrap();
            }
        }
        for (id, _) in all() {
            assert!(sources.contains(&format!("\"{id}\"")), "{id} is never said");
        }
    }
}
