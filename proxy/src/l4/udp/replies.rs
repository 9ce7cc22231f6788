//! Replies of endpoints on their way to clients, gathered so that few calls send many.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    rc::Rc,
};

use quinn_udp::UdpSocketState;

use super::{
    buffers::{BATCH, Buffers},
    listener::UdpListener,
    send,
    session::Key,
};
use crate::{l4::End, worker::Worker};

/// What one buffer holds goes to one client.
struct Reply {
    listener: Rc<UdpListener>,
    key: Key,
    buffer: usize,
}

/// Replies that are not sent yet; what they say is in the buffers.
pub(super) struct Replies(Vec<Reply>);

impl Replies {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(BATCH))
    }

    pub(super) fn push(&mut self, listener: &Rc<UdpListener>, key: Key, buffer: usize) {
        self.0.push(Reply {
            listener: Rc::clone(listener),
            key,
            buffer,
        });
    }

    /// Sends all of them, each listener's together.
    pub(super) fn flush(&mut self, worker: &Worker, state: &UdpSocketState, buffers: &Buffers) {
        let mut singles: Vec<(SocketAddr, &[u8])> = Vec::with_capacity(self.0.len());
        for replies in self.0.chunk_by(|one, other| Rc::ptr_eq(&one.listener, &other.listener)) {
            let Some(first) = replies.first() else { continue };
            let (listener, mut dropped) = (&first.listener, 0);
            for reply in replies {
                let Some(received) = buffers.get(reply.buffer) else {
                    continue;
                };
                if reply.key.local.is_none() && received.count() == 1 {
                    singles.push((reply.key.client, received.bytes));
                    continue;
                }
                // What came before goes before.
                dropped += send::to_clients(listener.socket.as_fd(), &singles);
                singles.clear();
                let to: (SocketAddr, Option<IpAddr>) = (reply.key.client, reply.key.local);
                dropped += send::to_client(state, listener.socket.as_fd(), to, received);
            }
            dropped += send::to_clients(listener.socket.as_fd(), &singles);
            singles.clear();
            if dropped > 0 {
                let series = &listener.listener.handle.load().forward.series;
                series.of(worker.l4.index()).count_dropped(End::QueueFull, dropped);
            }
        }
        self.0.clear();
    }
}
