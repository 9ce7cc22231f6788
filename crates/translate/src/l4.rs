//! Ports that are forwarded as they are: of `LoadBalancer` Services, and of the `ConfigMap`s of
//! `--tcp-services-configmap` and `--udp-services-configmap`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use propylon_model::{
    Affinity, HashOn, L4Protocol, L4Service, L4ServiceName, PoolPolicy, Probe, ReportReason, RoutePolicy,
};

use crate::{
    annotations::{CONNECT_TIMEOUT, TUNNEL_IDLE_TIMEOUT},
    backends::{Backends, Port},
    classes::age,
    reports::Reports,
    settings::Merged,
    tls::Certificates,
    world::Key,
};

mod addresses;
mod claims;
mod config_maps;
mod ranges;
mod services;
mod termination;

use claims::Claims;

pub(crate) use termination::secret;

/// What becomes of a port whose Service is of no use.
const NOT_SERVED: &str = "the port is not served";

/// Silence after which a UDP session ends.
const UDP_IDLE: Duration = Duration::from_mins(1);

/// What gives L4 ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The config map of `--tcp-services-configmap` or `--udp-services-configmap`.
    ConfigMap(L4Protocol),
    /// A Service.
    Service(Key),
}

/// What a source is compiled from, and where reports go.
pub(crate) struct Compile<'a, 'b> {
    pub(crate) backends: &'b mut Backends<'a>,
    pub(crate) certificates: &'b Certificates,
    pub(crate) reports: &'b mut Reports,
}

/// A port that wants to be served.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) l4: L4Service,
    pub(crate) name: L4ServiceName,
    /// Namespace and name of the source.
    source: Key,
    /// Where the source says it, for reports.
    field: String,
    /// The Service that is forwarded to, and its port.
    pub(crate) service: Key,
    pub(crate) port: Port,
}

impl Compile<'_, '_> {
    /// The ports that a source gives.
    pub(crate) fn candidates(&mut self, source: &Source) -> Vec<Candidate> {
        match source {
            Source::ConfigMap(protocol) => self.of_config_map(*protocol),
            Source::Service(key) => self.of_service(key),
        }
    }
}

/// Serves the candidates of one protocol and port: of two that want the same address the older one has it.
pub(crate) fn serve<'c>(
    mut candidates: Vec<&'c Candidate>,
    taken: &[SocketAddr],
    reports: &mut Reports,
) -> Vec<(&'c Candidate, L4Service)> {
    candidates.sort_by_cached_key(|candidate| {
        let age = age(candidate.l4.created_unix_s, &candidate.source);
        (age, candidate.l4.source.kind, candidate.name.clone())
    });
    let mut claims = Claims::new(taken);
    let mut served = Vec::new();
    for candidate in candidates {
        let lost = claims.claim(&candidate.l4);
        report_lost(candidate, &lost, reports);
        let mut l4 = candidate.l4.clone();
        let lost: BTreeSet<IpAddr> = lost.into_iter().map(|(address, _)| address).collect();
        l4.addresses.retain(|address| !lost.contains(address));
        if !l4.addresses.is_empty() {
            served.push((candidate, l4));
        }
    }
    served
}

/// Says which addresses somebody older has.
fn report_lost(candidate: &Candidate, lost: &[(IpAddr, String)], reports: &mut Reports) {
    let L4Service {
        source, port, protocol, ..
    } = &candidate.l4;
    for (address, winner) in lost {
        let message = format!(
            "{}: {} {} is {winner}, so it is not served there; choose another port, or another address",
            candidate.field,
            claims::spell(*address, *port),
            protocol.as_str()
        );
        reports.add(source, ReportReason::PortConflict, message);
    }
}

/// How a port is named in the reports of its Service.
pub(crate) fn listening(l4: &L4Service) -> String {
    format!("{}/{} of {}", l4.port, l4.protocol.as_str(), l4.source)
}

/// How an endpoint is chosen where no request is read.
pub(crate) fn policy(policy: PoolPolicy, protocol: L4Protocol) -> PoolPolicy {
    PoolPolicy {
        hash_on: HashOn::ClientIp,
        affinity: match policy.affinity {
            Affinity::ClientIp(timeout) => Affinity::ClientIp(timeout),
            Affinity::Cookie(_) | Affinity::None => Affinity::None,
        },
        health_check: policy
            .health_check
            .filter(|check| check.probe == Probe::Tcp && protocol == L4Protocol::Tcp),
        ..policy
    }
}

/// Connect and idle timeout.
pub(crate) fn timeouts(settings: &Merged<'_>, protocol: L4Protocol) -> (Duration, Duration) {
    let default = RoutePolicy::default();
    let idle = match protocol {
        L4Protocol::Tcp => default.tunnel_idle_timeout,
        L4Protocol::Udp => UDP_IDLE,
    };
    (
        settings.duration(CONNECT_TIMEOUT, default.connect_timeout),
        settings.duration(TUNNEL_IDLE_TIMEOUT, idle),
    )
}
