//! The reports of a compile while it runs.

use propylon_model::{ObjectRef, Report, ReportReason};

/// Collects reports; each is said once.
#[derive(Debug, Default)]
pub(crate) struct Reports(Vec<Report>);

impl Reports {
    pub(crate) fn add(&mut self, object: &ObjectRef, reason: ReportReason, message: impl Into<String>) {
        self.0.push(Report::new(object.clone(), reason, message));
    }

    pub(crate) fn push(&mut self, report: Report) {
        self.0.push(report);
    }

    /// The reports by object, reason and message, each once.
    pub(crate) fn into_sorted(mut self) -> Vec<Report> {
        self.0.sort_by(|left, right| {
            (&left.object, left.reason, &left.message).cmp(&(&right.object, right.reason, &right.message))
        });
        self.0.dedup();
        self.0
    }
}

/// Writes names as a list in words: `a`, `a and b`, `a, b and 3 more`.
pub(crate) fn name_some<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 3;
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let hidden = names.len().saturating_sub(SHOWN);
    match names.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) if hidden == 0 => format!("{} and {last}", others.join(", ")),
        Some(_) => format!(
            "{} and {hidden} more",
            names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ")
        ),
    }
}
