//! What the plan needs to know of Services and nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServiceSpec};
use propylon_crds::Family;
use propylon_translate::Key;

/// The finalizer of a Service with an address of ours.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Where the path of a Service stands: what its author asks for, and what was decided at allocation.
pub const PATH_ANNOTATION: &str = "propylon.dev/lb-path";

/// `status.loadBalancer.ingress[].ipMode` of an address that a proxy answers.
pub const IP_MODE_PROXY: &str = "Proxy";

/// `status.loadBalancer.ingress[].ipMode` of an address that the nodes' kernels forward; the default.
pub const IP_MODE_VIP: &str = "VIP";

const CLASS_PROXY: &str = "propylon.dev/proxy";
const CLASS_KERNEL: &str = "propylon.dev/kernel";

const IPS: [&str; 3] = [
    "propylon.dev/load-balancer-ips",
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/loadBalancerIPs",
];
const POOL: [&str; 3] = [
    "propylon.dev/address-pool",
    "metallb.io/address-pool",
    "metallb.universe.tf/address-pool",
];
const SHARING: [&str; 3] = [
    "propylon.dev/allow-shared-ip",
    "metallb.io/allow-shared-ip",
    "metallb.universe.tf/allow-shared-ip",
];

/// Who carries the traffic of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// The nodes' kernels.
    Kernel,
    /// The proxies.
    Proxy,
}

impl Path {
    /// The word in the annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
        }
    }

    /// Reads the word of the annotation.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Kernel, Self::Proxy]
            .into_iter()
            .find(|path| text.trim().eq_ignore_ascii_case(path.as_str()))
    }
}

/// Whose a Service is, by `spec.loadBalancerClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It names none.
    None,
    /// Another controller's.
    Other,
    /// Ours, and the class says the path.
    Ours(Path),
}

/// A port of a Service: the protocol as Kubernetes spells it, and the number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number.
    pub number: u16,
}

/// `PORT/PROTOCOL`.
impl std::fmt::Display for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.number, self.protocol)
    }
}

/// An address in the status of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The address.
    pub address: IpAddr,
    /// Who answers it.
    pub path: Path,
    /// What is said of its ports: the error, none where the port is served.
    pub ports: BTreeMap<Port, Option<String>>,
}

/// What the plan needs to know of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct ServiceFacts {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.creationTimestamp`, Unix seconds.
    pub created_unix_s: Option<i64>,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is of type `LoadBalancer`.
    pub is_load_balancer: bool,
    /// Whose it is.
    pub class: Class,
    /// The path that the annotation says.
    pub path: Option<Path>,
    /// The addresses that it asks for; what of them is none, where there is something wrong with them.
    pub requested: Result<Vec<IpAddr>, String>,
    /// The pool that it asks for.
    pub pool: Option<String>,
    /// The key of Services that it shares an address with.
    pub sharing: Option<String>,
    /// The families of its addresses, the preferred one first.
    pub families: Vec<Family>,
    /// Whether it must have an address of each family.
    pub requires_all_families: bool,
    /// Whether `externalTrafficPolicy` is `Local`.
    pub is_local: bool,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: BTreeSet<Port>,
    /// `spec.externalIPs`.
    pub external: BTreeSet<IpAddr>,
    /// The addresses in its status.
    pub present: Vec<Present>,
    /// Whether its status has an entry that is no address (a host name of a cloud).
    pub has_host_name: bool,
}

impl ServiceFacts {
    /// Reads a Service.
    pub fn read(service: &Service) -> Self {
        let metadata = &service.metadata;
        let none = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&none);
        let annotation = |names: &[&str]| {
            let all = metadata.annotations.as_ref()?;
            names
                .iter()
                .find_map(|name| all.get(*name))
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let entries = entries(service);
        let present: Vec<Present> = entries.iter().filter_map(present).collect();
        Self {
            key: Key::new(namespace, metadata.name.as_deref().unwrap_or_default()),
            created_unix_s: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            is_deleting: metadata.deletion_timestamp.is_some(),
            resource_version: metadata.resource_version.clone(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            is_load_balancer: spec.type_.as_deref() == Some("LoadBalancer"),
            class: match spec.load_balancer_class.as_deref() {
                None => Class::None,
                Some(CLASS_KERNEL) => Class::Ours(Path::Kernel),
                Some(CLASS_PROXY) => Class::Ours(Path::Proxy),
                Some(_) => Class::Other,
            },
            path: annotation(&[PATH_ANNOTATION]).and_then(Path::parse),
            requested: addresses(
                annotation(&IPS)
                    .or(spec.load_balancer_ip.as_deref())
                    .unwrap_or_default(),
            ),
            pool: annotation(&POOL).map(str::to_owned),
            sharing: annotation(&SHARING).map(str::to_owned),
            families: families(spec),
            requires_all_families: spec.ip_family_policy.as_deref() == Some("RequireDualStack"),
            is_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            selector: spec.selector.clone().unwrap_or_default(),
            ports: ports(spec),
            external: spec
                .external_ips
                .iter()
                .flatten()
                .filter_map(|text| text.parse().ok())
                .collect(),
            has_host_name: present.len() < entries.len(),
            present,
        }
    }

    /// Whether it has the finalizer of ours, which other controllers use too.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// Whether we gave it addresses, or its author asks us to by name.
    pub const fn is_marked(&self) -> bool {
        self.path.is_some() || matches!(self.class, Class::Ours(_))
    }

    /// What older Services are served before.
    pub fn age(&self) -> (i64, &Key) {
        (self.created_unix_s.unwrap_or(i64::MAX), &self.key)
    }

    /// Whether the proxies' nodes' addresses in its status are ours.
    pub fn holds_nodes(&self) -> bool {
        self.is_marked() && self.present.iter().any(|present| present.path == Path::Proxy)
    }
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The name.
    pub name: String,
    /// Every address that is its own.
    pub addresses: BTreeSet<IpAddr>,
    /// The addresses that clients reach it at: of each family the external one, else the internal one.
    pub published: BTreeSet<IpAddr>,
    /// Whether a ready proxy runs on it on the host's network.
    pub is_ready: bool,
}

impl NodeFacts {
    /// Reads a node.
    pub fn read(node: &Node, is_ready: bool) -> Self {
        let given = || node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let of_type = |wanted: &str, family| {
            given()
                .filter(|given| given.type_ == wanted)
                .filter_map(|given| given.address.parse::<IpAddr>().ok())
                .find(|address| Family::of(*address) == family)
        };
        let published = [Family::Ipv4, Family::Ipv6];
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            addresses: given().filter_map(|given| given.address.parse().ok()).collect(),
            published: published
                .into_iter()
                .filter_map(|family| of_type("ExternalIP", family).or_else(|| of_type("InternalIP", family)))
                .collect(),
            is_ready,
        }
    }
}

fn entries(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

fn present(entry: &LoadBalancerIngress) -> Option<Present> {
    let ports = entry.ports.iter().flatten().filter_map(|port| {
        let key = Port {
            protocol: port.protocol.clone(),
            number: u16::try_from(port.port).ok()?,
        };
        Some((key, port.error.clone()))
    });
    Some(Present {
        address: entry.ip.as_deref()?.parse().ok()?,
        path: match entry.ip_mode.as_deref() {
            Some(IP_MODE_PROXY) => Path::Proxy,
            _ => Path::Kernel,
        },
        ports: ports.collect(),
    })
}

/// A list of addresses as annotations have it; the error is the first that is none.
fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let address = item.parse().map_err(|_| item.to_owned())?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn families(spec: &ServiceSpec) -> Vec<Family> {
    let family = |text: &str| match text {
        "IPv4" => Some(Family::Ipv4),
        "IPv6" => Some(Family::Ipv6),
        _ => None,
    };
    let mut families: Vec<_> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|text| family(text))
        .collect();
    if families.is_empty() {
        families.push(Family::Ipv4);
    }
    if spec.ip_family_policy.as_deref() == Some("SingleStack") {
        families.truncate(1);
    }
    families.dedup();
    families
}

fn ports(spec: &ServiceSpec) -> BTreeSet<Port> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(Port {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: u16::try_from(port.port).ok()?,
        })
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> ServiceFacts {
        ServiceFacts::read(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn annotations_of_ours_go_before_those_of_metallb_and_the_field() {
        let facts = read(json!({
            "metadata": {"namespace": "a", "name": "b", "annotations": {
                "metallb.io/loadBalancerIPs": "192.0.2.1, 2001:db8::1",
                "metallb.universe.tf/address-pool": "public",
                "metallb.universe.tf/allow-shared-ip": "k",
                "propylon.dev/allow-shared-ip": "ours",
                "propylon.dev/lb-path": "Kernel",
            }},
            "spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9", "ipFamilies": ["IPv6", "IPv4"]},
        }));
        assert_eq!(
            facts.requested,
            Ok(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])
        );
        assert_eq!(facts.pool.as_deref(), Some("public"));
        assert_eq!(facts.sharing.as_deref(), Some("ours"));
        assert_eq!(facts.path, Some(Path::Kernel));
        assert_eq!(facts.families, [Family::Ipv6, Family::Ipv4]);
        assert!(facts.is_marked() && facts.is_load_balancer);
        let wrong = read(json!({"metadata": {}, "spec": {"loadBalancerIP": "web"}}));
        assert_eq!(wrong.requested, Err("web".to_owned()));
    }

    #[test]
    fn a_node_is_published_by_its_external_address_of_each_family() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"addresses": [
            {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "fd00::1"},
            {"type": "ExternalIP", "address": "192.0.2.1"},
        ]}}))
        .unwrap();
        let facts = NodeFacts::read(&node, true);
        assert_eq!(facts.addresses.len(), 3);
        let published: Vec<String> = facts.published.iter().map(ToString::to_string).collect();
        assert_eq!(published, ["192.0.2.1", "fd00::1"]);
    }
}
