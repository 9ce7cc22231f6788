//! What the control side counts: rare events, from any thread.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{cells::HistogramTotals, exposition::Exposition, table::Metric};
use crate::clock::saturating_us;

/// What became of a change of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyResult {
    /// It is served.
    Applied,
    /// It could not be built; the configuration before stays in force.
    Rejected,
}

/// What became of a write of the status of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteResult {
    /// Somebody else wrote the object meanwhile; it is decided anew.
    Conflict,
    /// It failed; it is tried again.
    Failed,
    /// It is written.
    Written,
    /// Another controller owns it; it is left alone.
    Yielded,
}

impl WriteResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::Written => "written",
            Self::Yielded => "yielded",
        }
    }
}

/// The metrics of the control side. Every method may be called from any thread; none is for the request path.
#[derive(Debug, Default)]
pub struct Control {
    snapshot_generation: AtomicU64,
    applied: AtomicU64,
    rejected: AtomicU64,
    panics: AtomicU64,
    compile: Mutex<HistogramTotals>,
    propagation: Mutex<HistogramTotals>,
    status_writes: Mutex<BTreeMap<(&'static str, WriteResult), u64>>,
}

impl Control {
    /// Sets the number of the configuration being served.
    pub fn set_snapshot_generation(&self, generation: u64) {
        self.snapshot_generation.store(generation, Relaxed);
    }

    /// Counts a change by its result.
    pub fn record_apply(&self, result: ApplyResult) {
        match result {
            ApplyResult::Applied => &self.applied,
            ApplyResult::Rejected => &self.rejected,
        }
        .fetch_add(1, Relaxed);
    }

    /// Records how long one change took to compile.
    pub fn record_compile(&self, duration: Duration) {
        self.compile
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record_us(saturating_us(duration));
    }

    /// Records the time from an event to its being served.
    pub fn record_propagation(&self, duration: Duration) {
        self.propagation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record_us(saturating_us(duration));
    }

    /// Counts a write of the status of an object of the kind.
    pub fn record_status_write(&self, kind: &'static str, result: WriteResult) {
        let mut writes = self.status_writes.lock().unwrap_or_else(PoisonError::into_inner);
        *writes.entry((kind, result)).or_default() += 1;
    }

    /// Counts a panic that was caught outside the data-plane threads.
    pub fn record_panic(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    pub(crate) fn render(&self, exposition: &mut Exposition) {
        let generation = i64::try_from(self.snapshot_generation.load(Relaxed)).unwrap_or(i64::MAX);
        exposition.gauge_count(Metric::SnapshotGeneration, &[], generation);
        exposition.counter(Metric::SnapshotApply, &["applied"], self.applied.load(Relaxed));
        exposition.counter(Metric::SnapshotApply, &["rejected"], self.rejected.load(Relaxed));
        let writes = self
            .status_writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for ((kind, result), count) in writes {
            exposition.counter(Metric::StatusWrites, &[kind, result.as_str()], count);
        }
        for (metric, totals) in [
            (Metric::SnapshotCompile, &self.compile),
            (Metric::Propagation, &self.propagation),
        ] {
            let totals = totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
            exposition.histogram(metric, &[], &totals);
        }
    }
}
