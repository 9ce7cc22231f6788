//! The tiers with real Kubernetes: an API server alone, and a cluster of several nodes.

use std::time::Duration;

use super::{
    Workspace,
    command::{Outcome, Run},
};

/// What switches on the tests that need Kubernetes.
pub(super) const FEATURE: &str = "propylon-e2e/cluster";

/// The cluster of this command, beside which somebody may work with another.
const NAME: &str = "tests";

/// The programs of the lab that these tiers start, with the environment variable that says where they are.
const BINARIES: &str = "PROPYLON_BIN_DIR";

/// Builds etcd, Kubernetes and its tools into the user's cache; nothing to do the second time.
pub(super) fn programs(workspace: &Workspace, budget: Duration) -> Outcome {
    // Of the whole workspace: another selection of packages would compile the dependencies once more.
    let mut built = workspace
        .cargo(&["build", "--workspace", "--bin", "lab", "--features", FEATURE])
        .check(budget);
    if built.failed == 0 {
        built.add(lab(workspace, &["deps"]).check(budget));
    }
    built
}

/// The tests with an API server alone.
pub(super) fn api(workspace: &Workspace, budget: Duration) -> Outcome {
    let built = build(workspace, "api", budget);
    if built.failed > 0 {
        return built;
    }
    tests(workspace, "api", budget)
}

/// The tests of the lab itself, and those in a cluster of three nodes: the latter run in the network of the cluster's
/// client, which has no way out, so that everything is built before.
pub(super) fn cluster(workspace: &Workspace, budget: Duration) -> Outcome {
    let mut built = build(workspace, "lab", budget);
    built.add(
        workspace
            .test(&["--features", FEATURE, "--test", "cluster", "--no-run"])
            .check(budget),
    );
    if built.failed > 0 {
        return built;
    }
    let mut total = tests(workspace, "lab", budget);
    let up = lab(workspace, &["up", "--fresh", "--nodes", "3"]).check(budget);
    if up.failed == 0 {
        let test = [
            "cargo",
            "test",
            "--offline",
            "--workspace",
            "--no-fail-fast",
            "--features",
            FEATURE,
        ];
        let arguments = [
            &["exec", "cl", "--"],
            &test[..],
            &["--test", "cluster", "--", "--test-threads", "1"],
        ]
        .concat();
        total.add(lab(workspace, &arguments).count_tests(budget));
    } else {
        total.add(up);
    }
    total.add(lab(workspace, &["down"]).check(budget));
    total
}

/// Builds the programs that a target of tests starts. In one call with the target: without it cargo would compile the
/// dependencies once more, with the features that they have in no test.
fn build(workspace: &Workspace, target: &str, budget: Duration) -> Outcome {
    let selection = ["--bins", "--test", target, "--features", FEATURE];
    let built = workspace
        .cargo(&[&["build", "--workspace"], &selection[..]].concat())
        .check(budget);
    // Not a check of its own: it counts only where it fails.
    Outcome { passed: 0, ..built }
}

fn lab(workspace: &Workspace, arguments: &[&str]) -> Run {
    let program = workspace.binaries.join("lab");
    Run::new(&program.to_string_lossy(), &[&["--name", NAME], arguments].concat())
        .in_folder(&workspace.root)
        .with_environment(BINARIES, &workspace.binaries.to_string_lossy())
}

fn tests(workspace: &Workspace, target: &str, budget: Duration) -> Outcome {
    workspace
        .test(&["--features", FEATURE, "--test", target])
        .with_environment(BINARIES, &workspace.binaries.to_string_lossy())
        .count_tests(budget)
}
