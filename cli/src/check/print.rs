//! Findings on standard output.

use std::io::{self, Write as _};

use serde_json::json;

use super::{
    Form,
    findings::{Finding, Level},
};
use crate::printer::one_line;

/// Writes them; where nobody reads, the exit code says what there is to say.
pub(super) fn print(namespace: &str, findings: &[Finding], form: Form) {
    let text = match form {
        Form::Json => as_json(namespace, findings),
        Form::Text => as_text(namespace, findings),
    };
    drop(io::stdout().write_all(text.as_bytes()));
}

fn as_json(namespace: &str, findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "level": finding.level.as_str(), "check": finding.check, "message": finding.message, "hint": finding.hint,
            })
        })
        .collect();
    let worst = findings.iter().map(|finding| finding.level).max();
    let document = json!({
        "namespace": namespace,
        "level": worst.map_or("error", Level::as_str),
        "findings": list,
    });
    format!("{document:#}\n")
}

fn as_text(namespace: &str, findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let sum = format!("{namespace}: {errors} errors, {warnings} warnings\n");
    findings.iter().map(line).chain([sum]).collect()
}

/// A finding, and its hint on a line of its own.
fn line(finding: &Finding) -> String {
    let (level, message) = (finding.level.as_str(), one_line(&finding.message));
    let hint = match finding.hint.as_str() {
        "" => String::new(),
        hint => format!("{:<23} -> {}\n", "", one_line(hint)),
    };
    format!("{level:<8} {:<14} {message}\n{hint}", finding.check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_tell_level_message_and_hint() {
        let finding = Finding {
            level: Level::Warning,
            check: "leader",
            message: "nobody leads\n".to_owned(),
            hint: "wait".to_owned(),
        };
        let text = as_text("ns", std::slice::from_ref(&finding));
        assert!(text.contains("warning  leader         nobody leads\\n\n"), "{text}");
        assert!(text.ends_with("-> wait\nns: 0 errors, 1 warnings\n"), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(&as_json("ns", &[finding])).unwrap();
        assert_eq!(parsed["level"], "warning");
        assert_eq!(parsed["findings"][0]["hint"], "wait");
    }
}
