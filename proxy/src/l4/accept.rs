//! The accept loop of one TCP socket.

use std::{future::poll_fn, io, net::SocketAddr, rc::Rc, sync::Arc, task::Poll, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::sleep,
};

use super::{
    End, Listener,
    local::{Looping, Stop},
    observe::Record,
    pump::break_off,
    tcp,
};
use crate::{
    admission::Permit,
    listener::{ACCEPTS_PER_TURN, Backoff, FULL, FULL_PATIENCE},
    overload,
    sockets::Transport,
    worker::Worker,
};

/// Accepts until the listener goes, then takes what the kernel had already accepted, so that closing resets nobody.
pub(super) async fn accept_loop(looping: Looping, listener: Arc<Listener>, socket: TcpListener, stop: Rc<Stop>) {
    let worker = looping.worker();
    let mut backoff = Backoff::default();
    let (mut full, mut turn) = (Duration::ZERO, 0_u32);
    while !stop.is_set() {
        worker.l4.reserve.borrow_mut().fill();
        // Looked at, not taken: a permit held while waiting would be missing to the other workers.
        if !Permit::is_free(&worker.shared) {
            if full >= FULL_PATIENCE {
                refuse_queue(worker, &listener, &socket, End::TooManyConnections).await;
            }
            full += FULL;
            sleep(FULL).await;
            continue;
        }
        full = Duration::ZERO;
        turn += 1;
        if turn.is_multiple_of(ACCEPTS_PER_TURN) {
            // However many wait: those who are being served are served in between.
            tokio::task::yield_now().await;
        }
        match accept(&socket, &stop).await {
            None => break,
            Some(Ok(accepted)) => {
                backoff = Backoff::default();
                take(worker, &listener, accepted, &stop).await;
            }
            Some(Err(error)) if overload::is_starved(&error) => {
                worker.shared.pressure.note_starved();
                worker.l4.reserve.borrow_mut().spend();
                refuse_queue(worker, &listener, &socket, End::OverloadDescriptors).await;
                worker.l4.reserve.borrow_mut().fill();
                sleep(backoff.next()).await;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, address = %listener.address, "accept failed");
                sleep(backoff.next()).await;
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

/// Serves a connection, or refuses it where memory is short or no place becomes free.
async fn take(worker: &Rc<Worker>, listener: &Arc<Listener>, accepted: (TcpStream, SocketAddr), stop: &Stop) {
    if worker.shared.pressure.refuses_requests() {
        return refuse(worker, listener, accepted, End::OverloadMemory);
    }
    // Another worker may have taken the last place meanwhile: the connection waits then, as in the queue.
    let mut waited = Duration::ZERO;
    loop {
        match Permit::acquire(&worker.shared) {
            Some(permit) => return serve(worker, listener, accepted, permit),
            None if waited >= FULL_PATIENCE || stop.is_set() => {
                return refuse(worker, listener, accepted, End::TooManyConnections);
            }
            None => sleep(FULL).await,
        }
        waited += FULL;
    }
}

/// Refuses what waits in the queue, up to a number.
async fn refuse_queue(worker: &Rc<Worker>, listener: &Listener, socket: &TcpListener, end: End) {
    for _ in 0..ACCEPTS_PER_TURN {
        match poll_once(socket).await {
            Poll::Ready(Ok(accepted)) => refuse(worker, listener, accepted, end),
            Poll::Ready(Err(_)) | Poll::Pending => return,
        }
    }
}

/// Resets a connection that nothing was read from.
fn refuse(worker: &Rc<Worker>, listener: &Listener, (stream, peer): (TcpStream, SocketAddr), end: End) {
    if end == End::TooManyConnections {
        worker.shared.pressure.note_full();
    }
    break_off(&stream);
    Record::begin(worker, &listener.handle.load().forward.series, peer).end(end);
}
