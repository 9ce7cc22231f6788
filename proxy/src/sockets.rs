//! The sockets that the process listens on: inherited from the process before it, or bound here, and kept in a list for
//! the process after it.
//!
//! What it is: one [`Sockets`] of the process. Whoever listens (HTTP, HTTPS, L4, admin) asks it for sockets and tells it
//! when an address is no longer listened on; the hand-over (`takeover`) offers what the list holds.
//!
//! What it is not: it accepts and receives nothing, and decides no address.
//!
//! A listener of the data plane follows three rules:
//! 1. It takes its sockets from [`Sockets::tcp`] or [`Sockets::udp`] and deals them to the workers in turn (there may be
//!    more sockets than workers: an inherited socket has a queue of its own, and every queue must be emptied).
//! 2. It takes work only while the [`Door`] is open ([`crate::worker::Shared::door`]): a process that takes over opens it
//!    once its tables are live, and the process before it closes its own then.
//! 3. Where its address goes, it calls [`Sockets::release`], and the workers drop their sockets; where the door closes,
//!    they drop them without emptying the queue if [`Sockets::is_handed_over`], else after it is empty.

use std::{
    collections::HashSet,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// A stream socket that listens.
    Tcp,
    /// A datagram socket.
    Udp,
}

/// Whether listeners take new work; watched by everything that accepts or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Not yet: another process still serves from the same queues, or there are no tables.
    Waiting,
    /// Yes.
    Open,
    /// No more.
    Closed,
}

/// What is listened on: what it speaks, and where; the port is never 0.
pub(crate) type Place = (Transport, SocketAddr);

/// A socket and its place.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) place: Place,
    pub(crate) socket: OwnedFd,
}

impl Held {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            place: self.place,
            socket: self.socket.try_clone()?,
        })
    }
}

/// The listening sockets of the process.
///
/// It holds a second descriptor of each, so that they can be offered to another process at any time. A socket is closed
/// when both the list and the worker have let go of it.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Received, and not asked for yet.
    inherited: Vec<Held>,
    listening: Vec<Held>,
    handed_over: HashSet<Place>,
    /// Nothing is opened any more: nobody would take what comes.
    closed: bool,
    /// Addresses that are listened on to the end of the process (admin, status).
    lasting: HashSet<Place>,
}

impl Sockets {
    /// A list that begins with what another process handed over.
    pub(crate) fn new(inherited: Vec<Held>) -> Self {
        let state = State {
            inherited,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Sockets that listen on a TCP address (`SO_REUSEPORT`), at least `workers` of them, nonblocking; port 0 is chosen
    /// once, for all. All inherited ones are given out, which may be more.
    ///
    /// # Errors
    /// When the address is not local, or in use by another program. Retryable once that has ended.
    pub(crate) fn tcp(&self, address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
        let sockets = self.open((Transport::Tcp, address), workers)?;
        Ok(sockets.into_iter().map(TcpListener::from).collect())
    }

    /// The same for UDP. Which socket gets a datagram is decided by the kernel by the addresses of both sides; that choice
    /// changes where the number of sockets does.
    ///
    /// # Errors
    /// As [`Sockets::tcp`].
    pub(crate) fn udp(&self, address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
        let sockets = self.open((Transport::Udp, address), workers)?;
        Ok(sockets.into_iter().map(UdpSocket::from).collect())
    }

    /// One TCP socket that [`Sockets::close`] does not close, as probes and metrics answer until the process ends.
    ///
    /// # Errors
    /// As [`Sockets::tcp`].
    pub(crate) fn lasting(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let listeners = self.tcp(address, 1)?;
        if let Some(first) = listeners.first() {
            self.lock().lasting.insert((Transport::Tcp, first.local_addr()?));
        }
        Ok(listeners)
    }

    /// Forgets an address: nobody is offered it any more, and it is closed once the workers have dropped their sockets.
    pub(crate) fn release(&self, transport: Transport, address: SocketAddr) {
        let place = (transport, address);
        self.lock().listening.retain(|held| held.place != place);
    }

    /// Second descriptors of everything that is listened on, for another process.
    ///
    /// # Errors
    /// When there are no descriptors left. Retryable.
    pub(crate) fn offer(&self) -> io::Result<Vec<Held>> {
        self.lock().listening.iter().map(Held::try_clone).collect()
    }

    /// The places that are listened on, without repetition.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut seen = HashSet::new();
        let state = self.lock();
        let places = state.listening.iter().map(|held| held.place);
        places.filter(|place| seen.insert(*place)).collect()
    }

    /// Closes what was inherited and nobody asked for. The process before still has it, empties its queues and closes it.
    pub(crate) fn drop_inherited(&self) {
        let unwanted = std::mem::take(&mut self.lock().inherited);
        if !unwanted.is_empty() {
            let places: HashSet<Place> = unwanted.iter().map(|held| held.place).collect();
            tracing::info!(?places, "listening no longer on addresses of the process before");
        }
    }

    /// Another process has these now and takes what is in their queues; forgets everything.
    pub(crate) fn hand_over(&self, kept: &[Place]) {
        let mut state = self.lock();
        state.handed_over.extend(kept);
        state.listening.clear();
        state.closed = true;
    }

    /// Whether another process takes what is in the queue of this address.
    pub(crate) fn is_handed_over(&self, transport: Transport, address: SocketAddr) -> bool {
        self.lock().handed_over.contains(&(transport, address))
    }

    /// Lets go of everything but what [`Sockets::lasting`] gave out; called when the drain closes the listeners.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let State { listening, lasting, .. } = &mut *state;
        listening.retain(|held| lasting.contains(&held.place));
    }

    fn open(&self, place: Place, workers: usize) -> io::Result<Vec<OwnedFd>> {
        let mut state = self.lock();
        if state.closed {
            return Err(io::Error::other("this process drains"));
        }
        let mut sockets = state.claim(place);
        let place = if sockets.is_empty() {
            // Refused while anybody listens: SO_REUSEPORT alone would share the port with another process of this user, and
            // would also be given such a port where the system chooses one.
            let alone = bind(place, Reuse::No)?;
            let address = alone.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
            drop(alone);
            sockets.push(listen((place.0, address))?.into());
            (place.0, address)
        } else {
            place
        };
        let own = sockets.len();
        while sockets.len() < workers {
            let more = listen(place).map(OwnedFd::from).or_else(|error| {
                // An address inherited from another user cannot be bound again: workers share a queue then.
                let shared = sockets.get(sockets.len() % own).map(OwnedFd::try_clone);
                shared.unwrap_or(Err(error))
            })?;
            sockets.push(more);
        }
        for socket in &sockets {
            let socket = socket.try_clone()?;
            state.listening.push(Held { place, socket });
        }
        Ok(sockets)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn claim(&mut self, place: Place) -> Vec<OwnedFd> {
        let claimed = self.inherited.extract_if(.., |held| held.place == place);
        claimed.map(|held| held.socket).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    No,
    Yes,
}

fn listen(place: Place) -> io::Result<Socket> {
    let socket = bind(place, Reuse::Yes)?;
    if place.0 == Transport::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn bind((transport, address): Place, reuse: Reuse) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_reuse_port(reuse == Reuse::Yes)?;
    socket.set_nonblocking(true)?;
    if transport == Transport::Tcp {
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: a client whose machine is gone is found without a ping per HTTP/2 connection, which
        // would cost two clock readings per request.
        let keepalive = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_INTERVAL)
            .with_retries(PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

const BACKLOG: i32 = 4096;
/// Silence after which the kernel asks whether the client's machine is still there.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    fn any() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[test]
    fn an_address_in_use_is_refused() {
        let (first, second) = (Sockets::default(), Sockets::default());
        let tcp = first.tcp(any(), 2).unwrap();
        assert_eq!(tcp.len(), 2);
        let address = tcp[0].local_addr().unwrap();
        assert_eq!(tcp[1].local_addr().unwrap(), address);
        assert_eq!(second.tcp(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let udp = first.udp(any(), 2).unwrap();
        let address = udp[0].local_addr().unwrap();
        assert_eq!(second.udp(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_in_the_queues_is_inherited_by_fewer_or_more_workers() {
        for workers in [1, 5] {
            let before = Sockets::default();
            let old = before.tcp(any(), 3).unwrap();
            let address = old[0].local_addr().unwrap();
            let clients: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(address).unwrap()).collect();
            let after = Sockets::new(before.offer().unwrap());
            let new = after.tcp(address, workers).unwrap();
            assert_eq!(new.len(), workers.max(3));
            before.hand_over(&after.places());
            assert!(before.is_handed_over(Transport::Tcp, address));
            drop(old);
            let accepted: Vec<_> = new
                .iter()
                .flat_map(|listener| std::iter::from_fn(|| listener.accept().ok()))
                .collect();
            assert_eq!(accepted.len(), clients.len());
        }
    }

    #[test]
    fn a_released_address_is_closed_and_not_offered() {
        let sockets = Sockets::default();
        let listeners = sockets.tcp(any(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        drop(listeners);
        assert!(TcpStream::connect(address).is_ok(), "the list holds it");
        sockets.release(Transport::Tcp, address);
        assert!(sockets.offer().unwrap().is_empty());
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn what_lasts_is_still_offered_after_the_others_are_closed() {
        let sockets = Sockets::default();
        let admin = sockets.lasting(any()).unwrap();
        drop(sockets.tcp(any(), 2).unwrap());
        sockets.close();
        let address = admin[0].local_addr().unwrap();
        assert_eq!(sockets.places(), [(Transport::Tcp, address)]);
        assert!(sockets.tcp(any(), 1).is_err(), "nobody would accept there");
    }

    #[test]
    fn what_nobody_asks_for_is_closed() {
        let before = Sockets::default();
        let address = before.tcp(any(), 1).unwrap()[0].local_addr().unwrap();
        let after = Sockets::new(before.offer().unwrap());
        after.drop_inherited();
        assert!(after.places().is_empty());
        before.close();
        assert!(TcpStream::connect(address).is_err());
    }
}
