//! What each rule has served: cells per rule and worker, added up by whoever looks.
//!
//! Beside the series of the exposition, which are kept per Ingress and Service: these are per host and path, with buckets
//! fine enough for quantiles, and are shown by `/stats` and the page.

use std::{fmt, sync::OnceLock};

use propylon_kit::metrics::{Counter, Gauge, LatencyCounts, LatencyHistogram, RouteLabels};

use crate::reason::Reason;

/// The cells of one rule; lives as long as a table, or a request in flight, knows the rule.
pub(crate) struct RuleStats {
    /// Labels for metrics and the access log.
    pub(crate) labels: RouteLabels,
    /// By the index of the worker, made by its first request.
    workers: Box<[OnceLock<Box<RuleCells>>]>,
}

/// What one worker counted for a rule; no other thread writes it. Aligned, so that two workers share no cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct RuleCells {
    /// Requests that are being served.
    pub(crate) in_flight: Gauge,
    /// By the first digit of the status, 1 to 5, and the rest at 0.
    classes: [Counter; CLASSES],
    errors: Counter,
    latency: LatencyHistogram,
    /// By [`Reason::index`]; most rules never need them.
    reasons: OnceLock<Box<[Counter]>>,
}

/// The sums of a rule's cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleTotals {
    pub(crate) in_flight: u64,
    pub(crate) classes: [u64; CLASSES],
    /// Requests that ended with 5xx, or were cut short by the proxy or the endpoint.
    pub(crate) errors: u64,
    pub(crate) latency: LatencyCounts,
    /// The proxy's own answers and early ends, those that occurred.
    pub(crate) reasons: Vec<(Reason, u64)>,
}

impl RuleStats {
    /// Cells for so many workers.
    pub(crate) fn new(labels: RouteLabels, workers: usize) -> Self {
        Self {
            labels,
            workers: (0..workers).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The cells of a worker.
    ///
    /// # Cost
    /// One load; the first use on a worker makes its cells (1 KiB).
    pub(crate) fn cells(&self, worker: usize) -> Option<&RuleCells> {
        Some(self.workers.get(worker)?.get_or_init(Box::default))
    }

    /// The sums over the workers.
    pub(crate) fn totals(&self) -> RuleTotals {
        let mut totals = RuleTotals::default();
        let mut in_flight = 0;
        for cells in self.workers.iter().filter_map(OnceLock::get) {
            in_flight += cells.in_flight.get();
            for (total, count) in totals.classes.iter_mut().zip(&cells.classes) {
                *total += count.get();
            }
            totals.errors += cells.errors.get();
            cells.latency.add_to(&mut totals.latency);
            for (reason, count) in Reason::ALL.iter().zip(cells.reasons.get().into_iter().flatten()) {
                add(&mut totals.reasons, *reason, count.get());
            }
        }
        totals.in_flight = u64::try_from(in_flight).unwrap_or(0);
        totals
    }
}

impl fmt::Debug for RuleStats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RuleStats")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl RuleCells {
    /// Counts a request that ended.
    pub(crate) fn record(&self, status: u16, duration_us: u64, reason: Option<Reason>) {
        let class = usize::from(status / 100);
        if let Some(count) = self.classes.get(if class < CLASSES { class } else { 0 }) {
            count.inc();
        }
        if status >= 500 || reason.is_some_and(|reason| reason.status().is_server_error()) {
            self.errors.inc();
        }
        self.latency.record_us(duration_us);
        if let Some(reason) = reason {
            let reasons = self
                .reasons
                .get_or_init(|| Reason::ALL.iter().map(|_| Counter::default()).collect());
            if let Some(count) = reasons.get(reason.index()) {
                count.inc();
            }
        }
    }
}

impl RuleTotals {
    /// Requests that ended.
    pub(crate) fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }
}

fn add(reasons: &mut Vec<(Reason, u64)>, reason: Reason, count: u64) {
    if count == 0 {
        return;
    }
    match reasons.iter_mut().find(|(present, _)| *present == reason) {
        Some((_, total)) => *total += count,
        None => reasons.push((reason, count)),
    }
}

/// Classes of status codes.
pub(crate) const CLASSES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_and_one_too_many_counts_nothing() {
        let stats = RuleStats::new(RouteLabels::new("default", "web", "cart"), 2);
        assert_eq!(stats.totals(), RuleTotals::default());
        for worker in 0..3 {
            if let Some(cells) = stats.cells(worker) {
                cells.in_flight.inc();
                cells.record(200, 1_000, None);
                cells.record(502, 1_000, Some(Reason::ConnectionRefused));
            }
        }
        let totals = stats.totals();
        assert_eq!((totals.requests(), totals.errors, totals.in_flight), (4, 2, 2));
        assert_eq!(totals.classes, [0, 0, 2, 0, 0, 2]);
        assert_eq!(totals.reasons, [(Reason::ConnectionRefused, 2)]);
        assert_eq!(totals.latency.total(), 4);
    }

    #[test]
    fn what_the_client_breaks_off_is_no_error_and_a_response_cut_short_is_one() {
        let stats = RuleStats::new(RouteLabels::new("", "", ""), 1);
        let cells = stats.cells(0).unwrap();
        cells.record(499, 10, Some(Reason::ClientClosed));
        assert_eq!(stats.totals().errors, 0);
        cells.record(200, 10, Some(Reason::ResponseIncomplete));
        assert_eq!(stats.totals().errors, 1);
        cells.record(999, 10, None);
        assert_eq!(stats.totals().classes, [1, 0, 1, 0, 1, 0]);
    }
}
