//! Starting, feeding and stopping a proxy.

mod succession;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use propylon_kit::{
    access_log::{AccessLog, AccessLogConfig, AccessLogError, Destination, Format, LogBuffer},
    admin::{AdminError, Heartbeat, Probe},
    clock,
    metrics::{ApplyResult, Registry, RegistryConfig},
};
use propylon_model::{Delta, Report, Resources};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle as Task, spawn_local},
    time::interval,
};

use crate::{
    admission::PerClient,
    background,
    balance::affinity::StickyKeyError,
    config::{Config, LogFormat, LogTarget, Opening},
    control::{self, Command},
    edge::{Scheme, TrustedProxies},
    explain::Explainer,
    listener::{Bound, accept_loop},
    observe::Listeners,
    overload::{self, Pressure},
    overview::Overview,
    problems::Problems,
    reason::Reason,
    sockets::{Door, Sockets},
    spine::RETRY_REASONS,
    sticky::Sticky,
    tables::{Applied, Applier, L4Listener},
    takeover::{Mark, Predecessor, TakeoverError},
    tls::{ContextError, TlsAcceptor, TlsContext},
    views,
    worker::{SWEEP, Shared, Stage, Worker},
};

/// Why a proxy did not start; not retryable without a change, the message names what to change.
#[derive(Debug, Error)]
pub enum StartError {
    /// The access log cannot be opened.
    #[error("--access-log: {0}")]
    AccessLog(#[source] AccessLogError),
    /// The admin or status address cannot be listened on.
    #[error("--{flag} {address}: {source}; choose another address with --{flag}, or stop the program that uses it")]
    Admin {
        /// The flag that gave the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: AdminError,
    },
    /// The socket of `--status-socket` cannot be made.
    #[error("--status-socket {path}: {source}; choose another path, or stop the program that uses it")]
    StatusSocket {
        /// The path.
        path: PathBuf,
        /// Why.
        source: AdminError,
    },
    /// An address cannot be listened on.
    #[error("--{flag} {address}: {source}; choose another address with --{flag}, or stop the program that uses it")]
    Bind {
        /// The flag that gave the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket of `--takeover` cannot be used, or the process there does not hand over.
    #[error("--takeover {path}: {source}")]
    Takeover {
        /// The path.
        path: PathBuf,
        /// Why.
        source: TakeoverError,
    },
    /// A thread or runtime cannot be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The self-signed certificate cannot be made.
    #[error("cannot make the self-signed certificate: {0}")]
    SelfSigned(#[source] ContextError),
    /// There is no randomness for the key of affinity cookies.
    #[error("cannot make the key of affinity cookies: {0}")]
    StickyKey(#[source] StickyKeyError),
}

/// A running proxy. Dropping it does not stop it; see [`ProxyHandle::drain`] and [`ProxyHandle::join`].
pub struct ProxyHandle {
    applier: Arc<Mutex<Applier>>,
    overview: Arc<Overview>,
    registry: Arc<Registry>,
    probe: Arc<Probe>,
    log: Mutex<Option<AccessLog>>,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    problems: Arc<Problems>,
    addresses: Addresses,
    /// The process that waits for this one to be ready.
    predecessor: Mutex<Option<Predecessor>>,
    /// The file at which the next process asks.
    mark: Mutex<Option<Mark>>,
}

/// The addresses that a proxy listens on, with the ports that were chosen for port 0.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTPS.
    pub https: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
}

/// Starts a proxy with empty tables: it answers 404 until the first [`ProxyHandle::apply`], and is not ready before. Where
/// it takes over from a running process, it accepts nothing before [`ProxyHandle::take_over`].
///
/// # Errors
/// When an address is in use, the log cannot be opened or a thread cannot be made.
pub fn start(config: Config) -> Result<ProxyHandle, StartError> {
    let registry = Arc::new(Registry::new(RegistryConfig {
        reasons: Reason::CODES,
        retry_reasons: RETRY_REASONS,
        max_routes: MAX_SERIES,
    }));
    let now_unix_s = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
    let context = TlsContext::new(now_unix_s).map_err(StartError::SelfSigned)?;
    let mut applier = Applier::new(Arc::clone(&registry), context, config.workers);
    let (sockets, predecessor) = succession::inherit(&config)?;
    let sockets = Arc::new(sockets);
    let (mut addresses, per_worker) = bind_all(&config, &sockets)?;
    applier.start_l4(Arc::clone(&sockets), own_addresses(&config, &addresses));
    let log = open_log(&config)?;
    log.register(&registry);
    let probe = Arc::new(Probe::new(STALE_AFTER));
    let listeners = Listeners {
        http: registry.listener("http"),
        https: registry.listener("https"),
    };
    let inherits = predecessor.is_some();
    let door = if inherits || config.opening == Opening::WhenTold {
        Door::Waiting
    } else {
        Door::Open
    };
    let sticky = Sticky::new(config.sticky_key.as_ref()).map_err(StartError::StickyKey)?;
    let parts = (listeners, sockets, (door, inherits));
    let shared = Arc::new(new_shared(config, &applier, &addresses, (parts, sticky)));
    let mut workers = Vec::new();
    for (index, bound) in per_worker.into_iter().enumerate() {
        workers.push(
            spawn_worker(
                index,
                Arc::clone(&shared),
                Arc::clone(&registry),
                (log.buffer(), probe.thread(format!("worker-{index}"))),
                bound,
            )
            .map_err(StartError::Thread)?,
        );
    }
    let problems = Arc::new(Problems::default());
    let dns_servers = shared.config.dns_servers.clone();
    background::spawn(applier.duties(), Arc::clone(&problems), dns_servers).map_err(StartError::Thread)?;
    let applier = Arc::new(Mutex::new(applier));
    let (sender, commands) = mpsc::channel(4);
    views::register(&applier, &registry);
    overload::register(&shared, &registry);
    let explainer = Explainer::live(Arc::clone(&applier), &shared, &addresses);
    let overview = Arc::new(Overview::new(&applier));
    let parts = control::Parts {
        shared: Arc::clone(&shared),
        explainer: Arc::new(explainer),
        applier: Arc::clone(&applier),
        overview: Arc::clone(&overview),
        registry: Arc::clone(&registry),
        probe: Arc::clone(&probe),
        commands: sender.clone(),
    };
    addresses.admin = control::spawn(parts, commands)?;
    if door == Door::Open {
        probe.set_listeners_bound();
    }
    Ok(ProxyHandle {
        applier,
        overview,
        registry,
        probe,
        log: Mutex::new(Some(log)),
        shared,
        commands: sender,
        workers: Mutex::new(workers),
        problems,
        addresses,
        predecessor: Mutex::new(predecessor),
        mark: Mutex::default(),
    })
}

impl ProxyHandle {
    /// Applies a change; live on every worker when this returns, for requests that begin later.
    ///
    /// # Cost
    /// Proportional to the change.
    pub fn apply(&self, delta: &Delta) -> Applied {
        let began = clock::now();
        self.shared.sticky.check(delta);
        let applied = self.overview.apply(delta);
        let control = self.registry.control();
        control.record_compile(began.elapsed());
        control.record_apply(ApplyResult::Applied);
        control.set_snapshot_generation(applied.generation);
        self.probe.set_tables_applied();
        self.probe.set_started();
        applied
    }

    /// Says that the process has started, before it has tables: `/startupz` holds from now on.
    pub fn set_started(&self) {
        self.probe.set_started();
    }

    /// The listeners of Services, which come and go.
    pub fn l4_listeners(&self) -> Vec<L4Listener> {
        lock(&self.applier).l4_listeners()
    }

    /// Shows what is wrong with the objects on the page of the admin listener, until the next call.
    pub fn set_problems(&self, problems: Vec<Report>) {
        self.overview.set_problems(problems);
    }

    /// A copy of what is live.
    pub fn resources(&self) -> Resources {
        lock(&self.applier).resources().clone()
    }

    /// What goes wrong at run time, as reports on the objects: external names that do not resolve, endpoints of which
    /// none is healthy.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports = self.problems.reports();
        reports.extend_from_slice(lock(&self.applier).l4_problems());
        reports
    }

    /// A number that grows whenever [`ProxyHandle::reports`] changes.
    pub fn reports_generation(&self) -> u64 {
        self.problems.generation() + lock(&self.applier).l4_generation()
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The metrics, for what the control side counts itself.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Begins to stop: readiness fails at once, new connections are served for `accept_grace`, requests in flight finish
    /// within `--drain-timeout`. A second call changes nothing.
    pub fn drain(&self, accept_grace: Duration) {
        if self.commands.try_send(Command::Drain(accept_grace)).is_err() {
            tracing::debug!("already draining");
        }
    }

    /// Opens the access log anew, after it was renamed.
    pub fn reopen_access_log(&self) {
        if let Some(log) = &*self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            log.reopen();
        }
    }

    /// Waits until every worker has ended, and writes what the log still holds. Changes can be applied meanwhile.
    pub fn join(&self) {
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(log) = log
            && let Err(error) = log.shutdown(Duration::from_secs(5))
        {
            tracing::warn!(%error, "access log");
        }
        if let Some(mark) = self.mark.lock().unwrap_or_else(PoisonError::into_inner).take() {
            mark.remove();
        }
    }
}

/// What is listened on, and whether it is open and was another process's.
type Entrances = (Listeners, Arc<Sockets>, (Door, bool));

fn new_shared(
    config: Config,
    applier: &Applier,
    addresses: &Addresses,
    ((listeners, sockets, (door, inherits)), sticky): (Entrances, Sticky),
) -> Shared {
    let live = applier.live();
    let https_port = config
        .https_public_port
        .or_else(|| addresses.https.first().map(SocketAddr::port))
        .unwrap_or(443);
    Shared {
        tls: TlsAcceptor::new(Arc::clone(&live.certificates)),
        live,
        listeners,
        trusted: TrustedProxies::new(config.trusted_proxies.iter().copied()),
        stage: AtomicU8::new(Stage::Running as u8),
        door: watch::Sender::new(door),
        inherits,
        sockets,
        pressure: Pressure::default(),
        handed_over: watch::Sender::new(false),
        workers_listening: watch::Sender::new(0),
        sticky,
        connections: AtomicUsize::new(0),
        per_client: config.limits.max_connections_per_client.map(PerClient::new),
        https_public_port: AtomicU16::new(https_port),
        config,
    }
}

/// Where the process itself listens, with the flag that each address is from.
fn own_addresses(config: &Config, addresses: &Addresses) -> Vec<(&'static str, SocketAddr)> {
    let of = |flag, list: &[SocketAddr]| list.iter().map(|address| (flag, *address)).collect::<Vec<_>>();
    let mut own = of("http", &addresses.http);
    own.extend(of("https", &addresses.https));
    own.extend(config.admin.map(|address| ("admin", address)));
    own.extend(config.status.map(|address| ("status", address)));
    own
}

fn bind_all(config: &Config, sockets: &Sockets) -> Result<(Addresses, Vec<Vec<Bound>>), StartError> {
    let mut addresses = Addresses::default();
    let mut per_worker: Vec<Vec<Bound>> = (0..config.workers).map(|_| Vec::new()).collect();
    for (flag, scheme, list) in [
        ("http", Scheme::Http, &config.http),
        ("https", Scheme::Https, &config.https),
    ] {
        for address in list {
            let bind_error = |source| StartError::Bind {
                flag,
                address: *address,
                source,
            };
            let bound = sockets.tcp(*address, config.workers).map_err(bind_error)?;
            let local = bound
                .first()
                .and_then(|socket| socket.local_addr().ok())
                .unwrap_or(*address);
            match scheme {
                Scheme::Http => addresses.http.push(local),
                Scheme::Https => addresses.https.push(local),
            }
            deal(
                bound.into_iter().map(|socket| Bound { socket, scheme }),
                &mut per_worker,
            );
        }
    }
    Ok((addresses, per_worker))
}

/// Gives each worker a socket in turn, until there are none left.
fn deal(bound: impl Iterator<Item = Bound>, per_worker: &mut [Vec<Bound>]) {
    let workers = per_worker.len().max(1);
    for (index, bound) in bound.enumerate() {
        if let Some(worker) = per_worker.get_mut(index % workers) {
            worker.push(bound);
        }
    }
}

fn open_log(config: &Config) -> Result<AccessLog, StartError> {
    let destination = match &config.access_log {
        LogTarget::File(path) => Destination::File(path.clone()),
        LogTarget::Off => Destination::Off,
        LogTarget::Stdout => Destination::Stdout,
    };
    let format = match config.access_log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Upstreaminfo => Format::Upstreaminfo,
    };
    AccessLog::start(&AccessLogConfig::new(destination, format)).map_err(StartError::AccessLog)
}

fn spawn_worker(
    index: usize,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    (log, heartbeat): (LogBuffer, Heartbeat),
    bound: Vec<Bound>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run_worker(
                Rc::new(Worker::new(index, shared, registry.worker(), log)),
                heartbeat,
                bound,
            )),
            Err(error) => tracing::error!(%error, "cannot make the runtime of a worker"),
        }
    })
}

async fn run_worker(worker: Rc<Worker>, heartbeat: Heartbeat, bound: Vec<Bound>) {
    let listeners = bound.len();
    let accepting: Vec<Task<()>> = bound.into_iter().filter_map(|bound| listen(&worker, bound)).collect();
    drop(spawn_local(crate::l4::follow(Rc::clone(&worker))));
    if accepting.len() == listeners {
        worker.shared.workers_listening.send_modify(|count| *count += 1);
    }
    let mut ticks = interval(SWEEP);
    let (mut closing, mut aborting) = (0_u32, 0_u32);
    loop {
        ticks.tick().await;
        worker.sweep();
        heartbeat.beat();
        let stage = worker.shared.stage();
        let is_closed = worker.shared.is_door_closed() && accepting.iter().all(Task::is_finished);
        closing += u32::from(is_closed && stage >= Stage::Closing);
        aborting += u32::from(stage == Stage::Aborting);
        let silent = worker.shared.connections.load(Ordering::Relaxed);
        // What has not got as far as a request by then is not waited for.
        let is_done = worker.is_empty() && (silent == 0 || closing > HANDSHAKE_SWEEPS);
        if (is_closed && is_done) || aborting > ABORT_SWEEPS {
            worker.sweep();
            return;
        }
    }
}

fn listen(worker: &Rc<Worker>, bound: Bound) -> Option<Task<()>> {
    match TcpListener::from_std(bound.socket) {
        Ok(listener) => Some(spawn_local(accept_loop(Rc::clone(worker), listener, bound.scheme))),
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            None
        }
    }
}

/// Locks the control side; a panic while building a table keeps the old one, so the lock is never given up.
pub(crate) fn lock(applier: &Mutex<Applier>) -> MutexGuard<'_, Applier> {
    applier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most route series in metrics; further routes are counted under `__other__`.
const MAX_SERIES: usize = 10_000;
/// Without a sign of life for this long, a worker makes the process not alive.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Sweeps after the listeners closed in which handshakes and first bytes are still waited for.
const HANDSHAKE_SWEEPS: u32 = 15;
/// Sweeps that connections get to end by themselves after the drain deadline.
const ABORT_SWEEPS: u32 = 3;
