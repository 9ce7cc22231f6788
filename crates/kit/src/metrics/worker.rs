//! The metrics of one data-plane thread.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    cells::{Counter, Gauge, Histogram},
    labels::{ConnectionState, ListenerId, ProtocolLabel, RouteId, SniMatch, TlsCipher, TlsResult, TlsVersion},
    series::{RouteSeries, SeriesCells},
};

/// How many listeners can be told apart.
pub(crate) const MAX_LISTENERS: usize = 16;

/// The writing side of a thread's metrics. Made on the thread by [`super::Registry::worker`]; it cannot leave it, which
/// is what keeps every cell single-writer.
#[derive(Debug)]
pub struct WorkerMetrics {
    index: usize,
    cells: Arc<WorkerCells>,
    /// By slot.
    routes: RefCell<Vec<Option<RouteSeries>>>,
}

impl WorkerMetrics {
    pub(crate) fn new(index: usize, cells: Arc<WorkerCells>) -> Self {
        Self {
            index,
            cells,
            routes: RefCell::new(Vec::new()),
        }
    }

    /// This thread's cells of a route.
    ///
    /// An id that was retired is counted into cells that nobody reads (a request may outlive its object), never into
    /// those of the slot's next owner.
    ///
    /// # Cost
    ///
    /// About 15 instructions; the first use of a route on a thread makes its cells (1 KiB) and takes a lock that is held
    /// elsewhere only to take a list away.
    pub fn route(&self, id: RouteId) -> RouteSeries {
        if let Some(Some(series)) = self.routes.borrow().get(id.slot as usize)
            && series.id() == id
        {
            return series.clone();
        }
        self.first_use(id)
    }

    /// The number of the thread among those of the registry, from 0: its place where something is kept per thread.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Counts a response or refusal of our own by the index of its reason in [`super::RegistryConfig::reasons`]; an
    /// index beyond it is not counted.
    pub fn reason(&self, index: usize) {
        if let Some(count) = self.cells.reasons.get(index) {
            count.inc();
        }
    }

    /// Counts a further attempt by the index of its reason in [`super::RegistryConfig::retry_reasons`]; an index beyond
    /// it is not counted.
    pub fn retry(&self, index: usize) {
        if let Some(count) = self.cells.retries.get(index) {
            count.inc();
        }
    }

    /// Records the time that the proxy itself added to a forwarded request, microseconds.
    pub fn overhead_us(&self, value_us: u64) {
        self.cells.overhead.record_us(value_us);
    }

    /// Counts a TLS handshake that ended.
    pub fn tls_handshake(&self, version: TlsVersion, cipher: TlsCipher, sni_match: SniMatch, result: TlsResult) {
        if let Some(count) = self
            .cells
            .handshakes
            .get(handshake_cell(version, cipher, sni_match, result))
        {
            count.inc();
        }
    }

    /// The connections of a listener in a state, to be counted in and out by this thread.
    pub fn connections(&self, listener: ListenerId, state: ConnectionState, protocol: ProtocolLabel) -> &Gauge {
        let cell = connection_cell(usize::from(listener.0), state, protocol);
        self.cells.connections.get(cell).unwrap_or(&self.cells.no_connections)
    }

    /// Counts a response that the backend cut short.
    pub fn upstream_truncated(&self) {
        self.cells.truncated.inc();
    }

    /// Counts a panic caught on this thread.
    pub fn panic(&self) {
        self.cells.panics.inc();
    }

    #[cold]
    fn first_use(&self, id: RouteId) -> RouteSeries {
        let cells = Arc::new(SeriesCells::new(id));
        let series = RouteSeries::new(Arc::clone(&cells));
        let slot = id.slot as usize;
        let mut routes = self.routes.borrow_mut();
        if routes.len() <= slot {
            routes.resize_with(slot + 1, || None);
        }
        if let Some(place) = routes.get_mut(slot) {
            let is_newer = place
                .as_ref()
                .is_none_or(|present| present.id().generation < id.generation);
            if is_newer {
                *place = Some(series.clone());
                self.cells
                    .added
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(cells);
            }
        }
        series
    }
}

/// The reading side of a thread's metrics.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct WorkerCells {
    /// Series made since the scrape last took them.
    pub(crate) added: Mutex<Vec<Arc<SeriesCells>>>,
    pub(crate) reasons: Box<[Counter]>,
    pub(crate) retries: Box<[Counter]>,
    pub(crate) overhead: Histogram,
    pub(crate) truncated: Counter,
    pub(crate) panics: Counter,
    handshakes: Box<[Counter]>,
    connections: Box<[Gauge]>,
    /// Takes what a [`ListenerId`] of another registry would count; never rendered.
    no_connections: Gauge,
}

impl WorkerCells {
    pub(crate) fn new(reasons: usize, retry_reasons: usize) -> Self {
        let handshakes = TlsVersion::ALL.len() * TlsCipher::ALL.len() * SniMatch::ALL.len() * TlsResult::ALL.len();
        let connections = MAX_LISTENERS * ConnectionState::ALL.len() * ProtocolLabel::ALL.len();
        Self {
            added: Mutex::default(),
            reasons: counters(reasons),
            retries: counters(retry_reasons),
            overhead: Histogram::default(),
            truncated: Counter::default(),
            panics: Counter::default(),
            handshakes: counters(handshakes),
            connections: (0..connections).map(|_| Gauge::default()).collect(),
            no_connections: Gauge::default(),
        }
    }

    pub(crate) fn handshakes(&self, cell: (TlsVersion, TlsCipher, SniMatch, TlsResult)) -> u64 {
        self.handshakes
            .get(handshake_cell(cell.0, cell.1, cell.2, cell.3))
            .map_or(0, Counter::get)
    }

    pub(crate) fn connections(&self, listener: usize, state: ConnectionState, protocol: ProtocolLabel) -> i64 {
        self.connections
            .get(connection_cell(listener, state, protocol))
            .map_or(0, Gauge::get)
    }
}

fn counters(count: usize) -> Box<[Counter]> {
    (0..count).map(|_| Counter::default()).collect()
}

fn handshake_cell(version: TlsVersion, cipher: TlsCipher, sni_match: SniMatch, result: TlsResult) -> usize {
    let cell = version.index() * TlsCipher::ALL.len() + cipher.index();
    (cell * SniMatch::ALL.len() + sni_match.index()) * TlsResult::ALL.len() + result.index()
}

fn connection_cell(listener: usize, state: ConnectionState, protocol: ProtocolLabel) -> usize {
    (listener * ConnectionState::ALL.len() + state.index()) * ProtocolLabel::ALL.len() + protocol.index()
}
