//! Reports on standard error: each once when it appears, and a line when it is resolved.
//!
//! Standard output belongs to the access log.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use propylon_model::{ObjectRef, Report, ReportReason, Severity};

/// Writes one line to standard error. A closed standard error is no reason to stop serving.
pub(crate) fn line(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(writeln!(stderr, "{text}"));
}

/// The reports that stand, so that each is printed once.
#[derive(Debug, Default)]
pub(crate) struct Printer {
    standing: BTreeMap<(ObjectRef, ReportReason), BTreeSet<String>>,
}

impl Printer {
    /// Takes over the reports that stand now, and gives the lines that say what changed.
    ///
    /// A report whose message alone changed is printed again, and not called resolved. No text of a manifest makes two
    /// lines of one, or commands of a terminal.
    pub(crate) fn update(&mut self, reports: &[Report]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut standing: BTreeMap<(ObjectRef, ReportReason), BTreeSet<String>> = BTreeMap::new();
        for report in reports {
            let key = (report.object.clone(), report.reason);
            let is_known = self
                .standing
                .get(&key)
                .is_some_and(|messages| messages.contains(&report.message));
            if standing.entry(key).or_default().insert(report.message.clone()) && !is_known {
                lines.push(report.to_string());
            }
        }
        for ((object, reason), messages) in &self.standing {
            if !standing.contains_key(&(object.clone(), *reason)) {
                let resolved = messages
                    .iter()
                    .map(|message| format!("resolved {object}: {}: {message}", reason.as_str()));
                lines.extend(resolved);
            }
        }
        self.standing = standing;
        lines.iter().map(|line| one_line(line)).collect()
    }
}

/// Control characters escaped: names, values and paths come from whoever wrote the manifest.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Whether any report is an error.
pub(crate) fn has_error(reports: &[Report]) -> bool {
    reports.iter().any(|report| report.severity() == Severity::Error)
}

#[cfg(test)]
mod tests {
    use propylon_model::Kind;

    use super::*;

    fn report(name: &str, message: &str) -> Report {
        let object = ObjectRef::new(Kind::Ingress, "default", name);
        Report::new(object, ReportReason::BackendServiceNotFound, message)
    }

    #[test]
    fn a_report_is_printed_once_and_resolved_once() {
        let mut printer = Printer::default();
        let reports = [report("web", "no Service a")];
        assert_eq!(
            printer.update(&reports),
            ["warning default/web Ingress: BackendServiceNotFound: no Service a"]
        );
        assert_eq!(printer.update(&reports), Vec::<String>::new());
        assert_eq!(
            printer.update(&[]),
            ["resolved default/web Ingress: BackendServiceNotFound: no Service a"]
        );
        assert_eq!(printer.update(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_changed_message_is_printed_and_nothing_resolved() {
        let mut printer = Printer::default();
        printer.update(&[report("web", "no Service a"), report("web", "no Service b")]);
        let lines = printer.update(&[report("web", "no Service c"), report("web", "no Service b")]);
        assert_eq!(
            lines,
            ["warning default/web Ingress: BackendServiceNotFound: no Service c"]
        );
    }

    #[test]
    fn a_report_is_one_line_whatever_the_manifest_says() {
        let forged = report("a\nerror default/x", "value '\u{1b}[31m\r'");
        assert_eq!(
            Printer::default().update(&[forged]),
            [r"warning default/a\nerror default/x Ingress: BackendServiceNotFound: value '\u{1b}[31m\r'"]
        );
    }
}
