//! The settings in force: flags, file and defaults together.

use clap::ValueEnum;
use propylon_translate::{Key, Options};
use serde::Deserialize;

use super::{
    StatusMode,
    file::{ConfigFile, NamedSpec},
    values::{PortRange, ValueError, parse_key},
};

/// Ports that Services may have on nodes' own addresses: not the privileged ones, not the node ports, and none of
/// Kubernetes (kubelet 10248-10250, kube-proxy 10249 and 10256, scheduler and controller manager 10257-10259, etcd
/// 2379-2381, API server 6443) or of ours (7443, 7444, 8081, 9902, 9903).
const NODE_ADDRESS_PORTS: &[(u16, u16)] = &[
    (1024, 2378),
    (2382, 6442),
    (6444, 7442),
    (7445, 8080),
    (8082, 9901),
    (9904, 10247),
    (10251, 10255),
    (10260, 29999),
];

/// Who carries the traffic of a `LoadBalancer` Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LbPath {
    /// The proxies.
    Proxy,
    /// The nodes' kernels, by the agent.
    Kernel,
}

/// Everything that may change while the controller runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Classes that are served whatever their controller; empty: those whose controller is ours.
    pub ingress_classes: Vec<String>,
    /// The certificate where nothing matches.
    pub default_tls_secret: Option<Key>,
    /// The `ConfigMap` of TCP ports.
    pub tcp_services: Option<Key>,
    /// The `ConfigMap` of UDP ports.
    pub udp_services: Option<Key>,
    /// Whether Services of type `ExternalName` are served.
    pub external_name: bool,
    /// Whether endpoints may be loopback and link-local addresses.
    pub allow_local_endpoints: bool,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The Service whose addresses go into the status of Ingresses.
    pub publish_service: Option<Key>,
    /// Addresses and host names that go into the status of Ingresses; they win over the Service.
    pub publish_addresses: Vec<String>,
    /// How the status of Ingresses is written.
    pub status_mode: StatusMode,
    /// `LoadBalancer` Services.
    pub lb: LbSettings,
}

/// Settings of `LoadBalancer` Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbSettings {
    /// Whether Services without a class are ours.
    pub serve_classless: bool,
    /// Who serves a Service that says nothing; none: the kernel where a node agent announces, else the proxy.
    pub default_path: Option<LbPath>,
    /// Ports that a Service may have on the nodes' own addresses.
    pub node_address_ports: Vec<PortRange>,
    /// Pools to apply.
    pub pools: Vec<NamedSpec>,
    /// L2 advertisements to apply.
    pub l2_advertisements: Vec<NamedSpec>,
    /// BGP peers to apply.
    pub bgp_peers: Vec<NamedSpec>,
    /// BGP advertisements to apply.
    pub bgp_advertisements: Vec<NamedSpec>,
}

impl Settings {
    /// What a file, flags already before it ([`ConfigFile::or`]), comes to with the defaults.
    ///
    /// # Errors
    /// [`ValueError`] where a name or a range has the wrong form. Not retryable.
    pub fn new(file: ConfigFile) -> Result<Self, ValueError> {
        let key = |text: Option<String>| {
            text.filter(|text| !text.is_empty())
                .map(|text| parse_key(&text))
                .transpose()
        };
        let ports = match file.lb.node_address_ports {
            Some(ranges) => ranges.iter().map(|range| range.parse()).collect::<Result<_, _>>()?,
            None => default_ports(),
        };
        Ok(Self {
            ingress_classes: file.ingress_classes.unwrap_or_default(),
            default_tls_secret: key(file.default_tls_secret)?,
            tcp_services: key(file.tcp_services_config_map)?,
            udp_services: key(file.udp_services_config_map)?,
            external_name: file.external_name.unwrap_or(false),
            allow_local_endpoints: file.allow_local_endpoints.unwrap_or(false),
            cluster_domain: file.cluster_domain.unwrap_or_else(|| "cluster.local".to_owned()),
            publish_service: key(file.publish_service)?,
            publish_addresses: file.publish_addresses.unwrap_or_default(),
            status_mode: file.status.mode.unwrap_or_default(),
            lb: LbSettings {
                serve_classless: file.lb.serve_classless.unwrap_or(true),
                default_path: file.lb.default_path,
                node_address_ports: ports,
                pools: file.lb.pools,
                l2_advertisements: file.lb.l2_advertisements,
                bgp_peers: file.lb.bgp_peers,
                bgp_advertisements: file.lb.bgp_advertisements,
            },
        })
    }

    /// What the compile needs of them; the time and the addresses of the machine are set by the compile loop.
    pub fn options(&self) -> Options {
        Options {
            ingress_classes: self.ingress_classes.clone(),
            default_tls_secret: self.default_tls_secret.clone(),
            allow_local_endpoints: self.allow_local_endpoints,
            external_name: self.external_name,
            cluster_domain: self.cluster_domain.clone(),
            tcp_services: self.tcp_services.clone(),
            udp_services: self.udp_services.clone(),
            lb_by_status: true,
            ..Options::default()
        }
    }
}

fn default_ports() -> Vec<PortRange> {
    let ranges = NODE_ADDRESS_PORTS.iter();
    ranges.map(|&(first, last)| PortRange { first, last }).collect()
}
