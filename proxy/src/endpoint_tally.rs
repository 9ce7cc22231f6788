//! What one worker counts for an endpoint between two sweeps, and how the sweep publishes it.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    endpoint_state::{EndpointState, process_ms},
    reason::Reason,
};

/// How an attempt at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client went away before the endpoint could answer; says nothing about the endpoint.
    Abandoned,
    /// It answered; the time to the first byte in microseconds, where it was taken.
    Answered(Option<u64>),
    /// It answered 5xx.
    AnsweredError(u16),
    /// It did not answer, or not to the end.
    Failed(Reason),
}

/// The counts of one worker, not yet published.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: Cell<u64>,
    failures: Cell<u64>,
    last_failure: Cell<Option<LastFailure>>,
    latency_sum_us: Cell<u64>,
    latency_count: Cell<u64>,
    /// What the shared state has of this worker's present load.
    shown_active: Cell<u32>,
    shown_connections: Cell<u32>,
}

/// The last time that a request failed at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastFailure {
    /// When, in milliseconds of [`process_ms`].
    pub(crate) at_ms: u64,
    pub(crate) what: FailureKind,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No answer, or a broken one.
    Reason(Reason),
    /// A 5xx status.
    Status(u16),
}

/// A [`LastFailure`] that every worker writes and anyone reads; 0: none.
#[derive(Debug, Default)]
pub(crate) struct LastFailureCell(AtomicU64);

impl LastFailureCell {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The failure, if there was one.
    pub(crate) fn load(&self) -> Option<LastFailure> {
        let packed = self.0.load(Relaxed);
        let code = (packed & CODE) as usize;
        let what = match code {
            0 => return None,
            500..=999 => FailureKind::Status(u16::try_from(code).ok()?),
            _ => FailureKind::Reason(*Reason::ALL.get(code - 1)?),
        };
        let at_ms = packed >> CODE_BITS;
        Some(LastFailure { at_ms, what })
    }

    /// Keeps the later of the two.
    fn store(&self, failure: LastFailure) {
        let code = match failure.what {
            FailureKind::Reason(reason) => reason.index() as u64 + 1,
            FailureKind::Status(status) => u64::from(status),
        };
        self.0.fetch_max(failure.at_ms << CODE_BITS | (code & CODE), Relaxed);
    }
}

impl Tally {
    /// Counts an attempt that ended.
    pub(crate) fn count(&self, outcome: Outcome) {
        let failure = match outcome {
            Outcome::Abandoned => return,
            Outcome::Answered(latency_us) => {
                if let Some(latency_us) = latency_us {
                    self.latency_sum_us
                        .set(self.latency_sum_us.get().saturating_add(latency_us));
                    self.latency_count.set(self.latency_count.get() + 1);
                }
                None
            }
            Outcome::AnsweredError(status) => Some(FailureKind::Status(status)),
            Outcome::Failed(reason) => Some(FailureKind::Reason(reason)),
        };
        self.requests.set(self.requests.get() + 1);
        if let Some(what) = failure {
            self.failures.set(self.failures.get() + 1);
            // Failures are rare enough for a look at the clock.
            let at_ms = process_ms();
            self.last_failure.set(Some(LastFailure { at_ms, what }));
        }
    }

    /// Adds what was counted since the last time to what all workers see, and says how many requests and connections
    /// this one has now.
    pub(crate) fn publish(&self, state: &EndpointState, active: u32, connections: u32) {
        let before = self.shown_active.replace(active);
        if before != active {
            state.shown_active.fetch_add(active.wrapping_sub(before), Relaxed);
        }
        let before = self.shown_connections.replace(connections);
        if before != connections {
            state
                .shown_connections
                .fetch_add(connections.wrapping_sub(before), Relaxed);
        }
        let requests = self.requests.take();
        if requests == 0 {
            return;
        }
        state.requests_total.fetch_add(requests, Relaxed);
        let failures = self.failures.take();
        if failures != 0 {
            state.failures_total.fetch_add(failures, Relaxed);
        }
        if let Some(failure) = self.last_failure.take() {
            state.last_failure.store(failure);
        }
        let (sum, count) = (self.latency_sum_us.take(), self.latency_count.take());
        if let Some(mean) = sum.checked_div(count) {
            // Two workers that publish at once lose one of two like values.
            let average = match state.latency_us.load(Relaxed) {
                0 => mean,
                before => before - before / 4 + mean / 4,
            };
            state.latency_us.store(average.max(1), Relaxed);
        }
    }
}

/// Bits of a packed failure that say what it was: a status, or the index of a reason and one.
const CODE_BITS: u32 = 10;
const CODE: u64 = (1 << CODE_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_workers_is_shown() {
        let state = EndpointState::new(None);
        let (one, two) = (Tally::default(), Tally::default());
        one.count(Outcome::Answered(Some(1_000)));
        two.count(Outcome::Answered(None));
        two.count(Outcome::AnsweredError(503));
        two.count(Outcome::Abandoned);
        one.publish(&state, 3, 4);
        two.publish(&state, 2, 2);
        assert_eq!(state.requests_total.load(Relaxed), 3);
        assert_eq!(state.failures_total.load(Relaxed), 1);
        assert_eq!(state.latency_us.load(Relaxed), 1_000);
        assert_eq!(
            (state.shown_active.load(Relaxed), state.shown_connections.load(Relaxed)),
            (5, 6)
        );
        assert_eq!(state.last_failure.load().unwrap().what, FailureKind::Status(503));
        one.publish(&state, 0, 1);
        two.publish(&state, 0, 0);
        assert_eq!(
            (state.shown_active.load(Relaxed), state.shown_connections.load(Relaxed)),
            (0, 1)
        );
        assert_eq!(state.requests_total.load(Relaxed), 3, "published once");
    }

    #[test]
    fn every_reason_and_status_can_be_the_last_failure() {
        assert!(Reason::ALL.len() < 500, "reasons and statuses share the code");
        for (at_ms, reason) in (1..).zip(Reason::ALL) {
            let cell = LastFailureCell::new();
            assert_eq!(cell.load(), None);
            let failure = LastFailure {
                at_ms,
                what: FailureKind::Reason(*reason),
            };
            cell.store(failure);
            assert_eq!(cell.load(), Some(failure));
            let earlier = LastFailure {
                at_ms: 0,
                what: FailureKind::Status(599),
            };
            cell.store(earlier);
            assert_eq!(cell.load(), Some(failure), "the later one stays");
        }
    }
}
