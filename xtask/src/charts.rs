//! `cargo xtask charts`: what the Helm charts render, held against goldens, Kubernetes' own types, Pod Security, the table
//! of rights, the flags of the programs and the names of their metrics.
//!
//! Helm is needed: `lab deps` builds it, and `PROPYLON_E2E_TOOLS` names the folder that it lies in (`cargo xtask test charts` does
//! both).

mod cases;
mod definitions;
mod documents;
mod helm;
mod labels;
mod monitoring;
mod programs;
mod rights;
mod security;
mod values;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::repository;
use cases::{CASES, Case, REFUSALS, Refusal};
use documents::Document;
use helm::Helm;

/// Whether generated files are compared or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Check,
    Write,
}

/// What a case renders.
struct Rendered {
    case: &'static Case,
    documents: Vec<Document>,
}

/// Where the charts lie, and what is known of them.
struct Charts {
    root: PathBuf,
    helm: Helm,
    mode: Mode,
    faults: Vec<String>,
}

/// Says what is wrong with the charts; exit code 1 where anything is.
///
/// # Errors
/// Where Helm is missing, or the charts cannot be read. Retryable once they can.
pub(crate) fn check() -> Result<ExitCode> {
    run(Mode::Check)
}

/// The same, and writes the goldens and the generated files anew.
///
/// # Errors
/// As [`check`], and where a file cannot be written.
pub(crate) fn write() -> Result<ExitCode> {
    run(Mode::Write)
}

fn run(mode: Mode) -> Result<ExitCode> {
    let root = repository::root()?;
    let mut charts = Charts {
        helm: Helm::find(&root)?,
        root,
        mode,
        faults: Vec::new(),
    };
    charts.definitions()?;
    charts.lint();
    charts.values()?;
    let rendered = charts.render()?;
    for Rendered { case, documents } in &rendered {
        let faults = [
            documents::faults(documents),
            labels::faults(documents),
            security::faults(documents),
            programs::faults(documents),
        ];
        let named = faults.iter().flatten().map(|fault| format!("{}: {fault}", case.name));
        charts.faults.extend(named);
    }
    charts.rights(&rendered)?;
    charts.monitoring()?;
    charts.refusals();
    Ok(repository::verdict(
        &charts.faults,
        &format!(
            "charts: {} sets of values rendered, {} refused",
            CASES.len(),
            REFUSALS.len()
        ),
    ))
}

impl Charts {
    /// The chart of the custom resources holds what the code says.
    fn definitions(&mut self) -> Result<()> {
        for (file, text) in definitions::templates() {
            let path = self.root.join("charts/propylon-crds/templates").join(&file);
            self.generated(&path, &text)?;
        }
        Ok(())
    }

    fn lint(&mut self) {
        for chart in ["charts/propylon", "charts/propylon-crds"] {
            self.faults.extend(self.helm.lint(chart, &[]).err());
        }
        for case in CASES {
            self.faults.extend(self.helm.lint("charts/propylon", case.values).err());
        }
    }

    /// The schema and the page of the values agree with the values.
    fn values(&mut self) -> Result<()> {
        let folder = self.root.join("charts/propylon");
        let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("reading {name}"));
        let (text, schema) = (read("values.yaml")?, read("values.schema.json")?);
        let schema = serde_json::from_str(&schema).context("values.schema.json")?;
        self.faults.extend(values::faults(&text, &schema)?);
        let page = values::page(&text)?;
        let path = self.root.join("docs/reference/values.md");
        self.generated(&path, &page)
    }

    fn render(&mut self) -> Result<Vec<Rendered>> {
        let mut rendered = Vec::new();
        for case in CASES {
            match self.helm.template(case.arguments, case.values) {
                Ok(text) => {
                    let path = self.root.join("charts/golden").join(format!("{}.yaml", case.name));
                    self.generated(&path, &text)?;
                    let documents = documents::parse(&text).with_context(|| format!("{}: rendered", case.name))?;
                    rendered.push(Rendered { case, documents });
                }
                Err(error) => self.faults.push(format!("{}: {error}", case.name)),
            }
        }
        Ok(rendered)
    }

    /// The rights that are rendered are those of the table, and nobody has more than the table says.
    fn rights(&mut self, rendered: &[Rendered]) -> Result<()> {
        let page = fs::read_to_string(self.root.join("docs/rbac.md")).context("reading docs/rbac.md")?;
        let of = |name: &str| {
            let found = rendered.iter().find(|rendered| rendered.case.name == name);
            found.map_or(&[][..], |found| found.documents.as_slice())
        };
        for section in rights::SECTIONS {
            let base = section.base().map_or(&[][..], of);
            self.faults
                .extend(rights::faults(&page, section, of(section.case), base));
        }
        for Rendered { case, documents } in rendered {
            let named = rights::excess(documents)
                .into_iter()
                .map(|fault| format!("{}: {fault}", case.name));
            self.faults.extend(named);
        }
        Ok(())
    }

    fn monitoring(&mut self) -> Result<()> {
        let faults = monitoring::faults(&self.root)?;
        self.faults.extend(faults);
        Ok(())
    }

    /// What cannot work is refused, in words that say what to do.
    fn refusals(&mut self) {
        for Refusal { values, says } in REFUSALS {
            match self.helm.template(&[], values) {
                Ok(_) => self
                    .faults
                    .push(format!("{}: rendered, but must be refused", values.join(" "))),
                Err(error) if error.contains(says) => {}
                Err(error) => {
                    self.faults.push(format!(
                        "{}: refused with '{error}', which does not say '{says}'",
                        values.join(" ")
                    ));
                }
            }
        }
    }

    /// Compares a file with what it must be, or writes it.
    fn generated(&mut self, path: &Path, wanted: &str) -> Result<()> {
        let shown = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        if self.mode == Mode::Write {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| format!("making the folder of {shown}"))?;
            }
            return fs::write(path, wanted).with_context(|| format!("writing {shown}"));
        }
        let present = fs::read_to_string(path).unwrap_or_default();
        if let Some(difference) = crate::docs::first_difference(&present, wanted) {
            self.faults
                .push(format!("{shown}: {difference}; run cargo xtask charts --write"));
        }
        Ok(())
    }
}
