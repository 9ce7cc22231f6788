//! What is needed to know of nodes, pods and grants: the rest of these objects is not kept.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{Metadata as _, api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::Deserialize;

/// A node of the cluster: the addresses that are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: String,
    /// Every address of `status.addresses` that is one (names are not), of whatever type.
    pub addresses: BTreeSet<IpAddr>,
}

impl From<&core::Node> for Node {
    fn from(node: &core::Node) -> Self {
        let given = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        Self {
            name: node.metadata().name.clone().unwrap_or_default(),
            addresses: given.filter_map(|given| given.address.parse().ok()).collect(),
        }
    }
}

/// A pod: what proves that an address of a node is its own as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// `status.podIPs`.
    pub addresses: BTreeSet<IpAddr>,
    /// `spec.hostNetwork`: its addresses are those of its node.
    pub host_network: bool,
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let status = pod.status.as_ref();
        let several = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten());
        let several = several.map(|ip| ip.ip.as_str());
        let first = status.and_then(|status| status.pod_ip.as_deref());
        Self {
            namespace: pod.metadata().namespace.clone().unwrap_or_default(),
            name: pod.metadata().name.clone().unwrap_or_default(),
            addresses: several.chain(first).filter_map(|text| text.parse().ok()).collect(),
            host_network: pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false),
        }
    }
}

/// `gateway.networking.k8s.io` `ReferenceGrant`: who of other namespaces may name something of this one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ReferenceGrant {
    /// Namespace and name count.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is granted.
    #[serde(default)]
    pub spec: ReferenceGrantSpec,
}

/// What a [`ReferenceGrant`] grants: everything of `from` may name everything of `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantSpec {
    /// Who may name something.
    #[serde(default)]
    pub from: Vec<ReferenceGrantFrom>,
    /// What may be named.
    #[serde(default)]
    pub to: Vec<ReferenceGrantTo>,
}

/// Objects that may name something of the grant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantFrom {
    /// Their group, such as `networking.k8s.io`.
    #[serde(default)]
    pub group: String,
    /// Their kind, such as `Ingress`.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects of the grant's namespace that may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantTo {
    /// Their group; empty for the core one.
    #[serde(default)]
    pub group: String,
    /// Their kind, such as `Secret`.
    pub kind: String,
    /// The name of the one; none: all of them.
    #[serde(default)]
    pub name: Option<String>,
}
