//! One data-plane thread: its listeners, its connections, its view of the pools, and the sweep that ends what is too late.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use propylon_kit::{access_log::LogBuffer, clock, metrics::WorkerMetrics};
use slab::Slab;
use tokio::sync::watch;

use crate::{
    config::Config,
    connection_state::{ConnectionState, Kill, Phase},
    edge::TrustedProxies,
    endpoint_state::process_ms,
    exchange::Exchange,
    http_server::Builders,
    l4::LocalL4,
    observe::Listeners,
    overload::Pressure,
    pool::{Group, LocalPool, PoolHandle, is_retired},
    sockets::{Door, Sockets},
    sticky::Sticky,
    tables::{Live, Tables},
    tls::TlsAcceptor,
};

/// What all workers share; read-only but for the atomics.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) live: Arc<Live>,
    pub(crate) tls: TlsAcceptor,
    pub(crate) trusted: TrustedProxies,
    pub(crate) listeners: Listeners,
    pub(crate) stage: AtomicU8,
    /// Whether listeners take new work.
    pub(crate) door: watch::Sender<Door>,
    /// Whether the sockets were another process's, which serves until this one opens the door.
    pub(crate) inherits: bool,
    pub(crate) sockets: Arc<Sockets>,
    /// What there is too little of.
    pub(crate) pressure: Pressure,
    /// Whether another process has the listening sockets now.
    pub(crate) handed_over: watch::Sender<bool>,
    /// Workers whose listeners are registered.
    pub(crate) workers_listening: watch::Sender<usize>,
    /// The key of affinity cookies.
    pub(crate) sticky: Sticky,
    pub(crate) connections: AtomicUsize,
    pub(crate) per_client: Option<crate::admission::PerClient>,
    /// Port in redirects to HTTPS.
    pub(crate) https_public_port: AtomicU16,
}

/// How far the drain has come; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Serving.
    Running = 0,
    /// Still accepting; responses ask clients to go elsewhere.
    Announced = 1,
    /// Accepting no more; finishing what is in flight.
    Closing = 2,
    /// Ending what is left.
    Aborting = 3,
}

impl Shared {
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Announced,
            2 => Stage::Closing,
            _ => Stage::Aborting,
        }
    }

    /// Whether listeners take new work.
    pub(crate) fn is_door_open(&self) -> bool {
        *self.door.borrow() == Door::Open
    }

    /// Whether another process has taken over.
    pub(crate) fn is_handed_over(&self) -> bool {
        *self.handed_over.borrow()
    }

    /// Waits until another process has taken over.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is held.
    pub(crate) async fn until_handed_over(&self) {
        if self.handed_over.subscribe().wait_for(|done| *done).await.is_err() {
            tracing::debug!("nobody can take over any more");
        }
    }

    /// Whether listeners are to end.
    pub(crate) fn is_door_closed(&self) -> bool {
        *self.door.borrow() == Door::Closed
    }

    /// Waits until the door is as wanted.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is held.
    pub(crate) async fn until_door(&self, wanted: impl Fn(Door) -> bool) {
        if self.door.subscribe().wait_for(|door| wanted(*door)).await.is_err() {
            tracing::debug!("nobody moves the door any more");
        }
    }
}

/// Tables that stay as they are for as long as a request of this worker looks at them.
pub(crate) struct Pinned(Arc<Tables>);

impl std::ops::Deref for Pinned {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

/// One data-plane thread.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    /// Milliseconds since the worker began, in steps of [`SWEEP`].
    pub(crate) now_ms: Rc<Cell<u64>>,
    pub(crate) builders: Builders,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) log: LogBuffer,
    pub(crate) l4: LocalL4,
    tables: RefCell<Cache<Arc<ArcSwap<Tables>>, Arc<Tables>>>,
    pinned: RefCell<Rc<Pinned>>,
    pools: RefCell<HashMap<u32, Rc<LocalPool>, foldhash::fast::RandomState>>,
    /// Endpoints with their connections, by how they are spoken to.
    groups: RefCell<HashMap<usize, Rc<Group>, foldhash::fast::RandomState>>,
    exchanges: RefCell<Slab<Rc<Exchange>>>,
    connections: RefCell<Slab<Rc<ConnectionState>>>,
    random: RefCell<fastrand::Rng>,
    started: clock::Monotonic,
    /// Wall clock at the worker's start, by the last sweep.
    unix_base_ms: Cell<u64>,
    stage_seen: Cell<Stage>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, metrics: WorkerMetrics, log: LogBuffer) -> Self {
        let mut tables = Cache::new(Arc::clone(&shared.live.tables));
        let pinned = Rc::new(Pinned(Arc::clone(tables.load())));
        Self {
            builders: Builders::new(&shared.config),
            shared,
            now_ms: Rc::new(Cell::new(1)),
            metrics,
            log,
            l4: LocalL4::new(index),
            unix_base_ms: Cell::new(clock::unix_now_ms()),
            tables: RefCell::new(tables),
            pinned: RefCell::new(pinned),
            pools: RefCell::default(),
            groups: RefCell::default(),
            exchanges: RefCell::default(),
            connections: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            started: clock::now(),
            stage_seen: Cell::new(Stage::Running),
        }
    }

    /// The present tables, pinned for as long as the handle lives.
    pub(crate) fn tables(&self) -> Rc<Pinned> {
        let mut cache = self.tables.borrow_mut();
        let current = cache.load();
        let mut pinned = self.pinned.borrow_mut();
        if !Arc::ptr_eq(current, &pinned.0) {
            *pinned = Rc::new(Pinned(Arc::clone(current)));
        }
        Rc::clone(&pinned)
    }

    /// This worker's view of a pool.
    pub(crate) fn local_pool(&self, handle: &Arc<PoolHandle>) -> Rc<LocalPool> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.entry(handle.id).or_insert_with(|| self.new_pool(handle));
        Rc::clone(pool)
    }

    #[cold]
    fn new_pool(&self, handle: &Arc<PoolHandle>) -> Rc<LocalPool> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.entry(Group::key(handle)).or_insert_with(|| {
            let turn = usize::try_from(self.random_u64() >> 32).unwrap_or(0);
            Rc::new(Group::new(handle, &self.now_ms, turn))
        });
        let here = self.shared.config.here.clone();
        Rc::new(LocalPool::new(Arc::clone(handle), Rc::clone(group), here))
    }

    fn sweep_pools(&self) {
        let process_ms = process_ms();
        let mut pools = self.pools.borrow_mut();
        pools.retain(|_, pool| !is_retired(pool));
        pools.values().for_each(|pool| pool.sweep(process_ms));
        self.groups.borrow_mut().retain(|_, group| {
            let is_wanted = group.is_wanted();
            if is_wanted {
                group.sweep(process_ms);
            } else {
                group.leave();
            }
            is_wanted
        });
    }

    /// Microseconds since the worker began.
    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed_us()
    }

    /// The wall clock at an instant, milliseconds.
    pub(crate) fn unix_ms(&self, instant: clock::Monotonic) -> u64 {
        self.unix_base_ms.get() + instant.us_since(self.started) / 1_000
    }

    pub(crate) fn random_u64(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    pub(crate) fn random_u128(&self) -> u128 {
        self.random.borrow_mut().u128(..)
    }

    /// Puts an exchange under the sweep; gives its place.
    pub(crate) fn enlist(&self, exchange: &Rc<Exchange>) -> usize {
        self.exchanges.borrow_mut().insert(Rc::clone(exchange))
    }

    /// Takes an exchange from under the sweep.
    pub(crate) fn delist(&self, slot: usize) {
        let removed = self.exchanges.borrow_mut().try_remove(slot);
        drop(removed);
    }

    /// Puts a connection under the sweep; gives its place.
    pub(crate) fn enlist_connection(&self, state: &Rc<ConnectionState>) -> usize {
        self.connections.borrow_mut().insert(Rc::clone(state))
    }

    /// Takes a connection from under the sweep.
    pub(crate) fn delist_connection(&self, slot: usize) -> Option<Rc<ConnectionState>> {
        self.connections.borrow_mut().try_remove(slot)
    }

    /// Whether no client connection is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty() && self.l4.is_empty()
    }

    /// One look at everything: advances the clock, fires deadlines, takes over changes, hands the log on.
    pub(crate) fn sweep(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        self.now_ms.set(now);
        self.unix_base_ms.set(clock::unix_now_ms().saturating_sub(now));
        self.follow_stage();
        // The wakers run later, as tasks: nothing below changes the lists while they are walked.
        self.exchanges
            .borrow()
            .iter()
            .for_each(|(_, exchange)| exchange.watch.sweep(now));
        self.connections
            .borrow()
            .iter()
            .for_each(|(_, connection)| self.sweep_connection(connection, now));
        self.sweep_stalled(now);
        self.shed_idle(now);
        self.l4.sweep(now);
        drop(self.tables());
        self.sweep_pools();
        self.log.flush();
    }

    fn sweep_connection(&self, connection: &ConnectionState, now: u64) {
        let deadlines = &self.shared.config.deadlines;
        let age = now.saturating_sub(connection.since_ms.get());
        let blocked = connection.blocked_since_ms.get();
        match connection.phase.get() {
            Phase::Head if age >= deadlines.header_ms => connection.end(Kill::HeaderTimeout),
            // HTTP/2 is told first (GOAWAY), so that no request is lost that is on its way.
            Phase::Idle if age >= deadlines.idle_ms && connection.http2.get() && !connection.drain.get() => {
                connection.begin_drain();
            }
            Phase::Idle if age >= deadlines.idle_ms + idle_grace_ms(connection) => connection.end(Kill::Idle),
            Phase::Idle
                if age >= PARK_AFTER_MS && blocked == 0 && !connection.http2.get() && !connection.parked.get() =>
            {
                connection.ask_to_park();
            }
            _ if blocked != 0 && now.saturating_sub(blocked) >= deadlines.write_stall_ms => {
                connection.end(Kill::Stalled);
            }
            _ => {}
        }
        if connection.glitches.get() >= 2 * MAX_GLITCHES {
            connection.end(Kill::Glitches);
        } else if connection.http2.get() && !connection.drain.get() && is_worn(connection, now) {
            connection.begin_drain();
        }
    }

    /// Where something runs out, or nine of ten places for connections are taken: lets the longest idle ones go, a few at
    /// a time, so that those who come back do not all come at once.
    fn shed_idle(&self, now: u64) {
        let shared = &self.shared;
        let (open, limit) = (
            shared.connections.load(Ordering::Relaxed),
            shared.config.limits.max_connections,
        );
        let excess = open.saturating_sub(limit / 10 * 9 + limit % 10);
        if !shared.pressure.is_any() && excess == 0 {
            return;
        }
        let connections = self.connections.borrow();
        let mut idle: Vec<&Rc<ConnectionState>> = connections
            .iter()
            .map(|(_, connection)| connection)
            .filter(|connection| {
                let is_idle = connection.phase.get() == Phase::Idle && !connection.drain.get();
                is_idle && now.saturating_sub(connection.since_ms.get()) >= PARK_AFTER_MS
            })
            .collect();
        idle.sort_unstable_by_key(|connection| connection.since_ms.get());
        let share = if shared.pressure.is_any() {
            idle.len().div_ceil(SHED_SHARE)
        } else {
            0
        };
        let count = share.max(excess.div_ceil(shared.config.workers));
        idle.into_iter()
            .take(count)
            .for_each(|connection| connection.begin_drain());
    }

    /// Ends HTTP/2 connections all of whose requests wait for the client to open its window.
    fn sweep_stalled(&self, now: u64) {
        let mut stalled: HashMap<*const ConnectionState, (u32, Rc<ConnectionState>)> = HashMap::new();
        for (_, exchange) in self
            .exchanges
            .borrow()
            .iter()
            .filter(|(_, exchange)| exchange.watch.client_stalled(now))
        {
            let entry = stalled
                .entry(Rc::as_ptr(&exchange.connection))
                .or_insert_with(|| (0, Rc::clone(&exchange.connection)));
            entry.0 += 1;
        }
        for (count, connection) in stalled.into_values() {
            if count >= connection.active.get() {
                connection.end(Kill::Stalled);
            }
        }
    }

    fn follow_stage(&self) {
        let stage = self.shared.stage();
        if stage == self.stage_seen.replace(stage) {
            return;
        }
        self.l4.enter(stage);
        for (_, connection) in self.connections.borrow().iter() {
            match stage {
                Stage::Running => {}
                Stage::Announced if !connection.http2.get() => {}
                Stage::Announced | Stage::Closing => connection.begin_drain(),
                Stage::Aborting => connection.end(Kill::Abort),
            }
        }
    }
}

/// Time between GOAWAY and the end of an idle HTTP/2 connection.
fn idle_grace_ms(connection: &ConnectionState) -> u64 {
    if connection.http2.get() { 1_000 } else { 0 }
}

/// An HTTP/2 connection that has done its share: later requests balance better on a new one (`reliability.md` B3).
fn is_worn(connection: &ConnectionState, now: u64) -> bool {
    connection.requests.get() >= MAX_STREAMS_TOTAL
        || connection.glitches.get() >= MAX_GLITCHES
        || now.saturating_sub(connection.opened_ms) >= MAX_AGE_MS
}

/// How often a worker looks at everything.
pub(crate) const SWEEP: Duration = Duration::from_millis(100);
/// Idle time after which an HTTP/1.1 connection keeps only its socket.
const PARK_AFTER_MS: u64 = 1_000;
/// One of so many idle connections is let go at each sweep while something runs out.
const SHED_SHARE: usize = 8;
/// Streams after which an HTTP/2 connection is asked to end.
const MAX_STREAMS_TOTAL: u32 = 10_000;
/// Client resets after which an HTTP/2 connection is asked to end; at twice as many it is closed.
const MAX_GLITCHES: u32 = 100;
/// Age after which an HTTP/2 connection is asked to end.
const MAX_AGE_MS: u64 = 3_600_000;
