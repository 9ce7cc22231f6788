//! The control thread: admin server, housekeeping, the drain.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use propylon_kit::{
    admin::{AdminServer, Probe, Routes},
    metrics::Registry,
};
use tokio::{runtime::Runtime, sync::mpsc, time::interval};

use crate::{
    drain::drain,
    explain::{self, Explainer},
    overview::{Overview, SAMPLE_PAUSE},
    proxy::{StartError, lock},
    tables::Applier,
    views,
    worker::Shared,
};

/// What the control thread works on.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) applier: Arc<Mutex<Applier>>,
    pub(crate) overview: Arc<Overview>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) explainer: Arc<Explainer>,
}

/// Binds the admin and status addresses and starts the control thread, which ends with the process; gives the admin
/// address.
///
/// # Errors
/// When an address is in use, or the thread or its runtime cannot be made.
pub(crate) fn spawn(parts: Parts, commands: mpsc::Receiver<Duration>) -> Result<Option<SocketAddr>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let config = &parts.shared.config;
    let probes = |routes: Routes| routes.probes(&parts.probe).metrics(&parts.registry);
    let views = views::routes(&parts.applier, &parts.overview);
    let views = explain::routes(views, &parts.explainer);
    let admin = bind(&runtime, config.admin, "admin", probes(views))?;
    let status = bind(
        &runtime,
        config.status.filter(|status| Some(*status) != config.admin),
        "status",
        probes(Routes::new()),
    )?;
    let socket = bind_socket(&runtime, config.status_socket.as_deref(), probes(Routes::new()))?;
    let address = admin
        .as_ref()
        .and_then(|admin| admin.local_addresses().first().copied());
    let run = async move {
        for server in [admin, status, socket].into_iter().flatten() {
            // Probes and metrics answer until the process ends.
            tokio::task::spawn_local(server.serve(std::future::pending()));
        }
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
    runtime: &Runtime,
    address: Option<SocketAddr>,
    flag: &'static str,
    routes: Routes,
) -> Result<Option<AdminServer>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let bound = runtime.block_on(AdminServer::bind(&[address], routes));
    bound.map(Some).map_err(|error| StartError::Admin {
        flag,
        address,
        source: error,
    })
}

fn bind_socket(runtime: &Runtime, path: Option<&Path>, routes: Routes) -> Result<Option<AdminServer>, StartError> {
    let Some(path) = path else { return Ok(None) };
    let bound = runtime.block_on(async {
        let mut server = AdminServer::bind(&[], routes).await?;
        server.add_socket(path).map(|()| server)
    });
    bound.map(Some).map_err(|source| StartError::StatusSocket {
        path: path.to_owned(),
        source,
    })
}

async fn serve(parts: Parts, mut commands: mpsc::Receiver<Duration>) {
    let mut ticks = interval(HOUSEKEEPING);
    let mut samples = interval(SAMPLE_PAUSE);
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
            Some(grace) = commands.recv() => {
                parts.probe.set_draining();
                drain(&parts.shared, grace).await;
                return std::future::pending().await;
            }
        }
    }
}

/// How often old tables and series are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
