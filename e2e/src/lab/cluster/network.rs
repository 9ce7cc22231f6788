//! The network of Pods by plain routes, and kube-proxy.

use std::{collections::BTreeMap, fs, net::IpAddr};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Cluster, Dataplane, Node, control_plane::Stop};

/// Below Ethernet's 1500, as an overlay would have it.
const MTU: u32 = 1450;

impl Cluster {
    /// Waits until every node has registered and been given addresses for its Pods, and connects those.
    pub(super) fn connect_nodes(&self) -> Result<()> {
        let mut networks = BTreeMap::new();
        self.wait_for("the networks of the nodes", || {
            let names: Vec<String> = self.nodes().into_iter().map(|node| node.name).collect();
            self.expect_running(&names.iter().map(String::as_str).collect::<Vec<_>>())
                .map_err(Stop::Now)?;
            networks = self.pod_networks()?;
            let missing: Vec<&String> = names.iter().filter(|name| !networks.contains_key(*name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            Err(Stop::NotYet(format!("none yet for {missing:?}")))
        })?;
        for node in self.nodes() {
            let Some(own) = networks.get(&node.name) else { continue };
            self.add_routes(&node, own)?;
            self.configure(&node, own)?;
        }
        Ok(())
    }

    /// Waits until all nodes are ready.
    pub(super) fn wait_for_nodes(&self) -> Result<()> {
        self.wait_for("ready nodes", || {
            let ready = self.ready_nodes()?;
            if ready == usize::from(self.plan.nodes) {
                return Ok(());
            }
            Err(Stop::NotYet(format!("{ready} of {} are ready", self.plan.nodes)))
        })
        .with_context(|| format!("the logs of the nodes are in {}", self.folder.join("nodes").display()))
    }

    /// Whether all nodes are ready now.
    pub fn is_ready(&self) -> bool {
        self.ready_nodes()
            .is_ok_and(|ready| ready == usize::from(self.plan.nodes))
    }

    fn ready_nodes(&self) -> Result<usize, Stop> {
        let path = r#"{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let answer = self.ask(&["get", "nodes", "-o", &format!("jsonpath={path}")])?;
        Ok(answer.lines().filter(|line| *line == "True").count())
    }

    /// `node1` to `["10.244.0.0/24"]`, of those that have one.
    fn pod_networks(&self) -> Result<BTreeMap<String, Vec<String>>, Stop> {
        let path = r#"{range .items[*]}{.metadata.name}{" "}{.spec.podCIDRs[*]}{"\n"}{end}"#;
        let answer = self.ask(&["get", "nodes", "-o", &format!("jsonpath={path}")])?;
        Ok(answer
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ').map(str::to_owned);
                let name = words.next()?;
                let networks: Vec<String> = words.filter(|word| !word.is_empty()).collect();
                (!networks.is_empty()).then_some((name, networks))
            })
            .collect())
    }

    /// Everybody else reaches the Pods of a node through the node.
    fn add_routes(&self, node: &Node, networks: &[String]) -> Result<()> {
        let routes: Vec<String> = networks
            .iter()
            .filter_map(|network| Some(format!("route replace {network} via {}", via(node, network)?)))
            .collect();
        for place in self.places().iter().filter(|place| **place != node.place) {
            self.ip(place, &routes)?;
        }
        Ok(())
    }

    /// Writes what the node waits for: how Pods are connected, and how Services are served.
    fn configure(&self, node: &Node, networks: &[String]) -> Result<()> {
        let folder = self.node_folder(node);
        let ranges: Vec<Value> = networks.iter().map(|network| json!([{"subnet": network}])).collect();
        let routes: Vec<Value> = networks
            .iter()
            .map(|network| json!({"dst": if is_ipv6(network) { "::/0" } else { "0.0.0.0/0" }}))
            .collect();
        let addresses =
            json!({"type": "host-local", "dataDir": folder.join("addresses"), "ranges": ranges, "routes": routes});
        let list = json!({
            "cniVersion": "0.4.0",
            "name": "lab",
            "plugins": [
                {"type": "ptp", "ipMasq": false, "mtu": MTU, "ipam": addresses},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        fs::write(folder.join("cni/10-lab.conflist"), list.to_string()).context("writing the CNI configuration")?;
        let content = match self.plan.dataplane {
            Dataplane::KubeProxy => self.kube_proxy(node).to_string(),
            Dataplane::None => String::new(),
        };
        // Renamed, so that the node sees all of it or nothing.
        let partial = folder.join("kube-proxy.json.partial");
        fs::write(&partial, content).context("writing kube-proxy.json")?;
        fs::rename(&partial, folder.join("kube-proxy.json")).context("naming kube-proxy.json")
    }

    fn kube_proxy(&self, node: &Node) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": self.key("proxy.kubeconfig")},
            "clusterCIDR": self.pods(),
            "hostnameOverride": node.name,
            "healthzBindAddress": "0.0.0.0:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "conntrack": {"maxPerCore": 0, "min": 0},
        })
    }
}

/// The address of the node of the family of the network.
fn via(node: &Node, network: &str) -> Option<IpAddr> {
    node.addresses()
        .into_iter()
        .find(|address| address.is_ipv6() == is_ipv6(network))
}

fn is_ipv6(network: &str) -> bool {
    network.contains(':')
}
