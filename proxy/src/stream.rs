//! Following the controllers: a thread that keeps the stream, applies what comes, and has it written down.
//!
//! What it is: the shell around [`propylon_wire::Client`]. What it is not: it decides nothing of what is live; while no
//! controller is there, what is live stays.

mod connector;
mod saver;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use propylon_kit::metrics::{ApplyResult, Metric};
use propylon_model::Delta;
use propylon_wire::{Apply, Client, ClientConfig, ClientStatus, Mirror, Rejection, ResourceKey, ResourceKind};
use tokio::sync::{oneshot, watch};

use crate::{ProxyHandle, credential::Keeper};
use connector::Connector;
use saver::Saver;

/// What the thread works with.
pub(crate) struct Parts {
    pub(crate) proxy: Arc<ProxyHandle>,
    pub(crate) keeper: Keeper,
    /// What is live already, from a snapshot.
    pub(crate) mirror: Mirror,
    /// Where the last good state is written.
    pub(crate) snapshot: Option<PathBuf>,
}

/// The thread while it runs.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Ends the stream, and writes down what is live; it stays live.
    pub(crate) fn stop(self) {
        if self.stop.send(()).is_err() {
            tracing::debug!("the stream's thread has ended already");
        }
        if self.thread.join().is_err() {
            tracing::error!("the stream's thread ended in a panic");
        }
    }
}

/// Starts to follow; the receiver is told when the first state of a controller is live.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn spawn(parts: Parts) -> io::Result<(Running, oneshot::Receiver<()>)> {
    let (stop, stopped) = oneshot::channel();
    let (tell, first) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let saver = parts
        .snapshot
        .map(|path| Saver::spawn(path, Arc::clone(&parts.proxy)))
        .transpose()?;
    let config = ClientConfig {
        connect_timeout: CONNECT,
        ..ClientConfig::default()
    };
    let mut client = Client::new(parts.mirror, config);
    show(&parts.proxy, client.status());
    let keeper = Arc::new(parts.keeper);
    let mut applying = Applying {
        proxy: parts.proxy,
        saver,
        first: Some(tell),
    };
    let follow = move || {
        runtime.block_on(async {
            let mut connector = Connector::new(Arc::clone(&keeper));
            // Each can be cancelled at any time.
            tokio::select! {
                never = client.run(&mut connector, &mut applying) => match never {},
                () = keeper.renew() => tracing::error!("the renewal of the client certificate ended"),
                _ = stopped => {}
            }
        });
        if let Some(saver) = applying.saver {
            saver.stop();
        }
    };
    let thread = thread::Builder::new().name("stream".to_owned()).spawn(follow)?;
    Ok((Running { stop, thread }, first))
}

/// Makes the state of the stream a metric.
fn show(proxy: &ProxyHandle, status: watch::Receiver<ClientStatus>) {
    proxy.registry().add_source(move |exposition| {
        let is_connected = status.borrow().is_connected;
        exposition.gauge(Metric::StreamConnected, &[], if is_connected { 1.0 } else { 0.0 });
    });
}

struct Applying {
    proxy: Arc<ProxyHandle>,
    saver: Option<Saver>,
    first: Option<oneshot::Sender<()>>,
}

impl Apply for Applying {
    fn apply(&mut self, delta: &Delta) -> Vec<Rejection> {
        // A panic here is a mistake of ours; what is live must survive it.
        if catch_unwind(AssertUnwindSafe(|| self.proxy.apply(delta))).is_ok() {
            return Vec::new();
        }
        tracing::error!("a change ended in a panic; what was live before stays live");
        let control = self.proxy.registry().control();
        control.record_panic();
        control.record_apply(ApplyResult::Rejected);
        let message = "the proxy's tables could not be built with it (a panic; see its log)";
        let rejected = keys(delta).into_iter().map(|key| Rejection {
            key,
            message: message.to_owned(),
        });
        rejected.collect()
    }

    fn committed(&mut self, _: &Mirror) {
        if self.first.is_some() {
            // The state of a cluster without any Ingress is a state, though nothing of it is ever applied.
            self.proxy.apply(&Delta::default());
        }
        if let Some(saver) = &self.saver {
            saver.note();
        }
        if let Some(first) = self.first.take()
            && first.send(()).is_err()
        {
            tracing::debug!("the process ends before its first state");
        }
    }
}

/// Everything that a change names.
fn keys(delta: &Delta) -> Vec<ResourceKey> {
    let of = |kind, name: &str| ResourceKey::new(kind, name);
    let certificates = delta
        .certificates
        .keys()
        .map(|name| of(ResourceKind::Certificate, name.as_str()));
    let endpoints = delta
        .endpoints
        .keys()
        .map(|name| of(ResourceKind::Endpoints, name.as_str()));
    let pools = delta.pools.keys().map(|name| of(ResourceKind::Pool, name.as_str()));
    let groups = delta
        .groups
        .keys()
        .map(|name| of(ResourceKind::RouteGroup, name.as_str()));
    let passthrough = delta
        .passthrough
        .keys()
        .map(|name| of(ResourceKind::Passthrough, name.as_str()));
    let l4 = delta.l4.keys().map(|name| of(ResourceKind::L4Service, name.as_str()));
    let http = certificates.chain(endpoints).chain(pools).chain(groups);
    http.chain(passthrough).chain(l4).collect()
}

/// How long a connection may take, with all addresses and, the first time, the purchase of a certificate.
const CONNECT: Duration = Duration::from_secs(45);
