//! What ends a task from outside: the sweep says why, the task wakes and stops.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// One reason that the sweep gives at most once, and the task to wake with it.
pub(crate) struct Alarm<R> {
    fired: Cell<Option<R>>,
    waker: Cell<Option<Waker>>,
}

impl<R: Copy> Alarm<R> {
    /// What happened, if anything did.
    pub(crate) fn fired(&self) -> Option<R> {
        self.fired.get()
    }

    /// Wakes the task with a reason; the first one stays.
    pub(crate) fn fire(&self, reason: R) {
        if self.fired.get().is_none() {
            self.fired.set(Some(reason));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Forgets what happened.
    pub(crate) fn clear(&self) {
        self.fired.set(None);
    }

    /// Remembers whom to wake.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waker.set(Some(waker));
    }

    /// Runs a future until it is done or the alarm fires; drop it then. It is pinned by the caller, so that it is not
    /// moved and takes its place once.
    ///
    /// # Errors
    /// The reason of the alarm.
    pub(crate) async fn guard<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, R> {
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
}

impl<R> Default for Alarm<R> {
    fn default() -> Self {
        Self {
            fired: Cell::new(None),
            waker: Cell::new(None),
        }
    }
}
