//! Alerts and dashboards: the metrics that they ask for exist, and each alert is explained.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Names of metrics that no program has, alerts without a section in `docs/alerts.md`, dashboards that Grafana would refuse.
pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"));
    let known = known(&read("docs/reference/metrics.md")?);
    let alerts = read("charts/propylon/alerts.yaml")?;
    let mut faults = unknown("alerts.yaml", &alerts, &known);
    faults.extend(unexplained(&alerts, &read("docs/alerts.md")?)?);
    let folder = root.join("charts/propylon/dashboards");
    let entries = fs::read_dir(&folder).context("reading charts/propylon/dashboards")?;
    let mut uids = BTreeSet::new();
    for entry in entries {
        let path = entry.context("reading charts/propylon/dashboards")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
        faults.extend(unknown(&name, &text, &known));
        let dashboard: Value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
        faults.extend(
            panel_faults(&dashboard)
                .into_iter()
                .map(|fault| format!("{name}: {fault}")),
        );
        let uid = dashboard
            .get("uid")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if uid.is_empty() || !uids.insert(uid) {
            faults.push(format!("{name}: its uid is missing, or that of another dashboard"));
        }
    }
    Ok(faults)
}

/// The names of the first column of the page of metrics.
fn known(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .map(ToOwned::to_owned)
        .collect()
}

fn unknown(file: &str, text: &str, known: &BTreeSet<String>) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character));
    let names: BTreeSet<&str> = words.filter(|word| word.starts_with("propylon_")).collect();
    let plain = |name: &str| {
        let suffixes = ["_bucket", "_count", "_sum"];
        let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        known.contains(name) || base.is_some_and(|base| known.contains(base))
    };
    let absent = names.into_iter().filter(|name| !plain(name));
    absent
        .map(|name| format!("{file}: there is no metric {name}"))
        .collect()
}

fn unexplained(alerts: &str, page: &str) -> Result<Vec<String>> {
    let alerts: Vec<Value> = serde_saphyr::from_str(alerts).context("alerts.yaml")?;
    let mut faults = Vec::new();
    for alert in &alerts {
        let field = |name: &str| alert.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = field("name");
        if !page.lines().any(|line| line == format!("## {name}")) {
            faults.push(format!("docs/alerts.md: there is no section '## {name}'"));
        }
        let fields = ["name", "expr", "for", "severity", "summary", "description"];
        let empty = fields.iter().filter(|field_name| field(field_name).is_empty());
        faults.extend(empty.map(|field| format!("alerts.yaml: {name} has no {field}")));
    }
    Ok(faults)
}

/// Panels need a number of their own, a title and a question.
fn panel_faults(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut numbers = BTreeSet::new();
    let panels = dashboard.get("panels").and_then(Value::as_array);
    for panel in panels.into_iter().flatten() {
        let title = panel.get("title").and_then(Value::as_str).unwrap_or_default();
        let number = panel.get("id").and_then(Value::as_u64);
        if title.is_empty() || !number.is_some_and(|number| numbers.insert(number)) {
            faults.push(format!("the panel '{title}' has no title, or the number of another"));
        }
        let is_row = panel.get("type").and_then(Value::as_str) == Some("row");
        if !is_row && panel.pointer("/targets/0/expr").is_none() {
            faults.push(format!("the panel '{title}' asks nothing"));
        }
    }
    if numbers.is_empty() {
        faults.push("there are no panels".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_metric_that_nobody_has_is_found() {
        let known = known("| name |\n|---|\n| `propylon_a_seconds` | histogram |\n");
        let found = unknown("f", "rate(propylon_a_seconds_bucket[5m]) / propylon_b_total", &known);
        assert_eq!(found, ["f: there is no metric propylon_b_total"]);
    }

    #[test]
    fn an_alert_must_be_explained() {
        let alert = "- {name: A, expr: x, for: 1m, severity: info, summary: s}\n";
        let found = unexplained(alert, "## B\n").expect("YAML");
        assert_eq!(
            found,
            [
                "docs/alerts.md: there is no section '## A'",
                "alerts.yaml: A has no description"
            ]
        );
    }

    #[test]
    fn panels_are_told_apart() {
        let panel = json!({"id": 1, "title": "a", "targets": [{"expr": "x"}]});
        assert_eq!(panel_faults(&json!({"panels": [panel]})), [""; 0]);
        assert_eq!(panel_faults(&json!({"panels": [panel, panel]})).len(), 1);
        assert_eq!(
            panel_faults(&json!({"panels": [{"id": 1, "title": "a"}]})),
            ["the panel 'a' asks nothing"]
        );
    }
}
