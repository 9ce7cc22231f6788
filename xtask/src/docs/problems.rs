//! The pages of the codes of reports: `docs/reference/problems/CODE.md`. Their heads are made from the table in the code,
//! the rest is written by hand; that the examples do what they say is for a test of the command line.

use std::{collections::BTreeSet, fs, io, path::Path};

use anyhow::{Context as _, Result};
use propylon_model::ReportReason;

/// The folder of the pages within `docs/reference`.
pub(super) const FOLDER: &str = "problems";

/// What every page has, in this order.
const SECTIONS: &[&str] = &["What it means", "Why it matters", "Example", "How to fix it"];

/// How many pages there are to be.
pub(super) const fn count() -> usize {
    ReportReason::ALL.len()
}

/// Writes the heads of the pages that are there. Returns what is wrong beyond heads.
pub(super) fn write(folder: &Path) -> Result<Vec<String>> {
    let mut faults = strays(folder)?;
    for (reason, doc) in ReportReason::ALL {
        let path = folder.join(format!("{}.md", reason.code()));
        let Some(present) = read(&path)? else {
            faults.push(missing(*reason));
            continue;
        };
        faults.extend(faults_of(*reason, &present));
        if let Some(wanted) = with_head(*reason, doc, &present).filter(|wanted| *wanted != present) {
            fs::write(&path, wanted).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(faults)
}

/// Says which codes have no page, which pages no code, and what is wrong with the others.
pub(super) fn check(folder: &Path) -> Result<Vec<String>> {
    let mut faults = strays(folder)?;
    for (reason, doc) in ReportReason::ALL {
        let Some(present) = read(&folder.join(format!("{}.md", reason.code())))? else {
            faults.push(missing(*reason));
            continue;
        };
        faults.extend(faults_of(*reason, &present));
        if with_head(*reason, doc, &present).is_some_and(|wanted| wanted != present) {
            faults.push(format!(
                "{}: the head is out of date; run cargo xtask docs",
                name(*reason)
            ));
        }
    }
    Ok(faults)
}

/// Pages whose code is in no table. The page of a reason that is no more stays, and says so in its title.
fn strays(folder: &Path) -> Result<Vec<String>> {
    let known: BTreeSet<String> = ReportReason::ALL
        .iter()
        .map(|(reason, _)| format!("{}.md", reason.code()))
        .collect();
    fs::create_dir_all(folder).context("making docs/reference/problems")?;
    let mut faults = Vec::new();
    for entry in fs::read_dir(folder).context("reading docs/reference/problems")? {
        let entry = entry.context("reading docs/reference/problems")?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let is_retired = || fs::read_to_string(entry.path()).is_ok_and(|text| text.lines().any(is_retired_title));
        if !known.contains(&file) && !is_retired() {
            faults.push(format!(
                "docs/reference/problems/{file}: no report has this code; a code stays with its reason for good (title '# CODE: \
                 REASON (retired)')"
            ));
        }
    }
    faults.sort();
    Ok(faults)
}

fn is_retired_title(line: &str) -> bool {
    line.starts_with("# PRP") && line.ends_with("(retired)")
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn name(reason: ReportReason) -> String {
    format!("docs/reference/problems/{}.md", reason.code())
}

fn missing(reason: ReportReason) -> String {
    format!(
        "{}: is missing; write it for {} with the sections {}, then run cargo xtask docs",
        name(reason),
        reason.as_str(),
        SECTIONS.join(", ")
    )
}

/// What is wrong with a page beyond the text of its head.
fn faults_of(reason: ReportReason, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let title = text.lines().find(|line| line.starts_with("# "));
    if title.is_some_and(|title| title != self::title(reason)) {
        faults.push(format!(
            "{}: the title is '{}', the code says '{}'; a code never changes its reason",
            name(reason),
            title.unwrap_or_default(),
            self::title(reason)
        ));
    }
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    if found != SECTIONS {
        faults.push(format!(
            "{}: the sections must be {}",
            name(reason),
            SECTIONS.join(", ")
        ));
    }
    let parts = text.split("\n## ").skip(1);
    let empty = parts.filter(|part| part.lines().skip(1).all(|line| line.trim().is_empty()));
    faults.extend(empty.map(|part| {
        let section = part.lines().next().unwrap_or_default();
        format!("{}: the section {section} is empty", name(reason))
    }));
    faults
}

/// The page with its head as it should be; none where its title is of another reason, or nothing follows the head.
fn with_head(reason: ReportReason, doc: &str, text: &str) -> Option<String> {
    let title = text.lines().find(|line| line.starts_with("# "));
    if title.is_some_and(|title| title != self::title(reason)) {
        return None;
    }
    let begin = if text.starts_with("## ") {
        0
    } else {
        text.find("\n## ")? + 1
    };
    let body = text.get(begin..)?;
    let severity = reason.severity().as_str();
    Some(format!(
        "<!-- What stands above the first section is written by `cargo xtask docs` from `crates/model/src/report.rs`. -->\n\n{}\n\n\
         Severity: {severity}. {}\n\n{body}",
        self::title(reason),
        doc.trim()
    ))
}

fn title(reason: ReportReason) -> String {
    format!("# {}: {}", reason.code(), reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: ReportReason = ReportReason::RouteConflict;

    fn body() -> String {
        SECTIONS
            .iter()
            .flat_map(|section| ["## ", section, "\n\ntext\n\n"])
            .collect()
    }

    #[test]
    fn a_body_gets_its_head_and_keeps_it() {
        let page = with_head(REASON, " It is so.", &body()).unwrap();
        assert!(
            page.contains("\n# PRP0020: RouteConflict\n\nSeverity: warning. It is so.\n\n## What it means\n"),
            "{page}"
        );
        assert_eq!(with_head(REASON, " It is so.", &page), Some(page.clone()));
        assert_eq!(faults_of(REASON, &page), Vec::<String>::new());
        assert!(
            with_head(REASON, " It is otherwise.", &page)
                .unwrap()
                .contains("It is otherwise.\n\n## What")
        );
    }

    #[test]
    fn a_page_of_another_reason_is_not_overwritten() {
        let page = with_head(ReportReason::InvalidObject, "", &body()).unwrap();
        assert_eq!(with_head(REASON, "", &page), None);
        assert_eq!(faults_of(REASON, &page).len(), 1);
    }

    #[test]
    fn sections_must_be_there_and_hold_something() {
        let without = body().replace("## Example\n\ntext\n\n", "");
        assert_eq!(faults_of(REASON, &without).len(), 1);
        let empty = body().replace("## Example\n\ntext\n", "## Example\n\n");
        assert!(faults_of(REASON, &(String::from("\n") + &empty))[0].ends_with("the section Example is empty"));
    }

    #[test]
    fn missing_and_stray_pages_are_found() {
        let folder = std::env::temp_dir().join(format!("propylon-problems-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("PRP9999.md"), "# PRP9999: Nothing\n").unwrap();
        fs::write(folder.join("PRP9998.md"), "# PRP9998: Gone (retired)\n").unwrap();
        let faults = check(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(faults.len(), 1 + count());
        assert!(faults[0].starts_with("docs/reference/problems/PRP9999.md: no report"));
        assert!(faults[1].contains("PRP0001.md: is missing"));
    }
}
