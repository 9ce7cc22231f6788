//! Layer 4: ports of `LoadBalancer` Services (TCP, UDP), and TLS that is handed on unopened.
//!
//! What it is: [`Listener`]s that the control side binds and every worker follows, a task per TCP connection that copies in
//! both directions in constant memory, and an engine per worker for the sessions of UDP.
//!
//! What it is not: it decides neither which address belongs to whom nor which Service may have a host; the control side
//! (`tables::l4`) and `translate` do.
//!
//! A connection or session keeps the endpoint that it began with. What a listener does with the next one is in its
//! [`Handle`], which is swapped without touching the socket.

mod accept;
mod connect;
mod end;
mod lifetime;
mod local;
mod observe;
mod passthrough;
mod pick;
mod pump;
mod ranges;
mod relay;
mod series;
mod splice;
mod tcp;
mod udp;

use std::{
    net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use propylon_model::{CertificateName, L4Protocol, L4Service, ProxyVersion};
use tokio::sync::watch;

use crate::{config::millis, pool::PoolHandle};

pub(crate) use self::{
    end::End,
    local::{LocalL4, follow},
    passthrough::{Hosts, find, forward_of, pass},
    ranges::Ranges,
    series::{Labels, Series},
};

/// What becomes of a connection once its endpoint is to be chosen; the same for a listener and for passthrough.
#[derive(Debug)]
pub(crate) struct Forward {
    /// The endpoints and how one is chosen.
    pub(crate) pool: Arc<PoolHandle>,
    /// What is counted.
    pub(crate) series: Arc<Series>,
    pub(crate) send_proxy: Option<ProxyVersion>,
    pub(crate) connect_ms: u64,
    pub(crate) idle_ms: u64,
}

/// What a listener does with the next connection or datagram.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) forward: Arc<Forward>,
    pub(crate) source_ranges: Option<Ranges>,
    pub(crate) accept_proxy: bool,
    pub(crate) tls: Option<CertificateName>,
}

impl Handle {
    pub(crate) fn new(service: &L4Service, pool: Arc<PoolHandle>, series: Arc<Series>) -> Self {
        Self {
            forward: Arc::new(Forward {
                pool,
                series,
                send_proxy: service.send_proxy,
                connect_ms: millis(service.connect_timeout),
                idle_ms: millis(service.idle_timeout),
            }),
            source_ranges: service.source_ranges.as_deref().map(Ranges::new),
            accept_proxy: service.accept_proxy,
            tls: service.tls.clone(),
        }
    }
}

/// The sockets of a listener, one list per worker; taken once.
#[derive(Debug)]
pub(crate) enum Dealt {
    Tcp(Vec<Vec<StdTcpListener>>),
    Udp(Vec<Vec<StdUdpSocket>>),
}

impl Dealt {
    /// Deals sockets to the workers in turn.
    pub(crate) fn tcp(sockets: Vec<StdTcpListener>, workers: usize) -> Self {
        Self::Tcp(deal(sockets, workers))
    }

    /// Deals sockets to the workers in turn.
    pub(crate) fn udp(sockets: Vec<StdUdpSocket>, workers: usize) -> Self {
        Self::Udp(deal(sockets, workers))
    }
}

fn deal<T>(sockets: Vec<T>, workers: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        if let Some(worker) = dealt.get_mut(index % workers.max(1)) {
            worker.push(socket);
        }
    }
    dealt
}

/// One address that is listened on for Services; lives as long as it stays bound.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: u64,
    pub(crate) protocol: L4Protocol,
    pub(crate) address: SocketAddr,
    pub(crate) handle: ArcSwap<Handle>,
    dealt: Mutex<Dealt>,
    gives_way: AtomicBool,
}

impl Listener {
    pub(crate) fn new(address: SocketAddr, handle: Arc<Handle>, dealt: Dealt) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            protocol: match dealt {
                Dealt::Tcp(_) => L4Protocol::Tcp,
                Dealt::Udp(_) => L4Protocol::Udp,
            },
            address,
            handle: ArcSwap::new(handle),
            dealt: Mutex::new(dealt),
            gives_way: AtomicBool::new(false),
        }
    }

    /// The address is wanted for another listener: sessions of UDP, which hold it, end within a second.
    pub(crate) fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
    }

    fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    fn take_tcp(&self, worker: usize) -> Vec<StdTcpListener> {
        match &mut *self.dealt.lock().unwrap_or_else(PoisonError::into_inner) {
            Dealt::Tcp(dealt) => dealt.get_mut(worker).map(std::mem::take).unwrap_or_default(),
            Dealt::Udp(_) => Vec::new(),
        }
    }

    fn take_udp(&self, worker: usize) -> Vec<StdUdpSocket> {
        match &mut *self.dealt.lock().unwrap_or_else(PoisonError::into_inner) {
            Dealt::Udp(dealt) => dealt.get_mut(worker).map(std::mem::take).unwrap_or_default(),
            Dealt::Tcp(_) => Vec::new(),
        }
    }
}

/// What the workers follow.
#[derive(Debug)]
pub(crate) struct LiveL4 {
    listeners: ArcSwap<Vec<Arc<Listener>>>,
    changed: watch::Sender<()>,
    hosts: ArcSwap<Hosts>,
    /// Sessions of UDP of all workers.
    sessions: AtomicUsize,
}

impl Default for LiveL4 {
    fn default() -> Self {
        Self {
            listeners: ArcSwap::default(),
            changed: watch::Sender::new(()),
            hosts: ArcSwap::default(),
            sessions: AtomicUsize::new(0),
        }
    }
}

impl LiveL4 {
    /// Makes the listeners known to the workers, which begin or stop to accept within a moment.
    pub(crate) fn publish(&self, listeners: Vec<Arc<Listener>>) {
        self.listeners.store(Arc::new(listeners));
        self.changed.send_replace(());
    }

    /// The present listeners.
    pub(crate) fn listeners(&self) -> Arc<Vec<Arc<Listener>>> {
        self.listeners.load_full()
    }

    /// Swaps the hosts whose TLS is handed on.
    pub(crate) fn publish_hosts(&self, hosts: Hosts) {
        self.hosts.store(Arc::new(hosts));
    }

    /// The hosts whose TLS is handed on.
    pub(crate) fn hosts(&self) -> arc_swap::Guard<Arc<Hosts>> {
        self.hosts.load()
    }

    fn follow(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
