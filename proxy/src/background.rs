//! The background thread: work that belongs to the configuration but not to any request.
//!
//! It resolves external names and checks the health of endpoints, on a thread of its own: neither a slow DNS server nor
//! a thousand TLS handshakes are noticed by the data plane or by the admin listener.

use std::{future::Future, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_local},
    time::{MissedTickBehavior, interval},
};

use crate::{duties::Duties, health::Checks, problems::Problems, resolve::Names};

/// A task that ends when this is dropped.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task on the present `LocalSet` or `LocalRuntime`.
    pub(crate) fn spawn(work: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the thread; it ends when the side that knows the configuration does.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn spawn(
    duties: watch::Receiver<Arc<Duties>>,
    problems: Arc<Problems>,
    dns_servers: Vec<SocketAddr>,
) -> io::Result<()> {
    let thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(duties, problems, dns_servers)),
            Err(error) => tracing::error!(%error, "cannot make the runtime of the background thread"),
        }
    };
    let thread = thread::Builder::new().name("background".to_owned()).spawn(thread);
    thread.map(drop)
}

async fn run(mut duties: watch::Receiver<Arc<Duties>>, problems: Arc<Problems>, dns_servers: Vec<SocketAddr>) {
    let mut names = Names::new(dns_servers, Arc::clone(&problems));
    let mut checks = Checks::new(problems);
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Both are cancel safe: nothing is lost when the other branch is chosen.
        tokio::select! {
            changed = duties.changed() => {
                if changed.is_err() {
                    return;
                }
                let current = Arc::clone(&duties.borrow_and_update());
                names.follow(&current.names);
                checks.follow(&current.checks);
            }
            _ = ticks.tick(), if !checks.is_empty() => checks.look(),
        }
    }
}

/// How often the lists of endpoints that are checked are looked at.
const LOOK: Duration = Duration::from_millis(250);
