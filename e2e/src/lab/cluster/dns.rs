//! The cluster's DNS: `CoreDNS` as a Deployment behind the address that kubelets tell Pods.

use anyhow::{Result, ensure};

use super::{Cluster, Dataplane};

/// With `REPLICAS` in place of their number.
const OBJECTS: &str = include_str!("coredns.yaml");

impl Cluster {
    /// Applies the objects, and waits until Pods are ready where there is a data plane (they reach the API server by the
    /// address of a Service).
    pub(super) fn start_dns(&self) -> Result<()> {
        let replicas = if self.plan.nodes == 1 { "1" } else { "2" };
        let file = self.write("coredns.yaml", &OBJECTS.replace("REPLICAS", replicas))?;
        let applied = self.kubectl(&["apply", "-f", &file.display().to_string()]);
        ensure!(
            applied.succeeded(),
            "the objects of CoreDNS are refused: {}",
            applied.text()
        );
        if self.plan.dataplane == Dataplane::None {
            return Ok(());
        }
        let status = [
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=120s",
        ];
        let rolled_out = self.kubectl(&status);
        ensure!(
            rolled_out.succeeded(),
            "CoreDNS is not ready: {}\n{}",
            rolled_out.text(),
            self.kubectl(&["-n", "kube-system", "describe", "pods"]).text()
        );
        Ok(())
    }
}
