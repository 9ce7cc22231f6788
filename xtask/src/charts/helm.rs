//! Calls of Helm.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

/// The program, and the repository whose charts it reads.
pub(super) struct Helm {
    program: PathBuf,
    root: PathBuf,
}

impl Helm {
    /// Finds Helm: in the folder of the tools that the environment names, else on the path.
    pub(super) fn find(root: &Path) -> Result<Self> {
        let named = std::env::var_os("PROPYLON_E2E_TOOLS").map(|folder| PathBuf::from(folder).join("helm"));
        let found = Self {
            program: named.filter(|path| path.is_file()).unwrap_or_else(|| "helm".into()),
            root: root.to_owned(),
        };
        if found.output(&["version"]).is_err() {
            bail!("helm is missing: run cargo xtask test charts, which builds it, or install it");
        }
        Ok(found)
    }

    /// Lints a chart with values; an error is what Helm says.
    pub(super) fn lint(&self, chart: &str, values: &[&str]) -> Result<(), String> {
        let (values, chart) = (self.paths(values), self.root.join(chart).display().to_string());
        let mut arguments = vec!["lint", "--strict", &chart];
        arguments.extend(values.iter().map(String::as_str));
        self.output(&arguments)
            .map(drop)
            .map_err(|error| format!("helm lint {chart}: {error}"))
    }

    /// What the release `propylon` in `propylon-system` renders; an error is what Helm says.
    pub(super) fn template(&self, arguments: &[&str], values: &[&str]) -> Result<String, String> {
        let (values, chart) = (
            self.paths(values),
            self.root.join("charts/propylon").display().to_string(),
        );
        let mut all = vec!["template", "propylon", &chart, "--namespace", "propylon-system"];
        all.extend(["--kube-version", KUBERNETES]);
        all.extend(arguments);
        all.extend(values.iter().map(String::as_str));
        self.output(&all)
    }

    /// Values files by their whole path.
    fn paths(&self, values: &[&str]) -> Vec<String> {
        let path = |value: &&str| match value.strip_suffix(".yaml") {
            Some(_) => self.root.join("charts/propylon").join(value).display().to_string(),
            None => (*value).to_owned(),
        };
        values.iter().map(path).collect()
    }

    fn output(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        // Helm says that charts/ holds a link; that is known.
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().filter(|line| !line.contains("found symbolic link"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &lines.collect::<Vec<_>>().join(" ");
        Err(said.trim().to_owned())
    }
}

/// The version of Kubernetes that goldens are rendered for.
const KUBERNETES: &str = "1.36.0";
