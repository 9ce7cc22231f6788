//! The accept loop of a worker.

use std::{
    fs::File,
    future::poll_fn,
    net::{SocketAddr, TcpListener as StdListener},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{
    admission::Permit,
    edge::Scheme,
    overload,
    reason::Reason,
    sockets::{Door, Transport},
    worker::Worker,
};

/// A bound socket of one worker.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: StdListener,
    pub(crate) scheme: Scheme,
}

/// Accepts from when the door opens until it closes.
pub(crate) async fn accept_loop(worker: Rc<Worker>, listener: TcpListener, scheme: Scheme) {
    let shared = &worker.shared;
    let mut backoff = Backoff::default();
    let mut reserve = Reserve::default();
    shared.until_door(|door| door != Door::Waiting).await;
    let mut closed = pin!(shared.until_door(|door| door == Door::Closed));
    let (mut full, mut turn) = (Duration::ZERO, 0_u32);
    while shared.is_door_open() {
        reserve.fill();
        // Looked at, not taken: a permit held while waiting would be missing to the other workers.
        if !Permit::is_free(shared) {
            full = wait_for_place(&worker, &listener, scheme, full).await;
            continue;
        }
        full = Duration::ZERO;
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(ACCEPTS_PER_TURN) {
            // However many wait: those who are being served are served in between.
            tokio::task::yield_now().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // accept is cancel safe: a connection stays in the queue.
            () = &mut closed => break,
        };
        match accepted {
            Ok(accepted) => {
                backoff = Backoff::default();
                take(&worker, accepted, scheme).await;
            }
            Err(error) => {
                if overload::is_starved(&error) {
                    shared.pressure.note_starved();
                    reserve.spend();
                    refuse_queue(&worker, &listener, scheme, Reason::OverloadDescriptors).await;
                    reserve.fill();
                }
                tracing::debug!(%error, "accept failed");
                sleep(backoff.next()).await;
            }
        }
    }
    let is_handed_over = |address| shared.sockets.is_handed_over(Transport::Tcp, address);
    if !listener.local_addr().is_ok_and(is_handed_over) {
        drain_queue(&worker, &listener, scheme).await;
    }
}

/// Waits a little while the process has as many connections as it may, and gives how long it has been so; after a while,
/// those who wait are told.
async fn wait_for_place(worker: &Rc<Worker>, listener: &TcpListener, scheme: Scheme, full: Duration) -> Duration {
    if full >= FULL_PATIENCE {
        refuse_queue(worker, listener, scheme, Reason::OverloadConnections).await;
    }
    sleep(FULL).await;
    full + FULL
}

/// Serves a connection, or refuses it where memory is short.
async fn take(worker: &Rc<Worker>, (stream, peer): (TcpStream, SocketAddr), scheme: Scheme) {
    if worker.shared.pressure.refuses_connections() {
        return refuse(worker, (stream, peer), scheme, Reason::OverloadMemory);
    }
    // Another worker may have taken the last place meanwhile: the connection waits then, as in the queue.
    let mut waited = Duration::ZERO;
    let permit = loop {
        match Permit::acquire(&worker.shared) {
            Some(permit) => break permit,
            None if waited >= FULL_PATIENCE || !worker.shared.is_door_open() => {
                return refuse(worker, (stream, peer), scheme, Reason::OverloadConnections);
            }
            None => sleep(FULL).await,
        }
        waited += FULL;
    };
    spawn(worker, stream, peer, (scheme, permit));
}

/// Refuses what waits in the queue, up to a number.
async fn refuse_queue(worker: &Rc<Worker>, listener: &TcpListener, scheme: Scheme, reason: Reason) {
    for _ in 0..ACCEPTS_PER_TURN {
        match poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await {
            Poll::Ready(Ok(accepted)) => refuse(worker, accepted, scheme, reason),
            Poll::Ready(Err(_)) | Poll::Pending => return,
        }
    }
}

fn refuse(worker: &Worker, (stream, peer): (TcpStream, SocketAddr), scheme: Scheme, reason: Reason) {
    if reason == Reason::OverloadConnections {
        worker.shared.pressure.note_full();
    }
    overload::refuse(&stream, scheme, reason);
    crate::observe::refused_at_accept(worker, (peer, scheme), reason);
}

/// A descriptor kept back, so that clients can be told that there are none left.
#[derive(Debug, Default)]
pub(crate) struct Reserve(Option<File>);

impl Reserve {
    pub(crate) fn fill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    pub(crate) fn spend(&mut self) {
        self.0 = None;
    }
}

/// Takes what the kernel had already accepted, so that closing the socket resets nobody.
async fn drain_queue(worker: &Rc<Worker>, listener: &TcpListener, scheme: Scheme) {
    loop {
        tokio::select! {
            biased;
            Ok((stream, peer)) = listener.accept() => {
                let Some(permit) = Permit::acquire(&worker.shared) else { return };
                spawn(worker, stream, peer, (scheme, permit));
            }
            () = tokio::task::yield_now() => return,
        }
    }
}

fn spawn(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, (scheme, permit): (Scheme, Permit)) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if let Err(error) = crate::connection::serve(&worker, stream, peer, scheme, permit).await {
            tracing::debug!(%error, %peer, "connection ended");
        }
    });
}

/// Pause after a failed accept: 10 ms doubling to 1 s, so that a full table of file descriptors is no busy loop.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(5))
    }
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
        self.0
    }
}

/// Pause while the process has as many connections as it may.
pub(crate) const FULL: Duration = Duration::from_millis(10);
/// How long connections wait for one of them to end; then they are refused.
pub(crate) const FULL_PATIENCE: Duration = Duration::from_secs(1);
/// Connections taken, or refused, before others have their turn.
pub(crate) const ACCEPTS_PER_TURN: u32 = 32;
