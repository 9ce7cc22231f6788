//! Which Service gets which addresses: a pure function of pools, Services and nodes.
//!
//! What a Service has it keeps: first the addresses that stand in the status of all Services are taken into account, then
//! those that lack one get it. An address is never taken from a Service, nor given while another Service's status has it,
//! whosever that Service is. A move (because a Service asks for another address, pool or path) happens only where the new
//! addresses are free; the old one stays until then, and is free for others from the plan after it on.

mod kernel;
mod ledger;
mod nodes;
mod pools;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
};

use propylon_translate::Key;

use super::{
    facts::{Class, NodeFacts, Path, Port, ServiceFacts},
    pool::{NamespaceLabels, Pool},
};

pub use pools::{PoolCount, PoolReport};

use ledger::Ledger;

/// Settings of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `lb.serveClassless`: whether Services without a class are ours.
    pub serve_classless: bool,
    /// Who serves a Service that does not say so.
    pub default_path: Path,
    /// `lb.nodeAddressPorts`: ports that Services may have on the nodes' addresses.
    pub node_address_ports: Vec<RangeInclusive<u16>>,
    /// The Service of the proxies themselves: its path is always the kernel's.
    pub own_service: Option<Key>,
}

/// What is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pools, in any order.
    pub pools: &'a [Pool],
    /// Services of every type and class, in any order.
    pub services: &'a [ServiceFacts],
    /// The nodes, in any order.
    pub nodes: &'a [NodeFacts],
    /// Labels of the namespaces.
    pub namespaces: &'a NamespaceLabels,
    /// The operator's settings.
    pub settings: &'a Settings,
}

/// What is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The Services of which there is something to say; all others are left alone.
    pub services: BTreeMap<Key, Decision>,
    /// Every pool, by name.
    pub pools: BTreeMap<String, PoolReport>,
}

/// What becomes of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is ours.
    Assign(Assignment),
    /// It belongs to somebody else, though it asks us for something.
    Foreign(Problem),
    /// It is ours no longer: whatever we wrote goes.
    Release,
}

/// What a Service of ours is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who carries its traffic.
    pub path: Path,
    /// Its addresses, in order; empty: it gets none, and its status stays as it is.
    pub addresses: Vec<IpAddr>,
    /// On the proxies' path what is said of its ports: the error, none where the port is served.
    pub ports: BTreeMap<Port, Option<PortError>>,
    /// What its author should know.
    pub problems: Vec<Problem>,
}

/// Why a port is not served on the nodes' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortError {
    /// Another Service has it.
    Conflict,
    /// It is not one of `lb.nodeAddressPorts`.
    NotAllowed,
    /// The proxy does not forward the protocol.
    Protocol,
}

impl PortError {
    /// As it stands in `ports[].error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "propylon.dev/PortConflict",
            Self::NotAllowed => "propylon.dev/PortNotAllowed",
            Self::Protocol => "propylon.dev/ProtocolUnsupported",
        }
    }
}

/// Something that the author of a Service should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The reason of the Event.
    pub reason: ProblemReason,
    /// What, where, and what to do next.
    pub message: String,
}

/// The reasons of [`Problem`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProblemReason {
    /// The Service has no address, or not the one that it asks for.
    AllocationFailed,
    /// There is no pool at all.
    NoPools,
    /// A port of the Service is not served.
    PortNotServed,
    /// The address in its status is another controller's.
    StatusOwnedByOther,
}

impl ProblemReason {
    /// The reason as the Event has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllocationFailed | Self::NoPools => "AllocationFailed",
            Self::PortNotServed => "PortNotServed",
            Self::StatusOwnedByOther => "StatusOwnedByOther",
        }
    }
}

/// Decides. The result does not depend on the order of the input.
///
/// # Cost
/// Linear in Services and pools (and a logarithm); not in the size of the pools.
pub fn plan(input: &Input<'_>) -> Plan {
    let mut services: Vec<&ServiceFacts> = input.services.iter().collect();
    services.sort_by_key(|service| service.age());
    let mut pools: Vec<&Pool> = input.pools.iter().collect();
    pools
        .sort_by(|left, right| (-i64::from(left.priority), &left.name).cmp(&(-i64::from(right.priority), &right.name)));
    let mut planner = Planner {
        input,
        overlapped: pools::overlapped(&pools),
        pools,
        ledger: Ledger::default(),
        plan: Plan::default(),
    };
    let ours: Vec<(&ServiceFacts, Path)> = services
        .iter()
        .filter_map(|service| planner.classify(service))
        .collect();
    let on = |path| {
        ours.iter()
            .filter(move |(_, of)| *of == path)
            .map(|(service, _)| *service)
            .collect()
    };
    let kernel: Vec<&ServiceFacts> = on(Path::Kernel);
    let proxy: Vec<&ServiceFacts> = on(Path::Proxy);
    let held = planner.hold(&kernel);
    planner.reserve(&services);
    planner.allocate(held);
    planner.serve_on_nodes(&proxy);
    planner.plan.pools = planner.report_pools();
    planner.plan
}

/// The state of a plan that is being made.
struct Planner<'a> {
    input: &'a Input<'a>,
    /// The first to try first.
    pools: Vec<&'a Pool>,
    /// The pools that give out nothing because an older one has some of their addresses.
    overlapped: BTreeMap<&'a str, &'a str>,
    ledger: Ledger<'a>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    /// Takes what is left of the addresses that no pool can give out: those of nodes, and what other Services have.
    fn reserve(&mut self, services: &[&'a ServiceFacts]) {
        for node in self.input.nodes {
            self.ledger.reserve(node.addresses.iter().copied());
        }
        for service in services {
            self.ledger.reserve(service.external.iter().copied());
            self.ledger
                .reserve(service.present.iter().map(|present| present.address));
        }
    }

    fn is_ours(&self, service: &ServiceFacts) -> bool {
        let by_class = match service.class {
            Class::None => self.input.settings.serve_classless,
            Class::Other => false,
            Class::Ours(_) => true,
        };
        service.is_load_balancer && by_class
    }

    /// The path of a Service that is to have addresses of ours; what is decided otherwise is noted.
    fn classify(&mut self, service: &'a ServiceFacts) -> Option<(&'a ServiceFacts, Path)> {
        if service.is_deleting || !self.is_ours(service) {
            if service.has_finalizer() && service.is_marked() {
                self.plan.services.insert(service.key.clone(), Decision::Release);
            }
            return None;
        }
        if let Some(whose) = self.foreign(service) {
            // Who asks us for nothing need not hear of us.
            if service.is_marked()
                || service.pool.is_some()
                || !matches!(&service.requested, Ok(none) if none.is_empty())
            {
                let message = format!(
                    "status.loadBalancer: has {whose}, which no IPAddressPool has, so it is another controller's and stays as it \
                     is; give the Service a loadBalancerClass of Propylon's, or stop the other controller and clear the status"
                );
                let problem = Problem::new(ProblemReason::StatusOwnedByOther, message);
                self.plan
                    .services
                    .insert(service.key.clone(), Decision::Foreign(problem));
            }
            return None;
        }
        Some((service, self.path(service)))
    }

    /// What in the status of a Service another controller wrote.
    fn foreign(&self, service: &ServiceFacts) -> Option<String> {
        let is_claimed = matches!(service.class, Class::Ours(_)) || (service.is_marked() && service.has_finalizer());
        if is_claimed {
            return None;
        }
        if service.has_host_name {
            return Some("a host name".to_owned());
        }
        let uncovered = |address: &IpAddr| !self.pools.iter().any(|pool| pool.covers(*address));
        let mut addresses = service.present.iter().map(|present| present.address);
        addresses.find(uncovered).map(|address| address.to_string())
    }

    /// Who carries the traffic of a Service of ours.
    fn path(&self, service: &ServiceFacts) -> Path {
        if self.input.settings.own_service.as_ref() == Some(&service.key) {
            return Path::Kernel;
        }
        if let Some(path) = service.path {
            return path;
        }
        if let Class::Ours(path) = service.class {
            return path;
        }
        // What was decided once holds, also where the annotation got lost.
        let decided = service.present.first().map(|present| present.path);
        decided.unwrap_or(self.input.settings.default_path)
    }

    /// The pools that may give a Service an address, the first to try first.
    fn candidates(&self, service: &ServiceFacts, path: Path) -> Vec<&'a Pool> {
        let is_named = |pool: &Pool| service.pool.as_deref().is_none_or(|name| name == pool.name);
        let pools = self.pools.iter().copied();
        pools
            .filter(|pool| pool.node_addresses == (path == Path::Proxy))
            .filter(|pool| !pool.drain && !self.overlapped.contains_key(pool.name.as_str()))
            .filter(|pool| is_named(pool) && pool.is_for(service, self.input.namespaces))
            .collect()
    }

    /// Why no pool may give a Service an address.
    fn explain_no_pool(&self, service: &ServiceFacts, path: Path) -> Problem {
        if self.pools.is_empty() {
            let message =
                "spec.type: LoadBalancer, but there is no IPAddressPool; make one, or set lb.pools of the chart";
            return Problem::new(ProblemReason::NoPools, message.to_owned());
        }
        let of_path: Vec<_> = self
            .pools
            .iter()
            .filter(|pool| pool.node_addresses == (path == Path::Proxy))
            .collect();
        let message = if let Some(name) = &service.pool {
            match self.pools.iter().find(|pool| pool.name == *name) {
                None => {
                    format!("address-pool: there is no IPAddressPool {name}; correct the annotation, or make the pool")
                }
                Some(pool) if pool.node_addresses != (path == Path::Proxy) => wrong_path(path, name),
                Some(pool) if pool.drain => format!("address-pool: {name} is being drained; name another pool"),
                Some(_) if self.overlapped.contains_key(name.as_str()) => {
                    format!(
                        "address-pool: {name} has addresses of an older pool, so it is not used; see its conditions"
                    )
                }
                Some(_) => format!(
                    "address-pool: {name} is not for this Service; see its namespaceSelector and serviceSelector"
                ),
            }
        } else if of_path.is_empty() {
            match path {
                Path::Kernel => "no IPAddressPool has addresses for the kernel's path; make one with spec.addresses".to_owned(),
                Path::Proxy => "the proxies serve a Service at the addresses of their nodes, and no IPAddressPool has nodeAddresses: \
                                true; make one, or annotate the Service with propylon.dev/lb-path: kernel to get an address of a pool"
                    .to_owned(),
            }
        } else {
            let names: Vec<&str> = of_path.iter().map(|pool| pool.name.as_str()).collect();
            format!(
                "no pool may give this Service an address ({}): each is for other Services, is drained, or has autoAssign: false; \
                 see kubectl get ippool",
                names.join(", ")
            )
        };
        Problem::new(ProblemReason::AllocationFailed, message)
    }
}

fn wrong_path(path: Path, name: &str) -> String {
    match path {
        Path::Kernel => format!(
            "address-pool: {name} has the addresses of nodes, which are for the proxies' path; annotate the Service with \
             propylon.dev/lb-path: proxy, or name a pool with spec.addresses"
        ),
        Path::Proxy => format!(
            "address-pool: {name} has addresses that nodes do not have, which are for the kernel's path; annotate the Service with \
             propylon.dev/lb-path: kernel, or name a pool with nodeAddresses: true"
        ),
    }
}

impl Problem {
    /// Makes a problem of its parts.
    pub const fn new(reason: ProblemReason, message: String) -> Self {
        Self { reason, message }
    }
}

/// Addresses as a list in words.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: BTreeSet<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.into_iter().collect::<Vec<_>>().join(", ")
}
