//! What the process knows of an endpoint: health, load and history, shared by all workers and by the control side.
//!
//! It is kept by address inside the handle of the endpoints, so that no change of the configuration resets it. Relaxed
//! atomics only: a reader may see a value of a moment ago, which is good enough for balancing. What a worker writes on
//! every request does not belong here but into its own `LocalEndpoint`, whose sweep publishes it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use propylon_kit::clock::{self, Monotonic};
use propylon_model::{Affinity, Algorithm, Endpoint, Endpoints, Pool, PoolPolicy, TrafficDistribution};

use crate::{
    balance::maglev::Maglev, client_affinity::Clients, ejection::Judge, endpoint_tally::LastFailureCell,
    pool::Transports, waiting::Waiting,
};

/// Milliseconds since the process first asked; one clock for all workers, unlike the coarse clock of each.
pub(crate) fn process_ms() -> u64 {
    static BEGAN: LazyLock<Monotonic> = LazyLock::new(clock::now);
    crate::config::millis(BEGAN.elapsed())
}

/// The verdict of active health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CheckVerdict {
    /// Not checked, or not often enough yet: may be used.
    Unknown = 0,
    /// Healthy.
    Healthy = 1,
    /// Unhealthy: used only where nothing else is left.
    Unhealthy = 2,
}

/// The shared state of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// When the endpoint first appeared, for slow start; the first list of a handle counts as warm.
    pub(crate) born: Option<Monotonic>,
    /// Requests (L4: connections and sessions) in flight from all workers; kept only where a limit needs it.
    pub(crate) active: AtomicU32,
    /// Connections from all workers; kept only where a limit needs it.
    pub(crate) connections: AtomicU32,
    /// [`CheckVerdict`] as a number.
    pub(crate) check: AtomicU8,
    /// Until when it is left out, in milliseconds of [`process_ms`]; 0: it is not.
    pub(crate) ejected_until_ms: AtomicU64,
    /// How often it was left out without a longer good time in between; makes the next time longer.
    pub(crate) ejections: AtomicU32,
    /// How often it was left out in all.
    pub(crate) ejections_total: AtomicU64,
    /// Failures in a row.
    pub(crate) failures_in_a_row: AtomicU32,
    /// `requests_total` when the latencies of the list were last compared.
    pub(crate) compared_requests: AtomicU64,
    /// Requests that ended, published by the sweeps.
    pub(crate) requests_total: AtomicU64,
    /// Requests that failed at the endpoint (no response, or 5xx), published by the sweeps.
    pub(crate) failures_total: AtomicU64,
    /// Moving average of the time to the first byte in microseconds, published by the sweeps; 0: none yet.
    pub(crate) latency_us: AtomicU64,
    /// Requests in flight, published by the sweeps as differences; for views, not for limits.
    pub(crate) shown_active: AtomicU32,
    /// Connections open or being opened, published by the sweeps as differences; for views, not for limits.
    pub(crate) shown_connections: AtomicU32,
    /// The last failure, published by the sweeps.
    pub(crate) last_failure: LastFailureCell,
}

impl EndpointState {
    /// The verdict of active health checks.
    pub(crate) fn verdict(&self) -> CheckVerdict {
        match self.check.load(Ordering::Relaxed) {
            1 => CheckVerdict::Healthy,
            2 => CheckVerdict::Unhealthy,
            _ => CheckVerdict::Unknown,
        }
    }

    /// Sets the verdict. Only ever called from the thread of the health checks.
    pub(crate) fn set_verdict(&self, verdict: CheckVerdict) {
        self.check.store(verdict as u8, Ordering::Relaxed);
    }

    /// An endpoint of which nothing is known; `born`: when it joined others that were there before.
    pub(crate) const fn new(born: Option<Monotonic>) -> Self {
        Self {
            born,
            active: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            check: AtomicU8::new(CheckVerdict::Unknown as u8),
            ejected_until_ms: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            ejections_total: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            compared_requests: AtomicU64::new(0),
            requests_total: AtomicU64::new(0),
            failures_total: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            shown_active: AtomicU32::new(0),
            shown_connections: AtomicU32::new(0),
            last_failure: LastFailureCell::new(),
        }
    }
}

/// An endpoint of the configuration with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct LiveEndpoint {
    pub(crate) spec: Endpoint,
    pub(crate) state: Arc<EndpointState>,
}

/// The endpoints of a moment; never changes.
#[derive(Debug, Default)]
pub(crate) struct EndpointList {
    pub(crate) endpoints: Vec<LiveEndpoint>,
    pub(crate) distribution: TrafficDistribution,
    /// Whether all are addresses of one external name, any of which may be connected to in place of another.
    pub(crate) one_name: bool,
    table: OnceLock<Maglev>,
}

impl EndpointList {
    /// The table of consistent hashing.
    ///
    /// # Cost
    /// Some milliseconds for the first call, which the control side makes where a policy asks for it.
    pub(crate) fn table(&self) -> &Maglev {
        self.table.get_or_init(|| {
            let endpoint = |live: &LiveEndpoint| (live.spec.address, live.spec.weight);
            Maglev::new(&self.endpoints.iter().map(endpoint).collect::<Vec<_>>())
        })
    }
}

/// The endpoints of one Service port: a stable handle around a swapped list.
#[derive(Debug, Default)]
pub(crate) struct EndpointsHandle {
    pub(crate) current: ArcSwap<EndpointList>,
    /// Counts the owners of the list: the configuration, or one resolving of an external name. The last one may write.
    owner: Mutex<u64>,
    /// Grows with every change of the list and with every ejection.
    epoch: AtomicU64,
    pub(crate) judge: Judge,
    /// Requests that wait for an endpoint with room.
    pub(crate) waiting: Waiting,
    /// Where clients were sent, for policies that keep them there; made when the first one comes.
    clients: OnceLock<Box<Clients>>,
    /// Whether a policy hashes: tables are then made with the list.
    hashed: AtomicBool,
    /// Set when no resource names the endpoints any more; workers then forget them.
    retired: AtomicBool,
    /// The ways in which pools connect, shared while a pool uses them. Only for the control side.
    transports: Mutex<Vec<Weak<Transports>>>,
}

impl EndpointsHandle {
    /// A handle of a first list.
    pub(crate) fn new(endpoints: &Endpoints) -> Self {
        let handle = Self::default();
        handle.replace(&endpoints.endpoints, endpoints.distribution);
        handle
    }

    /// Swaps the list; endpoints that stay keep their state. Only ever called from the control side.
    pub(crate) fn replace(&self, endpoints: &[Endpoint], distribution: TrafficDistribution) {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        *owner += 1;
        self.swap(endpoints, distribution, false);
    }

    /// Hands the list to a new owner, who may write with the number that this gives until the next owner comes; the
    /// list stays as it is.
    pub(crate) fn claim(&self) -> u64 {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        *owner += 1;
        *owner
    }

    /// Swaps the list for the addresses of an external name, unless another owner came; says whether it did.
    pub(crate) fn replace_as(&self, claim: u64, endpoints: &[Endpoint], distribution: TrafficDistribution) -> bool {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_owner = *owner == claim;
        if is_owner {
            self.swap(endpoints, distribution, true);
        }
        is_owner
    }

    fn swap(&self, endpoints: &[Endpoint], distribution: TrafficDistribution, one_name: bool) {
        let before = self.current.load();
        let born = (!before.endpoints.is_empty()).then(clock::now);
        let known: HashMap<SocketAddr, &Arc<EndpointState>> = before
            .endpoints
            .iter()
            .map(|live| (live.spec.address, &live.state))
            .collect();
        let endpoints = endpoints.iter().map(|spec| LiveEndpoint {
            spec: spec.clone(),
            state: known
                .get(&spec.address)
                .map_or_else(|| Arc::new(EndpointState::new(born)), |state| Arc::clone(state)),
        });
        let list = EndpointList {
            endpoints: endpoints.collect(),
            distribution,
            one_name,
            table: OnceLock::new(),
        };
        if self.hashed.load(Ordering::Relaxed) {
            list.table();
        }
        self.current.store(Arc::new(list));
        self.advance();
    }

    /// Grows when workers must look again.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes the workers look again, with their next request.
    pub(crate) fn advance(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// How a pool connects; the same as before where nothing of it changed, so that connections and sessions stay.
    pub(crate) fn transports(&self, pool: &Pool) -> Arc<Transports> {
        let mut known = self.transports.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|transports| transports.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|known| known.fit(pool));
        same.unwrap_or_else(|| {
            let transports = Arc::new(Transports::new(pool));
            known.push(Arc::downgrade(&transports));
            transports
        })
    }

    /// Where clients were sent, for [`Affinity::ClientIp`].
    pub(crate) fn clients(&self) -> &Clients {
        self.clients.get_or_init(Box::default)
    }

    /// Makes the tables that a policy needs, now and with every later list. Only ever called from the control side.
    pub(crate) fn prepare(&self, policy: &PoolPolicy) {
        if policy.algorithm == Algorithm::Maglev || matches!(policy.affinity, Affinity::ClientIp(_)) {
            self.hashed.store(true, Ordering::Relaxed);
            self.current.load().table();
        }
    }

    /// No resource names the endpoints any more.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether no resource names the endpoints any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint::new(address.parse().unwrap())
    }

    #[test]
    fn states_survive_a_swap_and_an_old_owner_cannot_write() {
        let handle = EndpointsHandle::new(&Endpoints::new(vec![endpoint("10.0.0.1:80")]));
        let state = Arc::clone(&handle.current.load().endpoints[0].state);
        let claim = handle.claim();
        let both = [endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")];
        assert!(handle.replace_as(claim, &both, TrafficDistribution::Any));
        let list = handle.current.load_full();
        assert!(list.one_name && Arc::ptr_eq(&list.endpoints[0].state, &state));
        handle.replace(&both[1..], TrafficDistribution::Any);
        assert!(!handle.replace_as(claim, &both, TrafficDistribution::Any));
        let list = handle.current.load_full();
        assert_eq!((list.endpoints.len(), list.one_name), (1, false));
    }
}
