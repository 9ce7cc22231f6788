//! One worker's view of an endpoint: its load and its connections.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use propylon_model::EndpointLimits;

use crate::{
    balance::ewma::PeakEwma,
    config::millis,
    endpoint_state::{EndpointState, EndpointsHandle, LiveEndpoint},
    endpoint_tally::Tally,
    exchange::Exchange,
    upstream::{Home, Http1, Http2},
};

/// One worker's view of an endpoint: its load and its idle connections.
pub(crate) struct LocalEndpoint {
    pub(crate) address: SocketAddr,
    /// What all workers know of it.
    pub(crate) state: Arc<EndpointState>,
    /// Requests in flight from this worker.
    pub(crate) active: Cell<u32>,
    /// What the next sweep publishes.
    pub(crate) tally: Tally,
    /// Moving average of its latency; kept where the policy asks for it.
    pub(super) latency: Cell<PeakEwma>,
    /// Its turns of round robin.
    pub(super) credit: Cell<i64>,
    /// Whether its connections are limited: one that others wait for is not kept.
    pub(super) is_limited: Cell<bool>,
    /// Whether the endpoint left the pool: nothing is kept for it.
    gone: Cell<bool>,
    idle: RefCell<Vec<IdleConnection>>,
    http2: RefCell<Option<Http2>>,
    now_ms: Rc<Cell<u64>>,
    pub(super) handle: Arc<EndpointsHandle>,
}

struct IdleConnection {
    connection: Box<Http1>,
    until_ms: u64,
}

impl LocalEndpoint {
    pub(super) fn new(live: &LiveEndpoint, handle: &Arc<EndpointsHandle>, now_ms: &Rc<Cell<u64>>) -> Self {
        Self {
            address: live.spec.address,
            state: Arc::clone(&live.state),
            active: Cell::new(0),
            tally: Tally::default(),
            latency: Cell::default(),
            credit: Cell::new(0),
            gone: Cell::new(false),
            idle: RefCell::default(),
            http2: RefCell::default(),
            now_ms: Rc::clone(now_ms),
            handle: Arc::clone(handle),
            is_limited: Cell::new(false),
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

    /// Takes the time to the first byte into the moving average.
    pub(super) fn observe(&self, exchange: &Exchange, is_fault: bool) {
        let (sample_us, now_us) = (exchange.upstream.first_byte_us.get(), exchange.worker.now_us());
        let mut latency = self.latency.get();
        match (sample_us, is_fault) {
            (sample_us, true) => latency.observe_failure(sample_us.unwrap_or(0), now_us),
            (Some(sample_us), false) => latency.observe(sample_us, now_us),
            (None, false) => {}
        }
        self.latency.set(latency);
    }

    /// Whether it left the list.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Whether the limits let it take another request; `own` says that the request needs a connection to itself.
    pub(super) fn has_room(&self, limits: &EndpointLimits, own: bool) -> bool {
        let has_requests = limits
            .max_requests
            .is_none_or(|most| self.state.active.load(SeqCst) < most);
        let has_connection = |most| {
            !self.idle.borrow().is_empty()
                || (!own && self.http2.borrow().is_some())
                || self.state.connections.load(SeqCst) < most
        };
        has_requests && limits.max_connections.is_none_or(has_connection)
    }

    /// Closes what is not in use, for the sake of other workers that wait for a connection.
    pub(super) fn give_way(&self) {
        if self.is_limited.get() {
            drop(self.idle.take());
            if self.active.get() == 0 {
                self.http2.replace(None);
            }
        }
    }

    /// The endpoint is not one of the list any more.
    pub(super) fn leave(&self) {
        self.gone.set(true);
        self.idle.borrow_mut().clear();
        self.http2.replace(None);
    }

    pub(super) fn sweep(&self) {
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
        let waiting = &self.handle.waiting;
        let is_wanted = self.is_limited.get() && !waiting.is_empty();
        if is_wanted && !waiting.is_next_here() {
            // Its end makes room for a connection of the worker whose turn it is.
            return;
        }
        let limit = keep_alive.map_or(IDLE, |announced| announced.saturating_sub(MARGIN).min(IDLE_MOST));
        let until_ms = self.now_ms.get() + millis(limit);
        self.idle.borrow_mut().push(IdleConnection { connection, until_ms });
        if is_wanted {
            waiting.wake_next();
        }
    }
}

/// How long an idle upstream connection is kept where the endpoint does not say (`reliability.md` B3).
const IDLE: Duration = Duration::from_secs(4);
/// The longest that `Keep-Alive: timeout` is believed.
const IDLE_MOST: Duration = Duration::from_mins(1);
/// How much earlier than announced we stop to use a connection.
const MARGIN: Duration = Duration::from_secs(1);
