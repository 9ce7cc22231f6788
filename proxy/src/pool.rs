//! Pools: stable handles that routes point at, and each worker's own view of them.
//!
//! A change of endpoints swaps one pointer and touches neither the route table nor the connections and counts of the
//! endpoints that stay.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use propylon_model::{BackendProtocol, Pool};

use crate::{
    config::millis,
    endpoint_state::{EndpointList, EndpointState, EndpointsHandle, LiveEndpoint},
    endpoint_tally::Tally,
    upstream::{Alpn, Home, Http1, Http2, TlsConfigError, TlsTransport, Transport},
};

/// How a pool is spoken to, and its endpoints: what a route points at.
#[derive(Debug)]
pub(crate) struct PoolHandle {
    pub(crate) id: u32,
    pub(crate) spec: Arc<Pool>,
    /// How to connect; an error where the TLS settings are not usable.
    pub(crate) transport: Result<Transport, TlsConfigError>,
    /// How to connect for an upgrade: HTTP/1.1 only.
    pub(crate) upgrade_transport: Result<Transport, TlsConfigError>,
    pub(crate) endpoints: Arc<EndpointsHandle>,
    /// Set when no table names the pool any more; workers then forget it.
    pub(crate) retired: AtomicBool,
}

impl PoolHandle {
    pub(crate) fn new(id: u32, spec: Arc<Pool>, endpoints: Arc<EndpointsHandle>) -> Self {
        let tls = |alpn| TlsTransport::new(&spec.tls, alpn).map(|tls| Transport::Tls(Arc::new(tls)));
        let (transport, upgrade_transport) = match spec.protocol {
            BackendProtocol::H2c => (Ok(Transport::H2c), Ok(Transport::Http1)),
            BackendProtocol::Http1 => (Ok(Transport::Http1), Ok(Transport::Http1)),
            BackendProtocol::Https => (tls(Alpn::Http2OrHttp1), tls(Alpn::Http1)),
            BackendProtocol::Wss => (tls(Alpn::Http1), tls(Alpn::Http1)),
        };
        Self {
            id,
            spec,
            transport,
            upgrade_transport,
            endpoints,
            retired: AtomicBool::new(false),
        }
    }
}

/// One worker's view of a pool.
pub(crate) struct LocalPool {
    pub(crate) handle: Arc<PoolHandle>,
    seen: RefCell<Arc<EndpointList>>,
    endpoints: RefCell<Rc<[Rc<LocalEndpoint>]>>,
}

/// One worker's view of an endpoint: its load and its idle connections.
pub(crate) struct LocalEndpoint {
    pub(crate) address: SocketAddr,
    /// What all workers know of it.
    pub(crate) state: Arc<EndpointState>,
    /// Requests in flight from this worker.
    pub(crate) active: Cell<u32>,
    /// What the next sweep publishes.
    pub(crate) tally: Tally,
    /// Whether the endpoint left the pool: nothing is kept for it.
    gone: Cell<bool>,
    idle: RefCell<Vec<IdleConnection>>,
    http2: RefCell<Option<Http2>>,
    now_ms: Rc<Cell<u64>>,
}

struct IdleConnection {
    connection: Box<Http1>,
    until_ms: u64,
}

impl LocalPool {
    pub(crate) fn new(handle: Arc<PoolHandle>, now_ms: &Rc<Cell<u64>>) -> Self {
        let seen = handle.endpoints.current.load_full();
        let endpoints = seen
            .endpoints
            .iter()
            .map(|endpoint| Rc::new(LocalEndpoint::new(endpoint, now_ms)))
            .collect();
        Self {
            handle,
            seen: RefCell::new(seen),
            endpoints: RefCell::new(endpoints),
        }
    }

    /// The present endpoints; those that stay keep their connections and counts.
    ///
    /// # Cost
    /// One atomic load, and linear in the endpoints after a change.
    pub(crate) fn endpoints(&self, now_ms: &Rc<Cell<u64>>) -> Rc<[Rc<LocalEndpoint>]> {
        self.refresh(now_ms);
        Rc::clone(&self.endpoints.borrow())
    }

    /// Takes over a changed list, if there is one, and closes idle connections that are due.
    pub(crate) fn sweep(&self, now_ms: &Rc<Cell<u64>>) {
        self.refresh(now_ms);
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.sweep();
        }
    }

    /// Where the endpoints are the addresses of one external name: the least busy one of the other IP version.
    pub(crate) fn other_family(&self, endpoint: &LocalEndpoint) -> Option<Rc<LocalEndpoint>> {
        if !self.seen.borrow().one_name {
            return None;
        }
        let endpoints = self.endpoints.borrow();
        let others = endpoints
            .iter()
            .filter(|other| other.address.is_ipv4() != endpoint.address.is_ipv4());
        others.min_by_key(|other| other.active.get()).map(Rc::clone)
    }

    fn refresh(&self, now_ms: &Rc<Cell<u64>>) {
        let current = self.handle.endpoints.current.load();
        if Arc::ptr_eq(&current, &self.seen.borrow()) {
            return;
        }
        let mut before: HashMap<SocketAddr, Rc<LocalEndpoint>, foldhash::fast::RandomState> = self
            .endpoints
            .borrow()
            .iter()
            .map(|endpoint| (endpoint.address, Rc::clone(endpoint)))
            .collect();
        let after = current
            .endpoints
            .iter()
            .map(|endpoint| {
                let kept = before.remove(&endpoint.spec.address);
                kept.unwrap_or_else(|| Rc::new(LocalEndpoint::new(endpoint, now_ms)))
            })
            .collect();
        for gone in before.into_values() {
            gone.leave();
        }
        self.endpoints.replace(after);
        self.seen.replace(Arc::clone(&current));
    }
}

impl LocalEndpoint {
    fn new(live: &LiveEndpoint, now_ms: &Rc<Cell<u64>>) -> Self {
        Self {
            address: live.spec.address,
            state: Arc::clone(&live.state),
            active: Cell::new(0),
            tally: Tally::default(),
            gone: Cell::new(false),
            idle: RefCell::default(),
            http2: RefCell::default(),
            now_ms: Rc::clone(now_ms),
        }
    }

    /// The connection that was used last and is still good.
    pub(crate) fn take_idle(&self) -> Option<Box<Http1>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.until_ms > self.now_ms.get() && idle.connection.is_reusable() {
                return Some(idle.connection);
            }
        }
    }

    /// The shared HTTP/2 connection, while it takes new streams.
    pub(crate) fn http2(&self) -> Option<Http2> {
        let mut slot = self.http2.borrow_mut();
        if slot.as_ref().is_some_and(|connection| !connection.is_usable()) {
            *slot = None;
        }
        slot.clone()
    }

    /// Shares an HTTP/2 connection with later requests.
    pub(crate) fn keep_http2(&self, connection: &Http2) {
        if !self.gone.get() {
            self.http2.replace(Some(connection.clone()));
        }
    }

    /// Forgets the idle connections: after one of them turned out dead, the others are likely so too.
    pub(crate) fn drop_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    fn leave(&self) {
        self.gone.set(true);
        self.idle.borrow_mut().clear();
        self.http2.replace(None);
    }

    fn sweep(&self) {
        let now = self.now_ms.get();
        self.idle.borrow_mut().retain(|idle| idle.until_ms > now);
        self.tally.publish(&self.state, self.active.get(), self.connections());
    }

    /// Connections that are open or being opened, as far as they are known: an HTTP/1.1 request has one to itself.
    fn connections(&self) -> u32 {
        let idle = u32::try_from(self.idle.borrow().len()).unwrap_or(u32::MAX);
        let busy = match *self.http2.borrow() {
            Some(_) => 1,
            None => self.active.get(),
        };
        idle.saturating_add(busy)
    }
}

impl Drop for LocalEndpoint {
    fn drop(&mut self) {
        // What the sweep published last must not stand for ever.
        self.tally.publish(&self.state, 0, 0);
    }
}

impl Home for LocalEndpoint {
    fn put_back(&self, connection: Box<Http1>, keep_alive: Option<Duration>) {
        if self.gone.get() {
            return;
        }
        let limit = keep_alive.map_or(IDLE, |announced| announced.saturating_sub(MARGIN).min(IDLE_MOST));
        let until_ms = self.now_ms.get() + millis(limit);
        self.idle.borrow_mut().push(IdleConnection { connection, until_ms });
    }
}

/// A retired handle is forgotten by the workers.
pub(crate) fn is_retired(pool: &LocalPool) -> bool {
    pool.handle.retired.load(Ordering::Relaxed)
}

/// How long an idle upstream connection is kept where the endpoint does not say (`reliability.md` B3).
const IDLE: Duration = Duration::from_secs(4);
/// The longest that `Keep-Alive: timeout` is believed.
const IDLE_MOST: Duration = Duration::from_mins(1);
/// How much earlier than announced we stop to use a connection.
const MARGIN: Duration = Duration::from_secs(1);
