//! Who may open a connection: the limits of the process and of one client address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::worker::Shared;

/// Connections by client address; only kept where `--max-connections-per-client` is given (a lock per connection, never
/// per request).
#[derive(Debug)]
pub(crate) struct PerClient {
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl PerClient {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Mutex::default(),
        }
    }

    fn enter(&self, client: IpAddr) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_insert(0);
        if *count >= self.limit {
            return false;
        }
        *count += 1;
        true
    }

    fn leave(&self, client: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&client);
            }
        }
    }
}

/// The right to one connection, given back when dropped.
pub(crate) struct Permit {
    shared: Arc<Shared>,
    client: Option<IpAddr>,
}

impl Permit {
    /// Takes a place among the connections of the process, if one is free.
    pub(crate) fn acquire(shared: &Arc<Shared>) -> Option<Self> {
        let limit = shared.config.limits.max_connections;
        let enter = |count: usize| (count < limit).then_some(count + 1);
        try_update(&shared.connections, enter).then(|| Self {
            shared: Arc::clone(shared),
            client: None,
        })
    }

    /// Whether a place is free among the connections of the process, as far as can be told without taking it.
    pub(crate) fn is_free(shared: &Shared) -> bool {
        shared.connections.load(Ordering::Relaxed) < shared.config.limits.max_connections
    }

    /// Takes a place among the connections of the client; false where it has too many.
    pub(crate) fn of_client(&mut self, client: IpAddr) -> bool {
        let Some(per_client) = &self.shared.per_client else {
            return true;
        };
        let entered = per_client.enter(client);
        if entered {
            self.client = Some(client);
        }
        entered
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        if let (Some(per_client), Some(client)) = (&self.shared.per_client, self.client) {
            per_client.leave(client);
        }
    }
}

fn try_update(count: &AtomicUsize, step: impl Fn(usize) -> Option<usize>) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
}
