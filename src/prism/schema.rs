//! The tables as a JSON schema.
//!
//! A schema sees data, not text: a YAML reader of version 1.2 makes the plain word `yes` a string, so
//! what Prism takes for a boolean is more here than `true` and `false`. Null is absent everywhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::tables::{CONFIG, Kind, Object, PARTITION_TYPES};

/// The top level, and the definitions that it refers to by `#/$defs/Prism.NAME`.
pub(crate) fn config() -> (Value, Map<String, Value>) {
    let mut definitions = BTreeMap::new();
    let config = object(&CONFIG, &mut definitions);
    (config, definitions.into_iter().collect())
}

fn object(object: &'static Object, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in object.fields {
        let mut schema = kind(field.kind, definitions);
        if object.required.contains(&field.name) {
            not_null(&mut schema);
        }
        let (major, minor) = field.since;
        let mut about = format!("{} Since Prism {major}.{minor}.", field.about);
        if let Some(feature) = field.preview {
            about.push_str(&format!(" Needs `{feature}` in `previewFeatures`."));
        }
        if let Value::Object(schema) = &mut schema {
            schema.insert("description".to_owned(), about.into());
        }
        properties.insert(field.name.to_owned(), schema);
    }
    let mut schema = json!({
        "description": object.about,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    let Value::Object(map) = &mut schema else {
        return schema;
    };
    if !object.required.is_empty() {
        map.insert("required".to_owned(), json!(object.required));
    }
    let mut all = Vec::new();
    // Prism takes an empty text for an absent one, but for the content of a file.
    let counts_empty = |name: &str| (object.name, name) == ("AdditionalFile", "content");
    let filled = |name: &str| match counts_empty(name) {
        true => json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}}),
        false => json!({"required": [name], "properties": {name: {"not": {"enum": [null, ""]}}}}),
    };
    for group in object.one_of {
        let any: Vec<Value> = group.iter().map(|name| filled(name)).collect();
        all.push(json!({"if": {"type": "object"}, "then": {"anyOf": any}}));
    }
    for group in object.exclusive {
        for (index, first) in group.iter().enumerate() {
            for second in group.iter().skip(index + 1) {
                let mut absent = match counts_empty(second) {
                    // No text matches it. With null as the only type, editors would offer the key with null.
                    true => json!({"type": ["string", "null"], "pattern": "$."}),
                    false => json!({"type": ["string", "null"], "pattern": "^$"}),
                };
                // Editors show this; of `not` they say that a schema matches which should not.
                absent["errorMessage"] = format!("`{second}` does not go with `{first}`.").into();
                let mut beside = filled(first);
                beside["type"] = "object".into();
                all.push(json!({"if": beside, "then": {"properties": {*second: absent}}}));
            }
        }
    }
    if !all.is_empty() {
        map.insert("allOf".to_owned(), all.into());
    }
    if object.scalar.is_some() {
        map.insert("type".to_owned(), json!(["object", "string", "null"]));
    }
    schema
}

/// Null is absent, so a field that has to be there is not null.
fn not_null(schema: &mut Value) {
    match schema.get_mut("type") {
        Some(Value::Array(types)) => types.retain(|it| it != "null"),
        _ => schema["not"] = json!({"type": "null"}),
    }
}

fn kind(of: Kind, definitions: &mut BTreeMap<String, Value>) -> Value {
    // Any scalar keeps its text.
    let scalar = json!(["string", "number", "boolean", "null"]);
    match of {
        Kind::Text => json!({"type": scalar}),
        Kind::Filled => json!({"type": scalar, "pattern": r"\S"}),
        Kind::Switch => {
            // Not as an `enum`, which editors would offer in full.
            json!({
                "type": ["boolean", "string", "null"],
                "pattern": "^(y|Y|yes|Yes|YES|on|On|ON|n|N|no|No|NO|off|Off|OFF)$",
                "patternErrorMessage": "Expected true or false.",
            })
        }
        Kind::Number(i64::MIN, i64::MAX) => json!({"type": ["integer", "null"]}),
        Kind::Number(least, most) => {
            json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
        }
        Kind::Word(words) => {
            json!({"anyOf": [{"enum": words}, {"type": ["string", "null"], "maxLength": 0}]})
        }
        Kind::Permissions => json!({
            "type": ["string", "integer", "null"],
            "pattern": "^0*[0-7]{1,3}$",
            "minimum": 0,
            "maximum": 777,
        }),
        Kind::Size => json!({"type": ["string", "null"], "pattern": r"^\d+[KMGT]$"}),
        Kind::SizeOrGrow => json!({"type": ["string", "null"], "pattern": r"^(\d+[KMGT]|grow)?$"}),
        Kind::PartitionType => {
            let uuid = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$";
            json!({"anyOf": [{"enum": PARTITION_TYPES}, {"type": ["string", "null"], "pattern": uuid}]})
        }
        Kind::Texts => {
            json!({"type": ["object", "null"], "additionalProperties": {"type": scalar}})
        }
        Kind::List(item) => {
            let mut items = kind(*item, definitions);
            // A null item is dropped.
            if let Value::Object(map) = &items
                && map.contains_key("$ref")
            {
                items = json!({"anyOf": [items, {"type": "null"}]});
            }
            json!({"type": ["array", "null"], "items": items})
        }
        Kind::Object(of) => {
            let name = format!("Prism.{}", of.name);
            if !definitions.contains_key(&name) {
                // Before its fields, which may refer to it.
                definitions.insert(name.clone(), Value::Null);
                let schema = object(of, definitions);
                definitions.insert(name.clone(), schema);
            }
            json!({"$ref": format!("#/$defs/{name}")})
        }
    }
}
