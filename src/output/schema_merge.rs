//! Our section put into a schema that somebody else publishes for Prism's config.
//!
//! The object of that schema is closed, so nothing can be added beside it (`allOf`); the property has to go
//! inside. It is put in as text, so that all the rest keeps its bytes.

use serde_json::Value;

use super::schema::block;
use crate::finding::Finding;
use crate::prism::node::{At, Body, Node, parse};

/// The schema with `sysext` among the properties of the whole file.
///
/// Refuses with `schema-merge` what is no JSON schema of a config, and one that knows a `sysext` of its own.
pub(crate) fn merge(text: &str) -> Result<String, Finding> {
    let refuse = |message: &str| Finding::error("schema-merge", message);
    let theirs: Value = serde_json::from_str(text)
        .map_err(|error| refuse(&format!("reading the schema as JSON: {error}")))?;
    let root = parse(text).ok_or_else(|| refuse("the schema is nested too deep"))?;
    let definitions = root.get("$defs");
    let config = match root.text_of("$ref") {
        None => Some(&root),
        Some(to) => to
            .strip_prefix("#/$defs/")
            .and_then(|name| definitions?.get(name)),
    };
    let properties = config.and_then(|config| config.get("properties"));
    let (Some(definitions), Some(properties)) = (definitions, properties) else {
        return Err(refuse(
            "the schema has no `$defs`, or no object with `properties` at its root",
        )
        .help("give the schema.json of Prism, as a release of azure-linux-image-tools has it"));
    };
    if properties.get("os").is_none() {
        return Err(refuse(
            "what the schema describes has no `os`, so it is no config of Prism",
        ));
    }
    if properties.get("sysext").is_some() {
        return Err(refuse("the schema has a `sysext` of its own")
            .because(
                "this version of Prism knows the section itself, and may mean something else by it",
            )
            .help("look for a newer prism-sysext"));
    }
    let mut ours = block();
    let mut added = Vec::new();
    if let Value::Object(map) = &mut ours {
        if let Some(Value::Object(nested)) = map.remove("$defs") {
            added.extend(nested);
        }
        map.remove("$schema");
        map.remove("$id");
    }
    added.push(("Sysext".to_owned(), ours));
    if let Some((name, _)) = added
        .iter()
        .find(|(name, _)| definitions.get(name).is_some())
    {
        return Err(refuse(&format!(
            "the schema has a definition `{name}` of its own"
        )));
    }
    let reference = serde_json::json!({"$ref": "#/$defs/Sysext"});
    let mut edits = vec![
        edit(text, definitions, &added)?,
        edit(text, properties, &[("sysext".to_owned(), reference)])?,
    ];
    // From the end, so that offsets stay right.
    edits.sort_by_key(|(offset, _)| std::cmp::Reverse(*offset));
    let mut merged = text.to_owned();
    for (offset, addition) in edits {
        merged.insert_str(offset, &addition);
    }
    prove(&theirs, &merged)?;
    Ok(merged)
}

/// Where members of an object begin, and the text of new ones in front of them.
fn edit(
    text: &str,
    object: &Node,
    members: &[(String, Value)],
) -> Result<(usize, String), Finding> {
    let misread = || Finding::error("schema-merge", "the schema is not written as expected");
    let offset = offset(text, object.at).ok_or_else(misread)?;
    let rest = text
        .get(offset..)
        .and_then(|rest| rest.strip_prefix('{'))
        .ok_or_else(misread)?;
    // As its first member is indented.
    let blank = rest.len() - rest.trim_start().len();
    let lead = rest.get(..blank).unwrap_or_default();
    let indent = lead.rsplit('\n').next().filter(|_| lead.contains('\n'));
    let is_empty = matches!(&object.body, Body::Map(entries) if entries.is_empty());
    let mut addition = String::new();
    for (index, (name, value)) in members.iter().enumerate() {
        let last = index + 1 == members.len();
        let text = match indent {
            Some(indent) => format!("{value:#}").replace('\n', &format!("\n{indent}")),
            None => value.to_string(),
        };
        let name = Value::String(name.clone());
        let comma = if last && is_empty { "" } else { "," };
        addition.push_str(&format!("{lead}{name}: {text}{comma}"));
    }
    Ok((offset + 1, addition))
}

/// The byte offset of a line and column.
fn offset(text: &str, at: At) -> Option<usize> {
    let line: usize = text
        .split_inclusive('\n')
        .take(at.line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let rest = text.get(line..)?;
    let (within, _) = rest.char_indices().nth(at.column.checked_sub(1)?)?;
    Some(line + within)
}

/// Without what was added it is what it was.
fn prove(theirs: &Value, merged: &str) -> Result<(), Finding> {
    let failed = || {
        Finding::error(
            "schema-merge",
            "the merged schema could not be proved right",
        )
    };
    let mut merged: Value = serde_json::from_str(merged).map_err(|_| failed())?;
    let config = match merged.get("$ref").and_then(Value::as_str) {
        Some(to) => to.replacen('#', "", 1),
        None => String::new(),
    };
    let properties = merged.pointer_mut(&format!("{config}/properties"));
    properties
        .and_then(Value::as_object_mut)
        .and_then(|map| map.remove("sysext"))
        .ok_or_else(failed)?;
    let known = theirs.get("$defs").and_then(Value::as_object);
    if let (Some(Value::Object(definitions)), Some(known)) = (merged.get_mut("$defs"), known) {
        definitions.retain(|name, _| known.contains_key(name));
    }
    match merged == *theirs {
        true => Ok(()),
        false => Err(failed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "{\n  \"$ref\": \"#/$defs/Config\",\n  \"$defs\": {\n    \"Config\": {\n      \"properties\": {\n        \"os\": {\"type\":   \"object\"}\n      },\n      \"additionalProperties\": false\n    }\n  }\n}\n";

    #[test]
    fn all_the_rest_keeps_its_bytes() {
        for theirs in [THEIRS.to_owned(), THEIRS.replace(['\n', ' '], "")] {
            let merged = merge(&theirs).unwrap();
            let mut rest = merged.as_str();
            for piece in theirs.split_inclusive('{') {
                let at = rest.find(piece).unwrap();
                rest = &rest[at + piece.len()..];
            }
            let schema: Value = serde_json::from_str(&merged).unwrap();
            let extensions = &schema["$defs"]["Sysext"]["properties"]["extensions"];
            assert!(extensions.is_object());
            assert_eq!(
                schema["$defs"]["Config"]["properties"]["sysext"]["$ref"],
                "#/$defs/Sysext"
            );
        }
    }

    #[test]
    fn another_schema_and_one_that_knows_sysext_are_refused() {
        let own = THEIRS.replace("\"os\"", "\"sysext\": {}, \"os\"");
        let taken = THEIRS.replace("\"Config\": {", "\"Sysext\": {}, \"Config\": {");
        let other = THEIRS.replace("\"os\"", "\"host\"");
        for theirs in [
            &own,
            &taken,
            &other,
            "{}",
            "[",
            "{\"$ref\": \"#/$defs/X\", \"$defs\": {}}",
        ] {
            assert_eq!(merge(theirs).unwrap_err().id, "schema-merge", "{theirs}");
        }
        assert!(merge(&own).unwrap_err().message.contains("of its own"));
    }
}
