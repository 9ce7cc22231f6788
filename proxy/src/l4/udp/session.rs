//! One client and the socket that stands for it towards its endpoint.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::listener::UdpListener;
use crate::{
    admission::Permit,
    l4::{Forward, observe::Record, pick::Lease},
    worker::Shared,
};

/// Who a session is for: the client, and, where the listener is bound to all addresses, the one that it sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// A session; its socket is closed when it is dropped.
pub(super) struct Session {
    pub(super) key: Key,
    pub(super) listener: Rc<UdpListener>,
    pub(super) socket: OwnedFd,
    pub(super) forward: Arc<Forward>,
    pub(super) lease: Lease,
    pub(super) record: Record,
    /// Stands before each datagram to the endpoint.
    pub(super) header: Vec<u8>,
    /// Tells this session from an earlier one in the same place.
    pub(super) generation: u32,
    /// When a datagram last went either way, in milliseconds of the worker's coarse clock.
    pub(super) active_ms: Cell<u64>,
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
    /// Whether the socket takes several datagrams as one.
    pub(super) takes_many: Cell<bool>,
    pub(super) _permit: SessionPermit,
}

impl Session {
    /// Counts bytes that went to the endpoint.
    pub(super) fn count_received(&self, bytes: usize, now_ms: u64) {
        self.active_ms.set(now_ms);
        self.received.set(self.received.get() + bytes as u64);
        self.record.note_bytes(self.received.get(), self.sent.get());
    }

    /// Counts bytes that went to the client.
    pub(super) fn count_sent(&self, bytes: usize, now_ms: u64) {
        self.active_ms.set(now_ms);
        self.sent.set(self.sent.get() + bytes as u64);
        self.record.note_bytes(self.received.get(), self.sent.get());
    }

    /// Whether the endpoint never answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.sent.get() == 0
    }
}

/// The right to one session, given back when dropped: one among the connections of the process, and one among its
/// sessions, so that a flood of datagrams with made-up senders leaves room for connections.
pub(super) struct SessionPermit {
    shared: Arc<Shared>,
    _connection: Permit,
}

impl SessionPermit {
    /// None where the process or the client has too many.
    pub(super) fn acquire(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let limit = (shared.config.limits.max_connections / 2).max(1);
        let sessions = sessions(shared);
        let enter = |count: usize| (count < limit).then_some(count + 1);
        sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter)
            .ok()?;
        let connection = Permit::acquire(shared).and_then(|mut permit| permit.of_client(client).then_some(permit));
        if connection.is_none() {
            sessions.fetch_sub(1, Ordering::Relaxed);
        }
        connection.map(|connection| Self {
            shared: Arc::clone(shared),
            _connection: connection,
        })
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        sessions(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}

fn sessions(shared: &Shared) -> &AtomicUsize {
    &shared.live.l4.sessions
}
