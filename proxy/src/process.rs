//! What `propylon run` and `propylon-proxy` share as processes: signals, and the limit of open files.
//!
//! SIGTERM and SIGINT begin the drain, a second one ends the process at once, SIGHUP reopens the access log.

use std::{io, process::ExitCode, sync::Arc, thread, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::ProxyHandle;

/// The signals of this process, caught from here on.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

/// How long the end may be put off.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    /// Accepting after SIGTERM.
    pub grace: Duration,
    /// Waiting for a signal after another process has taken over and nothing is left to do.
    pub linger: Duration,
}

/// The signal that asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGINT: somebody waits at the terminal.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Signals {
    /// Begins to catch. To be called before the first thread, so that a signal during the start is not lost.
    ///
    /// # Errors
    /// When the system refuses it. Not retryable.
    pub fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let caught = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        drop(context);
        let [hangup, interrupt, terminate] = caught;
        Ok(Self {
            runtime,
            hangup: hangup?,
            interrupt: interrupt?,
            terminate: terminate?,
        })
    }

    /// Blocks until `event`, unless a signal that asks for the end comes first.
    ///
    /// # Errors
    /// The signal.
    pub fn until<T>(&mut self, proxy: &ProxyHandle, event: impl Future<Output = T>) -> Result<T, Ending> {
        let Self {
            runtime,
            hangup,
            interrupt,
            terminate,
        } = self;
        runtime.block_on(async {
            let mut event = std::pin::pin!(event);
            // Cancel safe: a signal that is not taken here is taken by the next wait; the event is pinned outside.
            loop {
                tokio::select! {
                    _ = hangup.recv() => proxy.reopen_access_log(),
                    _ = interrupt.recv() => return Err(Ending::Interrupted),
                    _ = terminate.recv() => return Err(Ending::Terminated),
                    outcome = &mut event => return Ok(outcome),
                }
            }
        })
    }

    /// Blocks until the proxy has ended, or is to be ended at once.
    ///
    /// The source of its tables is followed to the end, because requests in flight may still need an endpoint; `stop` ends
    /// it. `grace` is how long new connections are accepted after SIGTERM; on SIGINT it is zero. Where another process
    /// takes over, the proxy drains by itself; the first signal then ends the wait of `linger`, no request.
    pub fn serve(mut self, proxy: &Arc<ProxyHandle>, spans: Spans, stop: impl FnOnce() + Send + 'static) -> ExitCode {
        let ending = self.until(proxy, proxy.taken_over()).err();
        self.finish(proxy, ending, spans, stop)
    }

    /// Drains, where a signal asked for it, and blocks until the proxy has ended, or is to be ended at once.
    pub fn finish(
        mut self,
        proxy: &Arc<ProxyHandle>,
        ending: Option<Ending>,
        spans: Spans,
        stop: impl FnOnce() + Send + 'static,
    ) -> ExitCode {
        match ending {
            Some(Ending::Interrupted) => proxy.drain(Duration::ZERO),
            Some(Ending::Terminated) => proxy.drain(spans.grace),
            None => {}
        }
        // Whoever manages the process may send its one signal although it drains already.
        let mut told = ending.is_some();
        let mut ended = join(Arc::clone(proxy), stop);
        loop {
            match self.until(proxy, &mut ended) {
                Ok(_) => break,
                Err(_) if std::mem::replace(&mut told, true) => return ExitCode::FAILURE,
                Err(_) => {}
            }
        }
        if !told {
            let waited = self.until(proxy, async { tokio::time::sleep(spans.linger).await });
            tracing::debug!(?waited, "ending after another process has taken over");
        }
        ExitCode::SUCCESS
    }
}

/// Waits for the end of the proxy on a thread of its own; the receiver is told.
fn join(proxy: Arc<ProxyHandle>, stop: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (tell, ended) = oneshot::channel();
    thread::spawn(move || {
        proxy.join();
        stop();
        if tell.send(()).is_err() {
            tracing::trace!("a second signal ended the process meanwhile");
        }
    });
    ended
}

/// Raises the limit of open files as far as the system allows, and gives it.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(UNLIMITED_FILES),
        Err(_) => limit.current.unwrap_or(UNLIMITED_FILES),
    }
}

/// Taken for the limit where there is none.
pub const UNLIMITED_FILES: u64 = 1 << 20;
