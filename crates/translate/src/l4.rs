//! Ports that are forwarded as they are: of `LoadBalancer` Services, and of the `ConfigMap`s of
//! `--tcp-services-configmap` and `--udp-services-configmap`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use propylon_model::{
    Affinity, HashOn, L4Protocol, L4Service, L4ServiceName, PoolPolicy, Probe, ReportReason, RoutePolicy,
};

use crate::{
    annotations::{CONNECT_TIMEOUT, TUNNEL_IDLE_TIMEOUT},
    backends::{Backends, Port, User},
    classes::age,
    reports::Reports,
    settings::Merged,
    tls::Certificates,
    world::{Key, Options, World},
};

mod addresses;
mod claims;
mod config_maps;
mod ranges;
mod services;
mod termination;

use claims::Claims;

pub(crate) use termination::secrets;

/// What becomes of a port whose Service is of no use.
const NOT_SERVED: &str = "the port is not served";

/// Silence after which a UDP session ends.
const UDP_IDLE: Duration = Duration::from_mins(1);

/// What is compiled from, and where reports go.
struct Compile<'a, 'b> {
    world: &'a World,
    options: &'a Options,
    backends: &'b mut Backends<'a>,
    certificates: &'b Certificates,
    reports: &'b mut Reports,
}

/// A port that wants to be served.
struct Candidate {
    l4: L4Service,
    name: L4ServiceName,
    /// Namespace and name of the source.
    source: Key,
    /// Where the source says it, for reports.
    field: String,
    /// The Service that is forwarded to, and its port.
    service: Key,
    port: Port,
}

/// The L4 ports. Of two that want the same address and port the older is served.
pub(crate) fn compile<'a>(
    world: &'a World,
    options: &'a Options,
    backends: &mut Backends<'a>,
    certificates: &Certificates,
    reports: &mut Reports,
) -> BTreeMap<L4ServiceName, Arc<L4Service>> {
    let mut compile = Compile {
        world,
        options,
        backends,
        certificates,
        reports,
    };
    let mut candidates = compile.of_services();
    candidates.extend(compile.of_config_maps());
    candidates.sort_by_cached_key(|candidate| {
        let age = age(candidate.l4.created_unix_s, &candidate.source);
        (age, candidate.l4.source.kind, candidate.name.clone())
    });
    let mut claims = Claims::new(&options.taken);
    let mut served = BTreeMap::new();
    for mut candidate in candidates {
        compile.claim(&mut claims, &mut candidate);
        if candidate.l4.addresses.is_empty() {
            continue;
        }
        let user = User::L4(format!("port {}", listening(&candidate.l4)));
        let (service, port) = (&candidate.service, &candidate.port);
        compile.backends.add_endpoints(service, port, user, compile.reports);
        served.insert(candidate.name, Arc::new(candidate.l4));
    }
    served
}

impl Compile<'_, '_> {
    /// Takes the addresses that somebody older has from a port.
    fn claim(&mut self, claims: &mut Claims, candidate: &mut Candidate) {
        let lost = claims.claim(candidate);
        for (address, winner) in &lost {
            let L4Service {
                source, port, protocol, ..
            } = &candidate.l4;
            let message = format!(
                "{}: {} {} is {winner}, so it is not served there; choose another port, or another address",
                candidate.field,
                claims::spell(*address, *port),
                protocol.as_str()
            );
            self.reports.add(source, ReportReason::PortConflict, message);
        }
        let lost: BTreeSet<IpAddr> = lost.into_iter().map(|(address, _)| address).collect();
        candidate.l4.addresses.retain(|address| !lost.contains(address));
    }
}

/// How a port is named in the reports of its Service.
fn listening(l4: &L4Service) -> String {
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
