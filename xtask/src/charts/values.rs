//! `values.yaml` against its schema, and the page of the values.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::docs::table;

/// A key of `values.yaml`: its path, and the comment before it (`# -- ...`).
#[derive(Debug, PartialEq, Eq)]
struct Key {
    path: String,
    comment: String,
}

/// Values whose schema is that of Kubernetes, so that anything may stand in them.
const FREE: &[&str] = &[
    "$/definitions/free",
    "$/definitions/objects/items",
    "$/properties/crds/properties/global",
    "$/properties/global",
];

/// Keys that are in one of the two only, descriptions that differ, objects that take anything.
pub(super) fn faults(text: &str, schema: &Value) -> Result<Vec<String>> {
    let values: Value = serde_saphyr::from_str(text).context("values.yaml")?;
    let mut faults = Vec::new();
    compare(&values, schema, schema, "", &mut faults);
    for key in keys(text) {
        let described = find(schema, &key.path)
            .and_then(|found| found.get("description"))
            .and_then(Value::as_str);
        if !key.comment.is_empty() && described != Some(&key.comment) {
            faults.push(format!(
                "values.schema.json: {} is not described as '{}'",
                key.path, key.comment
            ));
        }
    }
    strict(schema, "$", &mut faults);
    Ok(faults)
}

/// The page of the values: every key with its default and what it means.
pub(super) fn page(text: &str) -> Result<String> {
    let values: Value = serde_saphyr::from_str(text).context("values.yaml")?;
    let mut rows = Vec::new();
    for key in keys(text) {
        let value = key.path.split('.').try_fold(&values, |value, name| value.get(name));
        let Some(value) = value.filter(|value| !is_block(value)) else {
            continue;
        };
        let default = match value {
            Value::Null => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => table::code(text),
            other => table::code(&other.to_string()),
        };
        rows.push([table::code(&key.path), default, key.comment]);
    }
    let about = "Values of the chart `propylon`, with their defaults. A key that is not listed is refused; keys that hold objects of \
                 Kubernetes take what Kubernetes takes. Profiles: `values-baremetal.yaml`, `values-ha.yaml`."
        .to_owned();
    let parts = [about, table::table(["value", "default", "meaning"], rows)];
    Ok(
        table::page("Values of the chart", "`charts/propylon/values.yaml`", &parts)
            .replace("cargo xtask docs", "cargo xtask charts --write"),
    )
}

/// The keys of the text in their order. Two spaces are one level; list items have no keys of their own.
fn keys(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let plain = line.trim_start();
        let depth = (line.len() - plain.len()) / 2;
        if let Some(first) = plain.strip_prefix("# -- ") {
            comment = vec![first];
        } else if let Some(more) = plain.strip_prefix("# ").filter(|_| !comment.is_empty()) {
            comment.push(more);
        } else {
            let name = plain.split(':').next().unwrap_or_default();
            if plain.contains(':') && name.chars().all(|character| character.is_ascii_alphanumeric()) {
                path.truncate(depth);
                path.push(name);
                keys.push(Key {
                    path: path.join("."),
                    comment: comment.join(" "),
                });
            }
            comment.clear();
        }
    }
    keys
}

/// Whether the keys of a value are listed one by one.
fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| !fields.is_empty())
}

/// The part of the schema that describes a path of values.
fn find<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(schema, |part, name| resolve(schema, part).get("properties")?.get(name))
}

fn resolve<'a>(root: &'a Value, part: &'a Value) -> &'a Value {
    let pointer = part
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|target| target.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(part)
}

fn compare(values: &Value, part: &Value, root: &Value, path: &str, faults: &mut Vec<String>) {
    let Some(properties) = resolve(root, part).get("properties").and_then(Value::as_object) else {
        return;
    };
    let empty = serde_json::Map::new();
    let present = values.as_object().unwrap_or(&empty);
    let is_optional = OPTIONAL.contains(&path);
    for name in properties
        .keys()
        .filter(|name| !is_optional && !present.contains_key(*name))
    {
        if !matches!((path, name.as_str()), ("crds.", "global")) {
            faults.push(format!("values.yaml: {path}{name} of the schema is missing"));
        }
    }
    for (name, value) in present {
        match properties.get(name) {
            Some(part) => compare(value, part, root, &format!("{path}{name}."), faults),
            None => faults.push(format!("values.schema.json: {path}{name} of values.yaml is missing")),
        }
    }
}

/// Objects whose keys have no defaults.
const OPTIONAL: &[&str] = &["config."];

/// Objects that take keys that they do not name.
fn strict(part: &Value, path: &str, faults: &mut Vec<String>) {
    let is_object = part.get("type").and_then(Value::as_str) == Some("object");
    if is_object && part.get("additionalProperties").is_none() && !FREE.contains(&path) {
        faults.push(format!("values.schema.json: {path} takes any key"));
    }
    match part {
        Value::Object(fields) => {
            for (name, field) in fields {
                strict(field, &format!("{path}/{name}"), faults);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                strict(item, &format!("{path}/{index}"), faults);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "# A file.\n\na:\n  # -- What b\n  # is\n  b: 1\n# -- C\nc: []\n";

    #[test]
    fn keys_have_the_comments_before_them() {
        let found = keys(TEXT);
        let shown: Vec<(&str, &str)> = found
            .iter()
            .map(|key| (key.path.as_str(), key.comment.as_str()))
            .collect();
        assert_eq!(shown, [("a", ""), ("a.b", "What b is"), ("c", "C")]);
    }

    #[test]
    fn a_schema_that_differs_is_found() {
        let mut schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "a": {"type": "object", "additionalProperties": false, "properties": {"b": {"description": "What b is"}}},
            "c": {"description": "C"},
        }});
        assert_eq!(faults(TEXT, &schema).expect("YAML"), [""; 0]);
        schema["properties"]["c"]["description"] = json!("D");
        schema["properties"]["d"] = json!({"type": "object"});
        schema["properties"]["a"]["properties"] = json!({});
        assert_eq!(
            faults(TEXT, &schema).expect("YAML"),
            [
                "values.yaml: d of the schema is missing",
                "values.schema.json: a.b of values.yaml is missing",
                "values.schema.json: a.b is not described as 'What b is'",
                "values.schema.json: c is not described as 'C'",
                "values.schema.json: $/properties/d takes any key",
            ]
        );
    }

    #[test]
    fn the_page_lists_keys_with_defaults() {
        let page = page(TEXT).expect("YAML");
        assert!(page.contains("| `a.b` | `1` | What b is |"), "{page}");
        assert!(page.contains("| `c` | `[]` | C |"), "{page}");
    }
}
