//! The accept loop of one TCP socket.

use std::{future::poll_fn, io, net::SocketAddr, rc::Rc, sync::Arc, task::Poll, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::sleep,
};

use super::{
    Listener,
    local::{Looping, Stop},
    tcp,
};
use crate::{admission::Permit, sockets::Transport, worker::Worker};

/// Accepts until the listener goes, then takes what the kernel had already accepted, so that closing resets nobody.
pub(super) async fn accept_loop(looping: Looping, listener: Arc<Listener>, socket: TcpListener, stop: Rc<Stop>) {
    let worker = looping.worker();
    let mut pause = FIRST_PAUSE;
    while !stop.is_set() {
        // Looked at, not taken: a permit held while waiting would be missing to the other workers.
        if !Permit::is_free(&worker.shared) {
            sleep(FULL).await;
            continue;
        }
        match accept(&socket, &stop).await {
            None => break,
            Some(Ok((stream, peer))) => {
                pause = FIRST_PAUSE;
                let Some(permit) = permit(worker, &stop).await else {
                    return;
                };
                serve(worker, &listener, (stream, peer), permit);
            }
            Some(Err(error)) => {
                tracing::warn!(%error, address = %listener.address, "accept failed");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    let shared = &worker.shared;
    if shared.is_door_closed() && shared.sockets.is_handed_over(Transport::Tcp, listener.address) {
        return;
    }
    while let Poll::Ready(Ok(accepted)) = poll_once(&socket).await {
        let Some(permit) = Permit::acquire(&worker.shared) else {
            return;
        };
        serve(worker, &listener, accepted, permit);
    }
}

fn serve(worker: &Rc<Worker>, listener: &Arc<Listener>, (stream, peer): (TcpStream, SocketAddr), permit: Permit) {
    let handle = listener.handle.load_full();
    drop(spawn_local(tcp::serve(
        Rc::clone(worker),
        handle,
        (stream, peer),
        permit,
    )));
}

/// None: the listener goes.
async fn accept(socket: &TcpListener, stop: &Stop) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|context| {
        if stop.is_set() {
            return Poll::Ready(None);
        }
        stop.register(context);
        socket.poll_accept(context).map(Some)
    })
    .await
}

async fn poll_once(socket: &TcpListener) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|context| Poll::Ready(socket.poll_accept(context))).await
}

/// Another worker may have taken the last permit meanwhile: the connection waits then, as in the queue.
async fn permit(worker: &Rc<Worker>, stop: &Stop) -> Option<Permit> {
    loop {
        match Permit::acquire(&worker.shared) {
            Some(permit) => return Some(permit),
            None if stop.is_set() => return None,
            None => sleep(FULL).await,
        }
    }
}

/// Pause while the process has as many connections as it may.
const FULL: Duration = Duration::from_millis(10);
/// Pause after a failed accept, doubling, so that a full table of file descriptors is no busy loop.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
