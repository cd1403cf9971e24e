//! The JSON schemas of the config, of what is written, and of what is printed.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::build::manifest::Manifest;
use crate::config::editor::ForEditors;
use crate::config::model::Sysext;
use crate::inspect;
use crate::inspect::Inspection;
use crate::output::{
    Application, Built, Checked, Expansion, Failed, Import, Planned, Validation, Verified,
    Versioned,
};
use crate::place::Listing;
use crate::sign::deferred::SignRequest;

/// Where the schemas say they come from.
const ID_BASE: &str = "urn:prism-sysext:schema:";

/// Schema of the `sysext:` block alone.
pub fn block() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(ForEditors);
    let schema = settings.into_generator().into_root_schema_for::<Sysext>();
    let mut schema = schema.to_value();
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
        map.remove("title");
        // The key alone is no section. `anyOf` would say so, too, but with the key editors write what it needs.
        map.insert("type".into(), json!(["object", "null"]));
    }
    let (mut config, prism) = crate::prism::schema::config();
    if let Value::Object(map) = &mut definitions {
        map.insert("Sysext".into(), block);
        map.extend(prism);
    }
    if let Value::Object(map) = &mut config {
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            let section = json!({
                "$ref": "#/$defs/Sysext",
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

/// A schema that the program has.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, for `schema --kind`.
    pub name: &'static str,
    /// Its file below `schema/`.
    pub file: &'static str,
    /// The schema itself.
    pub make: fn() -> Value,
}

/// Everything that has a schema: the config, files that are written, and what each verb prints with
/// `--output json`.
pub const KINDS: &[Kind] = &[
    kind("config", "prism-sysext.schema.json", whole_file),
    kind("block", "sysext.schema.json", block),
    kind("manifest", "sysext-manifest.schema.json", || {
        of_output::<Manifest>("manifest", "sysext-manifest.json of prism-sysext")
    }),
    kind("sign-request", "sign-request.schema.json", || {
        of_output::<SignRequest>("sign-request", "sign request of prism-sysext")
    }),
    kind("inspect", "inspection.schema.json", || {
        of_output::<Inspection>("inspection", "inspect of prism-sysext")
    }),
    kind("diff", "difference.schema.json", || {
        of_output::<inspect::Difference>("difference", "diff of prism-sysext")
    }),
    kind("inspect-list", "listing.schema.json", || {
        of_output::<inspect::Listing>("listing", "inspect --list of prism-sysext")
    }),
    kind("apply", "apply.schema.json", || {
        of_result::<Application<'_>>("apply")
    }),
    kind("apply-dry-run", "apply-dry-run.schema.json", || {
        of_result::<Planned<'_>>("apply-dry-run")
    }),
    kind("build", "build.schema.json", || {
        of_result::<Built<'_>>("build")
    }),
    kind("check", "check.schema.json", || {
        of_result::<Checked<'_>>("check")
    }),
    kind("expand", "expand.schema.json", || {
        of_result::<Expansion<'_>>("expand")
    }),
    kind("failure", "failure.schema.json", || {
        of_result::<Failed>("failure")
    }),
    kind("import-mkosi", "import-mkosi.schema.json", || {
        of_result::<Import<'_>>("import-mkosi")
    }),
    kind("list", "list.schema.json", || of_result::<Listing>("list")),
    kind("remove", "remove.schema.json", || {
        of_result::<Application<'_>>("remove")
    }),
    kind("validate-config", "validate-config.schema.json", || {
        of_result::<Validation>("validate-config")
    }),
    kind("verify", "verify.schema.json", || {
        of_result::<Verified<'_>>("verify")
    }),
];

const fn kind(name: &'static str, file: &'static str, make: fn() -> Value) -> Kind {
    Kind { name, file, make }
}

/// What a verb prints.
fn of_result<T: JsonSchema>(verb: &str) -> Value {
    let title = match verb {
        "failure" => "a failure of prism-sysext".to_owned(),
        _ => format!("{verb} of prism-sysext"),
    };
    of_output::<Versioned<T>>(verb, &title)
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
    let text = |kind: &Kind| (kind.file, format!("{:#}\n", (kind.make)()));
    KINDS.iter().map(text).collect()
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
