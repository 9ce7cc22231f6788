//! The cells of one route on one thread.

use std::{
    ops::Deref,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    cells::{Counter, Gauge, Histogram},
    labels::{MethodLabel, RouteId},
};

/// Status codes that are counted as themselves: 100 to 599; the rest shares one more column.
const CODES: usize = 501;
/// Pairs of method and code that a route finds by a short scan; a route that sees more gets the dense table.
const INLINE_PAIRS: usize = 16;

/// What is known of a request when it ends.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample {
    /// The method.
    pub method: MethodLabel,
    /// The status that the client got.
    pub status: u16,
    /// From the request's head to the end of the response, microseconds.
    pub duration_us: u64,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// The exchange with the backend; none where there was none.
    pub upstream: Option<UpstreamSample>,
}

/// The phases of the exchange with the backend, microseconds each; none: the phase did not take place.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamSample {
    /// TCP connect; none on a reused connection.
    pub connect_us: Option<u64>,
    /// TLS handshake; none on a reused connection and without TLS.
    pub tls_us: Option<u64>,
    /// From the request sent to the head of the response.
    pub ttfb_us: Option<u64>,
    /// From the choice of the endpoint to the end of the response.
    pub total_us: Option<u64>,
}

/// A thread's handle on the cells of a route; cloning it costs a plain increment.
#[derive(Clone, Debug)]
pub struct RouteSeries(Rc<LocalSeries>);

/// Counts the thread's handles apart from the registry's, so that cloning one takes no atomic operation.
#[derive(Debug)]
struct LocalSeries {
    cells: Arc<SeriesCells>,
}

impl RouteSeries {
    pub(crate) fn new(cells: Arc<SeriesCells>) -> Self {
        Self(Rc::new(LocalSeries { cells }))
    }

    /// Counts a request that ended.
    ///
    /// # Cost
    ///
    /// About 120 instructions with an upstream, no locked instruction (`examples/cost.rs`; 160 with the lookup of the route,
    /// its gauge and [`super::WorkerMetrics::overhead_us`]).
    pub fn record(&self, sample: &RequestSample) {
        let cells = &*self.0.cells;
        cells.requests.inc(sample.method, sample.status);
        cells.duration.record_us(sample.duration_us);
        cells.request_bytes.add(sample.request_bytes);
        cells.response_bytes.add(sample.response_bytes);
        if let Some(upstream) = &sample.upstream {
            let phases = [
                upstream.connect_us,
                upstream.tls_us,
                upstream.ttfb_us,
                upstream.total_us,
            ]
            .into_iter()
            .zip(&cells.upstream);
            for (value, histogram) in phases {
                if let Some(value) = value {
                    histogram.record_us(value);
                }
            }
        }
    }

    pub(crate) fn id(&self) -> RouteId {
        self.0.cells.id
    }

    /// The requests of the route that this thread serves now.
    pub fn inflight(&self) -> &Gauge {
        &self.0.cells.inflight
    }
}

/// The cells that the scrape reads; `RouteSeries` is their one writer. Aligned, so that two threads' cells never share
/// a cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct SeriesCells {
    pub(crate) id: RouteId,
    pub(crate) requests: RequestCounts,
    pub(crate) duration: Histogram,
    /// By the order of [`PHASES`].
    pub(crate) upstream: [Histogram; PHASES.len()],
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
    pub(crate) inflight: Gauge,
}

/// The values of the label `phase`.
pub(crate) const PHASES: [&str; 4] = ["connect", "tls", "ttfb", "total"];

impl SeriesCells {
    pub(crate) fn new(id: RouteId) -> Self {
        Self {
            id,
            requests: RequestCounts::default(),
            duration: Histogram::default(),
            upstream: Default::default(),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
            inflight: Gauge::default(),
        }
    }
}

/// Requests by method and status code: a short list in order of first appearance, then a dense table.
#[derive(Debug, Default)]
pub(crate) struct RequestCounts {
    pairs: [(AtomicU32, Counter); INLINE_PAIRS],
    dense: OnceLock<Box<[Counter]>>,
}

impl RequestCounts {
    /// Counts one request; only for the one writing thread.
    fn inc(&self, method: MethodLabel, status: u16) {
        let cell = method.index() * CODES + code_column(status);
        // Zero marks a free pair.
        let key = u32::try_from(cell).unwrap_or(u32::MAX).wrapping_add(1);
        for (pair_key, count) in &self.pairs {
            match pair_key.load(Ordering::Relaxed) {
                present if present == key => return count.inc(),
                0 => {
                    count.inc();
                    // The scrape that sees the key sees the count.
                    return pair_key.store(key, Ordering::Release);
                }
                _ => {}
            }
        }
        let dense = self.dense.get_or_init(|| {
            (0..MethodLabel::ALL.len() * CODES)
                .map(|_| Counter::default())
                .collect()
        });
        if let Some(count) = dense.get(cell) {
            count.inc();
        }
    }

    /// Calls `visit` with the method, the status (0 for one out of range) and the count of each pair that was seen.
    pub(crate) fn visit(&self, mut visit: impl FnMut(MethodLabel, u16, u64)) {
        let mut visit_cell = |cell: usize, count: u64| {
            if let Some(method) = MethodLabel::ALL.get(cell / CODES) {
                visit(*method, code_of_column(cell % CODES), count);
            }
        };
        for (pair_key, count) in &self.pairs {
            match pair_key.load(Ordering::Acquire) {
                0 => break,
                key => visit_cell(key as usize - 1, count.get()),
            }
        }
        for (cell, count) in self.dense.get().into_iter().flat_map(Deref::deref).enumerate() {
            let count = count.get();
            if count > 0 {
                visit_cell(cell, count);
            }
        }
    }
}

fn code_column(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status - 100),
        _ => CODES - 1,
    }
}

fn code_of_column(column: usize) -> u16 {
    match u16::try_from(column) {
        Ok(column) if usize::from(column) < CODES - 1 => column + 100,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_agree_with_a_map(events in proptest::collection::vec((0..10_usize, 0..1000_u16), 0..600)) {
            let counts = RequestCounts::default();
            let mut expected = BTreeMap::new();
            for (method, status) in events {
                let method = MethodLabel::ALL[method];
                counts.inc(method, status);
                let status = if (100..=599).contains(&status) { status } else { 0 };
                *expected.entry((method, status)).or_insert(0_u64) += 1;
            }
            let mut seen = BTreeMap::new();
            counts.visit(|method, status, count| *seen.entry((method, status)).or_insert(0) += count);
            prop_assert_eq!(seen, expected);
        }
    }
}
