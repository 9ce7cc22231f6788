//! Findings as SARIF 2.1.0 (OASIS Static Analysis Results Interchange Format), which code scanning services read.

use std::{fmt::Write, os::unix::ffi::OsStrExt, path::Path};

use propylon_model::{Report, ReportReason, Severity};
use serde_json::{Value, json};

use super::{Finding, Findings, help_uri};

/// A log with one run, whose rules are all reasons of reports.
pub(super) fn render(findings: &Findings) -> String {
    let rules: Vec<Value> = ReportReason::ALL
        .iter()
        .map(|(reason, doc)| rule(*reason, doc.trim()))
        .collect();
    let value = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "propylon lint",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": findings.list.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{value:#}\n")
}

/// 3.49: what is known of one code.
fn rule(reason: ReportReason, doc: &str) -> Value {
    let uri = help_uri(reason);
    json!({
        "id": reason.code(),
        "name": reason.as_str(),
        "shortDescription": {"text": doc},
        "fullDescription": {"text": doc},
        "help": {
            "text": format!("{doc} What it means and how to fix it: {uri}"),
            "markdown": format!("{doc} [What it means and how to fix it]({uri})"),
        },
        "helpUri": uri,
        "defaultConfiguration": {"level": level(reason.severity())},
    })
}

/// 3.27: one finding.
fn result(finding: &Finding) -> Value {
    let Finding { report, place } = finding;
    let index = ReportReason::ALL
        .iter()
        .position(|(reason, _)| *reason == report.reason);
    let logical = json!([{"fullyQualifiedName": report.object.to_string(), "kind": "object"}]);
    let mut location = json!({"logicalLocations": logical});
    if let (Some(place), Some(location)) = (place, location.as_object_mut()) {
        let physical = json!({
            "artifactLocation": {"uri": uri(&place.file)},
            "region": {"startLine": place.line},
        });
        location.insert("physicalLocation".to_owned(), physical);
    }
    json!({
        "ruleId": report.reason.code(),
        "ruleIndex": index,
        "level": level(report.severity()),
        "message": {"text": format!("{}: {}", report.object, report.message)},
        "locations": [location],
        "partialFingerprints": {"propylon/v1": fingerprint(report)},
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "note",
    }
}

/// A path as a URI reference (RFC 3986 4.1): relative as it is, absolute with its scheme.
fn uri(path: &Path) -> String {
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(*byte)),
            // Writing to a text does not fail.
            other => drop(write!(uri, "%{other:02X}")),
        }
    }
    uri
}

/// What stays the same while lines move: code, object and field (FNV-1a, 64 bits); the message where no field is known.
fn fingerprint(report: &Report) -> String {
    let field = report.field().unwrap_or(&report.message);
    let identity = format!("{} {} {field}", report.reason.code(), report.object);
    let hash = identity.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        assert_eq!(uri(Path::new("k8s/web.yaml")), "k8s/web.yaml");
        assert_eq!(uri(Path::new("/a b/ü#1.yaml")), "file:///a%20b/%C3%BC%231.yaml");
        assert_eq!(uri(Path::new("<stdin>")), "%3Cstdin%3E");
    }
}
