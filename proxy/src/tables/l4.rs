//! The control side of layer 4: which listener belongs to which Service, what is bound, and what could not be.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak, atomic::Ordering},
};

use propylon_kit::metrics::Exposition;
use propylon_model::{
    BackendProtocol, BackendTls, Delta, EndpointsName, L4Protocol, L4Service, L4ServiceName, ObjectRef, Pool,
    PoolPolicy, Report, ReportReason, Resources,
};
use socket2::SockRef;

use crate::{
    l4::{Dealt, Handle, Labels, Listener, LiveL4, Series},
    pool::PoolHandle,
    sockets::{Sockets, Transport},
};

/// Protocol and address of a listener.
type Place = (L4Protocol, SocketAddr);

/// The control side's part of layer 4.
pub(super) struct L4Tables {
    live: Arc<LiveL4>,
    workers: usize,
    sockets: Arc<Sockets>,
    /// Listeners of the process itself, with the flag that each is from.
    own: Vec<(&'static str, SocketAddr)>,
    handles: BTreeMap<L4ServiceName, Arc<Handle>>,
    bound: BTreeMap<Place, Bound>,
    /// Listeners that are gone, as long as sessions of UDP hold their addresses.
    leaving: Vec<Weak<Listener>>,
    series: HashMap<Labels, Arc<Series>>,
    problems: Vec<Report>,
    /// Something could not be bound that may be bound later.
    unbound: bool,
    generation: u64,
}

struct Bound {
    listener: Arc<Listener>,
    owner: L4ServiceName,
    service: ObjectRef,
}

/// A listener of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Listener {
    /// TCP or UDP.
    pub protocol: L4Protocol,
    /// Where it listens.
    pub address: SocketAddr,
    /// The Service that is forwarded to.
    pub service: ObjectRef,
}

/// `tcp 192.0.2.1:5432 default/db`, as folder mode prints it.
impl fmt::Display for L4Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            L4Protocol::Tcp => "tcp",
            L4Protocol::Udp => "udp",
        };
        let ObjectRef { namespace, name, .. } = &self.service;
        write!(formatter, "{protocol} {} {namespace}/{name}", self.address)
    }
}

impl L4Tables {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            live: Arc::default(),
            workers,
            sockets: Arc::default(),
            own: Vec::new(),
            handles: BTreeMap::new(),
            bound: BTreeMap::new(),
            leaving: Vec::new(),
            series: HashMap::new(),
            problems: Vec::new(),
            unbound: false,
            generation: 0,
        }
    }

    pub(super) fn live(&self) -> Arc<LiveL4> {
        Arc::clone(&self.live)
    }

    /// Gives the sockets of the process, and tells which addresses are its own.
    pub(super) fn start(&mut self, sockets: Arc<Sockets>, own: Vec<(&'static str, SocketAddr)>) {
        self.sockets = sockets;
        self.own = own;
    }

    /// What is listened on.
    pub(super) fn listeners(&self) -> Vec<L4Listener> {
        let listeners = self.bound.iter().map(|((protocol, address), bound)| L4Listener {
            protocol: *protocol,
            address: *address,
            service: bound.service.clone(),
        });
        listeners.collect()
    }

    /// A number that grows whenever listeners or problems change.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// What could not be done, by Service.
    pub(super) fn problems(&self) -> &[Report] {
        &self.problems
    }

    /// Whether a list of endpoints is in use.
    pub(super) fn uses(&self, name: &EndpointsName) -> bool {
        self.handles
            .values()
            .any(|handle| handle.forward.pool.spec.endpoints == *name)
    }

    /// Takes over changed Services. `new_pool` makes the handle of a pool.
    pub(super) fn apply(
        &mut self,
        delta: &Delta,
        resources: &Resources,
        mut new_pool: impl FnMut(&Arc<Pool>) -> Arc<PoolHandle>,
    ) {
        if delta.l4.is_empty() {
            return;
        }
        for (name, service) in &delta.l4 {
            let before = self.handles.remove(name);
            let before = before.as_ref().map(|handle| &handle.forward.pool);
            let Some(service) = service else {
                if let Some(before) = before {
                    retire(before);
                }
                continue;
            };
            let spec = pool_of(&service.service, service.port, &service.endpoints, &service.policy);
            let pool = follow_pool(before, spec, &mut new_pool);
            let handle = Handle::new(service, pool, self.series_of(service));
            self.handles.insert(name.clone(), Arc::new(handle));
        }
        self.arrange(resources);
    }

    /// Tries again what could not be bound; to be called now and then.
    pub(super) fn retry(&mut self, resources: &Resources) {
        if self.unbound {
            self.arrange(resources);
        }
    }

    /// Writes the counts of every listener.
    pub(super) fn series(&self) -> Vec<Arc<Series>> {
        self.series.values().map(Arc::clone).collect()
    }

    fn series_of(&mut self, service: &L4Service) -> Arc<Series> {
        let labels = Labels {
            namespace: Arc::clone(&service.service.namespace),
            service: Arc::clone(&service.service.name),
            listener: format!("{}/{}", service.port, service.protocol.as_str()).into(),
        };
        let workers = self.workers;
        let series = self
            .series
            .entry(labels.clone())
            .or_insert_with(|| Arc::new(Series::new(labels, workers)));
        Arc::clone(series)
    }

    /// Binds what is wanted and not bound, lets go of what is not wanted, and hands changed settings to what stays.
    fn arrange(&mut self, resources: &Resources) {
        let before = (std::mem::take(&mut self.problems), self.listeners());
        self.unbound = false;
        let wanted = self.wanted(resources);
        let live = &self.handles;
        self.series
            .retain(|labels, _| live.values().any(|handle| handle.forward.series.labels == *labels));
        // What goes is closed first, so that an address may pass from one Service to another.
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.bound)
            .into_iter()
            .partition(|(place, _)| wanted.contains_key(place));
        self.bound = kept;
        if !gone.is_empty() {
            self.publish();
            for (protocol, address) in gone.keys() {
                self.sockets.release(transport(*protocol), *address);
            }
            let sessions = gone.iter().filter(|((protocol, _), _)| *protocol == L4Protocol::Udp);
            self.leaving
                .extend(sessions.map(|(_, bound)| Arc::downgrade(&bound.listener)));
        }
        drop(gone);
        self.leaving.retain(|listener| listener.strong_count() > 0);
        for (place, name) in wanted {
            let (Some(handle), Some(service)) = (self.handles.get(&name), resources.l4.get(&name)) else {
                continue;
            };
            match self.bound.get_mut(&place) {
                Some(bound) => {
                    if !Arc::ptr_eq(&bound.listener.handle.load(), handle) {
                        bound.listener.handle.store(Arc::clone(handle));
                    }
                    (bound.owner, bound.service) = (name, service.service.clone());
                }
                None => match bind(&self.sockets, place, self.workers) {
                    Ok(dealt) => {
                        let listener = Arc::new(Listener::new(place.1, Arc::clone(handle), dealt));
                        let service = service.service.clone();
                        self.bound.insert(
                            place,
                            Bound {
                                listener,
                                owner: name,
                                service,
                            },
                        );
                    }
                    Err(error) => {
                        self.unbound = true;
                        if give_way(&self.leaving, place) {
                            continue;
                        }
                        self.problems.push(bind_failed(service, place, &error));
                    }
                },
            }
        }
        self.publish();
        if before.0 != self.problems || before.1 != self.listeners() {
            self.generation += 1;
        }
    }

    fn publish(&self) {
        let listeners = self.bound.values().map(|bound| Arc::clone(&bound.listener));
        self.live.publish(listeners.collect());
    }

    /// Who gets each address: of two Services that want the same, the older one; nobody gets one of the process's own.
    fn wanted(&mut self, resources: &Resources) -> BTreeMap<Place, L4ServiceName> {
        let mut services: Vec<(&L4ServiceName, &Arc<L4Service>)> = resources.l4.iter().collect();
        services.sort_by_key(|(name, service)| (service.created_unix_s.unwrap_or(i64::MAX), *name));
        let mut taken: HashMap<(L4Protocol, u16), Vec<(IpAddr, &ObjectRef)>> = HashMap::new();
        let mut wanted = BTreeMap::new();
        for (name, service) in services {
            for ip in &service.addresses {
                let address = SocketAddr::new(*ip, service.port);
                let own = self.own.iter().find(|(_, own)| {
                    service.protocol == L4Protocol::Tcp && own.port() == service.port && overlap(own.ip(), *ip)
                });
                if let Some((flag, own)) = own {
                    let message = format!(
                        "port {} is taken by --{flag} {own}; choose another port, or another address with --lb-bind",
                        port_of(service)
                    );
                    self.problems.push(conflict(service, message));
                    continue;
                }
                let holders = taken.entry((service.protocol, service.port)).or_default();
                if let Some((_, winner)) = holders.iter().find(|(held, _)| overlap(*held, *ip)) {
                    let message = format!(
                        "port {} on {ip} belongs to {winner}, which is older; choose another port or address",
                        port_of(service)
                    );
                    self.problems.push(conflict(service, message));
                    continue;
                }
                holders.push((*ip, &service.source));
                wanted.insert((service.protocol, address), name.clone());
            }
        }
        wanted
    }
}

/// Asks listeners that are gone for an address that their sessions hold; whether there are any.
fn give_way(leaving: &[Weak<Listener>], (protocol, address): Place) -> bool {
    let holders = leaving.iter().filter_map(Weak::upgrade).filter(|listener| {
        let held = listener.address;
        listener.protocol == protocol && held.port() == address.port() && overlap(held.ip(), address.ip())
    });
    holders.map(|listener| listener.give_way()).count() > 0
}

fn bind(sockets: &Sockets, (protocol, address): Place, workers: usize) -> io::Result<Dealt> {
    match protocol {
        L4Protocol::Tcp => {
            let listeners = sockets.tcp(address, workers)?;
            for listener in &listeners {
                // Accepted sockets inherit it.
                SockRef::from(listener).set_tcp_nodelay(true)?;
            }
            Ok(Dealt::tcp(listeners, workers))
        }
        L4Protocol::Udp => Ok(Dealt::udp(sockets.udp(address, workers)?, workers)),
    }
}

const fn transport(protocol: L4Protocol) -> Transport {
    match protocol {
        L4Protocol::Tcp => Transport::Tcp,
        L4Protocol::Udp => Transport::Udp,
    }
}

/// Whether two addresses cannot both be bound on one port.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}

fn port_of(service: &L4Service) -> String {
    format!("{}/{}", service.port, service.protocol.as_str())
}

fn conflict(service: &L4Service, message: String) -> Report {
    Report::new(service.source.clone(), ReportReason::PortConflict, message)
}

fn bind_failed(service: &L4Service, place: Place, error: &io::Error) -> Report {
    let next = match error.kind() {
        io::ErrorKind::AddrNotAvailable => "the address is not one of this machine; give it one, or choose another",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrInUse => "stop the program that uses it, or choose another port",
        _ => "it is tried again",
    };
    let message = format!("cannot listen on {} {}: {error}; {next}", place.0.as_str(), place.1);
    Report::new(service.source.clone(), ReportReason::ListenerFailed, message)
}

/// The pool of a Service port: what is common with the pools of routes.
pub(crate) fn pool_of(service: &ObjectRef, port: u16, endpoints: &EndpointsName, policy: &PoolPolicy) -> Pool {
    Pool {
        service: service.clone(),
        port,
        endpoints: endpoints.clone(),
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
        policy: policy.clone(),
    }
}

/// The pool of before where it is the same still, so that the workers keep their counts; else a new one.
pub(super) fn follow_pool(
    before: Option<&Arc<PoolHandle>>,
    spec: Pool,
    new_pool: &mut impl FnMut(&Arc<Pool>) -> Arc<PoolHandle>,
) -> Arc<PoolHandle> {
    match before {
        Some(pool) if *pool.spec == spec => Arc::clone(pool),
        _ => {
            if let Some(before) = before {
                retire(before);
            }
            new_pool(&Arc::new(spec))
        }
    }
}

/// Lets the workers forget a pool.
pub(super) fn retire(pool: &Arc<PoolHandle>) {
    pool.retired.store(true, Ordering::Relaxed);
}

/// Writes the counts of layer 4.
pub(crate) fn render(series: &[Arc<Series>], exposition: &mut Exposition) {
    for series in series {
        series.render(exposition);
    }
}
