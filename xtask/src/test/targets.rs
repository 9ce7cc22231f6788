//! The integration tests of the workspace, by name.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Whose integration tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Those of `propylon-e2e`, which need the built binary and real clients.
    EndToEnd,
    /// Those of all other crates.
    OtherCrates,
}

/// The names of integration tests, as `cargo test --test` takes them; without those that wait for a feature, which are
/// stages of their own.
///
/// # Errors
/// When cargo cannot read the workspace.
pub(super) fn integration_tests(root: &Path, of: Of) -> Result<Vec<String>> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--locked"];
    let output = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")?;
    Ok(select(&metadata, of))
}

fn select(metadata: &Value, of: Of) -> Vec<String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let packages = list(metadata, "packages").into_iter();
    let packages = packages.filter(|package| (text(package) == "propylon-e2e") == (of == Of::EndToEnd));
    let targets = packages.flat_map(|package| list(&package, "targets"));
    targets
        .filter(|target| list(target, "kind").contains(&Value::from("test")))
        .filter(|target| list(target, "required-features").is_empty())
        .map(|target| text(&target))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_integration_tests_of_the_right_crates_are_named() {
        let metadata = json!({"packages": [
            {"name": "propylon-e2e", "targets": [{"name": "propylon_e2e", "kind": ["lib"]}, {"name": "behaviour", "kind": ["test"]},
                {"name": "api", "kind": ["test"], "required-features": ["cluster"]}]},
            {"name": "propylon-cli", "targets": [{"name": "propylon", "kind": ["bin"]}, {"name": "run", "kind": ["test"]}]},
        ]});
        assert_eq!(select(&metadata, Of::EndToEnd), ["behaviour"]);
        assert_eq!(select(&metadata, Of::OtherCrates), ["run"]);
    }
}
