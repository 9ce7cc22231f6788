//! What is forwarded without being read: ports of `LoadBalancer` Services, and TLS that is handed on unopened.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    balance::PoolPolicy,
    host::{HostName, HostPattern},
    name::{CertificateName, EndpointsName},
    object::ObjectRef,
    text::is_default,
};

/// The transport protocol of an L4 port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum L4Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl L4Protocol {
    /// As the Kubernetes API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Version of the PROXY protocol that is sent to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// The text form; TCP only.
    V1,
    /// The binary form.
    V2,
}

/// `spec.externalTrafficPolicy`; recorded, since a proxy reaches the endpoints of all nodes alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Endpoints of the node that the traffic came in on.
    Local,
}

/// One port of a Service that is forwarded as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct L4Service {
    /// The Service, or the `ConfigMap` that names it.
    pub source: ObjectRef,
    /// The Service that is forwarded to, for metrics and logs.
    pub service: ObjectRef,
    /// Creation time of the source, Unix seconds; of two that want the same address and port, the older wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_unix_s: Option<i64>,
    /// Where to listen: unspecified (`0.0.0.0`, `::`) or local addresses, never empty.
    pub addresses: Vec<IpAddr>,
    /// The port, 1 to 65535.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: L4Protocol,
    /// The endpoints to choose from.
    pub endpoints: EndpointsName,
    /// How one is chosen. HTTP things have no effect: hashing is by client address, affinity never by cookie, and there
    /// are no HTTP health checks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: PoolPolicy,
    /// Clients that may connect (`loadBalancerSourceRanges`); none: all. An empty list refuses everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ranges: Option<Vec<IpNet>>,
    /// `spec.externalTrafficPolicy`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traffic_policy: TrafficPolicy,
    /// PROXY header that is sent to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_proxy: Option<ProxyVersion>,
    /// Whether clients must send a PROXY header (first `PROXY` of a `--tcp-services-configmap` entry). TCP only.
    #[serde(default)]
    pub accept_proxy: bool,
    /// Certificate with which TLS is terminated; none: the bytes are handed on as they are. TCP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateName>,
    /// TCP connect to an endpoint. Default 1 s.
    pub connect_timeout: Duration,
    /// Silence, in both directions, after which a TCP connection or a UDP session ends. Default 1 h for TCP, 60 s for UDP.
    pub idle_timeout: Duration,
}

/// TLS of one host that is handed to a Service unopened (`tls-passthrough`), by the server name of the `ClientHello`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Passthrough {
    /// The Ingress.
    pub source: ObjectRef,
    /// The Service that is forwarded to, for metrics and logs.
    pub service: ObjectRef,
    /// Creation time of the Ingress, Unix seconds; of two of one host the older wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_unix_s: Option<i64>,
    /// The host, never [`HostPattern::Any`].
    pub host: HostPattern,
    /// Exact hosts one label below a wildcard `host` that another Ingress serves, in order: their TLS is not handed on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_for: Vec<HostName>,
    /// The endpoints to choose from.
    pub endpoints: EndpointsName,
    /// How one is chosen, as for [`L4Service::policy`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: PoolPolicy,
    /// PROXY header that is sent to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_proxy: Option<ProxyVersion>,
    /// TCP connect to an endpoint. Default 1 s.
    pub connect_timeout: Duration,
    /// Silence, in both directions, after which a connection ends. Default 1 h.
    pub idle_timeout: Duration,
}
