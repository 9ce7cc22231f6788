//! What a request holds of an endpoint, and a connection of its limit; given back when it is dropped.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use propylon_model::EndpointLimits;

use super::LocalEndpoint;
use crate::endpoint_state::{EndpointState, EndpointsHandle};

/// An endpoint that is counted as busy with a request.
pub(crate) struct Lease {
    endpoint: Rc<LocalEndpoint>,
    /// Whether it is counted for all workers too, as a limit wants it.
    is_counted: bool,
}

impl Lease {
    /// Counts a request; none where the endpoint has as many as it may.
    pub(crate) fn take(endpoint: &Rc<LocalEndpoint>, limits: &EndpointLimits) -> Option<Self> {
        if let Some(most) = limits.max_requests {
            count_up(&endpoint.state.active, most)?;
        }
        endpoint.active.set(endpoint.active.get() + 1);
        Some(Self {
            endpoint: Rc::clone(endpoint),
            is_counted: limits.max_requests.is_some(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }

    /// Goes over to another address of the same name, whose limit is not asked.
    pub(crate) fn move_to(&mut self, endpoint: &Rc<LocalEndpoint>) {
        endpoint.active.set(endpoint.active.get() + 1);
        if self.is_counted {
            endpoint.state.active.fetch_add(1, SeqCst);
        }
        let moved = Self {
            endpoint: Rc::clone(endpoint),
            is_counted: self.is_counted,
        };
        *self = moved;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let endpoint = &self.endpoint;
        endpoint.active.set(endpoint.active.get().saturating_sub(1));
        if self.is_counted {
            endpoint.state.active.fetch_sub(1, SeqCst);
            endpoint.handle.waiting.wake_next();
        }
    }
}

/// A connection that is counted; lives as long as the connection.
pub(crate) struct Permit {
    state: Arc<EndpointState>,
    handle: Arc<EndpointsHandle>,
}

impl Permit {
    /// Counts a connection; none where the endpoint has `most`.
    pub(crate) fn take(endpoint: &LocalEndpoint, most: u32) -> Option<Self> {
        count_up(&endpoint.state.connections, most)?;
        Some(Self {
            state: Arc::clone(&endpoint.state),
            handle: Arc::clone(&endpoint.handle),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.state.connections.fetch_sub(1, SeqCst);
        self.handle.waiting.wake_next();
    }
}

fn count_up(counter: &AtomicU32, most: u32) -> Option<u32> {
    counter
        .fetch_update(SeqCst, SeqCst, |count| (count < most).then_some(count + 1))
        .ok()
}
