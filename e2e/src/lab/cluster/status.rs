//! What runs, for a reader.

use std::{fmt::Write as _, fs};

use super::{Cluster, parts::processes};

const PARTS: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

impl Cluster {
    /// Parts and their memory, nodes and Pods, as text.
    pub fn status(&self) -> String {
        let mut text = format!("{:?}\n", self.plan);
        let nodes = self.nodes();
        let names = nodes.iter().map(|node| node.name.as_str());
        let mut total = 0;
        for part in PARTS.iter().copied().chain(names) {
            let found = processes(&self.plan.name, Some(part));
            let memory: u64 = found.iter().map(|id| memory_kib(id.as_raw_nonzero().get())).sum();
            total += memory;
            let state = if found.is_empty() { "does not run" } else { "runs" };
            // Writing to a string cannot fail.
            writeln!(text, "{part:<25} {state}, {} MB", memory / 1000).unwrap_or_default();
        }
        writeln!(text, "{:<25} {} MB", "in all, without Pods", total / 1000).unwrap_or_default();
        let objects = self.kubectl(&[
            "--request-timeout=5s",
            "get",
            "nodes,pods",
            "--all-namespaces",
            "-o",
            "wide",
        ]);
        text + &objects.text()
    }
}

/// The proportional share of memory of a process: what several share is counted once in a sum.
fn memory_kib(id: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}
