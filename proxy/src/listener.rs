//! Listening sockets and the accept loop of a worker.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{
    admission::Permit,
    edge::Scheme,
    worker::{Stage, Worker},
};

/// A bound socket of one worker.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: StdListener,
    pub(crate) scheme: Scheme,
}

/// Binds one address for `workers` threads (`SO_REUSEPORT`); port 0 is chosen once, for all.
///
/// # Errors
/// When the address is not local or in use by another program. Not retryable without a change.
pub(crate) fn bind(address: SocketAddr, scheme: Scheme, workers: usize) -> io::Result<Vec<Bound>> {
    // A socket without SO_REUSEPORT is refused while anybody listens: that tells a port in use by an older process of ours.
    drop(socket(address, Reuse::No)?);
    let first = socket(address, Reuse::Yes)?;
    let address = first.local_addr()?;
    let mut bound = vec![Bound { socket: first, scheme }];
    for _ in 1..workers {
        bound.push(Bound {
            socket: socket(address, Reuse::Yes)?,
            scheme,
        });
    }
    Ok(bound)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    No,
    Yes,
}

fn socket(address: SocketAddr, reuse: Reuse) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse == Reuse::Yes)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it: a client whose machine is gone is found without a ping per HTTP/2 connection, which
    // would cost two clock readings per request.
    let keepalive = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the drain closes the listener.
pub(crate) async fn accept_loop(worker: Rc<Worker>, listener: TcpListener, scheme: Scheme) {
    let mut backoff = Backoff::default();
    let mut closing = pin!(closing(&worker));
    while worker.shared.stage() < Stage::Closing {
        // Looked at, not taken: a permit held while waiting would be missing to the other workers.
        if !Permit::is_free(&worker.shared) {
            sleep(FULL).await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // accept is cancel safe: a connection stays in the queue.
            () = &mut closing => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = Backoff::default();
                // Another worker may have taken the last one meanwhile: the connection waits then, as in the queue.
                let permit = loop {
                    match Permit::acquire(&worker.shared) {
                        Some(permit) => break permit,
                        None if worker.shared.stage() >= Stage::Closing => return,
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
    drain_queue(&worker, &listener, scheme).await;
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

async fn closing(worker: &Worker) {
    while worker.shared.stage() < Stage::Closing {
        sleep(crate::worker::SWEEP).await;
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

const BACKLOG: i32 = 4096;
/// Pause while the process has as many connections as it may.
const FULL: Duration = Duration::from_millis(10);
/// Silence after which the kernel asks whether the client's machine is still there.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
