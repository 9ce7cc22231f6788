//! Which endpoint a new connection or session gets.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use super::{End, Forward};
use crate::{
    balance::outlier::Failure,
    ejection::Consequence,
    pool::{LocalEndpoint, Picked, Wanted},
    worker::Worker,
};

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

    /// Whether the endpoint left its Service.
    pub(super) fn is_gone(&self) -> bool {
        self.endpoint.is_gone()
    }

    /// The endpoint accepted.
    pub(super) fn succeeded(&self) {
        self.endpoint.state.note_success();
    }

    /// The endpoint did not accept.
    pub(super) fn failed(&self, forward: &Forward) {
        let consequence = Consequence::from(forward.pool.spec.policy.outlier_ejection);
        let endpoints = &forward.pool.endpoints;
        endpoints.note_failure(&self.endpoint.state, Failure::Connect, consequence);
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
pub(super) fn pick(worker: &Worker, forward: &Forward, client: IpAddr, tried: &[SocketAddr]) -> Result<Lease, End> {
    let wanted = Wanted {
        client,
        head: None,
        sticky: None,
        own_connection: true,
        tried,
    };
    match worker.local_pool(&forward.pool).pick(worker, &wanted) {
        Picked::Endpoint(endpoint) => Ok(Lease::new(&endpoint)),
        Picked::Full => Err(End::EndpointsFull),
        Picked::Nobody => Err(End::NoReadyEndpoints),
    }
}
