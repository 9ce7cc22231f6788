//! Which endpoint a new connection or session gets.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use propylon_model::EndpointLimits;

use super::{End, Forward};
use crate::{
    balance::outlier::Failure,
    ejection::Consequence,
    endpoint_tally::Outcome,
    pool::{self, LocalEndpoint, Permit, Picked, Wanted},
    reason::Reason,
    worker::Worker,
};

/// An endpoint that is counted as busy while this lives: with a request, and, where they are limited, with a connection.
pub(super) struct Lease {
    busy: pool::Lease,
    _connection: Option<Permit>,
}

impl Lease {
    /// None where the endpoint has as much as it may.
    fn take(endpoint: &Rc<LocalEndpoint>, limits: &EndpointLimits) -> Option<Self> {
        let busy = pool::Lease::take(endpoint, limits)?;
        let connection = match limits.max_connections {
            None => None,
            // What HTTP keeps for later gives way to what is wanted now.
            Some(most) => Some(Permit::take(endpoint, most).or_else(|| {
                endpoint.drop_idle();
                Permit::take(endpoint, most)
            })?),
        };
        Some(Self {
            busy,
            _connection: connection,
        })
    }

    fn endpoint(&self) -> &LocalEndpoint {
        self.busy.endpoint()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint().address
    }

    /// Whether the endpoint left its Service.
    pub(super) fn is_gone(&self) -> bool {
        self.endpoint().is_gone()
    }

    /// The endpoint accepted, or answered for the first time: counted as a request that it served.
    pub(super) fn began(&self) {
        self.endpoint().tally.count(Outcome::Answered(None));
        self.succeeded();
    }

    /// The endpoint answers still.
    pub(super) fn succeeded(&self) {
        self.endpoint().state.note_success();
    }

    /// The endpoint did not accept.
    pub(super) fn failed(&self, forward: &Forward, reason: Reason) {
        self.endpoint().tally.count(Outcome::Failed(reason));
        let consequence = Consequence::from(forward.pool.spec.policy.outlier_ejection);
        let endpoints = &forward.pool.endpoints;
        endpoints.note_failure(&self.endpoint().state, Failure::Connect, consequence);
    }
}

/// An endpoint that was not tried yet, else any.
///
/// # Errors
/// How the client's connection ends.
pub(super) fn pick(worker: &Worker, forward: &Forward, client: IpAddr, tried: &[SocketAddr]) -> Result<Lease, End> {
    let pool = worker.local_pool(&forward.pool);
    let limits = &forward.pool.spec.policy.limits;
    let mut avoided = Cow::Borrowed(tried);
    loop {
        let wanted = Wanted {
            client,
            head: None,
            sticky: None,
            own_connection: true,
            tried: &avoided,
        };
        let endpoint = match pool.pick(worker, &wanted) {
            Picked::Endpoint(endpoint) => endpoint,
            Picked::Full => return Err(End::EndpointsFull),
            Picked::Nobody => return Err(End::NoReadyEndpoints),
        };
        if let Some(lease) = Lease::take(&endpoint, limits) {
            return Ok(lease);
        }
        // Another worker was quicker, or its connections serve HTTP: each endpoint is asked once.
        let full = avoided.get(tried.len()..).unwrap_or_default();
        if full.contains(&endpoint.address) {
            return Err(End::EndpointsFull);
        }
        avoided.to_mut().push(endpoint.address);
    }
}
