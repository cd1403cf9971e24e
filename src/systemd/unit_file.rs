//! The syntax of unit files, as far as facts and rules need it.

/// Whether a link target is `/dev/null`, which masks.
pub(crate) fn is_dev_null(target: &str) -> bool {
    let climbed = target.trim_start_matches("../");
    target == "/dev/null" || (climbed != target && climbed == "dev/null")
}

/// Words of a setting, quoted as a whole or in part.
pub(crate) fn split_command(text: &str) -> Vec<String> {
    let (mut split_command, mut open, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                open.get_or_insert_default();
            }
            None if c.is_whitespace() => split_command.extend(open.take()),
            _ => open.get_or_insert_default().push(c),
        }
    }
    split_command.extend(open);
    split_command
}
