//! Which endpoint a new connection or session gets.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::atomic::Ordering,
};

use super::{End, Forward};
use crate::{balance::power_of_two, pool::LocalEndpoint, worker::Worker};

/// An endpoint that is counted as busy while this lives.
pub(super) struct Lease {
    endpoint: Rc<LocalEndpoint>,
}

impl Lease {
    fn new(endpoint: &Rc<LocalEndpoint>) -> Self {
        endpoint.active.set(endpoint.active.get() + 1);
        Self {
            endpoint: Rc::clone(endpoint),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// The endpoint accepted.
    pub(super) fn succeeded(&self) {
        let failures = &self.endpoint.state.failures_in_a_row;
        if failures.load(Ordering::Relaxed) != 0 {
            failures.store(0, Ordering::Relaxed);
        }
    }

    /// The endpoint did not accept.
    pub(super) fn failed(&self, _worker: &Worker, _forward: &Forward) {
        self.endpoint.state.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let active = &self.endpoint.active;
        active.set(active.get().saturating_sub(1));
    }
}

/// An endpoint that was not tried yet, else any.
///
/// # Errors
/// How the client's connection ends.
pub(super) fn pick(worker: &Worker, forward: &Forward, _client: IpAddr, tried: &[SocketAddr]) -> Result<Lease, End> {
    let pool = worker.local_pool(&forward.pool);
    let endpoints = pool.endpoints(&worker.now_ms);
    let load = |index: usize| endpoints.get(index).map_or(u32::MAX, |endpoint| endpoint.active.get());
    let fresh = |index: usize| {
        endpoints
            .get(index)
            .is_some_and(|endpoint| !tried.contains(&endpoint.address))
    };
    let random = worker.random_u64();
    let index = power_of_two(endpoints.len(), random, load, fresh)
        .or_else(|| power_of_two(endpoints.len(), random, load, |_| true));
    let chosen = index.and_then(|index| endpoints.get(index));
    chosen.map(Lease::new).ok_or(End::NoReadyEndpoints)
}
