//! The tiers with real Kubernetes: an API server alone, and a cluster of several nodes.

use std::time::Duration;

use super::{Workspace, command::Outcome};

/// What switches on the tests that need Kubernetes.
pub(super) const FEATURE: &str = "propylon-e2e/cluster";

/// Builds etcd, Kubernetes and its tools into the user's cache; nothing to do the second time.
pub(super) fn build(workspace: &Workspace, budget: Duration) -> Outcome {
    lab(workspace, &["deps"], budget)
}

/// The tests with an API server alone.
pub(super) fn api(workspace: &Workspace, budget: Duration) -> Outcome {
    tests(workspace, "api", budget)
}

fn lab(workspace: &Workspace, arguments: &[&str], budget: Duration) -> Outcome {
    workspace
        .cargo(&[&["run", "--package", "propylon-e2e", "--bin", "lab", "--"], arguments].concat())
        .check(budget)
}

fn tests(workspace: &Workspace, target: &str, budget: Duration) -> Outcome {
    let built = workspace.cargo(&["build", "--workspace", "--bins"]).check(budget);
    if built.failed > 0 {
        return built;
    }
    workspace
        .test(&["--features", FEATURE, "--test", target])
        .with_environment("PROPYLON_BIN_DIR", &workspace.binaries.to_string_lossy())
        .count_tests(budget)
}
