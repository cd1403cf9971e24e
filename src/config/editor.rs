//! The schema as editors like it: their completion and hover read less of a schema than validators do.
//!
//! Held against yaml-language-server, the engine of the YAML extension of VS Code (`integration/config/editor.rs`):
//! it stops a list of completions at a `default` that holds null, takes the description of an alternative for
//! that of the key, and breaks lines where a description does.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::model::Target;
use crate::base::profile;
use crate::config::model::VerityMode;

/// Changes no meaning, only the form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForEditors;

impl Transform for ForEditors {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(map) = schema.as_object_mut() {
            flow(map);
            no_empty_default(map);
            words(map);
            null_beside_text(map);
        }
    }
}

/// A description is one paragraph, however the comment that it comes from is wrapped.
fn flow(map: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = map.get_mut("description") {
        let paragraphs: Vec<String> = text
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect();
        *text = paragraphs.join("\n\n");
    }
}

/// That an absent key is absent needs no default.
fn no_empty_default(map: &mut Map<String, Value>) {
    let empty = match map.get("default") {
        Some(Value::Null | Value::Object(_)) => true,
        Some(Value::Array(items)) => items.is_empty(),
        _ => false,
    };
    if empty {
        map.remove("default");
    }
}

/// An enumeration whose words are described one by one: `enum`, with the descriptions beside it.
fn words(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.get("oneOf") else {
        return;
    };
    let part = |key: &str| -> Option<Vec<Value>> {
        let parts = variants.iter().map(|variant| variant.get(key).cloned());
        parts.collect()
    };
    if let (Some(words), Some(descriptions)) = (part("const"), part("description")) {
        map.remove("oneOf");
        map.insert("enum".to_owned(), words.into());
        map.insert("enumDescriptions".to_owned(), descriptions.into());
    }
}

/// Text or null or something else: null goes to the text.
fn null_beside_text(map: &mut Map<String, Value>) {
    let null = json!({"type": "null"});
    let Some(Value::Array(alternatives)) = map.get_mut("anyOf") else {
        return;
    };
    if !alternatives.contains(&null) {
        return;
    }
    let text = alternatives
        .iter_mut()
        .find(|it| it.get("type") == Some(&json!("string")));
    if let Some(Value::Object(text)) = text {
        text.insert("type".to_owned(), json!(["string", "null"]));
        alternatives.retain(|it| *it != null);
    }
}

/// An object or, short, a text. What is wrong with an object is told by the first alternative.
pub(super) struct OrText<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrText<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OrText{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<T>(), {"type": "string"}]})
    }
}

/// The name of a profile, or facts.
pub(super) struct ProfileOrFacts;

impl JsonSchema for ProfileOrFacts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProfileOrFacts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut profiles: Vec<Value> = profile::names().into_iter().map(Value::from).collect();
        profiles.push(Value::Null);
        json_schema!({"anyOf": [generator.subschema_for::<Target>(), {"enum": profiles}]})
    }
}

/// `verity` in words, mkosi's `false`, or nothing.
pub(super) struct WordOrSwitch;

impl JsonSchema for WordOrSwitch {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WordOrSwitch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = VerityMode::json_schema(generator);
        ForEditors.transform(&mut schema);
        schema.remove("description");
        for (key, more) in [
            ("enum", json!([false, true, null])),
            (
                "enumDescriptions",
                json!([
                    "The same as `none`.",
                    "The same as `signed`.",
                    "The default."
                ]),
            ),
        ] {
            if let (Some(Value::Array(there)), Value::Array(more)) = (schema.get_mut(key), more) {
                there.extend(more);
            }
        }
        schema
    }
}

/// Octal permissions as Prism reads them: digits, as text or as a number.
pub(super) struct Permissions;

impl JsonSchema for Permissions {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Permissions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^0*[0-7]{1,3}$",
            "minimum": 0,
            "maximum": 777,
        })
    }
}

/// Bytes: a number, or one with a letter.
pub(super) struct Size;

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^[0-9]+[KMGT]?$",
            "minimum": 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_changes_and_not_the_meaning() {
        let mut schema = json_schema!({
            "properties": {
                "a": {"description": "One\nline.\n\nAnother.", "default": null, "type": "string"},
                "b": {"default": ["kept"], "anyOf": [{"$ref": "#/x"}, {"type": "string"}, {"type": "null"}]},
                "c": {"default": [], "oneOf": [
                    {"const": "x", "description": "X.", "type": "string"},
                    {"const": "y", "description": "Y.", "type": "string"},
                ]},
                "d": {"oneOf": [{"const": "x"}, {"type": "number"}]},
            }
        });
        ForEditors.transform(&mut schema);
        let expected = json!({
            "properties": {
                "a": {"description": "One line.\n\nAnother.", "type": "string"},
                "b": {"default": ["kept"], "anyOf": [{"$ref": "#/x"}, {"type": ["string", "null"]}]},
                "c": {"enum": ["x", "y"], "enumDescriptions": ["X.", "Y."]},
                "d": {"oneOf": [{"const": "x"}, {"type": "number"}]},
            }
        });
        assert_eq!(schema.to_value(), expected);
    }
}
