//! Deadlines without timers: each exchange carries the time at which it is too late, and one sweep per thread looks at all.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::reason::Reason;

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
    fired: Cell<Option<Reason>>,
    waker: Cell<Option<Waker>>,
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
        self.fired.get()
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
        if self.fired.get().is_some() {
            return;
        }
        let total = self.total_at_ms.get();
        let phase = self.phase_at_ms.get();
        if total != 0 && now_ms >= total {
            self.fire(Reason::RequestTimeout);
        } else if phase != 0 && now_ms >= phase && self.phase_reason.get() != Some(Reason::ClientStalled) {
            self.fire(self.phase_reason.get().unwrap_or(Reason::InternalError));
        }
    }

    /// Remembers whom to wake.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waker.set(Some(waker));
    }

    /// Runs a future until it is done or the deadline fires; drop it then. It is pinned by the caller, so that it is
    /// not moved and takes its place once.
    ///
    /// # Errors
    /// The reason of the deadline.
    pub(crate) async fn guard<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, Reason> {
        poll_fn(|context| {
            if let Some(reason) = self.fired.get() {
                return Poll::Ready(Err(reason));
            }
            match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => {
                    self.register(context);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Clears a fired phase, so that another attempt can run; the end of the whole exchange stays.
    pub(crate) fn retry(&self) {
        if self.fired.get() != Some(Reason::RequestTimeout) {
            self.fired.set(None);
            self.disarm();
        }
    }

    fn fire(&self, reason: Reason) {
        self.fired.set(Some(reason));
        if let Some(waker) = self.waker.take() {
            waker.wake();
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
