//! One request and its response, from the head to the last byte: what deadlines, metrics and the access log need to know.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use http::{HeaderValue, request::Parts};
use propylon_kit::{
    clock::{self, Monotonic},
    metrics::RouteSeries,
};

use crate::{
    connection_state::ConnectionState,
    endpoint_tally::Outcome,
    pool::{Lease, LocalEndpoint},
    reason::Reason,
    rule_stats::RuleStats,
    watch::Watch,
    worker::Worker,
};

/// A request in flight; shared by the service, the two bodies and the sweep of its worker.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<ConnectionState>,
    pub(crate) watch: Watch,
    pub(crate) parts: Parts,
    pub(crate) started: Monotonic,
    pub(crate) request_id: u128,
    /// The `X-Request-ID` of a trusted peer, where it is kept.
    pub(crate) kept_request_id: Cell<Option<HeaderValue>>,
    /// The client's address, once it is known.
    pub(crate) client: Cell<Option<IpAddr>>,
    /// Size of the request head, about.
    pub(crate) head_bytes: Cell<u32>,
    slot: Cell<usize>,
    /// The rule that was found.
    pub(crate) matched: RefCell<Option<Matched>>,
    /// The endpoint that is counted as busy with this exchange.
    lease: RefCell<Option<Lease>>,
    pub(crate) status: Cell<u16>,
    pub(crate) reason: Cell<Option<Reason>>,
    pub(crate) complete: Cell<bool>,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    pub(crate) upstream: Upstream,
}

/// The rule that a request was matched with: its series, and its own cells with their labels.
pub(crate) struct Matched {
    pub(crate) series: RouteSeries,
    pub(crate) stats: Arc<RuleStats>,
    pub(crate) port: u16,
}

/// What is known of the upstream side.
#[derive(Default)]
pub(crate) struct Upstream {
    pub(crate) address: Cell<Option<SocketAddr>>,
    pub(crate) status: Cell<u16>,
    pub(crate) attempts: Cell<u8>,
    /// When the last attempt began.
    pub(crate) sent: Cell<Option<Monotonic>>,
    pub(crate) connect_us: Cell<Option<u64>>,
    pub(crate) first_byte_us: Cell<Option<u64>>,
    /// Why the last attempt failed, where it is followed by another.
    pub(crate) fault: Cell<Option<Reason>>,
}

impl Exchange {
    /// Begins an exchange and puts it under the worker's sweep.
    pub(crate) fn begin(worker: &Rc<Worker>, connection: &Rc<ConnectionState>, parts: Parts) -> ExchangeGuard {
        crate::observe::began(worker, connection);
        connection.begin_request();
        let exchange = Rc::new(Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            watch: Watch::default(),
            parts,
            started: clock::now(),
            request_id: worker.random_u128(),
            kept_request_id: Cell::new(None),
            client: Cell::new(None),
            head_bytes: Cell::new(0),
            slot: Cell::new(0),
            matched: RefCell::new(None),
            lease: RefCell::new(None),
            status: Cell::new(0),
            reason: Cell::new(None),
            complete: Cell::new(false),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            upstream: Upstream::default(),
        });
        exchange.slot.set(worker.enlist(&exchange));
        ExchangeGuard(exchange)
    }

    /// Keeps the endpoint busy until the exchange ends or another is leased.
    pub(crate) fn lease(&self, lease: Lease) {
        self.release();
        self.upstream.address.set(Some(lease.endpoint().address));
        self.lease.replace(Some(lease));
    }

    /// Moves the lease to another address of the same name, where the connection was made.
    pub(crate) fn move_lease(&self, endpoint: &Rc<LocalEndpoint>) {
        if let Some(lease) = self.lease.borrow_mut().as_mut() {
            lease.move_to(endpoint);
        }
        self.upstream.address.set(Some(endpoint.address));
    }

    /// Ends the lease.
    pub(crate) fn release(&self) {
        if let Some(lease) = self.lease.take() {
            lease.endpoint().tally.count(self.outcome());
        }
    }

    /// How the attempt that ends now ended, for the endpoint.
    fn outcome(&self) -> Outcome {
        let upstream = &self.upstream;
        let fault = upstream.fault.take().or_else(|| self.reason.get());
        match (upstream.status.get(), fault) {
            (status @ 500.., _) => Outcome::AnsweredError(status),
            (_, Some(reason)) if reason.status().is_server_error() => Outcome::Failed(reason),
            (0, _) => Outcome::Abandoned,
            (_, _) => Outcome::Answered(upstream.first_byte_us.get()),
        }
    }

    /// The coarse time plus a span, for deadlines; plus one step, as the coarse time may be that much behind: a deadline
    /// is met up to two steps late, and never early.
    pub(crate) fn in_ms(&self, span_ms: u64) -> u64 {
        let step_ms = crate::config::millis(crate::worker::SWEEP);
        self.worker.now_ms.get().saturating_add(span_ms).saturating_add(step_ms)
    }

    /// Notes why the exchange did not end well; the first reason stays.
    pub(crate) fn note(&self, reason: Reason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
    }
}

/// Owned by whoever holds the exchange's next step; when it is dropped, the exchange is over.
pub(crate) struct ExchangeGuard(Rc<Exchange>);

impl ExchangeGuard {
    pub(crate) fn exchange(&self) -> &Rc<Exchange> {
        &self.0
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        let exchange = &self.0;
        exchange.release();
        exchange.worker.delist(exchange.slot.get());
        exchange.connection.end_request();
        crate::observe::finish(exchange);
    }
}
