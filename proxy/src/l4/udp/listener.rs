//! The receiving side of one UDP socket of a worker.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, UdpSocket as StdUdpSocket},
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use tokio::{io::Interest, net::UdpSocket, task::spawn_local};

use super::{buffers::BATCH, engine::Engine, session::Key, socket::prepare};
use crate::{
    l4::{
        Listener,
        local::{Looping, Stop},
    },
    sockets::Transport,
    worker::Worker,
};

/// One socket of a listener and the sessions of its clients.
pub(super) struct UdpListener {
    pub(super) listener: Arc<Listener>,
    pub(super) socket: UdpSocket,
    /// Bound to all addresses: replies must say which one they come from.
    pub(super) is_unspecified: bool,
    pub(super) sessions: RefCell<HashMap<Key, usize, foldhash::fast::RandomState>>,
    /// Whether clients that are not known get a session.
    pub(super) takes_new: Cell<bool>,
    /// Silence after which its sessions end, where that is less than theirs.
    pub(super) most_idle_ms: Cell<u64>,
    /// Set once it takes no new clients and the last session ended: nothing is received any more.
    over: Stop,
}

/// Begins to receive on the sockets of a listener that are this worker's.
pub(in crate::l4) fn begin(worker: &Rc<Worker>, listener: &Arc<Listener>, stop: &Rc<Stop>) {
    for socket in listener.take_udp(worker.l4.index()) {
        match open(worker, listener, socket) {
            Ok((engine, listener)) => {
                let looping = Looping::new(worker);
                drop(spawn_local(receive(looping, engine, listener, Rc::clone(stop))));
            }
            Err(error) => tracing::error!(%error, address = %listener.address, "cannot receive"),
        }
    }
}

fn open(
    worker: &Rc<Worker>,
    listener: &Arc<Listener>,
    socket: StdUdpSocket,
) -> io::Result<(Rc<Engine>, Rc<UdpListener>)> {
    prepare(&socket, listener.address)?;
    let engine = worker.l4.udp_engine(worker)?;
    let listener = UdpListener {
        listener: Arc::clone(listener),
        socket: UdpSocket::from_std(socket)?,
        is_unspecified: listener.address.ip().is_unspecified(),
        sessions: RefCell::default(),
        takes_new: Cell::new(true),
        most_idle_ms: Cell::new(u64::MAX),
        over: Stop::default(),
    };
    Ok((engine, Rc::new(listener)))
}

impl UdpListener {
    /// The key of a datagram's session.
    pub(super) fn key(&self, client: std::net::SocketAddr, local: Option<IpAddr>) -> Key {
        Key {
            client,
            local: local.filter(|_| self.is_unspecified),
        }
    }

    /// Forgets the session of a client.
    pub(super) fn forget(&self, key: &Key) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.remove(key);
        if sessions.is_empty() && !self.takes_new.get() {
            self.over.set();
        }
    }
}

/// Receives until the listener goes.
///
/// Where the Service is gone, or the process stops, the clients that have a session are served on until theirs ends. Where
/// another process has the socket now, nothing is taken from it any more.
async fn receive(looping: Looping, engine: Rc<Engine>, listener: Rc<UdpListener>, stop: Rc<Stop>) {
    let worker = Rc::clone(looping.worker());
    while let Some(filled) = next(&engine, &listener, &stop).await {
        engine.forward(&worker, &listener, filled);
    }
    listener.takes_new.set(false);
    let shared = &worker.shared;
    if shared.is_door_closed() && shared.sockets.is_handed_over(Transport::Udp, listener.listener.address) {
        listener.most_idle_ms.set(HANDED_OVER_MS);
        return;
    }
    if listener.sessions.borrow().is_empty() {
        return;
    }
    // The worker waits for the sessions from now on, not for this.
    drop(looping);
    while let Some(filled) = next(&engine, &listener, &listener.over).await {
        engine.forward(&worker, &listener, filled);
    }
}

/// The next batch, in the engine's buffers; none where the listener goes.
async fn next(engine: &Engine, listener: &UdpListener, stop: &Stop) -> Option<usize> {
    poll_fn(|context| {
        loop {
            if stop.is_set() {
                return Poll::Ready(None);
            }
            stop.register(context);
            match listener.socket.poll_recv_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
            let mut filled = 0;
            let result = listener.socket.try_io(Interest::READABLE, || {
                filled = engine.receive((&listener.socket).into(), 0)?;
                // Fewer than there is room for: the queue is empty, which spares asking again.
                if filled < BATCH {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            if filled > 0 {
                return Poll::Ready(Some(filled));
            }
            if let Err(error) = result
                && error.kind() != io::ErrorKind::WouldBlock
            {
                tracing::debug!(%error, address = %listener.listener.address, "receive failed");
            }
        }
    })
    .await
}

/// Silence after which a session ends whose client's datagrams another process gets.
const HANDED_OVER_MS: u64 = 5_000;
