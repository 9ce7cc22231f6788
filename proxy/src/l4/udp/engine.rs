//! The sessions of one worker.

use std::{
    cell::{Cell, RefCell},
    io,
    net::UdpSocket as StdUdpSocket,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Arc,
};

use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};
use slab::Slab;
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    buffers::{BATCH, Buffers, Received},
    listener::UdpListener,
    replies::Replies,
    send,
    session::{Key, Session, SessionPermit},
    socket,
};
use crate::{
    l4::{End, Forward, local::STRIPES, observe::Record, pick},
    overload,
    proxy_protocol::{Carried, push_v2},
    reason::Reason,
    worker::Worker,
};

/// The sessions of one worker, the epoll instance that watches their sockets, and the buffers that they share.
pub(in crate::l4) struct Engine {
    /// Only remembers what the kernel can do; any socket may be used with it.
    state: UdpSocketState,
    watched: AsyncFd<OwnedFd>,
    buffers: RefCell<Buffers>,
    sessions: RefCell<Slab<Session>>,
    next_generation: Cell<u32>,
    /// Some socket may hold more than was taken from it.
    has_more: Cell<bool>,
}

impl Engine {
    /// # Errors
    /// When there are no descriptors left.
    pub(in crate::l4) fn new() -> io::Result<Self> {
        let scratch = StdUdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of descriptors that are closed while registered; this one is owned"
        )]
        let watched = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Self {
            state: UdpSocketState::new(UdpSockRef::from(&scratch))?,
            watched,
            buffers: RefCell::new(Buffers::new()),
            sessions: RefCell::default(),
            next_generation: Cell::new(0),
            has_more: Cell::new(false),
        })
    }

    /// How many sessions there are.
    pub(in crate::l4) fn len(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// Receives into the buffers from `first` on.
    pub(super) fn receive(&self, socket: UdpSockRef<'_>, first: usize) -> io::Result<usize> {
        self.buffers.borrow_mut().receive(&self.state, socket, first)
    }

    /// Hands on what clients sent; `filled` buffers hold it.
    pub(super) fn forward(&self, worker: &Rc<Worker>, listener: &Rc<UdpListener>, filled: usize) {
        let buffers = self.buffers.borrow();
        for received in (0..filled).filter_map(|index| buffers.get(index)) {
            let key = listener.key(received.meta.addr, received.meta.dst_ip);
            if let Err(end) = self.forward_one(worker, listener, key, received) {
                let series = &listener.listener.handle.load().forward.series;
                series.of(worker.l4.index()).count_dropped(end, received.count() as u64);
            }
        }
    }

    /// # Errors
    /// Why it was dropped.
    fn forward_one(
        &self,
        worker: &Rc<Worker>,
        listener: &Rc<UdpListener>,
        key: Key,
        received: Received<'_>,
    ) -> Result<(), End> {
        let known = listener.sessions.borrow().get(&key).copied();
        let slot = match known.filter(|slot| self.is_good(*slot)) {
            Some(slot) => slot,
            None => self.begin(worker, listener, key, &[])?,
        };
        let Err(failed) = self.send(worker, slot, received) else {
            return Ok(());
        };
        // What was sent before came back: the endpoint's port is closed.
        let address = failed.lease.address();
        failed.lease.failed(&failed.forward, Reason::ConnectionRefused);
        ended(failed, End::EndpointReset);
        let slot = self.begin(worker, listener, key, &[address])?;
        self.send(worker, slot, received).map_err(|failed| {
            ended(failed, End::EndpointReset);
            End::EndpointReset
        })
    }

    /// # Errors
    /// The session, which is none any more: its endpoint takes nothing.
    #[expect(clippy::result_large_err, reason = "rare, and taken apart at once")]
    fn send(&self, worker: &Worker, slot: usize, received: Received<'_>) -> Result<(), Session> {
        let sessions = self.sessions.borrow();
        let Some(session) = sessions.get(slot) else {
            return Ok(());
        };
        let peer = session.lease.address();
        let sent = send::to_endpoint(&self.state, (session.socket.as_fd(), peer), &session.header, received);
        match sent {
            Ok(dropped) => {
                session.count_received(received.bytes.len(), worker.now_ms.get());
                session.record.count_dropped(End::QueueFull, dropped);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, endpoint = %peer, "a datagram was not sent");
                drop(sessions);
                self.take(slot).map_or(Ok(()), Err)
            }
        }
    }

    /// Whether a session may go on: its endpoint is still one of the Service, or there is no other to be had.
    fn is_good(&self, slot: usize) -> bool {
        let sessions = self.sessions.borrow();
        let Some(session) = sessions.get(slot) else {
            return false;
        };
        if !session.listener.takes_new.get() {
            return true;
        }
        let handle = session.listener.listener.handle.load();
        let is_same = Arc::ptr_eq(&session.forward.pool.endpoints, &handle.forward.pool.endpoints);
        if is_same && !session.lease.is_gone() {
            return true;
        }
        drop(sessions);
        if let Some(session) = self.take(slot) {
            ended(session, End::EndpointGone);
        }
        false
    }

    /// Begins a session; gives its place.
    ///
    /// # Errors
    /// Why there is none.
    fn begin(
        &self,
        worker: &Rc<Worker>,
        listener: &Rc<UdpListener>,
        key: Key,
        tried: &[std::net::SocketAddr],
    ) -> Result<usize, End> {
        let handle = listener.listener.handle.load();
        let client = key.client.ip();
        if handle
            .source_ranges
            .as_ref()
            .is_some_and(|ranges| !ranges.contains(client))
        {
            return Err(End::SourceRangeDenied);
        }
        if !listener.takes_new.get() {
            let stops = worker.shared.is_door_closed();
            return Err(if stops { End::DrainTimeout } else { End::EndpointGone });
        }
        if worker.shared.pressure.refuses_requests() {
            return Err(End::OverloadMemory);
        }
        let acquire = || SessionPermit::acquire(&worker.shared, client);
        let permit = acquire().or_else(|| {
            // Somebody who never got an answer may have made his address up.
            self.evict(worker);
            acquire()
        });
        let permit = permit.ok_or(End::TooManyConnections)?;
        let lease = pick::pick(worker, &handle.forward, client, tried)?;
        let socket = socket::connected(lease.address()).map_err(|error| {
            tracing::debug!(%error, endpoint = %lease.address(), "no socket for a session");
            if overload::is_starved(&error) {
                worker.shared.pressure.note_starved();
                return End::OverloadDescriptors;
            }
            End::ConnectFailed
        })?;
        let generation = self.next_generation.get().wrapping_add(1);
        self.next_generation.set(generation);
        let mut sessions = self.sessions.borrow_mut();
        let entry = sessions.vacant_entry();
        let slot = entry.key();
        let data = EventData::new_u64(pack(slot, generation));
        epoll::add(self.watched.get_ref(), &socket, data, EventFlags::IN).map_err(|_| End::ConnectFailed)?;
        let record = Record::begin(worker, &handle.forward.series, key.client);
        record.endpoint.set(Some(lease.address()));
        entry.insert(Session {
            key,
            listener: Rc::clone(listener),
            socket,
            header: header(&handle.forward, key, listener),
            forward: Arc::clone(&handle.forward),
            lease,
            record,
            generation,
            active_ms: Cell::new(worker.now_ms.get()),
            received: Cell::new(0),
            sent: Cell::new(0),
            takes_many: Cell::new(false),
            _permit: permit,
        });
        listener.sessions.borrow_mut().insert(key, slot);
        Ok(slot)
    }

    /// Takes a session out of all lists.
    fn take(&self, slot: usize) -> Option<Session> {
        let session = self.sessions.borrow_mut().try_remove(slot)?;
        session.listener.forget(&session.key);
        Some(session)
    }

    /// Ends the session that is silent for longest among a few that were never answered.
    fn evict(&self, worker: &Worker) {
        let now = worker.now_ms.get();
        let oldest = {
            let sessions = self.sessions.borrow();
            let count = sessions.capacity().max(1);
            let first = usize::try_from(worker.random_u64() % count as u64).unwrap_or(0);
            let some = (0..count).filter_map(|step| {
                let slot = (first + step) % count;
                sessions.get(slot).map(|session| (slot, session))
            });
            some.take(SAMPLE)
                .filter(|(_, session)| session.is_unanswered() && now > session.active_ms.get() + EVICT_AFTER_MS)
                .min_by_key(|(_, session)| session.active_ms.get())
                .map(|(slot, _)| slot)
        };
        if let Some(session) = oldest.and_then(|slot| self.take(slot)) {
            ended(session, End::TooManyConnections);
        }
    }

    /// Ends what is silent for too long: a part of the sessions at a time.
    pub(in crate::l4) fn sweep(&self, now_ms: u64, stripe: usize) {
        let is_over = |session: &Session| {
            let listener = &session.listener;
            let idle_ms = session.forward.idle_ms.min(listener.most_idle_ms.get());
            if listener.listener.gives_way() {
                return Some(End::EndpointGone);
            }
            let silent_ms = now_ms.saturating_sub(session.active_ms.get());
            (silent_ms > idle_ms).then_some(End::IdleTimeout)
        };
        let over: Vec<(usize, End)> = {
            let sessions = self.sessions.borrow();
            let slots = (stripe..sessions.capacity()).step_by(STRIPES);
            slots
                .filter_map(|slot| Some((slot, is_over(sessions.get(slot)?)?)))
                .collect()
        };
        for (slot, end) in over {
            if let Some(session) = self.take(slot) {
                ended(session, end);
            }
        }
    }

    /// Ends every session.
    pub(in crate::l4) fn abort(&self) {
        let slots: Vec<usize> = self.sessions.borrow().iter().map(|(slot, _)| slot).collect();
        for session in slots.into_iter().filter_map(|slot| self.take(slot)) {
            ended(session, End::DrainTimeout);
        }
    }

    /// Hands back what endpoints send, until the worker ends.
    pub(in crate::l4) async fn run(self: Rc<Self>, worker: Rc<Worker>) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        while let Ok(mut ready) = self.watched.readable().await {
            events.clear();
            self.has_more.set(false);
            let found = epoll::wait(self.watched.get_ref(), spare_capacity(&mut events), Some(&NOW));
            if let Err(error) = found {
                tracing::debug!(%error, "epoll_wait");
            }
            self.hand_back(&worker, &events);
            // Every socket was emptied: the next datagram wakes us.
            if events.len() < EVENTS && !self.has_more.get() {
                ready.clear_ready();
            } else {
                drop(ready);
                tokio::task::yield_now().await;
            }
        }
    }

    fn hand_back(&self, worker: &Worker, events: &[Event]) {
        let mut replies = Replies::new();
        let mut broken = Vec::new();
        let mut next = 0;
        for event in events {
            if BATCH - next < LEAST_ROOM {
                replies.flush(worker, &self.state, &self.buffers.borrow());
                next = 0;
            }
            let sessions = self.sessions.borrow();
            let (slot, generation) = unpack(event.data.u64());
            let Some(session) = sessions.get(slot).filter(|session| session.generation == generation) else {
                continue;
            };
            match self.receive((&session.socket).into(), next) {
                Ok(filled) => {
                    self.note_received(session, (next, filled), worker.now_ms.get());
                    (next..next + filled).for_each(|buffer| replies.push(&session.listener, session.key, buffer));
                    next += filled;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, endpoint = %session.lease.address(), "the endpoint takes no datagrams");
                    broken.push(slot);
                }
            }
        }
        replies.flush(worker, &self.state, &self.buffers.borrow());
        for session in broken.into_iter().filter_map(|slot| self.take(slot)) {
            session.lease.failed(&session.forward, Reason::ConnectionRefused);
            ended(session, End::EndpointReset);
        }
    }

    fn note_received(&self, session: &Session, (first, filled): (usize, usize), now_ms: u64) {
        let buffers = self.buffers.borrow();
        let bytes = (first..first + filled)
            .filter_map(|index| buffers.get(index))
            .map(|received| received.bytes.len())
            .sum();
        if session.is_unanswered() {
            session.lease.began();
        } else {
            session.lease.succeeded();
        }
        session.count_sent(bytes, now_ms);
        if first + filled == BATCH {
            self.has_more.set(true);
        }
        if filled >= MANY && !session.takes_many.replace(true) {
            socket::receive_many(&session.socket);
        }
    }
}

fn ended(session: Session, end: End) {
    session.record.end(end);
    drop(session);
}

/// The header that stands before each datagram: each, because a datagram may be lost or overtake another, and because the
/// servers that read it do so (BIND for one).
fn header(forward: &Forward, key: Key, listener: &UdpListener) -> Vec<u8> {
    let mut header = Vec::new();
    if forward.send_proxy.is_some() {
        let mut destination = listener.listener.address;
        if let Some(local) = key.local {
            destination.set_ip(local);
        }
        push_v2(&mut header, Carried::Udp, key.client, destination);
    }
    header
}

const fn pack(slot: usize, generation: u32) -> u64 {
    ((slot as u64) << 32) | generation as u64
}

fn unpack(data: u64) -> (usize, u32) {
    let slot = usize::try_from(data >> 32).unwrap_or(usize::MAX);
    (slot, u32::try_from(data & u64::from(u32::MAX)).unwrap_or(0))
}

/// Sockets that are looked at by one call.
const EVENTS: usize = 256;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Buffers that a socket is offered at least.
const LEAST_ROOM: usize = 8;
/// Datagrams at once from which on a session is worth `UDP_GRO`.
const MANY: usize = 4;
/// Sessions that are looked at for one that may go.
const SAMPLE: usize = 16;
/// Silence after which a session that was never answered may go for another.
const EVICT_AFTER_MS: u64 = 1_000;
