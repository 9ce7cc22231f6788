//! One text to its documents.

use serde_json::Value;

use super::ManifestError;

/// One document.
pub(super) struct Read<'a> {
    /// Its first line, from 1.
    pub(super) line: u64,
    /// Its text.
    pub(super) text: &'a str,
    /// What it says.
    pub(super) value: Result<Value, ManifestError>,
}

/// The documents of a text; empty ones are left out.
pub(super) fn read(text: &str) -> Vec<Read<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(values) = json_values(text) {
        return values;
    }
    let mut documents = Vec::new();
    for (line, document) in split(text) {
        match yaml_value(document, line) {
            Ok(Value::Null) => {}
            value => documents.push(Read {
                line,
                text: document,
                value,
            }),
        }
    }
    documents
}

/// A text that is JSON as a whole (one value, or several in a row): faster than through YAML and without its limits.
fn json_values(text: &str) -> Option<Vec<Read<'_>>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values: Vec<Read<'_>> = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter();
    let (mut line, mut counted) = (1, 0);
    loop {
        // The white space before a value counts to the value before it, which is near enough for a message.
        let begin = stream.byte_offset();
        line += text
            .get(counted..begin)
            .map_or(0, |skipped| skipped.matches('\n').count() as u64);
        counted = begin;
        let Some(value) = stream.next() else {
            return Some(values);
        };
        values.push(Read {
            line,
            text: text.get(begin..stream.byte_offset()).unwrap_or_default(),
            value: Ok(value.ok()?),
        });
    }
}

/// Cuts at lines that open with `---`, which YAML allows nowhere but between documents (YAML 1.2.2 9.1.2).
///
/// Cutting before parsing keeps a mistake in one document from hiding those behind it.
fn split(text: &str) -> Vec<(u64, &str)> {
    let mut documents = Vec::new();
    let mut rest = text;
    let (mut line, mut start_line, mut taken) = (1, 1, 0);
    for current in text.split_inclusive('\n') {
        if is_separator(current) && taken > 0 {
            let (document, behind) = rest.split_at(taken);
            documents.push((start_line, document));
            (rest, taken, start_line) = (behind, 0, line);
        }
        taken += current.len();
        line += 1;
    }
    documents.push((start_line, rest));
    documents.retain(|(_, document)| document.lines().any(has_content));
    documents
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

/// Whether a line is more than a comment, a directive or a document mark.
fn has_content(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    !(line.is_empty() || line.starts_with(['#', '%']) || line == "...")
}

fn yaml_value(document: &str, first_line: u64) -> Result<Value, ManifestError> {
    // A folder belongs to the operator: the sizes are those of a large cluster's `kubectl get -A -o yaml`; what keeps
    // aliases from multiplying stays at the parser's defaults.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: 20_000_000, max_nodes: 10_000_000 },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(document, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line().max(1));
        let message = error.render().split_whitespace().collect::<Vec<_>>().join(" ");
        ManifestError::Syntax {
            line: first_line.saturating_add(line).saturating_sub(1),
            message,
        }
    })
}
