//! The dependency graph of `cargo metadata`, by the names of packages.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::repository;

/// The platform of the product.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Which package depends on which, as normal or build dependency.
pub(super) struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    /// Asks cargo, for the platform of the product, with all features.
    pub(super) fn of_workspace() -> Result<Self> {
        let metadata = cargo(&["metadata", "--format-version=1"], &["--filter-platform", PLATFORM])?;
        let metadata = serde_json::from_str(&metadata).context("reading cargo metadata")?;
        let mut graph = Self::from_metadata(&metadata).context("cargo metadata has another form than expected")?;
        // Metadata has optional dependencies too that only a weak feature names (rustls-webpki's ring); a tree has not.
        let tree = [
            "tree",
            "--workspace",
            "--edges=normal,build",
            "--prefix=none",
            "--format={p}",
        ];
        let tree = cargo(&tree, &["--target", PLATFORM])?;
        let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        graph.keep(|name| linked.contains(name));
        Ok(graph)
    }

    fn keep(&mut self, is_linked: impl Fn(&str) -> bool) {
        self.edges.retain(|name, _| is_linked(name));
        for used in self.edges.values_mut() {
            used.retain(|name| is_linked(name));
        }
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let mut names = BTreeMap::new();
        for package in metadata.get("packages")?.as_array()? {
            names.insert(package.get("id")?.as_str()?, package.get("name")?.as_str()?);
        }
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata.get("resolve")?.get("nodes")?.as_array()? {
            let name = names.get(node.get("id")?.as_str()?)?;
            let used = edges.entry((*name).to_owned()).or_default();
            for dependency in node.get("deps")?.as_array()? {
                let kinds = dependency.get("dep_kinds")?.as_array()?;
                if kinds
                    .iter()
                    .any(|kind| kind.get("kind").and_then(Value::as_str) != Some("dev"))
                {
                    used.insert((*names.get(dependency.get("pkg")?.as_str()?)?).to_owned());
                }
            }
        }
        let members = metadata.get("workspace_members")?.as_array()?.iter();
        let members = members
            .map(|id| Some((*names.get(id.as_str()?)?).to_owned()))
            .collect::<Option<_>>()?;
        Some(Self { edges, members })
    }

    /// The crates of the workspace.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(String::as_str)
    }

    /// Whether a package is one of the workspace.
    pub(super) fn is_member(&self, package: &str) -> bool {
        self.members.contains(package)
    }

    /// How many packages there are.
    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    /// What a package depends on itself.
    pub(super) fn direct(&self, package: &str) -> impl Iterator<Item = &str> {
        self.edges.get(package).into_iter().flatten().map(String::as_str)
    }

    /// The shortest chain from a package to one that the test holds for; none where there is none.
    pub(super) fn chain(&self, package: &str, is_wanted: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let mut queue = VecDeque::from([vec![package]]);
        let mut seen = BTreeSet::from([package]);
        while let Some(chain) = queue.pop_front() {
            for next in self.direct(chain.last()?) {
                let longer: Vec<&str> = chain.iter().copied().chain([next]).collect();
                if is_wanted(next) {
                    return Some(longer.into_iter().map(str::to_owned).collect());
                }
                if seen.insert(next) {
                    queue.push_back(longer);
                }
            }
        }
        None
    }

    /// A graph for tests; what starts with `propylon-` is of the workspace.
    #[cfg(test)]
    pub(super) fn from_edges(edges: &[(&str, &[&str])]) -> Self {
        let edges: BTreeMap<String, BTreeSet<String>> = edges
            .iter()
            .map(|(name, used)| ((*name).to_owned(), used.iter().map(|used| (*used).to_owned()).collect()))
            .collect();
        let members = edges
            .keys()
            .filter(|name| name.starts_with("propylon-"))
            .cloned()
            .collect();
        Self { edges, members }
    }
}

/// The output of cargo in the root of the repository.
fn cargo(command: &[&str], platform: &[&str]) -> Result<String> {
    let output = Command::new("cargo")
        .args(command)
        .args(["--locked", "--all-features"])
        .args(platform)
        .current_dir(repository::root()?)
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        bail!(
            "cargo {}: {}",
            command.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("cargo's output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "a#1", "name": "a"}, {"id": "b#1", "name": "b"}, {"id": "c#1", "name": "c"}, {"id": "d#1", "name": "d"},
            ],
            "workspace_members": ["a#1"],
            "resolve": {"nodes": [
                {"id": "a#1", "deps": [
                    {"pkg": "b#1", "dep_kinds": [{"kind": null}]},
                    {"pkg": "c#1", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "b#1", "deps": [{"pkg": "d#1", "dep_kinds": [{"kind": "dev"}, {"kind": "build"}]}]},
                {"id": "c#1", "deps": []},
                {"id": "d#1", "deps": []},
            ]},
        });
        let graph = Graph::from_metadata(&metadata).expect("of the expected form");
        assert_eq!(graph.members().collect::<Vec<_>>(), ["a"]);
        assert_eq!(graph.direct("a").collect::<Vec<_>>(), ["b"]);
        assert_eq!(
            graph.chain("a", |name| name == "d"),
            Some(vec!["a".to_owned(), "b".to_owned(), "d".to_owned()])
        );
        assert_eq!(graph.chain("a", |name| name == "c"), None);
    }

    #[test]
    fn the_graph_of_this_workspace_has_its_crates() {
        let graph = Graph::of_workspace().expect("cargo runs");
        assert!(graph.is_member("propylon-kit"));
        assert!(graph.chain("propylon-proxy", |name| name == "hyper").is_some());
        assert!(
            graph.chain("propylon-cli", |name| name == "ring").is_none(),
            "named by a weak feature alone"
        );
    }
}
