//! Pools: stable handles that routes point at, and each worker's own view of them.
//!
//! A change of endpoints swaps one pointer and touches neither the route table nor the connections and counts of the
//! endpoints that stay. A change of a pool's policy makes a new handle; connections and counts belong to the endpoints
//! and the way of speaking to them, and stay too.

mod eligible;
mod endpoint;
mod group;
mod lease;
mod pick;
mod view;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use propylon_model::{Algorithm, BackendProtocol, BackendTls, Pool};

use self::view::{View, is_limited};
pub(crate) use self::{
    eligible::{Eligible, eligible, warmth},
    endpoint::LocalEndpoint,
    group::Group,
    lease::{Lease, Permit},
    pick::{Picked, Wanted, hash_key},
};
use crate::{
    balance::{locality::Here, outlier::Failure},
    ejection::Consequence,
    endpoint_state::{EndpointsHandle, process_ms},
    exchange::Exchange,
    upstream::{Alpn, TlsConfigError, TlsTransport, Transport},
};

/// How a pool is spoken to, and its endpoints: what a route points at.
#[derive(Debug)]
pub(crate) struct PoolHandle {
    pub(crate) id: u32,
    pub(crate) spec: Arc<Pool>,
    pub(crate) transports: Arc<Transports>,
    pub(crate) endpoints: Arc<EndpointsHandle>,
    /// Set when no table names the pool any more; workers then forget it.
    pub(crate) retired: AtomicBool,
}

/// The ways to connect to the endpoints of a pool.
#[derive(Debug)]
pub(crate) struct Transports {
    protocol: BackendProtocol,
    tls: BackendTls,
    /// How to connect; an error where the TLS settings are not usable.
    pub(crate) usual: Result<Transport, TlsConfigError>,
    /// How to connect for an upgrade: HTTP/1.1 only.
    pub(crate) upgrade: Result<Transport, TlsConfigError>,
}

impl PoolHandle {
    pub(crate) fn new(id: u32, spec: Arc<Pool>, endpoints: Arc<EndpointsHandle>) -> Self {
        endpoints.prepare(&spec.policy);
        Self {
            id,
            transports: endpoints.transports(&spec),
            spec,
            endpoints,
            retired: AtomicBool::new(false),
        }
    }
}

impl Transports {
    pub(crate) fn new(pool: &Pool) -> Self {
        let tls = |alpn| TlsTransport::new(&pool.tls, alpn).map(|tls| Transport::Tls(Arc::new(tls)));
        let (usual, upgrade) = match pool.protocol {
            BackendProtocol::H2c => (Ok(Transport::H2c), Ok(Transport::Http1)),
            BackendProtocol::Http1 => (Ok(Transport::Http1), Ok(Transport::Http1)),
            BackendProtocol::Https => (tls(Alpn::Http2OrHttp1), tls(Alpn::Http1)),
            BackendProtocol::Wss => (tls(Alpn::Http1), tls(Alpn::Http1)),
        };
        Self {
            protocol: pool.protocol,
            tls: pool.tls.clone(),
            usual,
            upgrade,
        }
    }

    /// Whether a pool is spoken to in this way.
    pub(crate) fn fit(&self, pool: &Pool) -> bool {
        self.protocol == pool.protocol && self.tls == pool.tls
    }
}

/// One worker's view of a pool.
pub(crate) struct LocalPool {
    pub(crate) handle: Arc<PoolHandle>,
    /// Endpoints with their connections and counts; shared by the pools that speak to them in the same way.
    pub(crate) group: Rc<Group>,
    here: Here,
    view: RefCell<Rc<View>>,
    /// The state of the endpoints that the view was made of.
    epoch: Cell<u64>,
}

impl LocalPool {
    pub(crate) fn new(handle: Arc<PoolHandle>, group: Rc<Group>, here: Here) -> Self {
        group.set_compares(handle.spec.policy.outlier_ejection);
        group.set_limits(handle.spec.policy.limits.max_connections.is_some());
        let epoch = group.refresh();
        let view = View::new(&group, &handle.spec.policy, &here, process_ms());
        Self {
            handle,
            group,
            here,
            view: RefCell::new(Rc::new(view)),
            epoch: Cell::new(epoch),
        }
    }

    /// Looks at what changes with time alone: ejections that end, endpoints that warm up, verdicts of health checks.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.refresh();
        if self.view.borrow().is_stale(&self.handle.spec.policy, now_ms) {
            self.look(now_ms);
        }
    }

    /// Where the endpoints are the addresses of one external name: the least busy one of the other IP version.
    pub(crate) fn other_family(&self, endpoint: &LocalEndpoint) -> Option<Rc<LocalEndpoint>> {
        let view = self.view.borrow();
        if !view.list.one_name {
            return None;
        }
        let others = view.all.iter();
        let others = others.filter(|other| other.address.is_ipv4() != endpoint.address.is_ipv4());
        others.min_by_key(|other| other.active.get()).map(Rc::clone)
    }

    /// How many endpoints there are.
    pub(crate) fn size(&self) -> usize {
        self.view.borrow().all.len()
    }

    /// Whether endpoints can be full.
    pub(crate) fn is_limited(&self) -> bool {
        is_limited(&self.handle.spec.policy.limits)
    }

    /// An endpoint answered.
    pub(crate) fn answered(&self, exchange: &Exchange, endpoint: &LocalEndpoint, status: u16) {
        let policy = &self.handle.spec.policy;
        let is_fault = status >= 500 && status != NOT_IMPLEMENTED;
        if is_fault {
            let consequence = Consequence::from(policy.outlier_ejection);
            let endpoints = &self.handle.endpoints;
            endpoints.note_failure(&endpoint.state, Failure::Response, consequence);
        } else {
            endpoint.state.note_success();
        }
        if policy.algorithm == Algorithm::Ewma {
            endpoint.observe(exchange, is_fault);
        }
    }

    /// An endpoint did not answer.
    #[cold]
    pub(crate) fn failed(&self, exchange: &Exchange, endpoint: &LocalEndpoint, failure: Failure) {
        let policy = &self.handle.spec.policy;
        let consequence = Consequence::from(policy.outlier_ejection);
        let endpoints = &self.handle.endpoints;
        endpoints.note_failure(&endpoint.state, failure, consequence);
        if policy.algorithm == Algorithm::Ewma {
            endpoint.observe(exchange, true);
        }
    }

    /// Takes over what changed since the last look: the list of endpoints, ejections.
    ///
    /// # Cost
    /// One atomic load; linear in the endpoints after a change.
    fn refresh(&self) {
        if self.handle.endpoints.epoch() != self.epoch.get() {
            self.epoch.set(self.group.refresh());
            self.look(process_ms());
        }
    }

    #[cold]
    fn look(&self, now_ms: u64) {
        let view = View::new(&self.group, &self.handle.spec.policy, &self.here, now_ms);
        self.view.replace(Rc::new(view));
    }
}

/// A retired handle is forgotten by the workers.
pub(crate) fn is_retired(pool: &LocalPool) -> bool {
    pool.handle.retired.load(Ordering::Relaxed)
}

/// 501 says something about the request, not about the endpoint.
const NOT_IMPLEMENTED: u16 = 501;
