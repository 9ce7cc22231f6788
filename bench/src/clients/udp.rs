//! Echoed datagrams of 512 bytes: a closed loop of a few in flight on each of many sockets, one thread.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use super::Outcome;
use crate::args::LoadArgs;
use crate::clock::{now_ns, seconds_ns};

/// Sends for `seconds`; what does not come back is an error.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut sockets = Vec::new();
    for index in 0..args.connections {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(args.addr)?;
        socket.set_nonblocking(true)?;
        epoll::add(&epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        sockets.push(socket);
    }
    let (payload, mut buffer) = ([b'x'; SIZE], [0; 2048]);
    let mut sent = 0_u64;
    let mut seen = Outcome::default();
    let prime = |sent: &mut u64| {
        for socket in &sockets {
            *sent += (0..WINDOW).filter(|_| socket.send(&payload).is_ok()).count() as u64;
        }
    };
    prime(&mut sent);
    let end = now_ns() + seconds_ns(args.seconds);
    let mut events = Vec::with_capacity(256);
    while now_ns() < end {
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&SILENCE))?;
        if events.is_empty() {
            // Everything in flight was lost.
            prime(&mut sent);
        }
        for event in events.drain(..) {
            let Some(socket) = usize::try_from(event.data.u64())
                .ok()
                .and_then(|index| sockets.get(index))
            else {
                continue;
            };
            let echoed = receive(socket, &mut buffer)?;
            seen.requests += echoed;
            sent += (0..echoed).filter(|_| socket.send(&payload).is_ok()).count() as u64;
        }
    }
    // What is still in flight at the end is not lost.
    let in_flight = (args.connections * WINDOW) as u64;
    seen.errors = sent.saturating_sub(seen.requests).saturating_sub(in_flight);
    Ok(seen)
}

/// Takes everything that has arrived; gives the number of datagrams.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<u64> {
    let mut count = 0;
    loop {
        match socket.recv(buffer) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Bytes of a datagram.
const SIZE: usize = 512;
/// Datagrams in flight per socket.
const WINDOW: usize = 4;
/// How long nothing may come back before the windows are filled again.
const SILENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
