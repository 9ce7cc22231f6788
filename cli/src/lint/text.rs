//! Findings as lines: `FILE:LINE: SEVERITY CODE REASON OBJECT: MESSAGE`.

use propylon_model::{Kind, Severity};

use super::{Finding, Findings};
use crate::printer::one_line;

/// One line for each finding.
pub(super) fn render(findings: &Findings) -> String {
    findings
        .list
        .iter()
        .map(|finding| line(findings, finding) + "\n")
        .collect()
}

/// How many findings there are, and of how many objects.
pub(super) fn summary(findings: &Findings) -> String {
    let Findings { files, objects, .. } = findings;
    let [errors, warnings, notices] =
        [Severity::Error, Severity::Warning, Severity::Notice].map(|severity| findings.count(severity));
    format!(
        "{}, {}, {} in {} of {}",
        counted(errors, "error"),
        counted(warnings, "warning"),
        counted(notices, "notice"),
        counted(*objects, "object"),
        counted(*files, "file")
    )
}

fn line(findings: &Findings, finding: &Finding) -> String {
    let report = &finding.report;
    let place = match &finding.place {
        Some(place) => format!("{}:{}", place.file.display(), place.line),
        None => findings.source.display().to_string(),
    };
    let head = format!(
        "{place}: {} {} {}",
        report.severity().as_str(),
        report.reason.code(),
        report.reason.as_str()
    );
    // The file stands there already.
    let object = match report.object.kind {
        Kind::File => String::new(),
        _ => format!(" {}", report.object),
    };
    one_line(&format!("{head}{object}: {}", report.message))
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
