//! The endpoints of a worker that are spoken to in one way: what survives every change of the configuration.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use super::{LocalEndpoint, PoolHandle, Transports};
use crate::{
    balance::retry_budget::RetryBudget,
    endpoint_state::{EndpointList, EndpointsHandle, LiveEndpoint},
};

/// Endpoints with their connections and counts; shared by the pools that speak to them in the same way, and kept for a
/// while when no pool does.
pub(crate) struct Group {
    handle: Arc<EndpointsHandle>,
    #[expect(dead_code, reason = "keeps the group's key, an address, from being given to another")]
    transports: Arc<Transports>,
    list: RefCell<Arc<EndpointList>>,
    endpoints: RefCell<Rc<[Rc<LocalEndpoint>]>>,
    epoch: Cell<u64>,
    compares: Cell<bool>,
    is_limited: Cell<bool>,
    /// Whose turn it is.
    pub(super) cursor: Cell<usize>,
    budget: Cell<RetryBudget>,
    /// Requests since the budget was last asked.
    requests: Cell<u64>,
    /// When a pool was last there.
    used_ms: Cell<u64>,
    now_ms: Rc<Cell<u64>>,
}

impl Group {
    /// What groups are told apart by.
    pub(crate) fn key(pool: &PoolHandle) -> usize {
        Arc::as_ptr(&pool.transports).addr()
    }

    /// `turn` is where round robin begins: another place on each worker.
    pub(crate) fn new(pool: &PoolHandle, now_ms: &Rc<Cell<u64>>, turn: usize) -> Self {
        let epoch = pool.endpoints.epoch();
        let list = pool.endpoints.current.load_full();
        let endpoints = list
            .endpoints
            .iter()
            .map(|endpoint| Rc::new(LocalEndpoint::new(endpoint, &pool.endpoints, now_ms)))
            .collect();
        Self {
            handle: Arc::clone(&pool.endpoints),
            transports: Arc::clone(&pool.transports),
            list: RefCell::new(list),
            endpoints: RefCell::new(endpoints),
            epoch: Cell::new(epoch),
            compares: Cell::new(false),
            is_limited: Cell::new(false),
            cursor: Cell::new(turn),
            budget: Cell::new(RetryBudget::new(now_ms.get())),
            requests: Cell::new(0),
            used_ms: Cell::new(now_ms.get()),
            now_ms: Rc::clone(now_ms),
        }
    }

    /// The present endpoints, in the order of [`Self::list`].
    pub(super) fn endpoints(&self) -> Rc<[Rc<LocalEndpoint>]> {
        Rc::clone(&self.endpoints.borrow())
    }

    /// The list that was taken over last.
    pub(super) fn list(&self) -> Arc<EndpointList> {
        Arc::clone(&self.list.borrow())
    }

    /// Takes over a changed list, if there is one: endpoints that stay keep their connections and counts. Gives the epoch
    /// that is seen.
    ///
    /// # Cost
    /// Linear in the endpoints after a change.
    pub(super) fn refresh(&self) -> u64 {
        let epoch = self.handle.epoch();
        if epoch == self.epoch.replace(epoch) {
            return epoch;
        }
        let current = self.handle.current.load();
        if Arc::ptr_eq(&current, &self.list.borrow()) {
            return epoch;
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
            .map(|endpoint| match before.remove(&endpoint.spec.address) {
                Some(kept) if Arc::ptr_eq(&kept.state, &endpoint.state) => kept,
                // It went and came back meanwhile: another endpoint at the same address.
                other => {
                    if let Some(gone) = other {
                        gone.leave();
                    }
                    self.join(endpoint)
                }
            })
            .collect();
        for gone in before.into_values() {
            gone.leave();
        }
        self.endpoints.replace(after);
        self.list.replace(Arc::clone(&current));
        epoch
    }

    fn join(&self, live: &LiveEndpoint) -> Rc<LocalEndpoint> {
        let endpoint = LocalEndpoint::new(live, &self.handle, &self.now_ms);
        endpoint.is_limited.set(self.is_limited.get());
        Rc::new(endpoint)
    }

    /// Takes over a changed list, closes idle connections that are due, publishes what was counted. `process_ms` is the
    /// time that all workers share.
    pub(crate) fn sweep(&self, process_ms: u64) {
        self.refresh();
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.sweep();
        }
        if self.compares.get() {
            self.handle.compare_latencies(process_ms);
        }
        if !self.handle.waiting.is_empty() {
            self.endpoints.borrow().iter().for_each(|endpoint| endpoint.give_way());
            self.handle.waiting.wake_next();
        }
    }

    /// Whether a policy limits connections.
    pub(super) fn set_limits(&self, is_limited: bool) {
        self.is_limited.set(self.is_limited.get() || is_limited);
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.is_limited.set(self.is_limited.get());
        }
    }

    /// Whether a policy ejects: the sweep then compares latencies.
    pub(super) fn set_compares(&self, compares: bool) {
        self.compares.set(self.compares.get() || compares);
    }

    /// A request begins: it adds to the budget of retries.
    pub(crate) fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Takes a retry from the budget, if there is one.
    pub(crate) fn withdraw_retry(&self) -> bool {
        let mut budget = self.budget.get();
        let granted = budget.withdraw(self.requests.take(), self.now_ms.get());
        self.budget.set(budget);
        granted
    }

    /// Whether the group is still wanted, or was a moment ago: a changed policy makes a new pool, which takes the group
    /// over with its first request.
    pub(crate) fn is_wanted(self: &Rc<Self>) -> bool {
        let now = self.now_ms.get();
        if Rc::strong_count(self) > 1 {
            self.used_ms.set(now);
        }
        !self.handle.is_retired() && now.saturating_sub(self.used_ms.get()) < KEPT_MS
    }

    /// Nothing is kept any more.
    pub(crate) fn leave(&self) {
        self.endpoints.borrow().iter().for_each(|endpoint| endpoint.leave());
    }
}

/// How long a group is kept that no pool uses.
const KEPT_MS: u64 = 60_000;
