//! Findings as one JSON object.

use propylon_model::Severity;
use serde_json::{Value, json};

use super::{Finding, Findings, help_uri};

/// One object with the findings and their numbers. Fields may be added; what is there keeps its meaning.
pub(super) fn render(findings: &Findings) -> String {
    let value = json!({
        "files": findings.files,
        "objects": findings.objects,
        "errors": findings.count(Severity::Error),
        "warnings": findings.count(Severity::Warning),
        "notices": findings.count(Severity::Notice),
        "findings": findings.list.iter().map(finding).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn finding(finding: &Finding) -> Value {
    let Finding { report, place } = finding;
    json!({
        "code": report.reason.code(),
        "reason": report.reason.as_str(),
        "severity": report.severity().as_str(),
        "kind": report.object.kind.as_str(),
        "namespace": &*report.object.namespace,
        "name": &*report.object.name,
        "field": report.field(),
        "message": report.message,
        "file": place.as_ref().map(|place| place.file.to_string_lossy()),
        "document": place.as_ref().and_then(|place| place.document),
        "line": place.as_ref().map(|place| place.line),
        "help": help_uri(report.reason),
    })
}
