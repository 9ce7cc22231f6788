//! Writes JSON values as YAML in block style, for the definitions that are committed.

use serde_json::Value;

/// A document, with a line that says where it comes from.
pub(crate) fn document(value: &Value) -> String {
    let mut text = "# Generated from crds/src: UPDATE_GOLDEN=1 cargo test -p propylon-crds\n".to_owned();
    write(&mut text, value, 0);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                indent(text, depth);
                text.push_str(&scalar(&Value::String(name.clone())));
                text.push(':');
                child(text, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut block = String::new();
                write(&mut block, item, depth + 1);
                indent(text, depth);
                text.push_str("- ");
                text.push_str(block.trim_start());
            }
        }
        other => {
            indent(text, depth);
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn child(text: &mut String, value: &Value, depth: usize) {
    let is_empty = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if is_empty {
        text.push(' ');
        text.push_str(&scalar(value));
        text.push('\n');
    } else {
        text.push('\n');
        write(text, value, depth);
    }
}

fn indent(text: &mut String, depth: usize) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

/// A string stands plain where YAML cannot mistake it for anything else; everything else is written as JSON, which YAML includes.
fn scalar(value: &Value) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    match value {
        Value::String(text)
            if text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character))
                && !WORDS.contains(&text.to_ascii_lowercase().as_str()) =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_in_block_style() {
        let value = json!({"a": [{"b": 1, "c": "x y"}, "plain"], "d": {}, "e": "true", "f": {"g": [[1], []]}});
        let wanted = "a:\n  - b: 1\n    c: \"x y\"\n  - plain\nd: {}\ne: \"true\"\nf:\n  g:\n    - - 1\n    - []\n";
        let text = document(&value);
        assert_eq!(text.split_once('\n').map(|(_, rest)| rest), Some(wanted));
    }
}
