//! The endpoints of a Service port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::ServiceSpec, discovery::v1 as discovery};
use propylon_model::{Endpoint, Endpoints, L4Protocol, TrafficDistribution};

use crate::{
    engine::Index,
    world::{Key, World},
};

/// Label of an `EndpointSlice` that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The slices of each Service, by their names.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    by_service: Index<Key, Key>,
    services: BTreeMap<Key, Key>,
}

impl Slices {
    /// Looks again at a slice that changed; the Services whose endpoints change with it.
    pub(crate) fn update(&mut self, slice: &Key, world: &World) -> BTreeSet<Key> {
        let now = world.endpoint_slices.get(slice).and_then(|found| {
            let labels = found.metadata.labels.as_ref()?;
            let service = labels.get(SERVICE_NAME)?;
            Some(Key::new(Arc::clone(&slice.namespace), service.as_str()))
        });
        let before = match &now {
            Some(service) => self.services.insert(slice.clone(), service.clone()),
            None => self.services.remove(slice),
        };
        if before != now {
            self.by_service.replace(slice, &before, &now);
        }
        before.into_iter().chain(now).collect()
    }

    /// The slices of a Service, in the order of their names.
    pub(crate) fn get<'w>(&self, service: &Key, world: &'w World) -> Vec<&'w discovery::EndpointSlice> {
        let slices = self.by_service.of(service);
        let slices = slices.filter_map(|slice| world.endpoint_slices.get(slice));
        slices.map(AsRef::as_ref).collect()
    }
}

/// What decides about an endpoint besides itself.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    /// The ports of slices that count.
    pub(crate) protocol: L4Protocol,
    /// `spec.publishNotReadyAddresses`: readiness does not count.
    pub(crate) publish_not_ready: bool,
    /// Whether loopback and link-local addresses may be used.
    pub(crate) allow_local: bool,
}

/// The endpoints of a port, and what there is to say about those that are not used.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) endpoints: Endpoints,
    /// Addresses left out by [`Policy::allow_local`].
    pub(crate) denied: BTreeSet<IpAddr>,
    /// Names of the ports of that protocol that the slices have.
    pub(crate) port_names: BTreeSet<String>,
    /// Whether a slice has the port.
    pub(crate) has_port: bool,
    /// Addresses that are neither ready nor serving and terminating.
    pub(crate) not_ready: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    NotReady,
    Draining,
    Ready,
}

/// Chooses the endpoints of a Service port by the port's name, which is what slices know it by: a named `targetPort` may
/// have another number in each slice.
///
/// Ready endpoints; serving and terminating ones only when none is ready (KEP-1669). An address in several slices counts
/// once, in its best state.
pub(crate) fn choose(slices: &[&discovery::EndpointSlice], port_name: &str, policy: Policy) -> Choice {
    let mut choice = Choice::default();
    let mut found: BTreeMap<SocketAddr, (State, Endpoint)> = BTreeMap::new();
    for slice in slices {
        for port in slice
            .ports
            .iter()
            .flatten()
            .filter(|port| is_of(port.protocol.as_deref(), policy.protocol))
        {
            let name = port.name.as_deref().unwrap_or_default();
            choice.port_names.insert(name.to_owned());
            let number = port
                .port
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number > 0);
            if let Some(number) = number.filter(|_| name == port_name) {
                choice.has_port = true;
                add_slice(slice, number, policy, &mut found, &mut choice.denied);
            }
        }
    }
    let best = found
        .values()
        .map(|(state, _)| *state)
        .max()
        .filter(|state| *state != State::NotReady);
    choice.not_ready = found.values().filter(|(state, _)| *state == State::NotReady).count();
    choice.endpoints.endpoints = found
        .into_values()
        .filter(|(state, _)| Some(*state) == best)
        .map(|(_, endpoint)| endpoint)
        .collect();
    choice
}

/// Whether a port is one of the protocol; it is one of TCP where it says nothing.
pub(crate) fn is_of(protocol: Option<&str>, wanted: L4Protocol) -> bool {
    protocol.filter(|protocol| !protocol.is_empty()).unwrap_or("TCP") == wanted.as_str()
}

/// Which endpoints a Service prefers; the API server lets nothing else pass.
pub(crate) fn distribution(spec: Option<&ServiceSpec>) -> TrafficDistribution {
    match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") => TrafficDistribution::PreferSameZone,
        Some("PreferSameNode") => TrafficDistribution::PreferSameNode,
        _ => TrafficDistribution::Any,
    }
}

fn add_slice(
    slice: &discovery::EndpointSlice,
    port: u16,
    policy: Policy,
    found: &mut BTreeMap<SocketAddr, (State, Endpoint)>,
    denied: &mut BTreeSet<IpAddr>,
) {
    for endpoint in &slice.endpoints {
        let state = state(endpoint, policy);
        // Every address of an endpoint is the same pod (KEP-752): the first is enough. Slices of type FQDN have none.
        let Some(ip) = endpoint
            .addresses
            .first()
            .and_then(|address| address.parse::<IpAddr>().ok())
        else {
            continue;
        };
        if is_never_allowed(ip) || (is_local(ip) && !policy.allow_local) {
            denied.insert(ip);
            continue;
        }
        let address = SocketAddr::new(ip, port);
        let pod = endpoint
            .target_ref
            .as_ref()
            .filter(|target| target.kind.as_deref() == Some("Pod"));
        let entry = Endpoint {
            pod: pod.and_then(|target| target.name.as_deref()).map(Arc::from),
            node: endpoint.node_name.as_deref().map(Arc::from),
            zone: endpoint.zone.as_deref().map(Arc::from),
            for_zones: hints(endpoint, |hints| {
                let zones = hints.for_zones.iter().flatten();
                zones.map(|zone| zone.name.as_str()).collect()
            }),
            for_nodes: hints(endpoint, |hints| {
                let nodes = hints.for_nodes.iter().flatten();
                nodes.map(|node| node.name.as_str()).collect()
            }),
            ..Endpoint::new(address)
        };
        let better = (state, entry);
        found
            .entry(address)
            .and_modify(|known| *known = known.clone().max(better.clone()))
            .or_insert(better);
    }
}

/// Names of a hint, in order.
fn hints(endpoint: &discovery::Endpoint, of: impl Fn(&discovery::EndpointHints) -> BTreeSet<&str>) -> Vec<Arc<str>> {
    let names = endpoint.hints.as_ref().map(of).unwrap_or_default();
    names.into_iter().map(Arc::from).collect()
}

fn state(endpoint: &discovery::Endpoint, policy: Policy) -> State {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true) || policy.publish_not_ready;
    let serving = conditions.serving.or(conditions.ready).unwrap_or(true);
    match (ready, serving && conditions.terminating.unwrap_or(false)) {
        (true, _) => State::Ready,
        (false, true) => State::Draining,
        (false, false) => State::NotReady,
    }
}

/// Loopback and link-local: addresses of the proxy's own node, among them the metadata service of clouds.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// What no connection can be meant for.
pub(crate) fn is_never_allowed(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    }
}
