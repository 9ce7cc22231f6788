//! The accept loop of a worker.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{
    admission::Permit,
    edge::Scheme,
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
    let mut backoff = Backoff::default();
    worker.shared.until_door(|door| door != Door::Waiting).await;
    let mut closed = pin!(worker.shared.until_door(|door| door == Door::Closed));
    while worker.shared.is_door_open() {
        // Looked at, not taken: a permit held while waiting would be missing to the other workers.
        if !Permit::is_free(&worker.shared) {
            sleep(FULL).await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // accept is cancel safe: a connection stays in the queue.
            () = &mut closed => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = Backoff::default();
                // Another worker may have taken the last one meanwhile: the connection waits then, as in the queue.
                let permit = loop {
                    match Permit::acquire(&worker.shared) {
                        Some(permit) => break permit,
                        None if !worker.shared.is_door_open() => return,
                        None => sleep(FULL).await,
                    }
                };
                spawn(&worker, stream, peer, (scheme, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(backoff.next()).await;
            }
        }
    }
    let is_handed_over = |address| worker.shared.sockets.is_handed_over(Transport::Tcp, address);
    if !listener.local_addr().is_ok_and(is_handed_over) {
        drain_queue(&worker, &listener, scheme).await;
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
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(5))
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
        self.0
    }
}

/// Pause while the process has as many connections as it may.
const FULL: Duration = Duration::from_millis(10);
