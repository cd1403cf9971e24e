//! The JSON schemas of the block and of a whole config file.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::model::Sysext;
use crate::inspect::{Difference, Inspection, Listing};
use crate::manifest::Manifest;
use crate::sign::SignRequest;

/// Where the schemas say they come from.
const ID_BASE: &str = "urn:prism-sysext:schema:";

/// Schema of the `sysext:` block alone.
pub fn block() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Sysext>().to_value();
    if let Value::Object(map) = &mut schema {
        map.insert("$id".into(), json!(format!("{ID_BASE}sysext")));
        map.insert("title".into(), json!("sysext block of a Prism config"));
    }
    schema
}

/// Schema of a config file: our block, and Prism's sections as the tables of [`crate::prism`] have them.
pub fn whole_file() -> Value {
    let mut block = block();
    let definitions = block.as_object_mut().and_then(|map| map.remove("$defs"));
    let mut definitions = definitions.unwrap_or_else(|| json!({}));
    if let Value::Object(map) = &mut block {
        map.remove("$schema");
        map.remove("$id");
    }
    let (mut config, prism) = crate::prism::schema::config();
    if let Value::Object(map) = &mut definitions {
        map.insert("Sysext".into(), block);
        map.extend(prism);
    }
    if let Value::Object(map) = &mut config {
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            let section = json!({
                "anyOf": [{"$ref": "#/$defs/Sysext"}, {"type": "null"}],
                "description": "System extensions to build or take in, place, trust and switch on (prism-sysext).",
            });
            properties.insert("sysext".into(), section);
        }
        map.insert(
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        map.insert("$id".into(), json!(format!("{ID_BASE}config")));
        map.insert("title".into(), json!("Prism config with a sysext block"));
        map.insert("$defs".into(), definitions);
    }
    config
}

/// Schema of `sysext-manifest.json`.
pub fn manifest() -> Value {
    of_output::<Manifest>("manifest", "sysext-manifest.json of prism-sysext")
}

/// Schema of `NAME.sign-request.json` and of what `sign request` prints.
pub fn sign_request() -> Value {
    of_output::<SignRequest>("sign-request", "sign request of prism-sysext")
}

/// Schema of what `inspect --output json` prints.
pub fn inspection() -> Value {
    of_output::<Inspection>("inspection", "inspect of prism-sysext")
}

fn of_output<T: JsonSchema>(id: &str, title: &str) -> Value {
    let generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    if let Value::Object(map) = &mut schema {
        map.insert("$id".into(), json!(format!("{ID_BASE}{id}")));
        map.insert("title".into(), json!(title));
    }
    schema
}

/// File names and texts of everything below `schema/`.
pub fn files() -> Vec<(&'static str, String)> {
    [
        ("sysext.schema.json", block()),
        ("prism-sysext.schema.json", whole_file()),
        ("sysext-manifest.schema.json", manifest()),
        ("sign-request.schema.json", sign_request()),
        ("inspection.schema.json", inspection()),
        (
            "difference.schema.json",
            of_output::<Difference>("difference", "diff of prism-sysext"),
        ),
        (
            "listing.schema.json",
            of_output::<Listing>("listing", "inspect --list of prism-sysext"),
        ),
    ]
    .into_iter()
    .map(|(name, schema)| (name, format!("{schema:#}\n")))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_closed_and_every_key_is_described() {
        let schema = block();
        let mut stack = vec![("".to_owned(), &schema)];
        let mut properties = 0;
        while let Some((path, value)) = stack.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::Object(keys)) = map.get("properties") {
                        assert_eq!(
                            map.get("additionalProperties"),
                            Some(&json!(false)),
                            "{path}"
                        );
                        for (key, property) in keys {
                            properties += 1;
                            assert!(property.get("description").is_some(), "{path}.{key}");
                        }
                    }
                    stack.extend(
                        map.iter()
                            .map(|(key, value)| (format!("{path}/{key}"), value)),
                    );
                }
                Value::Array(items) => stack.extend(items.iter().map(|item| (path.clone(), item))),
                _ => {}
            }
        }
        assert!(properties > 40, "{properties}");
    }

    #[test]
    fn the_whole_file_is_closed_and_every_field_of_prism_is_described() {
        let schema = whole_file();
        assert!(schema["$defs"]["Sysext"]["properties"]["extensions"].is_object());
        assert_eq!(schema["additionalProperties"], json!(false));
        let objects = schema["$defs"].as_object().unwrap();
        let objects = objects
            .iter()
            .filter(|(name, _)| name.starts_with("Prism."));
        let mut count = 0;
        for (name, object) in objects {
            count += 1;
            assert_eq!(object["additionalProperties"], json!(false), "{name}");
            for (field, schema) in object["properties"].as_object().unwrap() {
                let about = schema["description"].as_str().unwrap();
                assert!(about.contains(" Since Prism "), "{name}.{field}: {about}");
            }
        }
        assert!(count >= 38, "{count}");
    }
}
