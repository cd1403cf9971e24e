//! The tables as a JSON schema.
//!
//! A schema sees data, not text: a YAML reader of version 1.2 makes the plain word `yes` a string, so
//! what Prism takes for a boolean is more here than `true` and `false`. Null is absent everywhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::tables::{CONFIG, Kind, Object, PARTITION_TYPES};

/// The top level, and the definitions that it refers to by `#/$defs/Prism.NAME`.
pub fn config() -> (Value, Map<String, Value>) {
    let mut definitions = BTreeMap::new();
    let config = object(&CONFIG, &mut definitions);
    (config, definitions.into_iter().collect())
}

fn object(object: &'static Object, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in object.fields {
        let mut schema = kind(field.kind, definitions);
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
    let mut all = Vec::new();
    // Required of an object; the same as null is absent.
    let present =
        |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}});
    for name in object.required {
        all.push(json!({"if": {"type": "object"}, "then": present(name)}));
    }
    // Prism takes an empty text for an absent one, but for the content of a file.
    let filled = |name: &str| match (object.name, name) {
        ("AdditionalFile", "content") => present(name),
        _ => json!({"required": [name], "properties": {name: {"not": {"enum": [null, ""]}}}}),
    };
    for group in object.one_of {
        let any: Vec<Value> = group.iter().map(|name| filled(name)).collect();
        all.push(json!({"if": {"type": "object"}, "then": {"anyOf": any}}));
    }
    for group in object.exclusive {
        for (index, first) in group.iter().enumerate() {
            for second in group.iter().skip(index + 1) {
                let both = [filled(first), filled(second)];
                all.push(json!({"not": {"type": "object", "allOf": both}}));
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

fn kind(of: Kind, definitions: &mut BTreeMap<String, Value>) -> Value {
    // Any scalar keeps its text.
    let scalar = json!(["string", "number", "boolean", "null"]);
    match of {
        Kind::Text => json!({"type": scalar}),
        Kind::Filled => json!({"type": scalar, "pattern": r"\S"}),
        Kind::Switch => {
            let words: Vec<String> = ["yes", "no", "on", "off", "y", "n"]
                .iter()
                .flat_map(|word| {
                    let (first, rest) = word.split_at(1);
                    [
                        (*word).to_owned(),
                        word.to_uppercase(),
                        format!("{}{rest}", first.to_uppercase()),
                    ]
                })
                .collect();
            json!({"anyOf": [{"type": ["boolean", "null"]}, {"enum": words}]})
        }
        Kind::Number(i64::MIN, i64::MAX) => json!({"type": ["integer", "null"]}),
        Kind::Number(least, most) => {
            json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
        }
        Kind::Word(words) => {
            let mut words: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            words.extend([json!(""), Value::Null]);
            json!({"enum": words})
        }
        Kind::Permissions => json!({
            "anyOf": [
                {"type": "string", "pattern": "^0*[0-7]{1,3}$"},
                {"type": "integer", "minimum": 0, "maximum": 777},
                {"type": "null"},
            ]
        }),
        Kind::Size => json!({"type": ["string", "null"], "pattern": r"^\d+[KMGT]$"}),
        Kind::SizeOrGrow => json!({"type": ["string", "null"], "pattern": r"^(\d+[KMGT]|grow)?$"}),
        Kind::PartitionType => {
            let mut words: Vec<Value> = PARTITION_TYPES.iter().map(|word| json!(word)).collect();
            words.extend([json!(""), Value::Null]);
            let uuid = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
            json!({"anyOf": [{"enum": words}, {"type": "string", "pattern": uuid}]})
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
