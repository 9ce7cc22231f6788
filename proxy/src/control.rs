//! The control thread: admin server, housekeeping, the drain, the desk at which the next process asks.

use std::{
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use propylon_kit::{
    admin::{AdminError, AdminServer, Probe, Routes},
    metrics::Registry,
};
use tokio::{runtime::Runtime, sync::mpsc, time::interval};

use crate::{
    drain::drain,
    explain::{self, Explainer},
    overload,
    overview::{Overview, SAMPLE_PAUSE},
    proxy::{StartError, lock},
    sockets::Door,
    tables::Applier,
    takeover::{self, Desk},
    views,
    worker::Shared,
};

/// What the control thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop: accept for so long, then finish what is in flight.
    Drain(Duration),
    /// Answer the next process there.
    Desk(Desk),
    /// Another process has the listening sockets; finish what is in flight.
    TakenOver,
}

/// What the control thread works on.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) applier: Arc<Mutex<Applier>>,
    pub(crate) overview: Arc<Overview>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) explainer: Arc<Explainer>,
    /// Its own end of the channel, for the desk.
    pub(crate) commands: mpsc::Sender<Command>,
}

/// Binds the admin and status addresses and starts the control thread, which ends with the process; gives the admin
/// address. Addresses are served until another process takes over, and not before this one has taken over itself; the
/// socket of `--status-socket` is served to the end where no other process answers there.
///
/// # Errors
/// When an address is in use, or the thread or its runtime cannot be made.
pub(crate) fn spawn(parts: Parts, commands: mpsc::Receiver<Command>) -> Result<Option<SocketAddr>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let config = &parts.shared.config;
    let probes = |routes: Routes| routes.probes(&parts.probe).metrics(&parts.registry);
    let views = views::routes(&parts.applier, &parts.overview);
    let views = explain::routes(views, &parts.explainer);
    let of = (&runtime, &*parts.shared);
    let admin = bind(of, config.admin, "admin", probes(views))?;
    let status = config.status.filter(|status| Some(*status) != config.admin);
    let status = bind(of, status, "status", probes(Routes::new()))?;
    let mut socket = config.status_socket.clone();
    let bound_socket = match &socket {
        // The process before answers there until this one is ready.
        Some(path) if parts.shared.inherits && UnixStream::connect(path).is_ok() => None,
        Some(path) => Some(bind_socket(&runtime, path, probes(Routes::new()))?),
        None => None,
    };
    if bound_socket.is_some() {
        socket = None;
    }
    let later = probes(Routes::new());
    let address = admin
        .as_ref()
        .and_then(|admin| admin.local_addresses().first().copied());
    let run = async move {
        for server in [admin, status].into_iter().flatten() {
            tokio::task::spawn_local(serve_admin(server, Arc::clone(&parts.shared)));
        }
        if let Some(server) = bound_socket {
            tokio::task::spawn_local(server.serve(std::future::pending()));
        }
        if let Some(path) = socket {
            tokio::task::spawn_local(serve_socket_later(path, later, Arc::clone(&parts.shared)));
        }
        tokio::task::spawn_local(overload::watch(Arc::clone(&parts.shared)));
        serve(parts, commands).await;
    };
    let thread = move || tokio::task::LocalSet::new().block_on(&runtime, run);
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(thread)
        .map_err(StartError::Thread)?;
    Ok(address)
}

fn bind(
    (runtime, shared): (&Runtime, &Shared),
    address: Option<SocketAddr>,
    flag: &'static str,
    routes: Routes,
) -> Result<Option<AdminServer>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| StartError::Admin {
        flag,
        address,
        source: AdminError::Bind { address, source },
    };
    let listeners = shared.sockets.lasting(address).map_err(failed)?;
    let _context = runtime.enter();
    AdminServer::of_listeners(listeners, routes).map(Some).map_err(failed)
}

fn bind_socket(runtime: &Runtime, path: &Path, routes: Routes) -> Result<AdminServer, StartError> {
    let _context = runtime.enter();
    let bound = AdminServer::of_listeners(Vec::new(), routes).map_err(StartError::Thread)?;
    let mut server = bound;
    let added = server.add_socket(path);
    added.map(|()| server).map_err(|source| StartError::StatusSocket {
        path: path.to_owned(),
        source,
    })
}

/// Serves probes and metrics from when no process before does, until another process does.
async fn serve_admin(server: AdminServer, shared: Arc<Shared>) {
    if shared.inherits {
        shared.until_door(|door| door != Door::Waiting).await;
    }
    server.serve(shared.until_handed_over()).await;
}

/// The same on a Unix socket that the process before answers until then.
async fn serve_socket_later(path: PathBuf, routes: Routes, shared: Arc<Shared>) {
    shared.until_door(|door| door != Door::Waiting).await;
    let bound = AdminServer::of_listeners(Vec::new(), routes).map_err(|error| error.to_string());
    let bound = bound.and_then(|mut server| match server.replace_socket(&path) {
        Ok(()) => Ok(server),
        Err(error) => Err(error.to_string()),
    });
    match bound {
        // A pod that has handed over is alive, and not ready; the next one answers at a socket of its own.
        Ok(server) => server.serve(std::future::pending()).await,
        Err(error) => tracing::error!(%error, "no probes at --status-socket"),
    }
}

async fn serve(parts: Parts, mut commands: mpsc::Receiver<Command>) {
    let mut ticks = interval(HOUSEKEEPING);
    let mut samples = interval(SAMPLE_PAUSE);
    let grace = parts.shared.config.drain_accept_grace;
    let mut draining = false;
    loop {
        tokio::select! {
            // All are cancel safe: a tick or a command is taken when its branch is chosen.
            _ = ticks.tick() => {
                let mut applier = lock(&parts.applier);
                applier.bury();
                applier.retire_series();
                applier.retry_l4();
            }
            _ = samples.tick() => parts.overview.sample(),
            Some(command) = commands.recv() => match command {
                Command::Desk(desk) => {
                    let parts = takeover::Parts { shared: Arc::clone(&parts.shared), commands: parts.commands.clone() };
                    tokio::task::spawn_local(desk.serve(parts));
                }
                Command::Drain(_) | Command::TakenOver if draining => tracing::debug!("draining already"),
                Command::Drain(grace) => {
                    draining = true;
                    begin_drain(&parts, grace);
                }
                Command::TakenOver => {
                    draining = true;
                    begin_drain(&parts, grace);
                }
            }
        }
    }
}

fn begin_drain(parts: &Parts, grace: Duration) {
    parts.probe.set_draining();
    let shared = Arc::clone(&parts.shared);
    tokio::task::spawn_local(async move { drain(&shared, grace).await });
}

/// How often old tables and series are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
