//! Deadlines without timers: each exchange carries the time at which it is too late, and one sweep per thread looks at all.

use std::{cell::Cell, future::Future, pin::Pin, task::Context};

use crate::{alarm::Alarm, reason::Reason};

/// The deadline of one exchange on a worker; times are milliseconds of the worker's coarse clock (steps of 100 ms).
#[derive(Default)]
pub(crate) struct Watch {
    /// When the present phase is too late; 0: never.
    phase_at_ms: Cell<u64>,
    /// Why, when it is.
    phase_reason: Cell<Option<Reason>>,
    /// When the whole exchange is too late; 0: never.
    total_at_ms: Cell<u64>,
    /// What happened.
    alarm: Alarm<Reason>,
}

impl Watch {
    /// Begins a phase that must end before `at_ms`.
    pub(crate) fn arm(&self, at_ms: u64, reason: Reason) {
        self.phase_at_ms.set(at_ms);
        self.phase_reason.set(Some(reason));
    }

    /// Begins a phase without an end.
    pub(crate) fn disarm(&self) {
        self.phase_at_ms.set(0);
    }

    /// Sets the end of the whole exchange.
    pub(crate) fn arm_total(&self, at_ms: u64) {
        self.total_at_ms.set(at_ms);
    }

    /// Whether the whole exchange may last until then.
    pub(crate) fn lasts_until(&self, at_ms: u64) -> bool {
        let total_ms = self.total_at_ms.get();
        total_ms == 0 || at_ms < total_ms
    }

    /// What made it too late, if it is.
    pub(crate) fn fired(&self) -> Option<Reason> {
        self.alarm.fired()
    }

    /// Whether the client is to take what there is.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.phase_reason.get() == Some(Reason::ClientStalled)
    }

    /// Since when the client has not taken what there is, if that is the present phase: the time at which it is too late.
    pub(crate) fn client_stalled(&self, now_ms: u64) -> bool {
        self.waits_for_client() && self.phase_at_ms.get() != 0 && now_ms >= self.phase_at_ms.get()
    }

    /// The sweep's look. A stalled client cannot be told from here (its body is not polled): that is the connection's matter.
    pub(crate) fn sweep(&self, now_ms: u64) {
        if self.alarm.fired().is_some() {
            return;
        }
        let total = self.total_at_ms.get();
        let phase = self.phase_at_ms.get();
        if total != 0 && now_ms >= total {
            self.alarm.fire(Reason::RequestTimeout);
        } else if phase != 0 && now_ms >= phase && self.phase_reason.get() != Some(Reason::ClientStalled) {
            self.alarm
                .fire(self.phase_reason.get().unwrap_or(Reason::InternalError));
        }
    }

    /// Remembers whom to wake.
    pub(crate) fn register(&self, context: &Context<'_>) {
        self.alarm.register(context);
    }

    /// Runs a future until it is done or the deadline fires, as [`Alarm::guard`].
    pub(crate) fn guard<F: Future>(&self, future: Pin<&mut F>) -> impl Future<Output = Result<F::Output, Reason>> {
        self.alarm.guard(future)
    }

    /// Clears a fired phase, so that another attempt can run; the end of the whole exchange stays.
    pub(crate) fn retry(&self) {
        if self.alarm.fired() != Some(Reason::RequestTimeout) {
            self.alarm.clear();
            self.disarm();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_that_is_too_late_ends_the_future() {
        let watch = Watch::default();
        watch.arm(1_000, Reason::ResponseTimeout);
        watch.sweep(999);
        assert_eq!(watch.fired(), None);
        watch.sweep(1_000);
        assert_eq!(
            watch.guard(std::pin::pin!(std::future::pending::<()>())).await,
            Err(Reason::ResponseTimeout)
        );
    }

    #[test]
    fn the_whole_exchange_outlives_a_retry() {
        let watch = Watch::default();
        assert!(watch.lasts_until(u64::MAX));
        watch.arm_total(500);
        assert!(watch.lasts_until(499) && !watch.lasts_until(500));
        watch.sweep(600);
        watch.retry();
        assert_eq!(watch.fired(), Some(Reason::RequestTimeout));
    }

    #[test]
    fn a_stalled_client_is_told_but_not_fired() {
        let watch = Watch::default();
        watch.arm(10, Reason::ClientStalled);
        watch.sweep(20);
        assert_eq!(watch.fired(), None);
        assert!(watch.client_stalled(20));
    }
}
