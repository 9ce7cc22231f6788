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
    /// From the first signal on the folder is no longer followed. `grace` is how long new connections are accepted
    /// after SIGTERM; on SIGINT it is zero, because somebody waits at the terminal.
    pub(crate) fn serve(mut self, proxy: Arc<ProxyHandle>, control: Running, grace: Duration) -> ExitCode {
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
                    _ = interrupt.recv() => break Duration::ZERO,
                    _ = terminate.recv() => break grace,
                }
            };
            proxy.drain(grace);
            let mut ended = join(proxy, control);
            loop {
                tokio::select! {
                    _ = hangup.recv() => {}
                    _ = interrupt.recv() => break ExitCode::FAILURE,
                    _ = terminate.recv() => break ExitCode::FAILURE,
                    _ = &mut ended => break ExitCode::SUCCESS,
                }
            }
        })
    }
}

/// Waits for the end of the proxy on a thread of its own; the receiver is told.
fn join(proxy: Arc<ProxyHandle>, control: Running) -> oneshot::Receiver<()> {
    let (tell, ended) = oneshot::channel();
    thread::spawn(move || {
        control.stop();
        // The control thread held the only other handle.
        if let Some(proxy) = Arc::into_inner(proxy) {
            proxy.join();
        } else {
            tracing::error!("the proxy is held elsewhere; not waiting for it");
        }
        if tell.send(()).is_err() {
            tracing::trace!("a second signal ended the process meanwhile");
        }
    });
    ended
}
