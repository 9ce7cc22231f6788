//! The addresses behind a Service port.

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::text::is_default;

/// One address that may be sent requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// The pod's name, where known: for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
    /// The node's name, where known: for logs, and for node preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// The zone, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Share of the traffic relative to the others, 1 to 65535. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u16,
    /// Zones that should use it (`hints.forZones`, KEP-2433); empty: no hint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub for_zones: Vec<Arc<str>>,
    /// Nodes that should use it (`hints.forNodes`, KEP-4559); empty: no hint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub for_nodes: Vec<Arc<str>>,
}

impl Endpoint {
    /// An address of which nothing else is known.
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            pod: None,
            node: None,
            zone: None,
            weight: 1,
            for_zones: Vec::new(),
            for_nodes: Vec::new(),
        }
    }
}

/// Which endpoints a Service prefers (`spec.trafficDistribution`, KEP-4444 and KEP-3015).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficDistribution {
    /// Any.
    #[default]
    Any,
    /// Those of the client's node, else of its zone, else any.
    PreferSameNode,
    /// Those of the client's zone, else any (`PreferSameZone`, `PreferClose`).
    PreferSameZone,
}

/// A name that is resolved for the addresses (`spec.externalName`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct ExternalName {
    /// The DNS name, lower case, without the trailing dot.
    pub host: Arc<str>,
    /// The port to connect to.
    pub port: u16,
    /// Whether answers may be loopback or link-local addresses.
    #[serde(default)]
    pub allow_local: bool,
}

/// The endpoints of one Service port that are to be used now, in address order, each address once.
///
/// The choice between ready endpoints and, when none is ready, serving and terminating ones (KEP-1669) is already made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct Endpoints {
    /// The endpoints; empty means that requests are answered with 503.
    pub endpoints: Vec<Endpoint>,
    /// A name to resolve instead; `endpoints` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalName>,
    /// Which of them are preferred, beside the hints that they carry.
    #[serde(default, skip_serializing_if = "is_default")]
    pub distribution: TrafficDistribution,
}

impl Endpoints {
    /// Addresses without preferences.
    pub const fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            external: None,
            distribution: TrafficDistribution::Any,
        }
    }
}

const fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_one(weight: &u16) -> bool {
    *weight == 1
}
