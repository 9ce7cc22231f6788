//! The endpoints of a Service port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::ServiceSpec, discovery::v1 as discovery};
use propylon_model::{Endpoint, Endpoints, L4Protocol, TrafficDistribution};

use crate::{
    cluster::Pod,
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

    /// The Service of a slice.
    pub(crate) fn service(&self, slice: &Key) -> Option<&Key> {
        self.services.get(slice)
    }

    /// The slices of a Service, in the order of their names.
    pub(crate) fn get<'w>(&self, service: &Key, world: &'w World) -> Vec<&'w discovery::EndpointSlice> {
        let slices = self.by_service.of(service);
        let slices = slices.filter_map(|slice| world.endpoint_slices.get(slice));
        slices.map(AsRef::as_ref).collect()
    }
}

/// The addresses that are nodes' own.
#[derive(Debug, Default)]
pub(crate) struct NodeAddresses {
    nodes: Index<IpAddr, Key>,
    of_node: BTreeMap<Key, BTreeSet<IpAddr>>,
}

impl NodeAddresses {
    /// Looks again at a node that changed; the addresses that it has now and had not, or had and has no longer.
    pub(crate) fn update(&mut self, node: &Key, world: &World) -> BTreeSet<IpAddr> {
        let now = world.nodes.get(node).map(|found| &found.addresses);
        let now: BTreeSet<IpAddr> = now.into_iter().flatten().map(IpAddr::to_canonical).collect();
        let before = self.of_node.remove(node).unwrap_or_default();
        self.nodes.replace(node, &before, &now);
        let changed = before.symmetric_difference(&now).copied().collect();
        if !now.is_empty() {
            self.of_node.insert(node.clone(), now);
        }
        changed
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.nodes.has(&ip.to_canonical())
    }
}

/// Whether a slice has one of some addresses.
pub(crate) fn mentions(slice: &discovery::EndpointSlice, addresses: &BTreeSet<IpAddr>) -> bool {
    let mut given = slice.endpoints.iter().filter_map(address_of);
    given.any(|address| addresses.contains(&address.to_canonical()))
}

/// What decides about an endpoint besides itself.
#[derive(Clone, Copy)]
pub(crate) struct Policy<'a> {
    /// The addresses of nodes: whoever could name one would reach the node, and what listens there.
    pub(crate) nodes: &'a NodeAddresses,
    /// The pods that may prove that the address of a node is theirs as well (`hostNetwork`).
    pub(crate) pods: &'a BTreeMap<Key, Arc<Pod>>,
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
    /// Addresses of nodes that no pod of the namespace is known to have.
    pub(crate) of_nodes: BTreeSet<IpAddr>,
    /// The pods that were asked, there or not.
    pub(crate) pods: BTreeSet<Key>,
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
pub(crate) fn choose(slices: &[&discovery::EndpointSlice], port_name: &str, policy: Policy<'_>) -> Choice {
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
                add_slice(slice, number, policy, &mut found, &mut choice);
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
    policy: Policy<'_>,
    found: &mut BTreeMap<SocketAddr, (State, Endpoint)>,
    choice: &mut Choice,
) {
    for endpoint in &slice.endpoints {
        let state = state(endpoint, policy);
        // Every address of an endpoint is the same pod (KEP-752): the first is enough. Slices of type FQDN have none.
        let Some(ip) = address_of(endpoint) else {
            continue;
        };
        if is_never_allowed(ip) || (is_local(ip) && !policy.allow_local) {
            choice.denied.insert(ip);
            continue;
        }
        if policy.nodes.has(ip) && !is_proven(slice, endpoint, ip, policy, &mut choice.pods) {
            choice.of_nodes.insert(ip);
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

/// The address of an endpoint.
fn address_of(endpoint: &discovery::Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first().and_then(|address| address.parse().ok())
}

/// Whether a pod of the slice's own namespace has the address.
fn is_proven(
    slice: &discovery::EndpointSlice,
    endpoint: &discovery::Endpoint,
    ip: IpAddr,
    policy: Policy<'_>,
    asked: &mut BTreeSet<Key>,
) -> bool {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or("default");
    let target = endpoint.target_ref.as_ref().filter(|target| {
        let is_here = target.namespace.as_deref().is_none_or(|other| other == namespace);
        target.kind.as_deref() == Some("Pod") && is_here
    });
    let Some(name) = target.and_then(|target| target.name.as_deref()) else {
        return false;
    };
    let key = Key::new(namespace, name);
    let pod = policy.pods.get(&key);
    asked.insert(key);
    pod.is_some_and(|pod| {
        pod.addresses
            .iter()
            .any(|address| address.to_canonical() == ip.to_canonical())
    })
}

/// Names of a hint, in order.
fn hints(endpoint: &discovery::Endpoint, of: impl Fn(&discovery::EndpointHints) -> BTreeSet<&str>) -> Vec<Arc<str>> {
    let names = endpoint.hints.as_ref().map(of).unwrap_or_default();
    names.into_iter().map(Arc::from).collect()
}

fn state(endpoint: &discovery::Endpoint, policy: Policy<'_>) -> State {
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
