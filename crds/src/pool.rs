//! `IPAddressPool`: addresses for Services of type `LoadBalancer`.

#![expect(
    unreachable_pub,
    reason = "the derive of the schema makes a public copy of the spec inside a function"
)]
#![expect(clippy::struct_excessive_bools, reason = "the fields of a spec are what users write")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::PoolSelector;

/// Addresses that Services of type `LoadBalancer` can get.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "propylon.dev",
    version = "v1alpha1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    shortname = "ippool",
    category = "propylon",
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    doc = "Addresses that Services of type LoadBalancer can get.",
    printcolumn = r#"{"name": "Addresses", "type": "string", "jsonPath": ".spec.addresses"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "boolean", "jsonPath": ".spec.nodeAddresses", "priority": 1}"#,
    printcolumn = r#"{"name": "Auto", "type": "boolean", "jsonPath": ".spec.autoAssign"}"#,
    printcolumn = r#"{"name": "IPv4 used", "type": "integer", "jsonPath": ".status.ipv4.assigned"}"#,
    printcolumn = r#"{"name": "IPv4 free", "type": "integer", "jsonPath": ".status.ipv4.available"}"#,
    printcolumn = r#"{"name": "IPv6 used", "type": "integer", "jsonPath": ".status.ipv6.assigned"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Exhausted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Exhausted')].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("(has(self.addresses) && size(self.addresses) > 0) != (has(self.nodeAddresses) && self.nodeAddresses)")
        .message("give either addresses or nodeAddresses: true"),
    validation = Rule::new("!(has(self.nodeAddresses) && self.nodeAddresses && has(self.avoidBuggyIPs) && self.avoidBuggyIPs)")
        .message("avoidBuggyIPs is for addresses, not for nodeAddresses")
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// CIDRs, ranges and single addresses, IPv4 and IPv6: `192.0.2.0/24`, `192.0.2.10-192.0.2.20`, `2001:db8::/120`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 99)))]
    #[x_kube(validation = Rule::new("self.all(a, isCIDR(a.trim()) || isIP(a.trim()) || (a.split('-').size() == 2 && a.split('-').all(e, isIP(e.trim()))))")
        .message("every entry is a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or an address (192.0.2.10)"))]
    pub addresses: Vec<String>,
    /// Instead of `addresses`: the addresses of the nodes that run a ready proxy on the host's network. Services share them, each
    /// with ports of its own, within `lb.nodeAddressPorts`.
    #[serde(default)]
    pub node_addresses: bool,
    /// Whether a Service that names neither this pool nor an address of it can get one. Default true.
    #[serde(default = "yes")]
    pub auto_assign: bool,
    /// Leaves out IPv4 addresses that end in .0 or .255, which some old equipment refuses. Default false.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Pools with a higher priority are tried first, those of equal priority by name. Default 0.
    #[serde(default)]
    pub priority: i32,
    /// Gives no address to another Service; those that have one keep it. Default false.
    #[serde(default)]
    pub drain: bool,
    /// Only Services of these namespaces get an address. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<PoolSelector>,
    /// Only these Services get an address. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<PoolSelector>,
}

/// What the controller found of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolStatus {
    /// `Ready`: the pool is used; `Exhausted`: a family that it has is used up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The IPv4 addresses; absent where the pool has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<FamilyCount>,
    /// The IPv6 addresses; absent where the pool has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<FamilyCount>,
}

/// How many addresses of one family a pool has; a number that does not fit stands as the largest that does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FamilyCount {
    /// Those that a Service could have.
    pub total: i64,
    /// Those that a Service has.
    pub assigned: i64,
    /// Those that are free; with `nodeAddresses` all of them, because Services share them.
    pub available: i64,
}

/// The reasons of a pool's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolReason {
    /// `Exhausted`: there are free addresses.
    AddressesAvailable,
    /// `Ready`: `drain` is set; no other Service gets an address.
    Draining,
    /// `Exhausted`: no address of a family is free.
    Exhausted,
    /// `Ready`: an entry of `addresses` cannot be read; the others are used.
    InvalidAddresses,
    /// `Ready`: with `nodeAddresses`, no node runs a ready proxy on the host's network.
    NoReadyProxy,
    /// `Ready`: an older pool has some of the addresses; this one gives out none.
    Overlap,
    /// `Ready`: the pool is used.
    Ready,
}

impl PoolReason {
    /// The reason as it is written in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressesAvailable => "AddressesAvailable",
            Self::Draining => "Draining",
            Self::Exhausted => "AddressPoolExhausted",
            Self::InvalidAddresses => "InvalidAddresses",
            Self::NoReadyProxy => "NoReadyProxy",
            Self::Overlap => "Overlap",
            Self::Ready => "Ready",
        }
    }
}

/// A condition; `before` are those that stand in the status, so that the time of the last change is kept.
pub fn condition(
    before: &[Condition],
    kind: &str,
    (holds, reason, message): (bool, PoolReason, String),
    (generation, now): (Option<i64>, Time),
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let unchanged = before.iter().find(|old| old.type_ == kind && old.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: unchanged.map_or(now, |old| old.last_transition_time.clone()),
    }
}

const fn yes() -> bool {
    true
}
