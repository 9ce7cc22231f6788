//! The deadline of one connection under the worker's sweep, without a timer.

use std::{cell::Cell, future::Future, pin::Pin, rc::Rc, task::Context};

use super::End;
use crate::{alarm::Alarm, config::millis, worker::SWEEP};

/// When a connection is too late, and who is to be told; times are milliseconds of the worker's coarse clock.
pub(super) struct Lifetime {
    now_ms: Rc<Cell<u64>>,
    /// When the present phase is too late; 0: never.
    at_ms: Cell<u64>,
    /// How the connection ends then.
    end: Cell<End>,
    alarm: Alarm<End>,
}

impl Lifetime {
    pub(super) fn new(now_ms: Rc<Cell<u64>>) -> Self {
        Self {
            now_ms,
            at_ms: Cell::new(0),
            end: Cell::new(End::IdleTimeout),
            alarm: Alarm::default(),
        }
    }

    /// Begins a phase of so many milliseconds at most; up to two steps of the clock later, never earlier.
    pub(super) fn arm(&self, span_ms: u64, end: End) {
        self.end.set(end);
        self.extend(span_ms);
    }

    /// Begins the span of the present phase anew.
    pub(super) fn extend(&self, span_ms: u64) {
        let step_ms = millis(SWEEP);
        self.at_ms
            .set(self.now_ms.get().saturating_add(span_ms).saturating_add(step_ms));
    }

    /// What ended it from outside.
    pub(super) fn fired(&self) -> Option<End> {
        self.alarm.fired()
    }

    /// The sweep's look.
    pub(super) fn sweep(&self, now_ms: u64) {
        let at_ms = self.at_ms.get();
        if at_ms != 0 && now_ms >= at_ms {
            self.fire(self.end.get());
        }
    }

    /// Ends the connection at its next poll; the first end stays.
    pub(super) fn fire(&self, end: End) {
        self.alarm.fire(end);
    }

    /// Remembers whom to wake.
    pub(super) fn register(&self, context: &Context<'_>) {
        self.alarm.register(context);
    }

    /// Runs a future until it is done or the deadline fires, as [`Alarm::guard`].
    pub(super) fn guard<F: Future>(&self, future: Pin<&mut F>) -> impl Future<Output = Result<F::Output, End>> {
        self.alarm.guard(future)
    }

    /// Clears a deadline that fired, so that another attempt can run; an end of the whole process stays.
    pub(super) fn retry(&self) {
        if self.alarm.fired() == Some(self.end.get()) && self.alarm.fired() != Some(End::DrainTimeout) {
            self.alarm.clear();
            self.at_ms.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_that_is_too_late_ends_the_future_and_may_be_tried_again() {
        let now_ms = Rc::new(Cell::new(1));
        let lifetime = Lifetime::new(Rc::clone(&now_ms));
        lifetime.arm(1_000, End::ConnectTimeout);
        lifetime.sweep(1_100);
        assert_eq!(lifetime.fired(), None);
        lifetime.sweep(1_101);
        let guarded = lifetime.guard(std::pin::pin!(std::future::pending::<()>())).await;
        assert_eq!(guarded, Err(End::ConnectTimeout));
        lifetime.retry();
        assert_eq!(lifetime.fired(), None);
        lifetime.fire(End::DrainTimeout);
        lifetime.retry();
        assert_eq!(lifetime.fired(), Some(End::DrainTimeout));
    }
}
