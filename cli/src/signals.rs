//! Signals: SIGTERM and SIGINT begin the drain, a second one ends the process at once, SIGHUP reopens the access log.

use std::{io, process::ExitCode, sync::Arc, thread, time::Duration};

use propylon_proxy::ProxyHandle;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::{failure::Failure, run::Running};

/// The signals of this process, caught from here on.
pub(crate) struct Signals {
    runtime: Runtime,
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

/// How long the end may be put off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    /// Accepting after SIGTERM.
    pub(crate) grace: Duration,
    /// Waiting for a signal after another process has taken over and nothing is left to do.
    pub(crate) linger: Duration,
}

impl Signals {
    /// Begins to catch.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |source: io::Error| Failure::System {
            attempt: "catch signals",
            source,
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let context = runtime.enter();
        let caught = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        drop(context);
        let [hangup, interrupt, terminate] = caught;
        Ok(Self {
            runtime,
            hangup: hangup.map_err(failed)?,
            interrupt: interrupt.map_err(failed)?,
            terminate: terminate.map_err(failed)?,
        })
    }

    /// Blocks until the proxy has ended, or is to be ended at once.
    ///
    /// The folder is followed to the end: requests in flight may still need an endpoint. `grace` is how long new
    /// connections are accepted after SIGTERM; on SIGINT it is zero, because somebody waits at the terminal. Where another
    /// process takes over, the proxy drains by itself; the first signal then ends the wait of `linger`, no request.
    pub(crate) fn serve(mut self, proxy: &Arc<ProxyHandle>, control: Running, spans: Spans) -> ExitCode {
        let Self {
            runtime,
            hangup,
            interrupt,
            terminate,
        } = &mut self;
        runtime.block_on(async {
            // Cancel safe: a signal that is not taken here is taken by the next wait.
            let grace = loop {
                tokio::select! {
                    _ = hangup.recv() => proxy.reopen_access_log(),
                    _ = interrupt.recv() => break Some(Duration::ZERO),
                    _ = terminate.recv() => break Some(spans.grace),
                    () = proxy.taken_over() => break None,
                }
            };
            // Whoever manages the process may send its one signal although it drains already.
            let mut told = grace.is_some();
            if let Some(grace) = grace {
                proxy.drain(grace);
            }
            let mut ended = join(Arc::clone(proxy), control);
            loop {
                tokio::select! {
                    _ = hangup.recv() => {
                        proxy.reopen_access_log();
                        continue;
                    }
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = &mut ended => break,
                }
                if std::mem::replace(&mut told, true) {
                    return ExitCode::FAILURE;
                }
            }
            if !told {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = tokio::time::sleep(spans.linger) => {}
                }
            }
            ExitCode::SUCCESS
        })
    }
}

/// Waits for the end of the proxy on a thread of its own; the receiver is told.
fn join(proxy: Arc<ProxyHandle>, control: Running) -> oneshot::Receiver<()> {
    let (tell, ended) = oneshot::channel();
    thread::spawn(move || {
        proxy.join();
        control.stop();
        if tell.send(()).is_err() {
            tracing::trace!("a second signal ended the process meanwhile");
        }
    });
    ended
}
