//! Named, tracked tasks of the control runtime.

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};

use crate::metrics::Registry;

/// The tasks of a process. Dropping it aborts them.
///
/// A panic ends one task; it is logged with the task's name and counted in `propylon_panics_total`.
#[derive(Debug)]
pub struct Tasks {
    registry: Arc<Registry>,
    stop: watch::Sender<bool>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Makes an empty set; panics are counted in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            stop: watch::Sender::new(false),
            running: Mutex::default(),
        }
    }

    /// Starts a task on the runtime of the caller.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let registry = Arc::clone(&self.registry);
        let mut running = self.lock();
        // Forget those that ended, so that a long life holds no list of them.
        while let Some(ended) = running.set.try_join_next_with_id() {
            running.forget(ended.map(|(id, ())| id));
        }
        let id = running.set.spawn(guarded(name, registry, Box::pin(future))).id();
        running.names.insert(id, name);
    }

    /// What tells a task that it should end.
    pub fn stop_signal(&self) -> StopSignal {
        StopSignal(self.stop.subscribe())
    }

    /// Tells every task to end, waits for them, and aborts those that are left at the deadline. Returns the names of
    /// the aborted.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, the tasks are told to end but not aborted; it can be called again.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<&'static str> {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + deadline;
        loop {
            let ended = tokio::time::timeout_at(
                deadline,
                poll_fn(|context| {
                    let mut running = self.lock();
                    running.set.poll_join_next_with_id(context)
                }),
            );
            match ended.await {
                Ok(Some(ended)) => self.lock().forget(ended.map(|(id, ())| id)),
                Ok(None) => return Vec::new(),
                Err(_elapsed) => break,
            }
        }
        let mut running = self.lock();
        running.set.abort_all();
        running.names.drain().map(|(_, name)| name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn forget(&mut self, ended: Result<Id, tokio::task::JoinError>) {
        let id = ended.unwrap_or_else(|error| error.id());
        self.names.remove(&id);
    }
}

/// Tells a task that it should end.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl StopSignal {
    /// Waits until the tasks are told to end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stopped(&mut self) {
        // An error means that the sender is gone: the process ends.
        drop(self.0.wait_for(|is_stopping| *is_stopping).await);
    }
}

/// Runs a future to its end, or to its panic.
async fn guarded<F: Future<Output = ()>>(name: &'static str, registry: Arc<Registry>, mut future: Pin<Box<F>>) {
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_payload) => {
                // The panic hook has printed the message and the place.
                registry.control().record_panic();
                tracing::error!(task = name, "a task panicked and is gone");
                Poll::Ready(())
            }
        },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::RegistryConfig;

    fn tasks() -> Tasks {
        Tasks::new(Arc::new(Registry::new(RegistryConfig::default())))
    }

    #[tokio::test]
    async fn tasks_end_when_they_are_told_to() {
        let tasks = tasks();
        for _ in 0..3 {
            let mut stop = tasks.stop_signal();
            tasks.spawn("waits", async move { stop.stopped().await });
        }
        assert_eq!(tasks.shutdown(Duration::from_secs(20)).await, Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_do_not_end_are_aborted_and_named() {
        let tasks = tasks();
        tasks.spawn("stubborn", std::future::pending());
        tasks.spawn("quick", async {});
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, ["stubborn"]);
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, Vec::<&str>::new());
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_and_is_counted() {
        let tasks = tasks();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks.spawn("lives", async move { sender.send(()).expect("somebody waits") });
        receiver.await.expect("the other task lives");
        assert!(tasks.shutdown(Duration::from_secs(20)).await.is_empty());
        assert!(tasks.registry.render().contains("\npropylon_panics_total 1\n"));
    }
}
